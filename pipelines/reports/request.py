"""What the commands of `callward request` say: what became of a request, or those that wait. Never a number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from callward.retention.requests import register as request_register
from callward.retention.requests.register import Request, RequestSummary
from callward.settings import Settings
from pipelines import terminal
from pipelines.results import Part, Result, fields_of, to_document

_COLUMNS = ("request_id", "tenant", "kind", "status", "received", "due", "days_left", "verified", "answered", "refusal")


@dataclass(frozen=True)
class Elsewhere:
    """Where records may lie that nobody can look for by a number or an account, and when the last of today's goes."""

    where: str
    what: str
    until: date | None


@dataclass(frozen=True, kw_only=True)
class RequestReport(RequestSummary, Result):
    """What became of a request, for whoever handles it and for the letter to the person.

    Attributes:
        words: what the person is told of a refusal.
        rows, left: of an erasure or correction: rows by what became of them, and whether some may go later.
        calls, files: of an answer with calls: how many, and the files that it was written into.
        found: of a dry run: rows by view.
    """

    words: str | None = None
    rows: Mapping[str, int] | None = None
    left: bool | None = None
    calls: int | None = None
    files: Sequence[str] | None = None
    restricted: bool | None = None
    addressee: str | None = None
    certificate: str | None = None
    elsewhere: Sequence[Elsewhere] | None = None
    dry_run: bool | None = None
    found: Mapping[str, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is said of every request, and of the rest what applies to this one."""
        summarized = RequestSummary.__dataclass_fields__.keys() | {"words"}
        return {name: value for name, value in fields_of(self).items() if value is not None or name in summarized}

    def render(self) -> Iterator[Part]:
        return terminal.labelled(self.to_dict())


def report(request: Request, today: date, **outcome: Any) -> RequestReport:
    """Return what is said of a request; `outcome` are fields of RequestReport beside what its answer holds."""
    words = request_register.WORDS[request.refusal] if request.refusal else None
    return RequestReport(**{**asdict(request.summary(today)), "words": words, **request.answer, **outcome})


@dataclass(frozen=True)
class ErasuresFinished(Result):
    """Erasures that had to leave something, gone on with."""

    erasures: Sequence[RequestReport]

    def to_dict(self) -> list[Any]:
        return [erasure.to_dict() for erasure in self.erasures]

    def render(self) -> Iterator[Part]:
        if not self.erasures:
            yield "no erasure had to leave anything"
        for erasure in self.erasures:
            yield from erasure.render()


@dataclass(frozen=True)
class RequestList(Result):
    """Requests with the days left, overdue ones first; a person must look where one is overdue."""

    requests: Sequence[RequestSummary]

    @property
    def exit_code(self) -> int:
        return 3 if any((request.days_left or 0) < 0 for request in self.requests) else 0

    def to_dict(self) -> list[Any]:
        return [to_document(request) for request in self.requests]

    def render(self) -> Iterator[Part]:
        yield terminal.Records(self.to_dict(), _COLUMNS) if self.requests else "requests: none"


def list_requests(settings: Settings, tenant: str | None, today: date, *, everything: bool) -> RequestList:
    """Return the requests that wait, of one tenant or of all; with `everything` answered ones as well."""
    requests = request_register.list_requests(settings, tenant=tenant, everything=everything)
    return RequestList([request.summary(today) for request in requests])
