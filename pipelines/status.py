"""status: how a workspace stands, from its registers alone, and what a person must look at, a sentence with each next
step. It reads no data file, asks no broker and changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from callward import database, runs, standing
from callward.errors import Problem
from callward.lake import shares
from callward.lake.shares import ATTEMPTS, NO_ACCOUNT, NO_DIRECTION, OTHER_TRUNK
from callward.lake.volume import NIGHT
from callward.retention.purge import calendar
from callward.retention.purge.calendar import CalendarLine
from callward.settings import Settings
from callward.standing import Standing
from callward.streaming import register
from callward.streaming.metrics import watched
from pipelines.monitoring.waiting import SOON_DAYS, Waiting, suspended, waiting
from pipelines.terminal import age, percent
from schemas.release import PUBLISHED, release_charges, releases
from schemas.retention import roots
from schemas.tables import keys, lake_files, source_shares
from schemas.tables import runs as runs_table
from schemas.views import VIEW_OF

_NIGHTS: Final = 7
_LATE: Final = timedelta(hours=36)  # since a night ended: they run daily
LACKS: Final = (NO_DIRECTION, NO_ACCOUNT, OTHER_TRUNK)


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """A night or a stream: when it began, how long it worked, how it stands, and the records that came in by it."""

    run_id: str
    kind: str
    status: str
    started_at: datetime
    seconds: float | None
    records: int


@dataclass(frozen=True, kw_only=True)
class Oldest:
    """The oldest day of calls that a view has of a tenant, and its newest."""

    tenant: str
    view: str
    oldest: date
    newest: date
    rows: int


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """What was not known of a source's attempts in its last night (shares of 1)."""

    source: str
    attempts: int
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What released tables may cost the privacy of a tenant's customers, and have cost (rho)."""

    tenant: str
    unit: str
    window: str
    cap: str
    spent: str
    left: str


@dataclass(frozen=True, kw_only=True)
class KeyAge:
    """The root of a key domain and its month keys: since when each is in use."""

    domain: str
    root_since: datetime | None
    month_keys: int
    oldest_key: datetime | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """A workspace as it stands at a moment (naive UTC). `calendar` is None where it cannot be made, for a `reason`."""

    at: datetime
    runs: Sequence[LastRun]
    standing: Sequence[Standing]
    waiting: Sequence[Waiting]
    oldest: Sequence[Oldest]
    calendar: Sequence[CalendarLine] | None
    reason: str
    unknown: Sequence[Unknown]
    releases: Mapping[str, int]
    budget: Sequence[Spent]
    keys: Sequence[KeyAge]
    look: Sequence[str]


def status(settings: Settings, now: datetime | None = None) -> Status:
    """Return how a workspace stands. Raises Problem where its database does not answer."""
    at = now or database.now()
    calendar_lines, reason = _calendar(settings, at.date())
    with database.reading(settings) as connection:
        last = _last_runs(connection)
        stands = standing.every(connection)
        waits = waiting(settings, connection, at.date())
        balances = _spent(settings, connection)
        look = [
            *_of_runs(settings, connection, last, at),
            *(_of_streams(settings) if any(run.kind == register.KIND for run in last) else ()),
            *(item.alarm.sentence for item in stands if item.alarm.must_look),
            *_of_suspense(waits),
            *_of_calendar(calendar_lines or ()),
            *_of_budget(balances),
        ]
        return Status(
            at=at,
            runs=last,
            standing=stands,
            waiting=waits,
            oldest=_oldest(connection),
            calendar=calendar_lines,
            reason=reason,
            unknown=[_unknown(connection, source.name) for source in settings.sources],
            releases=_releases(connection),
            budget=balances,
            keys=_key_ages(connection),
            look=list(dict.fromkeys(look)),
        )


def _calendar(settings: Settings, today: date) -> tuple[list[CalendarLine] | None, str]:
    try:
        return calendar.calendar(settings, today), ""
    except Problem as problem:
        return None, str(problem)


# -- what a person must look at ----------------------------------------------------------------------------------------


def _of_runs(settings: Settings, connection: Connection, last: Sequence[LastRun], now: datetime) -> Iterator[str]:
    nights = [run for run in last if run.kind == NIGHT]
    if nights and nights[0].status in ("failed", "dead"):
        yield f"the last night {_ended(nights[0])}: run 'callward nightly' again, it goes on from there"
    begun = select(func.max(runs_table.c.started_at)).where(runs_table.c.kind == NIGHT, runs_table.c.status == "done")
    done = connection.execute(begun).scalar()
    if settings.sources and done is not None and now - done > _LATE and not _all_streamed(settings, connection):
        yield f"no night has ended since {done:%Y-%m-%d %H:%M} UTC: see what runs 'callward nightly' each day"


def _of_streams(settings: Settings) -> Iterator[str]:
    from pipelines.stream import status as stream_status  # loads the engine, which takes long: only for who has one

    yield from (sentence for stream in stream_status.status(settings) for sentence in stream.look)


def _ended(run: LastRun) -> str:
    return f"that began {run.started_at:%Y-%m-%d %H:%M} UTC {'failed' if run.status == 'failed' else 'was killed'}"


def _all_streamed(settings: Settings, connection: Connection) -> bool:
    return {f"source/{source.name}" for source in settings.sources} <= register.held(connection)


def _of_suspense(waits: Sequence[Waiting]) -> Iterator[str]:
    soon = [item for item in suspended(waits) if item.expiring]
    if soon:
        records = sum(item.expiring for item in soon)
        sources = ", ".join(sorted({item.source for item in soon}))
        yield (
            f"{records:,} records in suspense of {sources} go within {SOON_DAYS} days: see 'callward suspense list', "
            "then 'callward recycle'"
        )


def _of_calendar(lines: Sequence[CalendarLine]) -> Iterator[str]:
    overdue = [line for line in lines if line.overdue]
    if overdue:
        rows, classes = sum(line.overdue for line in overdue), sorted({line.class_ for line in overdue})
        yield f"{rows:,} rows are past their window ({', '.join(classes)}): run 'callward purge --as-of' with today"


def _of_budget(balances: Sequence[Spent]) -> Iterator[str]:
    for line in balances:
        if line.left == "0":
            scope = f"{line.tenant} ({line.unit}, {line.window})"
            yield f"the privacy budget of {scope} is spent: see 'callward release budget'"


# -- what is shown -----------------------------------------------------------------------------------------------------


def _last_runs(connection: Connection) -> list[LastRun]:
    """Return the last nights, and the streams that run or ran last."""
    r = runs_table.c
    columns = r.run_id, r.kind, r.status, r.started_at, r.finished_at
    nights = select(*columns).where(r.kind == NIGHT).order_by(r.started_at.desc(), r.run_id).limit(_NIGHTS)
    streams = select(*columns).where(r.run_id.in_(watched(connection))).order_by(r.started_at.desc())
    rows = [*connection.execute(nights), *connection.execute(streams)]
    alive, records = runs.living(connection), _records(connection, [row.run_id for row in rows])
    return [
        LastRun(
            run_id=row.run_id,
            kind=row.kind,
            status="dead" if row.status == "running" and row.run_id not in alive else row.status,
            started_at=row.started_at,
            seconds=round((row.finished_at - row.started_at).total_seconds(), 1) if row.finished_at else None,
            records=records.get(row.run_id, 0),
        )
        for row in rows
    ]


def _records(connection: Connection, run_ids: Sequence[str]) -> dict[str, int]:
    s = source_shares.c
    query = select(s.run_id, func.sum(s.rows)).where(s.run_id.in_(run_ids), s.measure == shares.RECORDS)
    return {run_id: int(rows) for run_id, rows in connection.execute(query.group_by(s.run_id))}


def _oldest(connection: Connection) -> list[Oldest]:
    f = lake_files.c
    days = func.min(f.part), func.max(f.part), func.sum(f.rows)
    query = select(f.tenant, f.view, *days).where(f.superseded_at.is_(None), f.view.in_(list(VIEW_OF)))
    found: dict[tuple[str, str], Oldest] = {}
    for tenant, part, first, last, rows in connection.execute(query.group_by(f.tenant, f.view)):
        view, days_of = VIEW_OF[part], (date.fromisoformat(first), date.fromisoformat(last))
        known = found.get((tenant, view))
        found[tenant, view] = Oldest(
            tenant=tenant,
            view=view,
            oldest=min(days_of[0], known.oldest) if known else days_of[0],
            newest=max(days_of[1], known.newest) if known else days_of[1],
            rows=int(rows) + (known.rows if known else 0),
        )
    return [found[key] for key in sorted(found)]


def _unknown(connection: Connection, source: str) -> Unknown:
    now = shares.newest(connection, source)
    of = {what: now[what] / now[ATTEMPTS] for what in LACKS} if now[ATTEMPTS] else {}
    return Unknown(source=source, attempts=now[ATTEMPTS], shares=of)


def share_text(of: Unknown, what: str) -> str:
    """Return a share of a source's attempts as text; "-" where there were none."""
    return percent(round(of.shares.get(what, 0.0) * of.attempts), of.attempts)


def _releases(connection: Connection) -> dict[str, int]:
    """Return how many times a table was published, by name."""
    query = select(releases.c.name, func.count()).where(releases.c.status == PUBLISHED).group_by(releases.c.name)
    return {name: int(count) for name, count in connection.execute(query.order_by(releases.c.name))}


def _spent(settings: Settings, connection: Connection) -> list[Spent]:
    if not connection.execute(select(func.count()).select_from(release_charges)).scalar():
        return []
    from callward.release import budget  # its libraries take a second to load: only for who releases

    return [
        Spent(
            **{name: getattr(line, name) for name in ("tenant", "unit", "window")},
            **{name: budget.rho_text(getattr(line, name)) for name in ("cap", "spent", "left")},
        )
        for line in budget.balances(settings, connection)
    ]


def _key_ages(connection: Connection) -> list[KeyAge]:
    k, r = keys.c, roots.c
    begun = select(r.domain, func.max(r.created_at).label("since")).where(r.state == "active").group_by(r.domain)
    since = {row.domain: row.since for row in connection.execute(begun)}
    query = select(k.domain, func.count().label("number"), func.min(k.created_at).label("oldest"))
    months = {row.domain: row for row in connection.execute(query.where(k.state == "active").group_by(k.domain))}
    return [
        KeyAge(
            domain=domain,
            root_since=since.get(domain),
            month_keys=months[domain].number if domain in months else 0,
            oldest_key=months[domain].oldest if domain in months else None,
        )
        for domain in sorted(since.keys() | months.keys())
    ]


def days(now: datetime, at: datetime | date | None) -> str:
    """Return how long ago something was."""
    if at is None:
        return "-"
    moment = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day)
    return age(now - moment)
