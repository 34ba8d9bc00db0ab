"""Noise, by OpenDP: what a differentially private release draws, and what it costs.

Cost is ρ of zero-concentrated differential privacy (zCDP; Bun and Steinke 2016): it adds up over releases about the
same units, and one conversion at the end gives (ε, δ). Every call draws anew and nothing can be seeded, so a release
draws once, inside its commit: a step that may be retried would give two noises of one table, whose mean is closer
to the truth than was paid for.

OpenDP's measurements are pointers and do not pickle: they are made here at each call, from plain numbers.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

_WIDER: Final = 1 + 1e-12  # a scale by formula, so that rounding never makes a draw cost more than was reserved
_CELLS_AT_ONCE: Final = 1 << 18  # OpenDP answers with a list, of which each number takes tens of bytes
_LARGEST_RHO: Final = 1e4


@cache
def opendp() -> Any:
    """Return OpenDP with the features that are used; imported late, as it takes a third of a second and 50 MB."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp


def sigma_of(sensitivity: float, rho: float) -> float:
    """Return the standard deviation of Gaussian noise that costs `rho` at a `sensitivity` (L2, of one unit).

    σ = Δ/√(2ρ) (Bun and Steinke 2016, proposition 1.6). Raises ValueError where either is not above zero and finite.
    """
    if not (0 < sensitivity < math.inf and 0 < rho < math.inf):
        raise ValueError("sensitivity and rho are numbers above zero")
    return sensitivity / math.sqrt(2 * rho)


def gaussian(counts: Counts, sensitivity: float, rho: float) -> tuple[Counts, float]:
    """Return all cells of a table with discrete Gaussian noise, and its σ; int64 [n] → int64 [n], signed, float.

    `counts` is dense over a public domain: cells of zero get noise too, or which cells exist would tell. One unit
    changes the table by at most `sensitivity` (L2 norm); the draw costs `rho`. Values are not clamped at zero: sums
    of small cells would be biased.
    """
    exact = _whole(counts)
    measurement, sigma = _gaussian(sensitivity, rho)
    noisy = np.zeros_like(exact)
    for first in range(0, len(exact), _CELLS_AT_ONCE):  # each cell has noise of its own, so the whole costs the same
        part = slice(first, first + _CELLS_AT_ONCE)
        noisy[part] = measurement(exact[part])
    return noisy, sigma


def _gaussian(sensitivity: float, rho: float) -> tuple[Any, float]:
    dp = opendp()
    domain, metric = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    sigma = sigma_of(sensitivity, rho) * _WIDER
    measurement = dp.m.make_gaussian(domain, metric, scale=sigma)
    _check(measurement.map(float(sensitivity)), rho)
    return measurement, sigma


def _check(spent: float, rho: float) -> None:
    """Check that our cost is not below OpenDP's, which is exact arithmetic, rounded up."""
    if spent > rho:
        raise ValueError("the noise would cost more than rho: one of the two is too small to compute with")


def _whole(counts: Counts) -> Counts:
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.signedinteger):
        raise ValueError("counts are whole numbers, int64 [n]")
    return np.ascontiguousarray(counts, np.int64)


# -- ε and δ -----------------------------------------------------------------------------------------------------------


def epsilon_of(rho: float, delta: float) -> float:
    """Return the least ε for which ρ-zCDP gives (ε, δ)-differential privacy, by OpenDP's conversion, rounded up.

    The conversion is that of Canonne, Kamath and Steinke 2020 (proposition 7): tighter than ρ + 2·√(ρ·ln(1/δ)).
    Raises ValueError for a ρ or δ out of range.
    """
    if not (0 < rho < math.inf and 0 < delta < 1):
        raise ValueError("rho is above zero, and delta between zero and one")
    dp = opendp()
    gaussian = dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T=float), scale=1.0)
    profile = dp.c.make_zCDP_to_approxDP(gaussian).map(math.sqrt(2 * rho))
    return float(profile.epsilon(delta))


def rho_of(epsilon: float, delta: float) -> float:
    """Return the largest ρ whose (ε, δ) is within `epsilon` at `delta`: the inverse of `epsilon_of`, from below.

    Raises ValueError for an ε or δ out of range.
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise ValueError("epsilon is above zero, and delta between zero and one")
    low, high = 0.0, _LARGEST_RHO
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low
