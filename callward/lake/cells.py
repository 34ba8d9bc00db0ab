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


def finest(levels: Sequence[Sequence[Codes]], least: int = LEAST, whole: int | None = None) -> Codes:
    """Return the level that each row is told at (int64, shape [rows]): the last one takes whatever is left.

    Args:
        levels: from the finest to the coarsest; of each the columns of its cells, as numbers (shape [rows] each).
        least: how many rows a cell must have.
        whole: a level, each of whose cells is made of cells of the finer ones, that loses no row of a cell that has
            enough of them: what is left of it takes back rows of its smallest finer cells.
    """
    rows = len(levels[0][0])
    level, left = np.full(rows, len(levels) - 1), np.arange(rows)
    for number, columns in enumerate(levels[:-1]):
        if not len(left):
            break
        if number == whole:
            left = _with_enough(levels, level, left, number, least)
        many = _sizes([column[left] for column in columns]) >= least
        level[left[many]] = number
        left = left[~many]
    return level


def _with_enough(levels: Sequence[Sequence[Codes]], level: Codes, left: Codes, number: int, least: int) -> Codes:
    """Return the rows that are left, and with them so many of finer cells that no cell of a level is cut short."""
    cell, taken = cells(levels[number]), [left]
    order = np.argsort(cell, kind="stable")
    many = np.bincount(cell)
    ends = np.cumsum(many)
    short = np.bincount(cell[left], minlength=len(many))
    for one in np.flatnonzero((short > 0) & (short < least) & (many >= least)):
        rows = order[ends[one] - many[one] : ends[one]]
        told = rows[~np.isin(rows, left)]
        finer = np.array([_within(levels[at], told, level[told] == at) for at in range(number)]).max(axis=0)
        _, place, size = np.unique(level[told] * len(rows) + finer, return_inverse=True, return_counts=True)
        smallest = np.argsort(size, kind="stable")
        needed = np.searchsorted(np.cumsum(size[smallest]), least - short[one]) + 1
        taken.append(told[np.isin(place, smallest[:needed])])
    return np.concatenate(taken)


def _within(columns: Sequence[Codes], rows: Codes, here: npt.NDArray[np.bool_]) -> Codes:
    """Return the number of the cell that each of some rows is in; 0 for those that are not `here`."""
    number = np.zeros(len(rows), np.int64)
    number[here] = cells([column[rows[here]] for column in columns]) if here.any() else 0
    return number


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
