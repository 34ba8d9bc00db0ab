"""A purge's plan: made from one snapshot of the registers, equal in a dry run and in the run, named by its digest."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, select

from callward import database, runs
from callward.errors import Problem
from callward.ingest import segments
from callward.lake import account_sums, ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policy
from callward.retention.purge.due_files import (
    FROZEN,
    KEEP,
    OPEN,
    REMOVED,
    REQUESTS,
    REWRITE,
    TEMP,
    Dates,
    Derived,
    Governance,
    MonthKey,
    PlanItem,
    after,
    derived_rows,
    is_due,
    items,
    keys_to_destroy,
    short_rows,
)
from callward.retention.purge.due_rows import Judge, looked
from callward.settings import Settings
from callward.storage.store import TRANSIT, Store, Stored
from schemas.retention import frozen_derived, requests
from schemas.tables import assurance_failed_5min, keys, lake_files, partitions, sla_sums
from schemas.views import INDEX, VIEW_OF


@dataclass(frozen=True)
class Seen:
    """What a plan is made from, read in one snapshot."""

    law: Governance
    files: Sequence[DataFile]
    replaced: Sequence[DataFile]  # by nights, and still on disk for readers that had begun
    versions: Mapping[tuple[str, str], int]
    keys: Sequence[MonthKey]
    noted: Mapping[tuple[str, str, date], str]  # derived rows that earlier purges froze or left open
    five_minutes: Collection[tuple[str, date]]  # tenants and days of which there are rows by five minutes
    answered: Sequence[tuple[str, str, date, date]]  # requests: id, tenant, answered, received
    sums: Collection[tuple[str, date, str]]  # call dates that have sums by account: tenant, date, id of the key
    fingerprint: str  # of the holds
    tenant: str | None = None  # of whom alone it is


@dataclass(frozen=True)
class Plan:
    """What a purge does. `changes` without anything: nothing is due, or all that is due is held where it lies."""

    as_of: date
    items: Sequence[PlanItem]
    keys: Sequence[tuple[MonthKey, str]]  # with the class of what lay under it
    derived: Sequence[Derived]
    requests: Sequence[str]
    spilled: Sequence[str]  # batches in flight that their run left behind
    stale: Sequence[str] = ()  # data files that were replaced before, and whose rows are due
    policies: Mapping[str, str] = field(default_factory=dict)  # tenant → digest of all its versions
    versions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    fingerprint: str = ""
    unused_keys: Sequence[str] = ()  # ids of keys that a purge minted before it was killed: nothing ever lay under them

    @property
    def doing(self) -> list[PlanItem]:
        """Return the items that are more than counted."""
        return [item for item in self.items if item.changes]

    @property
    def written(self) -> list[PlanItem]:
        """Return the items for which something is written: a log that goes must be read for the ledger."""
        return [
            item
            for item in self.doing
            if item.action == REWRITE or item.held or item.file.view in ("suspense", "pending")
        ]

    @property
    def changes(self) -> bool:
        return bool(self.doing or self.keys or self.derived or self.requests or self.spilled or self.stale)

    @property
    def tenants(self) -> list[str]:
        """Return the tenants whose data it touches."""
        return sorted({item.file.tenant for item in self.doing} | {key.tenant for key, _ in self.keys})

    def facts(self) -> dict[str, Any]:
        """Return what an approval is about."""
        return {
            "as_of": self.as_of.isoformat(),
            "items": [item.facts() for item in self.items],
            "keys": [[key.key_id, cls] for key, cls in self.keys],
            "derived": [[row.table, row.tenant, row.day.isoformat(), row.state] for row in self.derived],
            "requests": list(self.requests),
            "spilled": list(self.spilled),
            "stale": list(self.stale),
            "policies": dict(self.policies),
        }

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of the facts as canonical JSON."""
        return hashlib.sha256(_canonical(self.facts()).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the plan as the register keeps it: the facts, and what the run needs that an approval is not about."""
        held = [list(vars(row).values()) for row in self.held()]
        more = {"fingerprint": self.fingerprint, "held": held, "unused_keys": list(self.unused_keys)}
        return _canonical(self.facts() | more)

    def held(self) -> list["HeldRows"]:
        """Return the rows that stay for a hold."""
        sums: dict[tuple[str, str, str], int] = defaultdict(int)
        for item in self.items:
            for hold_id, rows in item.why.items():
                sums[item.file.tenant, item.retention_class, hold_id] += rows
        return [HeldRows(*key, rows) for key, rows in sorted(sums.items())]

    def classes(self) -> list["ClassCounts"]:
        """Return what is done by class, in the order of their names; none of a class that nothing is done of."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for item in self.items:
            going = item.rows - item.held
            counts[item.retention_class].update(due=item.rows, held=item.held, deleted=going, files=int(item.changes))
        for _, cls in self.keys:
            counts[cls]["keys_destroyed"] += 1
        counts[REQUESTS].update(due=len(self.requests), deleted=len(self.requests))
        counts[TEMP].update(files=len(self.spilled))
        return [ClassCounts(cls, **of_class) for cls, of_class in sorted(counts.items()) if any(of_class.values())]


@dataclass(frozen=True)
class HeldRows:
    """Rows of a tenant's class that stay for a hold: by its id where everyone may know it, else by ""."""

    tenant: str
    class_: str
    hold: str
    rows: int


@dataclass(frozen=True)
class ClassCounts:
    """What is done with one class: rows that are due, held and deleted, files that this concerns, keys destroyed."""

    class_: str
    due: int = 0
    held: int = 0
    deleted: int = 0
    files: int = 0
    keys_destroyed: int = 0


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# -- making one --------------------------------------------------------------------------------------------------------


def make(
    settings: Settings,
    files: DataFiles,
    as_of: date,
    today: date,
    candidates: Mapping[str, Policy] | None = None,
    only: str | None = None,
) -> tuple[Plan, Seen, list[Hold]]:
    """Return the plan for a day, what it was made from, and the holds that block. `candidates`: policies to be tried.

    `only`: of one tenant alone, with nothing that is shared.
    Raises Problem where the holds cannot be read, and where the lake or the manifest is not as it should be.
    """
    with database.reading(settings) as connection:
        fingerprint = holds.fingerprint(connection)  # before the holds: one placed meanwhile makes it out of date
    blocking = holds.opened(settings, today=today)
    with database.reading(settings) as connection:
        seen = _seen(settings, connection, candidates, fingerprint)
    if only is not None:
        seen = _of_tenant(seen, only)
    judge = Judge(files, seen.law, blocking, as_of, today)
    due = list(items(seen.files, seen.law, blocking, as_of))
    check_files(settings, _needed(seen.files, due))
    planned = [item for one in due if (item := looked(one, judge) if one.look else one) is not None]
    return _plan(settings, planned, seen, blocking, as_of, today), seen, blocking


def _plan(
    settings: Settings, planned: Sequence[PlanItem], seen: Seen, blocking: Sequence[Hold], as_of: date, today: date
) -> Plan:
    stale = [file for file in seen.replaced if is_due(file, seen.law, as_of)]  # their readers are not waited for
    stale_ids = {file.file_id for file in stale}
    remaining = after(seen.files, planned)
    readable = remaining + [file for file in seen.replaced if file.file_id not in stale_ids]
    parts = frozenset((VIEW_OF.get(file.view, file.view), file.tenant, file.part) for file in remaining)
    touched = {(item.file.tenant, item.file.part) for item in planned if item.changes}
    dates = Dates(parts, seen.law, blocking, as_of, today)
    derived = [*derived_rows(planned, seen.noted, dates), *short_rows(seen.five_minutes, dates)]
    to_destroy = keys_to_destroy(seen.keys, readable, seen.law, as_of, today, _keys_of_sums(seen, derived))
    under = {key_id for file in (*seen.files, *seen.replaced) for key_id in file.key_ids.split()}
    return Plan(
        as_of=as_of,
        items=planned,
        keys=[(key, cls) for key, cls in to_destroy if not _never_used(key, under)],
        unused_keys=[key.key_id for key, _ in to_destroy if _never_used(key, under)],
        derived=derived,
        requests=_due_requests(seen, as_of),
        spilled=sorted(_due_spills(settings, seen.law, as_of)) if seen.tenant is None else [],
        stale=sorted(stale_ids),
        policies={tenant: policies.digest for tenant, policies in sorted(seen.law.policies.items())},
        versions={part: seen.versions.get(part, 0) for part in touched},
        fingerprint=seen.fingerprint,
    )


def _keys_of_sums(seen: Seen, derived: Iterable[Derived]) -> set[str]:
    """Return ids of the keys that sums by account lie under once the plan is done."""
    going = {(row.tenant, row.day) for row in derived if (row.table, row.state) == (sla_sums.name, REMOVED)}
    return {key_id for tenant, day, key_id in seen.sums if (tenant, day) not in going}


def _never_used(key: MonthKey, under: set[str]) -> bool:
    return key.domain == "hold" and key.key_id not in under


def _needed(files: Iterable[DataFile], due: Sequence[PlanItem]) -> list[DataFile]:
    """Return the data files of a plan, and what the row index has of the dates of those."""
    dates = {(item.file.tenant, item.file.part) for item in due}
    of_plan = {item.file.file_id for item in due}
    beside = [f for f in files if f.view == INDEX and (f.tenant, f.part) in dates and f.file_id not in of_plan]
    return [item.file for item in due] + beside


def check_files(settings: Settings, files: Iterable[DataFile]) -> None:
    """Raise Problem unless each lies in the lake as it was written: what is lost or altered is for a person."""
    store = Store.of(settings)
    for file in files:
        name = f"{'row index' if file.view == INDEX else 'data'} file {file.file_id}, which is due,"
        try:
            size = store.size(file.path)
        except FileNotFoundError:
            raise Problem(f"{name} is not in the lake; nothing was purged") from None
        if size != file.bytes:
            raise Problem(f"{name} was altered or cut short; nothing was purged")


# -- the snapshot ------------------------------------------------------------------------------------------------------


def _seen(
    settings: Settings, connection: Connection, candidates: Mapping[str, Policy] | None, fingerprint: str
) -> Seen:
    f = lake_files.c
    replaced = connection.execute(select(lake_files).where(f.superseded_at.is_not(None), f.removed_at.is_(None)))
    return Seen(
        law=Governance(policy_register.in_force(settings, connection, candidates)),
        files=ledger.files(connection),
        replaced=[ledger.data_file(row) for row in replaced],
        versions={(row.tenant, row.part): row.version for row in connection.execute(select(partitions))},
        keys=_live_keys(connection, segments.keys_in_use(settings)),
        noted=dict(_noted(connection)),
        five_minutes=_five_minutes(connection),
        answered=list(_answered(connection)),
        sums=account_sums.keys_in_use(connection),
        fingerprint=fingerprint,
    )


def _of_tenant(seen: Seen, tenant: str) -> Seen:
    return replace(
        seen,
        tenant=tenant,
        files=[file for file in seen.files if file.tenant == tenant],
        replaced=[file for file in seen.replaced if file.tenant == tenant],
        keys=[key for key in seen.keys if key.tenant == tenant],
        noted={name: state for name, state in seen.noted.items() if name[1] == tenant},
        five_minutes=[name for name in seen.five_minutes if name[0] == tenant],
        answered=[request for request in seen.answered if request[1] == tenant],
        sums=[name for name in seen.sums if name[0] == tenant],
    )


def _live_keys(connection: Connection, needed: Collection[str]) -> list[MonthKey]:
    """Return the keys that may go. `needed` are those that records wait under, of which no data file knows yet."""
    k = keys.c
    query = select(k.key_id, k.domain, k.tenant, k.month, k.purpose).where(k.state != "destroyed", k.month != "all")
    return [MonthKey(*row) for row in connection.execute(query) if row.key_id not in needed]


def _noted(connection: Connection) -> Iterator[tuple[tuple[str, str, date], str]]:
    f = frozen_derived.c
    for row in connection.execute(select(f.table_name, f.tenant, f.part, f.sha256)):
        yield (row.table_name, row.tenant, date.fromisoformat(row.part)), FROZEN if row.sha256 else OPEN


def _five_minutes(connection: Connection) -> set[tuple[str, date]]:
    table = assurance_failed_5min.c
    rows = connection.execute(select(table.tenant, table.start).distinct())
    return {(row.tenant, row.start.date()) for row in rows}


def _answered(connection: Connection) -> Iterator[tuple[str, str, date, date]]:
    r = requests.c
    query = select(r.request_id, r.tenant, r.answered_at, r.received_at).where(r.answered_at.is_not(None))
    for row in connection.execute(query.order_by(r.request_id)):
        yield row.request_id, row.tenant, row.answered_at.date(), row.received_at.date()


def _due_requests(seen: Seen, as_of: date) -> list[str]:
    return [
        request_id
        for request_id, tenant, answered, received in seen.answered
        if seen.law.due(tenant, REQUESTS, answered, received, as_of)
    ]


def _due_spills(settings: Settings, law: Governance, as_of: date) -> Iterator[str]:
    """Yield the batches in flight whose run is over, older than their window."""
    spilled = (file for file in Store.of(settings).list(TRANSIT) if file.path.endswith(".seal"))
    old = [file.path.removeprefix(f"{TRANSIT}/") for file in spilled if _spill_due(file, law, as_of)]
    if not old:
        return
    with database.reading(settings) as connection:
        alive = runs.living(connection)
    yield from (name for name in old if name.split("-", 1)[0] not in alive)


def _spill_due(file: Stored, law: Governance, as_of: date) -> bool:
    written = datetime.fromtimestamp(file.modified).date() + timedelta(1)  # in whichever zone: never early
    return as_of > min(policies.last_day(TEMP, written, written) for policies in law.policies.values())


# -- what another policy would change ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PolicyEffect:
    """Rows of a tenant's class under another policy: how many would go, how many of these newly, how many stay now."""

    tenant: str
    class_: str
    goes: int = 0
    newly_goes: int = 0
    stays: int = 0


def effect(now: Plan, then: Plan) -> list[PolicyEffect]:
    """Return what would newly go under other policies, and what would stay, by tenant and class."""
    before, behind = (_counted_items(plan) for plan in (now, then))
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for key, item in (before | behind).items():
        old, new = (_going(plan.get(key)) for plan in (before, behind))
        counts = sums[item.file.tenant, item.retention_class]
        counts.update(goes=new, newly_goes=max(0, new - old), stays=max(0, old - new))
    return [PolicyEffect(tenant, cls, **counts) for (tenant, cls), counts in sorted(sums.items())]


def _counted_items(plan: Plan) -> dict[tuple[str, str], PlanItem]:
    return {(i.retention_class, i.file.file_id): i for i in plan.items if i.file.view != INDEX}


def _going(item: PlanItem | None) -> int:
    return 0 if item is None or item.action == KEEP else (item.rows or 1) - item.held
