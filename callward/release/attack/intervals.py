"""What a table's sums say of the cells it hides: the least and the most each can be, by linear programming.

A hidden cell is a variable of 0 or more, every published sum an equation. Where the least is the most, the cell is
recovered. A dense simplex in numpy: tables that people print have a few hundred hidden cells and sums.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_TOLERANCE: Final = 1e-7
_STALLED: Final = 50  # steps without gain until the rule that cannot run in circles takes over


class Intervals(NamedTuple):
    """The least and the most each asked cell can be, in whole numbers; shape [cells]. No most: -1."""

    low: Ints
    high: Ints

    @property
    def exact(self) -> Mask:
        return np.asarray(self.low == self.high)


def intervals(values: Ints, shown: Mask, sums: Mask, totals: Ints, ask: Ints) -> Intervals:
    """Return what published sums say of hidden cells.

    Args:
        values: the cells' figures, shape [cells]; looked at only where `shown`.
        sums: which cells each published sum is of, shape [sums, cells]; totals: shape [sums].
        ask: positions of hidden cells.

    Raises:
        ValueError: the sums contradict each other (noise was added to them), so that nothing follows.
    """
    hidden = np.flatnonzero(~shown)
    left = totals - sums @ np.where(shown, values, 0)
    open_ = sums[:, hidden]
    used = open_.any(axis=1)
    program = _Simplex(open_[used].astype(float), left[used].astype(float))
    places = np.searchsorted(hidden, ask)
    low = [program.least(place) for place in places.tolist()]
    high = [program.most(place) for place in places.tolist()]
    return Intervals(np.array(low, np.int64), np.array(high, np.int64))


class _Simplex:
    """A x = b, x >= 0, in a tableau whose basis stays feasible from one question to the next."""

    def __init__(self, a: Floats, b: Floats) -> None:
        a, b = np.where(b[:, None] < 0, -a, a), np.abs(b)
        rows, self._columns = a.shape
        self._table = np.hstack([a, np.eye(rows), b[:, None]])
        self._basis = self._columns + np.arange(rows)
        cost = np.zeros(self._columns + rows)
        cost[self._columns :] = 1
        if self._minimum(cost) > 1e-6 * max(1.0, float(b.max(initial=0))):
            raise ValueError("the published sums contradict each other")
        self._drop_artificial()

    def least(self, place: int) -> int:
        cost = np.zeros(self._columns)
        cost[place] = 1
        return int(np.ceil(self._minimum(cost) - 1e-6))

    def most(self, place: int) -> int:
        cost = np.zeros(self._columns)
        cost[place] = -1
        least = self._minimum(cost)
        return -1 if least == -np.inf else int(np.floor(-least + 1e-6))

    def _drop_artificial(self) -> None:
        """Exchange artificial columns still in the basis (all 0) for real ones, or drop rows that say nothing new."""
        for row in np.flatnonzero(self._basis >= self._columns):
            real = np.flatnonzero(np.abs(self._table[row, : self._columns]) > _TOLERANCE)
            if len(real):
                self._pivot(int(row), int(real[0]))
        kept = self._basis < self._columns
        self._table = np.hstack([self._table[kept, : self._columns], self._table[kept, -1:]])
        self._basis = self._basis[kept]

    def _minimum(self, cost: Floats) -> float:
        """Return the least of cost · x; -inf where there is none."""
        stalled, best = 0, np.inf
        while True:
            reduced = cost - cost[self._basis] @ self._table[:, :-1]
            better = np.flatnonzero(reduced < -_TOLERANCE)
            now = float(cost[self._basis] @ self._table[:, -1])
            if not len(better):
                return now
            stalled, best = (stalled + 1, best) if now > best - _TOLERANCE else (0, now)
            column = int(better[0] if stalled > _STALLED else better[np.argmin(reduced[better])])
            row = self._leaving(column)
            if row < 0:
                return -np.inf
            self._pivot(row, column)

    def _leaving(self, column: int) -> int:
        """Return the row that becomes 0 first as the column grows (of several the first variable's); -1: none."""
        rows = np.flatnonzero(self._table[:, column] > _TOLERANCE)
        if not len(rows):
            return -1
        ratio = self._table[rows, -1] / self._table[rows, column]
        tied = rows[ratio <= ratio.min() + 1e-12]
        return int(tied[np.argmin(self._basis[tied])])

    def _pivot(self, row: int, column: int) -> None:
        self._table[row] /= self._table[row, column]
        factor = self._table[:, column].copy()
        factor[row] = 0
        touched = np.flatnonzero(factor)
        self._table[touched] -= np.outer(factor[touched], self._table[row])
        self._basis[row] = column
