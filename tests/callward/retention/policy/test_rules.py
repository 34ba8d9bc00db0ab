"""Until when data is kept: never early, shorter windows at once, longer ones only for what comes in afterwards."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import given
from hypothesis import strategies as st

from callward.retention.policy.rules import Policies, Policy, Rule, call_clock
from schemas.retention_classes import CLASSES, Window

DAY = timedelta(days=1)
_WINDOWS = st.builds(Window, st.integers(1, 40), st.sampled_from(["day", "month", "year"]))
_DATES = st.dates(date(2023, 1, 1), date(2027, 12, 31))
_ACCOUNTS = ("acct-a", "acct-b", "acct-c")


def rule(name: str, window: Window | str, clock: str = "") -> Rule:
    made = window if isinstance(window, Window) else Window.parse(window)
    return Rule(made, clock or CLASSES[name].clock, at_expiry=CLASSES[name].default_action)


def policy(version: int = 1, activated: date | None = None, **changes: Any) -> Policy:
    """A version with one window for every class, unless `rules` says otherwise."""
    at = datetime.combine(activated, datetime.min.time()) + timedelta(hours=13) if activated else None
    rules = {name: rule(name, "1 year") for name in CLASSES} | changes.pop("rules", {})
    return Policy("default", version, "test", "controller", f"{version:064}", rules, activated_at=at, **changes)


def alone(**rules: str) -> Policies:
    return Policies("default", (policy(rules={name: rule(name, window) for name, window in rules.items()}),))


@st.composite
def histories(draw: st.DrawFn) -> Policies:
    """Versions with any windows, activated on any days, some with a reference, some accounts with their own."""
    days = sorted(draw(st.lists(_DATES, min_size=1, max_size=6)))
    made = []
    for number, day in enumerate(days, 1):
        made.append(
            policy(
                number,
                day,
                rules={name: rule(name, draw(_WINDOWS)) for name in ("call_detail", "billing_transaction")},
                reference=draw(st.none() | st.just("notice 7")),
                subscribers=draw(st.dictionaries(st.sampled_from(_ACCOUNTS), _WINDOWS)),
                purposes=frozenset(draw(st.sets(st.sampled_from("abcd"), min_size=1))),
            )
        )
    return Policies("default", tuple(made))


def reaching(policies: Policies, received: date) -> list[Policy]:
    """The oracle: of all versions the last one that may lengthen (the one data came in under, or one with a reference),
    and those after it, each of which may only shorten."""
    at_arrival = sum(v.activated_at.date() < received for v in policies.versions if v.activated_at) or 1
    while len(policies.versions) > at_arrival and any(v.reference for v in policies.versions[at_arrival:]):
        at_arrival += 1
    return list(policies.versions[at_arrival - 1 :])


def end(window: Window, clock: date) -> date:
    return clock + relativedelta(**{f"{window.unit}s": window.count})


@given(histories(), _DATES, _DATES)
def test_the_last_day_is_the_oracles(policies: Policies, clock: date, received: date) -> None:
    expected = min(end(v.rules["call_detail"].window, clock) for v in reaching(policies, received))
    assert policies.last_day("call_detail", clock, received) == expected
    for as_of in (expected - DAY, expected, expected + DAY):
        assert policies.due("call_detail", clock, received, as_of) is (as_of > expected)


@given(histories(), _DATES, _DATES, _DATES)
def test_accounts_are_due_before_their_class_by_their_own_window_alone(
    policies: Policies, clock: date, received: date, as_of: date
) -> None:
    ends = {
        account: min(
            end(window, clock)
            for v in reaching(policies, received)
            for window in (v.rules["call_detail"].window, v.subscribers.get(account))
            if window
        )
        for account in _ACCOUNTS
    }
    of_class = policies.last_day("call_detail", clock, received)
    expected = {a for a, last in ends.items() if last < as_of <= of_class}
    assert policies.due_accounts("call_detail", clock, received, as_of) == expected
    assert policies.due_accounts("assurance_metrics", clock, received, as_of) == set()


@given(histories(), _DATES)
def test_a_later_purpose_reaches_older_data_by_a_reference_alone(policies: Policies, received: date) -> None:
    allowed = [v.purposes for v in reaching(policies, received)]
    assert policies.purposes(received) == frozenset.intersection(*allowed)


@given(histories(), _DATES, _DATES, _DATES)
def test_numbers_never_outlast_their_row(policies: Policies, call_date: date, received: date, as_of: date) -> None:
    found = policies.open_for(call_date, received, as_of)
    assert found.billing or not found.numbers
    clock = call_clock(call_date)
    assert found.assurance is not policies.due("assurance_metrics", clock, received, as_of)
    assert found.billing is not policies.due("billing_transaction", clock, received, as_of)


def test_numbers_go_with_a_row_whose_window_is_shorter_than_theirs() -> None:
    found = alone(call_detail="3 years", billing_transaction="1 year")
    day = date(2026, 1, 1)
    last = found.last_day("billing_transaction", call_clock(day), day)
    assert found.open_for(day, day, last)[:2] == (True, True)
    assert found.open_for(day, day, last + DAY)[:2] == (False, False)
    assert not found.due("call_detail", call_clock(day), day, last + DAY)


@given(_WINDOWS, _DATES, st.integers(0, 400))
def test_a_billing_row_is_not_due_before_it_could_be_invoiced(window: Window, call_date: date, days: int) -> None:
    rules = {"billing_transaction": rule("billing_transaction", window)}
    found = Policies("default", (policy(rules=rules, uninvoiced_days=days),))
    last = found.last_day("billing_transaction", call_clock(call_date), call_date)
    assert last == max(end(window, call_clock(call_date)), call_date + timedelta(days=days))
    invoice = call_date + timedelta(days=40)
    assert found.last_day("billing_transaction", invoice, call_date, invoiced=True) == end(window, invoice)


def test_a_policy_that_counts_billing_from_the_call_waits_for_no_invoice() -> None:
    rules = {"billing_transaction": rule("billing_transaction", "1 day", "call_end")}
    found = Policies("default", (policy(rules=rules),))
    clock = call_clock(date(2026, 1, 31))
    assert found.last_day("billing_transaction", clock, clock) == clock + DAY


def test_a_call_date_expires_whole_after_its_longest_call() -> None:
    found = alone(call_detail="1 month")
    last = found.last_day("call_detail", call_clock(date(2024, 1, 29)), date(2024, 1, 30))
    assert last == date(2024, 3, 29)  # 29 January, 31 days of call, and a month


def test_what_came_in_on_the_day_of_an_activation_is_under_the_version_before() -> None:
    day = date(2026, 5, 10)
    rules = {"call_detail": rule("call_detail", "3 years")}
    found = Policies("default", (policy(1, date(2020, 1, 1)), policy(2, day, rules=rules)))
    assert found.last_day("call_detail", day, day) == date(2027, 5, 10)
    assert found.last_day("call_detail", day, day + DAY) == date(2029, 5, 10)


def test_data_older_than_the_first_version_is_under_the_first() -> None:
    found = Policies("default", (policy(1, date(2026, 1, 1)),))
    assert found.last_day("call_detail", date(2024, 1, 1), date(2024, 1, 1)) == date(2025, 1, 1)


def test_silence_is_never_due() -> None:
    bare = Policies("default", (Policy("default", 0, "from settings", "controller", "0", {}),))
    assert not bare.due("temp", date(2000, 1, 1), date(2000, 1, 1), date.max)
    assert bare.open_for(date(2000, 1, 1), date(2000, 1, 1), date(2100, 1, 1)) == (True, True, True)


@pytest.mark.parametrize(
    "change",
    [
        {"activated_at": datetime(2026, 1, 2, tzinfo=UTC)},
        {"reference": "notice 7"},
        {"digest": "f" * 64},
        {"version": 2},
    ],
)
def test_whatever_a_last_day_depends_on_is_in_the_digest(change: dict[str, Any]) -> None:
    one = policy(1, date(2026, 1, 1))
    assert Policies("default", (one,)).digest != Policies("default", (replace(one, **change),)).digest
    assert Policies("default", (one,)).digest == Policies("default", (replace(one),)).digest
