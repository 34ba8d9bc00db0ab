"""Who stands alone: unicity of both views, and of rows as coarse as the cells of releases."""

import math
from typing import Final, NamedTuple

import numpy as np

from callward.release.attack.attacks import Ints, unicity
from callward.release.attack.population import AREAS, REGIONS, Traffic

POINTS: Final = (1, 2, 3, 4)  # calls that the attacker knows of a person


class Unicity(NamedTuple):
    """Rows of a view, or cut to a grain: the share of persons who are alone with each number of POINTS.

    None where nobody has so many.
    """

    what: str
    person: str
    shares: list[float | None]


def alone(what: str, person: str, who: Ints, point: Ints, trials: int, rng: np.random.Generator) -> Unicity:
    """Return the unicity of rows whose person is `who` and whose time and place is `point`, shape [n] each."""
    shares = [unicity(who, point, many, rng, trials) for many in POINTS]
    return Unicity(what, person, [None if math.isnan(share) else share for share in shares])


def unicities(traffic: Traffic, trials: int, rng: np.random.Generator) -> list[Unicity]:
    """Of traffic as the views would hold it, then as coarse as releases are, finest first."""
    hour = traffic.hour
    lines = {
        "hour × area": hour * AREAS + traffic.area,
        "4 hours × area": hour // 4 * AREAS + traffic.area,
        "day × area × direction": traffic.day_cell,
        "hour × region": hour * REGIONS + traffic.region,
        "4 hours × region": hour // 4 * REGIONS + traffic.region,
    }
    failed = traffic.where(traffic.talk_ms == 0)
    in_minute = failed.start_ms // 60_000 * AREAS + failed.area
    return [
        alone("billing view: millisecond", "subscriber", traffic.unit, traffic.start_ms, trials, rng),
        alone("failed attempts: minute and area", "account", failed.account, in_minute, trials, rng),
        *(alone(what, "subscriber", traffic.unit, point, trials, rng) for what, point in lines.items()),
    ]
