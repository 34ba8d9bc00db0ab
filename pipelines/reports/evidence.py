"""Evidence for whoever must answer for retention: what goes when, what is overdue, certificates of what went.

Nothing here opens a data file or shows a number; what a confidential hold keeps is never told apart.
"""

from collections.abc import Iterator
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from callward.errors import UsageProblem
from callward.evidence import certificates
from callward.evidence.certificates import Certificate
from callward.evidence.checks import Check
from callward.retention.purge import calendar as purge_calendar
from callward.settings import Settings
from pipelines import terminal

# Of a line of the calendar: what a table shows, and under which heading.
_SHOWN: Final = {
    "class": "class",
    "window": "window",
    "rows": "rows",
    "oldest": "oldest",
    "next_expiry": "next expiry",
    "due_30_days": "30 days",
    "due_90_days": "90 days",
    "held": "held",
    "kept": "kept",
    "overdue": "overdue",
}
_NOBODYS: Final = {
    purge_calendar.EVERYBODY: "of no one tenant",
    "_shared": "of several tenants",
    "_unknown": "of tenants that are not known",
}


def show_calendar(settings: Settings, today: date, as_of: date | None, as_json: bool) -> None:
    """Per tenant a table of its classes, and a line on its open holds."""
    lines = purge_calendar.calendar(settings, today, as_of)
    if as_json:
        terminal.document({"as_of": as_of or today, "classes": lines})
        return
    for tenant, found in groupby(lines, key=lambda line: str(line["tenant"])):
        terminal.show(*_of_tenant(tenant, list(found)), "")
    terminal.show(_overdue(lines))


def _of_tenant(tenant: str, lines: list[dict[str, Any]]) -> Iterator[Any]:
    rows = [[line[name] for name in _SHOWN] for line in lines]
    yield terminal.table(f"Retention {_NOBODYS.get(tenant, f'of {tenant}')}", list(_SHOWN.values()), rows)
    ages = [line["oldest_hold_days"] for line in lines if line["open_holds"]]
    if ages:
        yield f"{terminal.count(lines[0]['open_holds'], 'open hold')}, the oldest of {terminal.count(max(ages), 'day')}"


def _overdue(lines: list[dict[str, Any]]) -> str:
    overdue = sum(line["overdue"] for line in lines)
    if overdue:
        return (
            f"{terminal.count(overdue, 'row')} past their window and neither held nor kept: the next purge takes them"
        )
    return "nothing is overdue"


def show_verify(settings: Settings, reference: str, quick: bool, as_json: bool) -> bool:
    """Every check of a certificate; those that fail also as sentences on standard error. Whether all hold."""
    found = certificates.verify(settings, reference, quick=quick)
    failed = [check for check in found if not check.ok]
    if as_json:
        checks = [{"check": check.name, "ok": check.ok, "sentence": check.sentence} for check in found]
        terminal.document({"certificate": reference, "ok": not failed, "checks": checks})
    else:
        terminal.show(terminal.table("", ["check", "", "seen"], [_seen(check) for check in found]))
    for check in failed:
        terminal.say(f"callward: {check.name}: {check.sentence}")
    return not failed


def _seen(check: Check) -> list[str]:
    return [check.name, "holds" if check.ok else "FAILS", check.sentence]


def show_certificates(settings: Settings, as_json: bool) -> None:
    """One line to a certificate, oldest first."""
    lines = [_listed(made) for made in certificates.listed(settings)]
    shown = lines if as_json else [{name: line[name] for name in line if name != "disposal"} for line in lines]
    terminal.out(shown, as_json, "Certificates of destruction")


def _listed(made: Certificate) -> dict[str, Any]:
    body = made.body
    return {
        "certificate": made.certificate_id,
        "issued": body["issued_at"][:10],
        "status": body["status"],
        "as_of": body["identity"]["as_of"],
        "rows": sum(scope["rows"] for scope in body["scope"]),
        "files": sum(scope["files"] for scope in body["scope"]),
        "keys": len(body["keys"]),
        "kept": sum(item["rows"] for item in body["exclusions"]["held"]),
        "completes": ", ".join(body["completes"]),
        "disposal": made.disposal_id,
    }


def show_certificate(settings: Settings, certificate_id: str, as_json: bool) -> None:
    """One certificate: the signed document itself as JSON, else what a person wants to know of it first."""
    made = certificates.read(settings, certificate_id)
    if as_json:
        terminal.show(made.document)
        return
    body = made.body
    terminal.show(f"{body['title']} {made.certificate_id}: {body['status']}")
    terminal.show(*(f"  {reason}" for reason in body["partial_because"]))
    terminal.show(terminal.table("What went", list(_WENT), [_went(scope) for scope in body["scope"]]))
    if body["keys"]:
        terminal.show(terminal.table("Keys destroyed", ["key", "fingerprint", "files under it"], _keys(body)))
    if body["exclusions"]["held"]:
        terminal.show(terminal.table("What was kept", ["tenant", "class", "rows", "holds"], _kept(body)))
    terminal.show("", *map(str, certificates.write_files(settings, made)))


_WENT: Final = ("tenant", "class", "view", "event time", "files", "rows", "method")


def _went(scope: dict[str, Any]) -> list[Any]:
    span = scope["first"] if scope["first"] == scope["last"] else f"{scope['first']} to {scope['last']}"
    done = scope["sanitization"]
    method = f"{done['method']} ({done['category']})"
    return [scope["tenant"], scope["retention_class"], scope["view"], span, scope["files"], scope["rows"], method]


def _keys(body: dict[str, Any]) -> list[list[Any]]:
    return [[key["name"], key["fingerprint"], key["files"]] for key in body["keys"]]


def _kept(body: dict[str, Any]) -> list[list[Any]]:
    held = body["exclusions"]["held"]
    return [[h["tenant"], h["retention_class"], h["rows"], ", ".join(h["holds"]) or "other reasons"] for h in held]


def write_page(settings: Settings, certificate_id: str, to: Path | None) -> Path:
    """Write a certificate's page to print: where it always lies, or to another file, which must be new."""
    made = certificates.read(settings, certificate_id)
    (page,) = (path for path in certificates.write_files(settings, made) if path.suffix == ".html")
    if to is None:
        return page
    try:
        with to.open("xb") as file:
            file.write(page.read_bytes())
    except FileExistsError:
        raise UsageProblem(f"{to} is there already, and is not overwritten") from None
    return to
