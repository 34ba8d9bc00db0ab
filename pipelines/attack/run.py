"""attack: what an attacker gets from raw figures, from threshold tables and from differentially private ones.

Runs on made-up traffic whose victims are known, so it opens no key; with a day it also measures, by a service's
roots, what the workspace's own views of that day still reveal (`attack_views`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa

from callward.errors import UsageProblem
from callward.release.attack import population, suite
from callward.release.attack.mechanisms_under_test import Privacy
from callward.release.attack.suite import RAW, AttackSuite, Effort
from callward.release.attack.two_views import Views, linkages
from callward.release.attack.unicity import unicities
from callward.settings import Settings
from pipelines.attack.views import attack_views
from schemas.cdr import TIMESTAMP

FORMAT_VERSION: Final = 1
_TRIALS: Final = 2000  # persons tried for unicity
_REAL: Final = 0.5  # of what there is beyond chance, an attack must get so much from raw figures
Progress = Callable[[str], None]
Document = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attacked:
    """What came of every attack: documents with the fields of `suite.Attack`, `Control`, `Unicity` and `Linked`.

    Attributes:
        asked: calls that were asked for.
        views: the same of the workspace's own views, where a day was asked for.
        broken: what is not as promised, in sentences.
    """

    format_version: int
    seed: int
    asked: int
    traffic: Mapping[str, int]
    privacy: Mapping[str, float]
    attacks: Sequence[Document]
    controls: Sequence[Document]
    unicity: Sequence[Document]
    linkage: Sequence[Document]
    views: Document | None
    broken: Sequence[str]


def attack(
    *,
    seed: int = 1,
    calls: int = 300_000,
    privacy: Privacy | None = None,
    effort: Effort | None = None,
    settings: Settings | None = None,
    tenant: str = "default",
    day: date | None = None,
    progress: Progress = lambda line: None,
) -> Attacked:
    """Run every attack; with `settings` and `day` also on the views of that call date.

    Raises UsageProblem for too few calls, and for a day of which a view has no rows.
    """
    if calls < population.FEWEST_CALLS:
        raise UsageProblem(f"an attack needs {population.FEWEST_CALLS:,} calls or more, to hide its victims among")
    privacy = privacy or Privacy()
    progress(f"making {calls:,} calls, with victims")
    scene = population.scene(seed, calls, privacy.k)
    attack_suite = AttackSuite(scene, privacy, effort)
    attacks = [_attack(run, progress) for run in attack_suite.attacks()]
    progress("mechanisms that are known to be broken")
    controls = [_control(control) for control in attack_suite.controls()]
    progress("unicity and linkage")
    rng = np.random.default_rng(seed)
    return Attacked(
        format_version=FORMAT_VERSION,
        seed=seed,
        asked=calls,
        traffic=_traffic(scene.traffic),
        privacy=_privacy(privacy),
        attacks=attacks,
        controls=controls,
        unicity=[unicity._asdict() for unicity in unicities(scene.traffic, _TRIALS, rng)],
        linkage=[linked._asdict() for linked in linkages(made_up_views(scene.traffic))],
        views=attack_views(settings, tenant, day, _TRIALS, rng) if settings and day else None,
        broken=broken(attacks, controls),
    )


def broken(attacks: Sequence[Document], controls: Sequence[Document]) -> list[str]:
    """Return what is not as promised, in sentences; none when every bound holds and the suite catches what it must."""
    sentences = [
        f"{run['title']}: {figure['mechanism']} gives {figure['value']:.3f}, and {figure['most']:.3f} is promised"
        for run in attacks
        for figure in run["figures"]
        if not figure["holds"]
    ]
    sentences += [f"{run['title']}: raw figures give nothing, so it proves nothing" for run in attacks if _idle(run)]
    return sentences + [f"not caught: {c['mechanism']} ({c['attack']})" for c in controls if not c["caught"]]


def _idle(run: Document) -> bool:
    """Return whether an attack gets little from raw figures: then it is none."""
    (raw,) = (figure["value"] for figure in run["figures"] if figure["mechanism"] == RAW)
    return bool(raw - run["chance"] < _REAL * (1 - run["chance"]))


def _attack(run: suite.Attack, progress: Progress) -> Document:
    progress(run.title)
    figures = [{**figure._asdict(), "holds": figure.holds} for figure in run.figures]
    return {**dataclasses.asdict(run), "figures": figures}


def _control(control: suite.Control) -> Document:
    return {**control._asdict(), "caught": control.caught}


def _traffic(traffic: population.Traffic) -> dict[str, int]:
    return {
        "calls": len(traffic),
        "answered": int((traffic.talk_ms > 0).sum()),
        "subscribers": len(np.unique(traffic.unit)),
        "accounts": len(np.unique(traffic.account)),
        "cells": population.DAY_CELLS,
    }


def _privacy(privacy: Privacy) -> dict[str, float]:
    return {**dataclasses.asdict(privacy), "rho": privacy.rho, "sigma": privacy.sigma, "most": privacy.bound()}


# -- both views of the made-up traffic ---------------------------------------------------------------------------------


def made_up_views(traffic: population.Traffic) -> Views:
    """Return the answered calls as the two views would hold them (transforms.split)."""
    calls = traffic.where(traffic.talk_ms > 0)
    here = np.arange(len(calls))
    source = pa.array(calls.source.astype("U2"))
    trunk = pa.array(np.char.add("trunk-", calls.trunk.astype("U2")))
    carriers = {
        f"trunk-{n}": f"carrier-{n // population.TRUNKS_EACH}" for n in range(int(calls.trunk.max(initial=0)) + 1)
    }
    carrier = pa.array(np.char.add("carrier-", (calls.trunk // population.TRUNKS_EACH).astype("U2")))
    answer = calls.start_ms + calls.delay_ms + calls.ring_ms
    none = pa.nulls(len(calls), pa.string())
    billing = pa.table(
        {
            "source": source,
            "account": pa.array(calls.account.astype("U12")),
            "carrier_in": carrier,
            "carrier_out": none,
            "start": pa.array(calls.start_ms).view(TIMESTAMP),
            "answer": pa.array(answer).view(TIMESTAMP),
        }
    )
    assurance = pa.table(
        {
            "source": source,
            "trunk_in": trunk,
            "trunk_out": none,
            "start": pa.array(calls.start_ms // 3_600_000 * 3_600_000).view(TIMESTAMP),
            "span_h": pa.repeat(1, len(calls)),
            "disposition": pa.repeat("answered", len(calls)),
        }
    )
    return Views.of(billing, assurance, carriers, (here, here))
