"""What an attacker can learn from what is published: the figures that every way of publishing is held to.

Pure functions over numpy arrays. None of them knows how a table was made: they see what an outsider sees, and the
planted truth to count how often the attacker is right. `intervals` holds the linear programming.

An attacker's *advantage* is the largest share of hits minus false alarms that telling two worlds apart can reach, 0
where guessing is as good, 1 where nothing is hidden. What (epsilon, delta) and rho allow: `bound`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MARGIN: Final = 0.05  # what an estimate may lie above its bound by chance
ELIGIBLE_CALLS: Final = 200  # a day: an attacker who seeks a person rules out who calls more


class Published(NamedTuple):
    """A table as an outsider sees it: figures, and which of them are shown; one shape for both.

    What is not shown counts as 0 for whoever must do sums with it.
    """

    values: Ints
    shown: Mask

    @classmethod
    def all_of(cls, values: Ints) -> "Published":
        return cls(values, np.ones(values.shape, bool))

    @property
    def seen(self) -> Ints:
        return np.where(self.shown, self.values, 0)


# -- bounds ------------------------------------------------------------------------------------------------------------


def bound(epsilon: float, delta: float, rho: float = math.inf) -> float:
    """Return the most that the advantage of any attacker can be against one unit.

    Of (epsilon, delta)-DP: (e^epsilon - 1 + 2 delta) / (e^epsilon + 1) (Kairouz, Oh, Viswanath 2015, theorem 2.1). Of
    rho-zCDP: sqrt(rho / 2), by Pinsker's inequality, as the divergence of two neighbours is at most rho. The least.
    """
    of_epsilon = math.tanh(epsilon / 2) + 2 * delta / (math.exp(min(epsilon, 700.0)) + 1)
    return min(1.0, of_epsilon, math.sqrt(rho / 2))


def auc_bound(advantage: float) -> float:
    """Return the area under an attacker's curve whose advantage is nowhere more than this."""
    return 0.5 + advantage - advantage**2 / 2


# -- how well scores tell two worlds apart -----------------------------------------------------------------------------


def auc(scores: npt.NDArray[Any], hit: Mask) -> float:
    """Return the chance that a hit scores above a miss, ties counting half (area under the ROC curve); 0.5 for none."""
    hits = int(hit.sum())
    misses = len(hit) - hits
    if not hits or not misses:
        return 0.5
    _, place, many = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(many) - (many - 1) / 2
    return float((rank[place][hit].sum() - hits * (hits + 1) / 2) / (hits * misses))


def advantage(without: Floats, with_: Floats) -> float:
    """Return the hits minus the false alarms of the best threshold on a score.

    The threshold is chosen on every other trial and judged on the rest: the same trials for both would flatter it.
    """
    cut = _best_cut(without[::2], with_[::2])
    return float((with_[1::2] >= cut).mean() - (without[1::2] >= cut).mean())


def _best_cut(without: Floats, with_: Floats) -> float:
    cuts = np.unique(np.concatenate([without, with_, [np.inf]]))
    return float(cuts[np.argmax(_above(with_, cuts) - _above(without, cuts))])


def _above(scores: Floats, cuts: Floats) -> Floats:
    """Return the share of scores that reach each cut."""
    return np.asarray(1 - np.searchsorted(np.sort(scores), cuts, side="left") / len(scores))


def roc(without: Floats, with_: Floats, points: int = 64) -> tuple[Floats, Floats]:
    """Return false alarms and hits at thresholds from the strictest to the laxest, shape [points] each."""
    cuts = np.quantile(np.concatenate([without, with_]), np.linspace(1, 0, points))
    above = (np.array([0.0, *_above(scores, cuts), 1.0]) for scores in (without, with_))
    false_alarms, hits = above
    return false_alarms, hits


# -- membership: was this unit in the data? ----------------------------------------------------------------------------

Release = Callable[[Ints], Published]  # exact figures → what is published, row by row, shape [trials, cells]


_MOST_CELLS: Final = 16  # an attacker looks at


class Membership(NamedTuple):
    """The attacker's advantage, and scores of both worlds: shape [trials] each."""

    advantage: float
    without: Floats
    with_: Floats


def membership(release: Release, without: Ints, with_: Ints, trials: int = 10_000) -> Membership:
    """Play the strong attacker, who knows all rows but one unit's: can he tell whether that unit was in?

    Args:
        release: publishes each row of exact figures by itself.
        without, with_: exact figures of the two worlds, shape [cells]. Cells that do not differ carry nothing, as noise
            is drawn for each cell by itself, and are left out; of those that do the attacker takes the clearest.
    """
    differ = np.flatnonzero(without != with_)
    differ = differ[np.argsort(-np.abs(with_ - without)[differ], kind="stable")][:_MOST_CELLS]
    if not len(differ):
        return Membership(0.0, np.zeros(trials), np.zeros(trials))
    worlds = [release(np.tile(world[differ], (trials, 1))) for world in (without, with_)]
    towards = (with_ - without)[differ].astype(float)
    scored = [_scores(world, towards, without[differ]) for world in worlds]
    memberships = [Membership(advantage(low, high), low, high) for low, high in zip(*scored, strict=True)]
    return max(memberships, key=lambda outcome: outcome.advantage)


def _scores(world: Published, towards: Floats, from_: Ints) -> list[Floats]:
    """Return what an attacker may look at: how far figures lie towards the world with the unit, and what is shown."""
    moved = np.where(world.shown, world.values - from_, 0) @ towards
    shown = world.shown.sum(-1).astype(float)
    return [np.asarray(moved / np.abs(towards).max()), shown, -shown]


def lone_key(shown: Mask, delta: float) -> tuple[float, float]:
    """Return how often a key shows that is there for one unit alone, and how often it may.

    Without that unit the key never shows, so whoever sees it is certain: delta bounds its share.

    Args:
        shown: whether it was shown in each trial.

    Returns:
        (share, the most that chance explains: delta and four standard deviations).
    """
    spread = math.sqrt(delta * (1 - delta) / len(shown))
    return float(shown.mean()), delta + 4 * spread + 1 / len(shown)


# -- differencing: what changed between two tables? --------------------------------------------------------------------


class Differencing(NamedTuple):
    """Of cells where one unit came late: the share whose difference is exactly that, and how well differences tell."""

    exposed: float
    auc: float
    lonely: Ints
    quiet: Ints


def differencing(before: Published, after: Published, lonely: Mask, quiet: Mask) -> Differencing:
    """Subtract two tables over the same cells, where the difference must give nobody away.

    Args:
        lonely: cells to which one unit's late row came; `quiet` cells to which nothing came.

    A cell that is not shown in both tables tells nothing. `exposed` counts differences of exactly 1, if quiet cells
    show none: with noise on both tables a 1 proves nothing.
    """
    both = before.shown & after.shown
    change = np.where(both, after.values - before.values, 0)
    certain = not change[quiet].any()
    exposed = float((change[lonely] == 1).mean()) if certain and lonely.any() else 0.0
    either = lonely | quiet
    return Differencing(exposed, auc(change[either], lonely[either]), change[lonely], change[quiet])


# -- averaging: the same table again and again -------------------------------------------------------------------------


def averaging(runs: Ints, truth: Ints, after: Sequence[int]) -> list[float]:
    """Return the share of cells whose exact figure is the rounded mean of the first so many runs.

    Args:
        runs: what was printed, shape [runs, cells]; truth: shape [cells].
    """
    sums = np.cumsum(runs, axis=0)
    return [float((np.abs(sums[many - 1] / many - truth) < 0.5).mean()) for many in after]


# -- unicity: how few known points single a person out? ----------------------------------------------------------------


def unicity(person: Ints, point: Ints, points: int, rng: np.random.Generator, trials: int = 2000) -> float:
    """Return the share of persons alone with so many of their points (times and places), drawn at random; or NaN.

    After de Montjoye, Hidalgo, Verleysen, Blondel 2013. Candidates and persons are those of at most ELIGIBLE_CALLS: an
    attacker who seeks a person rules out call centres, and would else find fewer alone. NaN: nobody has so many points.

    Args:
        person, point: one row per call of a day, shape [n] each; numbers that name anything.
    """
    known, index, many = np.unique(person, return_inverse=True, return_counts=True)
    kept = (many <= ELIGIBLE_CALLS)[index]
    who, where = _distinct(index[kept], np.unique(point[kept], return_inverse=True)[1])
    first = np.searchsorted(who, np.arange(len(known) + 1))
    enough = np.flatnonzero(np.diff(first) >= points)
    if not len(enough):
        return math.nan
    postings = _Postings(who, where)
    drawn = rng.choice(enough, min(trials, len(enough)), replace=False)
    alone = [
        postings.alone(rng.choice(where[first[drawn_person] : first[drawn_person + 1]], points, replace=False))
        for drawn_person in drawn
    ]
    return float(np.mean(alone))


def _distinct(who: Ints, where: Ints) -> tuple[Ints, Ints]:
    """Return each pair once, in order of (who, where)."""
    size = int(where.max(initial=0)) + 1
    pairs = np.unique(who * size + where)
    return pairs // size, pairs % size


class _Postings:
    """Who was at a point: shape [visits], ordered by point."""

    def __init__(self, who: Ints, where: Ints) -> None:
        order = np.lexsort((who, where))
        self._who = who[order]
        self._first = np.searchsorted(where[order], np.arange(int(where.max(initial=0)) + 2))

    def alone(self, points: Ints) -> bool:
        """Return whether one person alone was at all of these points."""
        sets = sorted((self._who[self._first[p] : self._first[p + 1]] for p in points), key=len)
        left = sets[0]
        for more in sets[1:]:
            left = left[more[np.minimum(np.searchsorted(more, left), len(more) - 1)] == left]
        return len(left) == 1
