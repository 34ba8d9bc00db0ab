"""request: requests of persons about their data, from the register to the answer."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from callward import csv_cells, database, runs, workspace_id
from callward.columns import flat, has_value, set_column
from callward.disposal import completion
from callward.disposal import erasure as erasure_disposal
from callward.disposal import purge as purge_disposal
from callward.errors import Problem, UsageProblem
from callward.failpoints import point
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import CommitConflict
from callward.lake.row_index import Located
from callward.redaction import mask
from callward.retention import holds
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies
from callward.retention.requests import hotlines, restrictions
from callward.retention.requests import register as request_register
from callward.retention.requests.register import SERVICE, TOLD, WAITING, Refusal, Request, Selector
from callward.retention.requests.search import Found, Hit, search, token_secret
from callward.settings import Settings
from callward.storage.durable import create
from pipelines import terminal
from pipelines.engine import run as engine
from pipelines.reports.request import Elsewhere, ErasuresFinished, RequestReport, report
from pipelines.results import to_document
from pipelines.vacuum import remove_orphans
from schemas.cdr import DIRECTIONS
from schemas.retention_classes import CLASSES
from schemas.tables import lake_files
from schemas.views import BILLING_NUMBERS, FOUND_BY, STORED, TOKENS, VIEW_BITS
from transforms.fulfil_request import FulfilRequest
from transforms.spread import Spread

LEASE: Final = "purge"  # one at a time: a purge and an erasure write the same partitions anew
FORMAT_VERSION: Final = 1
_CONFLICTS: Final = "other runs commit faster than the rows can be written anew; nothing was changed: answer it later"
# What an answer shows of a call. Ids, tokens, trunks and carriers are the network's; the account only to whose it is.
_SHOWN: Final = ("start", "answer", "end", "talk_ms", "direction", *FOUND_BY, "destination")
# Numbers in these roles are shown to the side that they are of; only the parties' own may be shown to the other one.
_OF_CALLER: Final = ("asserted_number", "charge_number")
_OF_CALLED: Final = ("rated_number", "redirecting_number")
_CHARGED: Final = ("account", "billable_s", "rate", "charge", "currency")
_READ: Final = (*_SHOWN, *_CHARGED, "charged_side", "calling_presentation", "jurisdiction")
COLUMNS: Final = (*_SHOWN, "jurisdiction", *_CHARGED)
# Where a person's records may lie that nobody can look for, and the class whose window ends them.
_UNSEARCHED: Final = {"suspense": "suspense", "archive": "archive", "pending": "call_detail"}


@dataclass(frozen=True)
class NewRequest:
    """What the command line says of a request, beside whom it is about."""

    tenant: str
    kind: str
    regime: str | None = None
    identity: str = ""
    received: date | None = None
    wants: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Handler:
    """Who handles a request, and where an answer with calls is written."""

    person: str
    key_file: Path
    to: Path | None = None


def selector(settings: Settings, tenant: str, number: str | None, account: str | None, country: str | None) -> Selector:
    """Whom a request is about: a number, read as the tenant's sources would, or an account."""
    if (number is None) == (account is None):
        raise UsageProblem("say whom it is about: a number (--number-file -) or --account")
    if account is not None:
        return Selector("account", account)
    return Selector("number", holds.normalized(settings, tenant, [str(number)], country)[0])


# -- from the request to its answer --------------------------------------------------------------------------------


def ask(
    settings: Settings, asked: NewRequest, whom: Selector, hand: Handler, today: date, *, dry_run: bool
) -> RequestReport:
    """Record a request and answer it at once, if the identity was verified; what became of it, without a number."""
    workspace_id.check(settings)
    wants = dict(asked.wants or {})
    _check_wants(settings, asked.tenant, asked.kind, wants)
    request = request_register.received(
        settings,
        asked.tenant,
        asked.kind,
        whom,
        regime=asked.regime,
        identity=asked.identity,
        wants=wants,
        today=today,
        on=asked.received,
    )
    if dry_run:
        return report(request, today, dry_run=True, found=_counted(settings, request), request_id=None)
    if request.identity and asked.kind in TOLD:
        _check_target(settings, asked.kind, hand.to)
    request = request_register.record(settings, request, hand.person, hand.key_file)
    if not request.identity and not _is_processor(settings, request):
        return report(request, today)
    return _answer(settings, request, hand, today)


def answer(
    settings: Settings,
    request_id: str,
    hand: Handler,
    today: date,
    *,
    identity: str = "",
    refuse: str = "",
    note: str = "",
    dry_run: bool = False,
) -> RequestReport:
    """Answer a request that waits: do what it asks, or refuse it with a code. A dry run counts what is found."""
    request = request_register.find(settings, request_id)
    if request.status not in WAITING:
        raise UsageProblem(f"request {request_id} is {request.status}; 'callward request appeal' takes it up again")
    if refuse:
        code = _code(refuse)
        if dry_run:
            return report(request_register.refused(request, code), today, dry_run=True)
        return _refuse(settings, request, code, hand, today, note)
    if not (identity or request.identity):
        raise UsageProblem("say how the identity was verified (--identity), or refuse it: --refuse IDENTITY")
    if request.kind in TOLD:
        _check_target(settings, request.kind, hand.to)
    verified = replace(request, identity=identity or request.identity)
    if dry_run:
        return report(verified, today, dry_run=True, found=_counted(settings, verified))
    request = request_register.change(settings, request, verified, "verified", hand.person, hand.key_file, note)
    return _answer(settings, request, hand, today)


def _code(text: str) -> Refusal:
    if text not in set(Refusal):
        raise UsageProblem(f"--refuse takes one of {', '.join(Refusal)}")
    return Refusal(text)


def _refuse(
    settings: Settings, request: Request, code: Refusal, hand: Handler, today: date, note: str = ""
) -> RequestReport:
    made = request_register.refused(request, code)
    event = "referred" if code == Refusal.REFERRED else "refused"
    return report(request_register.change(settings, request, made, event, hand.person, hand.key_file, note), today)


def _answer(settings: Settings, request: Request, hand: Handler, today: date) -> RequestReport:
    if _is_processor(settings, request):
        return replace(_refuse(settings, request, Refusal.REFERRED, hand, today), addressee=request.tenant)
    if request.status != request_register.APPEALED and request_register.is_repeated(settings, request):
        return _refuse(settings, request, Refusal.REPEATED, hand, today)
    if request.kind in TOLD:
        return _tell(settings, request, hand, today)
    if request.kind == "restrict":
        return _restrict(settings, request, hand, today)
    if request.kind == "correct" and "statement" in request.wants:
        return _refuse(settings, request, Refusal.AS_RECORDED, hand, today)
    return _altered(settings, request, today)


def _is_processor(settings: Settings, request: Request) -> bool:
    return _policies(settings, request.tenant).current.role == "processor"


def _policies(settings: Settings, tenant: str) -> Policies:
    with database.reading(settings) as connection:
        return policy_register.in_force(settings, connection)[tenant]


def _check_wants(settings: Settings, tenant: str, kind: str, wants: Mapping[str, Any]) -> None:
    """Check what a correction sets: the account and the direction, never a number, a time or an amount."""
    if kind != "correct":
        return
    if bool(wants.keys() & {"account", "direction"}) == ("statement" in wants):
        raise UsageProblem("say what is right (--set account=ID, --set direction=WORD), or give --statement-file")
    account, direction = wants.get("account"), wants.get("direction")
    if account is not None and account not in {a.id for a in settings.accounts if a.tenant == tenant}:
        raise UsageProblem("--set account: no such account of this tenant is in the settings")
    if direction is not None and direction not in DIRECTIONS:
        raise UsageProblem(f"--set direction is one of {', '.join(DIRECTIONS)}")


# -- what is held, and calls -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calls:
    """What of a person's records may be given: calls as an answer shows them, and what is held by view."""

    rows: pa.Table
    held: Mapping[str, tuple[int, date | None, date | None]]  # rows, oldest and newest call date


def _dates(settings: Settings, request: Request) -> list[str]:
    """Dates (ISO) that a request is about and that have data."""
    f = lake_files.c
    query = select(f.part).where(f.tenant == request.tenant, f.view.in_(STORED), f.superseded_at.is_(None)).distinct()
    first = request.since if request.kind in TOLD else _day(request.wants.get("from"))
    last = _day(request.wants.get("to"))
    with database.reading(settings) as connection:
        parts = sorted(connection.execute(query).scalars())
    return [p for p in parts if (first is None or p >= first.isoformat()) and (last is None or p <= last.isoformat())]


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _files(settings: Settings, request: Request, run_id: str = "request") -> DataFiles:
    reason = f"{request.kind} request {request.request_id}"
    return open_files(settings, SERVICE, reason, run_id, database.now().strftime("%Y-%m"))


def calls(settings: Settings, request: Request) -> Calls:
    """Return a person's records, less what no answer shows; dates that hold none cost a column or two of the index."""
    files, unseen = _files(settings, request), pa.array(hotlines.numbers(hotlines.lists(settings)), pa.string())
    shown: list[pa.Table] = []
    days: dict[str, list[tuple[str, int]]] = {view: [] for view in VIEW_BITS}
    for day in _dates(settings, request):
        found = search(files, request.tenant, day, request.selector, request.recorded_at)
        found = _without_hotlines(files, request.tenant, day, found, unseen)
        for view in VIEW_BITS:
            located = list(row_index.in_view(files, view, request.tenant, day, found.record_ids))
            days[view].append((day, sum(len(part.position) for part in located)))
            if view == "billing":
                shown += [_shown(settings, files, request, found, part) for part in located]
    return Calls(_joined(shown), {view: _span(counted) for view, counted in days.items()})


def _span(counted: Sequence[tuple[str, int]]) -> tuple[int, date | None, date | None]:
    days = [date.fromisoformat(day) for day, rows in counted if rows]
    return sum(rows for _, rows in counted), min(days, default=None), max(days, default=None)


def _without_hotlines(files: DataFiles, tenant: str, day: str, found: Found, unseen: pa.Array) -> Found:
    """Return the records that do not call hotlines: no answer shows or counts those that do (47 CFR 64.6408)."""
    secret = token_secret(files.workspace, tenant, day[:7])
    if secret is None:
        return found
    named = tokens.number_token(unseen, secret)
    return Found([_without(hit, named) for hit in found.hits])


def _without(hit: Hit, called: pa.Array) -> Hit:
    for name in ("called_token", "rated_token"):
        if name in hit.rows.column_names:
            hit = hit.only(~np.asarray(pc.is_in(flat(hit.rows[name]), called)))
    return hit


def _shown(settings: Settings, files: DataFiles, request: Request, found: Found, located: Located) -> pa.Table:
    """Return rows of a billing data file as their person may see them."""
    columns = [name for name in _READ if located.file.numbers or name not in BILLING_NUMBERS]
    rows = files.rows(located.file, columns).take(pa.array(located.position))
    for name in set(_READ) - set(columns):
        rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
    calling, called = found.calling[located.asked], found.called[located.asked]
    is_called = called & ~calling
    by_number = request.selector.kind == "number"
    if not by_number:
        is_called = _answers(rows)
    rows = _without_withheld(rows, is_called)
    rows = _only_where(rows, dict.fromkeys(_OF_CALLER, ~is_called) | dict.fromkeys(_OF_CALLED, is_called))
    if settings.tenants[request.tenant].requests.other_numbers == "hidden":
        rows = _only_where(rows, _own(found, located) if by_number else _of_sides(is_called))
    if by_number:
        rows = _without_charges(rows, calling, called)
    return rows.select(list(COLUMNS))


def _answers(rows: pa.Table) -> np.ndarray:
    """For an account: calls that it may have received, which is all that it did not certainly make."""
    paid = pc.and_(pc.equal(rows["charged_side"], "calling"), pc.not_equal(rows["direction"], "inbound"))
    made = pc.or_kleene(paid, pc.equal(rows["direction"], "outbound"))
    return ~np.asarray(flat(made.fill_null(False)).to_numpy(zero_copy_only=False), np.bool_)


def _without_withheld(rows: pa.Table, is_called: np.ndarray) -> pa.Table:
    """Hide a caller who withheld the number from the called party (47 CFR 64.1601(b))."""
    withheld = np.asarray(has_value(rows["calling_presentation"], "restricted"))
    return _hidden(rows, "calling_number", withheld & is_called)


def _own(found: Found, located: Located) -> dict[str, np.ndarray]:
    """Return where each number is the person's own."""
    return {name: found.named[token][located.asked] for name, token in zip(FOUND_BY, TOKENS, strict=True)}


def _of_sides(is_called: np.ndarray) -> dict[str, np.ndarray]:
    return {"calling_number": ~is_called, "called_number": is_called}


def _only_where(rows: pa.Table, shown: Mapping[str, np.ndarray]) -> pa.Table:
    for name, where in shown.items():
        rows = _hidden(rows, name, ~where)
    return rows


def _without_charges(rows: pa.Table, calling: np.ndarray, called: np.ndarray) -> pa.Table:
    """Show what a call cost, and whom, only to who paid for it."""
    side = rows["charged_side"]
    paid = (np.asarray(has_value(side, "calling")) & calling) | (np.asarray(has_value(side, "called")) & called)
    for name in _CHARGED:
        rows = _hidden(rows, name, ~paid | (name == "account"))
    return rows


def _hidden(rows: pa.Table, name: str, where: np.ndarray) -> pa.Table:
    kind = rows.schema.field(name).type
    return set_column(rows, name, pc.if_else(pa.array(where), pa.scalar(None, kind), flat(rows[name])))


def _joined(shown: list[pa.Table]) -> pa.Table:
    if not shown:
        return pa.table({name: pa.array([], pa.string()) for name in COLUMNS})
    return pa.concat_tables(shown, promote_options="permissive").sort_by("start")


def _counted(settings: Settings, request: Request) -> dict[str, int]:
    return {view: found[0] for view, found in calls(settings, request).held.items()}


# -- access, export --------------------------------------------------------------------------------------------------


def _tell(settings: Settings, request: Request, hand: Handler, today: date) -> RequestReport:
    """Write what may be given into files that their owner alone reads; nothing to give is NOT_FOUND."""
    found = calls(settings, request)
    if not any(rows for rows, _, _ in found.held.values()):
        return _refuse(settings, request, Refusal.NOT_FOUND, hand, today)
    document = _document(settings, request, found, today)
    written = _written(request.kind, hand.to, document, found.rows)
    point("request-written")
    made = request_register.answered(request, {"calls": found.rows.num_rows})
    event = "answered" if request.kind == "access" else "exported"
    made = request_register.change(settings, request, made, event, hand.person, hand.key_file)
    return report(made, today, files=[str(path) for path in written])


def _document(settings: Settings, request: Request, found: Calls, today: date) -> dict[str, Any]:
    governed = _policies(settings, request.tenant)
    return {
        "format_version": FORMAT_VERSION,
        "request_id": request.request_id,
        "controller": request.tenant,
        "asked_by": {request.selector.kind: request.selector.value},
        "received": request.received,
        "answered_on": today,
        "calls_since": request.since,
        "policy": {"name": governed.current.name, "version": governed.current.version},
        "classes": _classes(governed, found),
        "elsewhere": to_document(elsewhere(governed, today)),
        "recipients": "none recorded",
        "calls": found.rows.to_pylist(),
    }


def _classes(governed: Policies, found: Calls) -> list[dict[str, Any]]:
    """Per class what is held, what for, until when; numbers count with the calls that have them."""
    numbered = found.rows.filter(
        pc.or_(pc.is_valid(found.rows["calling_number"]), pc.is_valid(found.rows["called_number"]))
    )
    rows = {
        "call_detail": (numbered.num_rows, *found.held["billing"][1:]),
        "billing_transaction": found.held["billing"],
        "assurance_metrics": found.held["assurance"],
    }
    return [
        {
            "class": name,
            "what": CLASSES[name].what,
            "purposes": sorted(governed.current.purposes),
            "rows": counted,
            "oldest": oldest,
            "newest": newest,
            **_rule(governed, name),
        }
        for name, (counted, oldest, newest) in rows.items()
    ]


def _rule(governed: Policies, name: str) -> dict[str, Any]:
    rule = governed.current.rules.get(name)
    if rule is None:
        return {"window": None, "basis": None}
    return {"window": str(rule.window), "from": rule.clock, "basis": rule.basis}


def elsewhere(governed: Policies, today: date) -> list[Elsewhere]:
    """Return where records may lie that nobody can look for, as the windows in force say."""
    places = []
    for place, cls in _UNSEARCHED.items():
        rule = governed.current.rules.get(cls)
        until = rule.window.last_day(today) if rule else None
        places.append(Elsewhere(place, CLASSES[cls].what if place == cls else "pieces of calls", until))
    return places


def _check_target(settings: Settings, kind: str, to: Path | None) -> None:
    """Check that an answer goes into a new file or folder outside the workspace, where no number lies in the clear."""
    if to is None:
        raise UsageProblem(f"say where the answer goes: --to {'FILE' if kind == 'access' else 'FOLDER'}")
    if to.exists() and not (kind == "export" and to.is_dir() and not any(to.iterdir())):
        raise UsageProblem(f"--to {mask(str(to))}: it is there already")
    if not to.absolute().parent.is_dir():
        raise UsageProblem(f"--to {mask(str(to))}: there is no such folder")
    if to.resolve().is_relative_to(settings.folder.resolve()):
        raise UsageProblem("--to: an answer holds numbers in the clear, so it does not go into the workspace")


def _written(kind: str, to: Path | None, document: Mapping[str, Any], rows: pa.Table) -> list[Path]:
    if to is None:
        raise UsageProblem("say where the answer goes: --to")
    text = json.dumps(document, indent=1, default=terminal.plain) + "\n"
    if kind == "access":
        return [create(to, text.encode())]
    to.mkdir(mode=0o700, exist_ok=True)
    table = to / "calls.csv"
    lines, safe_rows = io.StringIO(newline=""), csv_cells.safe_table(rows)
    writer = csv.writer(lines)
    writer.writerow(safe_rows.column_names)
    writer.writerows([_plain(value) for value in row.values()] for row in safe_rows.to_pylist())
    create(table, lines.getvalue().encode())
    return [create(to / "answer.json", text.encode()), table]


def _plain(value: Any) -> Any:
    return "" if value is None else terminal.plain(value) if not isinstance(value, str | int | float) else value


# -- erase, correct --------------------------------------------------------------------------------------------------


def _altered(settings: Settings, request: Request, today: date) -> RequestReport:
    """Write the person's rows anew, in a batch, until no other commit comes between; then the proof."""
    dates = _dates(settings, request)
    with runs.running(settings, request.kind, [LEASE]) as run_id:
        _resume(settings, run_id, today)
        completion.check(settings)
        remove_orphans(settings)
        _write_anew(settings, request, run_id, dates, today)
        certificate = erasure_disposal.finish(settings, run_id, run_id, today)
        runs.finish(settings, run_id, "done", {"request_id": request.request_id})
    restrictions.mark(settings)
    answered = request_register.find(settings, request.request_id)
    rest = elsewhere(_policies(settings, request.tenant), today) if request.kind == "erase" else None
    return report(answered, today, certificate=certificate, elsewhere=rest)


def _write_anew(settings: Settings, request: Request, run_id: str, dates: Sequence[str], today: date) -> None:
    """Run the batch; whether its commit went through is seen by the request. Raises ConflictsPersist."""
    reference, before = _files(settings, request).workspace.reference, len(request.history)

    def build(pipeline: beam.Pipeline) -> None:
        fulfil = FulfilRequest(reference, run_id, request.request_id, today)
        pipeline | "Dates" >> Spread(["", *dates], str) | "FulfilRequest" >> fulfil

    def work(attempt: int) -> None:
        engine.run(settings, reference, build)
        if len(request_register.find(settings, request.request_id).history) == before:
            raise CommitConflict

    retry_on_conflict(work, sentence=_CONFLICTS)
    remove_orphans(settings, [run_id])


def _resume(settings: Settings, run_id: str, today: date) -> None:
    """Erasures that were killed between their two steps. A purge that was killed must end first: it may take back."""
    with database.reading(settings) as connection:
        if purge_disposal.under_way(connection):
            raise Problem("a purge was stopped before its end; run 'callward purge' first, then answer the request")
    for erasure in erasure_disposal.unfinished(settings):
        erasure_disposal.finish(settings, erasure.disposal_id, run_id, today)


def finish_erasures(settings: Settings, today: date, *, dry_run: bool = False) -> ErasuresFinished:
    """Erasures that had to leave something, once more: a hold may have been released, a floor may have passed.

    A dry run says which these are.
    """
    if dry_run:
        return ErasuresFinished([report(request, today, dry_run=True) for request in _with_rows_left(settings)])
    with runs.running(settings, "erase", [LEASE]) as run_id:
        _resume(settings, run_id, today)
        runs.finish(settings, run_id, "done")
    return ErasuresFinished([_altered(settings, request, today) for request in _with_rows_left(settings)])


def _with_rows_left(settings: Settings) -> list[Request]:
    """Return erasures that had to leave something."""
    return [
        request
        for request in request_register.list_requests(settings, everything=True)
        if request.kind == "erase" and request.status not in WAITING and request.answer.get("left")
    ]


# -- restrict --------------------------------------------------------------------------------------------------------


def _restrict(settings: Settings, request: Request, hand: Handler, today: date) -> RequestReport:
    """Hide a person's rows from SQL, or show them again. A restriction's own retention begins when it is lifted."""
    lift = bool(request.wants.get("lift"))
    if lift and not restrictions.lift(settings, request):
        return _refuse(settings, request, Refusal.NOT_FOUND, hand, today)
    if not lift:
        restrictions.restrict(settings, request)
    point("request-restricted")
    restrictions.mark(settings, everything=True)
    made = request_register.answered(request, {"restricted": not lift})
    made = replace(made, answered_at=made.answered_at if lift else None)
    event = "unrestricted" if lift else "restricted"
    return report(request_register.change(settings, request, made, event, hand.person, hand.key_file), today)
