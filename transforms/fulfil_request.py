"""Alter: a person's rows of one date written anew, as a request asks: erased, or corrected.

What a legal hold matches stays as it is, and so do numbers while the law requires them. Where the law requires amounts
alone, a billing row stays without the person's side of it. Everything else leaves the views, and its record ids are
noted, so that the same records do not come in again. The row index, which says what is the person's, and the derived
tables, by differences, follow in the same commit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from types import NoneType
from typing import Any, Final, TypeAlias

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
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles, inputs_of
from callward.lake.ledger import Changes, CommitConflict
from callward.lake.row_index import Located, Positions
from callward.retention import holds
from callward.retention.holds import Hold
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies, call_clock
from callward.retention.policy.rules import floor_of
from callward.retention.requests.register import Request, find
from callward.retention.requests.search import Found, search
from callward.workspace import WorkspaceRef, open_workspace
from schemas.codes import ERASED_ACCOUNT, Bucket
from schemas.retention import suppressions
from schemas.views import BILLING_NUMBERS, FOUND_BY, INDEX, PARTS, STORED, TOKENS, VIEW_BITS, VIEW_OF
from transforms.drop_expired import suppression_ids
from transforms.elements import Rewrite
from transforms.safe_errors import SafeDoFn
from transforms.summarize import negative, summarize
from transforms.write import rewrite

Mask = npt.NDArray[np.bool_]

# What goes with a person's number in a role; by its token, which the row index has.
_GOES_WITH: Final = {"calling_token": ("oli",), "called_token": ("lrn",)}
_OF_ROLE: Final = {t: (t, number, *_GOES_WITH.get(t, ())) for t, number in zip(TOKENS, FOUND_BY, strict=True)}


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
    """One date of a request at work; masks are over the person's records of it (shape [records])."""

    files: DataFiles
    request: Request
    law: TenantRules
    day: date
    found: Found

    @property
    def tenant(self) -> str:
        return self.request.tenant

    @property
    def by_account(self) -> bool:
        return self.request.selector.kind == "account"

    @property
    def theirs(self) -> Mask:
        """Return which records name the person: not those that an earlier go took the person out of."""
        return self.found.calling | self.found.called

    def free(self) -> Mask:
        """Return which records no hold keeps."""
        asked = holds.covering(self.law.found, self.tenant, self.day, self.day)
        opened = holds.secrets(self.files.workspace, self.tenant, self.day.isoformat()[:7])
        held = [holds.matching(INDEX, hit.rows, self.tenant, self.day, asked, opened) for hit in self.found.hits]
        return ~np.concatenate([np.zeros(0, np.bool_), *held])

    def located(self, part: str) -> Iterator[Located]:
        """Yield where rows of the records lie in the data files of a part of a view."""
        return row_index.in_part(self.files, part, self.tenant, self.day.isoformat(), self.found.record_ids)


# Rows of a data file, and which record each is of, → the rows as they are to be.
Rewriting: TypeAlias = Callable[[pa.Table, Positions], pa.Table]


@dataclass(frozen=True)
class Wanted:
    """What is to become of the person's records in one view: which go, which change and how (masks over records)."""

    removed: Mask
    changed: Mask
    change: Rewriting


def fulfil_request(files: DataFiles, request: Request, law: TenantRules, call_date: str, known: pa.Array) -> Fulfilled:
    """Do what a request asks for, over one of its tenant's dates (ISO); write data files that do not count yet.

    `known`: record ids that an earlier go at the same request has taken out.
    """
    fulfilled = Fulfilled(law.fingerprint)
    with database.reading(files.workspace.settings) as connection:
        read = ledger.versions(connection, request.tenant, [call_date])
    found = search(files, request.tenant, call_date, request.selector, request.recorded_at, known)
    if len(found.record_ids):
        change = _correct if request.kind == "correct" else _erase
        change(Work(files, request, law, date.fromisoformat(call_date), found), fulfilled)
    if fulfilled.outcome.superseded:
        fulfilled.outcome.read = read
    return fulfilled


# -- erase -------------------------------------------------------------------------------------------------------------


def _erase(work: Work, fulfilled: Fulfilled) -> None:
    day, requires = work.day, work.law.requires
    amounts_stay = requires("billing_transaction", day)
    row_stays = amounts_stay or requires("assurance_metrics", day)
    free = work.free() & (not requires("call_detail", day))
    parts, left = np.zeros(len(free), np.int16), free & False
    for part, view in VIEW_OF.items():
        billing = view == "billing"
        removed = free & (not (amounts_stay if billing else row_stays))
        changed = free & ~removed & work.theirs & billing  # what stays of the others names nobody
        present = _rewrite(work, part, free, Wanted(removed, changed, partial(_blanked, work)), fulfilled)
        parts[present & ~removed] += VIEW_BITS[view]
        left |= present & (removed | changed)
    gone = free & (parts == 0)
    blank = free & ~gone & (work.theirs | left)
    fulfilled.counts[f"{INDEX} blanked"] += int((blank & ~left).sum())
    _rewrite_index(work, Wanted(gone, blank, partial(_blanked_in_index, work, parts)), fulfilled)


def _blanked(work: Work, rows: pa.Table, of: Positions) -> pa.Table:
    """Rows without the person's number and token, in every role; for an account without its name and all numbers."""
    if work.by_account:
        rows = _null(rows, (*BILLING_NUMBERS, *TOKENS))
        return _with(rows, {"account": ERASED_ACCOUNT}) if "account" in rows.column_names else rows
    for token, names in _OF_ROLE.items():
        rows = _null(rows, names, pa.array(work.found.named[token][of]))
    return rows


def _blanked_in_index(work: Work, parts: np.ndarray, rows: pa.Table, of: Positions) -> pa.Table:
    """Rows of the index without the person's side, and with the views (sum of VIEW_BITS) that still hold them."""
    held = pc.if_else(has_value(rows["state"], Bucket.ACCEPTED), pa.array(parts[of]), flat(rows["parts"]))
    return _blanked(work, set_column(rows, "parts", held), of)


def _null(rows: pa.Table, names: Iterable[str], where: pa.Array | None = None) -> pa.Table:
    """Return the rows with null in some columns, of those that the table has."""
    for name in names:
        if name in rows.column_names:
            kind = rows.schema.field(name).type
            nothing = pa.nulls(rows.num_rows, kind)
            rows = set_column(rows, name, nothing if where is None else pc.if_else(where, nothing, flat(rows[name])))
    return rows


# -- correct -----------------------------------------------------------------------------------------------------------


def _correct(work: Work, fulfilled: Fulfilled) -> None:
    free = work.free()
    elsewhere = free & False
    for view in STORED:  # the index last
        values = _values(work, view)
        if not values:
            continue
        wanted = Wanted(free & False, free, partial(_set, values))
        if view == INDEX:
            fulfilled.counts[f"{INDEX} kept"] += int((~free & ~elsewhere).sum())
            fulfilled.counts[f"{INDEX} corrected"] += int((free & ~elsewhere).sum())
            _rewrite_index(work, wanted, fulfilled)
        else:
            elsewhere |= _rewrite(work, view, free, wanted, fulfilled)


def _set(values: dict[str, Any], rows: pa.Table, of: Positions) -> pa.Table:
    return _with(rows, values)


def _values(work: Work, view: str) -> dict[str, Any]:
    """Return what a correction sets in columns of a view, or of the index."""
    wants, names = work.request.wants, STORED[view].names
    values = {name: wants[name] for name in ("account", "direction") if wants.get(name) and name in names}
    return values


def _with(rows: pa.Table, values: dict[str, Any]) -> pa.Table:
    for name, value in values.items():
        kind = rows.schema.field(name).type
        scalar = value if isinstance(value, pa.Scalar) else pa.scalar(value, kind)
        rows = set_column(rows, name, pa.repeat(scalar, rows.num_rows).cast(kind))
    return rows


# -- writing -----------------------------------------------------------------------------------------------------------


def _rewrite(work: Work, part: str, free: Mask, wanted: Wanted, fulfilled: Fulfilled) -> Mask:
    """Write data files of a part of a view as is wanted; return which records have a row in it.

    `free`: records that nothing keeps from the request; it may take nothing from some of them.
    """
    present = np.zeros(len(free), np.bool_)
    for located in work.located(part):
        present[located.asked] = True
        _rewrite_rows(work, located, wanted, fulfilled)
    verb = "corrected" if work.request.kind == "correct" else "blanked"
    for what, mask in (("kept", ~free), ("removed", wanted.removed), (verb, wanted.changed)):
        fulfilled.counts[f"{part} {what}"] += int((present & mask).sum())
    return present


def _rewrite_rows(work: Work, located: Located, wanted: Wanted, fulfilled: Fulfilled) -> None:
    """Write a view's data file as is wanted, if anything in it is; the derived tables follow, and the ledger."""
    goes, changes = wanted.removed[located.asked], wanted.changed[located.asked]
    if not (goes | changes).any():
        return
    file, rows, at = located.file, work.files.rows(located.file), located.position
    altered = wanted.change(rows.take(pa.array(at[changes])), located.asked[changes])
    file_no = flat(work.found.rows["file_no"]).take(pa.array(located.asked[goes]))
    _replace(work, Rewrite(file, at[goes], Counter(inputs_of(file_no)), at[changes], altered), fulfilled)
    _follow(work, file.view, rows.take(pa.array(at[goes | changes])), altered, fulfilled.outcome)
    if goes.any():
        fulfilled.outcome.ends.append(ledger.ends(file_no, file.view, "erased"))


def _rewrite_index(work: Work, wanted: Wanted, fulfilled: Fulfilled) -> None:
    """Write data files of the index as is wanted. What came in again under a record's id goes its record's way, as do
    pieces of its call."""
    for hit in work.found.hits:
        rows = work.files.rows(hit.file)
        of = _records_of(work, rows)
        goes, changes = ((of >= 0) & mask[of] for mask in (wanted.removed, wanted.changed))
        if not (goes | changes).any():
            continue
        gone, at = rows.filter(pa.array(goes)), np.flatnonzero(changes)
        altered = wanted.change(rows.take(pa.array(at)), of[at])
        dropped = Counter(inputs_of(gone["file_no"]))
        _replace(work, Rewrite(hit.file, np.flatnonzero(goes), dropped, at, altered), fulfilled)
        _follow(work, INDEX, rows.filter(pa.array(goes | changes)), altered, fulfilled.outcome)
        if work.request.kind == "erase":
            for ids in (gone["record_id"], _calls(gone), altered["record_id"]):
                fulfilled.suppressed += _suppressed(work, flat(ids))


def _records_of(work: Work, rows: pa.Table) -> Positions:
    """Return which of the person's records each row of the index is of, or -1."""
    records = work.found.rows
    of_id, of_call = (
        row_index.match(tokens.as_u64(flat(theirs)), tokens.as_u64(flat(asked)))
        for theirs, asked in ((rows["record_id"], records["record_id"]), (_calls(rows), _calls(records)))
    )
    is_entry = ~np.asarray(has_value(rows["state"], Bucket.ACCEPTED).to_numpy(zero_copy_only=False), np.bool_)
    return np.where((of_id < 0) & is_entry, of_call, of_id)


def _calls(rows: pa.Table) -> pa.Array:
    """Return the ids of the calls that rows of the index are of."""
    return flat(pc.coalesce(rows["call_id"], rows["record_id"]))


def _replace(work: Work, anew: Rewrite, fulfilled: Fulfilled) -> None:
    """Write a data file anew; of an erasure it is an item."""
    written = rewrite(anew, work.files)
    fulfilled.outcome.files += written.files
    fulfilled.outcome.superseded |= written.superseded
    if work.request.kind == "erase":
        fulfilled.items.append(_item(anew))


def _follow(work: Work, view: str, before: pa.Table, after: pa.Table, outcome: Changes) -> None:
    """Return the differences of the derived tables."""
    workspace = work.files.workspace
    how = work.tenant, workspace.billing_zones(work.tenant), workspace.sites
    for derived in (negative(summarize(view, before, *how)), summarize(view, after, *how)):
        for name, table in derived.items():
            outcome.derived.setdefault(name, []).append(table)


def _suppressed(work: Work, record_ids: pa.Array) -> list[str]:
    """Return records as the register of suppressions names them."""
    return [record.hex() for record in suppression_ids(record_ids, work.tenant, work.files.workspace).to_pylist()]


# The index names every record; where only numbers go of it, they are call detail, as in billing.
_CLASS_OF: Final = {**dict.fromkeys(PARTS["billing"], "billing_transaction"), INDEX: "call_detail"}


def _item(anew: Rewrite) -> Item:
    """Return the data file as a certificate lists it."""
    file, removed = anew.file, len(anew.drop)
    blanked_only = file.view in PARTS["billing"] and not removed
    return Item(
        retention_class="call_detail" if blanked_only else _CLASS_OF.get(file.view, "assurance_metrics"),
        action="delete" if removed == file.rows else "rewrite",
        tenant=file.tenant,
        view=file.view,
        part=file.part,
        file_id=file.file_id,
        rows=removed + len(anew.change),
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
            | "CommitOnce"
            >> beam.ParDo(_CommitFn(self.reference, self.run_id, self.request_id, self.today)).with_output_types(
                NoneType
            )
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
        workspace, parts = open_workspace(self._reference), list(element[1])
        settings = workspace.settings
        try:
            merged = Changes.merge(part.outcome for part in parts)
            changes = RequestChanges(
                ledger.with_sealed_sums(merged, settings, workspace.keyring),
                sorted({record for part in parts for record in part.suppressed}),
                [item for part in parts for item in part.items],
                sum((part.counts for part in parts), Counter()),
                {part.holds for part in parts},
            )
            erasure_disposal.commit(settings, self._run_id, self._request_id, changes, self._today)
        except CommitConflict:
            return
