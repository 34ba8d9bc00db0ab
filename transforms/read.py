"""Read: work → records as they came, with where each came from; and the sealed archive of what was read."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward import database, sources
from callward.columns import flat, set_column
from callward.ingest.landing import Arrival, FileChanged, read_range
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import BLOCKS, Changes
from callward.parsing.records import is_unended, message_records, records
from schemas.codes import Bucket
from schemas.declaration import Declaration, sniff
from transforms.suspend import Meant, open_records

PLAIN, STAGED, SUSPENDED, ARCHIVED = "plain", "staged", "suspense", "archived"
# Records as they came: LINEAGE_FIELDS and `raw`. Source and shape are in the schema's metadata.
SOURCE, SHAPE, CONDEMNED = b"callward.source", b"callward.shape", b"callward.condemned"
UNENDED: Final = b"callward.unended"  # positions of the records that end with their file, without a line end
# A block of messages of one source; its metadata say which, and where it stands in the ledger.
MESSAGES: Final = pa.schema([pa.field("value", pa.large_binary()), pa.field("message_id", pa.binary())])
FILE_NO, BLOCK = b"callward.file_no", b"callward.block"

_SNIFFED: Final = 1000  # messages that a block's shape is told from


def read(chunk: pa.Table, files: DataFiles, archive: bool) -> tuple[pa.Table | None, Changes]:
    """Return the records of a chunk (schema elements.CHUNK, of one source and shape) and what the ledger must know."""
    pieces = chunk.to_pylist()
    declaration = files.workspace.declaration(files.workspace.settings.source(pieces[0]["source"]))
    if pieces[0]["kind"] == SUSPENDED:
        return _suspended(pieces[0], files, declaration)
    facts, blocks, data = Changes(), [], []
    for piece in pieces:
        try:
            data.append(_bytes(piece, files))
        except FileChanged:
            facts.changed.add(piece["file_no"])
            data.append(b"")
    raw = [records(block, declaration) for block in data]
    stored = _archived(pieces, data, files, facts) if archive else [(None, None)] * len(pieces)
    blocks = [
        (piece["file_no"], piece["block"], len(array), _digest(piece, block, place, files), *place)
        for piece, block, array, place in zip(pieces, data, raw, stored, strict=True)
    ]
    facts.blocks.append(pa.table([list(column) for column in zip(*blocks, strict=True)], schema=BLOCKS))
    unended = [position for position, block in zip(_lasts(raw), data, strict=True) if is_unended(block, declaration)]
    return as_records(pieces, raw, unended), facts


def _lasts(raw: list[pa.Array]) -> list[int]:
    """Return the position of each array's last record among all."""
    return [int(end) - 1 for end in np.cumsum([len(array) for array in raw])]


def _digest(piece: dict[str, Any], block: bytes, place: tuple[str | None, int | None], files: DataFiles) -> str | None:
    """Return a keyed hash of a block; None where its archived copy is kept, which the manifest has a hash of."""
    return None if place[0] else files.digest(archive_tenant(files, piece["source"]), block)


def _bytes(piece: dict[str, Any], files: DataFiles) -> bytes:
    if piece["kind"] == STAGED:
        return files.read_archive(files.archived_at(piece["path"]))
    if piece["kind"] == ARCHIVED:
        return files.read_archived(piece["path"], piece["first"], piece["last"])
    like = {name: piece[name] for name in ("source", "size", "modified_ns", "inode")}
    arrival = Arrival(landing=files.workspace.settings.landing_path, name=piece["path"], **like)
    return read_range(arrival, piece["first"], piece["last"])


def _archived(
    pieces: list[dict[str, Any]], data: list[bytes], files: DataFiles, facts: Changes
) -> list[tuple[str, int]]:
    """Return where each piece lies in the archive: (data file, first byte in it). Staged blocks are there already."""
    if pieces[0]["kind"] == STAGED:
        facts.files += [files.archived_at(piece["path"]) for piece in pieces]
        return [(file.file_id, 0) for file in facts.files]
    joined = b"".join(data) if len(data) > 1 else data[0]
    archived = files.write_archive(archive_tenant(files, pieces[0]["source"]), joined)
    facts.files.append(archived)
    starts = np.cumsum([0, *(len(block) for block in data)])[:-1]
    return [(archived.file_id, int(start)) for start in starts]


def as_records(pieces: list[dict[str, Any]], raw: list[pa.Array], unended: list[int]) -> pa.Table:
    """Return raw records (an array for each piece of one source and shape) with where each came from.

    `unended`: positions of those that end with their file, without a line end.
    """
    counts = [len(array) for array in raw]
    n = sum(counts)
    metadata = {
        SOURCE: pieces[0]["source"],
        SHAPE: pieces[0]["shape"],
        CONDEMNED: "1" if pieces[0]["condemned"] else "",
        UNENDED: " ".join(map(str, unended)),
    }
    return pa.table(
        {
            "file_no": np.repeat(np.array([p["file_no"] for p in pieces], np.int64), counts),
            "block": np.repeat(np.array([p["block"] for p in pieces], np.int32), counts),
            "line": np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
            "was": pa.repeat("", n),
            "was_ms": pa.nulls(n, pa.int64()),
            "raw": raw[0] if len(raw) == 1 else pa.concat_arrays(raw),
        }
    ).replace_schema_metadata(metadata)


def _suspended(piece: dict[str, Any], files: DataFiles, declaration: Declaration) -> tuple[pa.Table, Changes]:
    """Return open records of one source, shape and file from a suspense log file, to be put through again.

    Lines that are one record, now that quoted values may hold line ends, come as one; the ledger counts the others of
    its lines as merged.
    """
    log = files.read_log(files.by_id(piece["path"]))
    with database.reading(files.workspace.settings) as connection:
        names = sources.names_of(connection, piece["source"])
    wanted = open_records(log, Meant.from_json(piece["meant"]), names)
    rows = log.filter(pc.and_(wanted, pc.equal(log["shape"], piece["shape"])))
    facts = Changes()
    if declaration.file.multiline:
        rows, merged = one_record_each(rows)
        facts.entries += ledger.entries(merged, Bucket.MERGED)
    metadata = {SOURCE: piece["source"], SHAPE: piece["shape"], CONDEMNED: ""}
    columns = {name: rows[name] for name in ("file_no", "block", "line", "was", "was_ms")}
    return pa.table({**columns, "raw": rows["payload"]}).replace_schema_metadata(metadata), facts


def one_record_each(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return suspended lines (schema SUSPENSE) with each line within quotes added to the one before, and those added.

    Only lines that follow each other in their block are put together, and only where the last one closes the quotes.
    """
    rows = rows.sort_by([(name, "ascending") for name in ("file_no", "block", "line")]).combine_chunks()
    starts = _record_starts(rows)
    bounds = np.append(np.flatnonzero(starts), rows.num_rows)
    lines = pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), flat(rows["payload"]))
    joined = pc.binary_join(lines, pa.scalar(b"\n", pa.large_binary()))
    kept = rows.filter(pa.array(starts))
    return set_column(kept, "payload", joined), rows.filter(pa.array(~starts))


def _record_starts(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which lines begin a record: those with even quotes before them, among lines that follow each other."""
    places = np.column_stack([rows[name].to_numpy() for name in ("file_no", "block", "line")])
    follows = np.zeros(rows.num_rows, bool)
    follows[1:] = (np.diff(places, axis=0) == (0, 0, 1)).all(axis=1)
    quotes = np.cumsum(pc.count_substring(rows["payload"], pattern=b'"').to_numpy())
    before = np.append(0, quotes[:-1])
    run = np.maximum.accumulate(np.where(follows, 0, np.arange(rows.num_rows)))
    starts = ~follows | ((before - before[run]) % 2 == 0)
    last = np.append(np.flatnonzero(~follows)[1:], rows.num_rows) - 1  # of each run
    open_at_the_end = (quotes[last] - before[run[last]]) % 2 == 1
    for end in last[open_at_the_end]:  # its last record never closes its quotes
        starts[np.flatnonzero(starts[: end + 1])[-1] : end + 1] = True
    return starts


def read_messages(work: pa.Table, files: DataFiles, archive: bool) -> tuple[pa.Table, Changes]:
    """Return the records of a block of messages, with where each came from, and what the ledger must know."""
    metadata = work.schema.metadata
    source = metadata[SOURCE].decode()
    file_no, block = int(metadata[FILE_NO]), int(metadata[BLOCK])
    declaration = files.workspace.declaration(files.workspace.settings.source(source))
    values = work["value"].combine_chunks()
    raw, of = message_records(values, declaration)
    n = len(raw)
    table = {
        "file_no": pa.repeat(pa.scalar(file_no, pa.int64()), n),
        "block": pa.repeat(pa.scalar(block, pa.int32()), n),
        "line": np.arange(n, dtype=np.int32),
        "was": pa.repeat("", n),
        "was_ms": pa.nulls(n, pa.int64()),
        "raw": raw,
    }
    table |= {"message_id": work["message_id"].take(pa.array(of)), "message": of}
    shape = sniff(b"\n".join(raw.slice(0, _SNIFFED).to_pylist()), declaration)
    facts = Changes()
    place: tuple[str | None, int | None] = (None, None)
    if archive:
        joined = b"\n".join(value for value in values.to_pylist() if value)
        archived = files.write_archive(archive_tenant(files, source), joined)
        facts.files.append(archived)
        place = (archived.file_id, 0)
    facts.blocks.append(pa.table([[x] for x in (file_no, block, n, None, *place)], schema=BLOCKS))
    return pa.table(table).replace_schema_metadata({SOURCE: source, SHAPE: shape.to_json(), CONDEMNED: ""}), facts


# -- the archive -------------------------------------------------------------------------------------------------------


def archive_tenant(files: DataFiles, source: str) -> str:
    """Return whose archive a source's files belong to: a feed of many tenants is kept under `_shared`."""
    return files.workspace.settings.source(source).archive_tenant
