"""compact: many small data files become few. The same rows count before and after, and every query sees all of them.

Each merged file is one transaction: it is named and those it was made of stop to count. No version of a partition of a
view is raised, so whoever deduplicates against the rows need not begin again; one who wants to write one of those files
anew is refused and looks again. Killed anywhere, what was written and not named is removed as any run's leftovers are.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from callward import database, runs, workspace_id
from callward.disposal import record
from callward.disposal.record import UNDER_WAY, Status
from callward.errors import Problem
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.compaction import Limits, Merge, MergedFiles, merges, together
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import Changes, CommitConflict, DataFile
from callward.retention.requests import restrictions
from callward.settings import Settings
from pipelines import closing, terminal
from pipelines.closing import ClosedDate
from pipelines.results import Part, Result, Rows, fields_of
from pipelines.vacuum import remove_orphans, remove_superseded
from schemas.codes import DisposalReason
from schemas.retention import disposal_items, disposals
from schemas.suspense import SUSPENSE
from schemas.tables import blocks, keys, lake_files, ledger_entries
from schemas.tables import runs as runs_table
from schemas.views import STORED

ROLE: Final = "billing-run"
STREAM: Final = "stream"  # the kind of run that writes ledger entries with each flush
_ARCHIVE_BYTES: Final = 8 << 20  # sealed, at most: to read one block of it, all of it is unpacked
_VIEWS: Final = (*STORED, "archive")
_UNDER_WAY: Final = (Status.APPROVED, *UNDER_WAY)
_FILE_ID: Final = 5  # its place in an item of a plan: due_files.PlanItem.facts
_FOLDED: Final = 200  # input files whose entries are folded in one transaction
Progress = Callable[[str], None]


@dataclass
class Compacted(Result):
    """What a compaction did, or would do, as `callward compact --json` prints it."""

    dry_run: bool
    run_id: str = ""
    closed: list[ClosedDate] = field(default_factory=list)
    not_closed: list[str] = field(default_factory=list)
    merged: list[MergedFiles] = field(default_factory=list)
    refused: int = 0  # merges for which something else came first: the next time
    entries_folded: int = 0

    @property
    def exit_code(self) -> int:
        """Return 3 where a date could not be closed, else 0."""
        return 3 if self.not_closed else 0

    def to_dict(self) -> dict[str, Any]:
        return fields_of(self)

    def warnings(self) -> Iterator[str]:
        yield from self.not_closed

    def render(self) -> Iterator[Part]:
        if self.closed:
            yield from Rows(self.closed, "Would close" if self.dry_run else "Closed").render()
        if self.merged:
            yield from Rows(
                self.merged, "Would be merged into one file each" if self.dry_run else "Merged into one file each"
            ).render()
        else:
            yield "nothing to merge"
        if self.refused:
            yield f"{terminal.count(self.refused, 'merge')} left for the next time: something else came first"
        if self.entries_folded:
            yield f"{terminal.count(self.entries_folded, 'ledger entry', 'ledger entries')} folded into others"


def compact(
    settings: Settings,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Progress = lambda line: None,
) -> Compacted:
    """Close dates, merge what is worth it, of views, archive and suspense, and fold a stream's ledger entries.

    `now` (naive UTC): when it is for the dates that close, if not now. Raises Problem when another compaction is at
    work.
    """
    workspace_id.check(settings)
    compacted, now = Compacted(dry_run), now or database.now()
    if dry_run:
        compacted.closed = [date for date, _ in _closing(settings, now)]
        compacted.merged = [merge.summary() for merge in planned(settings, (*_VIEWS, "suspense"))]
    elif is_due(settings, now):
        with runs.running(settings, "compact", ["compact"]) as run_id:
            compacted.run_id = run_id
            _Compaction(settings, run_id, compacted, now, progress).run()
            runs.finish(settings, run_id, "done", compacted.to_dict())
        if compacted.merged or compacted.closed:
            restrictions.mark(settings)
    if not dry_run:
        remove_superseded(settings, compacted.run_id)
    return compacted


def compact_after(settings: Settings, now_ms: int, progress: Progress) -> None:
    """Compact when there is something to close or merge; a failure is reported, and fails nothing else."""
    try:
        compact(settings, now=ledger.to_datetime(now_ms), progress=progress)
    except (Problem, OSError) as problem:
        progress(f"small files were not merged: {getattr(problem, 'strerror', None) or problem}")


def is_due(settings: Settings, now: datetime | None = None) -> bool:
    """Return whether there is anything to do."""
    if next(_closing(settings, now or database.now()), None) is not None:
        return True
    if next(planned(settings, (*_VIEWS, "suspense")), None) is not None:
        return True
    with database.reading(settings) as connection:
        return bool(_foldable(connection))


# -- what is merged ----------------------------------------------------------------------------------------------------


def planned(settings: Settings, views: Sequence[str]) -> Iterator[Merge]:
    """Yield what is to be merged now, partition by partition."""
    for view in views:
        limits = _limits(settings, view)
        with database.reading(settings) as connection:
            leave = _spoken_for(connection) | _waiting(connection)
            crowded = _crowded(connection, view, limits)
        for tenant, part in crowded:
            with database.reading(settings) as connection:
                files = ledger.files(connection, view=view, tenant=tenant, parts=[part])
            yield from merges(files, limits, {file.file_id for file in files if _is_left(file, leave)})


def _closing(settings: Settings, now: datetime) -> Iterator[tuple[ClosedDate, list[DataFile]]]:
    """Yield dates that are to close now, and the data files that their parts have."""
    with database.reading(settings) as connection:
        leave = _spoken_for(connection) | _waiting(connection)
        dates = closing.due(connection, settings, now)
    for tenant, part in dates:
        with database.reading(settings) as connection:
            files = closing.parts_of(connection, tenant, part)
        if not any(_is_left(file, leave) for file in files):
            yield ClosedDate(tenant, part, len(files), sum(file.rows for file in files)), files


def _limits(settings: Settings, view: str) -> Limits:
    most = int(settings.lake.compact_mebibytes * (1 << 20))
    return Limits(min(most, _ARCHIVE_BYTES) if view == "archive" else most, settings.lake.compact_files)


def _crowded(connection: Connection, view: str, limits: Limits) -> list[tuple[str, str]]:
    """Return partitions (tenant, part) of a view that have so many small files that some may be merged."""
    f = lake_files.c
    query = (
        select(f.tenant, f.part)
        .where(f.view == view, f.superseded_at.is_(None), f.bytes < limits.bytes)
        .group_by(f.tenant, f.part)
        .having(func.count() >= limits.files)
        .order_by(f.tenant, f.part)
    )
    return [(row.tenant, row.part) for row in connection.execute(query)]


def _spoken_for(connection: Connection) -> set[str]:
    """Return files of purges under way, and the runs of these: what they wrote may yet be undone."""
    d = disposals.c
    begun = (d.reason == DisposalReason.PURGE) & d.status.in_(_UNDER_WAY)
    items = select(disposal_items.c.file_id).join(disposals, d.disposal_id == disposal_items.c.disposal_id)
    named = connection.execute(items.where(begun)).scalars()
    runs_of = connection.execute(select(d.run_id).where(begun, d.run_id.is_not(None))).scalars()
    return {*named, *runs_of}


def _waiting(connection: Connection) -> set[str]:
    """Return files of a purge's plan that waits for a person: it would be another plan if they were merged."""
    plans = record.in_states(connection, DisposalReason.PURGE, [Status.PLANNED])
    return {item[_FILE_ID] for plan in plans for item in plan.facts["items"]}


def _is_left(file: DataFile, leave: Collection[str]) -> bool:
    return file.file_id in leave or file.file_id.partition("-")[0] in leave


# -- the work ----------------------------------------------------------------------------------------------------------


class _Compaction:
    """One run at work."""

    def __init__(self, settings: Settings, run_id: str, done: Compacted, now: datetime, progress: Progress) -> None:
        self._settings, self._run_id, self._done, self._progress = settings, run_id, done, progress
        self._now = now

    def run(self) -> None:
        remove_orphans(self._settings)
        self._close()
        self._merge(_VIEWS, self._run_id)
        self._suspense()
        self._done.entries_folded = fold_entries(self._settings)

    def _close(self) -> None:
        """Close dates. One that cannot be closed is named, and holds up nothing else."""
        refused = self._done.refused
        for date, before in _closing(self._settings, self._now):
            self._progress(f"{date.tenant} {date.part} closes: {date.files} files of assurance")
            files = open_files(self._settings, ROLE, "close", self._run_id)
            try:
                self._done.closed.append(closing.close_date(files, date.tenant, date.part, before))
            except (CommitConflict, FileNotFoundError):
                self._done.refused += 1
            except Problem as problem:
                self._done.not_closed.append(f"{date.tenant} {date.part} was not closed: {problem}")
                self._progress(self._done.not_closed[-1])
        if self._done.refused > refused:
            remove_orphans(self._settings, over={self._run_id})

    def _suspense(self) -> None:
        """Merge suspense under the lease that recycling takes: it holds on to the logs that it has begun to read."""
        if next(planned(self._settings, ["suspense"]), None) is None:
            return
        try:
            with runs.running(self._settings, "compact", ["suspense"]) as run_id:
                self._merge(["suspense"], run_id)
                runs.finish(self._settings, run_id, "done")
        except Problem as problem:
            self._progress(f"suspense is left for the next time: {problem}")

    def _merge(self, views: Sequence[str], run_id: str) -> None:
        refused = 0
        for merge in planned(self._settings, views):
            file = merge.first
            self._progress(f"{file.view} {file.tenant} {file.part}: {len(merge.files)} files")
            try:
                files = open_files(self._settings, ROLE, "compact", run_id)  # new each time: it keeps what it has read
                _WAYS[file.view](files, merge)
                self._done.merged.append(merge.summary())
            except (CommitConflict, FileNotFoundError):
                refused += 1
        self._done.refused += refused
        if refused:
            remove_orphans(self._settings, over={run_id})


def _merge_view(files: DataFiles, merge: Merge) -> None:
    """Put rows of a view into one data file. One of them is open at a time."""
    _swap(files, merge, _written(files, merge))


def _written(files: DataFiles, merge: Merge) -> DataFile:
    first = merge.first
    rows = together(first.view, map(files.rows, merge.files))
    with database.reading(files.workspace.settings) as connection:
        inputs = ledger.inputs(connection, [file.file_id for file in merge.files])
    place = first.view, first.tenant, first.part
    shard = first.shard_bits, first.shard, first.received_on
    return files.write_view(*place, rows, inputs, *shard, closed=first.closed)


def _swap(
    files: DataFiles, merge: Merge, merged_file: DataFile, also: Callable[[Connection], None] = lambda connection: None
) -> None:
    """Name a file and let those it was made of count no more, and `also` what goes with it.

    Raises CommitConflict when one of them does not count any more.
    """
    with database.writing(files.workspace.settings) as connection:
        point("compact-begun")
        _check_untouched(connection, merge)
        runs.renew(connection, files.run_id)
        ledger.swap_files(connection, files.run_id, _outcome(merge, merged_file))
        also(connection)
        point("compact-ready")
    point("compact-committed")


def _outcome(merge: Merge, merged_file: DataFile) -> Changes:
    return Changes(files=[merged_file], superseded={file.file_id: (file.tenant, file.part) for file in merge.files})


def _check_untouched(connection: Connection, merge: Merge) -> None:
    """Raise CommitConflict when a purge has begun with one of the files meanwhile."""
    leave = _spoken_for(connection)
    if any(_is_left(file, leave) for file in merge.files):
        raise CommitConflict


def _merge_archive(files: DataFiles, merge: Merge) -> None:
    """Put archived blocks one behind the other in one file; the ledger then says where each begins in it."""
    first, moved = merge.first, _blocks_of(files.workspace.settings, merge)
    merged_file, begins = files.merge_archive(first.tenant, merge.files, first.part)
    merged_file = replace(merged_file, rows=merge.rows, received_on=first.received_on)
    starts = {file.file_id: at for file, at in zip(merge.files, begins, strict=True)}
    _swap(files, merge, merged_file, lambda connection: _move_blocks(connection, moved, merged_file.file_id, starts))


def _blocks_of(settings: Settings, merge: Merge) -> list[Any]:
    """Return where the blocks in these files begin.

    Asked before the lock is taken, as a block is noted with its file.
    """
    rows: list[Any] = []
    b = blocks.c
    with database.reading(settings) as connection:
        for batch in database.batches(file.file_id for file in merge.files):
            query = select(b.file_no, b.block, b.archive_file, b.archive_first).where(b.archive_file.in_(batch))
            rows += connection.execute(query).all()
    return rows


def _move_blocks(connection: Connection, moved: Sequence[Any], file_id: str, starts: Mapping[str, int]) -> None:
    """Note where blocks lie now. Raises CommitConflict when a block has been archived elsewhere meanwhile."""
    b = blocks.c
    here = (
        (b.file_no == bindparam("b_of")) & (b.block == bindparam("b_number")) & (b.archive_file == bindparam("b_old"))
    )
    statement = update(blocks).where(here).values(archive_file=file_id, archive_first=bindparam("b_first"))
    for row in moved:
        first = starts[row.archive_file] + (row.archive_first or 0)
        place = {"b_of": row.file_no, "b_number": row.block, "b_old": row.archive_file, "b_first": first}
        if connection.execute(statement, place).rowcount != 1:
            raise CommitConflict


def _merge_suspense(files: DataFiles, merge: Merge) -> None:
    """Put suspense logs of one month's key into one. Their version rises: whoever has read them reads again."""
    settings, first = files.workspace.settings, merge.first
    with database.reading(settings) as connection:
        month = connection.execute(select(keys.c.month).where(keys.c.key_id == first.key_ids)).scalar_one()
        read = ledger.versions(connection, first.tenant, [first.part])
    log = pa.concat_tables([SUSPENSE.empty_table(), *(files.read_log(file) for file in merge.files)])
    merged_file = files.write_log("suspense", first.tenant, log, month=month)
    outcome = replace(_outcome(merge, merged_file), read=read)
    with database.writing(settings) as connection:
        point("compact-begun")
        _check_untouched(connection, merge)
        ledger.commit(connection, files.run_id, 0, outcome)
        point("compact-ready")
    point("compact-committed")


_WAYS: Final[Mapping[str, Callable[[DataFiles, Merge], None]]] = {
    **dict.fromkeys(STORED, _merge_view),
    "archive": _merge_archive,
    "suspense": _merge_suspense,
}


# -- ledger entries ----------------------------------------------------------------------------------------------------

_e = ledger_entries.c
_ENTRY: Final = (_e.run_id, _e.file_no, _e.bucket, _e.code)


def fold_entries(settings: Settings) -> int:
    """Put entries of a stream for the same file, bucket and code into one with their sum.

    Returns how many went.
    """
    folded = 0
    with database.reading(settings) as connection:
        file_nos = _foldable(connection)
    for first in range(0, len(file_nos), _FOLDED):
        with database.writing(settings) as connection:
            folded += _fold(connection, file_nos[first : first + _FOLDED])
            point("compact-folded")
    return folded


def _foldable(connection: Connection) -> list[int]:
    """Return input files of which a stream has entries that are alike."""
    alike = _of_streams(select(_e.file_no)).group_by(*_ENTRY).having(func.count() > 1)
    return sorted(set(connection.execute(alike).scalars()))


def _of_streams(query: Any) -> Any:
    return query.where(_e.run_id.in_(select(runs_table.c.run_id).where(runs_table.c.kind == STREAM)))


def _fold(connection: Connection, file_nos: Sequence[int]) -> int:
    sums = func.count().label("entries"), func.sum(_e.rows).label("rows"), func.sum(_e.talk_ms).label("talk_ms")
    query = _of_streams(select(*_ENTRY, *sums)).where(_e.file_no.in_(file_nos)).group_by(*_ENTRY)
    alike = connection.execute(query.having(func.count() > 1)).all()
    names = [column.name for column in _ENTRY]
    for row in alike:
        same = [column == getattr(row, column.name) for column in _ENTRY]
        connection.execute(delete(ledger_entries).where(*same))
        if row.rows or row.talk_ms:
            kept = {name: getattr(row, name) for name in names}
            amounts = {"rows": int(row.rows), "talk_ms": int(row.talk_ms)}
            connection.execute(insert(ledger_entries).values(wave=0, **kept, **amounts))
    return sum(row.entries - bool(row.rows or row.talk_ms) for row in alike)
