"""Keep pending logs short: what is past its horizon ends with its last proof of life or is PARTIAL, in one file."""

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
from schemas.cdr import CDR
from schemas.codes import Bucket, Suspense
from schemas.suspense import PENDING
from transforms.assemble import Assembled, end_as_known, fold, pending_log, talk_rules
from transforms.combine import CLOSED, ESTIMATED, IMPOSSIBLE, PARTIAL, WAITING, runs_of_calls
from transforms.process_bucket import process_assembled

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


@dataclass(frozen=True)
class Aged:
    """A pending log as it should be kept, the pieces that have just become PARTIAL, and the calls that end now."""

    kept: pa.Table
    overdue: pa.Table
    ended: Assembled


def age(log: pa.Table, horizons: dict[str, float], talk_rules: dict[str, str], now_ms: int) -> Aged:
    """Return a folded pending log by the horizons of its sources: each begins with the last piece of a call.

    Of calls past it whose pieces wait, those that are known to have gone on after the answer end with the last piece
    that shows it; pieces of others are partial. Either may still be closed by a later piece. What is remembered of
    closed calls is forgotten then.
    """
    if not log.num_rows:
        return Aged(log, log, Assembled(CDR.empty_table()))
    limit = pa.array([horizons.get(name, 0.0) for name in log["source"].to_pylist()], pa.float64())
    starts, call = runs_of_calls(log)
    last_seen = np.maximum.reduceat(words(log["seen"]).view(np.int64), starts)[call]
    past = now_ms - last_seen > flat(limit).to_numpy(zero_copy_only=False)
    state = flat(log["state"]).to_numpy()
    ended, theirs = end_as_known(log, past & (state == WAITING), talk_rules)
    expired = past & (state == WAITING) & ~theirs
    overdue = log.filter(pa.array(expired))
    log = set_column(log, "state", pa.array(np.where(expired, PARTIAL, state), pa.int8()))
    log = set_column(log, "was", pc.if_else(pa.array(expired), str(Suspense.PARTIAL), log["was"]))
    open_to_change = (state == ESTIMATED) | (state == IMPOSSIBLE) | theirs
    goes_on = np.maximum.reduceat(open_to_change, starts)[call]
    kept = log.filter(pa.array(~(past & (state == CLOSED) & ~goes_on)))
    return Aged(fold(pa.concat_tables([kept, ended.pending])) if theirs.any() else kept, overdue, ended)


@dataclass(frozen=True)
class _Aging:
    """Pending logs as they should be kept at a moment."""

    files: DataFiles
    horizons: dict[str, float]
    now_ms: int

    def update(self, tenant: str, wave: int, attempt: int) -> None:
        """Write a tenant's pending log as one file without what is past its horizon, and the calls that end so.

        Raises CommitConflict when another run paired from it meanwhile.
        """
        log, version = pending_log(self.files, tenant)
        if not log.num_rows and version == 0:
            return
        with database.reading(self.files.workspace.settings) as connection:
            logs = ledger.files(connection, view="pending", tenant=tenant)
        aged = age(log, self.horizons, talk_rules(self.files.workspace), self.now_ms)
        ended = aged.ended.calls.num_rows
        if len(logs) <= 1 and not aged.overdue.num_rows and not ended and aged.kept.num_rows == log.num_rows:
            return
        changes = Changes(
            read={(tenant, ledger.PENDING): version},
            superseded={file.file_id: (file.tenant, file.part) for file in logs},
        )
        changes.entries += ledger.entries(aged.overdue, Bucket.SUSPENDED, str(Suspense.PARTIAL))
        if aged.kept.num_rows:
            changes.files.append(self.files.write_log("pending", tenant, aged.kept.select(PENDING.names)))
        if ended:
            files = DataFiles(self.files.workspace, self.files.run_id)  # it keeps what it read
            changes = Changes.merge([changes, *process_assembled(tenant, aged.ended, files, self.now_ms)])
        workspace = self.files.workspace
        changes = ledger.with_sealed_sums(changes, workspace.settings, workspace.keyring)
        with database.writing(workspace.settings) as connection:
            ledger.commit(connection, self.files.run_id, wave, changes)
