"""Shuffle: sealed batches meet by bucket. The runner groups their names; the batches lie sealed beside the lake.

A runner copies what it groups half a dozen times, and keeps all of it in memory: a night's batches through it cost more
than all that is done with them behind it. Each batch is written once, sealed under the transit key, in a file of the
run's own below the lake's root (which every worker reaches), read once, and removed with the wave. What a killed run
leaves is removed like any orphan.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from callward.columns import is_absent, nulls
from callward.lake.data_files import DataFiles
from callward.workspace import WorkspaceRef, open_workspace
from schemas.cdr import CDR
from transforms.elements import BucketRows, TakenIn
from transforms.safe_errors import SafeDoFn


@dataclass(eq=False)
class Shuffle(beam.PTransform[PCollection[TakenIn], PCollection[BucketRows]]):
    """PCollection[TakenIn] → PCollection[BucketRows], one per bucket."""

    reference: WorkspaceRef
    run_id: str

    def expand(self, taken: PCollection[TakenIn]) -> PCollection[BucketRows]:
        return (
            taken
            | "Spill" >> beam.ParDo(_SpillFn(self.reference, self.run_id)).with_output_types(tuple[int, str])
            | "ByBucket" >> beam.GroupByKey()
            | "Fetch" >> beam.ParDo(_FetchFn(self.reference, self.run_id)).with_output_types(BucketRows)
        )


class _FilesFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str) -> None:
        self._reference, self._run_id = reference, run_id

    def setup(self) -> None:
        super().setup()
        self._files = DataFiles(open_workspace(self._reference), self._run_id)


def carried(table: pa.Table) -> pa.Table:
    """Return the columns of a batch (schema CDR) that some row has: the others need not travel."""
    return table.select([name for name in table.column_names if not is_absent(table[name])])


def whole(table: pa.Table) -> pa.Table:
    """Return what `carried` left, as schema CDR again."""
    columns = [table[f.name] if f.name in table.column_names else nulls(table.num_rows, f.type) for f in CDR]
    return pa.Table.from_arrays(columns, schema=CDR)


class _SpillFn(_FilesFn):
    def process(self, taken: TakenIn) -> Iterator[tuple[int, str]]:
        for bucket, tables in taken.rows.items():
            for table in tables:
                yield bucket, self._files.spill(carried(table))


class _FetchFn(_FilesFn):
    def process(self, element: tuple[int, Iterable[str]]) -> Iterator[BucketRows]:
        bucket, names = element
        yield BucketRows(bucket, [whole(self._files.fetch(name)) for name in names])
