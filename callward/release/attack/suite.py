"""Every attack on every mechanism, over a scene whose victims are known: figures, each beside its bound.

Three mechanisms publish the same calls of a day, by area and direction: *raw* (exact figures), *threshold* (the table
of `suppression`), *dp* (contributions bounded by `bounding`, noise of `mechanisms`). Then negative controls
(`broken_controls`): mechanisms that are known to be broken, which the same attacks must catch. A suite that lets one
of them pass proves nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from callward.release.attack import broken_controls, mechanisms_under_test
from callward.release.attack.attacks import (
    MARGIN,
    Ints,
    Mask,
    Membership,
    Published,
    Release,
    auc_bound,
    averaging,
    differencing,
    lone_key,
    membership,
    roc,
)
from callward.release.attack.intervals import intervals
from callward.release.attack.mechanisms_under_test import Privacy
from callward.release.attack.population import AREAS, DAY_CELLS, DIRECTIONS, TRANSIT, Scene, Traffic
from callward.release.suppression import INTERNAL_K, Partition

RAW, THRESHOLD, DP = "raw", "threshold", "dp"
REPEATS: Final = (1, 3, 10, 30, 100, 300, 1000)
DAYS: Final = (1, 7, 30, 90)
_AVERAGED: Final = 200  # cells whose repeats are averaged
_KEYS: Final = 40_000  # trials of a key of one unit: what shows is rare
_LONE: Final = "share of lone persons' cells recovered exactly, minus false recoveries of empty cells"
_ADVANTAGE: Final = "advantage of the attacker: hits minus false alarms"

Draw = Callable[[], Ints]  # noise anew on a table, shape [cells]
Ledger = Callable[[Draw, int], Ints]  # what each of so many runs prints, shape [runs, cells]


@dataclass(frozen=True)
class Effort:
    """How hard the suite tries: more makes estimates sharper and takes longer.

    Attributes:
        trials: of each world in a membership attack.
        draws: of a whole table, where an attack is over its cells.
        days: how many releases a person is in; `days_draws` is what each of these may take, with trials at most.
    """

    trials: int = 6000
    draws: int = 20
    days: tuple[int, ...] = DAYS
    days_draws: int = 60_000


class Figure(NamedTuple):
    """What an attacker gets from one mechanism: its attack's `chance` is nothing. `most` is what is promised."""

    mechanism: str  # RAW, THRESHOLD or DP
    value: float
    note: str
    most: float | None = None
    margin: float = MARGIN

    @property
    def holds(self) -> bool:
        return self.most is None or self.value <= self.most + self.margin


@dataclass(frozen=True)
class Attack:
    """An attack, what it asks, and what came of it; `plot` has the series of its picture."""

    name: str
    title: str
    question: str
    measure: str
    chance: float
    figures: tuple[Figure, ...]
    plot: dict[str, Any] = field(default_factory=dict, repr=False)

    def figure(self, mechanism: str) -> Figure:
        """Return what is got from a mechanism."""
        return next(figure for figure in self.figures if figure.mechanism == mechanism)


class Control(NamedTuple):
    """A broken mechanism, the attack that must catch it, what it got and what it should have got at most."""

    mechanism: str
    attack: str
    value: float
    most: float
    margin: float = MARGIN

    @property
    def caught(self) -> bool:
        return self.value > self.most + self.margin


def once(draw: Draw, runs: int) -> Ints:
    """Return what a write-once ledger prints: one draw, and the same bytes every time."""
    return np.tile(draw(), (runs, 1))


class AttackSuite:
    """A scene, the tables published of it, and the attacks on them."""

    def __init__(self, scene: Scene, privacy: Privacy | None = None, effort: Effort | None = None) -> None:
        self._traffic, self._victims = scene.traffic, scene.victims
        self.privacy = privacy or Privacy()
        self.effort = effort or Effort()

    def attacks(self) -> Iterator[Attack]:
        """Yield every attack on raw, threshold and dp."""
        yield self.correction()
        yield self.two_grains()
        yield self.totals()
        yield self.repeats()
        yield self.presence()
        yield self.many_days()

    # -- differencing --------------------------------------------------------------------------------------------------

    def correction(self) -> Attack:
        """Subtract the release before late rows came from the one after."""
        before, after = self._on_time, self._traffic
        kinds = {
            RAW: [Published.all_of(mechanisms_under_test.subscribers(traffic)) for traffic in (before, after)],
            THRESHOLD: [
                mechanisms_under_test.leaves(mechanisms_under_test.suppressed(traffic, self.privacy.k))
                for traffic in (before, after)
            ],
        }
        lonely, quiet = self._late_cells()
        differences = {kind: differencing(first, second, lonely, quiet) for kind, (first, second) in kinds.items()}
        exact = [self._bounded(before), self._bounded(after)]
        pairs = [[self._noise(figures) for figures in exact] for _ in range(self.effort.draws)]
        draws = [differencing(first, second, lonely, quiet) for first, second in pairs]
        differences[DP] = draws[0]._replace(auc=float(np.mean([difference.auc for difference in draws])), exposed=0.0)
        most = {DP: auc_bound(self.privacy.bound(releases=2))}
        return Attack(
            "correction",
            "Differencing across a correction",
            "A release, and its correction after late rows: which cells got one more person?",
            "how well the difference tells a cell with one late person from one with none (area under the curve)",
            0.5,
            tuple(
                Figure(kind, difference.auc, _late_note(kind, difference.exposed), most.get(kind))
                for kind, difference in differences.items()
            ),
            {
                kind: {"lonely": difference.lonely.tolist(), "quiet": difference.quiet.tolist()}
                for kind, difference in differences.items()
            },
        )

    @property
    def _on_time(self) -> Traffic:
        return self._traffic.where(~self._traffic.late)

    def _late_cells(self) -> tuple[Mask, Mask]:
        """Return the cells with the planted late call alone, and the cells with nothing late."""
        late = np.bincount(self._traffic.day_cell[self._traffic.late], minlength=DAY_CELLS)
        lonely = np.zeros(DAY_CELLS, bool)
        lonely[self._victims.late_cells] = True
        return lonely, (late == 0) & (self._counts > 0)

    def two_grains(self) -> Attack:
        """Subtract the shown cells of the table by area and direction from the table by area."""
        raw = self._recovered(
            Published.all_of(self._counts),
            mechanisms_under_test.areas(),
            mechanisms_under_test.calls_by_area(self._traffic),
        )
        note = "the table inside and the one for outside together"
        return Attack(
            "two_grains",
            "Differencing across two releases",
            "Calls by area, and by area and direction: what is a hidden cell, an area's total minus what is shown?",
            _LONE,
            0.0,
            (
                Figure(RAW, raw, "every cell is printed"),
                Figure(THRESHOLD, self._recovered_from_both(), note, 0.0, 0.0),
                Figure(DP, self._guessed_by_area(), "both tables together", self.privacy.bound(releases=2)),
            ),
            {"usual": self.usual_grains},
        )

    def _guessed_by_area(self) -> float:
        exact = self._bounded(self._traffic)
        by_area = mechanisms_under_test.bounded_by_area(self._traffic, self.privacy.cells)
        differences = [
            _differences(self._noise(exact).values, self._noise(by_area).values) for _ in range(self.effort.draws)
        ]
        return max(0.0, float(np.mean([self._right(difference) for difference in differences])))

    def _right(self, estimates: Ints) -> float:
        """Of estimates by area: right for the lone, minus the same answer where the cell is empty."""
        lone = np.zeros(AREAS, bool)
        lone[self._victims.lone_cells // len(DIRECTIONS)] = True
        empty = self._counts.reshape(AREAS, -1)[:, TRANSIT] == 0
        return float((estimates[lone] == 1).mean() - (estimates[empty] == 1).mean())

    # -- reconstruction ------------------------------------------------------------------------------------------------

    def totals(self) -> Attack:
        """Try what the totals of a table say of the cells it hides, by linear programming."""
        raw = self._recovered(Published.all_of(self._counts), *self._totals)
        ours = self._recovered(self._shown, *mechanisms_under_test.groups(self._partition))
        return Attack(
            "totals",
            "Reconstruction by linear programming",
            "A table with its totals: what is the least and the most that each hidden cell can be?",
            _LONE,
            0.0,
            (
                Figure(RAW, raw, "every cell is printed"),
                Figure(THRESHOLD, ours, "no true total is printed", 0.0, 0.0),
                Figure(DP, self._guessed(), "totals are sums of noisy cells", self.privacy.bound()),
            ),
            {"widths": self._widths(), "usual": self.usual_totals},
        )

    def _guessed(self) -> float:
        exact = self._bounded(self._traffic)
        drawn = [self._noise(exact).values.reshape(AREAS, -1)[:, TRANSIT] for _ in range(self.effort.draws)]
        return max(0.0, float(np.mean([self._right(draw) for draw in drawn])))

    @cached_property
    def usual_totals(self) -> float:
        """Return the same of thresholds on single cells beside true totals: what is usually done."""
        return self._recovered(mechanisms_under_test.cell_by_cell(self._traffic, self.privacy.k), *self._totals)

    @cached_property
    def usual_grains(self) -> float:
        """Return the same of two tables, each with a threshold of its own."""
        cells = mechanisms_under_test.cell_by_cell(self._traffic, self.privacy.k)
        return self._recovered(cells, mechanisms_under_test.areas(), mechanisms_under_test.calls_by_area(self._traffic))

    @property
    def _totals(self) -> tuple[Mask, Ints]:
        sums_of = np.vstack([mechanisms_under_test.areas(), mechanisms_under_test.directions()])
        return sums_of, sums_of @ self._counts

    def _recovered(self, table: Published, sums_of: Mask, totals: Ints) -> float:
        """Return the share of lone cells shown, or that sums leave one value; a cell in no sum can be anything."""
        cells = self._victims.lone_cells
        asked = cells[~table.shown[cells] & sums_of[:, cells].any(axis=0)]
        exact = intervals(table.values, table.shown, sums_of, totals, asked).exact.sum() if len(asked) else 0
        return float((table.shown[cells].sum() + exact) / len(cells))

    def _recovered_from_both(self) -> float:
        """Return what is recovered of the table for outside and the finer one inside, side by side."""
        inside = mechanisms_under_test.suppressed(self._traffic, INTERNAL_K)
        outside = mechanisms_under_test.suppressed(self._traffic, self.privacy.k, inside)
        published = [mechanisms_under_test.groups(inside), mechanisms_under_test.groups(outside)]
        sums_of, totals = (np.concatenate(pair) for pair in zip(*published, strict=True))
        return self._recovered(mechanisms_under_test.leaves(inside), sums_of, totals)

    def _widths(self) -> list[int]:
        """Return how far apart the least and the most of each hidden cell with calls are in our threshold table."""
        cells = np.flatnonzero(~self._shown.shown & (self._counts > 0) & (self._partition.group >= 0))
        bounds = intervals(self._shown.values, self._shown.shown, *mechanisms_under_test.groups(self._partition), cells)
        return [int(width) for width in bounds.high - bounds.low]

    # -- the same release again ----------------------------------------------------------------------------------------

    def repeats(self, ledger: Ledger = once) -> Attack:
        """Average many runs of one release, as a ledger prints them."""
        exact, last = self._averaged, REPEATS[-1]
        shares = averaging(ledger(lambda: self._noise(exact).values, last), exact, REPEATS)
        shown = float(self._shown.shown[self._counts > 0].mean())
        return Attack(
            "repeats",
            "Averaging of repeated runs",
            "One release, run again and again: does the mean of the runs come to the exact figure?",
            f"share of cells known exactly after {last:,} runs",
            self._by_chance,
            (
                Figure(RAW, averaging(once(lambda: exact, last), exact, REPEATS)[-1], "every figure is exact"),
                Figure(THRESHOLD, shown, "every figure that is shown is exact"),
                Figure(DP, shares[-1], f"the same bytes {last:,} times", self._by_chance),
            ),
            {"runs": list(REPEATS), "once": shares, "fresh": self.fresh_runs},
        )

    @cached_property
    def fresh_runs(self) -> list[float]:
        """Return the same where every run draws anew."""
        return averaging(self._noise(np.tile(self._averaged, (REPEATS[-1], 1))).values, self._averaged, REPEATS)

    @property
    def _averaged(self) -> Ints:
        return self._bounded(self._traffic)[:_AVERAGED]

    @property
    def _by_chance(self) -> float:
        """Return how often one draw of noise is 0."""
        return float(1 / (self.privacy.sigma * np.sqrt(2 * np.pi)))

    # -- membership ----------------------------------------------------------------------------------------------------

    def presence(self) -> Attack:
        """Guess whether a subscriber is in the data, knowing all other rows."""
        memberships = {name: self._presence(unit) for name, unit in self._targets.items()}
        worst = max(memberships, key=lambda name: memberships[name].advantage)
        alarms, hits = roc(memberships[worst].without, memberships[worst].with_)
        note = f"the worst of three planted: the {worst} one"
        return Attack(
            "presence",
            "Membership",
            "Who knows every row but one person's: can he tell whether that person is in?",
            _ADVANTAGE,
            0.0,
            (
                Figure(RAW, self._advantage_of_raw(), "the figures differ"),
                Figure(THRESHOLD, self._exposed_by_threshold(), "subscribers with a row in a figure that is shown"),
                Figure(DP, memberships[worst].advantage, note, self.privacy.bound()),
            ),
            {
                "false_alarms": alarms.tolist(),
                "hits": hits.tolist(),
                "victims": {name: outcome.advantage for name, outcome in memberships.items()},
            },
        )

    @property
    def _targets(self) -> dict[str, int]:
        victims = self._victims
        return {"lone": int(victims.lone[0]), "edge": victims.edge, "whale": victims.whale}

    def _presence(self, unit: int) -> Membership:
        return membership(self._noise, *self._worlds(unit), trials=self.effort.trials)

    def _worlds(self, unit: int) -> tuple[Ints, Ints]:
        return self._bounded(self._without(unit)), self._bounded(self._traffic)

    def _advantage_of_raw(self) -> float:
        """Return the least advantage that exact figures give against a planted subscriber."""
        memberships = [
            membership(
                broken_controls.exact, mechanisms_under_test.calls(self._without(unit)), self._counts, trials=100
            )
            for unit in self._targets.values()
        ]
        return min(outcome.advantage for outcome in memberships)

    def _exposed_by_threshold(self) -> float:
        """Return the share of subscribers without whom a figure that is shown would be another."""
        touched = self._traffic.unit[self._partition.group[self._traffic.day_cell] >= 0]
        return len(np.unique(touched)) / len(np.unique(self._traffic.unit))

    def _without(self, unit: int) -> Traffic:
        return self._traffic.where(self._traffic.unit != unit)

    def many_days(self) -> Attack:
        """Add up what is learned of a person who is in every day's release."""
        days = self.effort.days
        measured = [self._over(many) for many in days]
        most = [self.privacy.bound(releases=many) for many in days]
        above = np.array(measured) - np.array(most)
        worst = int(np.argmax(above)) if above.max() > MARGIN else len(days) - 1
        return Attack(
            "many_days",
            "Membership over many releases",
            "The same, for a person who is in every day's release: what do days add up to?",
            _ADVANTAGE,
            0.0,
            (
                Figure(RAW, self._advantage_of_raw(), "from the first day"),
                Figure(THRESHOLD, self._exposed_by_threshold(), "from the first day"),
                Figure(DP, measured[worst], f"after {days[worst]} daily releases", most[worst]),
            ),
            {"days": list(days), "measured": measured, "most": most},
        )

    def _over(self, days: int) -> float:
        """Return the advantage of the sum over days against a unit in one cell of each day (noise for one cell)."""
        noise = broken_controls.noisy(1, self.privacy.rho)

        def summed(exact: Ints) -> Published:
            return Published.all_of(noise(np.repeat(exact, days, axis=1)).values.sum(axis=1, keepdims=True))

        trials = min(self.effort.trials, self.effort.days_draws // days)
        return membership(summed, np.array([0]), np.array([1]), trials).advantage

    # -- controls ------------------------------------------------------------------------------------------------------

    def controls(self) -> Iterator[Control]:
        """Yield broken mechanisms: the suite is worth something when it catches each of them."""
        after = auc_bound(self.privacy.bound(releases=2))
        yield Control("noise drawn anew at every run", "repeats", self.fresh_runs[-1], self._by_chance)
        yield Control("the same noise for the correction", "correction", self._same_noise(), after)
        yield from self._membership_controls()
        share, chance = lone_key(*broken_controls.shown_at_threshold(_KEYS, rho=0.5, delta=0.002))
        yield Control("a threshold that lets its own value through", "lone_key", share, chance, 0.0)
        yield Control("thresholds beside true totals", "totals", self.usual_totals, 0.0, 0.0)
        yield Control("two tables, each with its own thresholds", "two_grains", self.usual_grains, 0.0, 0.0)

    def _membership_controls(self) -> Iterator[Control]:
        """Yield broken mechanisms that tell whether somebody is in."""
        rho, cells, victims = self.privacy.rho, self.privacy.cells, self._victims
        whale = (mechanisms_under_test.calls(self._without(victims.whale)), self._counts)
        edge = (
            mechanisms_under_test.subscribers(self._without(victims.edge)),
            mechanisms_under_test.subscribers(self._traffic),
        )
        tried: list[tuple[str, Release, tuple[Ints, Ints]]] = [
            ("no bound on what one person adds", self._noise, whale),
            ("noise for one cell of many", broken_controls.noise_for_one_cell(rho), self._worlds(victims.whale)),
            ("a gate on the exact count", broken_controls.gated(cells, rho, self.privacy.k), edge),
            (
                "cells only where somebody was",
                broken_controls.keyed_by_data(cells, rho),
                self._worlds(int(victims.lone[0])),
            ),
        ]
        for what, release, worlds in tried:
            measured = membership(release, *worlds, trials=self.effort.trials // 2)
            yield Control(what, "presence", measured.advantage, self.privacy.bound())

    def _same_noise(self) -> float:
        """Attack a correction that keeps the noise of the release before it: the difference is exact."""
        before, after = self._bounded(self._on_time), self._bounded(self._traffic)
        first = self._noise(before)
        second = Published.all_of(first.values - before + after)
        return differencing(first, second, *self._late_cells()).auc

    # -- tables --------------------------------------------------------------------------------------------------------

    @property
    def _noise(self) -> Release:
        return self.privacy.noise

    def _bounded(self, traffic: Traffic) -> Ints:
        return mechanisms_under_test.bounded(traffic, self.privacy.cells)

    @cached_property
    def _counts(self) -> Ints:
        return mechanisms_under_test.calls(self._traffic)

    @cached_property
    def _partition(self) -> Partition:
        return mechanisms_under_test.suppressed(self._traffic, self.privacy.k)

    @property
    def _shown(self) -> Published:
        return mechanisms_under_test.leaves(self._partition)


def _late_note(kind: str, exposed: float) -> str:
    never = "; so a threshold table is never corrected" if kind == THRESHOLD else ""
    return f"{exposed:.0%} of late persons exposed for certain{never}"


def _differences(cells: Ints, areas: Ints) -> Ints:
    """Return by area its figure minus those of its cells that are no transit."""
    siblings = cells.reshape(AREAS, -1)
    return np.asarray(areas - siblings.sum(axis=1) + siblings[:, TRANSIT])
