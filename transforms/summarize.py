"""Summarize: rows of the billing view and of the index, as stored → differences of the derived tables.

All figures add; ratios are for readers. What the index knows of each record's service makes the tables of assurance.

KPIs (ITU-T E.425, as formats.md section 3 quotes it): ASR = answered / seizures, NER = (answered + user busy + ring no
answer + terminal reject or unavailable) / seizures. A seizure is counted per route attempt on the egress side, and
once per caller's call (leg 0) on the ingress side. Attempts of unknown disposition are in no numerator or denominator.
Legs inside the switch are no seizures, nor are attempts that the switch gave up because another one was answered.

Figures finer than the hour, or with a prefix, are of calls that nobody answered and billing has no row of.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.accounts.zones import BillingZones
from callward.columns import constant, few, filled, flat, has_value, overlaid, words
from callward.lake import row_index
from callward.lake.ledger import Changes
from callward.workspace import Workspace
from schemas.cdr import FEW, ROLES, TIMESTAMP
from schemas.codes import ERASED_ACCOUNT
from schemas.tables import SUMMARIZED, key_columns, sum_columns
from schemas.views import INDEX, VIEW_BITS
from transforms.elements import Rewrite, ViewRows
from transforms.pool import pool_columns

NER_SUCCESS = ("answered", "busy", "no_answer", "abandoned_alerting", "rejected")
UNKNOWN_TRUNK = "unknown"
TALK_STEP_S = 6
PDD_BUCKETS_PER_OCTAVE = 4
FIVE_MINUTES_MS = 300_000
HOUR_MS = 3_600_000
UNKNOWN_CAUSE = -1
_INTERNAL = ROLES.index("internal")
_CANCELLED = 487  # the SIP status of an attempt that the switch took back
_TABLES = {table.name: table for table in SUMMARIZED}

_CHILD_COLUMNS = ("cause_q850", "cause_sip", "mos", "mos_method")
_SUMMED = {
    "billing": ["account", "answer", "start", "direction", "destination", "talk_ms", "billable_s"],
    INDEX: [
        *("state", "parts", "kind", "role", "account", "leg", "start_time", "talk_ms", "pdd_ms"),
        *("disposition", "trunk_in", "trunk_out", "released_by", "called_prefix", *_CHILD_COLUMNS),
    ],
}

Derived = dict[str, pa.Table]


def summarize(view: str, rows: pa.Table, tenant: str, zones: BillingZones, sites: Mapping[str, str]) -> Derived:
    """Return what rows of a view, or of the index, add to each derived table; the assurance view's add nothing.

    `sites`: of customers' trunks (`Workspace.sites`).
    """
    if not rows.num_rows or view not in ("billing", INDEX):
        return {}
    # Rows as they are written, or as they are stored: text is FEW or not.
    rows = rows.select(_SUMMED[view]).unify_dictionaries()
    if view == "billing":
        return _billing(rows, tenant, zones)
    counted = row_index.of_view(rows, "assurance")
    rows = rows if pc.all(counted).as_py() else rows.filter(counted)
    return _assurance(pool_columns(rows, ("trunk_in", "trunk_out"), sites), tenant) if rows.num_rows else {}


def negative(derived: Derived) -> Derived:
    """Return differences taken away: for rows that are rewritten."""
    result = {}
    for name, table in derived.items():
        for column in sum_columns(_TABLES[name]):
            table = table.set_column(table.schema.get_field_index(column), column, pc.negate(table[column]))
        result[name] = table
    return result


def pdd_bucket(pdd_ms: np.ndarray) -> np.ndarray:
    """Log bucket of a post-dial delay: floor(4·log2(ms)): bounds 19 % apart; 0 ms and 1 ms share bucket 0."""
    return np.asarray(np.floor(PDD_BUCKETS_PER_OCTAVE * np.log2(np.maximum(pdd_ms, 1))), np.int64)


def _sum(name: str, columns: dict[str, pa.Array | pa.ChunkedArray], tenant: str) -> pa.Table:
    """Group by the table's key and add up the rest."""
    table = _TABLES[name]
    keys, sums = [k for k in key_columns(table) if k != "tenant"], [s for s in sum_columns(table) if s in columns]
    grouped = pa.table(columns).group_by(keys, use_threads=False).aggregate([(s, "sum") for s in sums])
    named = {s: pc.cast(grouped[f"{s}_sum"], pa.int64()) for s in sums}
    plain = {key: _plain(grouped[key]) for key in keys}
    return pa.table({"tenant": pa.repeat(tenant, grouped.num_rows), **plain, **named})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if column.type == FEW else column


def talk_steps(talk_ms: pa.ChunkedArray) -> pa.Array:
    """Return talk in seconds, rounded up to steps of six."""
    step_ms = TALK_STEP_S * 1000
    return pc.multiply(pc.divide(pc.add(talk_ms, step_ms - 1), step_ms), TALK_STEP_S)


def _flags(condition: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pc.cast(pc.fill_null(condition, False), pa.int64())


def _billing(rows: pa.Table, tenant: str, zones: BillingZones) -> Derived:
    columns = {
        "account": rows["account"],
        "billing_date": zones.dates(pc.coalesce(rows["answer"], rows["start"]), rows["account"]),
        "direction": filled(rows["direction"], "unknown"),
        "destination": filled(rows["destination"], "unknown"),
        "calls": pa.repeat(1, rows.num_rows),
        "answered": _flags(pc.is_valid(rows["answer"])),
        "talk_ms": pc.fill_null(rows["talk_ms"], 0),
        "billable_s": rows["billable_s"],
    }
    return {"billing_usage_daily": _sum("billing_usage_daily", columns, tenant)}


def _attempts(rows: pa.Table) -> dict[str, pa.Array]:
    """Return what every table of attempts adds up, per row."""
    disposition = rows["disposition"]
    return {
        "attempts": pa.repeat(1, rows.num_rows),
        "unknown": _flags(has_value(disposition, "unknown")),
        "answered": _flags(has_value(disposition, "answered")),
        "ner_success": _flags(has_value(disposition, *NER_SUCCESS)),
        "rescued": _flags(has_value(rows["kind"], "route")),
        "talk_s": pc.fill_null(talk_steps(rows["talk_ms"]), 0),
        "pdd_ms": pc.fill_null(rows["pdd_ms"], 0),
        "pdd_count": _flags(pc.is_valid(rows["pdd_ms"])),
    }


def _assurance(rows: pa.Table, tenant: str) -> Derived:
    attempts = _attempts(rows)
    sides = [_side(rows, attempts, side) for side in ("ingress", "egress")]
    joined = pa.concat_tables([side for side in sides if side.num_rows] or sides[:1], promote_options="default")
    joined = joined.unify_dictionaries()
    seizures = pc.subtract(joined["attempts"], joined["unknown"])
    trunk = {name: joined[name] for name in joined.column_names if name in (*attempts, "hour", "side", "trunk")}
    derived = {
        "assurance_trunk_hourly": _sum("assurance_trunk_hourly", {**trunk, "seizures": seizures}, tenant),
        "assurance_trunk_hourly_pdd": _child(joined, "pdd", _pdd, tenant),
        "assurance_trunk_hourly_cause": _child(joined, "cause", _causes, tenant),
        "assurance_trunk_hourly_mos": _child(joined, "mos", _mos, tenant),
        **_failed(rows, tenant),
        "sla_account_daily": _accounts(rows, attempts, tenant),
    }
    return {name: table for name, table in derived.items() if table.num_rows}


def _side(rows: pa.Table, attempts: dict[str, pa.Array], side: str) -> pa.Table:
    """Return rows as one side of the switch counts them."""
    trunk, counted = rows[_TRUNK[side]], seized(rows, side)
    # A measure that no row has is not carried along: most sources lack some.
    child = {name: rows[name] for name in _CHILD_COLUMNS if rows[name].null_count < rows.num_rows}
    child |= {"pdd": rows["pdd_ms"]} if rows["pdd_ms"].null_count < rows.num_rows else {}
    hour = _whole(rows, HOUR_MS)
    table = pa.table({"hour": hour, "trunk": filled(trunk, UNKNOWN_TRUNK), **attempts, **child})
    table = table if pc.all(counted).as_py() else table.filter(counted)
    return table.append_column("side", constant(side, table.num_rows))


_TRUNK = {"ingress": "trunk_in", "egress": "trunk_out"}


def seized(rows: pa.Table, side: str) -> pa.Array:
    """Return which rows are seizures of a trunk of a side: a caller's call, or an attempt on a route."""
    outside = pc.invert(pc.fill_null(pc.equal(rows["role"], _INTERNAL), False))
    if side == "ingress":
        return pc.and_(outside, pc.equal(pc.fill_null(rows["leg"], 0), 0))
    return pc.and_(pc.and_(outside, pc.is_valid(rows["trunk_out"])), pc.invert(_lost(rows)))


def _lost(rows: pa.Table) -> pa.Array:
    """Return which rows lost the race to another leg: given up, though their call was answered."""
    given_up = pc.or_(
        has_value(rows["disposition"], "abandoned_alerting", "abandoned_before_alerting"),
        pc.fill_null(pc.equal(rows["cause_sip"], _CANCELLED), False),
    )
    return pc.and_(has_value(rows["kind"], "route"), given_up)


def _whole(rows: pa.Table, unit_ms: int) -> pa.Array:
    """Return the start of rows in whole units."""
    return pa.array(words(rows["start_time"]).view(np.int64) // unit_ms * unit_ms).view(TIMESTAMP)


def is_failed(rows: pa.Table) -> pa.Array:
    """Return which rows of the index are attempts that figures tell in full: their call has no row in billing."""
    billed = pc.bit_wise_and(rows["parts"], pa.scalar(VIEW_BITS["billing"], pa.int16()))
    return pc.and_(has_value(rows["kind"], "failed"), pc.equal(billed, 0))


def _failed(rows: pa.Table, tenant: str) -> Derived:
    """Return attempts of calls that nobody answered, by trunk: each five minutes' causes, each hour's destinations."""
    rows = rows.filter(is_failed(rows))
    sides = [(side, rows.filter(seized(rows, side))) for side in _TRUNK]
    tables = {
        "assurance_failed_5min": [_failed_causes(few, side) for side, few in sides],
        "assurance_failed_destination_hourly": [
            _failed_destinations(few, side) for side, few in sides if side == "egress"
        ],
    }
    return {name: _sum(name, _stacked(of_sides), tenant) for name, of_sides in tables.items()}


def _stacked(tables: list[pa.Table]) -> dict[str, pa.ChunkedArray]:
    joined = pa.concat_tables(tables).unify_dictionaries()
    return {name: joined[name] for name in joined.column_names}


def _failed_on(rows: pa.Table, side: str) -> dict[str, pa.Array | pa.ChunkedArray]:
    return {
        "side": constant(side, rows.num_rows),
        "trunk": filled(rows[_TRUNK[side]], UNKNOWN_TRUNK),
        "disposition": few(rows["disposition"]),
        "attempts": pa.repeat(1, rows.num_rows),
    }


def _failed_causes(rows: pa.Table, side: str) -> pa.Table:
    causes = {name: pc.fill_null(rows[name].cast(pa.int64()), UNKNOWN_CAUSE) for name in ("cause_q850", "cause_sip")}
    released_by = filled(rows["released_by"], "unknown")
    start = _whole(rows, FIVE_MINUTES_MS)
    return pa.table({"start": start, **_failed_on(rows, side), **causes, "released_by": released_by})


def _failed_destinations(rows: pa.Table, side: str) -> pa.Table:
    called_prefix = filled(rows["called_prefix"], "")
    return pa.table({"hour": _whole(rows, HOUR_MS), **_failed_on(rows, side), "called_prefix": called_prefix})


def _child(joined: pa.Table, what: str, columns: Callable[[pa.Table], pa.Table], tenant: str) -> pa.Table:
    parts = columns(joined)
    name = f"assurance_trunk_hourly_{what}"
    return _sum(name, {column: parts[column] for column in parts.column_names}, tenant)


def _known(joined: pa.Table, measure: str, *more: str) -> pa.Table:
    """Return the rows that have a measure: their trunk key and the measure (none where no row has it)."""
    columns = [*_KEY, measure, *(name for name in more if name in joined.column_names)]
    if measure not in joined.column_names:
        return joined.select(_KEY).slice(0, 0)
    return joined.select(columns).filter(pc.is_valid(joined[measure]))


_KEY = ["hour", "side", "trunk"]


def _trunk_key(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table[name] for name in ("hour", "side", "trunk")}


def _pdd(joined: pa.Table) -> pa.Table:
    known = _known(joined, "pdd")
    bucket = pdd_bucket(flat(known["pdd"]).to_numpy()) if known.num_rows else np.zeros(0, np.int64)
    return pa.table({**_trunk_key(known), "bucket": bucket, "count": pa.repeat(1, known.num_rows)})


def _causes(joined: pa.Table) -> pa.Table:
    parts = []
    for kind in ("q850", "sip"):
        known = _known(joined, f"cause_{kind}")
        cause = pc.cast(known[f"cause_{kind}"], pa.int64()) if known.num_rows else pa.array([], pa.int64())
        parts.append(
            pa.table(
                {
                    **_trunk_key(known),
                    "kind": pa.repeat(kind, known.num_rows),
                    "cause": cause,
                    "count": pa.repeat(1, known.num_rows),
                }
            )
        )
    return pa.concat_tables(parts)


def _mos(joined: pa.Table) -> pa.Table:
    known = _known(joined, "mos", "mos_method")
    if not known.num_rows:
        nothing = {
            "method": pa.array([], pa.string()),
            "mos_milli": pa.array([], pa.int64()),
            "count": pa.array([], pa.int64()),
        }
        return pa.table({**_trunk_key(known), **nothing})
    method = (
        filled(known["mos_method"], "unknown")
        if "mos_method" in known.column_names
        else pa.repeat("unknown", known.num_rows)
    )
    scores = {"mos_milli": _milli(known["mos"]), "count": pa.repeat(1, known.num_rows)}
    return pa.table({**_trunk_key(known), "method": method, **scores})


def _milli(mos: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.round(pc.multiply(pc.cast(mos, pa.float64()), 1000.0)), pa.int64())


def _accounts(rows: pa.Table, attempts: dict[str, pa.Array], tenant: str) -> pa.Table:
    """Return sums per account and day; of caller's calls only, as route attempts do not count against an account.

    A row whose person had the account erased counts against none.
    """
    scored = flat(pc.is_valid(rows["mos"]))
    columns = {
        "account": rows["account"],
        "call_date": pc.cast(rows["start_time"], pa.date32()),
        "region": filled(rows["called_prefix"], ""),
        "mos_method": overlaid(filled(rows["mos_method"], "unknown"), pc.invert(scored), ""),
        "mos_milli": pc.fill_null(_milli(rows["mos"]), 0),
        "mos_count": _flags(scored),
        "talk_ms": pc.fill_null(rows["talk_ms"], 0),
        **attempts,
    }
    of_account = pc.and_(pc.is_valid(rows["account"]), pc.invert(has_value(rows["account"], ERASED_ACCOUNT)))
    callers = pc.and_(pc.equal(pc.fill_null(rows["leg"], 0), 0), of_account)
    table = pa.table(columns)
    table = table if pc.all(callers).as_py() else table.filter(callers)
    return _sum("sla_account_daily", {name: table[name] for name in table.column_names}, tenant)


def differences(element: ViewRows | Rewrite, workspace: Workspace) -> Changes:
    """Return what written, taken or rewritten rows of a tenant change in the derived tables."""
    derived = _differences(element, workspace)
    return Changes(derived={name: [table] for name, table in derived.items()})


def _differences(element: ViewRows | Rewrite, workspace: Workspace) -> Derived:
    if isinstance(element, Rewrite):  # what was taken away has come by itself; what replaces it comes here
        tenant = element.file.tenant
        how = tenant, workspace.billing_zones(tenant), workspace.sites
        return {} if element.changed is None else summarize(element.file.view, element.changed, *how)
    zones = workspace.billing_zones(element.tenant)
    derived = summarize(element.view, element.rows, element.tenant, zones, workspace.sites)
    return negative(derived) if element.taken else derived
