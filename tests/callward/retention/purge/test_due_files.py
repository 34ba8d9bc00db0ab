"""What is due, from the manifest alone: which files go, which lose their numbers, which keys nothing needs any more."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from callward.lake.ledger import DataFile
from callward.retention.holds import Hold
from callward.retention.policy.rules import Policies, Policy, Rule, call_clock
from callward.retention.purge.due_files import (
    BY_DATE,
    BY_TRUNK,
    FIVE_MINUTES,
    FROZEN,
    OPEN,
    REMOVED,
    USAGE,
    Dates,
    Governance,
    MonthKey,
    PlanItem,
    after,
    derived_rows,
    expiries,
    is_due,
    items,
    keys_to_destroy,
    last_of_month,
    short_rows,
)
from schemas.retention_classes import Window
from schemas.views import PARTS, VIEW_PARTS
from tests.examples import tries

TODAY = date(2030, 1, 1)
DAY = date(2026, 3, 5)
CALLS = ("call_detail", "billing_transaction", "assurance_metrics")
WINDOWS = {
    "call_detail": "2 months",
    "billing_transaction": "6 months",
    "assurance_metrics": "1 month",
    "suspense": "92 days",
    "archive": "92 days",
    "temp": "7 days",
}


def law(tenant: str = "default", at_expiry: str = "anonymize", **windows: str) -> Governance:
    rules = {name: Rule(Window.parse(text), "call_end") for name, text in (WINDOWS | windows).items()}
    rules["assurance_metrics"] = replace(rules["assurance_metrics"], at_expiry=at_expiry)
    return Governance({tenant: Policies(tenant, (Policy(tenant, 1, "test", "controller", "", rules),))})


def file(view: str = "billing", part: date | str = DAY, **facts: object) -> DataFile:
    usual = {
        "file_id": f"{view}-{part}",
        "tenant": "default",
        "path": f"{view}/{part}",
        "rows": 10,
        "bytes": 1,
        "sha256": "",
        "received_on": DAY + timedelta(1),
        "numbers": view in ("billing", "index"),
        "key_ids": f"{view}-meta {view}-numbers" if view in ("billing", "index") else f"{view}-meta",
        "parts": 3 if view == "index" else 0,
    }
    return DataFile(view=view, part=str(part), **(usual | facts))  # type: ignore[arg-type]


def log(view: str, first: date, last: date, **facts: object) -> DataFile:
    moments = {"first_start": datetime(*first.timetuple()[:3]), "last_start": datetime(*last.timetuple()[:3])}
    return file(view, view, received_on=last, **(moments | facts))


def hold(**selectors: object) -> Hold:
    return Hold("h", "default", "litigation", "a court", "a case", **selectors)  # type: ignore[arg-type]


def planned(
    *files: DataFile, as_of: date, found: tuple[Hold, ...] = (), by: Governance | None = None
) -> list[PlanItem]:
    return list(items(files, by or law(), found, as_of))


def last(cls: str, day: date = DAY) -> date:
    return Window.parse(WINDOWS[cls]).last_day(call_clock(day))


@pytest.mark.parametrize(
    ("view", "cls", "action"),
    [
        ("failed", "assurance_metrics", "delete"),
        ("answered", "assurance_metrics", "delete"),
        ("billing", "call_detail", "rewrite"),
        ("billing", "billing_transaction", "delete"),
    ],
)
def test_a_file_of_a_view_is_due_from_the_day_after_its_last(view: str, cls: str, action: str) -> None:
    found = planned(file(view), as_of=last(cls))
    assert action not in {item.action for item in found if item.retention_class == cls}
    (item,) = planned(file(view), as_of=last(cls) + timedelta(1))
    assert (item.retention_class, item.action, item.rows, item.look) == (cls, action, 10, False)


def test_numbers_that_are_gone_are_not_due_again() -> None:
    assert planned(file(numbers=False), as_of=last("call_detail") + timedelta(1)) == []


def test_numbers_never_outlast_their_row() -> None:
    long = law(call_detail="7 years")
    (item,) = planned(file(), as_of=last("billing_transaction") + timedelta(1), by=long)
    assert (item.retention_class, item.action) == ("billing_transaction", "delete")
    found = {e.retention_class: e.last for e in expiries(file(), long)}
    assert found["call_detail"] == found["billing_transaction"]


def test_rows_are_looked_at_only_where_a_hold_covers() -> None:
    as_of = last("assurance_metrics") + timedelta(1)
    covered = hold(first=DAY, last=DAY)
    for part in PARTS["assurance"]:
        (here,) = planned(file(part), as_of=as_of, found=(covered,))
        (there,) = planned(file(part, DAY - timedelta(1)), as_of=as_of, found=(covered,))
        assert here.look and not there.look


@pytest.mark.parametrize("last", [None, DAY])
def test_of_an_archive_a_hold_keeps_what_came_in_on_its_first_day_or_later(last: date | None) -> None:
    blocks = [file("archive", DAY + timedelta(n), rows=0) for n in (-1, 0, 1)]
    covered = hold(first=DAY, last=last, numbers=("+13035550101",))
    found = planned(*blocks, as_of=DAY + timedelta(200), found=(covered,))
    assert [item.action for item in found] == ["delete", "keep", "keep"]
    assert [item.rows for item in found] == [1, 1, 1]


def test_data_of_many_tenants_is_kept_by_the_shortest_window() -> None:
    both = Governance(law().policies | law("other", archive="10 days").policies)
    block = file("archive", DAY, tenant="_shared")
    assert planned(block, as_of=DAY + timedelta(10), by=both) == []
    (item,) = planned(block, as_of=DAY + timedelta(11), by=both)
    assert item.action == "delete"
    assert planned(file("archive", DAY), as_of=DAY + timedelta(11), by=both) == []


def test_a_log_is_looked_at_from_the_day_that_its_first_row_is_due() -> None:
    made = log("suspense", DAY, DAY + timedelta(20))
    assert planned(made, as_of=DAY + timedelta(92)) == []
    (item,) = planned(made, as_of=DAY + timedelta(93))
    assert item.look
    (expiry,) = expiries(made, law())
    assert (expiry.first, expiry.last) == (DAY + timedelta(92), DAY + timedelta(112))


@pytest.mark.parametrize(
    "wrong", [file("guests"), file("assurance"), file("answered", "someday"), file(received_on=None), file(tenant="x")]
)
def test_what_cannot_be_named_is_not_judged(wrong: DataFile) -> None:
    with pytest.raises(Problem, match="nothing was purged"):
        planned(wrong, as_of=TODAY)


# -- the row index -----------------------------------------------------------------------------------------------------


def indexed(as_of: date, by: Governance | None = None, **facts: object) -> tuple[str, str] | None:
    """The class and the action of what is done with a file of the index, of which no row is ever counted."""
    found = planned(file("index", **facts), as_of=as_of, by=by)
    assert all((item.rows, item.held) == (0, 0) for item in found)
    return next(((item.retention_class, item.action) for item in found), None)


def test_the_index_follows_the_views() -> None:
    one = timedelta(1)
    assert indexed(last("assurance_metrics")) is None
    assert indexed(last("assurance_metrics") + one) == ("assurance_metrics", "rewrite")
    assert indexed(last("call_detail") + one) == ("call_detail", "rewrite")
    assert indexed(last("billing_transaction") + one) == ("billing_transaction", "delete")
    long = law(assurance_metrics="1 year")
    assert indexed(last("billing_transaction") + one, long, numbers=False) == ("billing_transaction", "rewrite")
    gone = Window.parse("1 year").last_day(call_clock(DAY)) + one
    assert indexed(gone, long) == ("assurance_metrics", "delete")


@pytest.mark.parametrize("cls", ["assurance_metrics", "call_detail"])
def test_what_the_index_says_no_more_is_not_due_again(cls: str) -> None:
    as_of = last(cls) + timedelta(1)
    assert indexed(as_of) == (cls, "rewrite")
    assert indexed(as_of, parts=1, numbers=cls != "call_detail") is None
    assert indexed(last("billing_transaction"), parts=1, numbers=False) is None


def test_an_index_file_is_under_the_key_of_its_numbers_until_they_go() -> None:
    whole = file("index")
    (same,) = after([whole], [PlanItem(whole, "assurance_metrics", "rewrite")])
    (left,) = after([whole], [PlanItem(whole, "call_detail", "rewrite")])
    (still,) = after([whole], [PlanItem(whole, "call_detail", "rewrite", accounts=("a",))])
    assert same == still == whole and (left.key_ids, left.numbers) == ("index-meta", False)


@given(st.integers(0, 400))
@tries(100)
def test_a_replaced_index_file_is_due_with_what_it_says(later: int) -> None:
    as_of = DAY + timedelta(later)
    assert is_due(file("index"), law(), as_of) is (as_of > min(last(name) for name in CALLS))
    assert is_due(file("index", parts=0, numbers=False), law(), as_of) is (as_of > max(last(name) for name in CALLS))


# -- keys --------------------------------------------------------------------------------------------------------------


ID_PURPOSES = [f"{part}-id" for part in VIEW_PARTS]


def month_keys(month: str = "2026-03") -> list[MonthKey]:
    purposes = {
        "billing": ["meta"],
        "billing-numbers": ["numbers", "token"],
        "assurance": ["meta"],
        "index": ["meta", "numbers", "token", *ID_PURPOSES],
    }
    return [MonthKey(f"{c}-{p}-{month}", c, "default", month, p) for c, listed in purposes.items() for p in listed]


def to_destroy(as_of: date, *remaining: DataFile, known: list[MonthKey] | None = None) -> set[str]:
    found = keys_to_destroy(known or month_keys(), remaining, law(), as_of, TODAY)
    return {f"{key.domain}/{key.purpose}" for key, _ in found}


BILLED_NUMBERS, INDEXED_NUMBERS = ({f"{d}/numbers", f"{d}/token"} for d in ("billing-numbers", "index"))
NUMBERS = BILLED_NUMBERS | INDEXED_NUMBERS
ASSURANCE = {"assurance/meta"}
BILLING = {"billing/meta"}
INDEX = {"index/meta", *(f"index/{purpose}" for purpose in ID_PURPOSES)}  # who opens a view has no key of its ids


def test_keys_go_with_the_last_date_of_their_month() -> None:
    end = date(2026, 3, 31)
    assert to_destroy(last("assurance_metrics", end)) == set()
    assert to_destroy(last("assurance_metrics", end) + timedelta(1)) == ASSURANCE
    assert to_destroy(last("call_detail", end) + timedelta(1)) == ASSURANCE | NUMBERS
    assert to_destroy(last("billing_transaction", end) + timedelta(1)) == ASSURANCE | NUMBERS | BILLING | INDEX


def test_a_file_that_is_left_keeps_the_keys_of_its_view_and_month() -> None:
    as_of = date(2027, 6, 1)
    every = ASSURANCE | NUMBERS | BILLING | INDEX
    for part in PARTS["assurance"]:
        assert to_destroy(as_of, file(part, date(2026, 3, 9))) == every - ASSURANCE
        assert to_destroy(as_of, file(part, date(2026, 4, 1))) == every
    assert to_destroy(as_of, file("billing", date(2026, 3, 9))) == every - BILLING - BILLED_NUMBERS
    assert to_destroy(as_of, file("billing", date(2026, 3, 9), numbers=False)) == every - BILLING
    assert to_destroy(as_of, file("index", date(2026, 3, 9))) == every - INDEX - INDEXED_NUMBERS
    assert to_destroy(as_of, file("index", date(2026, 3, 9), numbers=False)) == every - INDEX
    assert to_destroy(as_of, file("held-billing", date(2026, 3, 9), numbers=True)) == every


def test_keys_of_logs_go_when_their_month_is_over_and_nothing_is_under_them() -> None:
    known = [MonthKey(f"{month}-key", "suspense", "default", month, "records") for month in ("2026-03", "2026-04")]
    assert [key.month for key, _ in keys_to_destroy(known, [], law(), date(2026, 4, 20), TODAY)] == ["2026-03"]
    under = log("suspense", DAY, DAY, key_ids="2026-03-key")
    assert keys_to_destroy(known, [under], law(), date(2026, 4, 20), TODAY) == []


def test_transit_keys_go_after_the_window_of_temp() -> None:
    known = [MonthKey("k", "transit", "_all", "2026-03", "shuffle")]
    assert keys_to_destroy(known, [], law(), date(2026, 4, 7), TODAY) == []
    assert keys_to_destroy(known, [], law(), date(2026, 4, 8), TODAY) == [(known[0], "temp")]


def test_keys_of_ids_and_of_every_month_never_go() -> None:
    known = [MonthKey("a", "ids", "default", "all", "record"), MonthKey("b", "hold", "_all", "all", "register")]
    known.append(MonthKey("c", "ids", "default", "2026-03", "record"))
    assert keys_to_destroy(known, [], law(), TODAY, TODAY) == []


def test_after_a_plan_a_file_is_no_longer_under_the_key_of_its_numbers() -> None:
    whole, spared = file(), file("failed")
    rewritten = PlanItem(whole, "call_detail", "rewrite", rows=10)
    (left, same) = after([whole, spared], [rewritten])
    assert left.key_ids == "billing-meta" and not left.numbers and same == spared
    assert after([whole], [replace(rewritten, accounts=("a",))]) == [whole]
    assert after([whole], [replace(rewritten, action="keep")]) == [whole]
    assert after([whole], [replace(rewritten, action="delete")]) == []


@given(st.integers(2000, 2100), st.integers(1, 12))
def test_the_last_date_of_a_month(year: int, month: int) -> None:
    day = last_of_month(f"{year}-{month:02d}")
    assert (day.year, day.month) == (year, month) and (day + timedelta(1)).day == 1


# -- derived rows ------------------------------------------------------------------------------------------------------


def states(dates: Dates, *gone: DataFile, noted: dict[tuple[str, str, date], str] | None = None) -> dict[str, str]:
    plan = [PlanItem(one, "x", "delete", rows=1) for one in gone]
    return {f"{row.table} {row.day}": row.state for row in derived_rows(plan, noted or {}, dates)}


def dates(as_of: date, *, at_expiry: str = "anonymize", found: tuple[Hold, ...] = ()) -> Dates:
    return Dates(frozenset(), law(at_expiry=at_expiry), found, as_of, TODAY)


def test_rows_by_trunk_stay_where_the_class_is_anonymized() -> None:
    as_of = last("assurance_metrics") + timedelta(1)
    for part in PARTS["assurance"]:
        kept = states(dates(as_of), file(part))
        assert {kept[f"{table} {DAY}"] for table in BY_DATE} == {REMOVED}
        assert {kept[f"{table} {DAY}"] for table in BY_TRUNK} == {FROZEN}
        assert set(states(dates(as_of, at_expiry="purge"), file(part)).values()) == {REMOVED}


def test_rows_by_five_minutes_go_after_14_days_unless_a_hold_covers_them() -> None:
    last_kept = DAY + timedelta(14)
    assert not list(short_rows([("default", DAY)], dates(last_kept)))
    (goes,) = short_rows([("default", DAY)], dates(last_kept + timedelta(1)))
    assert (goes.table, goes.day, goes.state) == (FIVE_MINUTES, DAY, REMOVED)
    assert not list(short_rows([("default", DAY)], dates(last_kept + timedelta(1), found=(hold(),))))


def test_rows_of_dates_that_a_hold_covers_stay() -> None:
    as_of = last("assurance_metrics") + timedelta(1)
    assert set(states(dates(as_of, found=(hold(),)), file("answered")).values()) == {FROZEN}


def test_rows_of_a_date_that_is_not_all_gone_are_left_open() -> None:
    as_of = last("assurance_metrics") + timedelta(1)
    rest = replace(dates(as_of), remaining=frozenset({("assurance", "default", str(DAY))}))
    assert set(states(rest, file("answered")).values()) == {OPEN}


def test_what_was_noted_is_told_again_only_when_it_changes() -> None:
    as_of = last("assurance_metrics") + timedelta(1)
    noted = {(table, "default", DAY): FROZEN for table in (*BY_DATE, *BY_TRUNK)}
    assert states(dates(as_of), noted=noted) == {f"{table} {DAY}": REMOVED for table in BY_DATE}


def test_usage_closes_with_the_last_call_date_that_may_be_in_it() -> None:
    one = timedelta(1)
    found = states(dates(last("billing_transaction") + one), file())
    assert found[f"{USAGE} {DAY - one}"] == REMOVED and found[f"{USAGE} {DAY}"] == OPEN
    assert states(dates(last("billing_transaction", DAY + one) + one), file())[f"{USAGE} {DAY}"] == REMOVED


# -- any window --------------------------------------------------------------------------------------------------------

windows = st.builds(lambda n, unit: f"{n} {unit}s", st.integers(1, 40), st.sampled_from(["day", "month", "year"]))


@given(windows, windows, windows, st.dates(date(2020, 1, 1), date(2025, 12, 31)), st.integers(0, 4000))
@tries(200)
def test_a_plan_agrees_with_what_the_night_still_takes(
    numbers: str, billing: str, assurance: str, day: date, later: int
) -> None:
    """What a night would still write a purge does not take, and the other way round."""
    by, as_of = (
        law(call_detail=numbers, billing_transaction=billing, assurance_metrics=assurance),
        day + timedelta(later),
    )
    opened = by.policies["default"].open_for(day, day, as_of)
    found = {item.file.view: item.action for item in planned(file("billing", day, received_on=day), as_of=as_of, by=by)}
    assert found.get("billing") == (None if opened.numbers else "rewrite" if opened.billing else "delete")
    gone = planned(*(file(part, day, received_on=day) for part in PARTS["assurance"]), as_of=as_of, by=by)
    assert len(gone) == (0 if opened.assurance else 2)
    for expiry in expiries(file("billing", day, received_on=day), by):
        still = opened.numbers if expiry.retention_class == "call_detail" else opened.billing
        assert still is (as_of <= expiry.last)
