"""Alter: a person's rows of one date written anew, as a request asks: erased, or corrected.

What a legal hold matches stays as it is, and so do numbers while the law requires them. Where the law requires amounts
alone, a billing row stays without the person's side of it. Everything else leaves both views, and its record ids are
noted, so that the same records do not come in again. Derived tables follow by differences, in the same commit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, Final

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PCollection
from sqlalchemy import Connection, select

from callward import database
from callward.columns import flat, has_value, set_column
from callward.disposal import erasure as erasure_disposal
from callward.disposal.erasure import RequestChanges
from callward.disposal.record import Item
from callward.keys import tokens
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes, CommitConflict, DataFile
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies, call_clock
from callward.retention.policy.rules import floor_of
from callward.retention.requests.register import Request, find
from callward.retention.requests.search import Found, Hit, Secrets, record_ids, search, secrets
from callward.workspace import WorkspaceRef, open_workspace
from schemas.retention import suppressions
from schemas.views import BILLING_NUMBERS
from transforms.drop_expired import suppression_ids
from transforms.elements import Rewrite
from transforms.safe_errors import SafeDoFn
from transforms.summarize import negative, summarize
from transforms.write import rewrite

Mask = npt.NDArray[np.bool_]

ERASED_ACCOUNT: Final = "erased"
_SIDES: Final = {"calling": ("calling_number", "calling_token"), "called": ("called_number", "called_token")}


@dataclass
class Fulfilled:
    """What a date's rows came to: for the commit, and counts (removed, blanked, corrected, kept) by view."""

    holds: str = ""  # fingerprint of the holds that were looked at
    outcome: Changes = field(default_factory=Changes)
    suppressed: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class TenantRules:
    """What stands in the way of a request on a day: the tenant's policy and the holds that block."""

    policies: Policies
    found: Sequence[Hold]
    fingerprint: str
    today: date

    def requires(self, cls: str, day: date) -> bool:
        """Return whether a class's floor, by the policy or by law, has not passed for calls of a day."""
        return self.today <= floor_of(self.policies, cls, call_clock(day))


@dataclass(frozen=True)
class Work:
    """One date of a request at work."""

    files: DataFiles
    request: Request
    law: TenantRules
    day: date
    month: Secrets

    @property
    def tenant(self) -> str:
        return self.request.tenant

    def held(self, hit: Hit) -> Mask:
        """Return which of a data file's rows a hold keeps."""
        asked = holds.covering(self.law.found, self.tenant, self.day, self.day)
        if not asked:
            return np.zeros(hit.file.rows, np.bool_)
        view, names = hit.file.view, holds.columns(hit.file.view, asked)
        rows = self.files.rows(hit.file, [name for name in names if hit.file.numbers or name not in BILLING_NUMBERS])
        if not names:
            rows = self.files.rows(hit.file, ["start"])
        opened = holds.secrets(self.files.workspace, self.tenant, self.day.isoformat()[:7])
        return np.asarray(holds.matching(view, rows, self.tenant, self.day, asked, opened), np.bool_)


def fulfil_request(files: DataFiles, request: Request, law: TenantRules, call_date: str, known: pa.Array) -> Fulfilled:
    """Do what a request asks for, over one of its tenant's dates (ISO); write data files that do not count yet.

    `known`: record ids that an earlier go at the same request has taken out.
    """
    fulfilled = Fulfilled(law.fingerprint)
    with database.reading(files.workspace.settings) as connection:
        read = ledger.versions(connection, request.tenant, [call_date])
    month = secrets(files.workspace, request.tenant, call_date[:7])
    work = Work(files, request, law, date.fromisoformat(call_date), month)
    whose = search(files, request.tenant, call_date, request.selector, month, request.recorded_at, known)
    if whose.billing or whose.assurance:
        change = _correct if request.kind == "correct" else _erase
        change(work, whose, fulfilled)
    if fulfilled.outcome.superseded:
        fulfilled.outcome.read = read
    return fulfilled


# -- erase -------------------------------------------------------------------------------------------------------------


def _erase(work: Work, whose: Found, fulfilled: Fulfilled) -> None:
    day, requires = work.day, work.law.requires
    numbers_stay, amounts_stay = requires("call_detail", day), requires("billing_transaction", day)
    row_stays = amounts_stay or requires("assurance_metrics", day)
    paid = _ids_of_payer(work, whose)
    for hit in whose.billing:
        free = hit.rows & ~work.held(hit) & (not numbers_stay)
        removed = free & (not amounts_stay)
        _rewrite(work, hit, removed, free & ~removed, partial(_blanked, work, hit), fulfilled)
    for hit in whose.assurance:
        free = hit.rows & ~work.held(hit) & (not numbers_stay)
        removed = free & (not row_stays)
        blank = free & ~removed & _payer(work, hit, paid)
        _rewrite(
            work, hit, removed, blank, lambda rows, at: _null(rows, ["account_token"]), fulfilled, spared=free & ~blank
        )


def _ids_of_payer(work: Work, whose: Found) -> pa.Array | None:
    """Record ids of the calls that the person paid for; None for all: the request is about an account."""
    if work.request.selector.kind == "account":
        return None
    paid = [hit for hit in (_of_payer(work, hit) for hit in whose.billing) if hit.rows.any()]
    return record_ids(work.files, paid, work.month.billing_id)


def _of_payer(work: Work, hit: Hit) -> Hit:
    side = work.files.rows(hit.file, ["charged_side"])["charged_side"]
    calling, called = (np.asarray(has_value(side, name)) for name in _SIDES)
    return Hit(hit.file, hit.calling & calling, hit.called & called)


def _payer(work: Work, hit: Hit, paid: pa.Array | None) -> Mask:
    """Return which rows of the assurance view bear the person's own account."""
    bears = np.asarray(pc.is_valid(flat(work.files.rows(hit.file, ["account_token"])["account_token"])), np.bool_)
    if paid is None or work.month.assurance_id is None:
        return bears & (paid is None)
    ids = tokens.permute(paid, work.month.assurance_id)
    return bears & np.asarray(pc.is_in(tokens.from_u64(work.files.ids(hit.file)), ids), np.bool_)


def _blanked(work: Work, hit: Hit, rows: pa.Table, at: np.ndarray) -> pa.Table:
    """Billing rows without the person's side: its number and token; for an account its name and all numbers."""
    if work.request.selector.kind == "account":
        account = pa.repeat(ERASED_ACCOUNT, rows.num_rows).cast(rows.schema.field("account").type)
        return set_column(_null(rows, BILLING_NUMBERS), "account", account)
    for mask, names in ((hit.calling, _SIDES["calling"]), (hit.called, _SIDES["called"])):
        rows = _null(rows, names, pa.array(mask[at]))
    return rows


def _null(rows: pa.Table, names: Iterable[str], where: pa.Array | None = None) -> pa.Table:
    """Return the rows with null in some columns, of those that the table has."""
    for name in names:
        if name in rows.column_names:
            kind = rows.schema.field(name).type
            nothing = pa.nulls(rows.num_rows, kind)
            rows = set_column(rows, name, nothing if where is None else pc.if_else(where, nothing, flat(rows[name])))
    return rows


# -- correct -----------------------------------------------------------------------------------------------------------


def _correct(work: Work, whose: Found, fulfilled: Fulfilled) -> None:
    wanted = {name: work.request.wants[name] for name in ("account", "direction") if work.request.wants.get(name)}
    for hit in whose.billing:
        free = hit.rows & ~work.held(hit)
        _rewrite(work, hit, free & False, free, lambda rows, at: _with(rows, wanted), fulfilled)
    if "account" not in wanted or work.month.account is None:
        return
    token = tokens.mac([pa.array([wanted["account"]])], work.month.account)[0]
    for hit in whose.assurance:
        free = hit.rows & ~work.held(hit)
        _rewrite(work, hit, free & False, free, lambda rows, at: _with(rows, {"account_token": token}), fulfilled)


def _with(rows: pa.Table, values: dict[str, Any]) -> pa.Table:
    for name, value in values.items():
        kind = rows.schema.field(name).type
        scalar = value if isinstance(value, pa.Scalar) else pa.scalar(value, kind)
        rows = set_column(rows, name, pa.repeat(scalar, rows.num_rows).cast(kind))
    return rows


# -- writing -----------------------------------------------------------------------------------------------------------


def _rewrite(
    work: Work,
    hit: Hit,
    removed: Mask,
    changed: Mask,
    change: Callable[[pa.Table, np.ndarray], pa.Table],
    fulfilled: Fulfilled,
    spared: Mask | None = None,
) -> None:
    """Write a data file without the rows `removed` and with `changed` ones in their new form; note all that follows.

    `spared`: rows that the request takes nothing from, though nothing keeps them from it.
    """
    view, left = hit.file.view, removed | changed
    kept = hit.rows & ~left & (True if spared is None else ~spared)
    fulfilled.counts[f"{view} kept"] += int(kept.sum())
    if not left.any():
        return
    verb = "corrected" if work.request.kind == "correct" else "blanked"
    fulfilled.counts[f"{view} removed"] += int(removed.sum())
    fulfilled.counts[f"{view} {verb}"] += int(changed.sum())
    rows, lineage, at = work.files.rows(hit.file), work.files.lineage(hit.file), np.flatnonzero(changed)
    made = change(rows.take(pa.array(at)), at)
    anew = Rewrite(hit.file, np.flatnonzero(removed), at, made, lineage.take(pa.array(at)))
    written = rewrite(anew, work.files)
    fulfilled.outcome.files += written.files
    fulfilled.outcome.superseded |= written.superseded
    _follow(work, view, rows.filter(pa.array(left)), made, fulfilled.outcome)
    if removed.any():
        fulfilled.outcome.ends.append(ledger.ends(lineage["file_no"].filter(pa.array(removed)), view, "erased"))
    if work.request.kind == "erase":
        fulfilled.suppressed += _suppressed(work, Hit(hit.file, left, left))
        fulfilled.items.append(_item(hit.file, removed, left))


def _follow(work: Work, view: str, before: pa.Table, after: pa.Table, outcome: Changes) -> None:
    """Return the differences of the derived tables."""
    zone = work.files.workspace.settings.tenants[work.tenant].zone
    for derived in (negative(summarize(view, before, work.tenant, zone)), summarize(view, after, work.tenant, zone)):
        for name, table in derived.items():
            outcome.derived.setdefault(name, []).append(table)


def _suppressed(work: Work, hit: Hit) -> list[str]:
    """Return the records of rows, as the register of suppressions names them."""
    secret = work.month.billing_id if hit.file.view == "billing" else work.month.assurance_id
    records = record_ids(work.files, [hit], secret)
    return [record.hex() for record in suppression_ids(records, work.tenant, work.files.workspace).to_pylist()]


_CLASS_OF: Final = {"billing": "billing_transaction", "assurance": "assurance_metrics"}


def _item(file: DataFile, removed: Mask, left: Mask) -> Item:
    """Return the data file as a certificate lists it."""
    blanked_only = file.view == "billing" and not removed.any()
    return Item(
        retention_class="call_detail" if blanked_only else _CLASS_OF[file.view],
        action="delete" if removed.all() else "rewrite",
        tenant=file.tenant,
        view=file.view,
        part=file.part,
        file_id=file.file_id,
        rows=int(left.sum()),
        held=0,
    )


def known_records(connection: Connection, request: Request, files: DataFiles) -> pa.Array:
    """Record ids that an earlier go at the request has taken out."""
    mine = (suppressions.c.tenant == request.tenant) & (suppressions.c.request_id == request.request_id)
    names = connection.execute(select(suppressions.c.record).where(mine)).scalars().all()
    if not names:
        return pa.array([], tokens.ID_TYPE)
    ids = pa.array([bytes.fromhex(name) for name in names], tokens.ID_TYPE)
    return tokens.unpermute(ids, files.workspace.id_secret(request.tenant, "suppression"))


@dataclass(eq=False)
class FulfilRequest(beam.PTransform[PCollection[str], PCollection[None]]):
    """PCollection[str] of dates (ISO) → all that the request asks for, in one commit.

    Whom it is about is opened on the worker, from the request's id; it is never part of an element.
    """

    reference: WorkspaceRef
    run_id: str
    request_id: str
    today: date

    def expand(self, dates: PCollection[str]) -> PCollection[None]:
        work = beam.ParDo(_FulfilRequestFn(self.reference, self.run_id, self.request_id, self.today))
        return (
            dates
            | "AlterRows" >> work.with_output_types(Fulfilled)
            | "OneRequest" >> beam.WithKeys(0)
            | "Gather" >> beam.GroupByKey()
            | "CommitOnce" >> beam.ParDo(_CommitFn(self.reference, self.run_id, self.request_id, self.today))
        )


class _FulfilRequestFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, request_id: str, today: date) -> None:
        self._reference, self._run_id, self._request_id, self._today = reference, run_id, request_id, today

    def setup(self) -> None:
        super().setup()
        self._files = DataFiles(open_workspace(self._reference), self._run_id)
        settings = self._files.workspace.settings
        self._request = find(settings, self._request_id)
        with database.reading(settings) as connection:
            fingerprint = holds.fingerprint(connection)
            policies = policy_register.in_force(settings, connection)[self._request.tenant]
            self._known = known_records(connection, self._request, self._files)
        self._law = TenantRules(policies, holds.opened(settings, today=self._today), fingerprint, self._today)

    def process(self, call_date: str) -> Iterator[Fulfilled]:
        """The empty date stands for none, so that the request is answered even where there is nothing to look at."""
        nothing = Fulfilled(self._law.fingerprint)
        yield fulfil_request(self._files, self._request, self._law, call_date, self._known) if call_date else nothing


class _CommitFn(SafeDoFn):
    def __init__(self, reference: WorkspaceRef, run_id: str, request_id: str, today: date) -> None:
        self._reference, self._run_id, self._request_id, self._today = reference, run_id, request_id, today

    def process(self, element: tuple[int, Iterable[Fulfilled]]) -> None:
        """Commit all dates together, or nothing: whoever started this sees by the request whether it was done."""
        settings, parts = open_workspace(self._reference).settings, list(element[1])
        try:
            changes = RequestChanges(
                Changes.merge(part.outcome for part in parts),
                sorted({record for part in parts for record in part.suppressed}),
                [item for part in parts for item in part.items],
                sum((part.counts for part in parts), Counter()),
                {part.holds for part in parts},
            )
            erasure_disposal.commit(settings, self._run_id, self._request_id, changes, self._today)
        except CommitConflict:
            return
