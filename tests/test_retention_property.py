"""Promise 5: for any windows, any calendar, any holds and any order of arrivals exactly what should be there is there.

Tiny nights and purges through the real entry points, beside an oracle over plain Python objects. It says of every call
what must be there after each purge: its rows in both views, its numbers, its held copies; then every byte of the
workspace is read for numbers that should be gone.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dateutil.relativedelta import relativedelta
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from callward.evidence import certificates
from callward.lake.data_files import DataFiles
from callward.sweep.scanner import sweep
from tests.examples import tries
from tests.retention import DAY, HEADER, files, hold, night, purged, release

EXAMPLES = int(os.environ.get("CALLWARD_EXAMPLES") or 2)
CALLED = "+13035550190"
COLUMNS = HEADER.rstrip() + ",pdd_ms\n"  # what tells one attempt from another in each part of the assurance view
WINDOWS = {"10 days": {"days": 10}, "25 days": {"days": 25}, "1 month": {"months": 1}, "3 months": {"months": 3}}


# -- the oracle: plain rows, dates and holds ---------------------------------------------------------------------------


@dataclass(eq=False)
class Order:
    """A hold: alternatives of selectors (none: everything), on dates from `first` on."""

    caller: str | None
    account: str | None
    first: date
    number: int = 0
    open: bool = True

    def covers(self, call: "Call") -> bool:
        return self.open and call.day >= self.first

    def keeps(self, call: "Call", view: str) -> bool:
        """Whether it keeps a call's row; where the index has no tokens of its day any more, all of the day is kept."""
        if not self.covers(call):
            return False
        if self.caller is None and self.account is None:
            return True
        if view == "assurance" and self.caller is not None and not call.indexed:
            return True
        return self.caller == call.caller or (self.account is not None and self.account == call.account)


@dataclass(eq=False)
class Call:
    """One call, and where it must be. `held`: view → the orders that its copy was made for, and all that were asked.

    `perhaps`: views where it may be held as well, as an order covers it and nothing says whether it matches: its
    numbers were gone before the order came, or its copy, which tells no account and no number, was made before.
    """

    number: int
    day: date
    caller: str
    account: str | None
    answered: bool
    views: set[str] = field(default_factory=set)
    held: dict[str, tuple[set[Order], set[Order]]] = field(default_factory=dict)
    perhaps: set[str] = field(default_factory=set)
    sought: set[Order] = field(default_factory=set)  # orders that were asked while its row had numbers
    whole: bool = False  # its held copy was made while its row had numbers
    indexed: bool = False  # whether the index has tokens of its numbers

    def last(self, view: str, windows: dict[str, str]) -> date:
        """The last day; a billing row that nobody has invoiced stays 92 days, and numbers go with their row."""
        end = self.day + timedelta(days=31) + relativedelta(**WINDOWS[windows[view]])
        if view == "billing":
            return max(end, self.day + timedelta(days=92))
        return min(end, self.last("billing", windows)) if view == "numbers" else end

    def arrive(self, windows: dict[str, str], today: date, orders: list[Order]) -> None:
        opened = {view: today <= self.last(view, windows) for view in windows}
        if opened["assurance"]:
            self.views.add("assurance")
        self.indexed = opened["numbers"]
        if self.answered and opened["billing"]:
            self.views |= {"billing"} | ({"numbers"} if opened["numbers"] else set())
        if not all(opened.values()) and any(order.open for order in orders):
            self.views.add("late")

    def purge(self, windows: dict[str, str], as_of: date, orders: list[Order]) -> None:
        before = dict(self.held)
        for view in ("assurance", "numbers", "billing", "late"):
            past = view == "late" or as_of > self.last(view, windows)
            if view in self.views and past:
                self._leave(view, orders)
        for view, (kept_for, asked) in before.items():
            later = {order for order in orders if order not in asked and order.keeps(self, view)}
            if not any(order.keeps(self, view) for order in kept_for) and not later:
                del self.held[view]
            if any(order.covers(self) and order not in asked for order in orders):
                self.perhaps.add(view)
        self.indexed &= as_of <= self.last("numbers", windows)

    def _leave(self, view: str, orders: list[Order]) -> None:
        self.views.remove(view)
        place = "billing" if view == "numbers" else view
        asked = {order for order in orders if order.covers(self)}
        if view == "numbers" or "numbers" in self.views:
            self.sought = asked
        if view == "billing" and any(order.caller and order not in self.sought for order in asked):
            self.perhaps.add(view)
        kept_for = {order for order in asked if order.keeps(self, place)}
        if kept_for and place not in self.held:
            self.held[place] = (kept_for, asked)
            self.whole |= view == "numbers" or "numbers" in self.views


# -- what is there -----------------------------------------------------------------------------------------------------


def found(site: Any) -> dict[str, set[int]]:
    """Which calls are in each view, known by their minute or PDD, and which still have their numbers."""
    reader = DataFiles(site.opened, "test")
    there: dict[str, set[int]] = {"numbers": set(), "held-numbers": set()}
    for view in ("assurance", "billing", "held-assurance", "held-billing"):
        rows = [row for file in files(site, view) for row in reader.rows(file).to_pylist()]
        there[view] = {minute(row["start"]) if view.endswith("billing") else row["pdd_ms"] // 100 for row in rows}
        assert len(there[view]) == len(rows), f"a row is twice in {view}"
        if view.endswith("billing"):
            name = "held-numbers" if view.startswith("held-") else "numbers"
            there[name] = {minute(row["start"]) for row in rows if row.get("called_number") is not None}
    for view in ("late", "held-late"):
        there[view] = {minute(r["start_time"]) for f in files(site, view) for r in reader.read_log(f).to_pylist()}
    return there


def minute(moment: datetime) -> int:
    return moment.hour * 60 + moment.minute


def line(call: Call) -> str:
    start = datetime(call.day.year, call.day.month, call.day.day, tzinfo=UTC) + timedelta(minutes=call.number)
    answer = f"{start:%FT%TZ}" if call.answered else ""
    stamps = f"{start:%FT%TZ},{answer},{start + timedelta(seconds=30):%FT%TZ}"
    talk = 30_000 if call.answered else 0
    return f"id-{call.number},{call.caller},{CALLED},{stamps},{talk},{call.account or ''},{100 * call.number}\n"


def check(site: Any, calls: list[Call], orders: list[Order]) -> None:
    there = found(site)
    for view in ("assurance", "billing", "numbers", "late"):
        assert there[view] == {call.number for call in calls if view in call.views}, view
    assert there["held-numbers"] >= {c.number for c in calls if c.whole and "billing" in c.held}
    for view in ("assurance", "billing", "late"):
        must = {call.number for call in calls if view in call.held}
        assert must <= there[f"held-{view}"], view
        may = {c.number for c in calls if view in c.perhaps and any(order.covers(c) for order in orders)}
        assert there[f"held-{view}"] <= must | may, view


# -- the test ----------------------------------------------------------------------------------------------------------

callers = [f"+1303555010{n}" for n in range(1, 4)]
accounts = ["ac-0001", "ac-0002"]
call_facts = st.tuples(st.integers(0, 40), st.sampled_from(callers), st.sampled_from([None, *accounts]), st.booleans())
orders_of = st.builds(
    lambda caller, account, after: Order(caller, account, DAY + timedelta(after)),
    st.sampled_from([None, *callers]),
    st.sampled_from([None, *accounts]),
    st.sampled_from([0, 0, 12]),
)


@st.composite
def stories(draw: st.DrawFn) -> dict[str, Any]:
    """Windows, nights with the calls that each brings in any order, purges after them, holds that come and go."""
    windows = {view: draw(st.sampled_from(list(WINDOWS))) for view in ("assurance", "numbers", "billing")}
    made = draw(st.lists(call_facts, min_size=2, max_size=10))
    days = sorted(draw(st.lists(st.integers(41, 200), min_size=2, max_size=3)))
    calls = [
        (Call(n, DAY + timedelta(day), caller, account, answered), draw(st.integers(0, len(days) - 1)))
        for n, (day, caller, account, answered) in enumerate(made, 1)
    ]
    return {
        "windows": windows,
        "calls": calls,
        "days": days,
        "purges": [day + draw(st.integers(0, 30)) for day in days],
        "orders": [draw(st.none() | orders_of) for _ in days],
        "released": [draw(st.booleans()) for _ in days],
    }


_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a story takes seconds: shrinking one would take minutes


@given(story=stories())
@tries(EXAMPLES, suppress_health_check=list(HealthCheck), phases=_PHASES)
def test_exactly_what_the_policy_and_the_holds_name_is_there(
    workspace: Callable[..., Any], story: dict[str, Any]
) -> None:
    windows = story["windows"]
    named = {"assurance": "assurance_metrics", "numbers": "call_detail", "billing": "billing_transaction"}
    retention = {named[view]: window for view, window in windows.items()}
    # What is read is not archived: its window is another one, and the numbers would be there.
    site = workspace("generic", retention=retention, landing={"after_commit": "delete"})
    calls, orders, placed = [call for call, _ in story["calls"]], [], {}
    for turn, day in enumerate(story["days"]):
        if (order := story["orders"][turn]) is not None:
            orders.append(order)
            selectors = {"numbers": (order.caller,) if order.caller else ()}
            selectors |= {"accounts": (order.account.replace("ac-", "acct-"),) if order.account else ()}
            placed[order] = hold(site, first=order.first, **selectors)
        brought = [call for call, of in story["calls"] if of == turn]
        if brought:
            night(site, (COLUMNS + "".join(map(line, brought))).encode(), DAY + timedelta(day), f"{turn}.csv")
        for call in brought:
            call.arrive(windows, DAY + timedelta(day), orders)
        check(site, calls, orders)
        if turn and story["released"][turn] and any(order.open for order in orders):
            gone = next(order for order in orders if order.open)
            release(site, placed[gone])
            gone.open = False
        as_of = DAY + timedelta(story["purges"][turn])
        done = purged(site, as_of)
        for call in calls:
            call.purge(windows, as_of, orders)
        check(site, calls, orders)
        assert done["overdue"] == 0 and not done["failed_checks"]
        if done["certificate"]:
            assert [c.sentence for c in certificates.verify(site.settings, done["certificate"]) if not c.ok] == []
    numbers = {c.caller for c in calls} - {c.caller for c in calls if "numbers" in c.views or c.held}
    assert sweep([site.folder], numbers or {"+15005550006"}).hits == []
