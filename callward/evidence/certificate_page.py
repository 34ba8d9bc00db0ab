"""A certificate of destruction as one page to print (pages/templates/certificate.html)."""

from collections.abc import Mapping, Sequence
from typing import Any

from callward.pages.page import Mark, Table, render

Body = Mapping[str, Any]


def page(body: Body, chain_hash: str) -> str:
    """Return the HTML page of a certificate's body; `chain_hash` is its place in the chain, printed at the foot."""
    certificate_id = body["identity"]["certificate_id"]
    return render(
        "certificate.html",
        title=f"Certificate of destruction {certificate_id}",
        heading=body["title"],
        printed_id=f"Certificate {certificate_id}",
        body=body,
        reasons=_reasons(body),
        policies=_policies(body["identity"]["policies"]),
        scope={"destroyed": _destroyed(body), "ends": _ends(body), "digests": _digests(body["scope"])},
        why=_why(body["scope"]),
        bases=_bases(body["scope"]),
        sanitization=[_sanitization(line) for line in body["scope"]],
        keys=_keys(body["keys"]),
        root_copies=_root_copies(body["root_copies"]),
        checks=_checks(body["verification"]["checks"]),
        exclusions={"held": _held(body["exclusions"]), "derived": _derived(body["exclusions"])},
        chain={**body["chain"], "hash": chain_hash},
    )


def _reasons(body: Body) -> list[str]:
    """Return why the certificate is not complete, one sentence each."""
    reasons = list(body["partial_because"])
    if body["deletion_pending_until"]:
        reasons.append(f"keys can be called back until {body['deletion_pending_until']}")
    return reasons


def _policies(policies: Sequence[Body]) -> Table:
    rows = [[p["tenant"], f"{p['name']}, version {p['version']}", p["sha256"]] for p in policies]
    return Table(["Tenant", "Policy", "SHA-256"], rows)


def _destroyed(body: Body) -> Table:
    rows = [
        [s["tenant"], s["retention_class"], s["view"], _span(s["first"], s["last"]), s["files"], s["rows"], s["bytes"]]
        for s in body["scope"]
    ]
    rows += [[r["tenant"], r["retention_class"], r["what"], "", None, r["rows"], None] for r in body["database_rows"]]
    return Table(["Tenant", "Class", "View", "Event time", "Files", "Rows", "Bytes"], rows)


def _ends(body: Body) -> Table:
    rows = [[e["view"], e["end"], e["rows"], e["input_files"]] for e in body["row_counts"]["by_end"]]
    return Table(["View", "Rows that were", "Rows", "Input files"], rows)


def _digests(scope: Sequence[Body]) -> Table:
    rows = [[_subject(line), line["manifest_sha256"], line["selector_sha256"]] for line in scope]
    return Table(["Digests", "Manifest", "Selector"], rows)


def _why(scope: Sequence[Body]) -> Table:
    rows = []
    for line in scope:
        reason = line["reason"]
        due = _span(*reason["due"]) if reason["due"] else ""
        rows.append([_subject(line), reason["why"], reason["window"], reason["clock"], due, reason["destroyed_on"]])
    return Table(["Class", "Why", "Window", "Clock", "Due", "Destroyed"], rows)


def _bases(scope: Sequence[Body]) -> dict[str, str]:
    """Return the legal basis of each tenant's class that states one."""
    return {f"{s['tenant']}, {s['retention_class']}": s["reason"]["basis"] for s in scope if s["reason"]["basis"]}


def _sanitization(line: Body) -> dict[str, Any]:
    method = line["sanitization"]
    rows = [[_mark(c["pass"]), c["name"], c["detail"]] for c in method["preconditions"]]
    return {
        "subject": _subject(line),
        "method": f"{method['method']} (category {method['category']})",
        "preconditions": Table(["", "Cryptographic erase needs", "Seen"], rows),
    }


def _keys(keys: Sequence[Body]) -> Table:
    rows = [[k["name"], k["key_id"], k["fingerprint"], f"{k['algorithm']}, {k['bits']} bits", k["files"]] for k in keys]
    return Table(["Key destroyed", "Id", "Fingerprint", "Algorithm", "Files under it"], rows)


def _root_copies(copies: Sequence[Body]) -> Table:
    rows = [[c["root_id"], c["place"], _mark(c["destroyed"], "destroyed", "not confirmed")] for c in copies]
    return Table(["Old root", "Known copy", "State"], rows)


def _checks(checks: Sequence[Body]) -> Table:
    rows = [[_mark(check["ok"]), check["name"], check["sentence"]] for check in checks]
    return Table(["", "Check", "Seen"], rows)


def _held(exclusions: Body) -> Table:
    rows = [[h["tenant"], h["retention_class"], h["rows"], ", ".join(h["holds"])] for h in exclusions["held"]]
    return Table(["Tenant", "Class", "Rows kept", "Holds"], rows)


def _derived(exclusions: Body) -> Table:
    rows = [[d["tenant"], d["table"], d["rows"]] for d in exclusions["derived_rows"]]
    return Table(["Tenant", "Sums that stay", "Rows"], rows)


def _subject(line: Body) -> str:
    return f"{line['tenant']}, {line['retention_class']}, {line['view']}"


def _mark(good: bool, yes: str = "pass", no: str = "fail") -> Mark:
    return Mark(yes if good else no, good)


def _span(first: Any, last: Any) -> str:
    return str(first) if first == last else f"{first} to {last}"
