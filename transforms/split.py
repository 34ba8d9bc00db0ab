"""Split: rated calls → the billing view and the assurance view, under ids and keys that do not meet."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import few, flat, has_value, is_absent, map_few, moved, nulls, words
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake.data_files import inputs_of
from callward.workspace import Workspace
from schemas.cdr import CDR, TIMESTAMP
from schemas.views import ASSURANCE, BILLING, BILLING_NUMBERS, IN_FLIGHT
from transforms.elements import Group, ViewRows

TALK_STEP_S = 6
SLAB = 1 << 16  # rows worked on at a time: their columns stay in the processor's cache, and memory is used again


@dataclass(frozen=True)
class Part:
    """Rows of one view and month, and how many of them came from each input file."""

    view: str
    rows: pa.Table
    inputs: Counter[int]


def split(calls: pa.Table, tenant: str, month: str, workspace: Workspace, closed: Collection[str] = ()) -> list[Part]:
    """Return the parts of both views of one tenant's rated calls of one month.

    `closed` names what the calls' window is past for: "assurance", "billing", "numbers" (the billing rows then have no
    number columns). Its keys are not asked for, as they may be destroyed.
    Rows of the billing view are in order of time, those of the assurance view of (minute, id): nobody can lay the two
    side by side and count. (A large group is split in slabs of SLAB rows, each ordered so.)
    """
    parts = []
    if "assurance" not in closed:
        parts.append(_assurance(calls, _opened(workspace, "assurance", tenant, month, "account")))
    if "billing" in closed:
        return parts
    billed = np.flatnonzero(is_billed(calls, tenant, workspace))
    if len(billed):
        keys = _opened(workspace, "billing", tenant, month, *([] if "numbers" in closed else ["token"]))
        parts.append(_billing(calls, billed, keys, workspace))
    return parts


def is_billed(calls: pa.Table, tenant: str, workspace: Workspace) -> np.ndarray:
    """Return which calls have a row in the billing view (bool, shape [rows])."""
    charged = np.asarray(calls["charged"].to_numpy(zero_copy_only=False))
    if workspace.settings.tenants[tenant].billing.rows == "attempts":
        answered = has_value(calls["disposition"], "answered").to_numpy(zero_copy_only=False)
        return charged | ~np.asarray(answered)  # a leg that another one pays for is no attempt of its own
    return charged


def _opened(workspace: Workspace, view: str, tenant: str, month: str, *further: str) -> dict[str, bytes]:
    """Return the month's secrets of a view by purpose: id, and `further` ones (a token's is of the numbers)."""
    purposes = ("id", *further)
    domain = {"token": "billing-numbers"}
    names = [KeyName(domain.get(purpose, view), tenant, month, purpose) for purpose in purposes]
    return dict(zip(purposes, (key.secret for key in workspace.keyring.keys(names)), strict=True))


_FOR_BILLING = (
    *(name for name in BILLING.names if name in CDR.names),
    *("record_id", "ingress_trunk", "egress_trunk", "start_time", "answer_time", "end_time", "billable_s", "piece"),
)
_OF_EVENTS = ("event_ms", "event_end")  # where several records are one charge
_FOR_ASSURANCE = (
    *(name for name in ASSURANCE.names if name in CDR.names),
    *(
        "record_id",
        "account",
        "ingress_trunk",
        "egress_trunk",
        "start_time",
        "ring_time",
        "answer_time",
        "end_time",
        "talk_ms",
    ),
)


def _in_order(calls: pa.Table, columns: tuple[str, ...], order: np.ndarray) -> pa.Table:
    """Only the columns that a view is made of, in its order: each is moved once."""
    return moved(calls.select(list(dict.fromkeys((*columns, "file_no")))), order)


def _events(calls: pa.Table) -> tuple[str, ...]:
    return tuple(name for name in _OF_EVENTS if name in calls.column_names)


def _slab(calls: pa.Table, first: int) -> pa.Table:
    """SLAB rows of a group, each column of the views in one piece."""
    names = dict.fromkeys((*_FOR_BILLING, *_FOR_ASSURANCE, *_events(calls), "file_no", "call_date", "charged"))
    columns = {name: calls[name].slice(first, SLAB) for name in names}
    return pa.table({n: nulls(len(c), c.type) if is_absent(c) else flat(c) for n, c in columns.items()})


def _billing(calls: pa.Table, billed: np.ndarray, keys: dict[str, bytes], workspace: Workspace) -> Part:
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
        "answer": calls["answer_time"],
        "end": calls["event_end" if "event_end" in calls.column_names else "end_time"],
        "talk_ms": calls["event_ms" if "event_ms" in calls.column_names else "talk_ms"],
        "end_estimated": has_value(calls["piece"], "estimated"),
        **nothing,
    }
    if "token" in keys:
        made["calling_token"] = tokens.number_token(calls["calling_number"], keys["token"])
        made["called_token"] = tokens.number_token(calls["called_number"], keys["token"])
    rows = _view("billing", made, calls, without=() if "token" in keys else BILLING_NUMBERS)
    return Part("billing", rows, Counter(inputs_of(calls["file_no"])))


def _assurance(calls: pa.Table, keys: dict[str, bytes]) -> Part:
    minute = words(calls["start_time"]).view(np.int64) // 60_000
    within = tokens.as_u64(tokens.permute(calls["record_id"], keys["id"]))[:, 0] >> np.uint64(32)
    calls = _in_order(calls, _FOR_ASSURANCE, np.argsort((minute.astype(np.uint64) << np.uint64(32)) | within))
    made = {
        "assurance_id": tokens.permute(calls["record_id"], keys["id"]),
        "account_token": _account_tokens(calls["account"], keys["account"]),
        "trunk_in": calls["ingress_trunk"],
        "trunk_out": calls["egress_trunk"],
        "start": pa.array(words(calls["start_time"]).view(np.int64) // 60_000 * 60_000).view(TIMESTAMP),
        "ring_s": _ring_seconds(calls),
        "talk_s": talk_steps(calls["talk_ms"]),
    }
    return Part("assurance", _view("assurance", made, calls), Counter(inputs_of(calls["file_no"])))


def _view(view: str, made: dict[str, pa.Array], calls: pa.Table, without: Collection[str] = ()) -> pa.Table:
    schema = pa.schema([field for field in IN_FLIGHT[view] if field.name not in without])
    return pa.table([made[name] if name in made else calls[name] for name in schema.names], schema=schema)


def _account_tokens(accounts: pa.ChunkedArray, secret: bytes) -> pa.Array:
    encoded = few(accounts)
    return tokens.mac([encoded.dictionary], secret).take(encoded.indices)


def _ring_seconds(calls: pa.Table) -> pa.Array:
    """Whole seconds from the first ring to the answer, or to the end of an attempt that was not answered."""
    until = flat(pc.coalesce(calls["answer_time"], calls["end_time"])).view(pa.int64())
    return pc.divide(pc.subtract(until, flat(calls["ring_time"]).view(pa.int64())), 1000)


def talk_steps(talk_ms: pa.ChunkedArray) -> pa.Array:
    """Talk in seconds, rounded up to steps of six."""
    step_ms = TALK_STEP_S * 1000
    return pc.multiply(pc.divide(pc.add(talk_ms, step_ms - 1), step_ms), TALK_STEP_S)


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
    """Yield the rows of each view and call_date of a deduplicated, rated group."""
    parts: dict[tuple[str, str], list[Part]] = {}
    for first in range(0, group.calls.num_rows, SLAB):
        for call_date, calls in by_date(_slab(group.calls, first)):
            for part in split(calls, group.tenant, call_date[:7], workspace, closed_views(group, call_date)):
                parts.setdefault((part.view, call_date), []).append(part)
    for (view, call_date), slabs in sorted(parts.items()):
        rows, inputs = pa.concat_tables([part.rows for part in slabs]), sum((part.inputs for part in slabs), Counter())
        yield ViewRows(view, group.tenant, call_date, group.bits, group.shard, rows, inputs)


def closed_views(group: Group, call_date: str) -> set[str]:
    """Return what the window of a date's calls is past for."""
    shut = {"assurance": group.without_assurance, "billing": group.without_billing, "numbers": group.without_numbers}
    return {name for name, days in shut.items() if call_date in days}
