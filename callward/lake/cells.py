"""Cells: rows told only as finely as many others are. Each row takes the finest level whose cell has enough rows.

A level is a list of columns; rows that are equal in all of them are one cell. Rows that found a cell at a finer level
do not count at a coarser one: the difference of two cells never tells a small one.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

LEAST: Final = 20  # rows of a cell: docs/adr/0024

Codes: TypeAlias = npt.NDArray[np.int64]


def finest(levels: Sequence[Sequence[Codes]], least: int = LEAST) -> Codes:
    """Return the level that each row is told at (int64, shape [rows]): the last one takes whatever is left.

    Args:
        levels: from the finest to the coarsest; of each the columns of its cells, as numbers (shape [rows] each).
        least: how many rows a cell must have.
    """
    rows = len(levels[0][0])
    level, left = np.full(rows, len(levels) - 1), np.arange(rows)
    for number, columns in enumerate(levels[:-1]):
        if not len(left):
            break
        many = _sizes([column[left] for column in columns]) >= least
        level[left[many]] = number
        left = left[~many]
    return level


def cells(columns: Sequence[Codes]) -> Codes:
    """Return the number of the cell that each row is in, from 0 (shape [rows])."""
    number = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, code = np.unique(column, return_inverse=True)
        number = np.unique(number * len(values) + code, return_inverse=True)[1].astype(np.int64)
    return number


def _sizes(columns: Sequence[Codes]) -> Codes:
    """Return how many rows the cell of each row has."""
    number = cells(columns)
    return np.asarray(np.bincount(number)[number], np.int64)
