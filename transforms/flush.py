"""Flush: batches gathered by bucket → process_bucket and the commit, in the worker.

A slice that is committed already is dropped first, so whatever the engine delivers again counts once. State and timer
decide only when; event time decides nothing, so no record is ever late for a flush.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.coders import BooleanCoder, BytesCoder, VarIntCoder
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Duration, Timestamp

from callward import database, runs
from callward.errors import Problem
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, Slice, SliceKey
from callward.streaming import metrics, register
from callward.streaming.retry import reporting_failure, retry_transient
from callward.workspace import WorkspaceRef
from schemas.views import INDEX
from transforms.counters import count_records
from transforms.cut_slices import BucketBatch
from transforms.elements import BucketRows, Group, Rewrite, Sharding
from transforms.process_bucket import process_bucket, rewrite_files
from transforms.safe_errors import SafeDoFn
from transforms.shuffle import whole
from transforms.suspend import suspend
from transforms.take_in import files_now

_WAVE = 0  # a stream has no waves: its ledger entries are all of this one
_AGAIN_AND_AGAIN = "other runs committed to the same days again and again"
_BATCHES_GONE = "batches in flight are gone from beside the lake; a stream started anew reads their blocks again"


@dataclass
class NewRows:
    """Tables of batches whose slices are not committed: sound records by sharding, and suspended ones by tenant."""

    tables: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    suspended: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    changes: Changes = field(default_factory=Changes)

    @property
    def count(self) -> int:
        return sum(part.rows for part in self.changes.slices)


def new_rows(batches: Iterable[BucketBatch], files: DataFiles, known: set[SliceKey]) -> NewRows:
    """Return what of some batches of one bucket is new: a slice that is `known`, or here twice, is left out.

    Raises FileNotFoundError when another worker has committed them just now, and discarded what they name.
    """
    rows, seen = NewRows(), set(known)
    for batch in batches:
        new = [part for part in batch.slices if part.key not in seen]
        seen |= {part.key for part in new}
        if new:
            _add(batch, new, files, rows)
    return rows


def _add(batch: BucketBatch, new: list[Slice], files: DataFiles, rows: NewRows) -> None:
    rows.changes.slices += new
    for name in batch.names:
        table = files.fetch(name)
        if len(new) < len(batch.slices):
            table = _of(table, new)
        if not table.num_rows:
            continue
        if batch.facts is not None:
            rows.suspended[table["tenant"][0].as_py()].append(table)
        else:
            table = whole(table)
            rows.tables[batch.sharding].append(table)
            rows.changes.entries.append(ledger.read_entries(table))
    if batch.facts is not None:
        rows.changes = Changes.merge([rows.changes, _facts_of(batch.facts, batch.slices, new)])


def _of(table: pa.Table, slices: Sequence[Slice]) -> pa.Table:
    """Return the rows of some blocks."""
    mine = pa.repeat(False, table.num_rows)
    for part in slices:
        mine = pc.or_(mine, pc.and_(pc.equal(table["file_no"], part.file_no), pc.equal(table["block"], part.block)))
    return table.filter(mine)


def _facts_of(facts: Changes, slices: Sequence[Slice], new: Sequence[Slice]) -> Changes:
    """Facts about the files of a work that are new. A worker that the engine has given up may still have committed
    some of them, in a work of other files; blocks of one file are in one work, or each in one of its own."""
    if len(new) == len(slices):
        return facts
    mine = {part.file_no for part in new}
    if _partly(slices, new):
        raise Problem("blocks of a file were committed apart: its facts cannot be told apart")
    chosen = pa.array(sorted(mine), pa.int64())
    blocks = [table.filter(pc.is_in(table["file_no"], chosen)) for table in facts.blocks]
    named = {name for table in blocks for name in table["archive_file"].to_pylist()}
    return replace(
        facts,
        files=[file for file in facts.files if file.file_id in named],
        entries=[table.filter(pc.is_in(table["file_no"], chosen)) for table in facts.entries],
        blocks=blocks,
        ends=[table.filter(pc.is_in(table["file_no"], chosen)) for table in facts.ends],
        set_aside=facts.set_aside & mine,
        shares=Counter(),  # nobody knows whose: a share of some blocks says as much as of all
    )


def _partly(slices: Sequence[Slice], new: Sequence[Slice]) -> set[int]:
    """Return files of which some slices are new and some are not."""
    return {part.file_no for part in slices if part not in new} & {part.file_no for part in new}


@dataclass
class Flushing:
    """One try at a flush: what it wants committed, and what that was compared with."""

    changes: Changes
    groups: list[Group] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)


def process_rows(bucket: int, rows: NewRows, files: DataFiles, now_ms: int) -> Flushing:
    """Take what is new in a bucket to written data files. Raises CommitConflict."""
    flushing, changes = Flushing(Changes()), [rows.changes]
    suspended = {tenant: list(tables) for tenant, tables in rows.suspended.items()}
    rewrites: list[Rewrite] = []
    for sharding, tables in rows.tables.items():
        processed = process_bucket(BucketRows(bucket, list(tables)), Sharding.from_json(sharding), files, now_ms)
        changes += processed.changes
        for tenant, table in processed.suspended:
            suspended.setdefault(tenant, []).append(table)
        rewrites += processed.rewrites
        flushing.groups += processed.groups
        flushing.compared |= processed.compared
    changes += rewrite_files(rewrites, files)
    changes += [suspend(tenant, tables, files, now_ms) for tenant, tables in sorted(suspended.items())]
    flushing.changes = Changes.merge(changes)
    return flushing


def flush(bucket: int, sealed: Iterable[bytes], files: DataFiles, clock: Callable[[], float] = time.time) -> int:
    """Process and commit what a bucket gathered; how many of its records are new. Whatever fails in passing is waited
    for, so that the engine holds back what comes behind. Raises Problem when others commit first again and again."""
    batches = [BucketBatch.open(blob, files.workspace) for blob in sealed]
    rows = retry_transient(lambda: _Committing(bucket, batches, files, int(clock() * 1000)).run())
    files.discard([name for batch in batches for name in batch.names])
    point("flushed")
    return rows


class _Overtaken(Exception):
    """Another commit changed what a flush was compared with: all of it is compared anew."""


class _Committing:
    """What a bucket gathered, until it is committed."""

    def __init__(self, bucket: int, batches: Sequence[BucketBatch], files: DataFiles, now_ms: int) -> None:
        self._bucket, self._batches, self._files, self._now_ms = bucket, batches, files, now_ms
        self._conflicts = 0

    def run(self) -> int:
        """Return how many records were new. Raises ConflictsPersist."""
        # A file may be replaced by another commit and gone; what was written meanwhile is an orphan.
        also = FileNotFoundError, _Overtaken
        return retry_on_conflict(lambda _: self._flush(), sentence=_AGAIN_AND_AGAIN, also=also, on_conflict=self._count)

    def _count(self) -> None:
        self._conflicts += 1

    def _flush(self) -> int:
        files = DataFiles(self._files.workspace, self._files.run_id)
        # Another worker may commit them just now and discard what they name: then their slices are known.
        rows = retry_on_conflict(lambda _: self._new_rows(files), sentence=_BATCHES_GONE, also=(FileNotFoundError,))
        if rows.changes.slices:
            flushing = process_rows(self._bucket, rows, files, self._now_ms)
            retry_on_conflict(lambda attempt: self._commit(flushing, files, attempt), sentence=_AGAIN_AND_AGAIN)
        return rows.count

    def _new_rows(self, files: DataFiles) -> NewRows:
        with database.reading(files.workspace.settings) as connection:
            runs.require(connection, files.run_id)
            keys = {part.key for batch in self._batches for part in batch.slices}
            known = ledger.committed_slices(connection, keys)
        return new_rows(self._batches, files, known)

    def _commit(self, flushing: Flushing, files: DataFiles, attempt: int) -> None:
        """Commit a flush; where others only added what it need not be compared with, it stands as it is.

        Raises CommitConflict, and _Overtaken when it does not stand.
        """
        if attempt > 1 and not _moved_on(flushing, files):
            raise _Overtaken
        run_id, settings = files.run_id, files.workspace.settings
        changes = ledger.with_sealed_sums(flushing.changes, settings, files.workspace.keyring)
        with database.writing(settings) as connection:
            entries = ledger.commit(connection, run_id, _WAVE, changes)
            counted = ledger.counted(connection, entries)
            metrics.count(connection, run_id, counted)
            register.committed(connection, run_id, entries, self._conflicts + attempt - 1)
        count_records(counted)


def _moved_on(flushing: Flushing, files: DataFiles) -> bool:
    """Return whether the partitions that changed meanwhile gained only files that share no shard with this flush's
    groups: it is then as if it had read them as they are now."""
    settings, read = files.workspace.settings, flushing.changes.read
    moved = False
    for (tenant, part), version in list(read.items()):
        with database.reading(settings) as connection:
            now = ledger.versions(connection, tenant, [part])[tenant, part]
            there = ledger.files(connection, view=INDEX, tenant=tenant, parts=[part])
        if now == version:
            continue
        mine = [group for group in flushing.groups if group.tenant == tenant]
        met = any(
            file.overlaps(group.bits, group.shard)
            for group in mine
            for file in there
            if file.file_id not in flushing.compared
        )
        if part in (ledger.PENDING, ledger.SUSPENSE) or met:
            return False
        read[tenant, part], moved = now, True
    return moved


# -- Beam --------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Flush(beam.PTransform[PCollection[tuple[int, bytes]], PCollection[int]]):
    """PCollection[tuple[bucket, sealed batch]] → commits; emits the records that each flush was about, as int."""

    reference: WorkspaceRef
    run_id: str
    seconds: float
    size_bytes: int

    def expand(self, batches: PCollection[tuple[int, bytes]]) -> PCollection[int]:
        return batches | "FlushBuckets" >> beam.ParDo(
            _FlushFn(self.reference, self.run_id, self.seconds, self.size_bytes)
        ).with_output_types(int)


class _FlushFn(SafeDoFn):
    BATCHES = BagStateSpec("batches", BytesCoder())
    SIZE = ReadModifyWriteStateSpec("size", VarIntCoder())
    DUE = ReadModifyWriteStateSpec("due", BooleanCoder())
    TIMER = TimerSpec("flush", TimeDomain.REAL_TIME)

    def __init__(self, reference: WorkspaceRef, run_id: str, seconds: float, size: int) -> None:
        self._reference, self._run_id, self._seconds, self._bytes = reference, run_id, seconds, size

    def setup(self) -> None:
        super().setup()
        self._files = files_now(self._reference, self._run_id)

    def process(  # type: ignore[no-untyped-def]
        self,
        element: tuple[int, bytes],
        batches=beam.DoFn.StateParam(BATCHES),
        size=beam.DoFn.StateParam(SIZE),
        due=beam.DoFn.StateParam(DUE),
        timer=beam.DoFn.TimerParam(TIMER),
    ) -> Iterator[int]:
        bucket, sealed = element
        if sealed:
            batches.add(sealed)
            size.write((size.read() or 0) + BucketBatch.open(sealed, self._files.workspace).size_bytes)
        if not sealed or size.read() >= self._bytes:
            yield from self._flush(bucket, batches, size)
        elif not due.read():
            timer.set(Timestamp.now() + Duration(self._seconds))
            due.write(True)

    @on_timer(TIMER)
    def due(  # type: ignore[no-untyped-def]
        self,
        key=beam.DoFn.KeyParam,
        batches=beam.DoFn.StateParam(BATCHES),
        size=beam.DoFn.StateParam(SIZE),
        due=beam.DoFn.StateParam(DUE),
    ) -> Iterator[int]:
        due.clear()
        yield from self._flush(key, batches, size)

    def _flush(self, bucket: int, batches, size) -> Iterator[int]:  # type: ignore[no-untyped-def]
        sealed = list(batches.read())
        batches.clear()
        size.clear()
        if sealed:
            with reporting_failure(self._files.workspace.settings, self._run_id):
                yield flush(bucket, sealed, self._files)
