"""Cells: every row is told as finely as enough others are, and no finer."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from callward.lake.cells import finest
from tests.examples import tries

LEAST = 3


@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2)), max_size=40))
@tries(60)
def test_a_row_takes_the_finest_level_that_has_enough_rows_left(rows):
    fine, middle, coarse = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    level = finest([[fine, middle], [middle, coarse], [coarse]], LEAST).tolist()
    left = list(range(len(rows)))
    for number, names in enumerate([(0, 1), (1, 2)]):
        sizes = Counter(tuple(rows[i][at] for at in names) for i in left)
        told = [i for i in left if sizes[tuple(rows[i][at] for at in names)] >= LEAST]
        assert [i for i in left if level[i] == number] == told
        left = [i for i in left if i not in told]
    assert all(level[i] == 2 for i in left)


def test_a_cell_of_just_enough_rows_is_told_and_one_of_fewer_is_not():
    place = np.array([1] * LEAST + [2] * (LEAST - 1))
    assert finest([[place], [np.zeros_like(place)]], LEAST).tolist() == [0] * LEAST + [1] * (LEAST - 1)


@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=60))
@tries(60)
def test_a_level_that_stays_whole_loses_rows_of_small_cells_alone(rows):
    fine, coarse = (np.array([row[at] for row in rows], np.int64) for at in range(2))
    level = finest([[fine, coarse], [coarse], [coarse * 0]], LEAST, whole=1).tolist()
    sizes = Counter(coarse.tolist())
    assert [at == 2 for at in level] == [sizes[place] < LEAST for place in coarse.tolist()]
    told = Counter((at, coarse[i], fine[i] if at == 0 else None) for i, at in enumerate(level) if at < 2)
    assert all(size >= LEAST for size in told.values())


def test_what_is_left_of_a_whole_cell_takes_back_its_smallest_finer_cell():
    fine = np.array([1] * (LEAST + 1) + [2] * LEAST + [3] * (LEAST - 1))
    level = finest([[fine], [fine * 0], [fine * 0]], LEAST, whole=1).tolist()
    assert level == [0] * (LEAST + 1) + [1] * (2 * LEAST - 1)
