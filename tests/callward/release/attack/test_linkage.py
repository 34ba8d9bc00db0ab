"""What content links: every figure is the one that a loop, or every possible pairing, gives on small tables."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.release.attack import linkage
from callward.release.attack.linkage import Billing, Table, fitted, linked, measure
from tests.examples import tries

_LINE = st.tuples(st.integers(0, 2), st.integers(0, 1))  # a column, a taught one


def table(rows, number, *, billing=(), taught=None, role="assurance"):
    return Table(
        "a table",
        role,
        [np.array(billing, np.int64)],
        [np.array(rows, np.int64)],
        np.array(number, np.int64),
        [] if taught is None else [np.array(taught, np.int64)],
    )


def billed(number, accounts=None):
    return Billing(np.array(number, np.int64), np.array(number if accounts is None else accounts))


# -- against a loop ----------------------------------------------------------------------------------------------------


@given(st.lists(_LINE, max_size=12), st.lists(_LINE, max_size=12), st.booleans())
def test_rows_that_fit_are_those_that_a_loop_finds(left, right, jointly):
    """Rows have one number where they stand at one place: a billing row past the table's end has no row of its own."""
    rows = table(
        [b[0] for b in right],
        range(len(right)),
        billing=[a[0] for a in left],
        taught=[b[1] for b in right],
    )
    fit = fitted(billed(range(len(left))), rows, jointly=jointly)
    for n, a in enumerate(left):
        taught = right[n][1] if n < len(right) else None
        partners = [m for m, b in enumerate(right) if a[0] == b[0] and (not jointly or b[1] == taught)]
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


# -- what it comes to --------------------------------------------------------------------------------------------------


def test_a_cell_of_one_links_and_a_cell_of_many_is_luck():
    outcome = linked(billed(range(6)), table([0, 1, 1, 1, 1, 1], range(6), billing=[0, 1, 1, 1, 1, 1]))
    assert (outcome.linked, outcome.matched) == (pytest.approx(1 / 6), pytest.approx(2 / 6))
    assert outcome.chance == pytest.approx(1 / 6)
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


def test_an_account_is_linked_with_most_of_its_rows():
    """Account 7 has one linked row of four, account 8 one of two."""
    column, accounts = [0, 9, 9, 9, 1, 9], [7, 7, 7, 7, 8, 8]
    outcome = measure(billed(range(6), accounts), [table(column, range(6), billing=column)])
    assert (outcome.alone[0].accounts, outcome.verdicts[0].accounts) == (0.5, 0.5)


def test_tables_that_link_an_account_together_count_for_it():
    """One table links the first row of four, another the second: each has a quarter of the account, both have half."""
    tables = []
    for alone in (0, 1):
        column = np.arange(4) == alone
        tables.append(table(column, range(4), billing=column))
    outcome = measure(billed(range(4), [7, 7, 7, 7]), tables)
    assert [one.accounts for one in outcome.alone] == [0, 0]
    assert (outcome.verdicts[0].rows, outcome.verdicts[0].accounts) == (0.5, 1)
