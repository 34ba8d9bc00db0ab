"""close: open records of suspense given up by somebody who says why. The ledger has them as written off from then on.

Their content stays until its window ends, and a delivery that brings them again brings duplicates. A piece of a call
that was written off still completes its call when the rest of it comes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, update

from callward import audit, database, identity, runs, workspace_id
from callward.columns import flat, set_column
from callward.errors import Problem, UsageProblem
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, counted_rows, open_files, seen_days
from callward.lake.ledger import Changes, CommitConflict, DataFile
from callward.redaction import recorded
from callward.retention import holds
from callward.settings import Settings
from pipelines.corrections.correction import require_no_purge
from pipelines.results import to_document
from pipelines.suspense.records import Chosen, check_codes
from pipelines.vacuum import remove_orphans
from schemas.codes import Bucket, Suspense
from schemas.suspense import SUSPENSE
from schemas.tables import runs as runs_table
from transforms.assemble import pending_log
from transforms.suspend import known_suspense

ROLE: Final = "billing-run"
EVENT: Final = "suspense close"
_LOGS: Final = ("suspense", "pending")
_CODES: Final = [str(code) for code in Suspense if code is not Suspense.HELD]
_SUMMED: Final = pa.schema([("source", pa.string()), ("code", pa.string()), ("carried_ms", pa.int64())])


@dataclass(frozen=True)
class WrittenOff:
    """How many records of a source were in suspense with a code until they were written off, and their talk."""

    source: str
    code: str
    records: int
    talk_ms: int


@dataclass(frozen=True)
class Closing:
    """What was written off, or would be: by whom, and why."""

    run_id: str
    dry_run: bool
    who: str
    reason: str
    records: list[WrittenOff]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `callward suspense close --json`."""
        document: dict[str, Any] = to_document(self)
        return document


def close(
    settings: Settings,
    reason: str,
    codes: Sequence[str] = (),
    only: Sequence[str] = (),
    named: Sequence[str] = (),
    *,
    dry_run: bool = False,
) -> Closing:
    """Write open records off, all in one commit: those with any of the codes, of any of the sources and files.

    `named`: files by number, id, or name below the landing folder. Raises UsageProblem for a reason that cannot be
    recorded, for an unknown code or source and where nothing says which records; Problem for versions that are held,
    for records under hold and while a purge is under way.
    """
    reason, codes = recorded("--reason", reason), check_codes(list(codes))
    if not (codes or only or named):
        raise UsageProblem("say which records are to be written off: --code, --source or --file")
    if Suspense.HELD in codes:
        raise Problem(
            "HELD is not written off: 'callward suspense choose FILE_NO' chooses a version, the others can be"
        )
    workspace_id.check(settings)
    chosen = Chosen.of(settings, codes or _CODES, only, named, EVENT)
    with runs.running(settings, "write-off", ["suspense"]) as run_id:
        files = open_files(settings, ROLE, EVENT, run_id)
        records = retry_on_conflict(
            lambda _: _Closing(DataFiles(files.workspace, run_id), chosen, reason, dry_run).commit(),
            also=(FileNotFoundError,),
            on_conflict=lambda: remove_orphans(settings, over={run_id}),
        )
        closing = Closing(run_id, dry_run, identity.who(), reason, records)
        runs.finish(settings, run_id, "done", closing.to_dict())
    return closing


@dataclass(frozen=True)
class _Closing:
    """One try to write records off."""

    files: DataFiles
    chosen: Chosen
    reason: str
    dry_run: bool

    def commit(self) -> list[WrittenOff]:
        """Write the chosen records off. Raises CommitConflict and FileNotFoundError where another run came first."""
        settings, run_id = self.files.workspace.settings, self.files.run_id
        with database.reading(settings) as connection:
            require_no_purge(connection)
            held = holds.fingerprint(connection)
            tenants = {log.tenant for kind in _LOGS for log in ledger.files(connection, view=kind)}
        done = [of(tenant) for tenant in sorted(tenants) for of in (self._of_suspense, self._of_pending)]
        _require_no_hold(settings, [(tenant, rows) for tenant, rows, _ in done])
        records = _summed([rows for _, rows, _ in done])
        if self.dry_run or not records:
            return records
        with database.writing(settings) as connection:
            require_no_purge(connection)
            if holds.fingerprint(connection) != held:
                raise CommitConflict
            ledger.commit(connection, run_id, 0, Changes.merge([changes for _, _, changes in done]))
            self._note(connection, records)
            point("write-off-ready")
        point("write-off-committed")
        return records

    def _of_suspense(self, tenant: str) -> tuple[str, pa.Table, Changes]:
        """Return a tenant's records of the suspense log that are meant, and the log in which they are closed."""
        logs, version = known_suspense(self.files, tenant)
        changes, closed = Changes(), [SUSPENSE.empty_table()]
        for log in logs:
            rows = self.files.read_log(log)
            meant = pc.and_(flat(rows["open"]), self.chosen.among(rows, "code"))
            if pc.any(meant).as_py():
                closed.append(rows.filter(meant))
                rows = set_column(rows, "open", pc.and_not(flat(rows["open"]), meant))
                changes.read = {(tenant, ledger.SUSPENSE): version}
                self._write_anew([log], "suspense", _written_off(rows, meant), changes)
        records = pa.concat_tables(closed)
        changes.entries += ledger.entries(records, Bucket.WRITTEN_OFF)
        return tenant, records, changes

    def _of_pending(self, tenant: str) -> tuple[str, pa.Table, Changes]:
        """Return a tenant's suspended pieces of calls that are meant, and the pending log in which they are so."""
        log, version = pending_log(self.files, tenant)
        meant = pc.and_(flat(counted_rows("pending", log)), self.chosen.among(log, "was"))
        pieces, changes = log.filter(meant), Changes()
        if pieces.num_rows:
            changes.read = {(tenant, ledger.PENDING): version}
            logs = self.files.committed("pending", tenant, [ledger.PENDING])
            self._write_anew(logs, "pending", _written_off(log, meant), changes)
            changes.entries += ledger.entries(pieces, Bucket.WRITTEN_OFF)
        return tenant, pieces.append_column("code", pieces["was"]), changes

    def _write_anew(self, logs: Sequence[DataFile], kind: str, rows: pa.Table, changes: Changes) -> None:
        changes.superseded |= {log.file_id: (log.tenant, log.part) for log in logs}
        if not self.dry_run:
            changes.files.append(self.files.write_log(kind, logs[0].tenant, rows))

    def _note(self, connection: Connection, records: Sequence[WrittenOff]) -> None:
        """Note who gave the records up, and why, in the same transaction."""
        run_id, why = self.files.run_id, {"who": identity.who(), "reason": self.reason}
        connection.execute(update(runs_table).where(runs_table.c.run_id == run_id).values(summary=json.dumps(why)))
        said = [f"{run_id} {of.source} {of.code} {of.records} records" for of in records]
        audit.append(connection, [audit.Entry(ROLE, EVENT, subject, self.reason) for subject in said])


def _written_off(rows: pa.Table, meant: pa.Array) -> pa.Table:
    return set_column(rows, "was", pc.if_else(meant, str(Bucket.WRITTEN_OFF), flat(rows["was"])))


def _require_no_hold(settings: Settings, chosen: Sequence[tuple[str, pa.Table]]) -> None:
    """Raise Problem where a hold keeps any of a tenant's records: what came in on a day may be of any call before."""
    found = holds.opened(settings)
    days = {(tenant, day) for tenant, rows in chosen for day in seen_days(rows).unique().to_pylist()}
    keeping = [hold for tenant, day in days for hold in holds.receiving(found, tenant, day)]
    if keeping:
        raise holds.kept_by(keeping)


def _summed(tables: Sequence[pa.Table]) -> list[WrittenOff]:
    """Return rows of sealed logs added up by source and code."""
    talk = [table.select(["source", "code", "carried_ms"]).cast(_SUMMED) for table in tables]
    sums = pa.concat_tables([_SUMMED.empty_table(), *talk]).group_by(["source", "code"])
    rows = sums.aggregate([([], "count_all"), ("carried_ms", "sum")]).to_pylist()
    found = [WrittenOff(row["source"], row["code"], row["count_all"], row["carried_ms_sum"] or 0) for row in rows]
    return sorted(found, key=lambda of: (of.source, of.code))
