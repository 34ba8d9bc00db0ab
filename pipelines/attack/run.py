"""attack: what an attacker gets from raw figures, from threshold tables and from differentially private ones.

Runs on made-up traffic whose victims are known, so it opens no key; with a day it also measures, by a service's
roots, what the workspace's own views of that day still tell (`attack_views`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from callward.errors import UsageProblem
from callward.release.attack import population, suite
from callward.release.attack.attacks import ELIGIBLE_CALLS
from callward.release.attack.linkage import Views, linkages
from callward.release.attack.mechanisms_under_test import Privacy
from callward.release.attack.suite import DP, RAW, THRESHOLD, AttackSuite, Effort
from callward.release.attack.unicity import POINTS, unicities
from callward.settings import Settings
from callward.storage.durable import create
from pipelines import terminal
from pipelines.attack.views import attack_views
from pipelines.reports import attack_page
from schemas.cdr import TIMESTAMP
from transforms.split import talk_steps

FORMAT_VERSION: Final = 1
KINDS: Final = (RAW, THRESHOLD, DP)
_TRIALS: Final = 2000  # persons tried for unicity
_REAL: Final = 0.5  # of what there is beyond chance, an attack must get so much from raw figures
Progress = Callable[[str], None]
Document = dict[str, Any]


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
) -> Document:
    """Run every attack; with `settings` and `day` also on the views of that call date.

    Raises UsageProblem for too few calls, and for a day of which a view has no rows.
    """
    if calls < population.FEWEST_CALLS:
        raise UsageProblem(f"an attack needs {population.FEWEST_CALLS:,} calls or more, to hide its victims among")
    privacy = privacy or Privacy()
    progress(f"making {calls:,} calls, with victims")
    scene = population.scene(seed, calls, privacy.k)
    besieged = AttackSuite(scene, privacy, effort)
    found = [_told(one, progress) for one in besieged.attacks()]
    progress("ways to publish that are known to be broken")
    controls = [_control(one) for one in besieged.controls()]
    progress("unicity and linkage")
    rng = np.random.default_rng(seed)
    document = {
        "format_version": FORMAT_VERSION,
        "seed": seed,
        "asked": calls,
        "traffic": _traffic(scene.traffic),
        "privacy": _privacy(privacy),
        "attacks": found,
        "controls": controls,
        "unicity": [one._asdict() for one in unicities(scene.traffic, _TRIALS, rng)],
        "linkage": [one._asdict() for one in linkages(made_up_views(scene.traffic))],
        "views": attack_views(settings, tenant, day, _TRIALS, rng) if settings and day else None,
    }
    return {**document, "broken": broken(document)}


def broken(document: Mapping[str, Any]) -> list[str]:
    """What is not as promised, in sentences; empty when every bound holds and the suite catches what it must."""
    found = [
        f"{one['title']}: {figure['subject']} gives {figure['value']:.3f}, and {figure['most']:.3f} is promised"
        for one in document["attacks"]
        for figure in one["figures"]
        if not figure["holds"]
    ]
    found += [
        f"{one['title']}: raw figures give nothing, so it proves nothing" for one in document["attacks"] if _idle(one)
    ]
    found += [f"not caught: {one['mechanism']} ({one['attack']})" for one in document["controls"] if not one["caught"]]
    return found


def _idle(one: Mapping[str, Any]) -> bool:
    """Whether an attack gets little from raw figures: then it is none."""
    (raw,) = (figure["value"] for figure in one["figures"] if figure["subject"] == RAW)
    return bool(raw - one["chance"] < _REAL * (1 - one["chance"]))


def _told(one: suite.Attack, progress: Progress) -> Document:
    progress(one.title)
    told = dataclasses.asdict(one)
    figures = [{**figure._asdict(), "holds": figure.holds} for figure in one.figures]
    return {**told, "figures": figures}


def _control(one: suite.Control) -> Document:
    return {**one._asdict(), "caught": one.caught}


def _traffic(traffic: population.Traffic) -> dict[str, int]:
    return {
        "calls": len(traffic),
        "answered": int((traffic.talk_ms > 0).sum()),
        "subscribers": len(np.unique(traffic.unit)),
        "accounts": len(np.unique(traffic.account)),
        "cells": population.DAY_CELLS,
    }


def _privacy(privacy: Privacy) -> dict[str, float]:
    told = dataclasses.asdict(privacy)
    return {**told, "rho": privacy.rho, "sigma": privacy.sigma, "most": privacy.bound()}


# -- both views of the made-up traffic ---------------------------------------------------------------------------------


def made_up_views(traffic: population.Traffic) -> Views:
    """The answered calls as the two views would hold them (transforms.split)."""
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
            "talk_ms": calls.talk_ms,
        }
    )
    assurance = pa.table(
        {
            "source": source,
            "account_token": none,
            "trunk_in": trunk,
            "trunk_out": none,
            "start": pa.array(calls.start_ms // 60_000 * 60_000).view(TIMESTAMP),
            "ring_s": calls.ring_ms // 1000,
            "talk_s": talk_steps(pa.chunked_array([calls.talk_ms])),
            "pdd_ms": calls.delay_ms,
            "disposition": pa.repeat("answered", len(calls)),
        }
    )
    return Views.of(billing, assurance, carriers, (here, here))


# -- what a person sees ------------------------------------------------------------------------------------------------


def show(document: Document) -> None:
    """The figures as tables."""
    said = document["traffic"]
    terminal.show(
        f"{said['calls']:,} made-up calls of {said['subscribers']:,} subscribers (seed {document['seed']}); "
        f"epsilon {document['privacy']['epsilon']:g}, delta {document['privacy']['delta']:g} a release"
    )
    rows = [[one["title"], *map(_share, one["figures"]), _most(one)] for one in document["attacks"]]
    terminal.show(terminal.table("What an attacker gets", ["attack", *KINDS, "dp at most"], rows), "")
    rows = [[c["mechanism"], f"{c['value']:.3f}", f"{c['most']:.3f}", _verdict(c)] for c in document["controls"]]
    terminal.show(terminal.table("Broken on purpose", ["mechanism", "gives", "at most", ""], rows), "")
    _show_tables("made-up traffic", document)
    if document["views"]:
        _show_tables(f"views of {document['views']['tenant']}, {document['views']['day']}", document["views"])
    terminal.show(f"a person counts for unicity who makes at most {ELIGIBLE_CALLS} calls a day")


def _verdict(control: Mapping[str, Any]) -> str:
    return "caught" if control["caught"] else "MISSED"


def _show_tables(whose: str, found: Mapping[str, Any]) -> None:
    alone = [[one["what"], one["person"], *map(_alone, one["shares"])] for one in found["unicity"]]
    head = ["rows known", "of a", *(f"{many} points" if many > 1 else "1 point" for many in POINTS)]
    terminal.show(terminal.table(f"Alone with so many points: {whose}", head, alone), "")
    linked = [
        [one["compared"], f"{one['linked']:.3f}", f"{one['candidates']:.1f}", f"{one['accounts']:.3f}"]
        for one in found["linkage"]
    ]
    head = ["compared", "rows linked", "rows that fit", "accounts named"]
    terminal.show(terminal.table(f"Billing rows found in assurance: {whose}", head, linked), "")


def _alone(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _share(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f}"


def _most(one: Mapping[str, Any]) -> str:
    (most,) = [figure["most"] for figure in one["figures"] if figure["subject"] == DP]
    return f"{most:.3f}"


def write_page(document: Document, to: Path) -> None:
    """Write the page to a new file; raises UsageProblem where one is there."""
    try:
        create(to, attack_page.page(document).encode(), 0o666)
    except FileExistsError:
        raise UsageProblem(f"{to} is there already, and is not overwritten") from None
