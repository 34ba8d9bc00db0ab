"""Keep pending logs short: pieces past their horizon become PARTIAL, and a log becomes one file."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward import database
from callward.columns import flat, set_column, words
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.conflicts import ConflictsPersist, retry_on_conflict
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.settings import Settings
from callward.workspace import Workspace
from pipelines.vacuum import remove_superseded
from schemas.codes import Bucket, Suspense
from schemas.suspense import PENDING
from transforms.assemble import CLOSED, PARTIAL, WAITING, pending_log

_TRIES = 5  # a log can wait for the next run


def expire_pending(settings: Settings, workspace: Workspace, run_id: str, now_ms: int) -> int:
    """Bring every tenant's pending log up to date, each in a commit of its own; return how many commits were refused.

    A log that others commit to all the time stays as it is until the next run.
    """
    aging = _Aging(DataFiles(workspace, run_id), _horizons(settings, workspace), now_ms)
    conflicts: list[str] = []
    for number, tenant in enumerate(settings.tenants):
        with suppress(ConflictsPersist):
            update, note = partial(aging.update, tenant, -2 - number), partial(conflicts.append, tenant)
            retry_on_conflict(update, tries=_TRIES, on_conflict=note)
    point("pending-tidied")
    remove_superseded(settings, run_id)
    return len(conflicts)


def _horizons(settings: Settings, workspace: Workspace) -> dict[str, float]:
    """Return for how many milliseconds a piece of a call waits for the others, by source."""
    return {
        source.name: (source.horizon_hours or pieces.horizon_hours) * 3_600_000
        for source in settings.sources
        if (pieces := workspace.declaration(source).pieces) is not None
    }


def age(log: pa.Table, horizons: dict[str, float], now_ms: int) -> tuple[pa.Table, pa.Table]:
    """Return the pending log as it should be kept, and the pieces that have just become PARTIAL.

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


@dataclass(frozen=True)
class _Aging:
    """Pending logs as they should be kept at a moment."""

    files: DataFiles
    horizons: dict[str, float]
    now_ms: int

    def update(self, tenant: str, wave: int, attempt: int) -> None:
        """Write a tenant's pending log as one file without what is past its horizon.

        Raises CommitConflict when another run paired from it meanwhile.
        """
        log, version = pending_log(self.files, tenant)
        if not log.num_rows and version == 0:
            return
        with database.reading(self.files.workspace.settings) as connection:
            logs = ledger.files(connection, view="pending", tenant=tenant)
        kept, overdue = age(log, self.horizons, self.now_ms)
        if len(logs) <= 1 and not overdue.num_rows and kept.num_rows == log.num_rows:
            return
        changes = Changes(
            read={(tenant, ledger.PENDING): version},
            superseded={file.file_id: (file.tenant, file.part) for file in logs},
        )
        changes.entries += ledger.entries(overdue, Bucket.SUSPENDED, str(Suspense.PARTIAL))
        if kept.num_rows:
            changes.files.append(self.files.write_log("pending", tenant, kept.select(PENDING.names)))
        with database.writing(self.files.workspace.settings) as connection:
            ledger.commit(connection, self.files.run_id, wave, changes)
