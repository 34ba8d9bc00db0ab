"""Index: what became of a group's records → rows of the row index, so that no view need say where a record is.

The row of a record says what it was and which views hold it; a duplicate, a version that lost, and a piece that went
into a call have an entry of their own, so that it is known of which file they were.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import constant, few_of, flat, has_value, is_absent, moved, nulls
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import row_index
from callward.lake.data_files import inputs_of
from callward.workspace import Workspace
from schemas.cdr import ID
from schemas.codes import Bucket
from schemas.views import (
    FOUND_BY,
    IN_FLIGHT,
    INDEX,
    INDEX_COLUMNS_OF,
    NUMBER_COLUMNS,
    SERVICE,
    TOKENS,
    UNANSWERED,
    UNREACHED,
    VIEW_BITS,
)
from transforms.elements import Group, ViewRows
from transforms.legs import events, may_be_charged
from transforms.onward import is_onward
from transforms.split import OF_ANSWERED, by_date, closed_views, is_billed, is_uncharged

_KINDS: Final = ("call", "leg", *UNANSWERED, UNREACHED)
_AS_THEY_ARE: Final = (
    *("record_id", "role", "sequence"),
    *("content", "version", "start_time", "answer_time", "end_time", "talk_ms", "carried_ms"),
)
_NAMED: Final = {"trunk_in": "ingress_trunk", "trunk_out": "egress_trunk"}  # as records call them
_PLACE: Final = ("file_no", "block", "line")


def index_group(group: Group, workspace: Workspace) -> Iterator[ViewRows]:
    """Yield the index rows of each call_date of a deduplicated group, of its calls and of its other records."""
    by_day: dict[str, list[pa.Table]] = {}
    for state, records in ((str(Bucket.ACCEPTED), group.calls), *group.others):
        for call_date, of_day in by_date(records) if records.num_rows else ():
            rows = index(of_day, state, group.tenant, workspace, closed_views(group, call_date))
            by_day.setdefault(call_date, []).append(rows)
    for call_date, tables in sorted(by_day.items()):
        rows = tables[0]
        if len(tables) > 1:
            rows = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
        rows = moved(rows, row_index.index_order(rows["record_id"], rows["state"]))
        inputs = Counter(inputs_of(rows["file_no"]))
        yield ViewRows(INDEX, group.tenant, call_date, group.bits, group.shard, rows, inputs)


def index(records: pa.Table, state: str, tenant: str, workspace: Workspace, closed: set[str]) -> pa.Table:
    """Return index rows (schema ROW_INDEX) of one tenant's records (schema CDR) of one date, in their order.

    `closed` names what the date's window is past for, as Split has it: rows get no bit of a view that is closed and no
    column that leaves with it, and where the numbers are, no tokens; the key to those may be destroyed. Only accepted
    records have these at all.
    """
    columns = {
        **{name: records[name] for name in (*_AS_THEY_ARE, *_PLACE)},
        "call_id": _own_call(records),
        "event": _event(records),
        "leg": records["leg"] if state == Bucket.ACCEPTED else nulls(records.num_rows, pa.int16()),
        "state": constant(state, records.num_rows),
        "kind": _kind(records, state),
        **_of_open_views(records, state, closed),
        "parts": _parts(records, state, tenant, workspace, closed),
    }
    schema = IN_FLIGHT[INDEX]
    if "numbers" in closed or state != Bucket.ACCEPTED:
        schema = pa.schema([field for field in schema if field.name not in NUMBER_COLUMNS[INDEX]])
    else:
        name = KeyName(INDEX, tenant, str(records["call_date"][0])[:7], "token")
        secret = workspace.keyring.key(name).secret
        for token, number in zip(TOKENS, FOUND_BY, strict=True):
            numbers = records[number]
            columns[token] = nulls(len(numbers), ID) if is_absent(numbers) else tokens.number_token(numbers, secret)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _of_open_views(records: pa.Table, state: str, closed: set[str]) -> dict[str, Any]:
    """Return the columns that leave with a view, null where it is closed and for records that have no row in any."""
    closed_columns = {name for view, names in INDEX_COLUMNS_OF.items() if view in closed for name in names}
    return {
        name: records[_NAMED.get(name, name)]
        if state == Bucket.ACCEPTED and name not in closed_columns
        else nulls(records.num_rows, IN_FLIGHT[INDEX].field(name).type)
        for name in ("account", "direction", "jurisdiction", *SERVICE)
    }


def _own_call(records: pa.Table) -> pa.Array:
    """Return the ids of calls; null where a call is one record, which most are: its own id says it."""
    calls = tokens.as_u64(flat(records["call_id"]))
    return tokens.from_u64(calls, (calls != tokens.as_u64(flat(records["record_id"]))).any(axis=1))


def _event(records: pa.Table) -> pa.Array:
    """Return the number of the edge leg that each record is about, within its call; of those that may be charged."""
    if is_absent(records["event"]):
        return nulls(records.num_rows, pa.int64())
    counts = may_be_charged(records) & flat(pc.is_valid(records["event"])).to_numpy(zero_copy_only=False)
    return pa.array(events(records["event"]).view(np.int64), mask=~counts)


def _kind(records: pa.Table, state: str) -> pa.DictionaryArray:
    if state == Bucket.MERGED:
        return constant("piece", records.num_rows)
    failed = ~np.asarray(has_value(records["disposition"], "answered").to_numpy(zero_copy_only=False))
    leg, route, unreached = (np.zeros(records.num_rows, bool) for _ in range(3))  # what was set aside is none yet
    if state == Bucket.ACCEPTED:
        leg = ~np.asarray(records["charged"].to_numpy(zero_copy_only=False))
        route = failed & np.asarray(records[OF_ANSWERED].to_numpy(zero_copy_only=False))
        unreached = is_uncharged(records)
    kind = np.where(failed, np.where(route, 3, 2), np.where(leg, np.where(unreached, 4, 1), 0))
    return few_of(kind.astype(np.int32), _KINDS)


def _parts(records: pa.Table, state: str, tenant: str, workspace: Workspace, closed: set[str]) -> pa.Array:
    """Return the sum of VIEW_BITS of the views that get a row of each record."""
    bits = np.zeros(records.num_rows, np.int16)
    if state != Bucket.ACCEPTED:
        return pa.array(bits)
    billing = is_billed(records, tenant, workspace) | is_uncharged(records)
    held = {"billing": billing, "assurance": ~is_onward(records)}
    for view, rows in held.items():
        if view not in closed:
            bits[rows] += VIEW_BITS[view]
    return pa.array(bits)
