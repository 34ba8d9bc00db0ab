"""Negative controls: mechanisms that look sound and are not, which the attack suite must catch. None makes a release.

Each is a mistake that was really made somewhere: noise anew at every run, the same noise once more for a correction, no
bound on what one person adds, noise for one cell of many, a gate on the exact count, cells that exist only if somebody
was there, thresholds beside true totals.
"""

import math
from typing import Any, Final

import numpy as np

from callward.release import mechanisms
from callward.release.attack.attacks import Ints, Mask, Published, Release
from callward.release.bounding import sensitivity
from callward.release.suppression import EXTERNAL_K

K: Final = EXTERNAL_K


def noisy(cells: int, rho: float) -> Release:
    """Return the sound release, to compare with: noise for a unit that adds 1 to at most `cells` cells."""

    def release(exact: Ints) -> Published:
        drawn, _ = mechanisms.gaussian(exact.ravel(), sensitivity(cells, 1), rho)
        return Published.all_of(drawn.reshape(exact.shape))

    return release


def noise_for_one_cell(rho: float) -> Release:
    """Return a release with noise for a unit in one cell, as if its other cells were somebody else's."""
    return noisy(1, rho)


def gated(cells: int, rho: float, k: int = K) -> Release:
    """Return one with noise that shows a cell only where its exact count is k or more: so much is known exactly."""

    def release(exact: Ints) -> Published:
        return Published(noisy(cells, rho)(exact).values, exact >= k)

    return release


def keyed_by_data(cells: int, rho: float) -> Release:
    """Return a release with noise on the cells that occur, and no cell where nobody was."""
    return gated(cells, rho, k=1)


def exact(counts: Ints) -> Published:
    """Publish without any protection."""
    return Published.all_of(counts)


def shown_at_threshold(trials: int, rho: float, delta: float) -> tuple[Mask, float]:
    """Return whether a key of one unit shows, and the delta stated for it, by a threshold given to OpenDP as it comes.

    A value that equals the threshold is let through, which delta leaves out (github.com/opendp/opendp/issues/2922).
    """
    dp = mechanisms.opendp()
    scale = math.sqrt(1 / (2 * rho))

    def stated(threshold: int) -> float:
        return float(_threshold(scale, threshold).map((1, 1.0, 1.0))[1])

    least = dp.binary_search(lambda threshold: stated(threshold) <= delta, bounds=(1, 10**6))
    shown = _threshold(scale, least)(dict.fromkeys(range(trials), 1))
    return np.isin(np.arange(trials), list(shown)), stated(least)


def _threshold(scale: float, threshold: int) -> Any:
    dp = mechanisms.opendp()
    domain = dp.map_domain(dp.atom_domain(T="u64"), dp.atom_domain(T="i64"))
    metric = dp.l02inf_distance(dp.absolute_distance(T=float))
    return dp.m.make_gaussian_threshold(domain, metric, scale=scale, threshold=threshold)
