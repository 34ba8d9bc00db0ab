"""A certificate of destruction as one page to print: no script, nothing loaded from elsewhere, every value escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

_STYLE: Final = """
@page { size: A4; margin: 18mm 17mm 20mm; }
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { max-width: 176mm; margin: 14mm auto; padding: 0 6mm; background: #fff; color: #1a1a1a;
       font: 10.5pt/1.45 "Source Serif 4", "Iowan Old Style", Palatino, "Palatino Linotype", Georgia, serif;
       font-variant-numeric: tabular-nums lining-nums; }
header { border-bottom: 2.5pt solid #1a1a1a; padding-bottom: 4mm; margin-bottom: 6mm; }
h1 { font-size: 22pt; font-weight: 600; line-height: 1.15; margin: 0 0 1mm; letter-spacing: -.01em; }
h2 { font-size: 11pt; font-weight: 600; margin: 7mm 0 2mm; padding-bottom: 1mm; border-bottom: .5pt solid #999;
     break-after: avoid; }
h2 span { color: #777; font-weight: 400; display: inline-block; min-width: 7mm; }
h3 { font-size: 10.5pt; font-weight: 600; margin: 4mm 0 1mm; break-after: avoid; }
p { margin: 1mm 0; }
.lead { color: #444; }
.status { float: right; margin: 1mm 0 2mm 8mm; padding: 1.5mm 4mm; border: 1.5pt solid; font: 600 11pt/1.2 inherit;
          letter-spacing: .12em; font-family: inherit; }
.complete { color: #14532d; } .partial { color: #8a1c1c; } .pending { color: #7a4a00; }
.why { border-left: 2.5pt solid #8a1c1c; padding: 1mm 0 1mm 4mm; margin: 0 0 4mm; break-inside: avoid; }
.why ul { margin: 0; padding-left: 5mm; }
table { width: 100%; border-collapse: collapse; margin: 1mm 0 2mm; font-size: 9.5pt; line-height: 1.35; }
th, td { text-align: left; vertical-align: top; padding: 1mm 3mm 1mm 0; border-bottom: .4pt solid #d4d4d4; }
thead th { font-weight: 600; border-bottom: .8pt solid #777; white-space: nowrap; }
tbody th { font-weight: 400; color: #555; width: 42mm; }
tr { break-inside: avoid; }
.n { text-align: right; white-space: nowrap; }
code { font: 8.5pt/1.4 "Source Code Pro", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.failed { color: #8a1c1c; font-weight: 600; }
footer { margin-top: 8mm; padding-top: 3mm; border-top: .5pt solid #999; color: #555; font-size: 8.5pt; }
@media print { body { margin: 0; padding: 0; max-width: none; } }
@media (max-width: 640px) { .status { float: none; display: inline-block; margin: 0 0 3mm; } }
"""
_CODE_FROM: Final = 24  # characters without a space: a digest or an id, set as code


def page(body: Mapping[str, Any], chain_hash: str) -> str:
    """The page for a certificate's body; `chain_hash` is its place in the chain, printed at the foot."""
    identity = body["identity"]
    parts = [
        _head(body),
        *_because(body),
        _section(1, "Certificate", _facts(identity, skip=("policies",)) + _policies(identity["policies"])),
        _section(2, "Media", _facts(body["media"])),
        _section(3, "Confidentiality", _facts(body["confidentiality"])),
        _section(4, "Scope", _scope(body)),
        _section(5, "Reason", _reasons(body["scope"])),
        _section(6, "Sanitization", _sanitization(body)),
        _section(7, "Tool", _facts(body["tool"])),
        _section(8, "Verification", _verification(body["verification"])),
        _section(9, "What is left out", _exclusions(body["exclusions"])),
        _section(10, "Destination", _paragraph(body["destination"])),
        _section(11, "Performed, verified, approved", _people(body)),
        _section(12, "Chain", _facts({**body["chain"], "hash": chain_hash})),
    ]
    title = f"Certificate of destruction {identity['certificate_id']}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_text(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<footer>{_FOOTER}</footer>\n</body>\n</html>\n"
    )


_FOOTER: Final = (
    "This page shows the signed document of the same name (.json), which alone is the certificate. "
    "<code>callward purge verify</code> checks its signature and its chain, and looks again at what it certifies. "
    "Fields after NIST SP 800-88, section 4.8."
)


def _head(body: Mapping[str, Any]) -> str:
    status, identity = str(body["status"]), body["identity"]
    told = f"Purge {identity['purge_id']} as of {identity['as_of']}, issued {body['issued_at']}"
    completes = f"<p>Completes {_text(', '.join(body['completes']))}.</p>" if body["completes"] else ""
    return (
        f'<header><div class="status {_text(status.lower())}">{_text(status)}</div>'
        f"<h1>{_text(body['title'])}</h1>"
        f'<p class="lead">{_text(identity["certificate_id"])} · {_text(told)}</p>{completes}</header>'
    )


def _because(body: Mapping[str, Any]) -> list[str]:
    reasons = list(body["partial_because"])
    if body["deletion_pending_until"]:
        reasons.append(f"keys can be called back until {body['deletion_pending_until']}")
    items = "".join(f"<li>{_text(reason)}</li>" for reason in reasons)
    return [f'<div class="why"><ul>{items}</ul></div>'] if reasons else []


def _section(number: int, title: str, inner: str) -> str:
    return f"<section><h2><span>{number}</span>{_text(title)}</h2>\n{inner}</section>"


def _policies(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [[p["tenant"], f"{p['name']}, version {p['version']}", p["sha256"]] for p in found]
    return _table(["Tenant", "Policy", "SHA-256"], rows)


def _scope(body: Mapping[str, Any]) -> str:
    rows = [
        [s["tenant"], s["retention_class"], s["view"], _span(s["first"], s["last"]), s["files"], s["rows"], s["bytes"]]
        for s in body["scope"]
    ]
    rows += [[r["tenant"], r["retention_class"], r["what"], "", None, r["rows"], None] for r in body["database_rows"]]
    digests = [
        [f"{s['tenant']}, {s['retention_class']}, {s['view']}", s["manifest_sha256"], s["selector_sha256"]]
        for s in body["scope"]
    ]
    ends = [[e["view"], e["end"], e["rows"], e["input_files"]] for e in body["row_counts"]["by_end"]]
    return (
        _table(["Tenant", "Class", "View", "Event time", "DataFiles", "Rows", "Bytes"], rows)
        + _table(["View", "Rows that were", "Rows", "Input files"], ends)
        + _table(["Digests", "Manifest", "Selector"], digests)
    )


def _reasons(scope: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for item in scope:
        why = item["reason"]
        subject = f"{item['tenant']}, {item['retention_class']}, {item['view']}"
        fell_due = _span(*why["due"]) if why["due"] else ""
        rows.append([subject, why["why"], why["window"], why["clock"], fell_due, why["destroyed_on"]])
    based = {f"{s['tenant']}, {s['retention_class']}": s["reason"]["basis"] for s in scope if s["reason"]["basis"]}
    return _table(["Class", "Why", "Window", "Clock", "Due", "Destroyed"], rows) + _facts(based)


def _sanitization(body: Mapping[str, Any]) -> str:
    parts = []
    for item in body["scope"]:
        done = item["sanitization"]
        parts.append(f"<h3>{_text(item['tenant'])}, {_text(item['retention_class'])}, {_text(item['view'])}</h3>")
        parts.append(_paragraph(f"{done['method']} (category {done['category']})"))
        rows = [[_passed(c["pass"]), c["name"], c["detail"]] for c in done["preconditions"]]
        parts.append(_table(["", "Cryptographic erase needs", "Seen"], rows))
    keys = _table(["Key destroyed", "Id", "Fingerprint", "Algorithm", "Files under it"], _keys(body["keys"]))
    return "".join(parts) + keys + _table(["Old root", "Known copy", "State"], _copies(body["root_copies"]))


def _keys(found: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    return [
        [k["name"], k["key_id"], k["fingerprint"], f"{k['algorithm']}, {k['bits']} bits", k["files"]] for k in found
    ]


def _copies(found: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    return [[c["root_id"], c["place"], _passed(c["destroyed"], "destroyed", "not confirmed")] for c in found]


def _verification(found: Mapping[str, Any]) -> str:
    rows = [[_passed(check["ok"]), check["name"], check["sentence"]] for check in found["checks"]]
    return _paragraph(found["method"]) + _table(["", "Check", "Seen"], rows)


def _exclusions(found: Mapping[str, Any]) -> str:
    held = [[h["tenant"], h["retention_class"], h["rows"], ", ".join(h["holds"])] for h in found["held"]]
    derived = [[d["tenant"], d["table"], d["rows"]] for d in found["derived_rows"]]
    rest = {name: value for name, value in found.items() if name not in ("held", "derived_rows")}
    return (
        _table(["Tenant", "Class", "Rows kept", "Holds"], held)
        + _table(["Tenant", "Sums that stay", "Rows"], derived)
        + _facts(rest)
    )


def _people(body: Mapping[str, Any]) -> str:
    parts = []
    for name in ("performed_by", "verified_by", "approved_by"):
        parts.append(f"<h3>{_label(name)}</h3>{_facts(body[name])}")
    return "".join(parts)


# -- pieces ----------------------------------------------------------------------------------------------------------


def _facts(values: Mapping[str, Any], skip: Iterable[str] = ()) -> str:
    rows = "".join(
        f"<tr><th>{_label(name)}</th><td>{_cell(value)}</td></tr>"
        for name, value in values.items()
        if name not in skip and value is not None and value != []
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; nothing where it has no rows."""
    if not rows:
        return ""
    right = [all(isinstance(row[i], int | None) for row in rows) for i in range(len(columns))]
    marks = [' class="n"' if figures else "" for figures in right]
    head = "".join(f"<th{mark}>{_text(name)}</th>" for name, mark in zip(columns, marks, strict=True))
    lines = "".join(
        "<tr>" + "".join(f"<td{mark}>{_cell(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, _Marked):
        return f'<span class="{"passed" if value.good else "failed"}">{_text(value)}</span>'
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return "<br>".join(_cell(item) for item in value)
    text = str(value)
    return f"<code>{_text(text)}</code>" if len(text) >= _CODE_FROM and " " not in text else _text(text)


class _Marked(str):
    """A word that is printed as good or bad."""

    good: bool


def _passed(good: bool, yes: str = "pass", no: str = "fail") -> _Marked:
    marked = _Marked(yes if good else no)
    marked.good = good
    return marked


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _span(first: Any, last: Any) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _label(name: str) -> str:
    return _text((name[:1].upper() + name[1:]).replace("_", " ").replace("sha256", "SHA-256"))


def _text(value: Any) -> str:
    return escape(str(value))
