"""ProcessBucket: a bucket's records → assemble, drop expired, deduplicate, rate, split, index, summarize,
write.

What it wants committed and what it suspends are for its caller: a night merges all buckets of a wave and commits them
at once, a stream commits each flush of a bucket.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.workspace import WorkspaceRef, open_workspace
from schemas.cdr import CDR
from transforms.assemble import Assembled, assemble_bucket, group_of, talk_rules
from transforms.deduplicate import GroupDeduplicated, deduplicate_group
from transforms.drop_expired import drop_expired_of_group
from transforms.elements import BucketRows, Group, Rewrite, Sharding
from transforms.index import index_group
from transforms.rate import rate
from transforms.safe_errors import SafeDoFn
from transforms.split import split_group
from transforms.summarize import differences
from transforms.suspend import suspend
from transforms.write import joined, rewrite, write


@dataclass
class Processed:
    """What a bucket's records want committed, rows to suspend (by tenant, schema SUSPENDED), and committed files to
    write anew: once each, as several buckets may want it of one.

    `groups` (without their rows) and `compared` (ids of data files) tell what the bucket was compared with.
    """

    changes: list[Changes] = field(default_factory=list)
    suspended: list[tuple[str, pa.Table]] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)


def process_bucket(rows: BucketRows, sharding: Sharding, files: DataFiles, now_ms: int) -> Processed:
    """Take a bucket's records (schema CDR) from assembly to written data files; nothing counts before its commit.

    `now_ms`: when the records count as come in, ms since 1970.
    """
    processed, today = Processed(), datetime.fromtimestamp(now_ms / 1000, UTC).date()
    for group, changes in assemble_bucket(rows, sharding, files, talk_rules(files.workspace), now_ms):
        processed.changes.append(changes)
        _process_group(group, files, today, processed)
    return processed


def process_assembled(tenant: str, assembled: Assembled, files: DataFiles, now_ms: int) -> list[Changes]:
    """Return what a tenant's calls that were assembled from its pending log alone want committed."""
    changes = Changes(entries=assembled.entries)
    return [changes, *_process_alone(group_of(tenant, 0, 0, assembled), files, now_ms)]


def process_chosen(tenant: str, calls: pa.Table, files: DataFiles, now_ms: int) -> list[Changes]:
    """Return what versions of a tenant's records (schema CDR) want committed that a person chose of those set aside."""
    group = Group(tenant, 0, 0, calls, CDR.empty_table(), chosen=True)
    return _process_alone(group, files, now_ms)


def _process_alone(group: Group, files: DataFiles, now_ms: int) -> list[Changes]:
    """Return what a group that is processed by itself wants committed."""
    processed, today = Processed(), datetime.fromtimestamp(now_ms / 1000, UTC).date()
    _process_group(group, files, today, processed)
    suspended = [suspend(tenant, [table], files, now_ms) for tenant, table in processed.suspended]
    return [*processed.changes, *rewrite_files(processed.rewrites, files), *suspended]


def _process_group(group: Group, files: DataFiles, today: date, processed: Processed) -> None:
    group, changes = drop_expired_of_group(group, files, today)
    processed.changes.append(changes)
    if not (group.calls.num_rows or group.amended.num_rows or group.others or group.withdrawn.num_rows):
        return
    deduplicated = deduplicate_group(group, files)
    processed.changes += [*deduplicated.changes, *_written(deduplicated, files)]
    processed.suspended += deduplicated.suspended
    processed.rewrites += deduplicated.rewrites
    processed.groups.append(replace(group, calls=CDR.empty_table(), amended=CDR.empty_table(), others=[]))
    processed.compared |= deduplicated.compared


def _written(deduplicated: GroupDeduplicated, files: DataFiles) -> Iterator[Changes]:
    group, workspace = deduplicated.group, files.workspace
    yield from (differences(view_rows, workspace) for view_rows in (*deduplicated.taken, *deduplicated.moved))
    yield from (write(view_rows, files) for view_rows in deduplicated.moved)
    if group.calls.num_rows:
        for view_rows in split_group(replace(group, calls=rate(group.calls)), workspace):
            yield write(view_rows, files)
            yield differences(view_rows, workspace)
    for index_rows in index_group(group, workspace):
        yield write(index_rows, files)
        yield differences(index_rows, workspace)


def rewrite_file(rewrites: Iterable[Rewrite], files: DataFiles) -> list[Changes]:
    """Write one committed data file anew for all groups that want rows of it removed or changed."""
    of_all = joined(rewrites)
    return [rewrite(of_all, files), differences(of_all, files.workspace)]


def rewrite_files(rewrites: Iterable[Rewrite], files: DataFiles) -> list[Changes]:
    """Write committed data files anew, each once."""
    by_file: dict[str, list[Rewrite]] = defaultdict(list)
    for wanted in rewrites:
        by_file[wanted.file.file_id].append(wanted)
    return [changes for of_file in by_file.values() for changes in rewrite_file(of_file, files)]


# -- Beam --------------------------------------------------------------------------------------------------------------


class ProcessedBuckets(NamedTuple):
    """What all buckets want committed, and what is to suspend of them: (tenant, table of schema SUSPENDED)."""

    changes: PCollection[Changes]
    suspended: PCollection[tuple[str, pa.Table]]


@dataclass(eq=False)
class ProcessBucket(beam.PTransform[PCollection[BucketRows], Any]):
    """PCollection[BucketRows] → ProcessedBuckets."""

    reference: WorkspaceRef
    run_id: str
    sharding: Sharding
    now_ms: int

    def expand(self, buckets: PCollection[BucketRows]) -> Any:
        types = {"suspended": tuple[str, pa.Table], "rewrites": tuple[str, Rewrite]}
        work = beam.ParDo(_ProcessBucketFn(self.reference, self.run_id, self.sharding, self.now_ms))
        processed = buckets | "ProcessRows" >> work.with_output_types(Changes, **types).with_outputs(
            *types, main="changes"
        )
        rewritten = (
            processed.rewrites
            | "ByFile" >> beam.GroupByKey()  # a file may hold rows of several buckets
            | "RewriteFile" >> beam.ParDo(_RewriteFn(self.reference, self.run_id)).with_output_types(Changes)
        )
        return ProcessedBuckets((processed.changes, rewritten) | "Changes" >> beam.Flatten(), processed.suspended)


class _ProcessBucketFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, sharding: Sharding, now_ms: int) -> None:
        self._reference, self._run_id, self._sharding, self._now_ms = reference, run_id, sharding, now_ms

    def process(self, rows: BucketRows) -> Iterator[Any]:
        files = DataFiles(open_workspace(self._reference), self._run_id)  # it keeps what it read: one for each bucket
        processed = process_bucket(rows, self._sharding, files, self._now_ms)
        yield from processed.changes
        for suspended in processed.suspended:
            yield beam.pvalue.TaggedOutput("suspended", suspended)
        for wanted in processed.rewrites:
            yield beam.pvalue.TaggedOutput("rewrites", (wanted.file.file_id, wanted))


class _RewriteFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str) -> None:
        self._reference, self._run_id = reference, run_id

    def setup(self) -> None:
        super().setup()
        self._files = DataFiles(open_workspace(self._reference), self._run_id)

    def process(self, element: tuple[str, Iterable[Rewrite]]) -> Iterator[Changes]:
        yield from rewrite_file(element[1], self._files)
