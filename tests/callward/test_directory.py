"""The directory of accounts: whose number is whose on which day, and who pays for what came by a trunk."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.accounts.directory import NOBODY, Directory, Numbers
from callward.settings import Account, NumberRange, Trunk
from tests.examples import tries

_DAY = date(2026, 3, 5)
_BASE = 13035550100


def _days(*days: date) -> np.ndarray:
    return np.array([(day - date(1970, 1, 1)).days for day in days], np.int64)


def _range(first: int, last: int, since: date | None = None, until: date | None = None) -> NumberRange:
    return NumberRange(first=f"+{_BASE + first}", last=f"+{_BASE + last}", since=since, until=until)


def test_a_number_is_its_owners_from_the_first_day_to_the_last() -> None:
    moved = date(2026, 3, 6)
    before = Account(id="a", numbers=[_range(0, 9, until=_DAY), _range(20, 29)])
    after = Account(id="b", numbers=[_range(5, 9, since=moved)])
    numbers = Numbers.of([before, after])
    asked = pa.array(["+13035550107", "+13035550107", "+13035550102", "+13035550125", "+13035550199", "1007", None])
    assert numbers.owners(asked, _days(_DAY, *[moved] * 6)).tolist() == [0, 1, NOBODY, 0, NOBODY, NOBODY, NOBODY]


_RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(1, 20), st.integers(0, 9)), max_size=6)


@tries(60)
@given(st.lists(_RANGES, max_size=3))
def test_owners_are_those_of_the_ranges_one_by_one(given_ranges: list) -> None:
    accounts, taken = [], set()
    for number, ranges in enumerate(given_ranges):
        held = []
        for first, more, day, days in ranges:
            cells = {(n, d) for n in range(first, first + more + 1) for d in range(day, day + days + 1)}
            if not cells & taken:
                taken |= cells
                until = date(2026, 3, min(31, day + days))
                held.append(_range(first, first + more, date(2026, 3, day), until))
        accounts.append(Account(id=f"a{number}", numbers=held))
    asked = [(n, day) for n in range(41) for day in range(1, 31)]
    told = Numbers.of(accounts).owners(
        pa.array([f"+{_BASE + n}" for n, _ in asked]), _days(*(date(2026, 3, day) for _, day in asked))
    )
    expected = [
        next((at for at, a in enumerate(accounts) for r in a.numbers if _has(r, n, day)), NOBODY) for n, day in asked
    ]
    assert told.tolist() == expected


def _has(numbers: NumberRange, n: int, day: int) -> bool:
    (low, high), (since, until) = numbers.bounds, numbers.days
    return low <= _BASE + n <= high and since <= date(2026, 3, day) <= until


def test_a_trunk_that_accounts_share_has_its_own_account_for_the_rest() -> None:
    accounts = [Account(id="a", trunks=["t", "alone"]), Account(id="b", trunks=["t"], numbers=[_range(0, 9)])]
    directory = Directory.of("default", accounts, [Trunk(name="t", account="a"), Trunk(name="u", account="b")])
    assert directory.by_trunk == {"t": 0, "u": 1, "alone": 0}
    assert directory.sharing == {"t": frozenset({0, 1})}


@pytest.mark.parametrize(
    ("first", "last", "since", "until", "told"),
    [
        (9, 0, None, None, "the last number is of another length"),
        (0, 9, date(2026, 3, 6), date(2026, 3, 5), "until is before since"),
    ],
)
def test_a_range_that_is_none_is_refused(first: int, last: int, since: date, until: date, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _range(first, last, since, until)
