"""Bounding against a slow oracle in whole numbers; merging; and what one unit can move."""

import hashlib
from collections import defaultdict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.release import bounding
from callward.release.bounding import Rows, bound_l0, clip_l2, combine, sensitivity, sums
from tests.examples import tries

SECRET = b"a secret of thirty-two bytes ...."
WORD = (1 << 64) - 1
CELLS = 12

units = st.one_of(st.integers(0, 4), st.integers(WORD - 2, WORD), st.integers(0, WORD))
cells = st.integers(0, CELLS - 1)
added = st.lists(st.tuples(units, cells, st.integers(-3, 60), st.integers(-5, 2_000)), max_size=60)
bounds = st.tuples(st.integers(1, 6), st.lists(st.integers(0, 300), min_size=2, max_size=2))


def rows_of(listed: list[tuple[int, int, int, int]]) -> Rows:
    unit, cell = (np.array([row[at] for row in listed], np.uint64) for at in range(2))
    return Rows(unit, cell, np.array([row[2:] for row in listed], np.int64).reshape(-1, 2))


def told(rows: Any) -> dict[tuple[int, int], tuple[int, ...]]:
    """(unit, cell) → counts; fails where a pair is there twice."""
    found = {(int(u), int(c)): tuple(n) for u, c, n in zip(rows.unit, rows.cell, rows.counts.tolist(), strict=True)}
    assert len(found) == len(rows.unit)
    return found


def finished(word: int) -> int:
    """The finisher of SplitMix64 in whole numbers (Steele, Lea and Flood 2014, figure 15)."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
    return word ^ (word >> 31)


def expected(listed: list[tuple[int, int, int, int]], most: int, caps: list[int]) -> dict[Any, tuple[int, ...]]:
    digest = hashlib.blake2b(b"callward bottom-L0 1", key=SECRET, digest_size=16).digest()
    low, high = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    found: dict[int, dict[int, list[int]]] = defaultdict(dict)
    for unit, cell, *counts in listed:
        before = found[unit].setdefault(cell, [0, 0])
        found[unit][cell] = [old + max(new, 0) for old, new in zip(before, counts, strict=True)]
    kept = {}
    for unit, table in found.items():
        order = sorted(table, key=lambda cell: finished((finished(unit ^ low) + finished(cell ^ high)) & WORD))
        for cell in order[:most]:
            kept[unit, cell] = tuple(min(value, cap) for value, cap in zip(table[cell], caps, strict=True))
    return kept


@tries(100)
@given(added, bounds)
def test_bounding_keeps_what_a_slow_reading_of_its_rule_keeps(listed: Any, given_bounds: Any) -> None:
    most, caps = given_bounds
    kept = bound_l0(*rows_of(listed), most, np.array(caps), SECRET)
    assert told(kept) == expected(listed, most, caps)


@tries(100)
@given(added, bounds, st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_bounding_parts_and_then_all_together_equals_one_pass(listed: Any, given_bounds: Any, where: Any) -> None:
    most, caps = given_bounds
    whole = bound_l0(*rows_of(listed), most, np.array(caps), SECRET)
    parts = [[row for row, part in zip(listed, where, strict=False) if part == n] for n in range(4)]
    bounded = [bound_l0(*rows_of(part), most, np.array(caps), SECRET) for part in parts]
    two, four = joined(bounded[:2]), joined([*bounded[2:], Rows(*rows_of([]))])
    again = bound_l0(*joined([bound_l0(*two, most, np.array(caps), SECRET), four]), most, np.array(caps), SECRET)
    assert told(again) == told(whole)


def joined(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@tries(100)
@given(added, st.lists(st.integers(0, 300), min_size=2, max_size=2), st.integers(0, 60))
def test_adding_up_parts_and_then_all_together_equals_one_pass(listed: Any, caps: Any, cut: int) -> None:
    limits = np.array(caps)
    parts = [combine(*rows_of(part), limits) for part in (listed[:cut], listed[cut:])]
    assert told(combine(*joined(parts), limits)) == told(combine(*rows_of(listed), limits))


@tries(100)
@given(added, bounds)
def test_no_unit_moves_a_table_by_more_than_its_sensitivity(listed: Any, given_bounds: Any) -> None:
    most, caps = given_bounds
    whole = dense(*bound_l0(*rows_of(listed), most, np.array(caps), SECRET)[1:])
    for unit in {row[0] for row in listed}:
        rest = [row for row in listed if row[0] != unit]
        moved = whole - dense(*bound_l0(*rows_of(rest), most, np.array(caps), SECRET)[1:])
        for at, cap in enumerate(caps):
            assert int((moved[:, at] ** 2).sum()) <= most * cap**2  # in whole numbers
            assert np.linalg.norm(moved[:, at]) <= sensitivity(most, cap)


@tries(100)
@given(added, st.floats(0.5, 500), st.integers(1, 4096))
def test_no_unit_moves_a_clipped_table_by_more_than_its_norm(listed: Any, norm: float, scale: int) -> None:
    whole = dense(*clip_l2(*rows_of(listed), norm, scale))
    for unit in {row[0] for row in listed}:
        moved = whole - dense(*clip_l2(*rows_of([row for row in listed if row[0] != unit]), norm, scale))
        for at in range(2):
            assert sum(int(value) ** 2 for value in moved[:, at]) <= (Fraction(norm) * scale) ** 2


@tries(100)
@given(added, st.floats(0.5, 500))
def test_clipping_weighs_a_unit_down_to_the_norm_and_leaves_others_alone(listed: Any, norm: float) -> None:
    scale = 1 << 20
    for unit in {row[0] for row in listed}:
        mine = [row for row in listed if row[0] == unit]
        plain = dense(*combine(*rows_of(mine))[1:]).astype(float)
        weight = np.minimum(1, norm / np.maximum(np.linalg.norm(plain, axis=0), 1e-9))
        clipped = dense(*clip_l2(*rows_of(mine), norm, scale)) / scale
        assert (clipped <= plain * weight).all()
        assert np.allclose(clipped, plain * weight, atol=2 / scale + 1e-8 * norm)


def dense(cell: Any, counts: Any) -> Any:
    table = np.zeros((CELLS, 2), np.int64)
    np.add.at(table, cell.astype(np.int64), counts)
    return table


@tries(100)
@given(added)
def test_sums_are_by_cell_and_in_their_order(listed: Any) -> None:
    rows = rows_of(listed)
    cell, counts = sums(rows.cell, rows.counts)
    assert cell.tolist() == sorted({row[1] for row in listed})
    assert counts.tolist() == dense(rows.cell, rows.counts)[cell.astype(np.int64)].tolist()


@tries(100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_all_bits_of_a_priority_decide_where_the_leading_ones_are_the_same(listed: Any) -> None:
    listed = sorted(set(listed), key=lambda row: row[0])
    number = np.array([row[0] for row in listed])
    priority = np.array([low + (high << 63) for _, low, high in listed], np.uint64)
    order = bounding._ordered(number, priority)
    assert [(number[at], priority[at]) for at in order] == sorted(zip(number, priority, strict=True))


def test_which_cells_stay_is_drawn_evenly_and_anew_under_another_secret() -> None:
    many, cells_each, most = 20_000, 8, 2
    unit = np.repeat(np.random.default_rng(5).integers(0, WORD, many, np.uint64), cells_each)
    cell = np.tile(np.arange(cells_each, dtype=np.uint64), many)
    rows = Rows(unit, cell, np.ones((len(unit), 1), np.int64))
    kept = [bound_l0(*rows, most, np.array([1]), secret) for secret in (b"one", b"another")]
    for one in kept:
        share = np.bincount(one.cell.astype(int), minlength=cells_each) / many
        assert np.abs(share - most / cells_each).max() < 0.02  # six standard deviations of a fair draw
    common = len(told(kept[0]).keys() & told(kept[1]).keys()) / len(kept[0].unit)
    assert abs(common - most / cells_each) < 0.02


@pytest.mark.parametrize("wrong", [{"L0": 0}, {"caps": np.array([-1])}])
def test_a_bound_that_bounds_nothing_is_refused(wrong: dict[str, Any]) -> None:
    one = np.ones(1, np.uint64)
    with pytest.raises(ValueError):
        bound_l0(one, one, np.ones((1, 1), np.int64), **({"L0": 1, "caps": np.array([1]), "secret": SECRET} | wrong))


@pytest.mark.parametrize(("norm", "scale"), [(0.0, 1), (-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 0)])
def test_a_norm_that_clips_nothing_is_refused(norm: float, scale: int) -> None:
    one = np.ones(1, np.uint64)
    with pytest.raises(ValueError):
        clip_l2(one, one, np.ones((1, 1), np.int64), norm, scale)


def test_a_sensitivity_is_rounded_up() -> None:
    for most in range(1, 400):
        assert Fraction(sensitivity(most, 7)) ** 2 >= most * 49


def test_a_unit_of_a_quarter_of_all_calls_weighs_as_much_as_any() -> None:
    rng = np.random.default_rng(3)
    unit = np.where(rng.random(40_000) < 0.25, 7, rng.integers(100, 5_000, 40_000)).astype(np.uint64)
    cell = rng.integers(0, CELLS, 40_000).astype(np.uint64)
    ones = np.ones((40_000, 1), np.int64)
    kept, whole = bound_l0(unit, cell, ones, 4, np.array([3]), SECRET), combine(unit, cell, ones)
    assert whole.counts[whole.unit == 7].sum() > 9_000
    assert kept.counts[kept.unit == 7].sum() == 12
