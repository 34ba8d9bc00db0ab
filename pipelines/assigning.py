"""assigning: billed calls of no account: which there are, and giving them theirs, each date in a commit of its own."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func, select

from callward import audit, database, runs, workspace_id
from callward.access import second_person
from callward.access.second_person import Consent
from callward.accounts.entries import UNASSIGNED
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.redaction import mask
from callward.retention.requests import restrictions
from callward.settings import Settings
from pipelines import terminal
from pipelines.results import Part, Result
from pipelines.vacuum import remove_orphans
from schemas.tables import billing_usage_daily, lake_files
from schemas.views import INDEX
from transforms.reassign import Reassigned, reassign, unassigned

ROLE = "billing-run"
_WAVE = -2_000_000  # of the ledger's: no other work of a run counts so far down


@dataclass(frozen=True)
class UnassignedCalls:
    """Billed calls of no account with one direction, trunk and shape of the number that would tell who pays: the called
    one of an inbound call, else the caller's, its digits masked."""

    tenant: str
    direction: str
    trunk: str
    number: str
    calls: int
    talk_ms: int
    first: str
    last: str


def listed(settings: Settings, tenant: str | None, start: date | None, end: date | None) -> list[UnassignedCalls]:
    """Return unassigned calls of dates from one to another, most first."""
    files = open_files(settings, ROLE, "unassigned calls")
    calls, talk, days = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), dict[tuple[str, ...], list[str]]()
    for of, part in _dates(settings, tenant, start, end):
        for found in unassigned(files, of, part):
            for direction, trunk, number, ms in _shapes(found.rows):
                key = of, direction, trunk, number
                calls[key] += 1
                talk[key] += ms
                days.setdefault(key, []).append(part)
    return [
        UnassignedCalls(key[0], key[1], key[2], key[3], count, talk[key], min(days[key]), max(days[key]))
        for key, count in calls.most_common()
    ]


def _shapes(rows: pa.Table) -> Iterator[tuple[str, str, str, int]]:
    inbound = pc.fill_null(pc.equal(rows["direction"].cast(pa.string()), "inbound"), False)
    caller = pc.coalesce(rows["asserted_number"], rows["calling_number"])
    number = pc.replace_substring_regex(pc.if_else(inbound, rows["called_number"], caller), "[0-9]", "#")
    columns = (rows["direction"], rows["ingress_trunk"], number, rows["talk_ms"])
    for direction, trunk, shape, ms in zip(*(column.to_pylist() for column in columns), strict=True):
        yield direction or "unknown", trunk or "unknown", mask(shape or "none"), ms or 0


def _dates(settings: Settings, tenant: str | None, start: date | None, end: date | None) -> Sequence[tuple[str, str]]:
    """Return (tenant, date) of partitions that have rows, of tenants that have usage of no account."""
    f, u = lake_files.c, billing_usage_daily.c
    lost = select(u.tenant).where(u.account == UNASSIGNED).distinct()
    query = select(f.tenant, f.part).where(f.view == INDEX, f.superseded_at.is_(None), f.tenant.in_(lost)).distinct()
    if tenant is not None:
        query = query.where(f.tenant == tenant)
    if start is not None:
        query = query.where(f.part >= start.isoformat())
    if end is not None:
        query = query.where(f.part <= end.isoformat())
    with database.reading(settings) as connection:
        rows = connection.execute(query.order_by(f.tenant, f.part)).all()
    return [(row.tenant, row.part) for row in rows if row.tenant in settings.tenants]


def _lost(settings: Settings) -> int:
    """Return how many calls of all tenants are of no account."""
    u = billing_usage_daily.c
    with database.reading(settings) as connection:
        return int(connection.execute(select(func.sum(u.calls)).where(u.account == UNASSIGNED)).scalar() or 0)


@dataclass(frozen=True)
class AssignedCalls:
    """Calls that an account gets; `unassigned`: those that nobody has still."""

    tenant: str
    account: str
    calls: int
    talk_ms: int


@dataclass(frozen=True)
class AssignReport(Result):
    """What was assigned, or would be."""

    accounts: Sequence[AssignedCalls]
    dry_run: bool

    def render(self) -> Iterator[Part]:
        if not self.accounts:
            yield "no call is unassigned"
            return
        rows = [[one.tenant, one.account, one.calls, one.talk_ms] for one in self.accounts]
        title = "Calls that would get an account" if self.dry_run else "Calls that got an account"
        yield terminal.table(title, ("tenant", "account", "calls", "talk_ms"), rows)


def assign(
    settings: Settings,
    tenant: str | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    dry_run: bool = False,
    consent: Consent | None = None,
) -> AssignReport:
    """Give billed calls of no account theirs, by the directory as it is now: each date whole, in one commit.

    Killed anywhere, the next run goes on with what is unassigned. Raises Problem where the index cannot be read.
    """
    workspace_id.check(settings)
    if not dry_run and second_person.is_large(settings, _lost(settings)):
        would = assign(settings, tenant, start, end, dry_run=True).accounts
        plan = {"tenant": tenant, "from": start, "to": end, "calls": [vars(one) for one in would]}
        given = sum(one.calls for one in would if one.account != UNASSIGNED)
        second_person.require(settings, given, consent, what="accounts assign", **plan)
    calls, talk = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    with runs.running(settings, "assign", ["assign"]) as run_id:
        files = open_files(settings, ROLE, "accounts assign", run_id)
        for number, (of, part) in enumerate(_dates(settings, tenant, start, end)):
            done = retry_on_conflict(
                lambda _, of=of, part=part, number=number: _one_date(files, of, part, _WAVE - number, dry_run),  # type: ignore[misc]
                also=(FileNotFoundError,),
                on_conflict=lambda: remove_orphans(settings, over={run_id}),
            )
            calls.update({(of, account): count for account, count in done.calls.items()})
            talk.update({(of, account): ms for account, ms in done.talk_ms.items()})
        runs.finish(settings, run_id, "done")
    if not dry_run:
        restrictions.mark(settings)
    return AssignReport([AssignedCalls(*key, calls[key], talk[key]) for key in sorted(calls)], dry_run)


def _one_date(files: DataFiles, tenant: str, part: str, wave: int, dry_run: bool) -> Reassigned:
    """Assign a date's calls. Raises CommitConflict when another commit came first."""
    settings, fresh = files.workspace.settings, DataFiles(files.workspace, files.run_id)  # it keeps what it read
    done = reassign(fresh, tenant, part)
    if dry_run or not done.changes.superseded:
        if dry_run:
            fresh.store.remove([file.path for file in done.changes.files])
        return done
    changes = ledger.with_sealed_sums(done.changes, settings, files.workspace.keyring)
    given = sum(done.calls.values()) - done.calls[UNASSIGNED]
    with database.writing(settings) as connection:
        ledger.commit(connection, files.run_id, wave, changes)
        entry = audit.Entry(ROLE, "accounts assign", f"tenant {tenant} {part} calls {given}", "asked for")
        audit.append(connection, [entry])
        point("assign-ready")
    point("assign-committed")
    return done
