"""Shapes of a day's traffic that previews and the attack suite share."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


# Calls by hour of the day: quiet nights, two peaks around lunch, an evening shoulder.
CALLS_BY_HOUR: Final = (2, 1, 1, 1, 1, 2, 4, 9, 15, 19, 21, 20, 17, 19, 21, 20, 18, 15, 11, 9, 7, 6, 4, 3)


def picked(rng: np.random.Generator, count: int, weight: npt.NDArray[Any]) -> Ints:
    """Return `count` positions in `weight`, drawn by it."""
    edges = np.cumsum(weight)
    return np.asarray(np.searchsorted(edges, rng.random(count) * edges[-1], side="right"), np.int64)
