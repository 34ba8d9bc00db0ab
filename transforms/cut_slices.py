"""CutSlices: what a stream took in → sealed batches by bucket, of the slices of its blocks.

What a batch names lies sealed beside the lake; the batch itself is sealed, and is all that the engine's state holds.
A block has a slice in every bucket that it has records for, and one more of what is set aside: it is complete when all
of them are committed, and what the engine delivers again is known by them.
"""

import pickle
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from callward import database
from callward.keys.seal import key_id_of
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, Slice
from callward.streaming import blocks as streaming
from callward.streaming.retry import reporting_failure, retry_transient
from callward.workspace import Workspace, WorkspaceRef
from transforms.elements import TakenIn
from transforms.safe_errors import SafeDoFn
from transforms.shuffle import carried
from transforms.take_in import files_now

SUSPENDED: Final = -1  # the bucket, and the slice of each block, of what is suspended, with the ledger's facts

_AAD: Final = b"callward bucket batch 1"


@dataclass
class BucketBatch:
    """What one bucket gets of some blocks: names of spilled tables (each of one tenant), and their slices.

    The batch of what is suspended carries the ledger's facts, too.
    """

    names: list[str]
    slices: list[Slice]
    sharding: str
    size_bytes: int = 0
    facts: Changes | None = None

    def seal(self, workspace: Workspace) -> bytes:
        """Return the batch as the engine carries and keeps it: sealed under the transit key, which its header names."""
        return workspace.transit.seal(pickle.dumps(self), _AAD)

    @classmethod
    def open(cls, sealed: bytes, workspace: Workspace) -> "BucketBatch":
        batch: BucketBatch = pickle.loads(workspace.keyring.sealer_by_id(key_id_of(sealed)).open(sealed, _AAD))
        return batch


def cut_slices(taken: TakenIn, files: DataFiles) -> Iterator[tuple[int, BucketBatch]]:
    """Spill what was taken in: (bucket, batch) for each bucket that has records, and for what is suspended, be it
    nothing."""
    rows = {bucket: _rows_by_block(tables) for bucket, tables in taken.rows.items()}
    of = {block: 1 + sum(block in counted for counted in rows.values()) for block in taken.blocks}
    for bucket, tables in taken.rows.items():
        slices = [Slice(*block, bucket, of[block], count) for block, count in rows[bucket].items()]
        yield bucket, _batch([carried(table) for table in tables], slices, taken.sharding, files)
    suspended = [table for _, table in taken.suspended]
    counted = _rows_by_block(suspended)
    slices = [Slice(*block, SUSPENDED, of[block], counted.get(block, 0)) for block in taken.blocks]
    batch = _batch(suspended, slices, taken.sharding, files)
    batch.facts = _without_sound(taken)
    yield SUSPENDED, batch


def _without_sound(taken: TakenIn) -> Changes:
    """Return the facts without what the buckets' records count as read: each commits that with its own slices, and
    balances by itself."""
    read = [ledger.negated(ledger.read_entries(table)) for tables in taken.rows.values() for table in tables]
    return Changes.merge([taken.facts, Changes(entries=read)])


def _rows_by_block(tables: Collection[pa.Table]) -> dict[tuple[int, int], int]:
    """Return the rows of each (file_no, block)."""
    if not tables:
        return {}
    lineage = pa.concat_tables([table.select(["file_no", "block"]) for table in tables])
    counted = lineage.group_by(["file_no", "block"], use_threads=False).aggregate([([], "count_all")])
    return {(row["file_no"], row["block"]): row["count_all"] for row in counted.to_pylist()}


def _batch(tables: Collection[pa.Table], slices: list[Slice], sharding: str, files: DataFiles) -> BucketBatch:
    names = [files.spill(table) for table in tables if table.num_rows]
    return BucketBatch(names, slices, sharding, sum(table.nbytes for table in tables))


@dataclass(eq=False)
class CutSlices(beam.PTransform[PCollection[TakenIn], PCollection[tuple[int, bytes]]]):
    """PCollection[TakenIn] → PCollection[tuple[bucket, sealed batch]]; b"" tells a bucket to flush."""

    reference: WorkspaceRef
    run_id: str
    buckets: int

    def expand(self, taken: PCollection[TakenIn]) -> PCollection[tuple[int, bytes]]:
        cutting = _CutSlicesFn(self.reference, self.run_id, self.buckets)
        return taken | "SpillSlices" >> beam.ParDo(cutting).with_output_types(tuple[int, bytes])


class _CutSlicesFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, buckets: int) -> None:
        self._reference, self._run_id, self._buckets = reference, run_id, buckets

    def setup(self) -> None:
        super().setup()
        self._files = files_now(self._reference, self._run_id)

    def process(self, taken: TakenIn) -> Iterator[tuple[int, bytes]]:
        self._files = files_now(self._reference, self._run_id, self._files)
        if taken.flush:
            yield from ((bucket, b"") for bucket in (*range(self._buckets), SUSPENDED))
            return
        with reporting_failure(self._files.workspace.settings, self._run_id):
            batches = retry_transient(lambda: slices_of(taken, self._files))
        yield from batches


def slices_of(taken: TakenIn, files: DataFiles) -> list[tuple[int, bytes]]:
    """Return (bucket, sealed batch) of what was taken in; forget the files that changed while they were read."""
    if taken.facts.changed:
        with database.writing(files.workspace.settings) as connection:
            streaming.drop_changed(connection, sorted(taken.facts.changed))
    return [(bucket, batch.seal(files.workspace)) for bucket, batch in cut_slices(taken, files)]
