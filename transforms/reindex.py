"""Reindex: a date's records, read again from the archive → the data files of the row index that it has lost.

What became of each record is decided as on any night, as though all had come at once: the end state never depends on
order. Then the views have the last word. Which records have a row is what they hold, and what they say of it stands; so
what a person chose, a purge took or an erasure blanked stays so. How many records of each input file an index file had
is in the register: a file whose records do not come to that again is left as it is, and named.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value, nulls, set_column, words
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.workspace import Workspace
from schemas.cdr import CDR, ID
from schemas.codes import ERASED_ACCOUNT, Bucket
from schemas.suspense import PENDING
from schemas.views import (
    FOUND_BY,
    INDEX,
    INDEX_COLUMNS_OF,
    ROW_INDEX,
    SECOND,
    TOKENS,
    UNANSWERED,
    UNREACHED,
    VIEW_BITS,
)
from transforms.assemble import Assembled, assemble, end_as_known, fold, in_order, in_pieces, talk_rules
from transforms.calls_found import CallsFound, several
from transforms.coarsen import coarsen
from transforms.combine import WAITING
from transforms.deduplicate import deduplicate
from transforms.drop_expired import erased
from transforms.elements import Group
from transforms.in_views import NUMBERED, InViews
from transforms.index import index
from transforms.legs import charge_legs
from transforms.onward import is_onward, own
from transforms.split import OF_ANSWERED, with_answered

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
State = tuple[str, pa.Table]  # the ledger's bucket, and records (schema CDR)

_BILLED: Final = VIEW_BITS["billing"]
_PLACE: Final = ("file_no", "block", "line")


@dataclass(frozen=True)
class Lost:
    """Index files of one tenant's date that cannot be read, and how many records of each input file each had."""

    tenant: str
    part: str
    files: Sequence[DataFile]
    inputs: Mapping[str, Mapping[int, int]]  # by file id

    @property
    def day(self) -> date:
        return date.fromisoformat(self.part)


@dataclass
class Reindexed:
    """Rows of each lost file (plain ROW_INDEX, in their order), by its id; and input files that come to other rows."""

    rows: dict[str, pa.Table] = field(default_factory=dict)
    differ: dict[str, list[int]] = field(default_factory=dict)
    unknown: int = 0  # rows of the views that are of none of the records


def concerning(records: pa.Table, day: date) -> pa.Table:
    """Return those of one tenant's records (schema CDR) that a date's index may be about: of the date, and what may be
    a piece, a leg or the quality of one of its calls."""
    of_day = pc.equal(records["call_date"], pa.scalar(day)).fill_null(False)
    more = several(records) | ~_mask(has_value(records["piece"], "whole"))
    more |= _mask(pc.or_(pc.is_valid(records["leg_a"]), pc.is_valid(records["leg_b"])))
    return records.filter(pc.or_(of_day, pa.array(more)))


def reindex(
    records: Sequence[pa.Table], lost: Lost, surviving: Sequence[DataFile], views: InViews, files: DataFiles
) -> Reindexed:
    """Return the rows of lost index files. `records`: of their input files, as `concerning` leaves them; `surviving`:
    the date's other files of the index."""
    known = _known(files, surviving)
    rows = known[:0]
    if records:
        decided = _decided(in_order(records), known, lost, views, files)
        rows = _not_in(_rows(decided, lost, views, files), known)
    reindexed = _allotted(rows, lost, files.workspace)
    ids = [flat(table["record_id"]) for table in (known, *reindexed.rows.values())]
    states = [flat(table["state"]) for table in (known, *reindexed.rows.values())]
    accepted = pa.concat_arrays(ids).filter(has_value(pa.chunked_array(states), Bucket.ACCEPTED))
    reindexed.unknown = views.unknown(accepted)
    return reindexed


# -- what became of the records --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decided:
    """A date's accepted records (schema CDR, `charged`, OF_ANSWERED), which of these are sure to have had an entry and
    which their person had erased (bool, shape [accepted]); and the others, with whether those are sure."""

    accepted: pa.Table
    sure: Mask
    blanked: Mask
    others: list[tuple[State, bool]]


def _decided(records: pa.Table, known: pa.Table, lost: Lost, views: InViews, files: DataFiles) -> _Decided:
    """Decide what became of a date's records (schema CDR); `known`: rows that the index still has."""
    assembled, nothing = _assembled(records, views, files.workspace), CDR.empty_table()
    group = Group(lost.tenant, 0, 0, assembled.calls, nothing)
    deduplicated = deduplicate(assembled.calls, nothing, nothing, files, [])
    charge_legs(deduplicated, group, files, CallsFound())
    answered = coarsen(deduplicated, group, files, CallsFound())
    rows = _of_day(with_answered(deduplicated.rows, answered), lost)
    conflicts, held = (_of_day(versions, lost) for versions in (deduplicated.conflicts, deduplicated.held))
    rows, suspended = _chosen(rows, conflicts, held, views)
    rows, again, other = _without_known(rows, known)
    others = [*assembled.others, *((str(Bucket.DUPLICATE), of) for of in (*deduplicated.duplicates, again))]
    others = [(bucket, _of_day(of, lost)) for bucket, of in others]
    others += [(str(Bucket.SUSPENDED), of) for of in (suspended, other)]
    return _as_the_views_say(rows, others, lost, views, files.workspace)


def _of_day(records: pa.Table, lost: Lost) -> pa.Table:
    return records.filter(pc.equal(records["call_date"], pa.scalar(lost.day)).fill_null(False))


def _assembled(records: pa.Table, views: InViews, workspace: Workspace) -> Assembled:
    """Return records put together. Calls whose end never came are among them where they have a row."""
    if not in_pieces(records):
        return Assembled(records)
    rules = talk_rules(workspace)
    assembled = assemble(records, PENDING.empty_table(), rules, 0)
    log = fold(assembled.pending)
    waiting = log.filter(pc.equal(log["state"], pa.scalar(WAITING, pa.int8())))
    ended, _ = end_as_known(waiting, np.ones(waiting.num_rows, bool), rules)
    calls = ended.calls.filter(pa.array(views.bits(flat(ended.calls["record_id"])) > 0))
    if calls.num_rows:
        assembled.calls = pa.concat_tables([assembled.calls, calls]).unify_dictionaries()
        of_calls = flat(calls["call_id"])
        assembled.others += [(bucket, of.filter(pc.is_in(of["call_id"], of_calls))) for bucket, of in ended.others]
    return assembled


def _chosen(rows: pa.Table, conflicts: pa.Table, held: pa.Table, views: InViews) -> tuple[pa.Table, pa.Table]:
    """Return the rows, and the versions that have none: of a record of several, the views tell which one has it."""
    versions = [own(conflicts), held]
    contested = pa.concat_arrays([flat(table["record_id"]) for table in versions])
    if not len(contested):
        return rows, conflicts[:0]
    several_of = pc.is_in(rows["record_id"], contested)
    few = pa.concat_tables([rows.filter(several_of), *versions], promote_options="default").unify_dictionaries()
    few = few.combine_chunks()
    has_row = _with_row(few, views)
    lone = pa.concat_tables([rows.filter(pc.invert(several_of)), _as_row(few.filter(pa.array(has_row)))])
    return lone.unify_dictionaries(), few.filter(pa.array(~has_row)).select(CDR.names)


def _with_row(versions: pa.Table, views: InViews) -> Mask:
    """Return which versions of some records have a row in the views (few: a loop is fine).

    It is that one which the billing row was made of; where nothing tells, the one that stands first.
    """
    ids = flat(versions["record_id"])
    present, has_row = views.bits(ids) > 0, np.zeros(len(ids), bool)
    place = views.place("billing", ids).to_pylist()
    billing = views.rows["billing"]
    mine = list(zip(versions["talk_ms"].to_pylist(), versions["end_time"].to_pylist(), strict=True))
    first: dict[bytes, int] = {}
    for at, (record, row) in enumerate(zip(ids.to_pylist(), place, strict=True)):
        if not present[at]:
            continue
        first.setdefault(record, at)
        if row is not None and mine[at] == (billing["talk_ms"][row].as_py(), billing["end"][row].as_py()):
            first[record] = min(first[record], at) if has_row[first[record]] else at
            has_row[first[record]] = True
    has_row[list(first.values())] = True
    return has_row


def _without_known(rows: pa.Table, known: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return the rows without those of records that have one in the index, which came first: repetitions of it, and
    versions that lost to it."""
    accepted = known.filter(has_value(known["state"], Bucket.ACCEPTED)).combine_chunks()
    at = pc.index_in(flat(rows["record_id"]), flat(accepted["record_id"]))
    there = _mask(pc.is_valid(at)) & ~np.isin(_keys(rows), _keys(accepted))
    same = _mask(pc.equal(flat(accepted["content"]).take(at), flat(rows["content"])).fill_null(False))
    again, other = (rows.filter(pa.array(mask)).select(CDR.names) for mask in (there & same, there & ~same))
    return rows.filter(pa.array(~there)), again, own(other)


def _as_row(versions: pa.Table) -> pa.Table:
    """Return versions that were set aside for themselves alone as rows: each is charged, as nothing else is known."""
    answered = has_value(versions["disposition"], "answered")
    for name in ("charged", OF_ANSWERED):
        versions = set_column(versions, name, pc.coalesce(versions[name], pa.chunked_array([answered])))
    if UNREACHED in versions.column_names:
        versions = set_column(versions, UNREACHED, versions[UNREACHED].fill_null(False))
    return set_column(versions, "leg", versions["leg"].fill_null(0))


def _as_the_views_say(
    rows: pa.Table, others: list[State], lost: Lost, views: InViews, workspace: Workspace
) -> _Decided:
    """Leave out what has no row any more, or never had one; that a leg nobody pays for has none is not sure to mean so.

    A record that came in before, under an earlier generation of its source, is a repetition of that one.
    """
    present = views.bits(flat(rows["record_id"])) > 0
    suppressed = _suppressed(rows, lost.tenant, workspace, ("record_id",))
    again = ~present & ~suppressed & _mask(pc.is_valid(rows["earlier"]))
    unpaid = _mask(has_value(rows["disposition"], "answered")) & ~_mask(rows["charged"])
    stays = present | (~again & ~suppressed & (unpaid | is_onward(rows)))
    accepted = rows.filter(pa.array(stays))
    calls = flat(accepted["call_id"])
    kept: list[tuple[State, bool]] = []
    for bucket, records in others:
        gone = _suppressed(records, lost.tenant, workspace, ("record_id", "call_id"))
        gone &= ~_mask(pc.is_in(records["call_id"], calls))
        kept.append(((bucket, records.filter(pa.array(~gone))), True))
    kept.append(((str(Bucket.DUPLICATE), rows.filter(pa.array(again)).select(CDR.names)), False))
    return _Decided(accepted, present[stays], suppressed[stays], kept)


def _suppressed(records: pa.Table, tenant: str, workspace: Workspace, by: Sequence[str]) -> Mask:
    mask = erased(records, tenant, workspace, by)
    return np.zeros(records.num_rows, bool) if mask is None else _mask(mask)


# -- what the index says of them -------------------------------------------------------------------------------------

_SURE: Final = "sure"


def _rows(decided: _Decided, lost: Lost, views: InViews, files: DataFiles) -> pa.Table:
    """Return rows of the index (plain ROW_INDEX, and whether each is sure to have been there) of a date's records."""
    workspace = files.workspace
    closed = set() if any(file.numbers for file in lost.files) else {"numbers"}
    tables = [ROW_INDEX.empty_table().append_column(_SURE, pa.array([], pa.bool_()))]
    accepted = decided.accepted
    if accepted.num_rows:
        if any(file.parts & _BILLED for file in lost.files):
            charged = pc.invert(views.held(flat(accepted["record_id"])))
            otherwise = pc.and_(flat(accepted["charged"]), pa.array(decided.blanked))  # its billing row was erased
            accepted = set_column(accepted, "charged", pc.coalesce(charged, otherwise))
        rows = _plain(index(accepted, str(Bucket.ACCEPTED), lost.tenant, workspace, closed))
        rows = _overlaid(rows, decided, lost, views, workspace)
        tables.append(rows.append_column(_SURE, pa.array(decided.sure)))
    for (bucket, records), sure in decided.others:
        if records.num_rows:
            rows = _plain(index(records, bucket, lost.tenant, workspace, closed))
            tables.append(rows.append_column(_SURE, pa.repeat(sure, rows.num_rows)))
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _plain(rows: pa.Table) -> pa.Table:
    return rows.cast(pa.schema([ROW_INDEX.field(name) for name in rows.column_names]))


def _overlaid(rows: pa.Table, decided: _Decided, lost: Lost, views: InViews, workspace: Workspace) -> pa.Table:
    """Return rows of accepted records with what the views say of them; the settings may say otherwise by now."""
    ids = flat(rows["record_id"])
    rows = set_column(rows, "parts", pa.array(views.bits(ids)))
    rows = set_column(rows, "kind", _kinds(rows, lost, views, workspace))
    for part, table, names in views.told():
        at = views.place(part, ids)
        for name in names:
            rows = set_column(rows, name, _from(table[name], at, rows[name]))
    rows = _with_tokens(rows, lost, views, workspace)
    blanked = pa.array(decided.blanked & ~_mask(pc.is_valid(views.place("billing", ids))))
    if pc.any(blanked).as_py():  # nothing else tells which of its numbers were the person's
        rows = set_column(rows, "account", pc.if_else(blanked, ERASED_ACCOUNT, rows["account"]))
        for name in TOKENS if TOKENS[0] in rows.column_names else ():
            rows = set_column(rows, name, pc.if_else(blanked, pa.scalar(None, ID), flat(rows[name])))
    return rows


def _from(column: pa.ChunkedArray, at: pa.Array, otherwise: pa.ChunkedArray) -> pa.Array:
    """Return values at some places of a column, and where there is no place another's."""
    return pc.if_else(pc.is_valid(at), flat(column).take(at), flat(otherwise))


def _kinds(rows: pa.Table, lost: Lost, views: InViews, workspace: Workspace) -> pa.Array:
    """Return the kinds of accepted records: an attempt is where its part has it, and what is held from billing, though
    its own call does not say so, is another element's call."""
    ids, kind = flat(rows["record_id"]), flat(rows["kind"])
    if workspace.settings.tenants[lost.tenant].billing.rows != "attempts":
        for part, name in (("failed", "failed"), ("answered", "route")):
            there = pc.and_(has_value(kind, *UNANSWERED), pc.is_valid(views.place(part, ids)))
            kind = pc.if_else(there, name, kind)
    second = pc.and_(has_value(kind, "leg"), views.held(ids).fill_null(False))
    return pc.if_else(second, SECOND, kind)


def _with_tokens(rows: pa.Table, lost: Lost, views: InViews, workspace: Workspace) -> pa.Table:
    """Return rows with the tokens of the numbers that billing has: what was blanked there has none here."""
    if TOKENS[0] not in rows.column_names or FOUND_BY[0] not in views.rows["billing"].column_names:
        return rows
    secret = workspace.keyring.key(KeyName(INDEX, lost.tenant, lost.part[:7], "token")).secret
    billing = views.rows["billing"]
    numbered = billing.filter(billing[NUMBERED])
    at = pc.index_in(flat(rows["record_id"]), flat(numbered["record_id"]))
    for token, number in zip(TOKENS, FOUND_BY, strict=True):
        rows = set_column(rows, token, _from(tokens.number_token(numbered[number], secret), at, rows[token]))
    return rows


# -- which file each of them was in ----------------------------------------------------------------------------------


def _known(files: DataFiles, surviving: Iterable[DataFile]) -> pa.Table:
    """Return id, state, content and place of all rows of some index files."""
    names = ["record_id", "state", "content", *_PLACE]
    nothing = pa.schema([ROW_INDEX.field(name) for name in names]).empty_table()
    return pa.concat_tables([nothing, *(files.columns(file, names) for file in surviving)])


def _not_in(rows: pa.Table, known: pa.Table) -> pa.Table:
    """Return rows that other files of the index do not have."""
    ours, theirs = (_keys(table) for table in (rows, known))
    return rows.filter(pa.array(~np.isin(ours, theirs))) if len(theirs) else rows


def _keys(rows: pa.Table) -> npt.NDArray[Any]:
    """Return what tells rows of the index apart: an onward leg has the place of the record that it was made of."""
    place = [words(rows[name]).astype(np.uint64) for name in _PLACE]
    table = np.column_stack([tokens.as_u64(flat(rows["record_id"])), *place])
    return np.ascontiguousarray(table).view(f"V{table.shape[1] * 8}").ravel()


def _allotted(rows: pa.Table, lost: Lost, workspace: Workspace) -> Reindexed:
    """Return rows by lost file: each gets as many of each input file as it had, in their order there."""
    rows = rows.take(pa.array(np.lexsort([words(rows[name]).view(np.int64) for name in reversed(_PLACE)])))
    rows = _that_add_up(rows, lost)
    file_no = flat(rows["file_no"]).to_numpy()
    calls = flat(pc.coalesce(rows["call_id"], rows["record_id"]))
    free, reindexed = np.ones(len(file_no), bool), Reindexed()
    for file in sorted(lost.files, key=lambda file: (str(file.received_on), -file.shard_bits, file.file_id)):
        had = lost.inputs[file.file_id]
        at = np.flatnonzero(free & (tokens.shard_bits(calls, file.shard_bits) == file.shard))
        mine = at[_first_of(file_no[at], had)]
        free[mine] = False
        found = Counter(file_no[mine].tolist())
        differ = sorted(number for number in had if found[number] != had[number])
        if differ:
            reindexed.differ[file.file_id] = differ
        else:
            reindexed.rows[file.file_id] = _as_of(rows.take(pa.array(mine)), file)
    return reindexed


def _that_add_up(rows: pa.Table, lost: Lost) -> pa.Table:
    """Return rows without those that are not sure, save of input files that come to what they had by them alone."""
    had: Counter[int] = sum((Counter(lost.inputs[file.file_id]) for file in lost.files), Counter())
    found = Counter(flat(rows["file_no"]).to_pylist())
    whole = pa.array([number for number in found if found[number] == had[number]], pa.int64())
    return rows.filter(pc.or_(rows[_SURE], pc.is_in(rows["file_no"], whole))).drop_columns([_SURE])


def _first_of(file_no: Positions, had: Mapping[int, int]) -> Mask:
    """Return which of some rows (input files, ascending) are among the first so many of each input file."""
    numbers, starts, which = np.unique(file_no, return_index=True, return_inverse=True)
    most = np.array([had.get(int(number), 0) for number in numbers], np.int64)
    return np.asarray(np.arange(len(file_no)) - starts[which] < most[which]) if len(file_no) else np.zeros(0, bool)


def _as_of(rows: pa.Table, file: DataFile) -> pa.Table:
    """Return rows in their order in an index file, with what it still said: numbers and views may have left it."""
    rows = rows.take(pa.array(row_index.index_order(rows["record_id"], rows["state"])))
    for view, names in INDEX_COLUMNS_OF.items():
        for name in names if not file.parts & VIEW_BITS[view] else ():
            rows = set_column(rows, name, nulls(rows.num_rows, rows.schema.field(name).type))
    return rows if file.numbers else rows.drop_columns([name for name in TOKENS if name in rows.column_names])


def _mask(column: pa.Array | pa.ChunkedArray) -> Mask:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), np.bool_)
