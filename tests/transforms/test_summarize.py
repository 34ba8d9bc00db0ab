"""Summarize: figures add up however the rows are cut, take away what they gave, and follow the tenant's local day."""

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.accounts.zones import BillingZones
from callward.lake.additive import sum_derived
from schemas.cdr import DISPOSITIONS, ROLES
from schemas.codes import ERASED_ACCOUNT
from schemas.tables import SUMMARIZED, key_columns, sum_columns
from schemas.views import BILLING, IN_FLIGHT, INDEX, ROW_INDEX, VIEW_BITS, VIEW_PARTS
from tests.examples import tries
from transforms.summarize import negative, pdd_bucket, summarize

T0 = 1_772_712_000_000
TABLES = {table.name: table for table in SUMMARIZED}
BOTH = (sum(VIEW_BITS.values()), VIEW_BITS["assurance"])  # what the index says of a record that assurance has

ATTEMPT = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["accepted", "accepted", "accepted", "duplicate"]),
        "parts": st.sampled_from([*BOTH, VIEW_BITS["billing"]]),
        "kind": st.sampled_from(["call", "failed", "route"]),
        "role": st.sampled_from([None, 0, ROLES.index("internal")]),
        "called_prefix": st.sampled_from([None, "+1303", "+52"]),
        "released_by": st.sampled_from([None, "caller"]),
        "account": st.sampled_from(["one", "two", ERASED_ACCOUNT]),
        "trunk_in": st.sampled_from([None, "one", "two"]),
        "trunk_out": st.sampled_from([None, "three"]),
        "leg": st.sampled_from([0, 0, 1]),
        "start_time": st.integers(0, 120).map(lambda minute: T0 + minute * 60_000),
        "talk_ms": st.sampled_from([None, 0, 1, 6000, 59_999]),
        "pdd_ms": st.one_of(st.none(), st.integers(0, 200_000)),
        "disposition": st.sampled_from(["answered", "busy", "unknown", "abandoned_alerting"]),
        "cause_q850": st.sampled_from([None, 16, 17]),
        "cause_sip": st.sampled_from([None, 200, 486, 487]),
        "mos": st.sampled_from([None, 1.25, 3.5, 4.4]),
        "mos_method": st.sampled_from([None, "cisco_mlqk"]),
    }
)
PAID = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["one", "two"]),
        "direction": st.sampled_from([None, "inbound"]),
        "destination": st.sampled_from([None, "US"]),
        "start": st.integers(0, 100).map(lambda hour: T0 + hour * 3_600_000),
        "answer": st.one_of(st.none(), st.integers(0, 100).map(lambda hour: T0 + hour * 3_600_000)),
        "talk_ms": st.one_of(st.none(), st.integers(0, 99_999)),
        "billable_s": st.integers(0, 100),
    }
)


def figures(parts):
    """Derived parts added up, as {table: {row}}."""
    found = {}
    for name, table in TABLES.items():
        mine = [part[name] for part in parts if name in part]
        rows = sum_derived(table, mine).to_pylist() if mine else []
        found[name] = sorted(tuple(row.values()) for row in rows)
    return found


@pytest.mark.parametrize(("view", "schema", "row"), [(INDEX, ROW_INDEX, ATTEMPT), ("billing", BILLING, PAID)])
@given(data=st.data())
@tries(40)
def test_figures_add_up_however_the_rows_are_cut_and_can_be_taken_back(view, schema, row, data):
    rows = data.draw(st.lists(row, max_size=20))
    cut = data.draw(st.integers(0, len(rows)))
    whole, left, right = (
        summarize(view, pa.Table.from_pylist(part, schema=schema), "t", BillingZones("America/Denver"), {})
        for part in (rows, rows[:cut], rows[cut:])
    )
    assert figures([left, right]) == figures([whole])
    assert figures([whole, negative(left)]) == figures([right])
    assert not any(figures([whole, negative(whole)]).values())


@given(delay=st.integers(0, 10_000_000))
def test_a_delay_lies_in_its_bucket_and_bounds_are_19_percent_apart(delay):
    bucket = int(pdd_bucket(np.array([delay]))[0])
    low, high = 2 ** (bucket / 4), 2 ** ((bucket + 1) / 4)
    assert low * (1 - 1e-12) <= max(delay, 1) < high * (1 + 1e-12)
    assert high / low == pytest.approx(math.sqrt(math.sqrt(2)))


@given(
    hours=st.integers(0, 24 * 400),
    zone=st.sampled_from(["America/Denver", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_the_billing_date_is_the_local_one_in_every_zone_and_season(hours, zone):
    answer = T0 + hours * 3_600_000
    row = {"account": "a", "start": answer - 90_000, "answer": answer, "talk_ms": 1, "billable_s": 1}
    table = summarize("billing", pa.Table.from_pylist([row], schema=BILLING), "t", BillingZones(zone), {})[
        "billing_usage_daily"
    ]
    assert table["billing_date"].to_pylist() == [
        datetime.fromtimestamp(answer / 1000, UTC).astimezone(ZoneInfo(zone)).date()
    ]


# -- the same figures from plain pandas --------------------------------------------------------------------------------

CALLS = 3000
# Three days around the night in which America/Denver leaves winter time, and a month's end in winter.
DAYS = [datetime(2026, 3, 7, tzinfo=UTC), datetime(2026, 2, 27, tzinfo=UTC)]
ZONES = {"mountain": "America/Denver", "island": "Australia/Lord_Howe", "plain": "UTC"}
CONNECTED = {"answered", "busy", "no_answer", "abandoned_alerting", "rejected"}


def _choices(rng, values):
    return [values[at] for at in rng.integers(0, len(values), CALLS)]


def _times(rng):
    """Moments of three days each, to the minute; a naive frame of UTC."""
    minutes = [DAYS[at].timestamp() / 60 + minute for at, minute in rng.integers(0, (len(DAYS), 4320), (CALLS, 2))]
    return pd.to_datetime(pd.Series(minutes), unit="m", utc=True).astype("datetime64[ms, UTC]")


def attempts(rng):
    """Attempts of every disposition with every measure now and then unknown, as a frame."""
    disposition = _choices(rng, DISPOSITIONS)
    fates = _choices(rng, ["failed", "route"])
    return pd.DataFrame(
        {
            "state": _choices(rng, ["accepted"] * 9 + ["duplicate"]),
            "parts": pd.array(_choices(rng, [*BOTH, *BOTH, 0]), "Int16"),
            "kind": [fate if word != "answered" else "call" for word, fate in zip(disposition, fates, strict=True)],
            "role": pd.array(_choices(rng, [*range(len(ROLES)), 0, None, None]), "Int8"),
            "called_prefix": _choices(rng, ["+1303", "+52", None]),
            "released_by": _choices(rng, ["caller", "network", None]),
            "account": _choices(rng, ["acct-1", "acct-2", "acct-3", ERASED_ACCOUNT, None]),
            "trunk_in": _choices(rng, ["one", "two", None]),
            "trunk_out": _choices(rng, ["two", "three", None, None]),
            "leg": pd.array(_choices(rng, [0, 0, 1, 2, None]), "Int16"),
            "start_time": _times(rng),
            "talk_ms": pd.array(_choices(rng, [0, 1, 6000, 6001, 3_600_000, None]), "Int64"),
            "pdd_ms": pd.array(_choices(rng, [0, 1, 2, 3, 1499, 1500, 16384, 200_000, None]), "Int64"),
            "disposition": disposition,
            "cause_q850": pd.array(_choices(rng, [16, 17, 34, None]), "Int16"),
            "cause_sip": pd.array(_choices(rng, [200, 486, 487, None]), "Int16"),
            "mos": pd.array(_choices(rng, [1.0, 3.4567, 4.41, None]), "Float32"),
            "mos_method": _choices(rng, ["cisco_mlqk", "source", None]),
        }
    )


def charged(rng):
    """Calls as billing has them, answered or not, some of them answered on a later day than they began."""
    start = _times(rng)
    waited = pd.to_timedelta(pd.Series(_choices(rng, [0, 1, 600, None]), dtype="Float64"), unit="m")
    return pd.DataFrame(
        {
            "account": _choices(rng, ["acct-1", "acct-2", "acct-3"]),
            "direction": _choices(rng, ["inbound", "outbound", None]),
            "destination": _choices(rng, ["US", "CA", "toll_free", None]),
            "start": start,
            "answer": (start + waited).astype("datetime64[ms, UTC]"),
            "talk_ms": pd.array(_choices(rng, [0, 1, 59_999, 3_600_000, None]), "Int64"),
            "billable_s": _choices(rng, [0, 60, 3600]),
        }
    )


def _counted(rows):
    """Per attempt that assurance has what the tables of trunks and accounts add up."""
    rows = rows[(rows.state == "accepted") & (rows.parts > 0)]
    known = rows.disposition != "unknown"
    return rows.assign(
        attempts=1,
        unknown=(~known).astype(int),
        seizures=known.astype(int),
        answered=(rows.disposition == "answered").astype(int),
        ner_success=rows.disposition.isin(CONNECTED).astype(int),
        rescued=(rows.kind == "route").astype(int),
        talk_s=-(-rows.talk_ms // 6000) * 6,
        pdd_count=rows.pdd_ms.notna().astype(int),
        count=1,
    )


def _of_sides(rows):
    """Each attempt as the trunk that it came in by counts it, and as the one that it left by does."""
    rows = rows[rows.role.isna() | (rows.role != ROLES.index("internal"))]
    callers = rows[rows.leg.fillna(0) == 0]
    coming = callers.assign(side="ingress", trunk=callers.trunk_in.fillna("unknown"))
    given_up = rows.disposition.str.startswith("abandoned") | (rows.cause_sip == 487).fillna(False)
    going = rows[rows.trunk_out.notna() & ~((rows.kind == "route") & given_up)]
    both = pd.concat([coming, going.assign(side="egress", trunk=going.trunk_out)])
    return both.assign(hour=both.start_time.dt.floor("h"))


def _causes(sides):
    kinds = [sides.assign(kind=kind, cause=sides[f"cause_{kind}"]) for kind in ("q850", "sip")]
    return pd.concat(kinds).dropna(subset="cause")


def _mos(sides):
    known = sides.dropna(subset="mos")
    return known.assign(
        method=known.mos_method.fillna("unknown"), mos_milli=[round(float(mos) * 1000) for mos in known.mos]
    )


def _pdd(sides):
    """The bucket of a delay in whole numbers: 4·log2(ms) is between b and b + 1 where ms⁴ has b + 1 bits."""
    known = sides.dropna(subset="pdd_ms")
    return known.assign(bucket=[(max(int(ms), 1) ** 4).bit_length() - 1 for ms in known.pdd_ms])


def _failed(sides):
    """Attempts of calls that nobody answered and billing has no row of."""
    failed = sides[(sides.kind == "failed") & (sides.parts != BOTH[0])]
    return failed.assign(
        start=failed.start_time.dt.floor("5min"),
        cause_q850=failed.cause_q850.fillna(-1),
        cause_sip=failed.cause_sip.fillna(-1),
        released_by=failed.released_by.fillna("unknown"),
        called_prefix=failed.called_prefix.fillna(""),
    )


def expected_assurance(rows):
    rows = _counted(rows)
    sides = _of_sides(rows)
    callers = rows[(rows.leg.fillna(0) == 0) & rows.account.notna() & (rows.account != ERASED_ACCOUNT)]
    return {
        "assurance_trunk_hourly": sides,
        "assurance_trunk_hourly_pdd": _pdd(sides),
        "assurance_trunk_hourly_cause": _causes(sides),
        "assurance_trunk_hourly_mos": _mos(sides),
        "assurance_failed_5min": _failed(sides),
        "assurance_failed_destination_hourly": _failed(sides[sides.side == "egress"]),
        "sla_account_daily": callers.assign(
            call_date=callers.start_time.dt.date,
            region=callers.called_prefix.fillna(""),
            mos_method=callers.mos_method.fillna("unknown").where(callers.mos.notna(), ""),
            mos_milli=(callers.mos.astype("Float64") * 1000).round(),
            mos_count=callers.mos.notna().astype(int),
        ),
    }


def expected_billing(rows, zone):
    moment = rows.answer.fillna(rows.start)
    usage = rows.assign(
        billing_date=moment.dt.tz_convert(zone).dt.date,
        direction=rows.direction.fillna("unknown"),
        destination=rows.destination.fillna("unknown"),
        calls=1,
        answered=rows.answer.notna().astype(int),
    )
    return {"billing_usage_daily": usage}


def _summed(rows, name, tenant):
    """{key: sums} of a derived table, from rows that have its columns."""
    keys, sums = key_columns(TABLES[name]), sum_columns(TABLES[name])
    grouped = rows.assign(tenant=tenant).groupby(keys)[sums].sum().reset_index()
    return {
        tuple(getattr(row, key) for key in keys): tuple(int(getattr(row, column)) for column in sums)
        for row in grouped.itertuples()
    }


def _keyed(table, name):
    keys, sums = key_columns(TABLES[name]), sum_columns(TABLES[name])
    rows = {tuple(row[key] for key in keys): tuple(row[column] for column in sums) for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    return rows


@pytest.mark.parametrize("schemas", [{"billing": BILLING, INDEX: ROW_INDEX}, IN_FLIGHT], ids=["stored", "new"])
@pytest.mark.parametrize("tenant", ZONES)
def test_figures_are_those_of_plain_pandas_over_the_same_calls(tenant, schemas):
    rng = np.random.default_rng(len(tenant))
    for view, made in (("billing", charged(rng)), (INDEX, attempts(rng))):
        expected = expected_billing(made, ZONES[tenant]) if view == "billing" else expected_assurance(made)
        schema = pa.schema([field for field in schemas[view] if field.name in made.columns])
        rows = pa.Table.from_pandas(made, schema=schema, preserve_index=False)
        derived = summarize(view, rows, tenant, BillingZones(ZONES[tenant]), {})
        assert set(derived) == set(expected)
        for name, table in derived.items():
            figures_of_pandas = _summed(expected[name], name, tenant)
            assert len(figures_of_pandas) > 10
            assert _keyed(table, name) == figures_of_pandas


def test_the_callers_call_counts_once_and_each_route_counts_on_its_trunk():
    rows = [
        {
            "state": "accepted",
            "parts": BOTH[0],
            "account": "acct-1",
            "trunk_in": "in",
            "trunk_out": out,
            "leg": leg,
            "start_time": T0,
            "disposition": disposition,
        }
        for leg, out, disposition in ((1, "first", "network_failure"), (0, "second", "answered"), (0, None, "unknown"))
    ]
    made = summarize(INDEX, pa.Table.from_pylist(rows, schema=ROW_INDEX), "t", BillingZones("UTC"), {})
    trunks = {(r["side"], r["trunk"]): r for r in made["assurance_trunk_hourly"].to_pylist()}
    assert set(trunks) == {("ingress", "in"), ("egress", "first"), ("egress", "second")}
    coming = trunks["ingress", "in"]
    assert (coming["attempts"], coming["unknown"], coming["seizures"], coming["answered"], coming["ner_success"]) == (
        2,
        1,
        1,
        1,
        1,
    )
    assert trunks["egress", "first"]["ner_success"] == 0
    (account,) = made["sla_account_daily"].to_pylist()
    assert account["attempts"] == 2 and account["account"] == "acct-1"


def test_no_rows_say_nothing():
    for view, schema in {**VIEW_PARTS, INDEX: ROW_INDEX}.items():
        assert summarize(view, schema.empty_table(), "t", BillingZones("UTC"), {}) == {}
