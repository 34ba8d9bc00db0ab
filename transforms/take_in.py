"""TakeIn: the blocks of a stream → parcels: a block's sound records by bucket, and what is set aside of it.

It is the night's stage that cleartext never leaves, as one function. What leaves it lies sealed beside the lake; a
parcel only names it, is sealed itself, and is all that the engine's state ever holds.
"""

import pickle
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection

from callward import database
from callward.columns import set_column
from callward.keys.seal import key_id_of
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import BLOCKS, Changes, Slice
from callward.parsing.records import message_records
from callward.streaming import blocks as streaming
from callward.streaming.retry import reporting_failure, retry_transient
from callward.workspace import Workspace, WorkspaceRef, open_transit, open_workspace
from schemas.declaration import sniff
from transforms.coders import use_transit
from transforms.commit import Limit
from transforms.elements import Sharding
from transforms.identify import by_bucket
from transforms.normalize import normalize_records
from transforms.parse import parse_records
from transforms.read import CONDEMNED, SHAPE, SOURCE, archive_tenant, read
from transforms.shuffle import carried
from transforms.validate import condemned, faults_of, judge, validate

ASIDE: Final = -1  # the bucket, and the slice of each block, of what is set aside
# Work for TakeIn is a table: pieces of landing files (schema elements.CHUNK), or messages. Its metadata say the rest.
NOW, SHARDING, WHOLE, FLUSH = b"callward.now_ms", b"callward.sharding", b"callward.whole", b"callward.flush"
FILE_NO, BLOCK = b"callward.file_no", b"callward.block"
MESSAGES: Final = pa.schema([pa.field("value", pa.large_binary()), pa.field("message_id", pa.binary())])

_SNIFFED: Final = 1000  # messages that a block's shape is told from
_AAD: Final = b"callward parcel 1"


@dataclass
class BucketBatch:
    """What one bucket gets of some blocks: names of spilled tables (each of one tenant), and their slices.

    The parcel of what is set aside carries the ledger's facts, too.
    """

    names: list[str]
    slices: list[Slice]
    sharding: str
    size_bytes: int = 0
    facts: Changes | None = None

    def seal(self, workspace: Workspace) -> bytes:
        """As the engine carries and keeps it: sealed under the transit key, which its header names."""
        return workspace.transit.seal(pickle.dumps(self), _AAD)

    @classmethod
    def open(cls, sealed: bytes, workspace: Workspace) -> "BucketBatch":
        parcel: BucketBatch = pickle.loads(workspace.keyring.sealer_by_id(key_id_of(sealed)).open(sealed, _AAD))
        return parcel


@dataclass
class Taken:
    """A work's sound records by bucket (each table one tenant's, schema CDR), suspended ones (schema SUSPENDED), and
    what the ledger must know of the blocks besides."""

    good: dict[int, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    suspended: list[pa.Table] = field(default_factory=list)
    facts: Changes = field(default_factory=Changes)


def take_in(work: pa.Table, limits: Mapping[str, Limit], files: DataFiles, archive: bool) -> Taken:
    """Read, parse, normalize, validate and identify one work (of one source and shape).

    A file that is here as a whole is set aside when it has more faults than its source's limit.
    """
    metadata, taken = work.schema.metadata, Taken()
    table, taken.facts = _validated(work, files, archive)
    if table is None:
        return taken
    taken.facts.set_aside = _over_limit(table, metadata, limits)
    if taken.facts.set_aside:
        guilty = pc.is_in(table["file_no"], pa.array(sorted(taken.facts.set_aside), pa.int64()))
        table = condemned(table, guilty).replace_schema_metadata(table.schema.metadata)
    judged = judge(table, files.workspace)
    taken.suspended = [suspended for _, suspended in judged.suspended]
    if FILE_NO in metadata:  # what a broker delivers again is in the same "file", soon or late: equal ones are one
        taken.suspended = [
            set_column(each, "by_occurrence", pa.repeat(False, each.num_rows)) for each in taken.suspended
        ]
    taken.facts.entries += judged.entries
    if judged.good.num_rows:
        # The records of a bucket are counted as read with their own slice: each commit balances by itself.
        for bucket, part in by_bucket(judged.good, Sharding.from_json(metadata[SHARDING].decode()), files.workspace):
            taken.good[bucket].append(part)
            taken.facts.entries.append(ledger.negated(ledger.read_entries(part)))
    return taken


def count_faults(work: pa.Table, files: DataFiles) -> tuple[int, int]:
    """How many records of a work have a fault, of how many: for a file too large to be judged in one piece."""
    table, _ = _validated(work, files, False)
    return (0, 0) if table is None else (table.num_rows - table["fault"].null_count, table.num_rows)


def _validated(work: pa.Table, files: DataFiles, archive: bool) -> tuple[pa.Table | None, Changes]:
    found, facts = _read(work, files, archive)
    if found is None or not found.num_rows:
        return None, facts
    table = normalize_records(parse_records(found, files.workspace), files.workspace)
    return validate(table, int(work.schema.metadata[NOW])).replace_schema_metadata(found.schema.metadata), facts


def _read(work: pa.Table, files: DataFiles, archive: bool) -> tuple[pa.Table | None, Changes]:
    if FILE_NO in work.schema.metadata:
        return _read_messages(work, files, archive)
    return read(work, files, archive)


def _read_messages(work: pa.Table, files: DataFiles, archive: bool) -> tuple[pa.Table, Changes]:
    """A block of messages → its records, with where each came from; and its sealed archive."""
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
    outcome = Changes()
    place: tuple[str | None, int | None] = (None, None)
    if archive:
        joined = b"\n".join(value for value in values.to_pylist() if value)
        made = files.write_archive(archive_tenant(files, source), joined)
        outcome.files.append(made)
        place = (made.file_id, 0)
    outcome.blocks.append(pa.table([[x] for x in (file_no, block, n, None, *place)], schema=BLOCKS))
    return pa.table(table).replace_schema_metadata({SOURCE: source, SHAPE: shape.to_json(), CONDEMNED: ""}), outcome


def _over_limit(table: pa.Table, metadata: dict[bytes, bytes], limits: Mapping[str, Limit]) -> set[int]:
    """Files that are here as a whole and have too many faults."""
    limit = limits.get(table.schema.metadata[SOURCE].decode())
    whole = {int(number) for number in metadata.get(WHOLE, b"").split()}
    faults = faults_of(table)
    if limit is None or not whole & set(faults):
        return set()
    counts = pc.value_counts(table["file_no"])
    read = dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
    return {no for no in whole & set(faults) if limit.exceeded(faults[no], read[no])}


def parcels(work: pa.Table, taken: Taken, files: DataFiles) -> Iterator[tuple[int, BucketBatch]]:
    """Spill what was taken in: (bucket, parcel). Each block has a slice in every bucket it has records for, and one
    more of what is set aside, be it nothing."""
    sharding = work.schema.metadata[SHARDING].decode()
    rows = {bucket: _rows_by_block(tables) for bucket, tables in taken.good.items()}
    blocks = [block for block in _blocks(work) if block[0] not in taken.facts.changed]
    of = {block: 1 + sum(block in counted for counted in rows.values()) for block in blocks}
    for bucket, tables in taken.good.items():
        slices = [Slice(*block, bucket, of[block], count) for block, count in rows[bucket].items()]
        yield bucket, _parcel([carried(table) for table in tables], slices, sharding, files)
    counted = _rows_by_block(taken.suspended)
    slices = [Slice(*block, ASIDE, of[block], counted.get(block, 0)) for block in blocks]
    aside = _parcel(taken.suspended, slices, sharding, files)
    aside.facts = taken.facts
    yield ASIDE, aside


def _blocks(work: pa.Table) -> list[tuple[int, int]]:
    metadata = work.schema.metadata
    if FILE_NO in metadata:
        return [(int(metadata[FILE_NO]), int(metadata[BLOCK]))]
    return list(zip(work["file_no"].to_pylist(), work["block"].to_pylist(), strict=True))


def _rows_by_block(tables: Collection[pa.Table]) -> dict[tuple[int, int], int]:
    """(file_no, block) → rows."""
    if not tables:
        return {}
    lineage = pa.concat_tables([table.select(["file_no", "block"]) for table in tables])
    counted = lineage.group_by(["file_no", "block"], use_threads=False).aggregate([([], "count_all")])
    return {(row["file_no"], row["block"]): row["count_all"] for row in counted.to_pylist()}


def _parcel(tables: Collection[pa.Table], slices: list[Slice], sharding: str, files: DataFiles) -> BucketBatch:
    names = [files.spill(table) for table in tables if table.num_rows]
    return BucketBatch(names, slices, sharding, sum(table.nbytes for table in tables))


def files_now(reference: WorkspaceRef, run_id: str, files: DataFiles | None = None) -> DataFiles:
    """Files that seal what is in flight under this month's transit key; `files` themselves while it is theirs.

    A stream may run for years. What it gathers lives for minutes, so a month's key is free soon after the month.
    """
    month = datetime.now(UTC).strftime("%Y-%m")
    if files is not None and files.workspace.reference.transit_month == month:
        return files
    now = replace(reference, transit_month=month)
    use_transit(str(now), open_transit)
    return DataFiles(open_workspace(now), run_id)


# -- Beam --------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class TakeIn(beam.PTransform[PCollection[pa.Table], PCollection[tuple[int, bytes]]]):
    """PCollection[work table] → PCollection[tuple[bucket, sealed parcel]]; b"" tells a bucket to flush."""

    reference: WorkspaceRef
    run_id: str
    buckets: int
    limits: dict[str, Limit]
    archive: bool

    def expand(self, work: PCollection[pa.Table]) -> PCollection[tuple[int, bytes]]:
        taking = _TakeInFn(self.reference, self.run_id, self.buckets, self.limits, self.archive)
        return work | "TakeInBlocks" >> beam.ParDo(taking).with_output_types(tuple[int, bytes])


class _TakeInFn(beam.DoFn):
    def __init__(
        self, reference: WorkspaceRef, run_id: str, buckets: int, limits: dict[str, Limit], archive: bool
    ) -> None:
        self._reference, self._run_id, self._buckets = reference, run_id, buckets
        self._limits, self._archive = limits, archive

    def setup(self) -> None:
        self._files = files_now(self._reference, self._run_id)

    def process(self, work: pa.Table) -> Iterator[Any]:
        self._files = files_now(self._reference, self._run_id, self._files)
        if FLUSH in work.schema.metadata:
            yield from ((bucket, b"") for bucket in (*range(self._buckets), ASIDE))
            return
        with reporting_failure(self._files.workspace.settings, self._run_id):
            yield from retry_transient(lambda: self._taken_in(work))

    def _taken_in(self, work: pa.Table) -> list[tuple[int, bytes]]:
        taken = take_in(work, self._limits, self._files, self._archive)
        if taken.facts.changed:
            with database.writing(self._files.workspace.settings) as connection:
                streaming.drop_changed(connection, sorted(taken.facts.changed))
        made = parcels(work, taken, self._files)
        return [(bucket, parcel.seal(self._files.workspace)) for bucket, parcel in made]
