"""What content links: every figure is the one that a loop, or every possible pairing, gives on small tables."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.release.attack import linkage
from callward.release.attack.linkage import Billing, Near, Table, fitted, linked, measure
from callward.release.attack.profiles import Amounts, profiles
from tests.examples import tries

_LINE = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 20))  # a column, a taught one, a measure


def table(rows, number, *, billing=(), taught=None, near=None, role="assurance", names_account=False):
    return Table(
        "a table",
        role,
        [np.array(billing, np.int64)],
        [np.array(rows, np.int64)],
        np.array(number, np.int64),
        [] if taught is None else [np.array(taught, np.int64)],
        near,
        names_account,
    )


def billed(number, accounts=None):
    return Billing(np.array(number, np.int64), np.array(number if accounts is None else accounts))


# -- against a loop ----------------------------------------------------------------------------------------------------


@given(st.lists(_LINE, max_size=12), st.lists(_LINE, max_size=12), st.integers(1, 6), st.booleans())
def test_rows_that_fit_are_those_that_a_loop_finds(left, right, reach, jointly):
    """Rows have one number where they stand at one place: a billing row past the table's end has no row of its own."""
    near = Near(np.array([a[2] for a in left], np.int64), np.array([b[2] for b in right], np.int64), reach)
    rows = table(
        [b[0] for b in right],
        range(len(right)),
        billing=[a[0] for a in left],
        taught=[b[1] for b in right],
        near=near,
    )
    fit = fitted(billed(range(len(left))), rows, jointly=jointly)
    for n, a in enumerate(left):
        taught = right[n][1] if n < len(right) else None
        partners = [
            m
            for m, b in enumerate(right)
            if a[0] == b[0] and abs(a[2] - b[2]) < reach and (not jointly or b[1] == taught)
        ]
        assert fit.candidates[n] == len(partners)
        assert fit.linked[n] == (partners == [n])
        assert fit.mistaken[n] == (len(partners) == 1 and partners != [n])
        assert fit.chance[n] == pytest.approx(1 / len(partners) if n in partners and len(partners) > 1 else 0)


# -- against every possible pairing ------------------------------------------------------------------------------------


def pairings(left, right):
    """Every way to pair off as many as can be: {left: right} each."""
    few, many = (left, right) if len(left) <= len(right) else (right, left)
    for chosen in itertools.permutations(many, len(few)):
        pairs = zip(few, chosen, strict=True)
        yield dict(pairs) if few is left else {b: a for a, b in pairs}


@tries(25)
@given(st.lists(st.integers(0, 1), max_size=5), st.lists(st.integers(0, 1), max_size=5))
def test_rows_that_fit_alike_are_paired_by_lot(left, right):
    """Expected right pairs are the mean over all largest pairings within each block."""
    fit = fitted(billed(range(len(left))), table(right, range(len(right)), billing=left))
    expected = np.zeros(len(left))
    for block in set(left):
        sides = [[n for n, column in enumerate(side) if column == block] for side in (left, right)]
        ways = list(pairings(*sides))
        for way in ways:
            for a, b in way.items():
                expected[a] += (a == b) / len(ways)
    assert fit.matched == pytest.approx(expected)


@tries(25)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-2, 2)), min_size=1, max_size=6))
def test_a_rounded_measure_is_paired_as_the_best_assignment_pairs_it(calls):
    """Of all assignments those with the least sum of squared distances; by lot where several are as good."""
    exact = np.array([measure for measure, _ in calls])
    rounded = np.array([measure + off for measure, off in calls])
    near = Near(exact, rounded, 3)
    here = range(len(calls))
    fit = fitted(billed(here), table([0] * len(calls), here, billing=[0] * len(calls), near=near))
    ways = list(itertools.permutations(here))
    costs = [sum((exact[a] - rounded[b]) ** 2 for a, b in enumerate(way)) for way in ways]
    best = [way for way, cost in zip(ways, costs, strict=True) if cost == min(costs)]
    assert fit.matched == pytest.approx([np.mean([way[a] == a for way in best]) for a in here])


# -- what it comes to --------------------------------------------------------------------------------------------------


def test_a_cell_of_one_links_and_a_cell_of_many_is_luck():
    outcome = linked(billed(range(6)), table([0, 1, 1, 1, 1, 1], range(6), billing=[0, 1, 1, 1, 1, 1]))
    assert (outcome.linked, outcome.matched) == (pytest.approx(1 / 6), pytest.approx(2 / 6))
    assert outcome.chance == pytest.approx(1 / 6) and outcome.beyond == pytest.approx(1 / 6)
    assert outcome.accounts == pytest.approx(1 / 6)


def test_what_another_table_teaches_links_jointly_and_not_alone():
    rows = table([0, 0], range(2), billing=[0, 0], taught=[7, 8])
    assert linked(billed(range(2)), rows).linked == 0
    assert linked(billed(range(2)), rows, jointly=True).linked == 1


def test_a_row_that_fits_alone_and_is_anothers_is_a_mistake():
    outcome = linked(billed([0, 1]), table([0, 1], [0, 5], billing=[0, 1]))
    assert (outcome.linked, outcome.mistaken, outcome.matched) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("left", "right"), [([], []), ([0], []), ([], [0])])
def test_an_empty_side_links_nothing(left, right):
    outcome = linked(billed(range(len(left))), table(right, range(len(right)), billing=left, taught=right))
    assert (outcome.linked, outcome.matched, outcome.candidates) == (0, 0, 0)


def test_rows_that_several_tables_link_add_up_in_the_verdict():
    """Of 100 rows one table links one and another one more; a third role links nothing."""
    many = np.zeros(100, np.int64)
    tables = []
    for alone, role in ((3, "assurance"), (40, "assurance"), (None, "support")):
        column = many.copy()
        if alone is not None:
            column[alone] = 1
        tables.append(table(column, range(100), billing=column, role=role))
    verdicts = {v.role: v for v in measure(billed(range(100)), tables).verdicts}
    assert verdicts["assurance"].rows == pytest.approx(0.02) and verdicts["assurance"].holds
    assert verdicts["support"].rows == pytest.approx(0) and verdicts["support"].holds


@pytest.mark.parametrize(("rows", "holds"), [(2, True), (3, False)])
def test_the_verdict_holds_up_to_its_bound(rows, holds):
    column = np.minimum(np.arange(100), rows)
    (verdict,) = measure(billed(range(100), np.zeros(100)), [table(column, range(100), billing=column)]).verdicts
    assert verdict.rows == pytest.approx(rows / 100) and verdict.holds is holds
    assert math.isclose(linkage.ROWS_BOUND, 0.02) and math.isclose(linkage.ACCOUNTS_BOUND, 0.02)


def test_an_account_is_linked_with_most_of_its_rows_or_with_one_that_names_it():
    """Account 7 has one linked row of four, account 8 one of two."""
    column, accounts = [0, 9, 9, 9, 1, 9], [7, 7, 7, 7, 8, 8]
    for names_account, share in ((False, 0.5), (True, 1.0)):
        rows = table(column, range(6), billing=column, names_account=names_account)
        outcome = measure(billed(range(6), accounts), [rows])
        assert (outcome.alone[0].accounts, outcome.verdicts[0].accounts) == (share, share)


def test_a_linked_profile_counts_for_the_accounts_of_a_role():
    amounts = Amounts(np.array([0, 0, 1]), [np.array([1, 2, 1])], np.ones(3, np.int64), np.array([0, 0, 1]))
    column = [0, 0, 0]
    pair = profiles("profiles", "assurance", amounts, amounts)
    (verdict,) = measure(billed(range(3), [0, 0, 1]), [table(column, range(3), billing=column)], [pair]).verdicts
    assert (verdict.rows, verdict.accounts, verdict.holds) == (0, 1.0, False)


# -- profiles ----------------------------------------------------------------------------------------------------------

_LINES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20)


@given(_LINES, st.permutations(range(5)), st.randoms(use_true_random=False))
def test_profiles_link_accounts_that_no_other_is_like(lines, token_of, random):
    """The same lines under tokens and in another order: an account is linked exactly if no other has its sums."""
    shuffled = random.sample(lines, len(lines))

    def amounts(lines, name):
        owner, what, many = (np.array(column, np.int64) for column in zip(*lines, strict=True))
        return Amounts(np.array([name(n) for n in owner.tolist()]), [what], many, owner)

    pair = profiles("p", "r", amounts(lines, lambda n: n), amounts(shuffled, lambda n: f"token {token_of[n]}"))
    sums = {}
    for owner, what, many in lines:
        sums.setdefault(owner, {}).setdefault(what, 0)
        sums[owner][what] += many
    whole = {owner: tuple(sorted((what, many) for what, many in of.items() if many)) for owner, of in sums.items()}
    alone = [profile for profile in whole.values() if list(whole.values()).count(profile) == 1]
    assert linked(*pair).linked == pytest.approx(len(alone) / len(whole))
    assert linked(*pair).mistaken == 0
