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
