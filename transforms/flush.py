"""Flush: parcels gathered by bucket → Pair … Write and the commit, in the worker: what a night does behind its shuffle.

A slice that is committed already is dropped first, so whatever the engine delivers again counts once. State and timer
decide only when; event time decides nothing, so no record is ever late for a flush.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

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

from callward import database
from callward.errors import Problem
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, CommitConflict, Slice, SliceKey
from callward.streaming import metrics, register
from callward.streaming.retry import reporting_failure, retry_transient
from callward.workspace import WorkspaceRef
from transforms.assemble import assemble_bucket, talk_rules
from transforms.deduplicate import GroupDeduplicated, deduplicate_group
from transforms.drop_expired import drop_expired_of_group
from transforms.elements import BucketRows, Group, Rewrite, Sharding
from transforms.rate import rate
from transforms.shuffle import whole
from transforms.split import split_group
from transforms.summarize import differences
from transforms.suspend import set_aside
from transforms.take_in import BucketBatch, files_now
from transforms.write import joined, rewrite, write

_TRIES = 20
_WAVE = 0  # a stream has no waves: its ledger entries are all of this one


@dataclass
class Fresh:
    """Tables of parcels whose slices are not committed: by sharding, and what was set aside by tenant."""

    tables: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    suspended: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    outcome: Changes = field(default_factory=Changes)


def fresh(parcels: Iterable[BucketBatch], files: DataFiles, known: set[SliceKey]) -> Fresh:
    """What of some parcels of one bucket is new: a slice that is `known`, or here twice, is left out."""
    found, seen = Fresh(), set(known)
    for parcel in parcels:
        new = [part for part in parcel.slices if part.key not in seen]
        seen |= {part.key for part in new}
        if not new:
            continue
        found.outcome.slices += new
        aside = parcel.facts is not None
        for name in parcel.names:
            table = files.fetch(name)
            if len(new) < len(parcel.slices):
                table = _of(table, new)
            if not table.num_rows:
                continue
            if aside:
                found.suspended[table["tenant"][0].as_py()].append(table)
            else:
                table = whole(table)
                found.tables[parcel.sharding].append(table)
                found.outcome.entries.append(ledger.read_entries(table))
        if parcel.facts is not None:
            found.outcome = Changes.merge([found.outcome, _facts_of(parcel.facts, parcel.slices, new)])
    return found


def _of(table: pa.Table, slices: Sequence[Slice]) -> pa.Table:
    """The rows of some blocks."""
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
    )


def _partly(slices: Sequence[Slice], new: Sequence[Slice]) -> set[int]:
    """Files of which some slices are new and some are not."""
    return {part.file_no for part in slices if part not in new} & {part.file_no for part in new}


@dataclass
class Flushing:
    """One try at a flush: what it wants committed, and what that was compared with."""

    outcome: Changes
    groups: list[Group] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)


def settle_all(bucket: int, found: Fresh, files: DataFiles, now_ms: int) -> Flushing:
    """Pair, admit, settle, rate, split, summarize and write what a bucket gathered. Raises CommitConflict."""
    flushing = Flushing(found.outcome)
    outcomes, suspended = [found.outcome], {tenant: list(tables) for tenant, tables in found.suspended.items()}
    rewrites: dict[str, list[Rewrite]] = defaultdict(list)
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    for sharding, tables in found.tables.items():
        gathered = BucketRows(bucket, list(tables))
        rules = talk_rules(files.workspace)
        for paired, facts in assemble_bucket(gathered, Sharding.from_json(sharding), files, rules, now_ms):
            admitted, more = drop_expired_of_group(paired, files, today)
            outcomes += [facts, more]
            if not admitted.calls.num_rows and not admitted.amended.num_rows:
                continue
            done = deduplicate_group(admitted, files)
            outcomes += [done.outcome, *_written(done, files)]
            for tenant, table in done.suspended:
                suspended.setdefault(tenant, []).append(table)
            for work in done.rewrites:
                rewrites[work.file.file_id].append(work)
            flushing.groups.append(replace(done.group, calls=done.group.calls.slice(0, 0)))
            flushing.compared |= done.compared
    for works in rewrites.values():
        work = joined(works)
        outcomes += [rewrite(work, files), differences(work, files.workspace.settings.tenants)]
    outcomes += [set_aside(tenant, tables, files, now_ms) for tenant, tables in sorted(suspended.items())]
    flushing.outcome = Changes.merge(outcomes)
    return flushing


def _written(done: GroupDeduplicated, files: DataFiles) -> Iterator[Changes]:
    tenants = files.workspace.settings.tenants
    yield from (differences(share, tenants) for share in done.taken)
    if done.group.calls.num_rows:
        for share in split_group(replace(done.group, calls=rate(done.group.calls)), files.workspace):
            yield write(share, files)
            yield differences(share, tenants)


def flush(bucket: int, sealed: Iterable[bytes], files: DataFiles, clock: Callable[[], float] = time.time) -> int:
    """Settle and commit what a bucket gathered; how many of its records are new. Whatever fails in passing is waited
    for, so that the engine holds back what comes behind."""
    parcels = [BucketBatch.open(blob, files.workspace) for blob in sealed]
    rows = retry_transient(lambda: _flush(bucket, parcels, files, int(clock() * 1000)))
    files.discard([name for parcel in parcels for name in parcel.names])
    point("flushed")
    return rows


def _flush(bucket: int, parcels: Sequence[BucketBatch], files: DataFiles, now_ms: int) -> int:
    settings, retries = files.workspace.settings, 0
    while True:
        with database.reading(settings) as connection:
            known = ledger.committed_slices(connection, {part.key for parcel in parcels for part in parcel.slices})
        work = DataFiles(files.workspace, files.run_id)
        try:
            found = fresh(parcels, work, known)
        except FileNotFoundError:  # another worker has committed them just now, and discarded them
            retries += 1
            if retries >= _TRIES:
                raise
            continue
        if not found.outcome.slices:
            return 0
        try:
            flushing = settle_all(bucket, found, work, now_ms)
            _commit(flushing, work, retries)
            return sum(part.rows for part in found.outcome.slices)
        except (CommitConflict, FileNotFoundError):  # a file was replaced and is gone; what was written is an orphan
            retries += 1
            if retries >= _TRIES:
                raise Problem("other runs committed to the same days again and again") from None
            time.sleep(random.uniform(0.05, 0.2) * retries)


def _commit(flushing: Flushing, files: DataFiles, retries: int) -> None:
    """Commit a flush; where others only added what it need not be compared with, it stands as it is."""
    settings, run_id = files.workspace.settings, files.run_id
    while True:
        try:
            with database.writing(settings) as connection:
                entries = ledger.commit(connection, run_id, _WAVE, flushing.outcome)
                metrics.count(connection, run_id, entries)
                register.committed(connection, run_id, entries, retries)
            return
        except CommitConflict:
            if not _moved_on(flushing, files):
                raise
            retries += 1


def _moved_on(flushing: Flushing, files: DataFiles) -> bool:
    """Whether the partitions that changed meanwhile gained only files that share no shard with this flush's groups: it
    is then as if it had read them as they are now."""
    settings, read = files.workspace.settings, flushing.outcome.read
    moved = False
    for (tenant, part), version in list(read.items()):
        with database.reading(settings) as connection:
            now = ledger.versions(connection, tenant, [part])[tenant, part]
            there = ledger.files(connection, view="assurance", tenant=tenant, parts=[part])
        if now == version:
            continue
        mine = [group for group in flushing.groups if group.tenant == tenant]
        late = any(part in group.without_assurance for group in mine)  # those are compared with billing files
        met = late or any(
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
    """PCollection[tuple[bucket, sealed parcel]] → commits; emits the records that each flush was about, as int."""

    reference: WorkspaceRef
    run_id: str
    seconds: float
    size_bytes: int

    def expand(self, parcels: PCollection[tuple[int, bytes]]) -> PCollection[int]:
        return parcels | "FlushBuckets" >> beam.ParDo(
            _FlushFn(self.reference, self.run_id, self.seconds, self.size_bytes)
        ).with_output_types(int)


class _FlushFn(beam.DoFn):
    PARCELS = BagStateSpec("parcels", BytesCoder())
    SIZE = ReadModifyWriteStateSpec("size", VarIntCoder())
    DUE = ReadModifyWriteStateSpec("due", BooleanCoder())
    TIMER = TimerSpec("flush", TimeDomain.REAL_TIME)

    def __init__(self, reference: WorkspaceRef, run_id: str, seconds: float, size: int) -> None:
        self._reference, self._run_id, self._seconds, self._bytes = reference, run_id, seconds, size

    def setup(self) -> None:
        self._files = files_now(self._reference, self._run_id)

    def process(  # type: ignore[no-untyped-def]
        self,
        element: tuple[int, bytes],
        parcels=beam.DoFn.StateParam(PARCELS),
        size=beam.DoFn.StateParam(SIZE),
        due=beam.DoFn.StateParam(DUE),
        timer=beam.DoFn.TimerParam(TIMER),
    ) -> Iterator[int]:
        bucket, sealed = element
        if sealed:
            parcels.add(sealed)
            size.write((size.read() or 0) + BucketBatch.open(sealed, self._files.workspace).size_bytes)
        if not sealed or size.read() >= self._bytes:
            yield from self._flush(bucket, parcels, size)
        elif not due.read():
            timer.set(Timestamp.now() + Duration(self._seconds))
            due.write(True)

    @on_timer(TIMER)
    def due(  # type: ignore[no-untyped-def]
        self,
        key=beam.DoFn.KeyParam,
        parcels=beam.DoFn.StateParam(PARCELS),
        size=beam.DoFn.StateParam(SIZE),
        due=beam.DoFn.StateParam(DUE),
    ) -> Iterator[int]:
        due.clear()
        yield from self._flush(key, parcels, size)

    def _flush(self, bucket: int, parcels, size) -> Iterator[int]:  # type: ignore[no-untyped-def]
        gathered = list(parcels.read())
        parcels.clear()
        size.clear()
        if gathered:
            with reporting_failure(self._files.workspace.settings, self._run_id):
                yield flush(bucket, gathered, self._files)
