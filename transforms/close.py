"""Close: a date's records of the row index → the parts of assurance made anew, and the tables that a date gets then.

A part that came with its commits tells, by its files, which rows came together. Here all rows of a date are told anew,
each only as finely as enough others are (docs/adr/0024): `answered` by the hour and trunks, by four hours, by the day,
or by the day alone; how long calls were, and where they went, as sums. `failed` stays as it is: billing has none of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from schemas.tables import assurance_durations_daily, assurance_prefix_daily
from schemas.views import PARTS
from transforms.split import IN_ANSWERED, Part, assurance_part, opened, with_part
from transforms.summarize import UNKNOWN_TRUNK

POOLED: Final = "pooled"  # trunks of which too few rows are alike
LONGEST_S: Final = 31 * 86_400  # no call is longer: schemas.codes.Suspense.DURATION
_HOUR_MS: Final = 3_600_000
_SPANS_H: Final = (1, 4, 24)
_STEPS: Final = (1.2, 1.7)  # from one bound of talk to the next
_TRUNKS: Final = ("trunk_in", "trunk_out")
_PLACES: Final = ("source", "leg", *_TRUNKS)


def as_calls(rows: pa.Table, tenant: str, workspace: Workspace, by_the_hour: pa.Array) -> pa.Table:
    """Return accepted rows of the index (ROW_INDEX without numbers) as calls that Split takes, with their part.

    `by_the_hour`: ids of records that the part `answered` has already: what was once told by the hour stays so.
    """
    columns = {"ingress_trunk": rows["trunk_in"], "egress_trunk": rows["trunk_out"]}
    columns |= {name: rows[name] for name in rows.column_names if name not in _TRUNKS}
    columns["call_id"] = flat(pc.coalesce(rows["call_id"], rows["record_id"]))
    text = {name: few(column) for name, column in columns.items() if column.type == pa.string()}
    calls = pa.table({**columns, **text})
    told = pc.is_in(flat(calls["record_id"]), by_the_hour)
    return with_part(calls, tenant, workspace, tokens.as_u64(flat(calls["call_id"]).filter(told))[:, 0])


def close(calls: pa.Table, tenant: str, month: str, workspace: Workspace) -> Iterator[Part]:
    """Yield the rows of each part of assurance, in the order of their ids, which are those that the rows had.

    `calls`: of one tenant and month (YYYY-MM), as `as_calls` returns them.
    """
    in_answered = np.asarray(flat(calls[IN_ANSWERED]).to_numpy(zero_copy_only=False))
    for name, mask in zip(PARTS["assurance"], (~in_answered, in_answered), strict=True):
        rows = np.flatnonzero(mask)
        if len(rows):
            part = assurance_part(name, calls, rows, opened(workspace, name, tenant, month)["id"])
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


def tables(calls: pa.Table, tenant: str, call_date: str) -> dict[str, pa.Table]:
    """Return what closing adds to each table of schemas.tables.CLOSED, of calls (`as_calls`) of one tenant's date."""
    day = pa.scalar(call_date).cast(pa.date32())
    made = {assurance_durations_daily.name: durations(calls), assurance_prefix_daily.name: prefixes(calls)}
    return {
        name: table.add_column(0, "call_date", pa.repeat(day, table.num_rows)).add_column(
            0, "tenant", pa.repeat(tenant, table.num_rows)
        )
        for name, table in made.items()
        if table.num_rows
    }


def durations(calls: pa.Table) -> pa.Table:
    """Return answered attempts and their talk by trunks and length: steps of 20 %, of 70 %, all, or trunks pooled."""
    answered = calls.filter(pc.and_(has_value(calls["disposition"], "answered"), pc.is_valid(calls["talk_ms"])))
    trunks = [_trunk(answered, side) for side in ("ingress", "egress")]
    codes = [_codes(trunk) for trunk in trunks]
    seconds = np.asarray(flat(answered["talk_ms"]).to_numpy()) // 1000
    everything = np.zeros(len(seconds), np.int64)
    bounds = [*(_bounds(step) for step in _STEPS), np.array([0, LONGEST_S + 1])]
    steps = [np.searchsorted(edges, seconds, side="right") - 1 for edges in bounds]
    level = cells.finest([*([*codes, step] for step in steps), [everything]])
    at = np.minimum(level, 2)
    low, high = (
        np.choose(at, [edges[step + more] for edges, step in zip(bounds, steps, strict=True)]) for more in (0, 1)
    )
    pooled = pa.array(level == 3)
    return _summed(
        {
            **{name: _pooled(trunk, pooled) for name, trunk in zip(_TRUNKS, trunks, strict=True)},
            "from_s": pa.array(low, pa.int64()),
            "to_s": pa.array(high, pa.int64()),
        },
        {"calls": pa.repeat(1, answered.num_rows), "talk_ms": answered["talk_ms"]},
    )


def prefixes(calls: pa.Table) -> pa.Table:
    """Return attempts by called prefix, trunk and disposition: area or country, country, neither, or pooled trunks."""
    prefix = flat(filled(calls["called_prefix"], "").cast(pa.string()))
    country = pc.if_else(pc.starts_with(prefix, "+1"), "+1", prefix)
    nowhere = pa.array([""] * len(prefix))
    trunk, disposition = _trunk(calls, "egress"), flat(calls["disposition"].cast(pa.string()))
    beside = [_codes(trunk), _codes(disposition)]
    told = [prefix, country, nowhere]
    level = cells.finest([*([_codes(column), *beside] for column in told), [beside[1]]])
    at = np.minimum(level, 2)
    keys = {
        "called_prefix": pc.choose(pa.array(at), *told),
        "trunk_out": _pooled(trunk, pa.array(level == 3)),
        "disposition": disposition,
    }
    return _summed(keys, {"attempts": pa.repeat(1, calls.num_rows)})


def _trunk(calls: pa.Table, side: str) -> pa.Array:
    return flat(filled(calls[f"{side}_trunk"], UNKNOWN_TRUNK).cast(pa.string()))


def _pooled(trunk: pa.Array, pooled: pa.Array) -> pa.Array:
    return pc.if_else(pooled, POOLED, trunk)


def _bounds(step: float) -> Codes:
    """Return whole seconds from 0, each about `step` times the one before, and last the one beyond the longest call."""
    powers = np.ceil(step ** np.arange(0, np.log(LONGEST_S) / np.log(step) + 1)).astype(np.int64)
    return np.unique([0, *powers[powers <= LONGEST_S], LONGEST_S + 1])


def _summed(keys: Mapping[str, pa.Array], sums: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    table = pa.table({**keys, **sums}).group_by(list(keys), use_threads=False)
    summed = table.aggregate([(name, "sum") for name in sums])
    return summed.rename_columns([name.removesuffix("_sum") for name in summed.column_names])


def _codes(column: pa.Array | pa.ChunkedArray) -> Codes:
    """Return values as numbers; null is -1."""
    encoded = flat(column) if pa.types.is_dictionary(column.type) else flat(column).dictionary_encode()
    return np.asarray(encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
