"""Mechanisms under test: the calls of a day by area and direction, exact, suppressed, bounded for noise."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from callward.release import mechanisms, suppression
from callward.release.attack import broken_controls
from callward.release.attack.attacks import Ints, Mask, Published, Release, bound
from callward.release.attack.population import AREAS, DAY_CELLS, DIRECTIONS, Traffic
from callward.release.bounding import bound_l0, sums
from callward.release.suppression import Partition

_SECRET = b"attack suite"  # chooses which cells of a subscriber count; not a key of anything


@dataclass(frozen=True)
class Privacy:
    """What the releases under attack promise: each subscriber counts once, in at most `cells` cells."""

    epsilon: float = 1.0
    delta: float = 1e-9
    cells: int = 16
    k: int = broken_controls.K

    @cached_property
    def rho(self) -> float:
        return mechanisms.rho_of(self.epsilon, self.delta)

    @property
    def sigma(self) -> float:
        return mechanisms.sigma_of(self.cells**0.5, self.rho)

    @property
    def noise(self) -> Release:
        """Return a release with noise on subscribers by cell, bounded so."""
        return broken_controls.noisy(self.cells, self.rho)

    def bound(self, releases: int = 1) -> float:
        """Return the attacker's largest advantage over so many releases of one unit's rows."""
        rho = self.rho * releases
        return bound(mechanisms.epsilon_of(rho, self.delta), self.delta, rho)


# -- exact -------------------------------------------------------------------------------------------------------------


def calls(traffic: Traffic) -> Ints:
    """Count calls by area and direction."""
    return np.bincount(traffic.day_cell, minlength=DAY_CELLS)


def calls_by_area(traffic: Traffic) -> Ints:
    return np.bincount(traffic.area, minlength=AREAS)


def subscribers(traffic: Traffic) -> Ints:
    """Count distinct subscribers by area and direction."""
    pairs = np.unique(traffic.day_cell << 40 | traffic.unit)
    return np.bincount(pairs >> 40, minlength=DAY_CELLS)


# -- bounded -----------------------------------------------------------------------------------------------------------


def bounded(traffic: Traffic, cells: int) -> Ints:
    """Count subscribers by area and direction, each in at most `cells` of them: what noise is drawn on."""
    return _bounded(traffic.unit, traffic.day_cell, cells, DAY_CELLS)


def bounded_by_area(traffic: Traffic, cells: int) -> Ints:
    return _bounded(traffic.unit, traffic.area, cells, AREAS)


def _bounded(unit: Ints, cell: Ints, cells: int, size: int) -> Ints:
    ones = np.ones((len(unit), 1), np.int64)
    kept = bound_l0(unit.astype(np.uint64), cell.astype(np.uint64), ones, cells, np.array([1]), _SECRET)
    table = np.zeros(size, np.int64)
    where, counts = sums(kept.cell, kept.counts)
    table[where.astype(np.int64)] = counts[:, 0]
    return table


# -- suppressed --------------------------------------------------------------------------------------------------------


def suppressed(traffic: Traffic, k: int, within: Partition | None = None) -> Partition:
    """Return our threshold table of calls, an area being the parent of its directions."""
    account, unit, cell = (column.astype(np.uint64) for column in (traffic.account, traffic.unit, traffic.day_cell))
    rows = suppression.combine(suppression.Rows(account, unit, cell, np.ones((len(traffic), 1), np.int64)))
    return suppression.table([rows], np.arange(DAY_CELLS) // len(DIRECTIONS), suppression.Rule(k=k), within)


def cell_by_cell(traffic: Traffic, k: int) -> Published:
    """Publish as is usually done: each cell of k subscribers or more, by itself."""
    return Published(calls(traffic), subscribers(traffic) >= k)


def leaves(partition: Partition) -> Published:
    """Return the cells that stand by themselves, with their figures."""
    values, shown = np.zeros(len(partition.group), np.int64), np.zeros(len(partition.group), bool)
    alone = np.flatnonzero(~partition.is_other)
    values[partition.cell[alone]] = partition.stats.counts[alone, 0]
    shown[partition.cell[alone]] = True
    return Published(values, shown)


def groups(partition: Partition) -> tuple[Mask, Ints]:
    """Return the cells that each published group is of, shape [groups, cells], and its figure, shape [groups]."""
    numbers = np.arange(len(partition.parent))
    return np.asarray(partition.group[None, :] == numbers[:, None]), partition.stats.counts[:, 0]


# -- totals of a table -------------------------------------------------------------------------------------------------


def areas() -> Mask:
    """Return the cells of each area (bool, shape [areas, cells])."""
    return np.asarray(np.arange(DAY_CELLS)[None, :] // len(DIRECTIONS) == np.arange(AREAS)[:, None])


def directions() -> Mask:
    """Return the cells of each direction (bool, shape [directions, cells])."""
    return np.asarray(np.arange(DAY_CELLS)[None, :] % len(DIRECTIONS) == np.arange(len(DIRECTIONS))[:, None])
