"""Intake: arrived files → blocks cut at record ends, registered in the ledger before anything of them is read on.

A restart finds the registered blocks and cuts exactly so again; a file that is committed is only taken out of landing.
"""

import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from callward import database, runs, sources
from callward.errors import Problem
from callward.failpoints import point
from callward.ingest import segments
from callward.ingest.contents import FileUnreadable, blocks_of, head_of, read_some, require_packed, skip_lines
from callward.ingest.landing import (
    FILE_ID,
    Arrival,
    FileChanged,
    decompressed,
    no_id,
    open_landed,
    remove,
    unchanged,
)
from callward.keys import tokens
from callward.keys.keys import KeyGone
from callward.keys.seal import SealBroken, Sealer
from callward.lake.data_files import DataFiles
from callward.parsing.misfits import misfit
from callward.parsing.text import AS_DECLARED, TextForm, rewritten
from callward.redaction import in_letters, mask
from callward.settings import Source
from callward.streaming import blocks as streaming
from callward.streaming import register as stream_register
from callward.workspace import NAMES
from schemas.codes import Bucket
from schemas.declaration import Declaration, Shape, sniff
from schemas.tables import blocks, input_files, ledger_entries
from transforms.elements import CHUNK
from transforms.read import PLAIN, STAGED, archive_tenant
from transforms.take_in import as_work

_LONGEST = 256 << 20  # bytes that are looked through for the end of a record
_SAMPLED = 16  # of so many blocks of a file one is read before the others
_TAKEN_IN = [str(bucket) for bucket in (Bucket.ACCEPTED, Bucket.MERGED, Bucket.DUPLICATE, Bucket.PENDING)]


@dataclass(frozen=True)
class Block:
    """One registered range of a file, in bytes of its decompressed content; `staged` is where it lies sealed.

    One that a stream registered says how its records are spread, and when that was (ms since 1970).
    """

    number: int
    first: int
    last: int
    staged: str = ""
    committed: bool = False
    sharding: str = ""
    now_ms: int = 0


@dataclass
class Intake:
    """A file on its way in."""

    arrival: Arrival
    source: Source
    shape: Shape
    records: int  # estimated
    blocks: list[Block] = field(default_factory=list)
    file_no: int = 0
    condemned: bool = False  # set aside whole
    begun: bool = False  # its blocks were registered for good by a run before: by a stream, or as some are committed
    touched: bool = False  # some of its blocks are committed
    by_content: bool = False
    text: TextForm = AS_DECLARED
    checked: bool = False  # its error rate is known as a whole: a part of it is not checked again
    content_id: str | None = None  # what its first bytes as text are known by; None: it has no records

    @property
    def bytes(self) -> int:
        return sum(block.last - block.first for block in self.blocks)

    @property
    def unchecked(self) -> bool:
        """Return whether its error rate is still to be compared with its limit."""
        return not (self.condemned or self.touched or self.checked)

    @property
    def streamed(self) -> bool:
        """Return whether a stream has begun it: what of a block it has committed only a stream knows to leave out."""
        return any(block.sharding for block in self.blocks)


def plan(arrival: Arrival, source: Source, files: DataFiles, planned: dict[str, str] | None = None) -> Intake:
    """Look at a file and cut it into blocks, as registered already or anew.

    `planned`: content → source of the files that this run has looked at, to which this one is added.
    Raises FileUnreadable, FileChanged, OSError.
    """
    declaration = files.workspace.declaration_in_force(source)
    file_no, condemned, text, registered = _registered(files, arrival)
    touched = any(block.committed for block in registered)
    begun = touched or any(block.sharding for block in registered)
    head, text = _head(arrival, files, declaration, text if begun else None)
    shape = sniff(head, declaration)
    intake = Intake(
        arrival, source, shape, 0, file_no=file_no, condemned=condemned, begun=begun, touched=touched, text=text
    )
    intake.by_content = declaration.identity.content or not _has_identity(declaration, shape)
    content = _Content(arrival, source, files, text)
    if begun:
        intake.blocks = _again(content, registered)
    else:
        _require_fit(arrival, source, declaration, head, shape)
        intake.content_id = _content_id(files, head, shape)
        _require_own(intake, files, {} if planned is None else planned)
        intake.blocks = list(_cut(content, declaration, shape))
    if not unchanged(arrival):
        raise FileChanged
    intake.records = _estimate(head, intake.bytes, declaration)
    return intake


def unreadable(arrival: Arrival, source: Source, files: DataFiles) -> str | None:
    """Return why a file that is new could not be read, as far as its first bytes say; None where nothing does."""
    declaration = files.workspace.declaration(source)
    try:
        head, _ = _head(arrival, files, declaration, None)
        shape = sniff(head, declaration)
        _require_fit(arrival, source, declaration, head, shape)
        if _has_names_key(files):  # without one no file was ever registered
            _require_own(Intake(arrival, source, shape, 0, content_id=_content_id(files, head, shape)), files, {})
    except FileUnreadable as problem:
        return str(problem)
    except FileChanged:
        return "it changed while it was read"
    except OSError as error:
        return error.strerror or "unreadable"
    return None


def _head(
    arrival: Arrival, files: DataFiles, declaration: Declaration, known: TextForm | None
) -> tuple[bytes, TextForm]:
    """Return the first bytes of a file's text, and how that is written: as `known` from before, or as it looks.

    Raises FileUnreadable, FileChanged.
    """
    if arrival.size:
        with open_landed(arrival) as file:
            require_packed(file, arrival.form)
    return head_of(lambda: _opened(arrival, files), declaration, known)


def _require_fit(arrival: Arrival, source: Source, declaration: Declaration, head: bytes, shape: Shape) -> None:
    """Raise FileUnreadable for a file of which nothing can be read as declared. What the receiver sealed holds posts of
    many callers: each is a record by itself."""
    unlike = None if arrival.form == "sealed" else misfit(head, declaration, shape)
    if unlike:
        reads = f"source {source.name} reads {declaration.title}"
        raise FileUnreadable(f"{reads}, but this file {unlike} (callward try says more)")


def _content_id(files: DataFiles, head: bytes, shape: Shape) -> str | None:
    """Return a keyed hash of a file's first bytes as text, in letters; None where there is no record in them."""
    if not head.split(b"\n", shape.header_lines)[-1].strip() or head.count(b"\n") < shape.header_lines:
        return None
    secret = tokens.derive(files.workspace.keyring.key(NAMES).secret, "content")
    return in_letters(tokens.mac([pa.array([head], pa.large_binary())], secret)[0].as_py())


def _require_own(intake: Intake, files: DataFiles, planned: dict[str, str]) -> None:
    """Raise FileUnreadable where the records of a file came in under another source: both would be billed."""
    name, content = intake.source.name, intake.content_id
    if content is None:
        return
    other = planned.setdefault(content, name)
    if other == name:
        other = _came_in_under(files, content, name) or name
    if other != name:
        raise FileUnreadable(f"its records came in under source {other}: take it out of the folder of {name}")


def _came_in_under(files: DataFiles, content: str, name: str) -> str | None:
    """Return another source under which records of a file of this content were taken in; None where there is none."""
    f, e = input_files.c, ledger_entries.c
    query = select(f.source).join(ledger_entries, e.file_no == f.file_no)
    query = query.where(f.content_id == content, f.source != name, e.bucket.in_(_TAKEN_IN))
    query = query.group_by(f.source).having(func.sum(e.rows) > 0)
    with database.reading(files.workspace.settings) as connection:
        return connection.execute(query.limit(1)).scalar()


@dataclass(frozen=True)
class _Content:
    """The text of a landing file, as it is read and cut."""

    arrival: Arrival
    source: Source
    files: DataFiles
    text: TextForm

    @property
    def is_plain(self) -> bool:
        """Return whether the file's own bytes are read, and not what they unpack or are rewritten to."""
        return self.arrival.form == "plain" and not self.text

    def open(self) -> BinaryIO:
        """Open the text as a stream. Raises FileUnreadable, FileChanged."""
        stream = _opened(self.arrival, self.files)
        return rewritten(stream, self.text) if self.text else stream

    def block(self, number: int, first: int, data: bytes) -> Block:
        """Return a range as a block; its bytes are sealed into the archive where the file does not hold them so."""
        last = first + len(data)
        if self.is_plain:
            return Block(number, first, last)
        return Block(
            number, first, last, self.files.write_archive(archive_tenant(self.files, self.source.name), data).path
        )


def _opened(arrival: Arrival, files: DataFiles) -> BinaryIO:
    """Return the file's decompressed bytes, as a stream; of a sealed one in memory alone.

    Raises FileUnreadable, FileChanged.
    """
    file = open_landed(arrival)
    if arrival.form != "sealed":
        return decompressed(file, arrival.form)
    try:
        with file:
            blob = file.read()
        return io.BytesIO(segments.unseal(blob, arrival.path.name, arrival.source, files.workspace.keyring))
    except (SealBroken, KeyGone) as problem:
        raise FileUnreadable(str(problem)) from None


def _has_identity(declaration: Declaration, shape: Shape) -> bool:
    if declaration.file.kind == "json":
        return True
    return any(set(group) <= set(shape.columns) for group in declaration.identity.any_of) or bool(
        declaration.identity.unordered
    )


def _estimate(head: bytes, size: int, declaration: Declaration) -> int:
    if declaration.file.records == "file":
        return 1
    return max(1, int(size * max(1, head.count(b"\n")) / max(1, len(head))))


# -- cutting -----------------------------------------------------------------------------------------------------------


def _cut(content: _Content, declaration: Declaration, shape: Shape) -> Iterator[Block]:
    size = int(content.files.workspace.settings.waves.block_mebibytes * (1 << 20))
    by_lines = declaration.file.records == "lines" and not declaration.file.multiline
    if content.is_plain and by_lines:
        yield from _cut_lines(content.arrival, size, shape)
    else:
        yield from _cut_stream(content, declaration, shape, size)


def _cut_lines(arrival: Arrival, size: int, shape: Shape) -> Iterator[Block]:
    """Return ranges of a plain file of lines: only the bytes around each cut are read."""
    with open_landed(arrival) as file:
        for _ in range(shape.header_lines):
            file.readline()
        first, number = file.tell(), 0
        while first < arrival.size:
            last = min(first + size, arrival.size)
            if last < arrival.size:
                file.seek(last - 1)
                last = last - 1 + len(file.readline(_LONGEST))
            yield Block(number, first, last)
            first, number = last, number + 1


def _cut_stream(content: _Content, declaration: Declaration, shape: Shape, size: int) -> Iterator[Block]:
    """Yield blocks of a file that must be read to be cut."""
    most = content.files.workspace.settings.waves.file_gibibytes
    with content.open() as stream:
        first = skip_lines(stream, shape.header_lines)
        setting = f"{most:g} GiB (waves.file_gibibytes)"
        pieces = blocks_of(stream, declaration, size, int(most * (1 << 30)) - first, setting)
        for number, data in enumerate(pieces):
            yield content.block(number, first, data)
            first += len(data)


def _again(content: _Content, registered: list[Block]) -> list[Block]:
    """Return the registered ranges that are not committed yet; those of a file that is unpacked are staged anew."""
    left = [block for block in registered if not block.committed]
    if content.is_plain:
        return left
    staged_anew = []
    with content.open() as stream:
        at = 0
        for block in left:
            while at < block.first:
                at += len(read_some(stream, min(block.first - at, 1 << 20)))
            data = read_some(stream, block.last - block.first)
            at += len(data)
            staged_anew.append(replace(block, staged=content.block(block.number, block.first, data).staged))
    return staged_anew


# -- registering -------------------------------------------------------------------------------------------------------


def name_id(files: DataFiles, name: str) -> str:
    """Return the keyed hash of a file's name, in letters: what the ledger knows it by."""
    secret = files.workspace.keyring.key(NAMES).secret
    return in_letters(tokens.mac([pa.array([name])], tokens.derive(secret, "name"))[0].as_py())


def file_id(files: DataFiles, name: str) -> str:
    """Return the id by which people name a file."""
    return name_id(files, name)[:FILE_ID]


def known_ids(files: DataFiles) -> Callable[[str], str]:
    """Return what gives the id of a file's name, without minting its key; "" for each where that does not open."""
    return partial(file_id, files) if _has_names_key(files) else no_id


def _has_names_key(files: DataFiles) -> bool:
    """Return whether the key of files' names is there and opens; it is not minted."""
    try:
        return bool(files.workspace.keyring.existing([NAMES]))
    except Problem:
        return False


def names_key(files: DataFiles) -> Sealer:
    """Return what seals names of files, and what else must not be read beside them."""
    return files.workspace.keyring.sealer(NAMES)


def name_of(files: DataFiles, row: Row[Any]) -> str:
    """Return the name, in the clear, of a row of input_files."""
    return files.workspace.keyring.sealer(NAMES).open(row.name_sealed, b"name").decode()


def naming(files: DataFiles) -> streaming.Naming:
    """Return how the ledger knows the name of an input file that is no file: by its keyed hash, and sealed."""
    key = files.workspace.keyring.sealer(NAMES)
    return lambda name: (name_id(files, name), key.seal(name.encode(), b"name"))


def arrival_of(row: Row[Any], files: DataFiles) -> Arrival:
    """Return the landing file that a row of input_files is about."""
    name = name_of(files, row)
    return Arrival(row.source, files.workspace.settings.landing_path, name, row.size, row.modified_ns)


def _row(connection: Connection, files: DataFiles, arrival: Arrival) -> Any:
    same = (input_files.c.size == arrival.size) & (input_files.c.modified_ns == arrival.modified_ns)
    named = (input_files.c.source == arrival.source) & (input_files.c.name_id == name_id(files, arrival.name))
    return connection.execute(select(input_files).where(named & same).order_by(input_files.c.file_no.desc())).first()


def known_status(files: DataFiles, arrival: Arrival) -> str | None:
    """Return the ledger's status of this very file (name, size and time), None when it is new."""
    with database.reading(files.workspace.settings) as connection:
        row = _row(connection, files, arrival)
    return row.status if row else None


def note_removed(arrival: Arrival, files: DataFiles) -> None:
    """Note that a committed file has left the landing folder."""
    with database.writing(files.workspace.settings) as connection:
        row = _row(connection, files, arrival)
        if row is not None:
            set_status(connection, [row.file_no], "removed")


def note_gone(files: DataFiles, sources: Collection[str]) -> None:
    """Note the committed files that a killed run took out of the landing folder without a record."""
    settings = files.workspace.settings
    query = select(input_files.c.file_no, input_files.c.name_sealed).where(
        input_files.c.status == "committed", input_files.c.source.in_(sources)
    )
    with database.reading(settings) as connection:
        rows = connection.execute(query).all()
    if not rows:
        return
    key = files.workspace.keyring.sealer(NAMES)
    removed = [
        row.file_no
        for row in rows
        if not (settings.landing_path / key.open(row.name_sealed, b"name").decode()).exists()
    ]
    with database.writing(settings) as connection:
        set_status(connection, removed, "removed")


def _registered(files: DataFiles, arrival: Arrival) -> tuple[int, bool, TextForm, list[Block]]:
    """Return the ledger number (0: new) of a file, whether it was set aside, how its text is written, and its blocks
    that a run before began."""
    with database.reading(files.workspace.settings) as connection:
        row = _row(connection, files, arrival)
        if row is None or row.status not in ("reading", "unreadable"):
            return 0, False, AS_DECLARED, []
        rows = connection.execute(select(blocks).where(blocks.c.file_no == row.file_no).order_by(blocks.c.block))
        text = TextForm.from_words(row.path_form.split()[1:])
        return row.file_no, row.set_aside, text, [_known_block(row) for row in rows]


def _known_block(row: Row[Any]) -> Block:
    at = streaming.milliseconds(row.registered_at) if row.registered_at else 0
    return Block(row.block, row.first, row.last, "", row.committed_by is not None, row.sharding or "", at)


def register(intakes: list[Intake], files: DataFiles, run_id: str, sharding: str = "") -> list[Intake]:
    """Enter files and their blocks in the ledger, in one transaction, before they are read; return those entered.

    With a `sharding` they are a stream's: blocks that one has registered stay as they are, and a stream that was asked
    to stop begins no file.
    """
    key = files.workspace.keyring.sealer(NAMES)
    ids = [name_id(files, intake.arrival.name) for intake in intakes]
    with database.writing(files.workspace.settings) as connection:
        if sharding:
            runs.require(connection, run_id)
            if stream_register.stopping(connection, run_id):
                intakes = [intake for intake in intakes if intake.file_no]
                ids = [name_id(files, intake.arrival.name) for intake in intakes]
        at, numbers = database.now(), _numbers(connection, intakes)
        for intake, identity in zip(intakes, ids, strict=True):
            if not intake.file_no:
                intake.file_no = _insert_file(connection, intake, identity, key, run_id)
            elif not intake.begun:
                _note_reading(connection, intake, key, run_id)
            fresh = [block for block in intake.blocks if not block.committed and not block.sharding]
            open_ones = blocks.c.committed_by.is_(None) & blocks.c.registered_at.is_(None)
            connection.execute(delete(blocks).where(blocks.c.file_no == intake.file_no, open_ones))
            if fresh:
                common = {"file_no": intake.file_no, "run_id": run_id, "generation": numbers[intake.source.name]}
                rows = [
                    {**common, "block": b.number, "first": b.first, "last": b.last}
                    | (_stream_columns(intake.arrival, b, at, sharding) if sharding else {})
                    for b in fresh
                ]
                connection.execute(insert(blocks), rows)
            if sharding:
                now_ms = streaming.milliseconds(at)
                intake.blocks = [
                    b if b.sharding else replace(b, sharding=sharding, now_ms=now_ms) for b in intake.blocks
                ]
    return intakes


def _numbers(connection: Connection, intakes: Iterable[Intake]) -> dict[str, int]:
    """Return the number of each source's generation, by name."""
    return {name: sources.number(connection, name) for name in {intake.source.name for intake in intakes}}


def _stream_columns(arrival: Arrival, block: Block, at: datetime, sharding: str) -> dict[str, object]:
    arrived = datetime.fromtimestamp(arrival.modified_ns / 1e9, UTC).replace(tzinfo=None)
    return streaming.stream_columns(at, arrived, block.last - block.first, sharding)


def _insert_file(connection: Connection, intake: Intake, identity: str, key: Sealer, run_id: str) -> int:
    arrival = intake.arrival
    result = connection.execute(
        insert(input_files).values(
            source=arrival.source,
            name=mask(arrival.name)[-255:],
            name_sealed=key.seal(arrival.name.encode(), b"name"),
            shape_sealed=sealed_shape(intake.shape, key),
            name_id=identity,
            size=arrival.size,
            modified_ns=arrival.modified_ns,
            status="reading",
            path_form=_path_form(intake),
            content_id=intake.content_id,
            run_id=run_id,
            seen_at=database.now(),
        )
    )
    inserted = result.inserted_primary_key
    assert inserted is not None, "an insert of one row has a key"
    return int(inserted[0])


def _note_reading(connection: Connection, intake: Intake, key: Sealer, run_id: str) -> None:
    """Note how a file is read that a run before has not begun, or not been able to read: settings may have changed."""
    f = input_files.c
    row = update(input_files).where(f.file_no == intake.file_no, f.status.in_(("reading", "unreadable")))
    read = {"path_form": _path_form(intake), "content_id": intake.content_id, "run_id": run_id}
    connection.execute(row.values(status="reading", reason=None, shape_sealed=sealed_shape(intake.shape, key), **read))


def sealed_shape(shape: Shape, key: Sealer) -> bytes:
    """Return how a file's columns are known, sealed: its header is in no block, so the archive does not have it."""
    return key.seal(shape.to_json().encode(), b"shape")


def names_sealer(files: DataFiles) -> Sealer:
    """Return what the names and shapes of input files are sealed with."""
    return files.workspace.keyring.sealer(NAMES)


def shape_of(files: DataFiles, row: Row[Any]) -> Shape | None:
    """Return how the columns of a row of input_files were known; None for what came through a topic."""
    if row.shape_sealed is None:
        return None
    return Shape.from_json(files.workspace.keyring.sealer(NAMES).open(row.shape_sealed, b"shape").decode())


def _path_form(intake: Intake) -> str:
    return " ".join((intake.arrival.form, *intake.text.words()))


def register_unreadable(arrival: Arrival, reason: str, files: DataFiles, run_id: str) -> None:
    """Note a file that cannot be read: it stays where it is until it is sent again or its source is corrected."""
    identity, key = name_id(files, arrival.name), files.workspace.keyring.sealer(NAMES)
    with database.writing(files.workspace.settings) as connection:
        row = _row(connection, files, arrival)
        if row is None:
            intake = Intake(arrival, files.workspace.settings.source(arrival.source), Shape(), 0)
            number = _insert_file(connection, intake, identity, key, run_id)
        elif row.status == "unreadable":
            number = row.file_no
        else:
            return
        noted = update(input_files).where(input_files.c.file_no == number)
        connection.execute(noted.values(status="unreadable", reason=reason[:255]))


def complete(connection: Connection, file_nos: list[int]) -> list[int]:
    """Return those of the files that have no block left to commit."""
    waiting: set[int] = set()
    for batch in database.batches(file_nos):
        left = select(blocks.c.file_no).where(blocks.c.file_no.in_(batch), blocks.c.committed_by.is_(None))
        waiting |= set(connection.execute(left).scalars())
    return [number for number in file_nos if number not in waiting]


def begun(connection: Connection, sources: Collection[str]) -> Sequence[Row[Any]]:
    """Return rows of input_files of landing files with blocks that a stream has registered and not committed."""
    f = input_files.c
    open_ones = select(blocks.c.file_no).where(blocks.c.committed_by.is_(None), blocks.c.registered_at.is_not(None))
    reading = f.source.in_(sources) & (f.status == "reading") & (f.path_form != streaming.TOPIC)
    return connection.execute(select(input_files).where(reading, f.file_no.in_(open_ones))).all()


def condemn(intakes: list[Intake], files: DataFiles) -> None:
    """Set files aside whole; it is noted, so that a restart does the same."""
    with database.writing(files.workspace.settings) as connection:
        for batch in database.batches(intake.file_no for intake in intakes):
            connection.execute(update(input_files).where(input_files.c.file_no.in_(batch)).values(set_aside=True))
    for intake in intakes:
        intake.condemned = True


def close_files(files: DataFiles, committed: Mapping[int, Arrival]) -> list[int]:
    """Let files (by ledger number) whose last block is committed leave the landing folder: their archive was committed
    with them. Returns those that stay, as they changed after they were read."""
    settings = files.workspace.settings
    with database.writing(settings) as connection:
        set_status(connection, list(committed), "committed")
    point("before-remove")
    removed = [no for no, arrival in committed.items() if remove(arrival, settings.source(arrival.source).complete)]
    with database.writing(settings) as connection:
        set_status(connection, removed, "removed")
    point("removed")
    return sorted(committed.keys() - removed)


def set_status(connection: Connection, file_nos: list[int], status: str) -> None:
    """Move files on in the ledger."""
    for batch in database.batches(file_nos):
        connection.execute(update(input_files).where(input_files.c.file_no.in_(batch)).values(status=status))


# -- chunks of work ----------------------------------------------------------------------------------------------------


def chunks(intakes: list[Intake], files: DataFiles) -> list[pa.Table]:
    """Return blocks of registered files for TakeIn (schema CHUNK): small files of one source and shape go together,
    each whole."""
    size = int(files.workspace.settings.waves.block_mebibytes * (1 << 20))
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    filled: list[list[dict[str, Any]]] = []
    weight: dict[tuple[Any, ...], int] = {}
    for intake in intakes:
        whole = intake.bytes <= size
        for number, block in enumerate(intake.blocks):
            piece = _piece(intake, block)
            like = (piece["source"], piece["shape"], piece["kind"], piece["condemned"])
            more = intake.bytes if whole else block.last - block.first
            full = like not in groups or weight[like] + more > size or len(groups[like]) >= 2000
            if full and not (whole and number):
                groups[like], weight[like] = [], 0
                filled.append(groups[like])
            groups[like].append(piece)
            weight[like] += block.last - block.first
    return [pa.Table.from_pylist(pieces, schema=CHUNK) for pieces in filled]


def sample(of: Sequence[Block]) -> list[Block]:
    """Return the blocks by which a large file is judged before any of it counts: the first, each 16th, the last."""
    return [*of[:-1:_SAMPLED], of[-1]] if of else []


def work(chunk: pa.Table, intakes: Iterable[Intake], now_ms: int, sharding: str) -> pa.Table:
    """Return a chunk as work for TakeIn: unchecked files that are in it as a whole are compared with their error limit
    there."""
    here = Counter(chunk["file_no"].to_pylist())
    whole = [intake.file_no for intake in intakes if here[intake.file_no] == len(intake.blocks) and intake.unchecked]
    return as_work(chunk, now_ms, sharding, whole)


def whole_chunk(intake: Intake) -> pa.Table:
    """Return all blocks of a file as one chunk (schema CHUNK)."""
    return pa.Table.from_pylist([_piece(intake, block) for block in intake.blocks], schema=CHUNK)


def _piece(intake: Intake, block: Block) -> dict[str, Any]:
    return {
        "kind": STAGED if block.staged else PLAIN,
        "source": intake.source.name,
        "shape": intake.shape.to_json(),
        "path": block.staged or intake.arrival.name,
        "file_no": intake.file_no,
        "block": block.number,
        "first": block.first,
        "last": block.last,
        "size": intake.arrival.size,
        "modified_ns": intake.arrival.modified_ns,
        "inode": intake.arrival.inode,
        "meant": None,
        "condemned": intake.condemned,
    }
