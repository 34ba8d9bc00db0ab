"""Close: a date's records of the row index → the parts of assurance made anew, and the tables that a date gets then.

A part that came with its commits tells, by its files, which rows came together. Here all rows of a date are told anew,
each only as finely as enough others are (docs/adr/0024): `answered` by the hour and trunks, by four hours, by the day,
or by the day alone; how long calls were, where they went, and how many talked at once, as sums. `failed` stays as it
is: billing has none of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import few, filled, flat, has_value, set_column, words
from callward.keys import tokens
from callward.lake import cells
from callward.lake.cells import Codes
from callward.workspace import Workspace
from schemas.cdr import TIMESTAMP
from schemas.tables import assurance_durations_daily, assurance_erlangs_hourly, assurance_prefix_daily
from schemas.views import PARTS
from transforms.pool import pool_columns
from transforms.split import IN_ANSWERED, Part, assurance_part, opened, with_part
from transforms.summarize import UNKNOWN_TRUNK, seized

POOLED: Final = "pooled"  # trunks of which too few rows are alike
LONGEST_S: Final = 31 * 86_400  # no call is longer: schemas.codes.Suspense.DURATION
_HOUR_MS: Final = 3_600_000
_SPANS_H: Final = (1, 4, 24)
_STEPS: Final = (1.2, 1.7)  # from one bound of talk to the next
_TRUNKS: Final = ("trunk_in", "trunk_out")
_PLACES: Final = ("source", "leg", *_TRUNKS)


def as_calls(rows: pa.Table, tenant: str, workspace: Workspace, by_the_hour: np.ndarray) -> pa.Table:
    """Return accepted rows of the index (ROW_INDEX without numbers, each of a call) as calls that Split takes, with
    their part.

    `by_the_hour`: first halves of the ids of records that the part `answered` has already (uint64 [n], ascending): what
    was once told by the hour stays so.
    """
    columns = {"ingress_trunk": rows["trunk_in"], "egress_trunk": rows["trunk_out"]}
    columns |= {name: rows[name] for name in rows.column_names if name not in _TRUNKS}
    text = {name: few(column) for name, column in columns.items() if column.type == pa.string()}
    calls = pa.table({**columns, **text})
    told = _among(tokens.as_u64(calls["record_id"])[:, 0], by_the_hour)
    return with_part(calls, tenant, workspace, tokens.as_u64(calls["call_id"])[told, 0])


def _among(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    if not len(ascending):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[at] == values)


def close(calls: pa.Table, tenant: str, month: str, workspace: Workspace) -> Iterator[Part]:
    """Yield the rows of each part of assurance, in the order of their ids, which are those that the rows had.

    `calls`: of one tenant and month (YYYY-MM), as `as_calls` returns them.
    """
    in_answered = np.asarray(flat(calls[IN_ANSWERED]).to_numpy(zero_copy_only=False))
    for name, mask in zip(PARTS["assurance"], (~in_answered, in_answered), strict=True):
        rows = np.flatnonzero(mask)
        if len(rows):
            secret = opened(workspace, name, tenant, month)["id"]
            part = assurance_part(name, calls, rows, secret, workspace.sites)
            yield replace(part, rows=in_cells(part.rows)) if name == "answered" else part


def in_cells(answered: pa.Table) -> pa.Table:
    """Return rows of the part `answered`, each at the finest level whose cell has enough rows."""
    start = words(answered["start"]).view(np.int64)
    moments = [start // (span * _HOUR_MS) * (span * _HOUR_MS) for span in _SPANS_H]
    places = [_codes(answered[name]) for name in _PLACES]
    level = cells.finest([*([moment, *places] for moment in moments), [moments[-1]]])
    at = np.minimum(level, 2)
    told = set_column(answered, "start", pa.array(np.choose(at, moments)).view(TIMESTAMP))
    told = set_column(told, "span_h", pa.array(np.array(_SPANS_H, np.int16)[at]))
    by_day_alone = pa.array(level == 3)
    for name in _PLACES:
        told = set_column(told, name, _hidden(flat(told[name]), by_day_alone))
    return told


def _hidden(column: pa.Array, where: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return few(_hidden(column.cast(pa.string()), where))
    return pc.if_else(where, pa.scalar(None, column.type), column)


def tables(calls: pa.Table, tenant: str, call_date: str, sites: Mapping[str, str]) -> dict[str, pa.Table]:
    """Return what closing adds to each table of schemas.tables.CLOSED, of calls (`as_calls`) of one tenant's date.

    `sites`: of customers' trunks (`Workspace.sites`).
    """
    calls = pool_columns(calls, ("ingress_trunk", "egress_trunk"), sites)
    day = pa.scalar(call_date).cast(pa.date32())
    made = {
        assurance_durations_daily.name: durations(calls),
        assurance_prefix_daily.name: prefixes(calls),
        assurance_erlangs_hourly.name: erlangs(calls),
    }
    return {
        name: table.add_column(0, "call_date", pa.repeat(day, table.num_rows)).add_column(
            0, "tenant", pa.repeat(tenant, table.num_rows)
        )
        for name, table in made.items()
        if table.num_rows
    }


@dataclass(frozen=True)
class Told:
    """What a table says of rows at each level (key columns, shape [rows]), and the level that each is told at."""

    levels: Sequence[Mapping[str, pa.Array]]
    level: Codes

    @classmethod
    def finely(cls, levels: Sequence[Mapping[str, pa.Array]], whole: int | None = None) -> "Told":
        """Tell each row as finely as enough others are (callward/lake/cells.py)."""
        coded = [[_codes(column) for column in level.values()] for level in levels]
        return cls(levels, cells.finest(coded, whole=whole))

    def keys(self) -> dict[str, pa.Array]:
        at = pa.array(self.level)
        return {name: pc.choose(at, *(level[name] for level in self.levels)) for name in self.levels[0]}


def durations(calls: pa.Table) -> pa.Table:
    """Return answered attempts and their talk by trunks and length (`told_durations`)."""
    answered = talked(calls)
    sums = {"calls": pa.repeat(1, answered.num_rows), "talk_ms": answered["talk_ms"]}
    return _summed(told_durations(answered).keys(), sums)


def talked(calls: pa.Table) -> pa.Table:
    """Return the answered calls whose talk is known."""
    return calls.filter(pc.and_(has_value(calls["disposition"], "answered"), pc.is_valid(calls["talk_ms"])))


def told_durations(answered: pa.Table) -> Told:
    """Return calls that talked by trunks and length: steps of 20 %, of 70 %, all, or trunks pooled.

    Trunks that have enough calls keep all of them, so their talk by call is exact.
    """
    trunks = dict(zip(_TRUNKS, (_trunk(answered, side) for side in ("ingress", "egress")), strict=True))
    pooled = {name: _same(POOLED, answered) for name in _TRUNKS}
    seconds = np.asarray(flat(answered["talk_ms"]).to_numpy()) // 1000
    everything = _step(np.array([0, LONGEST_S + 1]), seconds)
    steps = [_step(_bounds(step), seconds) for step in _STEPS]
    levels = [*({**trunks, **step} for step in steps), {**trunks, **everything}, {**pooled, **everything}]
    return Told.finely(levels, whole=2)


def _step(bounds: Codes, seconds: Codes) -> dict[str, pa.Array]:
    step = np.searchsorted(bounds, seconds, side="right")
    return {"from_s": pa.array(bounds[step - 1]), "to_s": pa.array(bounds[step])}


def prefixes(calls: pa.Table) -> pa.Table:
    """Return attempts by called prefix, trunk and disposition (`told_prefixes`)."""
    return _summed(told_prefixes(calls).keys(), {"attempts": pa.repeat(1, calls.num_rows)})


def told_prefixes(calls: pa.Table) -> Told:
    """Return attempts by called prefix, trunk and disposition: area or country, country, neither, or pooled trunks."""
    prefix = flat(filled(calls["called_prefix"], "").cast(pa.string()))
    country, nowhere = pc.if_else(pc.starts_with(prefix, "+1"), "+1", prefix), _same("", calls)
    trunk, disposition = _trunk(calls, "egress"), flat(calls["disposition"].cast(pa.string()))
    beside = {"trunk_out": trunk, "disposition": disposition}
    levels = [{"called_prefix": place, **beside} for place in (prefix, country, nowhere)]
    return Told.finely([*levels, {**levels[-1], "trunk_out": _same(POOLED, calls)}])


def erlangs(calls: pa.Table) -> pa.Table:
    """Return how many calls talked in each hour on each trunk, and for how many minutes (`told_hours`).

    Minutes are whole ones, rounded once for each cell: exact talk, less what other tables say of it, could be one
    call's.
    """
    hours = [hours_of(calls, side) for side in ("ingress", "egress")]
    pieces = pa.concat_tables(hours)
    sums = {"calls": pa.repeat(1, pieces.num_rows), "talk_ms": pieces["talk_ms"]}
    table = _summed(told_hours(pieces).keys(), sums)
    minutes = pc.divide(pc.add(table["talk_ms"], 30_000), 60_000)
    return table.drop_columns("talk_ms").append_column("talk_min", minutes)


def hours_of(calls: pa.Table, side: str) -> pa.Table:
    """Return the hours that calls talked in on the trunk of a side: hour, side, trunk, talk_ms clipped to the hour, and
    of which of the calls each is (`row`)."""
    talk = pc.greater(calls["talk_ms"], 0).fill_null(False)
    seized = pc.and_(_seizes(calls, side), pc.and_(has_value(calls["disposition"], "answered"), talk))
    row = np.flatnonzero(flat(seized).to_numpy(zero_copy_only=False))
    few = calls.take(pa.array(row))
    talk_ms = np.asarray(flat(few["talk_ms"]).to_numpy())
    until = flat(few["end_time"]).view(pa.int64()).fill_null(0).to_numpy()
    began = words(few["start_time"]).view(np.int64)
    until = np.where(until > 0, until, began + talk_ms)
    began = until - talk_ms
    many = (until - 1) // _HOUR_MS - began // _HOUR_MS + 1
    of = np.repeat(np.arange(len(few)), many)
    hour = (began // _HOUR_MS)[of] + np.arange(len(of)) - np.repeat(np.cumsum(many) - many, many)
    low, high = np.maximum(began[of], hour * _HOUR_MS), np.minimum(until[of], (hour + 1) * _HOUR_MS)
    return pa.table(
        {
            "hour": pa.array(hour * _HOUR_MS).view(TIMESTAMP),
            "side": pa.repeat(side, len(of)),
            "trunk": _trunk(few, side).take(pa.array(of)),
            "talk_ms": high - low,
            "row": row[of],
        }
    )


def told_hours(pieces: pa.Table) -> Told:
    """Return hours of calls by side and trunk, or with all trunks of the side pooled."""
    by_trunk = {name: flat(pieces[name]) for name in ("hour", "side", "trunk")}
    return Told.finely([by_trunk, {**by_trunk, "trunk": _same(POOLED, pieces)}])


def _seizes(calls: pa.Table, side: str) -> pa.Array:
    """Return which answered calls are on a trunk of a side; as transforms.summarize counts them."""
    index = {"trunk_in": calls["ingress_trunk"], "trunk_out": calls["egress_trunk"]}
    names = ("role", "leg", "kind", "disposition", "cause_sip")
    return seized(pa.table({**index, **{name: calls[name] for name in names}}), side)


def _same(value: str, rows: pa.Table) -> pa.Array:
    return pa.repeat(value, rows.num_rows)


def _trunk(calls: pa.Table, side: str) -> pa.Array:
    return flat(filled(calls[f"{side}_trunk"], UNKNOWN_TRUNK).cast(pa.string()))


def _bounds(step: float) -> Codes:
    """Return whole seconds from 0, each about `step` times the one before, and last the one beyond the longest call."""
    powers = np.ceil(step ** np.arange(0, np.log(LONGEST_S) / np.log(step) + 1)).astype(np.int64)
    return np.unique([0, *powers[powers <= LONGEST_S], LONGEST_S + 1])


def _summed(keys: Mapping[str, pa.Array], sums: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    table = pa.table({**keys, **sums}).group_by(list(keys), use_threads=False)
    summed = table.aggregate([(name, "sum") for name in sums])
    return summed.rename_columns([name.removesuffix("_sum") for name in summed.column_names])


def _codes(column: pa.Array | pa.ChunkedArray) -> Codes:
    """Return values as numbers; null is -1. Integers are themselves, so that their order is not that of the rows."""
    if pa.types.is_integer(column.type):
        return np.asarray(flat(column).cast(pa.int64()).fill_null(-1).to_numpy(), np.int64)
    encoded = flat(column) if pa.types.is_dictionary(column.type) else flat(column).dictionary_encode()
    return np.asarray(encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
