"""Made-up traffic for the attack suite, with victims planted in it: who they are and what they did is known.

Its skew is that of real traffic: areas by Zipf's law, most calls to the caller's own area, hours of a working day,
few subscribers with most calls, and call centres. There is no telephone number in it: parties are positions.
"""

from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from callward.release.traffic import CALLS_BY_HOUR, Ints, picked

Mask = npt.NDArray[np.bool_]

FEWEST_CALLS: Final = 20_000
AREAS: Final = 350  # area codes, the busiest first
REGIONS: Final = 9
HOURS: Final = 24
DIRECTIONS: Final = ("inbound", "outbound", "internal", "transit")
OUTBOUND: Final = DIRECTIONS.index("outbound")
TRANSIT: Final = DIRECTIONS.index("transit")  # carried by nobody but those who are planted there
DAY_MS: Final = 86_400_000

_CALLS_EACH: Final = 11  # calls per subscriber and day, on average
_SUBSCRIBERS_EACH: Final = 2.7  # per account
_CALL_CENTRES: Final = 50
_CENTRES_SHARE: Final = 0.10  # of all calls
_AT_HOME: Final = 0.6  # calls that stay in the caller's own area
_LATE: Final = 0.005  # rows that come after the cut-off
_ANSWERED: Final = 0.6
_SOURCES: Final = (0.35, 0.20, 0.12, 0.15, 0.10, 0.08)
_TRUNKS: Final = 12
TRUNKS_EACH: Final = 3  # of one carrier


@dataclass(frozen=True, eq=False)
class Traffic:
    """Calls of one day; every column has shape [n].

    Attributes:
        unit: the subscriber (from 1); `account` who pays for it (from 1).
        area: the other party's area (from 0); `direction` a position in DIRECTIONS.
        start_ms: from midnight; `delay_ms` until it rings, `ring_ms` until the answer, `talk_ms` (0: not answered).
        source: which switch; `trunk` the carrier's side (TRUNKS_EACH to a carrier).
        late: came after the cut-off of the first release.
    """

    unit: Ints
    account: Ints
    area: Ints
    direction: Ints
    start_ms: Ints
    delay_ms: Ints
    ring_ms: Ints
    talk_ms: Ints
    source: Ints
    trunk: Ints
    late: Mask

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def hour(self) -> Ints:
        return self.start_ms // 3_600_000

    @property
    def region(self) -> Ints:
        """Areas lie in regions by turns, so that every region has busy and quiet ones."""
        return self.area % REGIONS

    @property
    def day_cell(self) -> Ints:
        """Return the position in the grid area × direction."""
        return self.area * len(DIRECTIONS) + self.direction

    def where(self, rows: Mask) -> "Traffic":
        return Traffic(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def with_calls(self, more: "Traffic") -> "Traffic":
        names = [field.name for field in fields(self)]
        return Traffic(**{name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in names})


DAY_CELLS: Final = AREAS * len(DIRECTIONS)


class Population(NamedTuple):
    """Who was planted (subscribers), and the cell (area × direction) that gives each away.

    lone: the one subscriber in a cell whose sibling cells are busy: what a total minus its siblings recovers.
    late: subscribers whose one call to a cell comes after the cut-off: what a correction minus the release recovers.
    edge: a subscriber who lifts a cell from `k` - 1 subscribers to `k`: what a gate on the exact count gives away.
    whale: one subscriber who calls every area, and some all day: what only bounded contributions can hide.
    """

    lone: Ints
    lone_cells: Ints
    late: Ints
    late_cells: Ints
    edge: int
    edge_cell: int
    whale: int


class Scene(NamedTuple):
    """Traffic and who hides in it."""

    traffic: Traffic
    victims: Population


def scene(seed: int, calls: int, k: int = 15) -> Scene:
    """Draw about `calls` calls of one day, and victims among them; raises ValueError for too few calls.

    Args:
        calls: at least FEWEST_CALLS: fewer leave no room for victims.
        k: the threshold that the victim at the edge stands on.
    """
    if calls < FEWEST_CALLS:
        raise ValueError("too few calls to hide victims among")
    rng = np.random.default_rng(seed)
    crowd = _crowd(rng, calls)
    return _plant(rng, crowd, k)


# -- the crowd ---------------------------------------------------------------------------------------------------------


def _crowd(rng: np.random.Generator, calls: int) -> Traffic:
    subscribers = max(calls // _CALLS_EACH, 1000)
    unit = _callers(rng, calls, subscribers)
    home = _zipf(rng, subscribers)[unit]
    area = np.where(rng.random(calls) < _AT_HOME, home, _zipf(rng, calls))
    course = _course(rng, calls)
    return Traffic(
        unit=unit + 1,
        account=(unit / _SUBSCRIBERS_EACH).astype(np.int64) + 1,
        area=area,
        direction=np.searchsorted([0.40, 0.85], rng.random(calls)),
        late=rng.random(calls) < _LATE,
        **course,
    )


def _callers(rng: np.random.Generator, calls: int, subscribers: int) -> Ints:
    """Draw who calls: subscribers by a lognormal law; the first ones are call centres."""
    weight = rng.lognormal(0, 1.1, subscribers)
    weight[:_CALL_CENTRES] = 0
    weight *= (1 - _CENTRES_SHARE) / weight.sum()
    weight[:_CALL_CENTRES] = _CENTRES_SHARE / _CALL_CENTRES
    return picked(rng, calls, weight)


def _zipf(rng: np.random.Generator, count: int) -> Ints:
    return picked(rng, count, 1 / (np.arange(AREAS) + 3))


def _course(rng: np.random.Generator, count: int) -> dict[str, Ints]:
    """Draw when calls start and how they go on: a delay, a ringing time and a talk time, all in ms."""
    hour = picked(rng, count, np.array(CALLS_BY_HOUR, float))
    answered = rng.random(count) < _ANSWERED
    talk = np.clip(rng.lognormal(11.2, 1.2, count), 1, 4 * 3_600_000).astype(np.int64)
    return {
        "start_ms": hour * 3_600_000 + rng.integers(0, 3_600_000, count),
        "delay_ms": np.clip(rng.lognormal(7.4, 0.5, count), 150, 15_000).astype(np.int64),
        "ring_ms": np.clip(rng.lognormal(9.1, 0.7, count), 300, 60_000).astype(np.int64),
        "talk_ms": np.where(answered, talk, 0),
        "source": picked(rng, count, np.array(_SOURCES)),
        "trunk": picked(rng, count, 1 / (np.arange(_TRUNKS) + 1)),
    }


# -- victims -----------------------------------------------------------------------------------------------------------

_LONE: Final = 40
_LATE_VICTIMS: Final = 60
_WHALE_CALLS: Final = 2000


def _plant(rng: np.random.Generator, crowd: Traffic, k: int) -> Scene:
    first = int(crowd.unit.max()) + 1
    lone_areas = np.arange(_LONE)  # the busiest: their other directions are published
    lone = first + np.arange(_LONE)
    late_cells = _quiet_when_late(crowd)[:_LATE_VICTIMS]
    late = lone[-1] + 1 + np.arange(len(late_cells))
    edge_area = int(lone_areas[-1]) + 1
    beside = late[-1] + 1 + np.arange(k)
    whale = int(beside[-1]) + 1
    calls = [
        _calls(rng, lone, lone_areas, np.full(_LONE, TRANSIT)),
        replace(_calls(rng, late, *divmod(late_cells, len(DIRECTIONS))), late=np.ones(len(late), bool)),
        _calls(rng, beside, np.full(k, edge_area), np.full(k, TRANSIT)),
        _calls(rng, np.full(AREAS * 3, whale), np.tile(np.arange(AREAS), 3), np.repeat(np.arange(3), AREAS)),
        _calls(rng, np.full(_WHALE_CALLS, whale), np.arange(_WHALE_CALLS) % 20, np.full(_WHALE_CALLS, OUTBOUND)),
    ]
    traffic = crowd
    for more in calls:
        traffic = traffic.with_calls(more)
    edge_cell = edge_area * len(DIRECTIONS) + TRANSIT
    lone_cells = lone_areas * len(DIRECTIONS) + TRANSIT
    return Scene(traffic, Population(lone, lone_cells, late, late_cells, int(beside[-1]), edge_cell, whale))


def _quiet_when_late(crowd: Traffic) -> Ints:
    """Return the cells that have traffic but nothing late, the busiest first: one late call there is a lonely one."""
    calls = np.bincount(crowd.day_cell, minlength=DAY_CELLS)
    late = np.bincount(crowd.day_cell[crowd.late], minlength=DAY_CELLS)
    cells = np.argsort(-np.where(late == 0, calls, 0))
    return np.asarray(cells[: np.count_nonzero((late == 0) & (calls > 0))])


def _calls(rng: np.random.Generator, unit: Ints, area: Ints, direction: Ints) -> Traffic:
    """Return one call for each row, of a subscriber with an account of its own."""
    none = np.zeros(len(unit), bool)
    return Traffic(unit=unit, account=unit, area=area, direction=direction, late=none, **_course(rng, len(unit)))
