"""What a release would be worth, before any of its budget is spent: on made-up traffic, or on a table that is out.

Never on the true data: a preview of it would be a release of it, for free.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist
from typing import Final

import numpy as np

from callward.errors import UsageProblem
from callward.release import bounding, domains, publication
from callward.release.declaration import Axis, Dimension, Release
from callward.release.traffic import CALLS_BY_HOUR, picked

_SEED: Final = 20_261_122
_MOST_ROWS: Final = 400_000  # made up at a time: a part of the units, whose figures are scaled up
_CENTRES: Final = 2_000  # one unit in so many is a call centre; together they make a tenth of the calls
_UNIT_CLASSES: Final = 48  # of units by how much they call, where averages are computed
_SIZES: Final = (1, 11, 31, 101, 301, 1_001, 3_001, 10_001)  # lower ends of the classes of cells
_TEN: Final = 10  # standard deviations that a figure should have above it, to be read as one
_ELSEWHERE: Final = 0.15  # of calls, in an `other`
_AT_HOME: Final = 0.6  # of calls, between two areas: in the unit's own
_MONTH_DAYS: Final = 30
_KNOWN: Final[dict[str, dict[str, float]]] = {
    "direction": {"outbound": 0.5, "inbound": 0.35, "transit": 0.1, "internal": 0.05},
    "destination": {"US": 0.85, "CA": 0.05, "toll_free": 0.04},
    "disposition": {"answered": 0.6, "no_answer": 0.15, "busy": 0.06},
}
# What a row adds on average, of what is not 1: as `_figures` draws it.
_MEANS: Final = {
    "answered": 0.6,
    "ner_success": 0.6,
    "talk_s": 91,
    "billable_s": 91,
    "pdd_ms": 2_300,
    "mos_milli": 4_000,
}


@dataclass(frozen=True)
class Volumes:
    """Made-up traffic: so many calls a day, by so many units, spread as real traffic is."""

    calls_per_day: int
    units: int


def expected_volumes(release: Release) -> Volumes | None:
    """Return the traffic that a declaration expects; None where it says nothing."""
    return Volumes(release.expected.calls_per_day, release.expected.units) if release.expected else None


@dataclass(frozen=True)
class Made:
    """Made-up rows: uint64 [n], uint64 [n], int64 [n, m]. Each stands for `weight` rows."""

    unit: np.ndarray
    cell: np.ndarray
    counts: np.ndarray
    weight: float


@dataclass(frozen=True)
class Coarser:
    """Another grain, in words, with the share of what is counted that lies in useful cells."""

    words: str
    share: float
    cells: int


# -- made-up traffic ---------------------------------------------------------------------------------------------------


def made_up_rows(release: Release, volumes: Volumes) -> Made:
    """Return rows of one period: areas by Zipf's law, mostly one's own; hours of a working day; a few heavy callers."""
    rng = np.random.default_rng(_SEED)
    calls = volumes.calls_per_day * (_MONTH_DAYS if release.grain == "month" else 1)
    part = min(1.0, _MOST_ROWS / calls)
    rows, units = max(1, round(calls * part)), max(1, round(volumes.units * part))
    unit = _units(rng, rows, units)
    grid = release.grid()
    cell = np.zeros(rows, np.uint64)
    for axis, size in zip(grid.axes, grid.shape, strict=True):
        cell = cell * np.uint64(size) + _labels(rng, axis, unit).astype(np.uint64)
    counts = np.stack([_figures(rng, measure.name, rows) for measure in release.measures], axis=1)
    return Made(unit.astype(np.uint64), cell, counts, 1 / part)


def _units(rng: np.random.Generator, rows: int, units: int) -> np.ndarray:
    weight = rng.lognormal(0, 1.1, units)
    weight[: max(1, units // _CENTRES)] = weight.sum() * 0.1 / max(1, units // _CENTRES)  # call centres
    return picked(rng, rows, weight)


def _labels(rng: np.random.Generator, axis: Axis, unit: np.ndarray) -> np.ndarray:
    """Return a label for each row; of areas the unit's own more often than not."""
    weight = _weights(axis)
    label = picked(rng, len(unit), weight)
    if not axis.column.endswith("_prefix"):
        return label
    home = picked(np.random.default_rng(_SEED), int(unit.max(initial=0)) + 1, weight)
    return np.where(rng.random(len(unit)) < _AT_HOME, home[unit], label)


def _weights(axis: Axis) -> np.ndarray:
    """Return how much falls on each label: by its codes, so that a coarser domain has the sums of the finer one's."""
    weight = np.array([sum(_weight(axis, code) for code in codes) for _, codes in axis.domain.cells])
    weight /= weight.sum()
    return np.r_[weight * (1 - _ELSEWHERE), _ELSEWHERE] if axis.domain.other is not None else weight


def _weight(axis: Axis, code: str) -> float:
    if axis.domain.read == "hour":
        return float(CALLS_BY_HOUR[int(code)])
    known = _KNOWN.get(axis.column)
    if known is not None:
        return known.get(code, 0.002)
    # Zipf's law, with a rank that a hash gives: the same for a code in every domain that has it.
    rank = int.from_bytes(hashlib.sha256(code.encode()).digest()[:8], "big") / 2**64 * 350
    return 1 / (rank + 3)


def _figures(rng: np.random.Generator, name: str, rows: int) -> np.ndarray:
    """Return what rows add to a measure, like real ones."""
    answered = rng.random(rows) < 0.6
    if name in ("talk_s", "billable_s"):
        return np.where(answered, np.clip(rng.lognormal(4.3, 1.2, rows), 1, 14_400), 0).astype(np.int64)
    if name == "pdd_ms":
        return np.clip(rng.lognormal(7.5, 0.7, rows), 50, 60_000).astype(np.int64)
    if name == "mos_milli":
        return np.clip(rng.normal(4_000, 300, rows), 1_000, 5_000).astype(np.int64)
    return answered.astype(np.int64) if name in ("answered", "ner_success") else np.ones(rows, np.int64)


# -- what would be told of it ------------------------------------------------------------------------------------------


def true_figures(release: Release, rows: Made) -> np.ndarray:
    """Return what each cell would truly have; float [size, m]. Distinct units are counted once in a cell."""
    exact = np.zeros((release.grid().size, len(release.measures)))
    for at, measure in enumerate(release.measures):
        if release.measure(measure.name).distinct:
            cell = np.unique(np.stack([rows.unit, rows.cell]), axis=1)[1]
            exact[:, at] = np.bincount(cell.astype(np.int64), minlength=len(exact))
        else:
            exact[:, at] = np.bincount(rows.cell.astype(np.int64), rows.counts[:, at], minlength=len(exact))
    return exact * rows.weight


def bounded_figures(release: Release, rows: Made) -> np.ndarray:
    """Return the cells when no unit weighs more than is declared; float [size, m]."""
    dense = np.zeros((release.grid().size, len(release.measures)))
    if release.bounding.method == "l0":
        kept = bounding.bound_l0(
            rows.unit, rows.cell, rows.counts, release.bounding.cells, release.caps(), b"a preview draws in the open"
        )
        cell, counts = bounding.sums(kept.cell, kept.counts)
        dense[cell.astype(np.int64)] = counts
        return dense * rows.weight
    once = [1 if release.measure(measure.name).distinct else np.iinfo(np.int64).max for measure in release.measures]
    kept = bounding.combine(rows.unit, rows.cell, rows.counts, np.array(once, np.int64))
    cell, counts = bounding.clip_l2(kept.unit, kept.cell, kept.counts, release.clips(), bounding.SCALE)
    dense[cell.astype(np.int64)] = counts / bounding.SCALE
    return dense * rows.weight


def expected(release: Release, volumes: Volumes, at: int = 0) -> np.ndarray:
    """Return what each cell would have of a measure on average, without drawing any row; float [size]."""
    calls = volumes.calls_per_day * (_MONTH_DAYS if release.grain == "month" else 1)
    measure = release.measures[at]
    anywhere, at_home, home = _chances(release)
    if not release.measure(measure.name).distinct:
        return np.asarray(calls * _MEANS.get(measure.name, 1.0) * (home * at_home + (1 - home) * anywhere))
    figures = np.zeros(len(anywhere))
    for units, each in _classes_of_units(calls, volumes.units):
        figures += units * (home * -np.expm1(-each * at_home) + (1 - home) * -np.expm1(-each * anywhere))
    return figures


def _chances(release: Release) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per cell the chance of a unit's call from elsewhere, of one at home there, and of being at home there."""
    anywhere, at_home, home, settled = (np.ones(1) for _ in range(4))
    for axis in release.grid().axes:
        weight = _weights(axis)
        own = axis.column.endswith("_prefix") and settled.size == 1
        here, there = (_AT_HOME + (1 - _AT_HOME) * weight, (1 - _AT_HOME) * weight) if own else (weight, weight)
        home = np.outer(home, weight if own else np.ones(len(weight))).ravel()
        anywhere, at_home = np.outer(anywhere, there).ravel(), np.outer(at_home, here).ravel()
        settled = np.ones(2) if own else settled
    return anywhere, at_home, home if settled.size > 1 else np.zeros(len(anywhere))


def _classes_of_units(calls: int, units: int) -> list[tuple[float, float]]:
    """Return units in classes of equal size, with the calls of each: quantiles of `_units`; call centres last."""
    at = (np.arange(_UNIT_CLASSES) + 0.5) / _UNIT_CLASSES
    weight = np.exp(1.1 * np.array([NormalDist().inv_cdf(quantile) for quantile in at]))
    each = 0.9 * calls * weight / (weight.sum() * units / _UNIT_CLASSES)
    centres = max(1, units // _CENTRES)
    return [*((units / _UNIT_CLASSES, calls_each) for calls_each in each.tolist()), (centres, 0.1 * calls / centres)]


def useful_share(release: Release, volumes: Volumes, at: int = 0) -> float:
    """Return the share of a measure that lies in cells of at least ten standard deviations of its noise."""
    figures = expected(release, volumes, at)
    return float(figures[figures >= _TEN * release.sigmas()[at]].sum() / max(figures.sum(), 1e-9))


@dataclass(frozen=True, kw_only=True)
class SizeClass:
    """Cells of a true size between two bounds, and the relative error of half and of 95 % of them at most."""

    from_: int
    to: int | None
    cells: int
    median: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class MeasurePreview:
    """What a measure would be worth. `kept_share`: what bounding keeps of it; None where it is not known."""

    name: str
    sigma: float
    error_95: int
    useful_share: float
    sizes: Sequence[SizeClass]
    kept_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a table would be worth, on made-up traffic of a size or on a table that is out (`on` says which)."""

    name: str
    on: str
    calls_per_day: int | None = None
    units: int | None = None
    measures: Sequence[MeasurePreview]


def preview(release: Release, volumes: Volumes) -> Preview:
    """Return relative errors by size of cell on made-up traffic, with the noise and the bounding of the release."""
    _check_dp(release)
    rows = made_up_rows(release, volumes)
    exact, bounded = true_figures(release, rows), bounded_figures(release, rows)
    useful = [useful_share(release, volumes, at) for at in range(len(release.measures))]
    kept = bounded.sum(axis=0) / np.maximum(exact.sum(axis=0), 1e-9)
    measures = [
        replace(measure, kept_share=round(float(share), 4))
        for measure, share in zip(_errors(release, exact, bounded, useful), kept, strict=True)
    ]
    return Preview(name=release.name, on="made-up traffic", **vars(volumes), measures=measures)


def preview_published(release: Release, values: np.ndarray, source: str) -> Preview:
    """Return the same on a published table (int64 [size, m]): of noise alone, as nobody's share in it is known."""
    _check_dp(release)
    exact = np.maximum(values, 0).astype(float)
    useful = [
        float(column[column >= _TEN * sigma].sum() / max(column.sum(), 1e-9))
        for column, sigma in zip(exact.T, release.sigmas(), strict=True)
    ]
    return Preview(name=release.name, on=source, measures=_errors(release, exact, exact, useful))


def _check_dp(release: Release) -> None:
    if release.kind != "dp":
        raise UsageProblem(f"{release.name} is a threshold table: its figures have no noise, and cost no budget")


def _errors(release: Release, exact: np.ndarray, bounded: np.ndarray, useful: Sequence[float]) -> list[MeasurePreview]:
    rng = np.random.default_rng(_SEED)  # a stand-in for OpenDP's noise: nothing here is secret
    previews = []
    for at, (measure, sigma) in enumerate(zip(release.measures, release.sigmas(), strict=True)):
        truth = exact[:, at]
        error = np.abs(bounded[:, at] + np.rint(rng.normal(0, sigma, len(truth))) - truth)
        previews.append(
            MeasurePreview(
                name=measure.name,
                sigma=round(sigma, 1),
                error_95=publication.error_of(sigma),
                useful_share=round(useful[at], 4),
                sizes=list(_classes(truth, error)),
            )
        )
    return previews


def _classes(truth: np.ndarray, error: np.ndarray) -> Iterator[SizeClass]:
    """Yield median and 95th percentile of the relative error, by classes of true size."""
    for low, high in zip(_SIZES, (*_SIZES[1:], math.inf), strict=True):
        inside = (truth >= low) & (truth < high)
        if inside.any():
            relative = error[inside] / truth[inside]
            yield SizeClass(
                from_=low,
                to=None if high == math.inf else int(high) - 1,
                cells=int(inside.sum()),
                median=round(float(np.median(relative)), 4),
                p95=round(float(np.quantile(relative, 0.95)), 4),
            )


# -- which coarser grain works -----------------------------------------------------------------------------------------


def coarser(release: Release, volumes: Volumes, share: float) -> Coarser | None:
    """Return the finest coarser grain at which `share` of the counts lies in useful cells; None without one."""
    candidates = sorted(_candidates(release), key=lambda pair: -pair[1].grid().size)
    for words, candidate in candidates:
        useful = useful_share(candidate, volumes)
        if useful >= share:
            return Coarser(words, useful, candidate.grid().size)
    return None


def _candidates(release: Release) -> Iterator[tuple[str, Release]]:
    """Yield grains one or two steps coarser: a coarser domain, a dimension less, months in place of days."""
    steps = list(_steps(release))
    for chosen in (*((step,) for step in steps), *combinations(steps, 2)):
        touched = [name for name, _, _ in chosen]
        if len(set(touched)) < len(touched):
            continue
        made_of = release
        for name, _, change in chosen:
            made_of = _changed(made_of, name, change)
        if made_of.dimensions:
            yield " and ".join(words for _, words, _ in chosen), made_of


def _steps(release: Release) -> Iterator[tuple[str, str, Dimension | str | None]]:
    if release.grain == "day":
        yield "", "grain = 'month'", "month"
    for dimension, domain in zip(release.dimensions, release.domains, strict=True):
        name: str | None = domain.coarser
        while name is not None:
            changed = dimension.model_copy(update={"domain": name, "version": None})
            yield dimension.name, f"{dimension.name} by {name}", changed
            name = domains.load(name, release.folder).coarser
        yield dimension.name, f"no {dimension.name}", None


def _changed(release: Release, name: str, change: Dimension | str | None) -> Release:
    values = dict(release)
    if isinstance(change, str):
        values["grain"] = change
    else:
        kept = ((change if d.name == name else d) for d in release.dimensions)
        values["dimensions"] = tuple(d for d in kept if d is not None)
    return Release.model_construct(**values)
