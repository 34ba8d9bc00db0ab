"""What is past its window, what will be, and what is there all the same: from the manifest alone, reading no row.

Until when each data file is kept is said in one place (due_files.py), for the purge and for whoever asks; the row index
follows the views, and no row of it is counted. So the answer costs the same whether a partition has a thousand rows or
a billion. A sealed log has rows of several days and counts whole from the day that its first row is due.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Connection, Select, and_, func, select

from callward import database
from callward.keys.register import EVERY_MONTH
from callward.lake import ledger
from callward.lake.ledger import DataFile
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.retention.policy.rules import ASSURANCE, BILLING, NUMBERS, Policies, call_clock
from callward.retention.purge import due_files
from callward.retention.purge.due_files import Governance
from callward.settings import Settings
from schemas.retention import certificates, requests
from schemas.retention_classes import CLASSES
from schemas.tables import audit_log, keys
from schemas.views import HELD, PARTS

EVERYBODY: Final = "_all"  # what belongs to no tenant
# Nothing of these is destroyed by a purge: what is due is listed, for a person to put away or to seal anew.
LISTED: Final = ("audit", "breach_record", "keys", "certificates")
# These are kept for all tenants together.
_OF_ALL: Final = ("audit", "temp", "keys", "certificates")
_TRANSIT: Final = "transit"
_AHEAD: Final = (30, 90)
_COUNTS: Final = ("due", "held", "kept", "overdue")


@dataclass(frozen=True)
class ExpiringRows:
    """Rows of one class that fall due on one day.

    `oldest`: the day of their calls, or when they came in. `due`: the first day on which a purge takes them; date.max
    where no window ends. `state` is what they are from that day on: held (kept apart for a hold that everybody may know
    of), kept (for other reasons), or overdue.
    """

    tenant: str
    retention_class: str
    oldest: date
    due: date
    rows: int
    files: int = 0
    state: str = "overdue"
    copy: bool = False  # of a held row, apart from the view


@dataclass(frozen=True)
class Governed:
    """What says until when: policies, holds that block, the day that is asked about, the day it is.

    A hold is confidential until a day that comes by itself: asking about a later one must not show it earlier.
    """

    law: Governance
    blocking: Sequence[Hold]
    as_of: date
    today: date


def stock(connection: Connection, governed: Governed) -> list[ExpiringRows]:
    """Return all that retention governs. Raises Problem for a data file that cannot be judged, as a purge would."""
    of_files = (item for file in ledger.files(connection) for item in _of_file(file, governed))
    return [*of_files, *_of_registers(connection, governed.law)]


# -- data files ------------------------------------------------------------------------------------------------------


def _of_file(file: DataFile, governed: Governed) -> Iterator[ExpiringRows]:
    if file.view.startswith(HELD):
        yield _held(file, governed)
    elif file.view == "late":  # past its window when it came
        yield ExpiringRows(file.tenant, NUMBERS, about(file), _received(file), file.rows, 1)
    else:
        state = "kept" if _keeping(file, governed.blocking) else "overdue"
        for expiry in due_files.expiries(file, governed.law):
            due = _next(_first(file, expiry, governed.law))
            yield ExpiringRows(file.tenant, expiry.retention_class, about(file), due, expiry.rows, 1, state)


def _first(file: DataFile, expiry: due_files.Expiry, law: Governance) -> date:
    """Return the last day of the rows that go first. A plan looks into a log of pieces early, to be safe."""
    if file.view == "pending":
        return law.last_day(file.tenant, expiry.retention_class, call_clock(about(file)), _received(file))
    return expiry.first


def _held(file: DataFile, governed: Governed) -> ExpiringRows:
    """Copies of held rows are past their window since they were made; without their hold the next purge takes them.

    The index matched their rows when they were made, so they are held, whatever a copy itself can be matched by.
    """
    day = about(file)
    covering = holds.covering(governed.blocking, file.tenant, day, day)
    known = holds.visible(covering, holds.COMPLIANCE, governed.today)
    state = ("held" if known else "kept") if covering else "overdue"
    cls = _held_class(file, governed.law, governed.as_of)
    return ExpiringRows(file.tenant, cls, day, _received(file), file.rows, 1, state, copy=True)


def _held_class(file: DataFile, law: Governance, as_of: date) -> str:
    """Of a held billing row first the numbers are past their window, later the row."""
    of_billing = file.view in [HELD + part for part in PARTS["billing"]]
    if not of_billing and file.view != f"{HELD}late":
        return ASSURANCE
    past = law.due(file.tenant, BILLING, call_clock(about(file)), _received(file), as_of)
    return BILLING if of_billing and past else NUMBERS


def _keeping(file: DataFile, blocking: Sequence[Hold]) -> bool:
    """Return whether a hold keeps a file that nothing can be matched in where it lies (a view's rows are copied)."""
    if file.view in ("suspense", "archive"):
        return bool(holds.receiving(blocking, file.tenant, about(file)))
    return file.view == "pending" and bool(holds.covering(blocking, file.tenant, about(file), about(file)))


def about(file: DataFile) -> date:
    """Return the day that a data file is about: its partition's; of a log the first that it has rows of."""
    return date.fromisoformat(file.part) if file.part[:1].isdigit() else due_files.log_span(file)[0]


def clock_of(file: DataFile) -> date:
    """Return the day that a data file's clock began: of calls when the longest has ended, else when it came in."""
    return about(file) if file.view in ("suspense", "archive") else call_clock(about(file))


def _received(file: DataFile) -> date:
    return file.received_on or date.min


def _next(last: date) -> date:
    return last if last == date.max else last + timedelta(1)


# -- rows of the database --------------------------------------------------------------------------------------------


def _of_registers(connection: Connection, law: Governance) -> Iterator[ExpiringRows]:
    """Yield the rows of the database that have a class of their own, by the day that their clock began."""
    r, k = requests.c, keys.c
    answered = select(r.tenant, _day(r.answered_at), func.count()).where(r.answered_at.is_not(None))
    for tenant, day, rows in connection.execute(answered.group_by(r.tenant, _day(r.answered_at))):
        yield _row_stock(tenant, "requests", _date(day), int(rows), law)
    for cls, query, column in _OF_NOBODY:
        for day, rows in connection.execute(query.group_by(_day(column))):
            yield _row_stock(EVERYBODY, cls, _date(day), int(rows), law)
    transit = select(k.month, func.count()).where(_month_key(), k.domain == _TRANSIT).group_by(k.month)
    for month, count in connection.execute(transit):
        yield _row_stock(EVERYBODY, "temp", due_files.last_of_month(month), int(count), law)


def _day(column: Any) -> Any:
    return func.date(column)


def _date(day: Any) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day  # SQLite has no dates


def _by_day(column: Any, *where: Any) -> Select[Any]:
    return select(_day(column), func.count()).where(*where)


def _month_key() -> Any:
    return and_(keys.c.state == "active", keys.c.month != EVERY_MONTH)


_OF_NOBODY: Final = (
    ("audit", _by_day(audit_log.c.at), audit_log.c.at),
    ("certificates", _by_day(certificates.c.issued_at), certificates.c.issued_at),
    ("keys", _by_day(keys.c.created_at, _month_key(), keys.c.domain != _TRANSIT), keys.c.created_at),
)


def _row_stock(tenant: str, cls: str, day: date, rows: int, law: Governance) -> ExpiringRows:
    governing = [law.policies[tenant]] if tenant in law.policies else list(law.policies.values())
    days = [governed.last_day(cls, day, day) for governed in governing]
    # What speaks of every tenant stays as long as one of them wants it; what is only in the way goes with the first.
    last = (max if cls in LISTED else min)(days, default=date.max)
    return ExpiringRows(tenant, cls, day, _next(last), rows, state="kept" if cls in LISTED else "overdue")


# -- expired but present ---------------------------------------------------------------------------------------------


def _governed(settings: Settings, connection: Connection, as_of: date, today: date) -> Governed:
    blocking = holds.opened(settings, today=today) if holds.any_open(connection) else []
    return Governed(Governance(policy_register.in_force(settings, connection)), blocking, as_of, today)


def _expired(expiring: Iterable[ExpiringRows], as_of: date) -> list[dict[str, Any]]:
    """Return the rows past their window on `as_of` that are still there: {tenant, class, due, held, kept, overdue}.

    due = held + kept + overdue. `held`: copied apart for holds that everybody may know of. `kept`: for other reasons (a
    hold that cannot be matched there, or may not be known; what is only listed when it is due). `overdue` is what the
    next purge takes, and 0 after one.
    """
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COUNTS, 0))
    for item in expiring:
        if as_of >= item.due:
            of_class = sums[item.tenant, item.retention_class]
            of_class["due"] += item.rows
            of_class[item.state] += item.rows
    return [{"tenant": t, "class": cls, **sums[t, cls]} for t, cls in sorted(sums, key=_order)]


def _order(name: tuple[str, str]) -> tuple[str, int]:
    return name[0], _ORDER[name[1]]


_ORDER: Final = {cls: number for number, cls in enumerate(CLASSES)}


# -- the calendar ----------------------------------------------------------------------------------------------------


_TABLE: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("tenant", "class", "kept_for")),
        *((name, pa.int64()) for name in ("rows", "files")),
        *((name, pa.date32()) for name in ("oldest", "next_expiry")),
        *((name, pa.int64()) for name in ("due_30_days", "due_90_days", "open_holds", "oldest_hold_days")),
        *((name, pa.int64()) for name in ("held", "kept", "overdue")),
    ]
)


def table(settings: Settings, today: date | None) -> pa.Table:
    """Return the calendar as a table for SQL, where `window` is a word of its own; empty without a day."""
    lines = calendar(settings, today) if today else []
    rows = [{**vars(line), "class": line.class_, "kept_for": line.window} for line in lines]
    return pa.Table.from_pylist(rows, schema=_TABLE)


@dataclass(frozen=True, kw_only=True)
class CalendarLine:
    """What there is of a class of a tenant, and when it goes. Holds are those that everybody may know of."""

    tenant: str
    class_: str
    window: str | None  # such as "18 months"
    rows: int
    files: int
    oldest: date | None
    next_expiry: date | None
    due_30_days: int
    due_90_days: int
    open_holds: int
    oldest_hold_days: int | None
    held: int
    kept: int
    overdue: int


def calendar(settings: Settings, today: date, as_of: date | None = None) -> list[CalendarLine]:
    """Return a line for each tenant and class; as of another day it would be so then.

    A class without a store, or with nothing in it, shows 0; what is of no one tenant comes last. Held copies are past
    their window already, and are in no forecast.
    """
    day = as_of or today
    with database.reading(settings) as connection:
        governed = _governed(settings, connection, day, today)
        expiring = stock(connection, governed)
    policies, known = governed.law.policies, holds.visible(governed.blocking, holds.COMPLIANCE, today)
    expired = {(row["tenant"], row["class"]): row for row in _expired(expiring, day)}
    grouped: dict[tuple[str, str], list[ExpiringRows]] = defaultdict(list)
    for item in expiring:
        grouped[item.tenant, item.retention_class].append(item)
    return [
        CalendarLine(
            tenant=tenant,
            class_=cls,
            window=_window(tenant, cls, policies, day),
            **_forecast(grouped[tenant, cls], day),
            **_ages(known, tenant, today),
            **{name: expired.get((tenant, cls), {}).get(name, 0) for name in ("held", "kept", "overdue")},
        )
        for tenant, cls in _lines(policies, grouped)
    ]


def _lines(policies: Iterable[str], grouped: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return every class of every tenant that is kept by tenant, and what is of no one tenant."""
    of_tenants = {(tenant, cls) for tenant in policies for cls in CLASSES if cls not in _OF_ALL}
    of_all = {(EVERYBODY, cls) for cls in _OF_ALL}
    return sorted(of_tenants | of_all | set(grouped), key=lambda line: (line[0] not in policies, *_order(line)))


def _forecast(items: Sequence[ExpiringRows], day: date) -> dict[str, Any]:
    ahead = [item for item in items if not item.copy and day < item.due < date.max]
    return {
        "rows": sum(item.rows for item in items),
        "files": sum(item.files for item in items),
        "oldest": min((item.oldest for item in items), default=None),
        "next_expiry": min((item.due for item in ahead), default=None),
        **{f"due_{n}_days": sum(i.rows for i in ahead if i.due <= day + timedelta(n)) for n in _AHEAD},
    }


def _ages(known: Iterable[Hold], tenant: str, today: date) -> dict[str, Any]:
    ages = [(today - hold.placed_at.date()).days for hold in known if hold.tenant == tenant and hold.placed_at]
    return {"open_holds": len(ages), "oldest_hold_days": max(ages, default=None)}


def _window(tenant: str, cls: str, policies: Mapping[str, Policies], day: date) -> str | None:
    """Return the window that governs; where none does, because a tenant is silent or is no one's, None."""
    governing = [policies[tenant]] if tenant in policies else list(policies.values())
    rules = [governed.current.rules.get(cls) for governed in governing]
    windows = [rule.window for rule in rules if rule is not None]
    if not windows or (cls in LISTED and len(windows) < len(rules)):
        return None
    return str((max if cls in LISTED else min)(windows, key=lambda window: window.last_day(day)))
