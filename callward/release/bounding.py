"""Contribution bounding: how much one unit (a subscriber, an account) may add to a table, so that noise can hide it.

Rows are (unit, cell, counts): which unit, which cell of the grid, what is added there. Two ways to bound:

- `bound_l0`: at most L0 cells of each unit, drawn by a keyed hash, and at most a cap in each. What it gives may be put
  through it again together with more rows: bounding parts and then their union equals bounding everything at once. So
  it runs before a shuffle and after it, and the rows of a unit that calls all day collapse where they are read.
- `clip_l2`: all cells of a unit, weighed down together until their norm is C. It keeps more of the large cells at the
  same noise, but must see the whole unit: before the shuffle rows are only added up (`combine`).

A unit is 64 bits of a keyed token. Two units that share them are bounded as one, which protects each as well as before
save for the chance of such a meeting: 3 in a million among ten million units.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

_SHIFT: Final = (np.uint64(30), np.uint64(27), np.uint64(31))
_FACTOR: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
SCALE: Final = 1 << 10  # of the fixed-point sums of clip_l2, where nobody asks for another
_WITHIN: Final = 1 - 2.0**-30  # of a norm: more than floating point can lose on the way to a cell


class Rows(NamedTuple):
    """What units add to cells: uint64 [n], uint64 [n], int64 [n, m]."""

    unit: Words
    cell: Words
    counts: Counts


def combine(unit: Words, cell: Words, counts: Counts, caps: Counts | None = None) -> Rows:
    """Return one row per unit and cell, with the sums, none above `caps` [m]; rows of a unit stand together.

    As mergeable as `bound_l0`. Negative counts count as 0.
    """
    return _limited(unit, cell, counts, caps)[0]


def bound_l0(unit: Words, cell: Words, counts: Counts, L0: int, caps: Counts, secret: bytes) -> Rows:
    """Return at most `L0` cells of each unit, with 0 to `caps` [m] in each; one row per unit and cell.

    Which cells stay depends on `secret` and the unit's own cells alone: the same in every retry, and whatever the rows
    are merged with. The L2 norm of measure j then moves by at most `sensitivity(L0, caps[j])` with a unit.

    Negative counts count as 0. Raises ValueError for a bound below one.
    """
    if L0 < 1 or np.min(caps, initial=1) < 0:
        raise ValueError("a unit has at least one cell, and no cap is below zero")
    rows, first = _limited(unit, cell, counts, caps)
    kept = np.flatnonzero(_lowest(rows, first, L0, secret))
    return Rows(rows.unit.take(kept), rows.cell.take(kept), rows.counts.take(kept, axis=0))


def clip_l2(unit: Words, cell: Words, counts: Counts, C: float | Sequence[float], scale: int) -> tuple[Words, Counts]:
    """Return sums by cell of what units add, each unit scaled down to an L2 norm of `C`; uint64 [k], int64 [k, m].

    Sums are fixed-point: in `scale`-ths, rounded down per unit and cell, so the sensitivity of measure j is
    `C[j] * scale` (a `C` for each measure, or one for all). The rows are all of these units, or the bound does not
    hold. Negative counts count as 0. Raises ValueError where `C` or `scale` is not above zero.
    """
    bounds = np.broadcast_to(np.asarray(C, float), counts.shape[1:])
    if scale < 1 or not np.all((bounds > 0) & np.isfinite(bounds)):
        raise ValueError("C is above zero, and scale a whole number above zero")
    rows, first = _limited(unit, cell, counts, None)
    if not len(rows.unit):
        return rows.cell, rows.counts
    norms = np.sqrt(np.add.reduceat(np.square(rows.counts, dtype=float), first))
    weights = np.divide(bounds * _WITHIN, norms, out=np.ones_like(norms), where=norms > bounds * _WITHIN)
    spread = np.repeat(weights, _lengths(first, len(rows.unit)), axis=0)
    fixed = np.floor(rows.counts * spread * scale).astype(np.int64)
    return sums(rows.cell, fixed)


def sums(cell: Words, counts: Counts) -> tuple[Words, Counts]:
    """Return sums by cell, in order of the cells: uint64 [k], int64 [k, m]."""
    order = np.argsort(cell)
    first = starts(cell[order])
    return cell[order][first], _added(counts.take(order, axis=0), first)


def sensitivity(L0: int, cap: float) -> float:
    """Return how far one unit moves a measure (L2) that is bounded to `cap` in each of `L0` cells: √L0·cap, upwards."""
    return math.nextafter(math.nextafter(math.sqrt(L0), math.inf) * cap, math.inf)


def starts(groups: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return where runs of equal neighbours begin; int64 [runs]."""
    if not len(groups):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])


# -- one row per unit and cell -----------------------------------------------------------------------------------------


def _limited(unit: Words, cell: Words, counts: Counts, caps: Counts | None) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Limit counts before they are added, and the sums again: so parts and their union come to the same."""
    if caps is None:
        return _combined(unit, cell, np.maximum(counts, 0))
    limits = np.asarray(caps, np.int64)
    rows, first = _combined(unit, cell, np.clip(counts, 0, limits))
    return rows._replace(counts=np.minimum(rows.counts, limits)), first


def _combined(unit: Words, cell: Words, counts: Counts) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Return one row per unit and cell, and where each unit's rows begin.

    Units and cells get small numbers first, which join to one word: one fast sort, not two.
    """
    if counts.ndim != 2 or not len(unit) == len(cell) == len(counts):
        raise ValueError("rows are units [n], cells [n] and counts [n, m]")
    unit_at, _ = pd.factorize(unit)
    cell_at, cells = pd.factorize(cell)
    pair = unit_at * np.int64(max(len(cells), 1)) + cell_at
    order = np.argsort(pair)
    first = starts(pair[order])
    at = order[first]
    rows = Rows(unit.take(at), cell.take(at), _added(counts.take(order, axis=0), first))
    return rows, starts(unit_at[at])


def _lengths(first: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.int64]:
    return np.asarray(np.diff(np.r_[first, rows]), np.int64)


def _added(counts: Counts, first: npt.NDArray[np.int64]) -> Counts:
    if not len(first):
        return np.zeros((0, *counts.shape[1:]), np.int64)
    return np.asarray(np.add.reduceat(counts, first, axis=0), np.int64)


# -- the keyed draw ----------------------------------------------------------------------------------------------------


def _lowest(rows: Rows, first: npt.NDArray[np.int64], L0: int, secret: bytes) -> npt.NDArray[np.bool_]:
    """Return which rows are among the L0 of their unit with the lowest priorities; most units have no more."""
    lengths = _lengths(first, len(rows.unit))
    kept = np.ones(len(rows.unit), np.bool_)
    many = np.flatnonzero(np.repeat(lengths > L0, lengths))
    if len(many):
        number = np.repeat(np.arange(len(first)), lengths)[many]
        order = _ordered(number, _priority(rows.unit[many], rows.cell[many], secret))
        kept[many[order]] = _ranks(number[order]) < L0
    return kept


def _ordered(number: npt.NDArray[np.int64], priority: Words) -> npt.NDArray[np.int64]:
    """Return the order of rows by number (ascending already), then by priority.

    One word holds the number and as many leading bits of the priority as fit: one sort, six times as fast. Where two
    of these are the same (hardly ever) all bits decide.
    """
    bits = max(int(number[-1]).bit_length(), 1)
    key = (number.astype(np.uint64) << np.uint64(64 - bits)) | (priority >> np.uint64(bits))
    order = np.argsort(key)
    key = key[order]
    return np.lexsort((priority, number)) if (key[1:] == key[:-1]).any() else order


def _ranks(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    first = starts(groups)
    return np.arange(len(groups)) - np.repeat(first, _lengths(first, len(groups)))


def _priority(unit: Words, cell: Words, secret: bytes) -> Words:
    """Return a keyed 64-bit hash of each pair; no two cells of a unit share one (each step is one-to-one in it)."""
    digest = hashlib.blake2b(b"callward bottom-L0 1", key=secret, digest_size=16).digest()
    keys = np.frombuffer(digest, "<u8")
    return _mixed(_mixed(unit ^ keys[0]) + _mixed(cell ^ keys[1]))


def _mixed(words: Words) -> Words:
    """Apply the finisher of SplitMix64 (Steele, Lea and Flood 2014): one-to-one; every bit depends on every bit."""
    words = (words ^ (words >> _SHIFT[0])) * _FACTOR[0]
    words = (words ^ (words >> _SHIFT[1])) * _FACTOR[1]
    return words ^ (words >> _SHIFT[2])
