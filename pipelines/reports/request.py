"""What the commands of `callward request` say: what became of a request, and those that wait."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from callward.retention.requests import register as request_register
from callward.retention.requests.register import RequestSummary
from callward.settings import Settings
from pipelines import terminal
from pipelines.results import Part, Result, to_document

_COLUMNS = ("request_id", "tenant", "kind", "status", "received", "due", "days_left", "verified", "answered", "refusal")


@dataclass(frozen=True)
class RequestOutcome(Result):
    """What became of a request: its summary, the words for the person, and counts or files by what was done."""

    fields: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def render(self) -> Iterator[Part]:
        return terminal.labelled(self.fields)


@dataclass(frozen=True)
class ErasuresFinished(Result):
    """What became of erasures that had to leave something."""

    erasures: Sequence[RequestOutcome]

    def to_dict(self) -> list[Any]:
        return [to_document(erasure) for erasure in self.erasures]

    def render(self) -> Iterator[Part]:
        if not self.erasures:
            yield "no erasure had to leave anything"
        for erasure in self.erasures:
            yield from erasure.render()


@dataclass(frozen=True)
class RequestList(Result):
    """Requests, overdue ones first; exit code 3 where one is overdue."""

    requests: Sequence[RequestSummary]

    @property
    def exit_code(self) -> int:
        return 3 if any(r.days_left is not None and r.days_left < 0 for r in self.requests) else 0

    def to_dict(self) -> list[Any]:
        return [to_document(request) for request in self.requests]

    def render(self) -> Iterator[Part]:
        yield terminal.records(self.to_dict(), _COLUMNS) if self.requests else "requests: none"


def list_requests(settings: Settings, tenant: str | None, today: date, *, everything: bool) -> RequestList:
    """Return requests that wait, of a tenant or of all; with `everything` answered ones as well."""
    found = request_register.list_requests(settings, tenant=tenant, everything=everything)
    return RequestList([request.summary(today) for request in found])


def changed(request: request_register.Request, today: date, *, dry_run: bool) -> RequestOutcome:
    """Return what is said of a request whose clock was changed, or would be."""
    return RequestOutcome(vars(request.summary(today)) | ({"dry_run": True} if dry_run else {}))
