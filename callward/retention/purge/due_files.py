"""What is due: the plan of a purge, made from the manifest, the policies and the holds, without reading a row.

A data file of the views has one call date and one day that its rows came in, so it is due as a whole; a sealed log has
rows of several days and says their span. The row index follows the views: what leaves with them leaves it too, and no
row of it is counted. Where a hold covers, or single rows of a file are due, the plan says "look",
and callward/retention/purge/due_rows.py counts the rows. Everything else is arithmetic over dates.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from callward.errors import Problem
from callward.lake import account_sums
from callward.lake.ledger import DataFile
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy.rules import ASSURANCE, BILLING, NUMBERS, OpenFor, Policies, call_clock
from schemas.tables import CLOSED, sla_sums
from schemas.views import HELD, INDEX, PARTS, VIEW_BITS, VIEW_OF, VIEW_PARTS

SUSPENSE: Final = "suspense"
ARCHIVE: Final = "archive"
TEMP: Final = "temp"
REQUESTS: Final = "requests"
DELETE, REWRITE, RELEASE, KEEP = "delete", "rewrite", "release", "keep"

# A feed of many tenants is archived under the first; what no rule gives to a tenant is suspended under the second.
NO_ONES: Final = ("_shared", "_unknown")
_CLASS_OF_VIEW: Final = {"billing": BILLING, "assurance": ASSURANCE}
_CLASS_OF: Final = {part: _CLASS_OF_VIEW[view] for part, view in VIEW_OF.items()}
VIEWS: Final = (
    *VIEW_PARTS,
    INDEX,
    "suspense",
    "pending",
    "late",
    "archive",
    *(HELD + part for part in VIEW_PARTS),
    f"{HELD}late",
)
_LOG_CLASS: Final = {"suspense": SUSPENSE, "pending": NUMBERS}
_HELD_CLASS: Final = {HELD + view: cls for view, cls in {**_CLASS_OF, "late": NUMBERS}.items()}
_LONGEST_BILLED: Final = 32  # days from a call's date to the last local date that its answer can be billed on


class Governance:
    """Whose policy governs what. Data of no one tenant is kept by the shortest window of all of them."""

    def __init__(self, policies: Mapping[str, Policies]) -> None:
        self.policies = policies

    def of(self, tenant: str) -> list[Policies]:
        """Return the policies that govern a tenant's data; raises Problem for a tenant that nobody speaks for."""
        if tenant in self.policies:
            return [self.policies[tenant]]
        if tenant in NO_ONES and self.policies:
            staying = [policies for policies in self.policies.values() if not policies.leaving]
            return staying or list(self.policies.values())
        raise Problem(f"there is data of tenant {tenant!r}, whom no policy and no settings name; nothing was purged")

    def last_day(self, tenant: str, cls: str, clock: date, received: date) -> date:
        """Return the last day that data of a class is kept through."""
        return min(policies.last_day(cls, clock, received) for policies in self.of(tenant))

    def due(self, tenant: str, cls: str, clock: date, received: date, as_of: date) -> bool:
        """Return whether data of a class is past its window on `as_of`."""
        return as_of > self.last_day(tenant, cls, clock, received)

    def open_for(self, tenant: str, call_date: date, received: date, as_of: date) -> OpenFor:
        """Return the views that still keep a call of that date."""
        opened = [policies.open_for(call_date, received, as_of) for policies in self.of(tenant)]
        return OpenFor(*(all(view) for view in zip(*opened, strict=True)))

    def due_accounts(self, file: DataFile, as_of: date) -> tuple[str, ...]:
        """Return the accounts whose own window for the numbers is past, while that of the tenant is not."""
        clock, received = call_clock(_day(file)), _received(file)
        accounts = [policies.due_accounts(NUMBERS, clock, received, as_of) for policies in self.of(file.tenant)]
        return tuple(sorted(set().union(*accounts)))

    def keeps_trunks(self, tenant: str) -> bool:
        """Return whether the hourly tables by trunk stay when the rows they were made of go."""
        rules = [policies.current.rules.get(ASSURANCE) for policies in self.of(tenant)]
        staying = not any(policies.leaving for policies in self.of(tenant))
        return staying and all(rule is not None and rule.at_expiry == "anonymize" for rule in rules)


@dataclass(frozen=True)
class PlanItem:
    """One data file of a plan and what is done with it.

    `rows` are due, of which a hold keeps `held`; of the row index none is counted. `look`: the rows must be looked at
    to know how many. `accounts`: of these alone the numbers go. `why`: held rows by the ids of holds that everyone may
    know of, "" for other reasons.
    """

    file: DataFile
    retention_class: str
    action: str
    rows: int = 0
    held: int = 0
    look: bool = False
    accounts: tuple[str, ...] = ()
    why: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def changes(self) -> bool:
        """Return whether anything is done: what a hold keeps where it lies is in a plan only to be counted."""
        return self.action != KEEP

    def facts(self) -> list[Any]:
        """Return what the plan's digest is over."""
        file = self.file
        return [
            self.retention_class,
            self.action,
            file.tenant,
            file.view,
            file.part,
            file.file_id,
            self.rows,
            self.held,
            list(self.accounts),
        ]


def whole(item: PlanItem) -> PlanItem:
    """Return the item with all rows of its file due and none held."""
    return replace(item, rows=item.file.rows, look=False)


# -- days of a data file -----------------------------------------------------------------------------------------------


class Expiry(NamedTuple):
    """Until when rows of a data file, or the numbers in them, are kept: the first of them to go, and the last.

    An archived block counts as one row, also where several were put into one file.
    """

    retention_class: str
    first: date
    last: date
    rows: int


def expiries(file: DataFile, law: Governance) -> list[Expiry]:
    """Return per class that governs a data file the last days that it is kept through, by the windows in force now.

    None for copies under a hold, whose window is past, and for the row index, which follows the views. Raises Problem
    for a view that this release does not know.
    """
    check_known(file)
    if file.view in PARTS["billing"]:
        return _of_billing(file, law)
    if file.view in VIEW_PARTS:
        return [_one(ASSURANCE, law.last_day(file.tenant, ASSURANCE, call_clock(_day(file)), _received(file)), file)]
    if file.view == "archive":
        return [_one(ARCHIVE, law.last_day(file.tenant, ARCHIVE, _day(file), _day(file)), file)]
    if file.view in _LOG_CLASS:
        return [Expiry(_LOG_CLASS[file.view], *_log_days(file, law), file.rows)]
    return []


def is_due(file: DataFile, law: Governance, as_of: date) -> bool:
    """Return whether a data file, or a log's first row, is past a window, that of its numbers included."""
    if file.view == INDEX:
        item = _of_index(file, law, as_of)
        return item is not None and not item.look
    return any(as_of > expiry.first for expiry in expiries(file, law))


def _of_billing(file: DataFile, law: Governance) -> list[Expiry]:
    clock, received = call_clock(_day(file)), _received(file)
    row = law.last_day(file.tenant, BILLING, clock, received)
    rows_and_numbers = [_one(BILLING, row, file)]
    if file.numbers:  # they never outlast the row
        rows_and_numbers.append(_one(NUMBERS, min(row, law.last_day(file.tenant, NUMBERS, clock, received)), file))
    return rows_and_numbers


def _one(cls: str, last: date, file: DataFile) -> Expiry:
    return Expiry(cls, last, last, file.rows or 1)


def _log_days(file: DataFile, law: Governance) -> tuple[date, date]:
    """Return the earliest and the latest last day of a log: a row that came earlier never has a longer window."""
    cls, (first, last) = _LOG_CLASS[file.view], log_span(file)
    if file.view == "suspense":
        return law.last_day(file.tenant, cls, first, first), law.last_day(file.tenant, cls, last, last)
    before = law.last_day(file.tenant, cls, call_clock(first), date.min)
    return before, law.last_day(file.tenant, cls, call_clock(last), _received(file))


def log_span(file: DataFile) -> tuple[date, date]:
    """Return the first and the last day that clocks of a sealed log's rows begin with."""
    known = [moment.date() for moment in (file.first_start, file.last_start) if moment is not None]
    return (min(known), max(known)) if known else (_received(file), _received(file))


def check_known(file: DataFile) -> None:
    """Raise Problem for a data file that cannot be judged: nothing is deleted that cannot be named."""
    if file.view not in VIEWS:
        raise Problem(
            f"data file {file.file_id} is of a view that this release does not know ({file.view}); nothing was purged"
        )


def _day(file: DataFile) -> date:
    try:
        return date.fromisoformat(file.part)
    except ValueError:
        raise Problem(f"data file {file.file_id} says no date that it is of; nothing was purged") from None


def _received(file: DataFile) -> date:
    if file.received_on is None:
        raise Problem(f"data file {file.file_id} does not say when its rows came in; nothing was purged")
    return file.received_on


# -- what is done with each data file ----------------------------------------------------------------------------------


def items(files: Iterable[DataFile], law: Governance, blocking: Sequence[Hold], as_of: date) -> Iterator[PlanItem]:
    """Yield what is due of the data files that count, in their order, `blocking` being the holds that keep rows."""
    for file in files:
        check_known(file)
        item = _item(file, law, blocking, as_of)
        if item is not None:
            yield item


def _item(file: DataFile, law: Governance, blocking: Sequence[Hold], as_of: date) -> PlanItem | None:
    if file.view in VIEW_PARTS:
        return _of_view(file, law, blocking, as_of)
    if file.view == INDEX:
        return _of_index(file, law, as_of)
    if file.view == "archive":
        return _of_archive(file, law, blocking, as_of)
    if file.view in _LOG_CLASS:
        return _of_log(file, law, as_of)
    if file.view == "late":
        covers = bool(holds.covering(blocking, file.tenant, *log_span(file)))
        return _looked(PlanItem(file, NUMBERS, RELEASE), covers)
    covered = bool(holds.covering(blocking, file.tenant, _day(file), _day(file)))
    return _looked(PlanItem(file, _HELD_CLASS[file.view], RELEASE), covered)


def _looked(item: PlanItem, look: bool) -> PlanItem:
    return replace(item, look=True) if look else whole(item)


def _of_view(file: DataFile, law: Governance, blocking: Sequence[Hold], as_of: date) -> PlanItem | None:
    """Return a view file's item: rows past their class go whole, numbers past theirs leave; held rows are copied."""
    opened = law.open_for(file.tenant, _day(file), _received(file), as_of)
    covered = bool(holds.covering(blocking, file.tenant, _day(file), _day(file)))
    if not still_open(opened, file.view):
        return _looked(PlanItem(file, _CLASS_OF[file.view], DELETE), covered)
    if not file.numbers:
        return None
    if not opened.numbers:
        return _looked(PlanItem(file, NUMBERS, REWRITE), covered)
    accounts = law.due_accounts(file, as_of)
    return PlanItem(file, NUMBERS, REWRITE, look=True, accounts=accounts) if accounts else None


def still_open(opened: OpenFor, view: str) -> bool:
    """Return whether a view, or a part of one, still keeps its rows."""
    return opened.billing if VIEW_OF.get(view, view) == "billing" else opened.assurance


def _of_index(file: DataFile, law: Governance, as_of: date) -> PlanItem | None:
    """Return an index file's item: it goes with the last view, and before loses what it says of views and numbers.

    Holds keep nothing of it: what they match is copied out of the views with all that these have.
    """
    opened = law.open_for(file.tenant, _day(file), _received(file), as_of)
    if not any(opened):
        return PlanItem(file, _last_class(law, file.tenant, _day(file), _received(file)), DELETE)
    accounts = law.due_accounts(file, as_of) if file.numbers else ()
    if file.numbers and not opened.numbers:
        return PlanItem(file, NUMBERS, REWRITE)
    for view, bit in VIEW_BITS.items():
        if file.parts & bit and not still_open(opened, view):
            return PlanItem(file, _CLASS_OF_VIEW[view], REWRITE, accounts=accounts)
    return PlanItem(file, NUMBERS, REWRITE, look=True, accounts=accounts) if accounts else None


def _last_class(law: Governance, tenant: str, call_date: date, received: date) -> str:
    """Return the class of the views that is kept longest: a call's entry in the index goes with it."""
    return max((BILLING, ASSURANCE), key=lambda cls: law.last_day(tenant, cls, call_clock(call_date), received))


def _of_archive(file: DataFile, law: Governance, blocking: Sequence[Hold], as_of: date) -> PlanItem | None:
    """Return a block's item. Nothing in it can be matched: a hold keeps all that came in on its first day or later."""
    if not law.due(file.tenant, ARCHIVE, _day(file), _day(file), as_of):
        return None
    keeping, count = holds.receiving(blocking, file.tenant, _day(file)), file.rows or 1
    why = {"": count} if keeping else {}
    return PlanItem(file, ARCHIVE, KEEP if keeping else DELETE, rows=count, held=sum(why.values()), why=why)


def _of_log(file: DataFile, law: Governance, as_of: date) -> PlanItem | None:
    """Return a log's item, always to be looked at: the ledger must know what each row that goes was."""
    first, _ = _log_days(file, law)
    return PlanItem(file, _LOG_CLASS[file.view], DELETE, look=True) if as_of > first else None


# -- keys whose last row goes ------------------------------------------------------------------------------------------


class MonthKey(NamedTuple):
    """A key of the register that is not destroyed."""

    key_id: str
    domain: str
    tenant: str
    month: str
    purpose: str


_INDEX_NUMBERS: Final = f"{INDEX}-numbers"  # the index's keys of numbers and tokens: its root is one with that of meta
_VIEW_CLASS: Final = {
    **_CLASS_OF_VIEW,
    account_sums.DOMAIN: ASSURANCE,
    "billing-numbers": NUMBERS,
    _INDEX_NUMBERS: NUMBERS,
}
_SEALED_CLASS: Final = {"suspense": SUSPENSE, "pending": NUMBERS, "late": NUMBERS, "archive": ARCHIVE, "hold": NUMBERS}


def keys_to_destroy(
    known: Iterable[MonthKey],
    remaining: Sequence[DataFile],
    law: Governance,
    as_of: date,
    today: date,
    of_sums: Collection[str] = (),
) -> list[tuple[MonthKey, str]]:
    """Return month keys that nothing needs any more, and the class of what lay under each, in order.

    `remaining` are data files as they are after the plan, `of_sums` ids of the keys that sums by account lie under.
    A key of a view goes when no file of its month is left and every date of the month is due also for data that would
    come in `today`; one that sealed logs or the archive in a month goes when that month is over and no file is under
    it. Keys of ids never go.
    """
    used = {key_id for file in remaining for key_id in file.key_ids.split()} | set(of_sums)
    left = {(VIEW_OF.get(file.view, file.view), file.tenant, file.part[:7]) for file in remaining}
    left |= {
        (f"{VIEW_OF.get(file.view, file.view)}-numbers", file.tenant, file.part[:7])
        for file in remaining
        if file.view in (*PARTS["billing"], INDEX) and file.numbers
    }
    classes = ((key, _class_to_destroy(key, used, left, law, as_of, today)) for key in sorted(known, key=_by_name))
    return [(key, cls) for key, cls in classes if cls]


def _by_name(key: MonthKey) -> tuple[str, ...]:
    return tuple(key[1:])


def _class_to_destroy(
    key: MonthKey, used: set[str], left: set[tuple[str, str, str]], law: Governance, as_of: date, today: date
) -> str | None:
    """Return the class of a key that goes, None for one that stays."""
    if key.month == "all" or key.key_id in used:
        return None
    view = _INDEX_NUMBERS if key.domain == INDEX and key.purpose in ("numbers", "token") else key.domain
    if view in _VIEW_CLASS or view == INDEX:
        if (view, key.tenant, key.month) in left or _month_open(view, key, law, as_of, today):
            return None
        return _VIEW_CLASS.get(view) or _last_class(law, key.tenant, last_of_month(key.month), today)
    if key.domain == "hold":  # minted for a purge, with a file or, when that purge was abandoned, without
        return _HELD_CLASS[HELD + key.purpose.partition(".")[0].removeprefix("holds-").removesuffix("-numbers")]
    over = key.month < min(as_of, today).isoformat()[:7]
    if key.domain in _SEALED_CLASS and over:
        return _SEALED_CLASS[key.domain]
    if key.domain == "transit":
        last = last_of_month(key.month)
        kept = min(policies.last_day(TEMP, last, last) for policies in law.policies.values())
        return TEMP if over and as_of > kept else None
    return None


def _month_open(view: str, key: MonthKey, law: Governance, as_of: date, today: date) -> bool:
    """Return whether a call of the month's last date, and so of any, could still be written if it came in now."""
    opened = law.open_for(key.tenant, last_of_month(key.month), today, as_of)
    if view in ("billing-numbers", _INDEX_NUMBERS):
        return opened.numbers
    return any(opened) if view == INDEX else still_open(opened, view)


def last_of_month(month: str) -> date:
    """Return the last date of a month (YYYY-MM)."""
    year, number = map(int, month.split("-"))
    return date(year + number // 12, number % 12 + 1, 1) - timedelta(1)


def after(files: Iterable[DataFile], plan: Iterable[PlanItem]) -> list[DataFile]:
    """Return the data files as they are after a plan, as far as keys and partitions go.

    A file that loses all its numbers is no longer under their key; a log or held copy that is written anew is under
    keys of the day. One of the index whose rows may all go is taken to stay.
    """
    doing = {item.file.file_id: item for item in plan if item.changes}
    remaining = []
    for file in files:
        item = doing.get(file.file_id)
        if item is None or (item.action == REWRITE and _keeps_numbers(item)):
            remaining.append(file)
        elif item.action == REWRITE:
            stays = file.key_ids.split()[0] if file.view in (*PARTS["billing"], INDEX) else ""
            remaining.append(replace(file, numbers=False, key_ids=stays))
    return remaining


def _keeps_numbers(item: PlanItem) -> bool:
    """Return whether a file that is written anew still has the number columns that it had."""
    return bool(item.accounts) or (item.file.view == INDEX and item.retention_class != NUMBERS)


# -- derived rows ------------------------------------------------------------------------------------------------------


REMOVED, FROZEN, OPEN = "removed", "frozen", "open"


class Derived(NamedTuple):
    """Derived rows of one table, tenant and day of which data files go, and what becomes of them.

    removed: they are deleted. frozen: they stay as they are, and nothing can change them. open: they stay, and rows of
    the day may still come; the lake no longer has all that they were made of.
    """

    table: str
    tenant: str
    day: date
    state: str


BY_TRUNK: Final = (
    "assurance_trunk_hourly",
    "assurance_trunk_hourly_pdd",
    "assurance_trunk_hourly_cause",
    "assurance_trunk_hourly_mos",
)
BY_DATE: Final = (
    sla_sums.name,
    "assurance_failed_destination_hourly",
    *(table.name for table in CLOSED),
)
FIVE_MINUTES: Final = "assurance_failed_5min"
FIVE_MINUTES_DAYS: Final = 14  # that its rows are kept, or less where the day's attempts go earlier
USAGE: Final = "billing_usage_daily"


@dataclass(frozen=True)
class Dates:
    """What derived rows are judged by: the partitions left, the law, the holds, and the days."""

    remaining: frozenset[tuple[str, str, str]]  # (view, tenant, call_date)
    law: Governance
    found: Sequence[Hold]
    as_of: date
    today: date

    def closed(self, view: str, tenant: str, day: date) -> bool:
        """Return whether no row of a call date is left in a view, and none can come any more."""
        opened = self.law.open_for(tenant, day, self.today, self.as_of)
        return not still_open(opened, view) and (view, tenant, day.isoformat()) not in self.remaining

    def held(self, tenant: str, first: date, last: date) -> bool:
        return bool(holds.covering(self.found, tenant, first, last))


def first_kept(as_of: date) -> date:
    """Return the first day of which FIVE_MINUTES has rows after a purge."""
    return as_of - timedelta(FIVE_MINUTES_DAYS)


def short_rows(days: Iterable[tuple[str, date]], dates: Dates) -> Iterator[Derived]:
    """Yield the days (tenant, date) whose rows of FIVE_MINUTES go: nothing is noted of them, as nothing stays."""
    for tenant, day in sorted(days):
        over = day < first_kept(dates.as_of) or dates.closed("assurance", tenant, day)
        if over and not dates.held(tenant, day, day):
            yield Derived(FIVE_MINUTES, tenant, day, REMOVED)


def derived_rows(
    plan: Iterable[PlanItem], noted: Mapping[tuple[str, str, date], str], dates: Dates
) -> Iterator[Derived]:
    """Yield what becomes of derived rows, in order; `noted` are those that earlier purges froze or left open.

    Usage is by the local date of the answer, so a day of it closes when every call date that may be in it has.
    """
    touched = set(noted)
    for item in plan:
        if item.action == DELETE and item.file.view in VIEW_PARTS:
            touched |= set(_made_of(item.file))
    for table, tenant, day in sorted(touched):
        state = _usage_state(tenant, day, dates) if table == USAGE else _state(table, tenant, day, dates)
        if noted.get((table, tenant, day)) != state:
            yield Derived(table, tenant, day, state)


def _made_of(file: DataFile) -> Iterator[tuple[str, str, date]]:
    """Yield the tables, tenant and days that rows of a data file may be in."""
    day = _day(file)
    if file.view in PARTS["billing"]:
        yield from ((USAGE, file.tenant, day + timedelta(n)) for n in range(-1, _LONGEST_BILLED + 1))
    else:
        yield from ((table, file.tenant, day) for table in (*BY_DATE, *BY_TRUNK))


def _usage_state(tenant: str, day: date, dates: Dates) -> str:
    span = [day + timedelta(n) for n in range(1, -_LONGEST_BILLED - 1, -1)]  # the newest call date closes last
    if not all(dates.closed("billing", tenant, call_date) for call_date in span):
        return OPEN
    return FROZEN if dates.held(tenant, span[-1], span[0]) else REMOVED


def _state(table: str, tenant: str, day: date, dates: Dates) -> str:
    if not dates.closed("assurance", tenant, day):
        return OPEN
    stays = table in BY_TRUNK and dates.law.keeps_trunks(tenant)
    return FROZEN if stays or dates.held(tenant, day, day) else REMOVED
