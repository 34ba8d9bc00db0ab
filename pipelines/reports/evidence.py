"""Evidence for whoever must answer for retention: what goes when, what is overdue, certificates of what went.

Nothing here opens a data file or shows a number; what a confidential hold keeps is never told apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from callward import database
from callward.errors import UsageProblem
from callward.evidence import certificates
from callward.evidence.certificates import Certificate
from callward.evidence.checks import Check
from callward.retention.purge import calendar as purge_calendar
from callward.retention.purge.calendar import CalendarLine
from callward.settings import Settings
from callward.storage.durable import create
from pipelines import terminal
from pipelines.results import Part, Result, Rows, Verbatim

# Of a line of the calendar: what a table shows, and under which heading.
_SHOWN: Final = {
    "class_": "class",
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


# -- the calendar ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calendar(Result):
    """What is kept per tenant and class, and when it goes: a table to a tenant, and a line on its open holds."""

    as_of: date
    classes: Sequence[CalendarLine]

    def render(self) -> Iterator[Part]:
        for tenant, lines in groupby(self.classes, key=lambda line: line.tenant):
            yield from _of_tenant(tenant, list(lines))
            yield ""
        overdue = sum(line.overdue for line in self.classes)
        if overdue:
            rows = terminal.count(overdue, "row")
            yield f"{rows} past their window and neither held nor kept: the next purge takes them"
        else:
            yield "nothing is overdue"


def _of_tenant(tenant: str, lines: Sequence[CalendarLine]) -> Iterator[Part]:
    rows = [[getattr(line, name) for name in _SHOWN] for line in lines]
    yield terminal.table(f"Retention {_NOBODYS.get(tenant, f'of {tenant}')}", list(_SHOWN.values()), rows)
    ages = [line.oldest_hold_days for line in lines if line.open_holds and line.oldest_hold_days is not None]
    if ages:
        yield f"{terminal.count(lines[0].open_holds, 'open hold')}, the oldest of {terminal.count(max(ages), 'day')}"


def calendar(settings: Settings, as_of: date | None) -> Calendar:
    """Return the calendar as it is today, or would be on a day."""
    today = database.now().date()
    return Calendar(as_of or today, purge_calendar.calendar(settings, today, as_of))


# -- checking a certificate --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckedCertificate(Result):
    """Every check of a certificate; exit code 1 where one fails."""

    certificate: str
    checks: Sequence[Check]

    @property
    def exit_code(self) -> int:
        return 1 if self._failed else 0

    @property
    def _failed(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def to_dict(self) -> dict[str, Any]:
        checks = [{"check": check.name, "ok": check.ok, "sentence": check.sentence} for check in self.checks]
        return {"certificate": self.certificate, "ok": not self._failed, "checks": checks}

    def render(self) -> Iterator[Part]:
        rows = [[check.name, "holds" if check.ok else "FAILS", check.sentence] for check in self.checks]
        yield terminal.table("", ["check", "", "seen"], rows)

    def warnings(self) -> Iterator[str]:
        return (f"callward: {check.name}: {check.sentence}" for check in self._failed)


def verify(settings: Settings, reference: str, *, quick: bool) -> CheckedCertificate:
    """Check a certificate (a file, or an id) against what is there now."""
    return CheckedCertificate(reference, certificates.verify(settings, reference, quick=quick))


# -- certificates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CertificateListed:
    """A certificate in a line. `kept`: rows past their window that were held back."""

    certificate: str
    issued: str  # YYYY-MM-DD
    status: str
    as_of: str
    rows: int
    files: int
    keys: int
    kept: int
    completes: str
    disposal: str | None


@dataclass(frozen=True)
class CertificateList(Rows):
    """Certificates, the oldest first; a person does not see the disposal's id."""

    rows: Sequence[CertificateListed]
    title: str = "Certificates of destruction"

    def render(self) -> Iterator[Part]:
        if not self.rows:
            yield from super().render()
            return
        columns = [name for name in vars(self.rows[0]) if name != "disposal"]
        yield terminal.table(self.title, columns, [[getattr(row, name) for name in columns] for row in self.rows])


def list_certificates(settings: Settings) -> CertificateList:
    """Return every certificate, the oldest first."""
    return CertificateList([_line(certificate) for certificate in certificates.list_certificates(settings)])


def _line(certificate: Certificate) -> CertificateListed:
    body = certificate.body
    return CertificateListed(
        certificate=certificate.certificate_id,
        issued=body["issued_at"][:10],
        status=body["status"],
        as_of=body["identity"]["as_of"],
        rows=sum(scope["rows"] for scope in body["scope"]),
        files=sum(scope["files"] for scope in body["scope"]),
        keys=len(body["keys"]),
        kept=sum(item["rows"] for item in body["exclusions"]["held"]),
        completes=", ".join(body["completes"]),
        disposal=certificate.disposal_id,
    )


_WENT: Final = ("tenant", "class", "view", "event time", "files", "rows", "method")


@dataclass(frozen=True)
class CertificateShown(Verbatim):
    """One certificate: the document is the signed one itself; a person sees first what matters, and its files."""

    certificate: Certificate
    files: Sequence[Path]

    def render(self) -> Iterator[Part]:
        body = self.certificate.body
        yield f"{body['title']} {self.certificate.certificate_id}: {body['status']}"
        yield from (f"  {reason}" for reason in body["partial_because"])
        yield terminal.table("What went", list(_WENT), [_went(scope) for scope in body["scope"]])
        if body["keys"]:
            yield terminal.table("Keys destroyed", ["key", "fingerprint", "files under it"], _keys(body))
        if body["exclusions"]["held"]:
            yield terminal.table("What was kept", ["tenant", "class", "rows", "holds"], _kept(body))
        yield ""
        yield from map(str, self.files)


def _went(scope: Mapping[str, Any]) -> list[Any]:
    span = scope["first"] if scope["first"] == scope["last"] else f"{scope['first']} to {scope['last']}"
    sanitization = scope["sanitization"]
    method = f"{sanitization['method']} ({sanitization['category']})"
    return [scope["tenant"], scope["retention_class"], scope["view"], span, scope["files"], scope["rows"], method]


def _keys(body: Mapping[str, Any]) -> list[list[Any]]:
    return [[key["name"], key["fingerprint"], key["files"]] for key in body["keys"]]


def _kept(body: Mapping[str, Any]) -> list[list[Any]]:
    held = body["exclusions"]["held"]
    return [[h["tenant"], h["retention_class"], h["rows"], ", ".join(h["holds"]) or "other reasons"] for h in held]


def show_certificate(settings: Settings, certificate_id: str) -> CertificateShown:
    """Return one certificate; its files are written where they are not. Raises UsageProblem where there is none."""
    certificate = certificates.read(settings, certificate_id)
    return CertificateShown(certificate.document, certificate, certificates.write_files(settings, certificate))


@dataclass(frozen=True)
class PageWritten(Result):
    """The file of a page to print, or where it would be."""

    page: str
    dry_run: bool

    def render(self) -> Iterator[Part]:
        yield f"{self.page} would be written" if self.dry_run else self.page


def write_page(settings: Settings, certificate_id: str, to: Path | None, *, dry_run: bool) -> PageWritten:
    """Write a certificate's page to print: where it always lies, or to another file, which must be new."""
    certificate = certificates.read(settings, certificate_id)
    if to is not None and to.exists():
        raise UsageProblem(f"{to} is there already, and is not overwritten")
    usual = certificates.folder(settings) / f"{certificate.certificate_id}.html"
    if not dry_run:
        certificates.write_files(settings, certificate)
        if to is not None:
            _copy(usual, to)
    return PageWritten(str(to or usual), dry_run)


def _copy(page: Path, to: Path) -> None:
    try:
        create(to, page.read_bytes(), 0o644)
    except FileExistsError:  # since it was looked for
        raise UsageProblem(f"{to} is there already, and is not overwritten") from None
