"""The directory of accounts: whose number is whose on which day, and who pays for what came by a trunk."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.accounts.directory import Directory, Names, Numbers, Ranges, SingleNumbers, count_leading
from callward.accounts.entries import ALWAYS, FOREVER, NOBODY, Entries, Holdings, joined, label
from callward.keys import tokens
from callward.settings import Account, NumberRange, Settings, Trunk
from tests.examples import tries

_DAY = date(2026, 3, 5)
_BASE = 13035550100
_SECRET = b"s" * 32


def _days(*days: date) -> np.ndarray:
    return np.array([(day - date(1970, 1, 1)).days for day in days], np.int64)


def _range(first: int, last: int, since: date | None = None, until: date | None = None) -> NumberRange:
    return NumberRange(first=f"+{_BASE + first}", last=f"+{_BASE + last}", since=since, until=until)


def _names(payers: np.ndarray, directory: Directory) -> list[str | None]:
    return [None if at == NOBODY else directory.ids[at].as_py() for at in payers]


def test_a_number_is_its_owners_from_the_first_day_to_the_last() -> None:
    moved = date(2026, 3, 6)
    before = Account(id="a", numbers=[_range(0, 9, until=_DAY), _range(20, 29)])
    after = Account(id="b", numbers=[_range(5, 9, since=moved)])
    numbers = Directory.of("default", [before, after], []).numbers
    asked = pa.array(["+13035550107", "+13035550107", "+13035550102", "+13035550125", "+13035550199", "1007", None])
    assert numbers.owners(asked, _days(_DAY, *[moved] * 6)).tolist() == [0, 1, NOBODY, 0, NOBODY, NOBODY, NOBODY]


def _of(rows: Sequence[tuple[int, int, int, int, int]]) -> tuple[Numbers, pd.DataFrame]:
    """Return (first, last, owner, since, until) to look up, single numbers by their tokens; and as a frame."""
    frame = pd.DataFrame(rows, columns=["low", "high", "owner", "since", "until"], dtype=np.int64)
    frame = frame.drop_duplicates(ignore_index=True)
    one, more = frame[frame.low == frame.high], frame[frame.low < frame.high]
    words = tokens.integer_token(one.low.to_numpy() + _BASE, _SECRET)
    singles = Entries.of(*words.T, *(one[name] for name in ("owner", "since", "until"))).ordered()
    columns = (more.low + _BASE, more.high + _BASE, *(more[name] for name in ("owner", "since", "until")))
    ranges = Ranges.of(Entries.of(*columns)) if len(more) else None
    return Numbers(SingleNumbers.of(singles, count_leading(singles), _SECRET), ranges), frame


def oracle(entries: pd.DataFrame, asked: pd.DataFrame) -> list[int]:
    """Return who has numbers on days: of the narrowest entries that hold those that began last, if they agree."""
    each = asked.reset_index(names="row").merge(entries, how="cross")
    each = each[(each.low <= each.n) & (each.n <= each.high) & (each.since <= each.day) & (each.day <= each.until)]
    each["width"] = each.high - each.low
    each = each[each.width == each.groupby("row").width.transform("min")]
    each = each[each.since == each.groupby("row").since.transform("max")]
    owners = each.groupby("row").owner.agg(lambda of: of.iloc[0] if of.nunique() == 1 else NOBODY)
    return [int(owner) for owner in owners.reindex(asked.index, fill_value=NOBODY)]


_SINCE = st.sampled_from([ALWAYS, 3, 5, 6, 9])
_UNTIL = st.sampled_from([4, 5, 7, 8, FOREVER])
_ENTRIES = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 0, 1, 2, 5]), st.integers(NOBODY, 3), _SINCE, _UNTIL),
    max_size=12,
)


@tries(60)
@given(_ENTRIES)
def test_the_narrowest_wins_then_the_last_to_begin_and_of_equal_ones_nobody(given_entries: list) -> None:
    rows = [(low, low + more, *rest) for low, more, *rest in given_entries if rest[1] <= rest[2]]
    numbers, entries = _of(rows)
    asked = pd.DataFrame([(n, day) for n in range(-1, 12) for day in (2, 3, 4, 5, 6, 8, 9)], columns=["n", "day"])
    spelled = pa.array([f"+{_BASE + n}" for n in asked.n])
    assert numbers.owners(spelled, asked.day.to_numpy()).tolist() == oracle(entries, asked)


def test_many_numbers_are_found_among_many() -> None:
    generator = np.random.default_rng(5)
    has = generator.choice(40_000, 20_000, replace=False)
    rows = [(int(n), int(n), at % 700, ALWAYS, FOREVER) for at, n in enumerate(has)]
    numbers, entries = _of(rows)
    asked = np.arange(50_000)
    owner = entries.set_index("low").owner.reindex(asked, fill_value=NOBODY)
    spelled = pa.array([f"+{_BASE + n}" for n in asked])
    assert numbers.owners(spelled, np.full(len(asked), 20_000)).tolist() == owner.tolist()


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_trunk_that_accounts_share_has_its_own_account_for_the_rest() -> None:
    accounts = [Account(id="a", trunks=["t", "alone"]), Account(id="b", trunks=["t"], numbers=[_range(0, 9)])]
    trunks = Directory.of("default", accounts, [Trunk(name="t", account="a"), Trunk(name="u", account="b")]).trunks
    asked, days = pa.array(["t", "u", "alone", "other", None]), _days(*[_DAY] * 5)
    assert trunks.owners(asked, days).tolist() == [0, 1, 0, NOBODY, NOBODY]
    assert trunks.shared_with(asked, days, np.full(5, 1, np.int32)).tolist() == [True, False, False, False, False]
    assert trunks.shared_with(asked, days, np.full(5, NOBODY, np.int32)).tolist() == [False] * 5


_HELD = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), _SINCE, _UNTIL), max_size=9)


@tries(60)
@given(_HELD)
def test_a_name_is_an_accounts_own_while_no_other_has_it(given_entries: list) -> None:
    held = [row for row in given_entries if row[2] <= row[3]]
    columns = zip(*((name, 0, *rest) for name, *rest in held), strict=True)
    labels = pa.array([label("trunk", f"t{n}") for n in range(3)])
    ids = pa.array(["a", "b", "c"])
    holdings = Holdings(ids, pa.nulls(3, pa.string()), labels, Entries.of(), Entries.of(), Entries.of(*columns))
    names = Names.of(holdings, "trunk")
    asked = [(n, day, owner) for n in range(3) for day in range(2, 11, 2) for owner in range(3)]
    column, days = pa.array([f"t{n}" for n, *_ in asked]), np.array([day for _, day, _ in asked])
    holders = [
        {who for n, who, since, until in held if (n, True) == (of, since <= day <= until)} for of, day, _ in asked
    ]
    alone = [next(iter(of)) if len(of) == 1 else NOBODY for of in holders]
    assert names.owners(column, days).tolist() == alone
    calling = np.array([owner for *_, owner in asked], np.int32)
    among = names.shared_with(column, days, calling)
    expected = [who in of for of, (*_, who) in zip(holders, asked, strict=True)]
    chosen = [who if share else own for share, (*_, who), own in zip(among, asked, alone, strict=True)]
    right = [who if has else own for has, (*_, who), own in zip(expected, asked, alone, strict=True)]
    assert chosen == right


# -- what is stored, and what the settings say -------------------------------------------------------------------------


def test_settings_and_what_is_stored_are_one_directory() -> None:
    stored = Holdings.of_settings([Account(id="a", codes=["ac-a"], trunks=["t"]), Account(id="b")])
    settings = [Account(id="c", trunks=["t"]), Account(id="b", codes=["ac-b"])]
    both = joined(stored, Holdings.of_settings(settings))
    assert both.ids.to_pylist() == ["a", "b", "c"]
    directory = Directory.of("default", settings, [], stored)
    days = _days(*[_DAY] * 2)
    assert _names(directory.codes.owners(pa.array(["ac-a", "ac-b"]), days), directory) == ["a", "b"]
    assert directory.trunks.owners(pa.array(["t", "t"]), days).tolist() == [NOBODY, NOBODY]
    share = directory.trunks.shared_with(pa.array(["t", "t"]), days, np.array([0, 1], np.int32))
    assert share.tolist() == [True, False]


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


def test_what_is_in_memory_of_single_numbers_is_no_number() -> None:
    numbers, _ = _of([(0, 0, 0, ALWAYS, FOREVER)])
    singles: Any = numbers.singles
    held = b"".join(column.tobytes() for column in singles.entries.columns)
    assert _BASE.to_bytes(5, "little") not in held
    assert str(_BASE) not in repr(singles)
    assert _SECRET.decode() not in repr(singles)


@pytest.mark.parametrize(
    ("first", "other", "refused"),
    [((0, 9), (2, 4), False), ((0, 9), (5, 9), False), ((0, 9), (5, 14), True), ((3, 3), (3, 3), True)],
)
def test_settings_may_give_a_part_of_a_range_away_and_nothing_twice(
    first: tuple[int, int], other: tuple[int, int], *, refused: bool
) -> None:
    accounts = [Account(id="a", numbers=[_range(*first)]), Account(id="b", numbers=[_range(*other)])]
    with pytest.raises(ValueError, match="have a number in common") if refused else nullcontext():
        Settings(path=Path("callward.toml"), accounts=accounts)
