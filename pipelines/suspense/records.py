"""suspense: what was set aside, listed without content, and opened one by one to whoever holds the suspense root."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func, or_, select

from callward import audit, database, sources
from callward.columns import flat
from callward.errors import Problem, UsageProblem
from callward.ingest.landing import FILE_ID, every_name, shown_file
from callward.lake import ledger
from callward.lake.data_files import DataFiles, counted_rows, open_files
from callward.redaction import recorded
from callward.settings import Settings
from pipelines import intake
from pipelines.named_files import named_file
from schemas.cdr import CDR
from schemas.codes import Bucket, Suspense
from schemas.suspense import PENDING, SUSPENSE
from schemas.tables import blocks, input_files
from schemas.tables import ledger_entries as e
from transforms.assemble import pending_log

ROLE = "billing-run"
# Pieces of calls with these lie in the pending log.
_OF_PIECES: Final = (str(Suspense.PARTIAL), str(Suspense.ORDER), str(Suspense.DURATION))


def check_codes(codes: list[str]) -> list[str]:
    """Return the codes, checked. Raises UsageProblem with the nearest right one, or the known ones."""
    for code in codes:
        if code not in list(Suspense):
            close = difflib.get_close_matches(code.upper(), list(Suspense), n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else f" (known: {', '.join(Suspense)})"
            raise UsageProblem(f"no suspense code is called {code!r}{hint}")
    return codes


@dataclass(frozen=True)
class OpenRecords:
    """How many records of a file are in suspense with a code.

    Attributes:
        talk_ms: their talk, as far as they could be read.
        came_on: the day on which the file came (UTC).
        first: which record of the file, from 1, the first of them is; None where nobody asked.
    """

    source: str
    file_no: int
    file: str
    file_id: str
    code: str
    records: int
    talk_ms: int
    came_on: date
    first: int | None = None

    @property
    def shown(self) -> str:
        return shown_file(self.file, self.file_id)


@dataclass(frozen=True)
class OpenRecord:
    """A record in suspense with its content: text, or canonical fields by name. It holds numbers in the clear."""

    source: str
    file_no: int
    record: int
    code: str
    content: str | dict[str, str]


@dataclass(frozen=True)
class NamedFile:
    """A landing file by its name in the clear: what the ledger knows of it, or that it lies in the landing folder."""

    file_id: str
    file_no: int | None
    status: str
    name: str


def find_files(settings: Settings, file_id: str, reason: str) -> list[NamedFile]:
    """Return the files of an id by their names, audited; needs the archive root and a reason.

    Raises UsageProblem for a reason that cannot be recorded, Problem where there is no such file.
    """
    reason = recorded("--reason", reason)
    audit.record(settings, [audit.Entry(ROLE, "suspense file", f"file {file_id}", reason)])
    files = open_files(settings, ROLE, f"suspense file: {reason}")
    known = [*_registered(files, file_id)]
    names = {file.name for file in known}
    landed = {name for name in every_name(settings) if intake.file_id(files, name) == file_id}
    known += [NamedFile(file_id, None, "in landing", name) for name in sorted(landed - names)]
    if not known:
        raise Problem("there is no file of that id; 'callward nightly --dry-run --files' and 'suspense list' show ids")
    return known


def _registered(files: DataFiles, file_id: str) -> Iterator[NamedFile]:
    query = select(input_files).where(func.substr(input_files.c.name_id, 1, FILE_ID) == file_id)
    with database.reading(files.workspace.settings) as connection:
        rows = connection.execute(query.order_by(input_files.c.file_no)).all()
    yield from (NamedFile(file_id, row.file_no, row.status, intake.name_of(files, row)) for row in rows)


def list_open(
    settings: Settings,
    codes: Sequence[str] = (),
    only: Sequence[str] = (),
    named: Sequence[str] = (),
    *,
    whole: Collection[int] = (),
) -> list[OpenRecords]:
    """Return the open records by file and code, from the ledger alone: no key is opened but that of files' names, where
    a name is given.

    `codes`, `only` (sources) and `named` (files by number, id, or name below the landing folder) limit them (empty:
    all); of files `whole`, by their numbers, every code counts. Raises UsageProblem for a code or a source that is not
    known, Problem for a file that is none.
    """
    f, found = input_files.c, []
    total = func.sum(e.c.rows).label("records"), func.sum(e.c.talk_ms).label("talk_ms")
    of = f.source, e.c.file_no, f.name, f.name_id, f.seen_at, e.c.code
    open_by_code = (
        select(*of, *total)
        .join(input_files, f.file_no == e.c.file_no)
        .where(e.c.bucket == "suspended")
        .group_by(*of)
        .having(func.sum(e.c.rows) > 0)
        .order_by(f.source, e.c.file_no, e.c.code)
    )
    if codes:
        open_by_code = open_by_code.where(or_(e.c.code.in_(check_codes(list(codes))), e.c.file_no.in_(sorted(whole))))
    if only:
        open_by_code = open_by_code.where(f.source.in_([settings.source(name).name for name in only]))
    if named:
        open_by_code = open_by_code.where(e.c.file_no.in_(file_numbers(settings, named, "suspense list")))
    with database.reading(settings) as connection:
        for row in connection.execute(open_by_code):
            of_file = row.source, row.file_no, row.name, row.name_id[:FILE_ID], row.code
            found.append(OpenRecords(*of_file, int(row.records), int(row.talk_ms), row.seen_at.date()))
    return found


def file_numbers(settings: Settings, named: Sequence[str], why: str) -> list[int]:
    """Return the numbers of input files by number, id, or name. Raises Problem for what is none."""
    files = open_files(settings, ROLE, why)
    with database.reading(settings) as connection:
        return [named_file(connection, files, name).file_no for name in named]


@dataclass(frozen=True)
class Chosen:
    """Which records are meant: with any of the codes, of any of the sources (by all names they had) and files; no
    source, or no file: of any."""

    codes: Sequence[str]
    sources: Collection[str]
    file_nos: Sequence[int]

    @classmethod
    def of(
        cls, settings: Settings, codes: Sequence[str], only: Sequence[str], named: Sequence[str], why: str
    ) -> "Chosen":
        """Return what is meant by codes, sources, and files by number, id or name. Raises as `list_open` does."""
        codes, names = check_codes(list(codes)), [settings.source(name).name for name in only]
        numbers = file_numbers(settings, named, why) if named else []
        with database.reading(settings) as connection:
            return cls(codes, {old for name in names for old in sources.names_of(connection, name)}, numbers)

    def among(self, rows: pa.Table, code: str) -> pa.Array:
        """Return which rows of a sealed log are meant (`code`: the column that has it)."""
        meant = pc.is_in(flat(rows[code]), pa.array(self.codes, pa.string()))
        for name, values in (("source", self.sources), ("file_no", self.file_nos)):
            if values:
                kind = rows.schema.field(name).type
                meant = pc.and_(meant, pc.is_in(flat(rows[name]), pa.array(sorted(values), kind)))
        return meant


def with_first(settings: Settings, records: Sequence[OpenRecords]) -> list[OpenRecords]:
    """Return open records with which of its file the first of each is; needs the suspense root (and for pieces of calls
    that of pending)."""
    files = open_files(settings, ROLE, "suspense list --first")
    numbers = {of.file_no for of in records}
    tables = [open_records(files)]
    if any(of.code in _OF_PIECES for of in records):
        tables.append(open_pieces(files))
    starts, first = _starts(settings, numbers), dict[tuple[int, str], int]()
    for table in tables:
        mine = table.select(["file_no", "code", "block", "line"])
        for row in mine.filter(pc.is_in(mine["file_no"], pa.array(sorted(numbers), pa.int64()))).to_pylist():
            number = number_in_file(row, starts[row["file_no"]])
            key = row["file_no"], row["code"]
            first[key] = min(number, first.get(key, number))
    return [replace(of, first=first.get((of.file_no, of.code))) for of in records]


def open_content(
    settings: Settings, file_no: int, reason: str, limit: int, codes: Sequence[str] = ()
) -> list[OpenRecord]:
    """Return suspended records of one file with their content, audited; needs the suspense root and a reason.

    Raises UsageProblem for a reason that cannot be recorded, Problem where the file has no such record.
    """
    reason = recorded("--reason", reason)
    check_codes(list(codes))
    # Recorded before anything is opened: also an attempt by someone whose root does not open is known.
    audit.record(settings, [audit.Entry(ROLE, "suspense show", f"file {file_no}", reason)])
    files = open_files(settings, ROLE, f"suspense show: {reason}")
    rows: list[dict[str, Any]] = []
    tables = [open_records(files)]
    if _has_pieces(settings, file_no, tables[0]):  # they are under a root of their own
        tables.append(open_pieces(files))
    for table in tables:
        of_file = table.filter(pc.equal(table["file_no"], file_no))
        if codes:
            of_file = of_file.filter(pc.is_in(of_file["code"], pa.array(list(codes))))
        rows += of_file.sort_by([("block", "ascending"), ("line", "ascending")]).slice(0, limit).to_pylist()
    if not rows:
        raise Problem(f"file {file_no} has no open record in suspense{' with that code' if codes else ''}")
    return opened(settings, rows)[:limit]


def opened(settings: Settings, rows: Iterable[dict[str, Any]]) -> list[OpenRecord]:
    """Return rows of the sealed logs with their content, in the order of their files."""
    ordered = sorted(rows, key=lambda row: (row["file_no"], row["block"], row["line"]))
    starts, records = _starts(settings, {row["file_no"] for row in ordered}), []
    for row in ordered:
        number = number_in_file(row, starts[row["file_no"]])
        records.append(OpenRecord(row["source"], row["file_no"], number, row["code"], _content(row)))
    return records


def number_in_file(row: Mapping[str, Any], starts: Mapping[int, int]) -> int:
    """Return which record of its file, from 1, one is that has `block` and `line` (`starts`: as `first_lines`)."""
    return int(starts.get(row["block"], 0) + row["line"] + 1)


def _content(row: dict[str, Any]) -> str | dict[str, str]:
    if row["kind"] == "raw":
        return str(row["payload"].decode("utf-8", "backslashreplace"))
    fields = row if row["kind"] == "piece" else pa.ipc.open_stream(row["payload"]).read_all().to_pylist()[0]
    known = {name: fields.get(name) for name in CDR.names}
    return {name: str(value) for name, value in known.items() if value is not None and not isinstance(value, bytes)}


def first_lines(settings: Settings, file_no: int) -> dict[int, int]:
    """Return how many records of a file come before each of its blocks."""
    return _starts(settings, [file_no])[file_no]


def _starts(settings: Settings, file_nos: Iterable[int]) -> dict[int, dict[int, int]]:
    """Return how many records of each file come before each of its blocks."""
    b, starts = blocks.c, defaultdict[int, dict[int, int]](dict)
    before = Counter[int]()
    with database.reading(settings) as connection:
        for batch in database.batches(sorted(file_nos)):
            query = select(b.file_no, b.block, b.records).where(b.file_no.in_(batch)).order_by(b.file_no, b.block)
            for row in connection.execute(query):
                starts[row.file_no][row.block] = before[row.file_no]
                before[row.file_no] += row.records or 0
    return starts


def open_records(files: DataFiles) -> pa.Table:
    """Return every open record of every tenant's suspense log (schema SUSPENSE)."""
    with database.reading(files.workspace.settings) as connection:
        logs = ledger.files(connection, view="suspense")
    table = pa.concat_tables([SUSPENSE.empty_table(), *(files.read_log(log) for log in logs)])
    return table.filter(table["open"])


def _has_pieces(settings: Settings, file_no: int, records: pa.Table) -> bool:
    """Return whether more of a file is suspended than its open records in the suspense log: pieces of calls are."""
    query = select(func.sum(e.c.rows)).where(e.c.file_no == file_no, e.c.bucket == Bucket.SUSPENDED)
    with database.reading(settings) as connection:
        suspended = connection.execute(query).scalar() or 0
    return bool(suspended > records["file_no"].to_pylist().count(file_no))


def open_pieces(files: DataFiles) -> pa.Table:
    """Return the pieces of calls that are suspended in any tenant's pending log (schema PENDING, with code and kind):
    those whose rest did not come, and those that contradict their call."""
    logs = [pending_log(files, tenant)[0] for tenant in files.workspace.settings.tenants]
    log = pa.concat_tables([PENDING.empty_table(), *logs])
    pieces = log.filter(pc.and_(counted_rows("pending", log), pc.is_in(log["was"], pa.array(list(map(str, Suspense))))))
    kind = pa.repeat("piece", pieces.num_rows)
    return pieces.append_column("code", pieces["was"]).append_column("kind", kind)
