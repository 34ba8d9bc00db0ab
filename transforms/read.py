"""Read: chunks of work → records as they came, with where each came from; and the sealed archive of what was read."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

from callward.lake.data_files import DataFiles
from callward.lake.ledger import BLOCKS, Changes
from callward.parsing.records import records
from callward.workspace import WorkspaceRef, open_workspace
from transforms.suspend import taken

PLAIN, STAGED, SUSPENDED = "plain", "staged", "suspense"
# Records as they came: LINEAGE_FIELDS and `raw`. Source and shape are in the schema's metadata.
SOURCE, SHAPE, CONDEMNED = b"callward.source", b"callward.shape", b"callward.condemned"


class FileChanged(Exception):
    """A landing file changed or vanished since it was registered."""


def read_range(path: Path, first: int, last: int, size: int, modified_ns: int) -> bytes:
    """Bytes [first, last) of a landing file; raises FileChanged when it is not the file that was registered."""
    try:
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(last - first)
            stat = os.fstat(file.fileno())
    except FileNotFoundError:
        raise FileChanged from None
    if (stat.st_size, stat.st_mtime_ns) != (size, modified_ns) or len(data) != last - first:
        raise FileChanged
    return data


def read(chunk: pa.Table, files: DataFiles, archive: bool) -> tuple[pa.Table | None, Changes]:
    """One chunk (schema elements.CHUNK: pieces of one source and shape) → its records and what the ledger must know."""
    pieces = chunk.to_pylist()
    if pieces[0]["kind"] == SUSPENDED:
        return _suspended(pieces[0], files), Changes()
    declaration = files.workspace.declaration(files.workspace.settings.source(pieces[0]["source"]))
    outcome, blocks, data = Changes(), [], []
    for piece in pieces:
        try:
            data.append(_bytes(piece, files))
        except FileChanged:
            outcome.changed.add(piece["file_no"])
            data.append(b"")
    found = [records(block, declaration) for block in data]
    stored = _archived(pieces, data, files, outcome) if archive else [(None, None)] * len(pieces)
    blocks = [
        (piece["file_no"], piece["block"], len(array), _digest(block, place), *place)
        for piece, block, array, place in zip(pieces, data, found, stored, strict=True)
    ]
    outcome.blocks.append(pa.table([list(column) for column in zip(*blocks, strict=True)], schema=BLOCKS))
    return _table(pieces, found), outcome


def _digest(block: bytes, place: tuple[str | None, int | None]) -> str | None:
    """SHA-256 of a block; none where its archived copy is kept, which the manifest has a hash of."""
    return None if place[0] else hashlib.sha256(block).hexdigest()


def _bytes(piece: dict[str, Any], files: DataFiles) -> bytes:
    if piece["kind"] == STAGED:
        return files.read_archive(files.archived_at(piece["path"]))
    return read_range(Path(piece["path"]), piece["first"], piece["last"], piece["size"], piece["modified_ns"])


def _archived(
    pieces: list[dict[str, Any]], data: list[bytes], files: DataFiles, outcome: Changes
) -> list[tuple[str, int]]:
    """Where each piece lies in the archive: (data file, first byte in it). Staged blocks are there already."""
    if pieces[0]["kind"] == STAGED:
        outcome.files += [files.archived_at(piece["path"]) for piece in pieces]
        return [(file.file_id, 0) for file in outcome.files]
    made = files.write_archive(archive_tenant(files, pieces[0]["source"]), b"".join(data) if len(data) > 1 else data[0])
    outcome.files.append(made)
    starts = np.cumsum([0, *(len(block) for block in data)])[:-1]
    return [(made.file_id, int(start)) for start in starts]


def _table(pieces: list[dict[str, Any]], found: list[pa.Array]) -> pa.Table:
    counts = [len(array) for array in found]
    n = sum(counts)
    metadata = {
        SOURCE: pieces[0]["source"],
        SHAPE: pieces[0]["shape"],
        CONDEMNED: "1" if pieces[0]["condemned"] else "",
    }
    return pa.table(
        {
            "file_no": np.repeat(np.array([p["file_no"] for p in pieces], np.int64), counts),
            "block": np.repeat(np.array([p["block"] for p in pieces], np.int32), counts),
            "line": np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
            "was": pa.repeat("", n),
            "was_ms": pa.nulls(n, pa.int64()),
            "raw": found[0] if len(found) == 1 else pa.concat_arrays(found),
        }
    ).replace_schema_metadata(metadata)


def _suspended(piece: dict[str, Any], files: DataFiles) -> pa.Table:
    """Open records of one source, shape and file from a suspense log file, to be put through again."""
    log = files.read_log(files.by_id(piece["path"]))
    mine = pc.and_(taken(log, json.loads(piece["codes"]), [piece["source"]]), pc.equal(log["shape"], piece["shape"]))
    rows = log.filter(mine)
    metadata = {SOURCE: piece["source"], SHAPE: piece["shape"], CONDEMNED: ""}
    columns = {name: rows[name] for name in ("file_no", "block", "line", "was", "was_ms")}
    return pa.table({**columns, "raw": rows["payload"]}).replace_schema_metadata(metadata)


# -- the archive -------------------------------------------------------------------------------------------------------


def archive_tenant(files: DataFiles, source: str) -> str:
    """Whose archive a source's files belong to: a feed of many tenants is kept under `_shared`."""
    return files.workspace.settings.source(source).archive_tenant


@dataclass(eq=False)
class Read(beam.PTransform[PCollection[pa.Table], Any]):
    """PCollection[CHUNK table] → main: PCollection[records table], facts: PCollection[Changes]."""

    reference: WorkspaceRef
    run_id: str
    archive: bool

    def expand(self, chunks: PCollection[pa.Table]) -> Any:
        work = beam.ParDo(_ReadFn(self.reference, self.run_id, self.archive)).with_output_types(pa.Table, facts=Changes)
        return chunks | "ReadRecords" >> work.with_outputs("facts", main="records")


class _ReadFn(beam.DoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, archive: bool) -> None:
        self._reference, self._run_id, self._archive = reference, run_id, archive

    def setup(self) -> None:
        self._files = DataFiles(open_workspace(self._reference), self._run_id)

    def process(self, chunk: pa.Table) -> Iterator[Any]:
        table, outcome = read(chunk, self._files, self._archive)
        yield beam.pvalue.TaggedOutput("facts", outcome)
        if table is not None and table.num_rows:
            yield table
