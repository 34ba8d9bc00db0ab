"""Tidy: superseded files leave the disk, pieces past their horizon become PARTIAL, the pending log is made one file."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, func, select, update

from callward import database, runs
from callward.columns import flat, set_column, words
from callward.failpoints import point
from callward.lake import ledger, readers
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, CommitConflict
from callward.settings import Settings
from callward.storage.store import Store
from callward.workspace import Workspace
from schemas.codes import Bucket, Suspense
from schemas.suspense import PENDING
from schemas.tables import lake_files
from schemas.tables import runs as runs_table
from transforms.assemble import CLOSED, PARTIAL, WAITING, pending_log

_TRIES = 5


def expire_pending(settings: Settings, workspace: Workspace, run_id: str, now_ms: int) -> int:
    """Bring every tenant's pending log up to date, each in a commit of its own; returns how many were refused."""
    refused = 0
    files = DataFiles(workspace, run_id)
    horizons = {
        source.name: (source.horizon_hours or pieces.horizon_hours) * 3_600_000
        for source in settings.sources
        if (pieces := workspace.declaration(source).pieces) is not None
    }
    for number, tenant in enumerate(settings.tenants):
        for _ in range(_TRIES):
            try:
                _tidy(settings, files, run_id, -2 - number, tenant, horizons, now_ms)
                break
            except CommitConflict:  # another run paired meanwhile: look again
                refused += 1
    point("pending-tidied")
    remove_superseded(settings, run_id)
    return refused


def age(log: pa.Table, horizons: dict[str, float], now_ms: int) -> tuple[pa.Table, pa.Table]:
    """The pending log as it should be kept, and the pieces that have just become PARTIAL.

    Waiting pieces past their source's horizon are partial from now on, and may still be closed by a later one; what
    is remembered of closed calls is forgotten then.
    """
    limit = pa.array([horizons.get(name, 0.0) for name in log["source"].to_pylist()], pa.float64())
    waited = now_ms - words(log["seen"]).view(np.int64)
    past = waited > flat(limit).to_numpy(zero_copy_only=False)
    state = flat(log["state"]).to_numpy()
    expired = past & (state == WAITING)
    overdue = log.filter(pa.array(expired))
    log = set_column(log, "state", pa.array(np.where(expired, PARTIAL, state), pa.int8()))
    log = set_column(log, "was", pc.if_else(pa.array(expired), str(Suspense.PARTIAL), log["was"]))
    return log.filter(pa.array(~(past & (state == CLOSED)))), overdue


def _tidy(
    settings: Settings, files: DataFiles, run_id: str, wave: int, tenant: str, horizons: dict[str, float], now_ms: int
) -> None:
    log, version = pending_log(files, tenant)
    if not log.num_rows and version == 0:
        return
    with database.reading(settings) as connection:
        logs = ledger.files(connection, view="pending", tenant=tenant)
    kept, overdue = age(log, horizons, now_ms)
    if len(logs) <= 1 and not overdue.num_rows and kept.num_rows == log.num_rows:
        return
    outcome = Changes(
        read={(tenant, ledger.PENDING): version}, superseded={f.file_id: (f.tenant, f.part) for f in logs}
    )
    outcome.entries += ledger.entries(overdue, Bucket.SUSPENDED, str(Suspense.PARTIAL))
    if kept.num_rows:
        outcome.files.append(files.write_log("pending", tenant, kept.select(PENDING.names)))
    with database.writing(settings) as connection:
        ledger.commit(connection, run_id, wave, outcome)


def remove_superseded(settings: Settings, run_id: str) -> None:
    """Delete data files that were replaced longer ago than the grace for queries that have begun.

    A run that began while a file still counted may be about to open it, and a reader may read it: such files wait for
    the next time. The register keeps what they were.
    """
    before = database.now() - timedelta(minutes=settings.lake.grace_minutes)
    with database.reading(settings) as connection:
        until = min([before, *_began(connection, run_id)])
        replaced = (lake_files.c.superseded_at <= until) & lake_files.c.removed_at.is_(None)
        gone = connection.execute(select(lake_files.c.file_id, lake_files.c.path).where(replaced)).all()
    for _ in Store.of(settings).removing(row.path + suffix for row in gone for suffix in ("", ".ids", ".lin")):
        point("superseded-removed")
    if gone:
        with database.writing(settings) as connection:
            for some in database.batches(row.file_id for row in gone):
                removed = update(lake_files).where(lake_files.c.file_id.in_(some))
                connection.execute(removed.values(removed_at=database.now()))
            readers.forget_dead(connection)


def _began(connection: Connection, run_id: str) -> Iterator[datetime]:
    """When the other runs and the readers at work began, of each kind the one that has been at it for longest.

    A stream lives for weeks and asks which files count at each flush: the grace is enough for it.
    """
    others = runs.living(connection) - {run_id}
    r = runs_table.c
    oldest = select(func.min(r.started_at)).where(r.run_id.in_(others), r.kind != "stream")
    yield from filter(None, (connection.execute(oldest).scalar(), readers.oldest(connection)))
