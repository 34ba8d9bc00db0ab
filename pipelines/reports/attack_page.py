"""The attack suite's figures as one page: no script, nothing loaded from elsewhere, every value escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from callward.release.attack.attacks import ELIGIBLE_CALLS, MARGIN
from callward.release.attack.suite import DP, RAW, THRESHOLD
from callward.release.attack.unicity import POINTS
from pipelines.reports import plots
from pipelines.reports.plots import SHARES, Line, Scale, share

COLOURS: Final = {RAW: "#8a1c1c", THRESHOLD: "#b06a00", DP: "#14532d"}
NAMES: Final = {RAW: "raw", THRESHOLD: "threshold", DP: "differentially private"}
_BOUND: Final = "#444444"
_STYLE: Final = """
@page { size: A4; margin: 16mm 15mm; }
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { max-width: 190mm; margin: 12mm auto; padding: 0 6mm; background: #fff; color: #1a1a1a;
       font: 11pt/1.5 "Source Serif 4", "Iowan Old Style", Palatino, "Palatino Linotype", Georgia, serif;
       font-variant-numeric: tabular-nums lining-nums; }
header { border-bottom: 2.5pt solid #1a1a1a; padding-bottom: 4mm; margin-bottom: 5mm; }
h1 { font-size: 23pt; font-weight: 600; line-height: 1.15; margin: 0 0 1mm; letter-spacing: -.01em; }
h2 { font-size: 14pt; font-weight: 600; margin: 9mm 0 1mm; break-after: avoid; }
p { margin: 1.5mm 0; max-width: 165mm; }
.lead, .note { color: #444; } .note { font-size: 9.5pt; }
.verdict { float: right; margin: 1mm 0 2mm 8mm; padding: 1.5mm 4mm; border: 1.5pt solid; font-weight: 600;
           letter-spacing: .1em; }
.holds { color: #14532d; } .breaks { color: #8a1c1c; }
table { width: 100%; border-collapse: collapse; margin: 2mm 0 3mm; font-size: 10pt; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: 1.2mm 3mm 1.2mm 0; border-bottom: .4pt solid #d4d4d4; }
thead th { font-weight: 600; border-bottom: .8pt solid #777; }
.n { text-align: right; white-space: nowrap; padding-left: 3mm; }
.cell { text-align: center; padding: 1.2mm 2.5mm; white-space: nowrap; }
section { break-inside: avoid; }
thead .n { white-space: normal; }
sup { line-height: 0; }
tbody td:first-child { min-width: 58mm; }
svg { width: 100%; max-width: 165mm; height: auto; margin: 2mm 0; display: block; overflow: visible;
      font: 12px "Source Sans 3", "Helvetica Neue", Arial, sans-serif; }
ul.why { color: #8a1c1c; }
footer { margin-top: 9mm; padding-top: 3mm; border-top: .5pt solid #999; color: #555; font-size: 9pt; }
code { font-size: 9.5pt; }
@media print { body { margin: 0; padding: 0; max-width: none; } }
@media (max-width: 640px) { .verdict { float: none; display: inline-block; margin-left: 0; } table { font-size: 8.5pt; }
  th, td, .cell { padding-left: 0; padding-right: 1.2mm; } tbody td:first-child { min-width: 0; } }
"""

Document = Mapping[str, Any]


def page(document: Document) -> str:
    """The page of a document as `pipelines.attack.run.attack` gives it."""
    by_name = {one["name"]: one for one in document["attacks"]}
    parts = [
        _head(document),
        _summary(document),
        *(_attack(by_name[name], drawn(by_name[name])) for name, drawn in _DRAWN.items() if name in by_name),
        _unicity("Who stands alone: made-up traffic", _UNICITY, "Rows known", document["unicity"]),
        _linkage(document["linkage"], ": made-up traffic"),
        *_own_views(document["views"]),
        _controls(document["controls"], {one["name"]: one["title"] for one in document["attacks"]}),
        _footer(document),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>What an attacker gets</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


# -- head and summary --------------------------------------------------------------------------------------------------


def _head(document: Document) -> str:
    said, privacy = document["traffic"], document["privacy"]
    kind, word = ("breaks", "BROKEN") if document["broken"] else ("holds", "HOLDS")
    why = "".join(f"<li>{escape(sentence)}</li>" for sentence in document["broken"])
    return (
        f'<header><div class="verdict {kind}">{word}</div><h1>What an attacker gets</h1>'
        f'<p class="lead">{said["calls"]:,} made-up calls of one day by {said["subscribers"]:,} subscribers of '
        f"{said['accounts']:,} accounts, by area and direction ({said['cells']:,} cells). Victims were planted, so it "
        "is known how often the attacker is right. Published three times: raw; as a threshold table "
        f"(k = {privacy['k']}); and differentially private, ε = {privacy['epsilon']:g} and "
        f"δ = {_power(privacy['delta'])} a release "
        f"(ρ = {privacy['rho']:.4f}, {privacy['cells']} cells a subscriber, σ = {privacy['sigma']:.1f}).</p></header>"
        + (f'<ul class="why">{why}</ul>' if why else "")
    )


def _power(value: float) -> str:
    """1e-09 as it is written on paper."""
    digits, _, power = f"{value:.0e}".partition("e")
    return f"{'' if digits == '1' else digits + ' × '}10<sup>{int(power)}</sup>".replace("-", "−")


def _summary(document: Document) -> str:
    rows = []
    for one in document["attacks"]:
        found = {figure["subject"]: figure for figure in one["figures"]}
        cells = "".join(_shaded(found[kind]["value"], one["chance"]) for kind in (RAW, THRESHOLD, DP))
        most = found[DP]["most"]
        rows.append(
            f"<tr><td>{escape(one['title'])}<br><span class='note'>{escape(one['measure'])}</span></td>{cells}"
            f"<td class='n'>{'' if most is None else share(most)}</td><td class='n'>{share(one['chance'])}</td></tr>"
        )
    return (
        "<table><thead><tr><th>Attack</th><th class='cell'>raw</th><th class='cell'>threshold</th>"
        "<th class='cell'>private</th><th class='n'>promised at most</th><th class='n'>by guessing</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        f"<p class='note'>An estimate may lie {MARGIN:g} above its bound by chance. A threshold table is suppression, "
        "not anonymity: it keeps single cells from being read, and keeps nobody from being found.</p>"
    )


def _shaded(value: float | None, chance: float = 0.0) -> str:
    """A share on red, the deeper the more an attacker has beyond guessing."""
    depth = max(0.0, min(1.0, ((value or 0.0) - chance) / (1 - chance)))
    ink = "#fff" if depth > 0.55 else "#1a1a1a"
    return f"<td class='cell' style='background:rgba(138,28,28,{depth:.2f});color:{ink}'>{share(value)}</td>"


def _attack(one: Document, drawn: str) -> str:
    told = "; ".join(f"{NAMES[f['subject']]}: {share(f['value'])} ({f['told']})" for f in one["figures"])
    return (
        f"<section><h2>{escape(one['title'])}</h2><p>{escape(one['question'])}</p>{drawn}"
        f"<p class='note'>{escape(one['measure'].capitalize())}. {escape(told)}.</p></section>"
    )


# -- a picture for each attack -----------------------------------------------------------------------------------------


def _correction(one: Document) -> str:
    panels = [(NAMES[kind], one["plot"][kind]["lonely"], one["plot"][kind]["quiet"]) for kind in (RAW, THRESHOLD, DP)]
    return plots.histograms("Differences of two versions", panels, ("cells with one late person", "cells with none"))


def _recovered(one: Document, *more: tuple[str, float, str]) -> str:
    found = {figure["subject"]: figure for figure in one["figures"]}
    kinds = (RAW, THRESHOLD, DP)
    rows = [(NAMES[kind], found[kind]["value"], COLOURS[kind], share(found[kind]["value"])) for kind in kinds]
    rows[1:1] = [(name, value, colour, share(value)) for name, value, colour in more]
    marks = [None] * (len(rows) - 1) + [found[DP]["most"]]
    return plots.bars(one["title"], rows, marks)


def _two_grains(one: Document) -> str:
    return _recovered(one, ("a threshold on each table", one["plot"]["naive"], "#d9a441"))


def _totals(one: Document) -> str:
    widths = sorted(one["plot"]["widths"])
    told = "No cell is hidden in the threshold table."
    if widths:
        apart = f"{widths[len(widths) // 2]:,} calls"
        told = f"In the threshold table the least and the most of a hidden cell lie {apart} apart (median)."
    drawn = _recovered(one, ("thresholds beside true totals", one["plot"]["naive"], "#d9a441"))
    return f"{drawn}<p class='note'>{told}</p>"


def _repeats(one: Document) -> str:
    plot = one["plot"]
    runs = Scale(1, plot["runs"][-1], (1, 10, 100, 1000), log=True, told=lambda value: f"{value:,.0f}")
    drawn = [
        Line("fresh noise each run", COLOURS[RAW], list(zip(plot["runs"], plot["fresh"], strict=True)), dots=True),
        Line("written once", COLOURS[DP], list(zip(plot["runs"], plot["once"], strict=True)), dots=True),
    ]
    return plots.lines("Averaging", "runs of the same release", "cells known exactly", runs, SHARES, drawn)


def _presence(one: Document) -> str:
    plot = one["plot"]
    (most,) = (figure["most"] for figure in one["figures"] if figure["subject"] == DP)
    curve = list(zip(plot["false_alarms"], plot["hits"], strict=True))
    drawn = [
        Line("raw", COLOURS[RAW], [(0, 0), (0, 1), (1, 1)]),
        Line("the bound", _BOUND, [(0, most), (1 - most, 1), (1, 1)], dashed=True),
        Line("private", COLOURS[DP], curve),
        Line("guessing", "#999999", [(0, 0), (1, 1)], dashed=True),
    ]
    return plots.lines("Membership", "false alarms", "hits", SHARES, SHARES, drawn, 300)


def _many_days(one: Document) -> str:
    plot = one["plot"]
    last = plot["days"][-1]
    days = Scale(1, max(last, 2), plot["days"], log=True)
    drawn = [
        Line("the bound", _BOUND, list(zip(plot["days"], plot["most"], strict=True)), dashed=True),
        Line("measured", COLOURS[DP], list(zip(plot["days"], plot["measured"], strict=True)), dots=True),
    ]
    told = "daily releases that a person is in"
    return plots.lines("Membership over many releases", told, "advantage", days, SHARES, drawn)


_DRAWN: Final = {
    "correction": _correction,
    "two_grains": _two_grains,
    "totals": _totals,
    "repeats": _repeats,
    "presence": _presence,
    "many_days": _many_days,
}


# -- what the views tell -----------------------------------------------------------------------------------------------

_UNICITY: Final = (
    "Whoever knows some calls of a person (when, and to which area): in how many cases does one person alone fit? This "
    "is what rows tell, be they without names and numbers. A release has no rows of persons; its grain is here to show "
    "what rows cut to it would give away."
)


def _unicity(title: str, told: str, caption: str, found: Sequence[Document]) -> str:
    head = "".join(f"<th class='cell'>{many} {'point' if many == 1 else 'points'}</th>" for many in POINTS)
    rows = "".join(
        f"<tr><td>{escape(one['what'])} ({escape(one['person'])})</td>{''.join(map(_shaded, one['shares']))}</tr>"
        for one in found
    )
    return (
        f"<section><h2>{escape(title)}</h2><p>{escape(told)}</p><table><thead><tr><th>{escape(caption)}</th>{head}</tr>"
        f"</thead><tbody>{rows}</tbody></table><p class='note'>Share of persons who are alone. Persons of more than "
        f"{ELIGIBLE_CALLS} calls a day are left out on both sides: who seeks a person rules out call centres.</p>"
        "</section>"
    )


def _linkage(found: Sequence[Document], whose: str) -> str:
    return (
        f"<section><h2>What times and durations still link{escape(whose)}</h2><p>No key, id or token is in both the "
        "billing and the assurance view, and no person's role opens both. Who had both would compare times: in how "
        "many cases does exactly one row of assurance fit a row of billing?</p>"
        + plots.bars("Linkage", [(one["compared"], one["linked"], COLOURS[RAW], share(one["linked"])) for one in found])
        + _linkage_table(found)
        + "</section>"
    )


def _linkage_table(found: Sequence[Document]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['compared'])}</td><td class='n'>{one['candidates']:,.1f}</td>"
        f"<td class='n'>{share(one['mistaken'])}</td><td class='n'>{share(one['accounts'])}</td></tr>"
        for one in found
    )
    return (
        "<table><thead><tr><th>Compared</th><th class='n'>rows that fit a row</th><th class='n'>one fits, but is "
        f"another's</th><th class='n'>accounts whose token one row names</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _own_views(views: Document | None) -> list[str]:
    if views is None:
        return []
    rows = views["rows"]
    told = f"{rows['billing']:,} rows of billing and {rows['assurance']:,} of assurance, as they lie in the lake."
    whose = f": views of {views['tenant']}, {views['day']}"
    alone = _unicity(f"Who stands alone{whose}", told, "Rows known", views["unicity"])
    return [alone, _linkage(views["linkage"], whose)]


# -- controls ----------------------------------------------------------------------------------------------------------


def _controls(controls: Sequence[Document], titles: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['mechanism'])}</td><td>{escape(titles.get(one['attack'], 'A key of one person'))}</td>"
        f"<td class='n'>{small(one['value'])}</td><td class='n'>{small(one['most'])}</td>"
        f"<td class='{'holds' if one['caught'] else 'breaks'}'>{'caught' if one['caught'] else 'MISSED'}</td></tr>"
        for one in controls
    )
    return (
        "<section><h2>Broken on purpose</h2><p>A suite that lets a broken mechanism pass proves nothing. Each of these "
        "was published beside ours, and must be caught.</p><table><thead><tr><th>Mechanism</th><th>Attack</th>"
        "<th class='n'>gives</th><th class='n'>at most</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def small(value: float) -> str:
    """A share, finer where it is below one in a hundred."""
    return f"{100 * value:.2f} %" if 0 < value < 0.01 else share(value)


def _footer(document: Document) -> str:
    day = f" --day {document['views']['day']}" if document["views"] else ""
    typed = f"callward release attack --calls {document['asked']} --seed {document['seed']}{day}"
    return (
        f"<footer>Made by <code>{escape(typed)}</code>. The traffic is the same for the same seed; noise never is, so "
        "figures move a little from run to run.</footer>"
    )
