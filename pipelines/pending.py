"""Tidy: superseded files leave the disk, pieces past their horizon become PARTIAL, the pending log is made one file."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward import database
from callward.columns import flat, set_column, words
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, CommitConflict
from callward.settings import Settings
from callward.workspace import Workspace
from pipelines.vacuum import remove_superseded
from schemas.codes import Bucket, Suspense
from schemas.suspense import PENDING
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
