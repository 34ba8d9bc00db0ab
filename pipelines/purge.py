"""purge: what is past its window goes, what is held stays, and a certificate says so. Killed anywhere, run it again.

Two phases: data files are tombstoned, so that every read refuses them; then they are removed and their keys destroyed.
Where whole partitions go no row is read, and Beam is not even imported.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final

from sqlalchemy import func, select

from callward import database, runs, workspace_id
from callward.access.second_person import Consent
from callward.disposal import completion, record
from callward.disposal import purge as purge_disposal
from callward.disposal.purge import PurgeParticulars, Written
from callward.disposal.record import Status
from callward.errors import Problem, UsageProblem
from callward.evidence import certificates
from callward.keys import approvers, roots
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import CommitConflict
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy.register import Policy
from callward.retention.purge import plan as purge_plan
from callward.retention.purge import safety_check
from callward.retention.purge.due_files import Governance
from callward.retention.purge.plan import Plan
from callward.retention.requests import restrictions
from callward.settings import Settings
from pipelines.release import before_expiry
from pipelines.reports.purge import PurgeReport
from pipelines.vacuum import remove_orphans
from schemas.tables import audit_log

ROLE: Final = record.ROLE
_CONFLICTS: Final = "nights or holds changed what was planned again and again; nothing more was purged, run it again"
_DRY_RUN: Final = "dry run"
Progress = Callable[[str], None]


def purge(
    settings: Settings,
    as_of: date,
    *,
    dry_run: bool = False,
    candidates: Mapping[str, Policy] | None = None,
    consent: Consent | None = None,
    today: date | None = None,
    progress: Progress = lambda line: None,
    only: str | None = None,
) -> PurgeReport:
    """Enforce retention as of a day; returns what was done, or what waits for a person.

    `only`: of one tenant alone (one that leaves), with nothing that is shared.
    `candidates` (tenant → policy) are tried in a dry run only. Raises UsageProblem for a day to come, Problem where
    the holds cannot be read or the lake is not as the manifest says: then nothing is purged.
    """
    workspace_id.check(settings)
    today = today or database.now().date()
    _check_days(settings, as_of, today)
    if dry_run:
        return _tried(settings, as_of, today, candidates)
    if candidates:
        raise UsageProblem("a policy that is not in force is tried with --dry-run; 'callward policy propose' begins it")
    with runs.running(settings, "purge", ["purge"]) as run_id:
        done = _Purge(settings, as_of, today, run_id, consent, progress, only).run()
        runs.finish(settings, run_id, "done", done.to_dict())
    restrictions.mark(settings)
    return done


def _check_days(settings: Settings, as_of: date, today: date) -> None:
    """Never before its time: neither by a day to come nor by a clock that is wrong."""
    if as_of > today:
        raise UsageProblem(f"--as-of {as_of} is in the future: nothing is purged before its time")
    with database.reading(settings) as connection:
        newest = connection.execute(select(func.max(audit_log.c.at))).scalar()
    if newest is not None and newest.date() > today:
        raise Problem(f"the clock says {today}, but the audit log has an entry of {newest.date()}; nothing was purged")


def _files(settings: Settings, run_id: str) -> DataFiles:
    """Open a workspace of its own for each purge: settings and keys as they are now."""
    return open_files(settings, ROLE, f"purge, run {run_id}", run_id)


# -- a dry run ---------------------------------------------------------------------------------------------------------


def _tried(settings: Settings, as_of: date, today: date, candidates: Mapping[str, Policy] | None) -> PurgeReport:
    files = _files(settings, runs.new_id())
    plan, seen, blocking = purge_plan.make(settings, files, as_of, today, candidates)
    with database.reading(settings) as connection:
        objections = _objections(settings, connection, plan, seen.law)
    effect = None
    if candidates:
        now, _, _ = purge_plan.make(settings, files, as_of, today)
        effect = purge_plan.effect(now, plan)
    report = _report(plan, None, _DRY_RUN, blocking, today)
    return replace(report, safety_check=objections, effect=effect)


def _report(plan: Plan, purge_id: str | None, status: str, blocking: Iterable[Hold], today: date) -> PurgeReport:
    """Return what a purge says of its plan; holds that are confidential are in no figure of their own."""
    return PurgeReport(
        purge_id=purge_id,
        plan_id=purge_id,
        plan_digest=plan.digest,
        as_of=plan.as_of,
        dry_run=status == _DRY_RUN,
        status=status,
        classes=plan.classes(),
        held=plan.held(),
        hold_warnings=holds.warned(holds.visible(blocking, holds.COMPLIANCE, today), today),
    )


# -- the safety check --------------------------------------------------------------------------------------------------


def _objections(settings: Settings, connection: Any, plan: Plan, law: Governance) -> list[str]:
    """Why a person must approve this plan; nothing where it may run by itself."""
    concerned = {
        policies.tenant: policies for tenant in plan.tenants if tenant != "_all" for policies in law.of(tenant)
    }
    objections = [
        f"the policy of tenant {tenant!r} was not activated by two persons"
        for tenant, policies in sorted(concerned.items())
        if not policies.two_people
    ]
    return objections + safety_check.objections(connection, law, plan.as_of, settings.thresholds.purge_deviation_pct)


# -- the run -----------------------------------------------------------------------------------------------------------


class _Purge:
    """One run: first what another one left, then its own plan."""

    def __init__(
        self,
        settings: Settings,
        as_of: date,
        today: date,
        run_id: str,
        consent: Consent | None,
        progress: Progress,
        only: str | None = None,
    ) -> None:
        self._settings, self._as_of, self._today, self._run_id = settings, as_of, today, run_id
        self._consent, self._progress, self._only = consent, progress, only
        self._files = _files(settings, run_id)
        self._unreleased: list[str] = []

    def run(self) -> PurgeReport:
        self._take_up()
        return retry_on_conflict(self._try, sentence=_CONFLICTS, on_conflict=self._clear)

    def _try(self, attempt: int) -> PurgeReport:
        """Plan, and carry the plan out unless it waits for a person.

        Raises CommitConflict when a hold or a night came between: then all is as it was.
        """
        plan, seen, blocking = purge_plan.make(self._settings, self._files, self._as_of, self._today, only=self._only)
        if not plan.changes:
            safety_check.note_forecast(self._settings, self._today)
            return _report(plan, None, Status.DONE, blocking, self._today)
        purge_id, objections = self._registered(plan, seen.law)
        if objections:
            return replace(_report(plan, purge_id, Status.PLANNED, blocking, self._today), safety_check=objections)
        self._phases(plan, purge_id, attempt)
        return self._concluded(_report(plan, purge_id, Status.DONE, blocking, self._today))

    def _clear(self) -> None:
        """Remove what a try left that met a conflict."""
        purge_disposal.abandon_unfinished(self._settings)
        remove_orphans(self._settings, over={self._run_id})

    def _take_up(self) -> None:
        """Take up what a killed run left: before its second phase a hold may still win, after that it goes on."""
        purge_disposal.abandon_unfinished(self._settings)
        with database.reading(self._settings) as connection:
            left = purge_disposal.under_way(connection)
        for begun in left:
            self._progress(f"purge {begun.disposal_id}: going on where it was stopped")
            if begun.status == Status.REMOVING or purge_disposal.begin_removal(self._settings, self._run_id, begun):
                self._finish(begun.disposal_id)
        remove_orphans(self._settings)

    def _registered(self, plan: Plan, law: Governance) -> tuple[str, list[str]]:
        """Return the plan's id, and why it must wait for a person."""
        purge_id = purge_disposal.register_plan(self._settings, plan, self._run_id)
        with database.reading(self._settings) as connection:
            objections = _objections(self._settings, connection, plan, law)
        if self._consent is not None:
            self._approved(plan, purge_id, self._consent)
            self._consent = None  # it is for this plan, and for none that takes its place while we are at work
        with database.reading(self._settings) as connection:
            by = sorted(approvers.approved_by(connection, "purge", plan.digest))
        if objections and not by:
            return purge_id, objections
        purge_disposal.approve(self._settings, plan, self._run_id, purge_id, by[0] if by else None)
        return purge_id, []

    def _approved(self, plan: Plan, purge_id: str, consent: Consent) -> None:
        if purge_id != consent.plan:
            raise Problem(
                f"plan {consent.plan} is not what would be done now: something has changed since; "
                f"look at plan {purge_id} and approve that"
            )
        approvers.approve(self._settings, "purge", plan.digest, consent.person, consent.key_file)

    def _phases(self, plan: Plan, purge_id: str, attempt: int) -> None:
        """Carry out both phases; raises CommitConflict when something else came first, and all is as it was."""
        _check_keys(self._settings, plan)
        self._unreleased = before_expiry(self._settings, plan.doing, self._progress)
        written = self._written(plan, purge_id, attempt)
        purge_disposal.tombstone(self._settings, plan, self._run_id, purge_id, written)
        with database.reading(self._settings) as connection:
            tombstoned = purge_disposal.find(connection, purge_id)
        assert tombstoned is not None
        if not purge_disposal.begin_removal(self._settings, self._run_id, tombstoned):
            raise CommitConflict
        self._finish(purge_id)

    def _written(self, plan: Plan, purge_id: str, attempt: int) -> Written:
        """One Beam batch writes what takes the place of files that do not go whole; none where all do."""
        if not plan.written:
            return Written()
        from pipelines.purge_batch import write

        self._progress("writing what stays of data files anew")
        reference = self._files.workspace.reference
        return write(self._settings, reference, plan, self._run_id, purge_id, attempt, self._today)

    # -- from the second phase on: only forward ---------------------------------------------------------------------

    def _finish(self, purge_id: str) -> None:
        with database.reading(self._settings) as connection:
            begun = purge_disposal.find(connection, purge_id)
        assert begun is not None
        self._progress(f"purge {purge_id}: removing")
        completion.complete(self._settings, begun, PurgeParticulars(), self._run_id, self._today)
        safety_check.note_forecast(self._settings, self._today)

    def _concluded(self, report: PurgeReport) -> PurgeReport:
        """Return the report with how it ended: the certificate, its checks that failed, what is due all the same."""
        with database.reading(self._settings) as connection:
            ended = purge_disposal.find(connection, str(report.purge_id))
        assert ended is not None and ended.certificate_id is not None
        certificate = certificates.read(self._settings, ended.certificate_id)
        left, _, _ = purge_plan.make(self._settings, self._files, self._as_of, self._today, only=self._only)
        checks = certificate.body["verification"]["checks"]
        return replace(
            report,
            status=ended.status,
            certificate=ended.certificate_id,
            failed_checks=[check["sentence"] for check in checks if not check["ok"]],
            overdue=sum(item.rows for item in left.doing),
            hold_warnings=[*report.hold_warnings, *self._unreleased],
        )


def _check_keys(settings: Settings, plan: Plan) -> None:
    """Raise Problem, before anything is changed, where keys could not be destroyed or the certificate not signed."""
    completion.check(settings)
    with database.reading(settings) as connection:
        for domain in sorted({key.domain for key, _ in plan.keys}):
            roots.open_root(settings, domain, roots.active(connection, settings, domain).root_id).close()


def waiting(settings: Settings, purge_id: str) -> date:
    """Return the day that a plan which waits for a person is for; raises UsageProblem where none of that id waits."""
    with database.reading(settings) as connection:
        plan = purge_disposal.find(connection, purge_id)
    if plan is None or plan.status != Status.PLANNED:
        raise UsageProblem(f"no plan {purge_id!r} waits for an approval; 'callward purge' makes one")
    return plan.as_of
