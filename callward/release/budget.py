"""The write-once ledger: what was released stays as it is, and privacy is paid for before any noise is drawn.

A reservation takes its price in one writing transaction with the sum of all that was taken before; only then is noise
drawn, in the transaction that publishes. A run that dies in between has lost its reservation, which stays paid: what
it drew may lie somewhere. One table and period has one declaration, one input and one noise, whoever asks how often.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from callward import audit, database, runs
from callward.errors import Problem, UsageProblem
from callward.failpoints import point
from callward.lake import ledger
from callward.redaction import in_letters
from callward.release.declaration import Period, Release
from callward.settings import ReleaseCaps, Settings, Tenant
from schemas.release import (
    LOST,
    NANO,
    PUBLISHED,
    RESERVED,
    analytics_cells,
    release_budgets,
    release_charges,
    releases,
)
from schemas.tables import audit_log

ROLE: Final = "release-run"
EVER: Final = "all"  # the window of a scope that never ends
_ROWS: Final = 20_000  # cells of one insert


class Spent(UsageProblem):
    """The budget does not allow it: nothing was drawn, and nothing was charged."""


@dataclass(frozen=True)
class Reservation:
    """Leave to draw noise once, for one table and period; paid already."""

    release_id: str
    release: Release
    period: Period
    correction_no: int
    snapshot: str
    path: str  # of its folder, below the folder of what is released


@dataclass(frozen=True)
class Published:
    """What is out already, for good: its row of the register."""

    row: Row[Any]

    @property
    def release_id(self) -> str:
        """Return the id that it was published under."""
        return str(self.row.release_id)

    @property
    def files(self) -> dict[str, str]:
        """Return name → SHA-256 of each file that was published."""
        return dict(json.loads(self.row.files))

    @property
    def sheet(self) -> dict[str, Any]:
        """Return the data sheet."""
        return dict(json.loads(self.row.sheet))


@dataclass(frozen=True)
class Scope:
    """Whose privacy a sum is about: each customer of that unit, over one calendar month or ever."""

    tenant: str
    unit: str
    window: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.unit}/{self.window}"


# -- reserving ---------------------------------------------------------------------------------------------------------


def reserve(
    settings: Settings,
    connection: Connection,
    run_id: str,
    release: Release,
    period: Period,
    *,
    correct: bool = False,
    now: datetime | None = None,
) -> Reservation | Published:
    """Charge one table and period within a writing transaction; what is published already is returned as it is.

    `correct` asks for a new publication of what came in late, at its full price. Raises UsageProblem for a period that
    is not over yet, a second declaration over it, a correction of nothing; Spent where a budget does not allow it;
    Problem where the clock is wrong or another run is at it.
    """
    at = now or database.now()
    check_clock(connection, at)
    _check_due(release, period, at.date())
    lose(connection)
    known = _of_table(connection, release, period)
    _check_one_spec(release, period, known)
    published = [row for row in known if row.status == PUBLISHED and row.period_start == period.start]
    if published and not correct:
        return Published(published[-1])
    _check_free(release, known)
    snapshot = snapshot_of(connection, release, period)
    _check_correction(release, period, published, snapshot, correct)
    _check_thresholds(connection, release, period, snapshot)
    return _reserved(settings, connection, run_id, release, period, len(published), snapshot, at)


def check_clock(connection: Connection, now: datetime) -> None:
    """Raise Problem where the clock stands before something that was done already."""
    newest = [
        connection.execute(select(func.max(column))).scalar()
        for column in (audit_log.c.at, releases.c.reserved_at, releases.c.published_at)
    ]
    latest = max((moment.date() for moment in newest if moment is not None), default=now.date())
    if latest > now.date():
        raise Problem(f"the clock says {now.date()}, but the registers have an entry of {latest}; nothing is released")


def _check_due(release: Release, period: Period, today: date) -> None:
    due = period.due(release.lateness_days)
    if today < due:
        raise UsageProblem(
            f"{release.name} of {period} may be released from {due} on: a period is published once, when it is over "
            f"and its {release.lateness_days} days for late records have passed"
        )


def _of_table(connection: Connection, release: Release, period: Period) -> list[Row[Any]]:
    """Return releases of this name and tenant that share a date with the period, in the order of their corrections."""
    r = releases.c
    query = select(releases).where(r.tenant == release.tenant, r.name == release.name, r.status != LOST)
    query = query.where(r.period_start <= period.end, r.period_end >= period.start)
    return list(connection.execute(query.order_by(r.period_start, r.correction_no, r.attempt)))


def _check_one_spec(release: Release, period: Period, known: Sequence[Row[Any]]) -> None:
    for row in known:
        if row.spec_digest != release.spec_digest:
            raise UsageProblem(
                f"{release.name} of {Period(row.period_start, row.period_end)} was released under another declaration: "
                "two declarations over one period tell more than either; give a new table a new name and its own budget"
            )
        if row.domains_digest != release.domains_digest:
            raise UsageProblem(
                f"a domain file of {release.name} has changed since {Period(row.period_start, row.period_end)} was "
                "released: what is out stays as it is ('callward release show'); the new file counts from the next "
                "period on"
            )


def _check_free(release: Release, known: Sequence[Row[Any]]) -> None:
    for row in known:
        if row.status == RESERVED:
            raise Problem(f"{release.name} is being released by run {row.run_id}; wait for it to end")


def _check_correction(
    release: Release, period: Period, published: Sequence[Row[Any]], snapshot: str, correct: bool
) -> None:
    if not correct:
        return
    if not published:
        raise UsageProblem(f"{release.name} of {period} is not released yet: there is nothing to correct")
    if release.kind == "threshold":
        raise UsageProblem(
            f"{release.name} is a threshold table, which is never corrected: the difference of two exact tables shows "
            "the calls that came late"
        )
    if published[-1].snapshot == snapshot:
        raise UsageProblem(f"nothing has changed since {release.name} of {period} was released: what is out stands")


def _check_thresholds(connection: Connection, release: Release, period: Period, snapshot: str) -> None:
    """Refuse exact tables over the same rows, unless one partition is the coarser: differences would show more."""
    if release.kind != "threshold":
        return
    finer = release.suppression.coarsens
    others = list(_overlapping_thresholds(connection, release, period))
    if finer is not None and not any(row.name == finer and row.status == PUBLISHED for row in others):
        raise UsageProblem(f"{release.name} joins cells of {finer}, which is not released for {period} yet")
    for row in others:
        same = row.period_start == period.start and row.period_end == period.end
        if row.name != finer or not same:
            raise UsageProblem(
                f"{row.name} of {Period(row.period_start, row.period_end)} is a threshold table over the same calls: "
                "the difference of two shows what each suppresses (suppression.coarsens joins cells of one that is out)"
            )
        if row.snapshot != snapshot:
            raise UsageProblem(f"calls came in since {row.name} was released: the difference would show them")


def _overlapping_thresholds(connection: Connection, release: Release, period: Period) -> Iterator[Row[Any]]:
    r = releases.c
    query = select(releases).where(r.kind == "threshold", r.status != LOST, r.view == release.view)
    query = query.where(r.period_start <= period.end, r.period_end >= period.start)
    for row in connection.execute(query.order_by(r.reserved_at)).all():
        if row.name != release.name and _tenants(connection, row.release_id) & set(release.tenants):
            yield row


def _tenants(connection: Connection, release_id: str) -> set[str]:
    charged = select(release_charges.c.tenant).where(release_charges.c.release_id == release_id)
    return set(connection.execute(charged).scalars())


def snapshot_of(connection: Connection, release: Release, period: Period) -> str:
    """Return SHA-256 of the versions of the partitions that the period covers: it changes when rows do."""
    by_part: dict[str, int] = {}
    for tenant in release.tenants:
        versions = ledger.versions(connection, tenant, period.parts)
        by_part.update({f"{owner} {part}": version for (owner, part), version in versions.items()})
    return hashlib.sha256(json.dumps(sorted(by_part.items())).encode()).hexdigest()


def _reserved(
    settings: Settings,
    connection: Connection,
    run_id: str,
    release: Release,
    period: Period,
    correction_no: int,
    snapshot: str,
    at: datetime,
) -> Reservation:
    _check_caps(settings, connection, release, period)
    attempt, release_id = _attempt(connection, release, period, snapshot, correction_no)
    path = f"{release.tenant}/{release.name}/{period}/{release_id}"
    reservation = Reservation(release_id, release, period, correction_no, snapshot, path)
    values = {**_row(reservation), "attempt": attempt, "status": RESERVED, "run_id": run_id, "reserved_at": at}
    connection.execute(insert(releases).values(**values))
    charges = [{"release_id": release_id, **vars(scope), "rho": release.rho} for scope in scopes(release, period)]
    connection.execute(insert(release_charges), charges)
    audit.append(
        connection, [_entry("release-reserve", release_id, f"{release.name} {period}, {release.rho} nano-rho")]
    )
    return reservation


def _row(reservation: Reservation) -> dict[str, Any]:
    """Return what the register holds of a reservation, but for which attempt it is, whose, and how it stands."""
    declared = ("tenant", "name", "view", "kind", "audience", "unit", "spec_digest", "domains_digest", "rho")
    return {
        **{name: getattr(reservation.release, name) for name in declared},
        "release_id": reservation.release_id,
        "period_start": reservation.period.start,
        "period_end": reservation.period.end,
        "correction_no": reservation.correction_no,
        "snapshot": reservation.snapshot,
        "path": reservation.path,
    }


def _attempt(
    connection: Connection, release: Release, period: Period, snapshot: str, correction_no: int
) -> tuple[int, str]:
    """Return which attempt at a publication this is, and its id: one that nothing was charged for yet.

    After a restore there may be charges of reservations that the register does not know.
    """
    r, c = releases.c, release_charges.c
    same = (r.tenant == release.tenant) & (r.name == release.name) & (r.period_start == period.start)
    newest = connection.execute(select(func.max(r.attempt)).where(same, r.correction_no == correction_no)).scalar()
    attempt = int(newest or 0)
    while True:
        attempt += 1
        release_id = _id_of(release, period, snapshot, correction_no, attempt)
        if not connection.execute(select(func.count()).where(c.release_id == release_id)).scalar():
            return attempt, release_id


def _id_of(release: Release, period: Period, snapshot: str, correction_no: int, attempt: int) -> str:
    """Return a hash of what identifies a release, in letters alone: a sweep for numbers never takes it for one."""
    identity = [release.tenants, release.name, str(period), release.spec_digest, release.domains_digest]
    digest = hashlib.sha256(json.dumps([*identity, snapshot, correction_no, attempt]).encode()).digest()
    return in_letters(digest[:16])


def _entry(event: str, release_id: str, reason: str) -> audit.Entry:
    return audit.Entry(ROLE, event, f"release {release_id}", reason)


# -- the budget --------------------------------------------------------------------------------------------------------


def scopes(release: Release, period: Period) -> list[Scope]:
    """Return whom a release is charged to: what protects an account protects each of its subscribers for that price."""
    units = ("subscriber",) if release.unit == "subscriber" else ("subscriber", "account")
    windows = (period.month, EVER)
    return [Scope(tenant, unit, window) for tenant in release.tenants for unit in units for window in windows]


def cap_of(settings: Settings, scope: Scope) -> int:
    """Return nano-rho that a scope may ever be charged, by the settings."""
    caps = settings.tenants.get(scope.tenant, Tenant()).release
    return _nano(caps, "rho_all" if scope.window == EVER else "rho_month")


def _nano(caps: ReleaseCaps, name: str) -> int:
    return int(Decimal(str(getattr(caps, name))) * NANO)


def charged(connection: Connection, scope: Scope) -> int:
    """Return nano-rho that a scope was charged so far, lost reservations too."""
    c = release_charges.c
    of_scope = (c.tenant == scope.tenant) & (c.unit == scope.unit) & (c.window == scope.window)
    return int(connection.execute(select(func.coalesce(func.sum(c.rho), 0)).where(of_scope)).scalar() or 0)


def periods_left(settings: Settings, connection: Connection, release: Release, period: Period) -> dict[Scope, int]:
    """Return how many more periods like this one each scope allows; empty for a threshold table, which is free."""
    if not release.rho:
        return {}
    every = scopes(release, period)
    return {scope: max(cap_of(settings, scope) - charged(connection, scope), 0) // release.rho for scope in every}


def _check_caps(settings: Settings, connection: Connection, release: Release, period: Period) -> None:
    """Raise Spent where the sum would pass a cap; under the writing lock, so that two releases never both fit."""
    for scope in scopes(release, period):
        cap, before = cap_of(settings, scope), charged(connection, scope)
        if release.rho and before + release.rho > cap:
            raise Spent(
                f"the privacy budget of {scope} does not allow {release.name} of {period}: it takes "
                f"{rho_text(release.rho)} rho, and {rho_text(max(cap - before, 0))} of {rho_text(cap)} are left"
            )
        _note_cap(connection, scope, cap)


def _note_cap(connection: Connection, scope: Scope, cap: int) -> None:
    """Record the cap that counts from now on; a change of it is in the audit log."""
    b = release_budgets.c
    of_scope = (b.tenant == scope.tenant) & (b.unit == scope.unit) & (b.window == scope.window)
    known = connection.execute(select(b.cap).where(of_scope)).scalar()
    if known == cap:
        return
    values = {"cap": cap, "changed_at": database.now()}
    if known is None:
        connection.execute(insert(release_budgets).values(**vars(scope), **values))
        return
    connection.execute(update(release_budgets).where(of_scope).values(**values))
    change = f"{rho_text(known)} to {rho_text(cap)} rho, by the settings"
    audit.append(connection, [audit.Entry(ROLE, "release-cap", f"budget {scope}", change)])


def rho_text(nano: int) -> str:
    """Return rho for a person, without needless zeros."""
    return f"{Decimal(nano) / NANO:f}".rstrip("0").rstrip(".") if nano else "0"


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A scope that was charged: cap, spent (of it lost), and left, in nano-rho."""

    tenant: str
    unit: str
    window: str
    cap: int
    spent: int
    lost: int
    left: int


def balances(settings: Settings, connection: Connection) -> list[Balance]:
    """Return the balance of each scope that was ever charged.

    Lost is also what was charged for a reservation that the register does not know, as after a restore.
    """
    c, r = release_charges.c, releases.c
    lost = func.sum(c.rho).filter(or_(r.status == LOST, r.status.is_(None)))
    query = (
        select(c.tenant, c.unit, c.window, func.sum(c.rho), func.coalesce(lost, 0))
        .outerjoin(releases, r.release_id == c.release_id)
        .group_by(c.tenant, c.unit, c.window)
        .order_by(c.tenant, c.unit, c.window)
    )
    lines = []
    for tenant, unit, window, *sums in connection.execute(query):
        scope, (spent, gone) = Scope(tenant, unit, window), map(int, sums)  # PostgreSQL sums to decimals
        cap = cap_of(settings, scope)
        lines.append(Balance(**vars(scope), cap=cap, spent=spent, lost=gone, left=max(cap - spent, 0)))
    return lines


# -- publishing --------------------------------------------------------------------------------------------------------


def publish(
    connection: Connection,
    run_id: str,
    reserved: Reservation,
    files: Mapping[str, str],
    sheet: str,
    cells: Iterable[Mapping[str, Any]],
    partition: bytes | None = None,
) -> None:
    """Publish within the writing transaction in which the noise was drawn: cells, sheet and files, or nothing.

    `files`: name → SHA-256 of what lies in the reservation's folder. Raises Problem where the reservation was lost.
    """
    runs.renew(connection, run_id)
    of_reservation = (releases.c.release_id == reserved.release_id) & (releases.c.run_id == run_id)
    updated = connection.execute(
        update(releases)
        .where(of_reservation, releases.c.status == RESERVED)
        .values(
            status=PUBLISHED,
            published_at=database.now(),
            files=json.dumps(files, sort_keys=True),
            sheet=sheet,
            partition=partition,
        )
    )
    if updated.rowcount != 1:
        raise Problem(f"the reservation of {reserved.release.name} was lost to another run; nothing was released")
    store_cells(connection, cells)
    audit.append(connection, [_entry("release-publish", reserved.release_id, reserved.release.name)])
    point("release-cells")


def store_cells(connection: Connection, cells: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of analytics_cells."""
    for rows in _bunches(cells):
        connection.execute(insert(analytics_cells), rows)


def _bunches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    bunch: list[Mapping[str, Any]] = []
    for row in rows:
        bunch.append(row)
        if len(bunch) == _ROWS:
            yield bunch
            bunch = []
    if bunch:
        yield bunch


def lose(connection: Connection) -> list[Row[Any]]:
    """Mark reservations whose run is over as lost, within a writing transaction; they stay paid."""
    living = runs.living(connection)
    dead = [
        row
        for row in connection.execute(select(releases).where(releases.c.status == RESERVED)).all()
        if row.run_id not in living
    ]
    for row in dead:
        connection.execute(update(releases).where(releases.c.release_id == row.release_id).values(status=LOST))
    audit.append(connection, [_entry("release-lost", row.release_id, f"{row.name}: its run died") for row in dead])
    return dead


def lost_paths(connection: Connection) -> list[str]:
    """Return folders of lost reservations: what a run that died may have written, and nobody may read."""
    return list(connection.execute(select(releases.c.path).where(releases.c.status == LOST)).scalars())


# -- what is out -------------------------------------------------------------------------------------------------------


def published(connection: Connection, name: str | None = None) -> list[Row[Any]]:
    """Return what is out, by name and period; corrections after what they correct."""
    r = releases.c
    query = select(releases).where(r.status == PUBLISHED)
    if name is not None:
        query = query.where(r.name == name)
    return list(connection.execute(query.order_by(r.name, r.tenant, r.period_start, r.correction_no)))


def is_published(connection: Connection, release: Release, period: Period) -> bool:
    """Return whether a table and period is out."""
    return any(row.status == PUBLISHED for row in _of_table(connection, release, period))
