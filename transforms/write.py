"""Write: rows of the views → encrypted data files. They count only once a commit names them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import PCollection

from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.workspace import WorkspaceRef, open_workspace
from transforms.elements import Rewrite, ViewRows


def write(share: ViewRows, files: DataFiles) -> Changes:
    """Write one share as a data file with its companions."""
    if share.taken or not share.rows.num_rows:
        return Changes()
    made = files.write_view(
        share.view, share.tenant, share.call_date, share.rows, share.lineage, share.bits, share.shard
    )
    return Changes(files=[made])


def rewrite(work: Rewrite, files: DataFiles) -> Changes:
    """Write a committed data file anew without some rows, or with others in their place."""
    old = work.file
    rows, lineage = files.rows(old), files.lineage(old)
    if work.changed is not None and len(work.change):
        assert work.lineage is not None, "changed rows come with their lineage"
        index = np.arange(rows.num_rows)
        index[work.change] = rows.num_rows + np.arange(len(work.change))
        rows = pa.concat_tables([rows, work.changed.cast(rows.schema)]).take(pa.array(index))
        lineage = pa.concat_tables([lineage, work.lineage.cast(lineage.schema)]).take(pa.array(index))
    keep = np.ones(rows.num_rows, bool)
    keep[work.drop] = False
    outcome = Changes(superseded={old.file_id: (old.tenant, old.part)})
    if keep.any():
        kept = pa.array(keep)
        outcome.files.append(
            files.write_view(
                old.view,
                old.tenant,
                old.part,
                rows.filter(kept),
                lineage.filter(kept),
                old.shard_bits,
                old.shard,
                old.received_on,
            )
        )
    return outcome


def joined(works: Iterable[Rewrite]) -> Rewrite:
    """One rewrite of a data file out of those that several groups asked for: each knows of its own rows only."""
    works = list(works)
    drop, change = (np.concatenate([getattr(work, name) for work in works]) for name in ("drop", "change"))
    changed = [work.changed for work in works if work.changed is not None]
    lineage = [work.lineage for work in works if work.lineage is not None]
    tables = (pa.concat_tables(parts) if parts else None for parts in (changed, lineage))
    return Rewrite(works[0].file, drop, change, *tables)


@dataclass(eq=False)
class OncePerFile(beam.PTransform[PCollection[Rewrite], PCollection[Rewrite]]):
    """PCollection[Rewrite] → PCollection[Rewrite], one per data file: a file may hold rows of several groups."""

    def expand(self, rewrites: PCollection[Rewrite]) -> PCollection[Rewrite]:
        name = beam.Map(lambda work: (work.file.file_id, work)).with_output_types(tuple[str, Rewrite])
        join = beam.Map(lambda found: joined(found[1])).with_output_types(Rewrite)
        return rewrites | "ByFile" >> name | "OfFile" >> beam.GroupByKey() | "Join" >> join


@dataclass(eq=False)
class Write(beam.PTransform[PCollection[ViewRows | Rewrite], PCollection[Changes]]):
    """PCollection[ViewRows | Rewrite] → PCollection[Changes]."""

    reference: WorkspaceRef
    run_id: str

    def expand(self, shares: PCollection[ViewRows | Rewrite]) -> PCollection[Changes]:
        return shares | "WriteFiles" >> beam.ParDo(_WriteFn(self.reference, self.run_id))


class _WriteFn(beam.DoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str) -> None:
        self._reference, self._run_id = reference, run_id

    def setup(self) -> None:
        self._files = DataFiles(open_workspace(self._reference), self._run_id)

    def process(self, element: ViewRows | Rewrite) -> Iterator[Changes]:
        yield rewrite(element, self._files) if isinstance(element, Rewrite) else write(element, self._files)
