"""Split: rated calls → the billing view and the parts of the assurance view, under ids and keys that do not meet."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, has_value, is_absent, map_few, moved, nulls, repeated, words
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import row_index
from callward.lake.data_files import inputs_of
from callward.workspace import Workspace
from schemas.cdr import CDR, TIMESTAMP
from schemas.views import (
    ANSWERED,
    BILLING,
    BILLING_NUMBERS,
    FAILED,
    ID_COLUMN,
    IN_FLIGHT,
    UNCHARGED,
    UNREACHED,
    VIEW_OF,
)
from transforms.elements import Group, ViewRows
from transforms.onward import is_onward
from transforms.pool import pool

PDD_STEP_MS: Final = 100  # of the part `answered`, rounded down
SLAB = 1 << 16  # rows worked on at a time: their columns stay in the processor's cache, and memory is used again


@dataclass(frozen=True)
class Part:
    """Rows of one part of a view and month, and how many of them came from each input file."""

    view: str
    rows: pa.Table
    inputs: Counter[int]


def split(calls: pa.Table, tenant: str, month: str, workspace: Workspace, closed: Collection[str] = ()) -> list[Part]:
    """Return the parts of both views of one tenant's rated calls of one month.

    `calls`: schema CDR and IN_ANSWERED. `closed` names what the calls' window is past for: "assurance", "billing",
    "numbers" (the billing rows then have no number columns). Its keys are not asked for, as they may be destroyed.
    Rows of billing are in order of time, those of the assurance parts of their ids, which are as good as drawn: nobody
    can lay the two side by side and count.
    """
    parts = []
    if "assurance" not in closed:
        in_answered = np.asarray(flat(calls[IN_ANSWERED]).to_numpy(zero_copy_only=False))
        attempts = ~is_onward(calls)  # a leg that goes on is in the attempt of its record
        for name, which in (("failed", attempts & ~in_answered), ("answered", attempts & in_answered)):
            rows = np.flatnonzero(which)
            if len(rows):
                secret = opened(workspace, name, tenant, month)["id"]
                parts.append(assurance_part(name, calls, rows, secret, workspace.sites))
    if "billing" in closed:
        return parts
    for name, which in (("billing", is_billed(calls, tenant, workspace)), (UNCHARGED, is_uncharged(calls))):
        rows = np.flatnonzero(which)
        if len(rows):
            keys = opened(workspace, name, tenant, month, *([] if "numbers" in closed else ["token"]))
            parts.append(_billing(name, calls, rows, keys, workspace))
    return parts


OF_ANSWERED: Final = "of_answered"  # of a record: whether its call was answered
IN_ANSWERED: Final = "in_answered"  # of a call: whether its row is one of the part `answered`


def with_answered(calls: pa.Table, known: np.ndarray | None = None) -> pa.Table:
    """Return one tenant's calls (with call_id and disposition) with the column OF_ANSWERED.

    `known`: calls that other records say were answered (uint64 [n], half ids).
    """
    return calls.append_column(OF_ANSWERED, pa.array(_of_answered(calls, known)))


def with_part(calls: pa.Table, tenant: str, workspace: Workspace, known: np.ndarray | None = None) -> pa.Table:
    """Return one tenant's calls with the columns OF_ANSWERED and IN_ANSWERED. `known` as `with_answered` has it."""
    return in_parts(with_answered(calls, known), tenant, workspace)


def in_parts(calls: pa.Table, tenant: str, workspace: Workspace) -> pa.Table:
    """Return one tenant's calls (with OF_ANSWERED) with the column IN_ANSWERED.

    Attempts of a call that another leg answered are with it: they have a billed call's time. Where all attempts are
    billed, billing has the time of each.
    """
    every_attempt = workspace.settings.tenants[tenant].billing.rows == "attempts"
    return calls.append_column(IN_ANSWERED, pa.repeat(True, calls.num_rows) if every_attempt else calls[OF_ANSWERED])


def _of_answered(calls: pa.Table, known: np.ndarray | None) -> np.ndarray:
    answered = _answered(calls)
    call = tokens.as_u64(flat(calls["call_id"]))[:, 0]  # half of a 128-bit id decides: two calls share it once in 2^64
    several = repeated(call)
    if len(several):
        with_answer = np.unique(call[several][answered[several]])
        answered[several] |= np.isin(call[several], with_answer)
    if known is not None and len(known):
        answered |= np.isin(call, known)
    return answered


def _answered(calls: pa.Table) -> np.ndarray:
    return np.array(has_value(calls["disposition"], "answered").to_numpy(zero_copy_only=False), bool)


def is_billed(calls: pa.Table, tenant: str, workspace: Workspace) -> np.ndarray:
    """Return which calls have a row in the billing view (bool, shape [rows])."""
    charged = np.asarray(calls["charged"].to_numpy(zero_copy_only=False))
    if workspace.settings.tenants[tenant].billing.rows == "attempts":
        answered = has_value(calls["disposition"], "answered").to_numpy(zero_copy_only=False)
        return charged | ~np.asarray(answered)  # a leg that another one pays for is no attempt of its own
    return charged


def is_uncharged(calls: pa.Table) -> np.ndarray:
    """Return which calls are held from billing until somebody was reached (bool, shape [rows])."""
    if UNREACHED not in calls.column_names:
        return np.zeros(calls.num_rows, bool)
    return np.asarray(calls[UNREACHED].to_numpy(zero_copy_only=False))


def opened(workspace: Workspace, part: str, tenant: str, month: str, *further: str) -> dict[str, bytes]:
    """Return a month's secrets of a part by purpose: that of its ids, and `further` ones of the numbers (token)."""
    names = {"id": row_index.id_key(part, tenant, month)}
    names |= {purpose: KeyName("billing-numbers", tenant, month, purpose) for purpose in further}
    return dict(zip(names, (key.secret for key in workspace.keyring.keys(list(names.values()))), strict=True))


_FOR_BILLING = (
    *(name for name in BILLING.names if name in CDR.names),
    *("record_id", "ingress_trunk", "egress_trunk", "start_time", "answer_time", "end_time", "billable_s", "piece"),
)
_OF_EVENTS = ("event_ms", "event_answer", "event_end")  # where other records say how long
_FROM_LEGS = (*_OF_EVENTS, UNREACHED)  # columns that are there where a row has any of them
_FOR_ASSURANCE = (
    *(name for name in (*FAILED.names, *ANSWERED.names) if name in CDR.names),
    *("record_id", "ingress_trunk", "egress_trunk", "start_time", "ring_time", "answer_time", "end_time"),
)


def _in_order(calls: pa.Table, columns: tuple[str, ...], order: np.ndarray) -> pa.Table:
    """Only the columns that a view is made of, in its order: each is moved once."""
    return moved(calls.select(list(dict.fromkeys((*columns, "file_no")))), order)


def _events(calls: pa.Table) -> tuple[str, ...]:
    return tuple(name for name in _OF_EVENTS if name in calls.column_names)


def _slab(calls: pa.Table, first: int) -> pa.Table:
    """SLAB rows of a group, each column of the views in one piece."""
    of_split = ("file_no", "call_date", "charged", "role", IN_ANSWERED)
    further = (name for name in _FROM_LEGS if name in calls.column_names)
    names = dict.fromkeys((*_FOR_BILLING, *_FOR_ASSURANCE, *further, *of_split))
    columns = {name: calls[name].slice(first, SLAB) for name in names}
    return pa.table({n: nulls(len(c), c.type) if is_absent(c) else flat(c) for n, c in columns.items()})


def _billing(part: str, calls: pa.Table, billed: np.ndarray, keys: dict[str, bytes], workspace: Workspace) -> Part:
    order = billed[np.argsort(words(calls["start_time"])[billed], kind="stable")]
    calls = _in_order(calls, (*_FOR_BILLING, *_events(calls)), order)
    carrier = workspace.carriers.get
    nothing = {
        name: nulls(calls.num_rows, IN_FLIGHT["billing"].field(name).type)
        for name in ("rate", "charge", "currency", "plan_version", "policy_version")
    }
    made = {
        "billing_id": tokens.permute(calls["record_id"], keys["id"]),
        "carrier_in": map_few(calls["ingress_trunk"], carrier),
        "carrier_out": map_few(calls["egress_trunk"], carrier),
        "start": calls["start_time"],
        "answer": calls["event_answer" if "event_answer" in calls.column_names else "answer_time"],
        "end": calls["event_end" if "event_end" in calls.column_names else "end_time"],
        "talk_ms": calls["event_ms" if "event_ms" in calls.column_names else "talk_ms"],
        "end_estimated": has_value(calls["piece"], "estimated"),
        **nothing,
    }
    if "token" in keys:
        made["calling_token"] = tokens.number_token(calls["calling_number"], keys["token"])
        made["called_token"] = tokens.number_token(calls["called_number"], keys["token"])
    rows = _view("billing", made, calls, without=() if "token" in keys else BILLING_NUMBERS)
    return Part(part, rows, Counter(inputs_of(calls["file_no"])))


def assurance_part(part: str, calls: pa.Table, rows: np.ndarray, secret: bytes, sites: Mapping[str, str]) -> Part:
    """Return the rows of a part of assurance of some calls (positions `rows`), in the order of their ids.

    `secret`: what the part's ids of the month are made with. `sites`: of customers' trunks (`Workspace.sites`).
    """
    ids = tokens.permute(calls["record_id"].take(pa.array(rows)), secret)
    order = _id_order(ids)
    calls = _in_order(calls, _FOR_ASSURANCE, rows[order])
    made = {
        ID_COLUMN[part]: ids.take(pa.array(order)),
        "trunk_in": pool(calls["ingress_trunk"], sites),
        "trunk_out": pool(calls["egress_trunk"], sites),
        **_GRAINS[part](calls),
    }
    return Part(part, _view(part, made, calls), Counter(inputs_of(calls["file_no"])))


def by_the_hour(attempts: pa.Table, secret: bytes, sites: Mapping[str, str]) -> pa.Table:
    """Return rows of the part `answered` (in the order of their ids) of attempts that the index has (schema ROW_INDEX).

    `secret` and `sites` as `assurance_part` has them.
    """
    ids = tokens.permute(flat(attempts["record_id"]), secret)
    made = {ID_COLUMN["answered"]: ids, **_GRAINS["answered"](attempts)}
    made |= {name: pool(attempts[name], sites).cast(pa.string()) for name in ("trunk_in", "trunk_out")}
    columns = [made[name] if name in made else attempts[name] for name in ANSWERED.names]
    return moved(pa.table(columns, schema=ANSWERED), _id_order(ids))


def _whole(calls: pa.Table, unit_ms: int) -> pa.Array:
    """Return the start of calls in whole units."""
    return pa.array(words(calls["start_time"]).view(np.int64) // unit_ms * unit_ms).view(TIMESTAMP)


_GRAINS: Final[dict[str, Callable[[pa.Table], dict[str, pa.Array]]]] = {
    "failed": lambda calls: {"start": _whole(calls, 60_000), "ring_s": _ring_seconds(calls)},
    "answered": lambda calls: {
        "start": _whole(calls, 3_600_000),
        "span_h": pa.repeat(pa.scalar(1, pa.int16()), calls.num_rows),
        "pdd_ms": pc.multiply(pc.divide(flat(calls["pdd_ms"]), PDD_STEP_MS), PDD_STEP_MS),
    },
}


def _view(view: str, made: dict[str, pa.Array], calls: pa.Table, without: Collection[str] = ()) -> pa.Table:
    schema = pa.schema([field for field in IN_FLIGHT[view] if field.name not in without])
    return pa.table([made[name] if name in made else calls[name] for name in schema.names], schema=schema)


def _ring_seconds(calls: pa.Table) -> pa.Array:
    """Return whole seconds from the first ring to the answer, or to the end of an attempt that was not answered."""
    until = flat(pc.coalesce(calls["answer_time"], calls["end_time"])).view(pa.int64())
    return pc.divide(pc.subtract(until, flat(calls["ring_time"]).view(pa.int64())), 1000)


def by_date(calls: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """(YYYY-MM-DD, its calls) of a table's call_date column."""
    dates = flat(calls["call_date"]).dictionary_encode()
    days = dates.dictionary.to_pylist()
    if len(days) == 1:
        yield days[0].isoformat(), calls
        return
    index = dates.indices.to_numpy()
    for number in np.argsort(np.array(days, "datetime64[D]")):
        yield days[number].isoformat(), moved(calls, np.flatnonzero(index == number))


def split_group(group: Group, workspace: Workspace) -> Iterator[ViewRows]:
    """Yield the rows of each view and call_date of a deduplicated, rated group (its calls with OF_ANSWERED)."""
    parts: dict[tuple[str, str], list[Part]] = {}
    all_calls = in_parts(group.calls, group.tenant, workspace)
    for first in range(0, group.calls.num_rows, SLAB):
        for call_date, calls in by_date(_slab(all_calls, first)):
            for part in split(calls, group.tenant, call_date[:7], workspace, closed_views(group, call_date)):
                parts.setdefault((part.view, call_date), []).append(part)
    for (view, call_date), slabs in sorted(parts.items()):
        rows, inputs = _joined(slabs), sum((part.inputs for part in slabs), Counter())
        yield ViewRows(view, group.tenant, call_date, group.bits, group.shard, rows, inputs)


def _joined(slabs: list[Part]) -> pa.Table:
    """Return the rows of slabs of one part; those of assurance in the order of all their ids, as slabs tell of time."""
    rows, part = pa.concat_tables([slab.rows for slab in slabs]), slabs[0].view
    if len(slabs) == 1 or VIEW_OF[part] == "billing":
        return rows
    return moved(rows.unify_dictionaries(), _id_order(flat(rows[ID_COLUMN[part]])))


def _id_order(ids: pa.Array) -> np.ndarray:
    return np.argsort(tokens.as_u64(ids)[:, 0])


def closed_views(group: Group, call_date: str) -> set[str]:
    """Return what the window of a date's calls is past for."""
    shut = {"assurance": group.without_assurance, "billing": group.without_billing, "numbers": group.without_numbers}
    return {name for name, days in shut.items() if call_date in days}
