"""Windows count calendar time as calendars do, and every class says what a policy may do with it."""

from datetime import date, timedelta

import numpy as np
import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st

from schemas.retention_classes import ACTIONS, CLASSES, CLOCKS, DEMO_WINDOWS, REQUIRED, Window, example, examples
from tests.examples import tries

_UNITS = st.sampled_from(["day", "month", "year"])
_DAYS = st.dates(date(1999, 1, 1), date(2120, 12, 31))
_WINDOWS = st.builds(Window, st.integers(1, 120), _UNITS)


@given(_DAYS, st.integers(1, 1500), _UNITS)
@case(date(2024, 2, 29), 1, "year")
@case(date(2024, 2, 29), 4, "year")
@case(date(2023, 1, 31), 1, "month")
@case(date(2024, 1, 31), 1, "month")
@case(date(2026, 3, 31), 18, "month")
@case(date(2026, 12, 31), 2, "month")
def test_the_last_day_is_the_calendars(start: date, count: int, unit: str) -> None:
    assert Window(count, unit).last_day(start) == start + relativedelta(**{f"{unit}s": count})


@given(_DAYS, _WINDOWS)
def test_what_began_later_never_ends_earlier(start: date, window: Window) -> None:
    assert window.last_day(start) <= window.last_day(start + timedelta(days=1))


@pytest.mark.parametrize("window", [Window(9999, "year"), Window(9999, "month"), Window(9999, "day")])
def test_a_window_may_reach_beyond_the_calendar(window: Window) -> None:
    assert window.last_day(date(9999, 1, 1)) == date.max


# Every day of the 400 years after which the calendar repeats.
_STARTS = np.arange("2000-01-01", "2400-01-01", dtype="datetime64[D]")


def _ends(window: Window) -> np.ndarray:
    """By NumPy's months: the first of the month, so many months on, and the day or the month's last."""
    if window.unit == "day":
        return _STARTS + window.count
    months = _STARTS.astype("datetime64[M]")
    then = months + window.count * (12 if window.unit == "year" else 1)
    last = (then + 1).astype("datetime64[D]") - 1
    return np.minimum(then.astype("datetime64[D]") + (_STARTS - months.astype("datetime64[D]")), last)


@tries(60)
@given(_WINDOWS, _WINDOWS)
@case(Window(30, "day"), Window(1, "month"))
@case(Window(31, "day"), Window(1, "month"))
@case(Window(1, "month"), Window(28, "day"))
@case(Window(1, "month"), Window(29, "day"))
@case(Window(365, "day"), Window(12, "month"))
@case(Window(366, "day"), Window(1, "year"))
@case(Window(12, "month"), Window(1, "year"))
def test_a_window_may_end_before_another_when_on_some_day_it_does(one: Window, other: Window) -> None:
    assert one.may_end_before(other) == bool((_ends(one) < _ends(other)).any())


@given(_WINDOWS)
def test_a_window_is_read_as_it_is_written(window: Window) -> None:
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize(
    "text", ["", "18", "0 days", "-1 day", "3 weeks", "36 hours", "1.5 years", "2027-01-01", "a year", "10000 days"]
)
def test_what_is_no_calendar_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a window is written like"):
        Window.parse(text)


@given(st.integers(100, 199).map(lambda n: f"+1303555{n:04} days"))
def test_a_refused_window_repeats_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"not '\+#") as raised:
        Window.parse(text)
    assert not any(c.isdigit() for c in str(raised.value).partition("not ")[2])


def test_a_night_needs_the_classes_that_it_writes() -> None:
    assert tuple(DEMO_WINDOWS) == REQUIRED
    assert set(REQUIRED) == {
        "call_detail",
        "billing_transaction",
        "assurance_metrics",
        "suspense",
        "archive",
        "audit",
    }


def test_every_clock_and_action_of_a_class_is_explained() -> None:
    assert {clock for retention in CLASSES.values() for clock in retention.clocks} == set(CLOCKS)
    assert {action for retention in CLASSES.values() for action in retention.actions} == set(ACTIONS)


def test_only_what_has_a_form_without_persons_is_anonymized() -> None:
    assert [name for name, retention in CLASSES.items() if "anonymize" in retention.actions] == ["assurance_metrics"]


def test_there_is_an_example_for_each_published_policy() -> None:
    assert examples() == [
        "business-processor",
        "controller-instructed",
        "global-carrier",
        "per-subscriber",
        "voip-canada",
    ]
    with pytest.raises(KeyError):
        example("../sources/asterisk")


@pytest.mark.parametrize("name", examples())
def test_every_clause_of_an_example_is_preceded_by_what_it_stands_on(name: str) -> None:
    lines = example(name).splitlines()
    clauses = [n for n, line in enumerate(lines) if line.startswith(("[", "role", "purposes", "uninvoiced"))]
    assert len(clauses) >= len(CLASSES) + 3
    bare = [lines[n] for n in clauses if not lines[n - 1].startswith("#") and not lines[n].startswith("role")]
    assert bare == []
