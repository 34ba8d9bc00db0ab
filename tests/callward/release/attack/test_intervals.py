"""Linear programming finds exactly what published sums leave open: checked by enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from callward.release.attack.intervals import intervals
from tests.examples import tries


def margins(rows: int, columns: int) -> np.ndarray:
    """Which cells of a table each row total and column total is of."""
    place = np.arange(rows * columns)
    return np.vstack([place // columns == np.arange(rows)[:, None], place % columns == np.arange(columns)[:, None]])


@st.composite
def tables(draw):
    rows, columns = draw(st.integers(2, 3)), draw(st.integers(2, 3))
    size = rows * columns
    values = np.array(draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    shown = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    kept = np.array(draw(st.lists(st.booleans(), min_size=rows + columns, max_size=rows + columns)))
    return values, shown, margins(rows, columns)[kept]


def enumerated(values, shown, sums, ask, most):
    """Every way to fill the hidden cells with whole numbers up to `most` that keeps the sums."""
    hidden = np.flatnonzero(~shown)
    filled = np.tile(values, (most + 1) ** len(hidden)).reshape(-1, len(values))
    filled[:, hidden] = list(itertools.product(range(most + 1), repeat=len(hidden)))
    return filled[(filled @ sums.T == sums @ values).all(axis=1)][:, ask]


@tries(60)
@given(tables())
def test_the_interval_of_a_hidden_cell_is_what_enumeration_says(table):
    """Row and column totals alone: linear programming is exact there, as its corners are whole numbers."""
    values, shown, sums = table
    ask = np.flatnonzero(~shown & sums.any(axis=0))
    assume(0 < (~shown).sum() <= 5 and len(ask))
    most = int((sums @ values).max())
    assume((most + 1) ** (~shown).sum() < 200_000)
    found = intervals(values, shown, sums, sums @ values, ask)
    ways = enumerated(values, shown, sums, ask, most)
    assert found.low.tolist() == ways.min(axis=0).tolist()
    assert found.high.tolist() == ways.max(axis=0).tolist()


def test_a_total_minus_its_siblings_is_the_hidden_cell():
    found = intervals(np.array([20, 30, 1]), np.array([True, True, False]), np.ones((1, 3), bool), np.array([51]), [2])
    assert (found.low.tolist(), found.high.tolist()) == ([1], [1])


def test_two_hidden_cells_of_one_sum_hide_each_other():
    found = intervals(
        np.array([20, 4, 1]), np.array([True, False, False]), np.ones((1, 3), bool), np.array([25]), [1, 2]
    )
    assert (found.low.tolist(), found.high.tolist()) == ([0, 0], [5, 5])


def test_a_square_of_hidden_cells_falls_where_a_corner_is_empty():
    """No single sum gives a cell away here, all of them together do."""
    values = np.array([0, 3, 3, 0])
    found = intervals(values, np.zeros(4, bool), margins(2, 2)[:3], margins(2, 2)[:3] @ values, np.arange(4))
    assert found.low.tolist() == [0, 0, 0, 0] and found.high.tolist() == [3, 3, 3, 3]
    clear = np.array([0, 3, 0, 0])
    found = intervals(clear, np.zeros(4, bool), margins(2, 2), margins(2, 2) @ clear, np.arange(4))
    assert found.exact.all()


def test_a_cell_in_no_sum_has_no_most():
    found = intervals(np.array([5, 7]), np.zeros(2, bool), np.array([[True, False]]), np.array([5]), np.array([1]))
    assert (found.low.tolist(), found.high.tolist()) == ([0], [-1])


def test_sums_with_noise_contradict_each_other():
    sums = np.array([[True, True], [True, True]])
    with pytest.raises(ValueError, match="contradict"):
        intervals(np.zeros(2, np.int64), np.zeros(2, bool), sums, np.array([5, 9]), np.array([0]))
