"""The attack suite's figures as one page (pages/templates/attack.html)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from callward.pages.page import render
from callward.release.attack.attacks import ELIGIBLE_CALLS, MARGIN
from callward.release.attack.linkage import ACCOUNTS_BOUND, ROWS_BOUND
from callward.release.attack.suite import DP, RAW, THRESHOLD
from callward.release.attack.unicity import POINTS
from pipelines.reports import plots
from pipelines.reports.plots import SHARES, Line, Scale, share

KINDS: Final = (RAW, THRESHOLD, DP)
COLOURS: Final = {RAW: "#8a1c1c", THRESHOLD: "#b06a00", DP: "#14532d"}
NAMES: Final = {RAW: "raw", THRESHOLD: "threshold", DP: "differentially private"}
_BOUND: Final = "#444444"

Document = Mapping[str, Any]


def page(document: Document) -> str:
    """Return the HTML page of a document as `pipelines.attack.run.attack` returns it."""
    typed = _typed(document)
    return render(
        "attack.html",
        title="What an attacker gets",
        heading="What an attacker gets",
        printed_id=typed,
        typed=typed,
        document=document,
        delta=_power(document["privacy"]["delta"]),
        summary=[_summary(attack) for attack in document["attacks"]],
        attacks=[_attack(attack) for attack in _in_order(document["attacks"])],
        titles={attack["name"]: attack["title"] for attack in document["attacks"]},
        linkage_plot=_linkage(document["linkage"]),
        own_linkage_plot=_linkage(document["views"]["linkage"]) if document["views"] else None,
        verdict=sentence,
        undivided=undivided,
        points=POINTS,
        margin=MARGIN,
        eligible_calls=ELIGIBLE_CALLS,
        share=share,
        small=small,
        shade=_shade,
    )


def _typed(document: Document) -> str:
    """Return the command that makes these figures."""
    day = f" --day {document['views']['day']}" if document["views"] else ""
    return f"callward release attack --calls {document['asked']} --seed {document['seed']}{day}"


def _power(value: float) -> tuple[str, str]:
    """Return factor and exponent of 10 as they are written on paper: 1e-09 is ("", "−9")."""
    digits, _, power = f"{value:.0e}".partition("e")
    return "" if digits == "1" else f"{digits} × ", str(int(power)).replace("-", "−")


def _by_mechanism(attack: Document) -> dict[str, Document]:
    return {figure["mechanism"]: figure for figure in attack["figures"]}


def _summary(attack: Document) -> dict[str, Any]:
    figures = _by_mechanism(attack)
    return {
        "attack": attack,
        "cells": [_shade(figures[kind]["value"], attack["chance"]) for kind in KINDS],
        "most": figures[DP]["most"],
    }


def _shade(value: float | None, chance: float = 0.0) -> dict[str, str]:
    """Return a share as a cell on red, the deeper the more an attacker has beyond guessing."""
    depth = max(0.0, min(1.0, ((value or 0.0) - chance) / (1 - chance)))
    ink = "#fff" if depth > 0.55 else "#1a1a1a"
    return {"share": share(value), "style": f"background:rgba(138,28,28,{depth:.2f});color:{ink}"}


def small(value: float) -> str:
    """Return a share, finer where it is below one in a hundred."""
    return f"{100 * value:.2f} %" if 0 < value < 0.01 else share(value)


def sentence(verdict: Document) -> str:
    """Return what billing and another role link together, beside what they may."""
    rows, accounts = (f"{share(verdict[key])} of {key}" for key in ("rows", "accounts"))
    most = f"at most {share(ROWS_BOUND)} of rows and {share(ACCOUNTS_BOUND)} of accounts"
    within = "within the bound" if verdict["holds"] else "above the bound"
    return f"billing and {verdict['role']} together link {rows} and {accounts}: {within}, {most}"


def undivided(before: Document) -> str:
    """Return what assurance would link if it were one view, as it was before it had parts."""
    rows, accounts = f"{share(before['linked'])} of rows", f"{share(before['accounts'])} of accounts"
    return f"as one view ({before['compared']}), which it was before, assurance would link {rows} and {accounts}"


def _in_order(attacks: Sequence[Document]) -> list[Document]:
    by_name = {attack["name"]: attack for attack in attacks}
    return [by_name[name] for name in _PLOTS if name in by_name]


def _attack(attack: Document) -> dict[str, Any]:
    values = "; ".join(f"{NAMES[f['mechanism']]}: {share(f['value'])} ({f['note']})" for f in attack["figures"])
    note = _hidden_width(attack) if attack["name"] == "totals" else ""
    measure = str(attack["measure"]).capitalize()
    return {"attack": attack, "plot": _PLOTS[attack["name"]](attack), "note": note, "values": f"{measure}. {values}."}


def _linkage(comparisons: Sequence[Document]) -> Markup:
    rows = [(c["compared"], c["linked"], COLOURS[RAW], share(c["linked"])) for c in comparisons]
    return plots.bars("Linkage", rows)


# -- a plot for each attack --------------------------------------------------------------------------------------------


def _correction(attack: Document) -> Markup:
    panels = [(NAMES[kind], attack["plot"][kind]["lonely"], attack["plot"][kind]["quiet"]) for kind in KINDS]
    return plots.histograms("Differences of two versions", panels, ("cells with one late person", "cells with none"))


def _recovered(attack: Document, *more: tuple[str, float, str]) -> Markup:
    figures = _by_mechanism(attack)
    values = {kind: figures[kind]["value"] for kind in KINDS}
    rows = [(NAMES[kind], value, COLOURS[kind], share(value)) for kind, value in values.items()]
    rows[1:1] = [(name, value, colour, share(value)) for name, value, colour in more]
    marks = [None] * (len(rows) - 1) + [figures[DP]["most"]]
    return plots.bars(attack["title"], rows, marks)


def _two_grains(attack: Document) -> Markup:
    return _recovered(attack, ("a threshold on each table", attack["plot"]["usual"], "#d9a441"))


def _totals(attack: Document) -> Markup:
    return _recovered(attack, ("thresholds beside true totals", attack["plot"]["usual"], "#d9a441"))


def _hidden_width(attack: Document) -> str:
    """Return how far apart, in calls, the least and the most of a hidden cell lie."""
    widths = sorted(attack["plot"]["widths"])
    if not widths:
        return "No cell is hidden in the threshold table."
    apart = f"{widths[len(widths) // 2]:,} calls"
    return f"In the threshold table the least and the most of a hidden cell lie {apart} apart (median)."


def _repeats(attack: Document) -> Markup:
    plot = attack["plot"]
    runs = Scale(1, plot["runs"][-1], (1, 10, 100, 1000), log=True, write=lambda value: f"{value:,.0f}")
    drawn = [
        Line("fresh noise each run", COLOURS[RAW], list(zip(plot["runs"], plot["fresh"], strict=True)), dots=True),
        Line("written once", COLOURS[DP], list(zip(plot["runs"], plot["once"], strict=True)), dots=True),
    ]
    return plots.lines("Averaging", "runs of the same release", "cells known exactly", runs, SHARES, drawn)


def _presence(attack: Document) -> Markup:
    plot = attack["plot"]
    most = _by_mechanism(attack)[DP]["most"]
    curve = list(zip(plot["false_alarms"], plot["hits"], strict=True))
    drawn = [
        Line("raw", COLOURS[RAW], [(0, 0), (0, 1), (1, 1)]),
        Line("the bound", _BOUND, [(0, most), (1 - most, 1), (1, 1)], dashed=True),
        Line("private", COLOURS[DP], curve),
        Line("guessing", "#999999", [(0, 0), (1, 1)], dashed=True),
    ]
    return plots.lines("Membership", "false alarms", "hits", SHARES, SHARES, drawn, 300)


def _many_days(attack: Document) -> Markup:
    plot = attack["plot"]
    last = plot["days"][-1]
    days = Scale(1, max(last, 2), plot["days"], log=True)
    drawn = [
        Line("the bound", _BOUND, list(zip(plot["days"], plot["most"], strict=True)), dashed=True),
        Line("measured", COLOURS[DP], list(zip(plot["days"], plot["measured"], strict=True)), dots=True),
    ]
    across = "daily releases that a person is in"
    return plots.lines("Membership over many releases", across, "advantage", days, SHARES, drawn)


_PLOTS: Final = {
    "correction": _correction,
    "two_grains": _two_grains,
    "totals": _totals,
    "repeats": _repeats,
    "presence": _presence,
    "many_days": _many_days,
}
