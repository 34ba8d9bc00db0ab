"""Requests of persons about their data (access, correct, erase, restrict, export): their register, clocks and answers.

Whom a request is about, how the identity was checked and what was answered is sealed under the hold root; the table
shows an id, a kind, a status and dates. Each change is signed by the registered person who handles the request and
stands in the audit log with the digest of the sealed body.
"""

import calendar
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from callward import audit, database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers
from callward.keys.register import EVERY_MONTH, KeyName, keyring
from callward.keys.seal import Sealer
from callward.redaction import mask
from callward.runs import new_id
from callward.settings import Settings
from schemas.retention import requests
from schemas.retention_classes import Window

FORMAT_VERSION: Final = 1
KINDS: Final = ("access", "correct", "erase", "restrict", "export")
SERVICE: Final = "retention-run"
APPROVAL: Final = "request"  # of approvals
OPEN, ANSWERED, REFUSED, REFERRED, APPEALED = "open", "answered", "refused", "referred", "appealed"
WAITING: Final = (OPEN, APPEALED)
TOLD: Final = ("access", "export")  # the kinds whose answer holds calls
APPEAL: Final = Window(60, "day")
LOOK_BACK: Final = Window(12, "month")
_AUDIT_ROLE: Final = "privacy"
_FREE_ANSWERS: Final = 2  # in twelve months: Cal. Civ. Code 1798.130(b), Va. Code 59.1-577(B)(3)


@dataclass(frozen=True)
class Regime:
    """The clocks of one law. `first` and `extended` both count from the day the request came in."""

    name: str
    first: Window
    extended: Window | None  # None: this law's clock is not put off here
    looks_back: Window | None = None  # None: everything that is held
    at_most: int | None = None  # answers with calls in twelve months


REGIMES: Final = {
    # PIPEDA, Schedule 1 clause 4.9 and section 8(3): thirty days after receipt.
    "pipeda": Regime("pipeda", Window(30, "day"), None),
    # US state privacy laws: 45 days, once 45 more; the twelve months before the request.
    "us": Regime("us", Window(45, "day"), Window(90, "day"), LOOK_BACK, _FREE_ANSWERS),
    # GDPR article 12(3): one month, two more where it is complex.
    "gdpr": Regime("gdpr", Window(1, "month"), Window(3, "month")),
}


class Refusal(StrEnum):
    """Why a request is not, or not wholly, granted. Few on purpose: a code says no more than its words below."""

    IDENTITY = "IDENTITY"
    LEGAL_OBLIGATION = "LEGAL_OBLIGATION"
    NOT_FOUND = "NOT_FOUND"
    REFERRED = "REFERRED"
    REPEATED = "REPEATED"
    AS_RECORDED = "AS_RECORDED"


WORDS: Final[Mapping[str, str]] = {
    Refusal.IDENTITY: "We could not verify that you are the person whose records you ask about.",
    Refusal.LEGAL_OBLIGATION: "Some of the records must be kept, because the law requires it or a legal claim may "
    "depend on them. They are kept for that long and used for nothing else.",
    Refusal.NOT_FOUND: "We hold no record that can be given for what you asked about.",
    Refusal.REFERRED: "We hold such records only on behalf of our customer, to whom this request is to be addressed.",
    Refusal.REPEATED: "The same request was answered twice within the last twelve months.",
    Refusal.AS_RECORDED: "Numbers, times and amounts stay as the network recorded them. Your statement of disagreement "
    "is kept with the request.",
}


@dataclass(frozen=True, repr=False)
class Selector:
    """Whom a request is about: `kind` is number (E.164) or account. Shows neither in a repr."""

    kind: str
    value: str

    def __repr__(self) -> str:
        return f"Selector({self.kind})"


@dataclass(frozen=True, repr=False)
class Request:
    """One request with all that is sealed about it. Days are UTC."""

    request_id: str
    tenant: str
    kind: str
    status: str
    received: date
    due: date
    selector: Selector
    regime: str
    recorded_at: datetime  # calls that began later are not part of it
    extended_to: date | None = None
    answered_at: datetime | None = None
    refusal: str | None = None
    identity: str = ""  # how it was verified; "" while it is not
    wants: Mapping[str, Any] = field(default_factory=dict)  # of correct and restrict: what is to be set
    answer: Mapping[str, Any] = field(default_factory=dict)  # counts and dates; never a number
    history: tuple[Mapping[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Request({self.request_id})"

    @property
    def last_day(self) -> date:
        """Return the last day on which it is answered in time."""
        return self.extended_to or self.due

    @property
    def since(self) -> date | None:
        """Return the first day that an answer with calls looks back to; None for all that is held."""
        looks_back = REGIMES[self.regime].looks_back
        return _months_before(self.received, looks_back.count) if looks_back else None

    def summary(self, today: date) -> "RequestSummary":
        """Return what may be listed of it on a day."""
        waits = self.status in WAITING
        return RequestSummary(
            request_id=self.request_id,
            tenant=self.tenant,
            kind=self.kind,
            status=self.status,
            received=self.received,
            due=self.last_day,
            days_left=(self.last_day - today).days if waits else None,
            extended=self.extended_to is not None,
            verified=bool(self.identity),
            answered=self.answered_at.date() if self.answered_at else None,
            refusal=self.refusal,
        )


@dataclass(frozen=True, kw_only=True)
class RequestSummary:
    """What may be listed of a request: neither whom it is about nor what the answer held."""

    request_id: str | None  # None for one that was not recorded
    tenant: str
    kind: str
    status: str
    received: date
    due: date
    days_left: int | None  # None for one that does not wait
    extended: bool
    verified: bool
    answered: date | None
    refusal: str | None


# -- what is put into it -----------------------------------------------------------------------------------------------


def received(
    settings: Settings,
    tenant: str,
    kind: str,
    selector: Selector,
    *,
    regime: str | None,
    identity: str,
    wants: Mapping[str, Any],
    today: date,
    on: date | None = None,
) -> Request:
    """Return a request as it comes in, not recorded yet; raises UsageProblem for one that cannot be."""
    day = on or today
    _check(settings, tenant, kind, day, today)
    _check_words("--identity", identity)
    law = REGIMES[_regime(settings, tenant, regime)]
    return Request(
        request_id=new_id(),
        tenant=tenant,
        kind=kind,
        status=OPEN,
        received=day,
        due=law.first.last_day(day),
        selector=selector,
        regime=law.name,
        recorded_at=database.now(),
        identity=identity.strip(),
        wants=dict(wants),
    )


def _check(settings: Settings, tenant: str, kind: str, day: date, today: date) -> None:
    if kind not in KINDS:
        raise UsageProblem(f"a request is one of {', '.join(KINDS)}")
    if tenant not in settings.tenants:
        raise UsageProblem(f"no tenant is called {mask(tenant)!r} (known: {', '.join(settings.tenants)})")
    if day > today:
        raise UsageProblem("--received is in the future")


def _regime(settings: Settings, tenant: str, asked: str | None) -> str:
    regime = asked or settings.tenants[tenant].requests.regime
    if regime is None:
        raise UsageProblem(
            f"say under which law the request is: --regime {'|'.join(REGIMES)}, or once and for all regime under "
            f"[tenants.{tenant}.requests]"
        )
    if regime not in REGIMES:
        raise UsageProblem(f"--regime is one of {', '.join(REGIMES)}")
    return regime


def _check_words(option: str, text: str) -> None:
    if len(text) > 2000 or not text.replace("\n", " ").isprintable():
        raise UsageProblem(f"{option} takes text of at most 2000 characters")


def record(settings: Settings, request: Request, person: str, key_file: Path) -> Request:
    """Put a new request into the register, signed by who handles it."""
    recorded = _noted(request, "received", person)
    row = _signed(settings, recorded, person, key_file)
    with database.writing(settings) as connection:
        connection.execute(insert(requests).values(**row))
        audit.append(connection, [_entry(f"request-{request.kind}", recorded, row, person)])
    return recorded


def extend(
    settings: Settings, request_id: str, person: str, key_file: Path, today: date, reason: str, *, dry_run: bool = False
) -> Request:
    """Put a request's answer off once, before it is due; raises UsageProblem where its law does not allow it."""
    request = find(settings, request_id)
    longer = REGIMES[request.regime].extended
    if request.status != OPEN:
        raise UsageProblem(f"request {request_id} is {request.status}: only an open one is extended")
    if longer is None:
        raise UsageProblem(f"the clock of {request.regime} is not extended")
    if request.extended_to is not None:
        raise UsageProblem(f"request {request_id} was extended already, to {request.extended_to}")
    if today > request.due:
        raise UsageProblem(f"request {request_id} was due on {request.due}: it can no longer be extended")
    extended = replace(request, extended_to=longer.last_day(request.received))
    return extended if dry_run else change(settings, request, extended, "extended", person, key_file, reason)


def appeal(
    settings: Settings, request_id: str, person: str, key_file: Path, today: date, reason: str, *, dry_run: bool = False
) -> Request:
    """Take an appeal against an answer, due 60 days after its receipt; raises UsageProblem where there is no answer."""
    request = find(settings, request_id)
    if request.status not in (ANSWERED, REFUSED, REFERRED):
        raise UsageProblem(f"request {request_id} is {request.status}: there is no answer to appeal against")
    appealed = replace(request, status=APPEALED, due=APPEAL.last_day(today), extended_to=None, answered_at=None)
    return appealed if dry_run else change(settings, request, appealed, "appealed", person, key_file, reason)


def refused(request: Request, refusal: Refusal) -> Request:
    """Return the request with a refusal for its answer."""
    status = REFERRED if refusal == Refusal.REFERRED else REFUSED
    return replace(request, status=status, refusal=str(refusal), answered_at=database.now())


def answered(request: Request, answer: Mapping[str, Any], refusal: Refusal | None = None) -> Request:
    """Return the request with its answer; `refusal` says what of it was not granted."""
    code = str(refusal) if refusal else None
    return replace(request, status=ANSWERED, answer=dict(answer), refusal=code, answered_at=database.now())


def change(
    settings: Settings,
    before: Request,
    after: Request,
    event: str,
    person: str,
    key_file: Path,
    note: str = "",
) -> Request:
    """Write a request's next state, signed by who handles it, if nobody else has changed it meanwhile."""
    _check_words("what is noted", note)
    noted = _noted(after, event, person, note)
    row = _signed(settings, noted, person, key_file)
    with database.writing(settings) as connection:
        _replace(connection, settings, before, row)
        audit.append(connection, [_entry(f"request-{event}", noted, row, person)])
    return noted


def put(connection: Connection, settings: Settings, before: Request, after: Request, event: str) -> None:
    """Change a request as the service itself, within a transaction that does what the request asks for."""
    noted = _noted(after, event, SERVICE)
    row = _row(settings, noted)
    _replace(connection, settings, before, row)
    audit.append(connection, [_entry(f"request-{event}", noted, row, SERVICE)])


def _replace(connection: Connection, settings: Settings, before: Request, row: Mapping[str, Any]) -> None:
    stored = connection.execute(_by_id(before.request_id)).first()
    if stored is None or _opened(settings, stored).history != before.history:
        raise Problem("somebody else has just changed that request: look again")
    values = {name: value for name, value in row.items() if name != "request_id"}
    connection.execute(update(requests).where(requests.c.request_id == before.request_id).values(**values))


def _noted(request: Request, event: str, person: str, note: str = "") -> Request:
    at = database.now().replace(microsecond=0).isoformat()
    entry = {"at": at, "event": event, "person": person, "note": note}
    return replace(request, history=(*request.history, entry))


def _entry(event: str, request: Request, row: Mapping[str, Any], person: str) -> audit.Entry:
    digest = hashlib.sha256(row["body"]).hexdigest()
    return audit.Entry(_AUDIT_ROLE, event, f"{request.request_id} {digest}", f"by {person}")


# -- what comes out of it ----------------------------------------------------------------------------------------------


def find(settings: Settings, request_id: str) -> Request:
    """Return a request by its id; raises UsageProblem for one that is not there."""
    with database.reading(settings) as connection:
        row = connection.execute(_by_id(request_id)).first()
    if row is None:
        raise UsageProblem("there is no request of that id; 'callward request list --all' shows them")
    return _opened(settings, row)


def list_requests(settings: Settings, *, tenant: str | None = None, everything: bool = False) -> list[Request]:
    """Return requests that wait, those due first at the head; with `everything` the answered ones follow."""
    query = select(requests).order_by(requests.c.received_at, requests.c.request_id)
    if tenant is not None:
        query = query.where(requests.c.tenant == tenant)
    if not everything:
        query = query.where(requests.c.status.in_(WAITING))
    with database.reading(settings) as connection:
        rows = connection.execute(query).all()
    opened = [_opened(settings, row) for row in rows]
    return sorted(opened, key=lambda r: (r.status not in WAITING, r.last_day, r.request_id))


def is_repeated(settings: Settings, request: Request) -> bool:
    """Return whether a request's law lets it be refused: the same person was answered often enough in twelve months."""
    at_most = REGIMES[request.regime].at_most
    if at_most is None or request.kind not in TOLD:
        return False
    since = _months_before(request.received, LOOK_BACK.count)
    before = [
        r
        for r in list_requests(settings, tenant=request.tenant, everything=True)
        if r.kind in TOLD
        and r.status == ANSWERED
        and r.received >= since
        and (r.selector.kind, r.selector.value) == (request.selector.kind, request.selector.value)
        and r.request_id != request.request_id
    ]
    return len(before) >= at_most


def _months_before(day: date, months: int) -> date:
    """Return the day of the same number so many months earlier, or that month's last day."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


# -- sealed bodies -----------------------------------------------------------------------------------------------------


def _sealer(settings: Settings, tenant: str) -> Sealer:
    return keyring(settings, SERVICE, "requests").sealer(KeyName("hold", tenant, EVERY_MONTH, "requests"))


def _signed(settings: Settings, request: Request, person: str, key_file: Path) -> dict[str, Any]:
    """Sign the digest of a request's sealed body as the person and return the request's row."""
    row = _row(settings, request)
    approvers.approve(settings, APPROVAL, hashlib.sha256(row["body"]).hexdigest(), person, key_file)
    return row


_OUTSIDE: Final = ("request_id", "tenant", "kind", "status", "extended_to", "answered_at", "refusal")


def _row(settings: Settings, request: Request) -> dict[str, Any]:
    sealed = {name: value for name, value in asdict(request).items() if name not in _OUTSIDE}
    body = json.dumps({"format_version": FORMAT_VERSION, **sealed}, default=lambda value: value.isoformat())
    return {
        **{name: getattr(request, name) for name in _OUTSIDE},
        "received_at": _midnight(request.received),
        "due_at": _midnight(request.due),
        "extended_to": _midnight(request.extended_to) if request.extended_to else None,
        "body": _sealer(settings, request.tenant).seal(body.encode(), _aad(request.request_id)),
    }


def _opened(settings: Settings, row: Row[Any]) -> Request:
    body = json.loads(_sealer(settings, row.tenant).open(row.body, _aad(row.request_id)))
    return Request(
        **{name: getattr(row, name) for name in _OUTSIDE if name != "extended_to"},
        extended_to=row.extended_to.date() if row.extended_to else None,
        received=date.fromisoformat(body["received"]),
        due=date.fromisoformat(body["due"]),
        selector=Selector(**body["selector"]),
        regime=body["regime"],
        recorded_at=datetime.fromisoformat(body["recorded_at"]),
        identity=body["identity"],
        wants=body["wants"],
        answer=body["answer"],
        history=tuple(body["history"]),
    )


def _aad(request_id: str) -> bytes:
    return f"callward/request/{FORMAT_VERSION}|{request_id}".encode()


def _by_id(request_id: str) -> Any:
    return select(requests).where(requests.c.request_id == request_id)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())
