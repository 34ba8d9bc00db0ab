"""Orphans: data files that a run wrote and no commit named. Only runs that are over leave any.

On a cluster a worker that was given up may write for a while after its run has ended, well or not: there every run with
workers is looked at until it has been over for an hour.
"""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select, update

from callward import database, runs
from callward.accounts.register import on_disk
from callward.failpoints import point
from callward.lake import ledger, readers
from callward.lake.removal import removing
from callward.retention.requests import restrictions
from callward.settings import Settings
from callward.storage.store import Store
from pipelines.engine import flink
from schemas.tables import lake_files
from schemas.tables import runs as runs_table

_LATE: Final = timedelta(hours=1)
# Kinds that write by their own process alone. A stream's maintenance has them all the time, and who looks for orphans
# lists the whole lake.
_WITHOUT_WORKERS: Final = ("compact", restrictions.RUN, "return", "close")
_r = runs_table.c


def remove_orphans(settings: Settings, over: Collection[str] | None = None) -> int:
    """Remove what runs that are over (or those given) left in the lake; return how many files."""
    late = timedelta() if flink.is_local(settings) else _LATE
    with database.reading(settings) as connection:
        over_runs = set(over) if over is not None else _ended(connection, late)
        named = select(lake_files.c.file_id).where(lake_files.c.run_id.in_(over_runs))
        known = set(connection.execute(named).scalars()) if over_runs else set()
        known.update(map(_file_id, on_disk(connection)))
    if not over_runs:
        return 0
    store, removed = Store.of(settings), 0
    orphans = (file.path for file in store.list() if _is_orphan(_file_id(file.path), over_runs, known))
    for batch in store.removing(orphans):
        removed += len(batch)
        point("orphan-removed")
    if over is None:
        with database.writing(settings) as connection:
            _note(connection, over_runs, late)
    return removed


def _note(connection: Connection, over_runs: Collection[str], late: timedelta) -> None:
    """Note which runs need not be looked at again. One that was killed is over from when that was first seen."""
    now = database.now()
    of_runs = _r.run_id.in_(over_runs)
    connection.execute(update(runs_table).where(of_runs).values(finished_at=func.coalesce(_r.finished_at, now)))
    connection.execute(update(runs_table).where(of_runs, _r.finished_at <= now - late).values(swept_at=now))


def _file_id(path: str) -> str:
    """Return the data file that a file of the lake is, or lies beside, or was to become."""
    return path.rpartition("/")[2].lstrip(".").split(".", 1)[0]


def _is_orphan(file_id: str, over_runs: Collection[str], known: Collection[str]) -> bool:
    return file_id.split("-", 1)[0] in over_runs and file_id not in known


def _ended(connection: Connection, late: timedelta) -> set[str]:
    """Return runs that are not alive and may have left something.

    Where nobody writes late, those that did not end well.
    """
    suspect = _r.status != "done"
    if late:
        suspect |= _r.kind.not_in(_WITHOUT_WORKERS)
    query = select(_r.run_id).where(suspect, _r.swept_at.is_(None))
    return set(connection.execute(query).scalars()) - runs.living(connection)


def remove_superseded(settings: Settings, run_id: str) -> None:
    """Delete data files that were replaced longer ago than the grace for queries that have begun.

    A run that began while a file still counted may be about to open it, and a reader may read it: such files wait for
    the next time. The register keeps what they were.
    """
    before = database.now() - timedelta(minutes=settings.lake.grace_minutes)
    with database.reading(settings) as connection:
        until = min([before, *_began(connection, run_id)])
        on_disk = (lake_files.c.superseded_at <= until) & lake_files.c.removed_at.is_(None)
        replaced = connection.execute(select(lake_files.c.file_id, lake_files.c.path).where(on_disk)).all()
    for _ in removing(settings, [row.path for row in replaced]):
        point("superseded-removed")
    if replaced:
        with database.writing(settings) as connection:
            ledger.note_removed(connection, [row.file_id for row in replaced])
            readers.forget_dead(connection)


def _began(connection: Connection, run_id: str) -> Iterator[datetime]:
    """Yield when the other runs and the readers at work began, of each kind the one that has been at it for longest.

    A stream lives for weeks and asks which files count at each flush: the grace is enough for it.
    """
    others = runs.living(connection) - {run_id}
    r = runs_table.c
    oldest = select(func.min(r.started_at)).where(r.run_id.in_(others), r.kind != "stream")
    yield from filter(None, (connection.execute(oldest).scalar(), readers.oldest(connection)))
