"""Threshold tables against plain pandas, and against an attacker who tries every table that fits what is published."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.release.suppression import NOWHERE, Partition, Rows, Rule, Stats, combine, measure, table
from tests.examples import tries

CELLS = 6
PARENTS = np.array([0, 0, 0, 1, 1, 1])
RULE = Rule(2, 0.5, (0,))

# account, subscriber within it, cell, events, seconds
entries = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, CELLS - 1), st.integers(1, 2), st.integers(0, 500)),
    max_size=24,
)
Entry = tuple[int, int, int, int, int]


def rows_of(listed: Sequence[Entry]) -> Rows:
    account, line, cell = (np.array([row[at] for row in listed], np.uint64) for at in range(3))
    subscriber = account * np.uint64(100) + line
    return Rows(account, subscriber, cell, np.array([row[3:] for row in listed], np.int64).reshape(-1, 2))


def frame(listed: Sequence[Entry], groups: Any) -> pd.DataFrame:
    """The same rows in a plain table, with the group of each."""
    made = pd.DataFrame(list(listed), columns=["account", "line", "cell", "events", "seconds"])
    return made.assign(group=np.asarray(groups)[made["cell"]], person=made["account"] * 100 + made["line"])


def published(listed: Sequence[Entry], rule: Rule = RULE, within: Partition | None = None) -> Partition:
    return table([rows_of(listed)], PARENTS, rule, within)


# -- figures -----------------------------------------------------------------------------------------------------------


@tries(40)
@given(entries, st.lists(st.integers(-1, 3), min_size=CELLS, max_size=CELLS))
def test_figures_of_groups_are_those_of_plain_pandas(listed: Any, groups: list[int]) -> None:
    stats = measure(rows_of(listed), np.array(groups), 4)
    plain = frame(listed, groups)
    for group in range(4):
        mine = plain[plain["group"] == group]
        assert stats.counts[group].tolist() == [mine["events"].sum(), mine["seconds"].sum()]
        assert (stats.subscribers[group], stats.accounts[group]) == (
            mine["person"].nunique(),
            mine["account"].nunique(),
        )
        for top, by in ((stats.top_subscriber, "person"), (stats.top_account, "account")):
            most = mine.groupby(by)[["events", "seconds"]].sum().max().fillna(0)
            assert top[group].tolist() == most.tolist()


@tries(40)
@given(entries, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_parts_by_account_come_to_the_same_table(listed: Any, part_of: list[int]) -> None:
    parts = [rows_of([row for row in listed if part_of[row[0]] == part]) for part in range(3)]
    whole, apart = published(listed), table([combine(part) for part in parts], PARENTS, RULE)
    assert whole.group.tolist() == apart.group.tolist()
    for mine, theirs in zip(vars(whole.stats).values(), vars(apart.stats).values(), strict=True):
        assert mine.tolist() == theirs.tolist()


@tries(40)
@given(entries)
def test_combined_rows_are_one_for_each_account_subscriber_and_cell(listed: Any) -> None:
    rows = combine(rows_of(listed))
    plain = frame(listed, np.arange(CELLS)).groupby(["account", "person", "cell"])[["events", "seconds"]].sum()
    found = pd.DataFrame({"account": rows.account, "person": rows.subscriber, "cell": rows.cell}).astype("int64")
    assert len(found) == len(plain)
    assert [tuple(plain.loc[key]) for key in found.itertuples(index=False, name=None)] == [
        tuple(counts) for counts in rows.counts.tolist()
    ]


# -- what is published -------------------------------------------------------------------------------------------------


@tries(40)
@given(entries, st.sampled_from([Rule(2, 0.5, (0,)), Rule(3, 0.6, (0, 1)), Rule(1, 1.0, (0,))]))
def test_every_group_that_shows_keeps_the_rule_by_its_own_rows(listed: Any, rule: Rule) -> None:
    found = published(listed, rule)
    plain = frame(listed, found.group)
    for group in range(len(found.parent)):
        mine = plain[plain["group"] == group]
        assert mine["account"].nunique() >= rule.k
        assert mine["person"].nunique() >= rule.k
        for column in np.array(["events", "seconds"])[list(rule.magnitudes)]:
            for by in ("account", "person"):
                assert mine.groupby(by)[column].sum().max() <= rule.dominance * mine[column].sum()
        assert found.stats.counts[group].tolist() == [mine["events"].sum(), mine["seconds"].sum()]


@tries(40)
@given(entries)
def test_groups_are_cells_or_the_rest_of_one_parent(listed: Any) -> None:
    found = published(listed)
    for group, (parent, cell) in enumerate(zip(found.parent, found.cell, strict=True)):
        mine = np.flatnonzero(found.group == group)
        assert set(PARENTS[mine]) == {parent}
        assert (
            (mine.tolist() == [cell])
            if cell != NOWHERE
            else (np.count_nonzero(found.is_other[found.parent == parent]) == 1)
        )


@tries(40)
@given(entries)
def test_a_parent_shows_nothing_only_where_all_of_it_together_fails(listed: Any) -> None:
    found = published(listed)
    for parent in range(2):
        mine = [row for row in listed if PARENTS[row[2]] == parent]
        whole = measure(rows_of(mine), PARENTS, 2).at(np.array([parent]))
        assert bool((found.parent == parent).any()) == bool(len(mine) and RULE.passes(whole)[0])


def test_one_subscriber_in_all_shows_nowhere() -> None:
    found = published([(1, 0, cell, 2, 60) for cell in range(CELLS)])
    assert (len(found.parent), set(found.group)) == (0, {NOWHERE})


def test_an_account_of_a_quarter_of_all_calls_dominates_no_cell_that_shows() -> None:
    rng = np.random.default_rng(2)
    listed = [
        (int(a), 0, int(c), 1, 60) for a, c in zip(rng.integers(1, 30, 300), rng.integers(0, 6, 300), strict=True)
    ]
    found = published([*listed, *[(0, 0, 2, 1, 60)] * 100], Rule(5, 0.5, (0, 1)))
    assert NOWHERE not in found.group
    group = found.group[2]
    assert found.is_other[group] and found.stats.top_account[group, 0] <= found.stats.counts[group, 0] / 2


def test_an_empty_period_shows_nothing() -> None:
    assert len(published([]).parent) == 0
    with pytest.raises(ValueError):
        table([], PARENTS, RULE)


# -- the rule by hand: an example for each clause ----------------------------------------------------------------------

THREE = Rule(3, 0.5, (0, 1))
# A group that just keeps every clause of THREE: six events and sixty seconds, of which nobody has more than half.
_JUST = {
    "counts": [6, 60],
    "subscribers": 3,
    "accounts": 3,
    "top_subscriber": [3, 30],
    "top_account": [3, 30],
}


def passes(rule: Rule, **figures: Any) -> bool:
    return bool(rule.passes(Stats(**{name: np.array([value]) for name, value in {**_JUST, **figures}.items()}))[0])


def test_a_group_that_just_keeps_every_clause_is_shown() -> None:
    assert passes(THREE)
    assert passes(THREE, subscribers=9, accounts=9, top_subscriber=[1, 1], top_account=[1, 1])


@pytest.mark.parametrize(
    ("clause", "value"),
    [
        ("subscribers", 2),
        ("accounts", 2),
        ("top_subscriber", [4, 30]),
        ("top_subscriber", [3, 31]),
        ("top_account", [4, 30]),
        ("top_account", [3, 31]),
    ],
)
def test_a_group_that_breaks_one_clause_alone_is_not_shown(clause: str, value: Any) -> None:
    assert not passes(THREE, **{clause: value})


def test_nobody_dominates_any_of_the_magnitudes_that_the_rule_names_and_no_other() -> None:
    figures = {"counts": [6, 60, 600], "top_account": [3, 30, 300]}
    for column in range(3):
        top = [1, 1, 1]
        top[column] = figures["counts"][column] // 2 + 1
        for magnitudes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            shown = passes(Rule(3, 0.5, magnitudes), **{**figures, "top_subscriber": top})
            assert shown == (column not in magnitudes)


Groups = dict[tuple[int, ...], tuple[list[int], int, int]]


def groups_of(found: Partition) -> Groups:
    """Each published group's cells → its events and seconds, its subscribers, its accounts."""
    stats = zip(found.stats.counts.tolist(), found.stats.subscribers, found.stats.accounts, strict=True)
    return {
        tuple(np.flatnonzero(found.group == group).tolist()): (counts, int(subscribers), int(accounts))
        for group, (counts, subscribers, accounts) in enumerate(stats)
    }


def calls(cell: int, accounts: Sequence[int], events: int = 1, seconds: int = 10) -> list[Entry]:
    """As many events of the only line of each account, in one cell."""
    return [(account, 0, cell, events, seconds) for account in accounts]


def test_many_lines_of_few_accounts_are_not_shown() -> None:
    lines = [(account, line, 0, 1, 10) for account in (1, 2) for line in range(5)]
    assert groups_of(published(lines, THREE)) == {}
    assert groups_of(published([*lines, *calls(0, [3])], THREE)) == {(0,): ([11, 110], 11, 3)}


def test_an_account_that_dominates_through_lines_that_do_not_is_not_shown() -> None:
    lines = [(1, line, 0, 1, 10) for line in range(4)]
    assert groups_of(published([*lines, *calls(0, [2, 3])], THREE)) == {}
    assert groups_of(published([*lines, *calls(0, [2, 3, 4, 5])], THREE)) == {(0,): ([8, 80], 8, 5)}


@pytest.mark.parametrize(("events", "seconds"), [(9, 10), (1, 90)])
def test_a_line_that_dominates_in_one_magnitude_alone_is_not_shown(events: int, seconds: int) -> None:
    listed = [*calls(0, [1, 2, 3]), *calls(0, [4], events, seconds)]
    assert groups_of(published(listed, THREE)) == {}
    assert groups_of(published(listed, Rule(3, 0.9, (0, 1)))) == {(0,): ([3 + events, 30 + seconds], 4, 4)}


def test_cells_that_fail_are_shown_together_with_people_counted_anew() -> None:
    listed = [*calls(0, [1, 2, 3, 4]), *calls(1, [1, 2]), *calls(2, [2, 3])]
    assert groups_of(published(listed, THREE)) == {(0,): ([4, 40], 4, 4), (1, 2): ([4, 40], 3, 3)}


def test_a_failing_rest_takes_its_parents_smallest_cell_and_none_of_another_parent() -> None:
    listed = [*calls(0, [1, 2, 3, 4], 2, 20), *calls(1, [1, 2, 3]), *calls(2, [5]), *calls(3, [1, 2, 3], 1, 5)]
    assert groups_of(published(listed, THREE)) == {
        (0,): ([8, 80], 4, 4),
        (1, 2): ([4, 40], 4, 4),
        (3,): ([3, 15], 3, 3),
    }


def test_a_rest_takes_twice_as_many_cells_each_time_until_it_passes() -> None:
    listed = [entry for cell in range(5) for entry in calls(cell, [1, 2, 3])] + calls(5, [4], 5, 50)
    found = table([rows_of(listed)], np.zeros(CELLS, np.int64), THREE)
    assert groups_of(found) == {(3,): ([3, 30], 3, 3), (4,): ([3, 30], 3, 3), (0, 1, 2, 5): ([14, 140], 4, 4)}


def test_a_parent_whose_rest_cannot_be_shown_shows_none_of_its_cells() -> None:
    """The cell that passes would be the parent's total without the one that fails, for whoever knows the total."""
    listed = [*calls(0, [1, 2, 3]), *calls(1, [4], 100, 10), *calls(3, [1, 2, 3])]
    assert groups_of(published(listed, THREE)) == {(3,): ([3, 30], 3, 3)}


def test_what_a_parent_shows_comes_to_all_of_its_calls() -> None:
    listed = [*calls(0, [1, 2, 3, 4], 2, 20), *calls(1, [1, 2, 3]), *calls(2, [5]), *calls(4, [1], 7, 70)]
    found = published(listed, THREE)
    totals = {parent: found.stats.counts[found.parent == parent].sum(axis=0).tolist() for parent in set(found.parent)}
    assert totals == {0: [12, 120]}


def test_a_table_for_outside_joins_whole_groups_of_the_one_inside() -> None:
    listed = [*calls(0, [1, 2, 3]), *calls(1, [1, 2]), *calls(2, [3, 4])]
    inside = published(listed, Rule(2, 0.5, (0, 1)))
    assert set(groups_of(inside)) == {(0,), (1,), (2,)}
    assert groups_of(published(listed, THREE, inside)) == {(0,): ([3, 30], 3, 3), (1, 2): ([4, 40], 4, 4)}


def test_a_table_for_outside_never_parts_or_shows_what_the_one_inside_joined_or_withheld() -> None:
    listed = [*calls(0, [1, 2, 3, 4]), *calls(1, [1, 2, 3]), *calls(2, [4]), *calls(3, [1])]
    inside = published(listed, THREE)
    joined = {(0,): ([4, 40], 4, 4), (1, 2): ([4, 40], 4, 4)}
    assert groups_of(inside) == joined
    lax = published(listed, Rule(1, 1.0, (0, 1)), inside)
    assert groups_of(lax) == joined
    assert lax.is_other.tolist() == [False, True]


def test_a_table_for_outside_has_one_rest_of_each_parent() -> None:
    """Also where the rest inside could stand by itself, and the cells that join it outside could as well."""
    whole = np.zeros(CELLS, np.int64)
    listed = [*calls(0, [1, 2], 2), *calls(1, [3, 4], 2), *calls(4, [5]), *calls(5, [1, 2, 3])]
    inside = table([rows_of(listed)], whole, Rule(2, 0.5, (0, 1)))
    assert set(groups_of(inside)) == {(0,), (1,), (4, 5)}
    assert groups_of(table([rows_of(listed)], whole, THREE, inside)) == {(0, 1, 4, 5): ([12, 80], 5, 5)}


# -- the attacker ------------------------------------------------------------------------------------------------------


@cache
def tables(most: int) -> np.ndarray:
    """Every table of counts up to `most`; int8 [tables, CELLS]."""
    return np.indices((most + 1,) * CELLS, np.int8).reshape(CELLS, -1).T


def recovered(sums: Sequence[tuple[frozenset[int], int]], truth: Sequence[int]) -> set[int]:
    """Cells that are not 0 and can have one value only, in all tables that have those sums over sets of cells."""
    possible = tables(max(truth, default=0) + 1)
    for cells, total in sums:
        possible = possible[possible[:, sorted(cells)].sum(axis=1) == total]
    return {cell for cell in range(CELLS) if truth[cell] and len(np.unique(possible[:, cell])) == 1}


def sums_of(found: Partition) -> list[tuple[frozenset[int], int]]:
    return [
        (frozenset(np.flatnonzero(found.group == group).tolist()), int(found.stats.counts[group, 0]))
        for group in range(len(found.parent))
    ]


def truth_of(listed: Sequence[Entry]) -> list[int]:
    return [sum(row[3] for row in listed if row[2] == cell) for cell in range(CELLS)]


few_entries = st.lists(
    st.tuples(st.integers(0, 3), st.just(0), st.integers(0, CELLS - 1), st.just(1), st.just(6)), max_size=7
)


@tries(60)
@given(few_entries)
def test_no_suppressed_cell_can_be_computed_from_what_is_published(listed: Any) -> None:
    found = published(listed)
    shown = {int(cell) for cell in found.cell if cell != NOWHERE}
    assert recovered(sums_of(found), truth_of(listed)) <= shown


@tries(60)
@given(few_entries)
def test_nor_from_the_internal_and_the_external_table_together(listed: Any) -> None:
    internal = published(listed, Rule(2, 0.6, (0,)))
    external = published(listed, Rule(3, 0.5, (0,)), internal)
    shown = {int(cell) for cell in internal.cell if cell != NOWHERE}
    assert recovered([*sums_of(internal), *sums_of(external)], truth_of(listed)) <= shown


@tries(60)
@given(entries)
def test_an_external_table_is_a_union_of_internal_groups_and_keeps_its_own_rule(listed: Any) -> None:
    rule = Rule(3, 0.5, (0,))
    internal = published(listed)
    external = published(listed, rule, internal)
    assert set(external.group[internal.group == NOWHERE]) <= {NOWHERE}
    for group in range(len(internal.parent)):
        assert len(set(external.group[internal.group == group])) == 1
    assert rule.passes(external.stats).all()
    assert rule.passes(measure(rows_of(listed), external.group, len(external.parent))).all()


def test_the_attacker_is_real_small_cells_left_out_beside_true_totals_are_computed() -> None:
    listed = [(account, 0, cell, 1, 6) for cell in (0, 1) for account in range(3)] + [(3, 0, 2, 1, 6)]
    truth = truth_of(listed)
    naive = [(frozenset([0]), 3), (frozenset([1]), 3), (frozenset([0, 1, 2]), 7), (frozenset([3, 4, 5]), 0)]
    assert recovered(naive, truth) == {0, 1, 2}
    assert recovered(sums_of(published(listed)), truth) <= {0, 1}
