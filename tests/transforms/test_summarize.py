"""Summarize: figures add up however the rows are cut, take away what they gave, and follow the tenant's local day."""

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callward.ledger import sum_derived
from schemas.tables import DERIVED
from schemas.views import ASSURANCE, BILLING
from transforms.summarize import negative, pdd_bounds, pdd_bucket, summarize

T0 = 1_772_712_000_000
TABLES = {table.name: table for table in DERIVED}

ATTEMPT = st.fixed_dictionaries(
    {
        "assurance_id": st.just(b"i" * 16),
        "account_token": st.sampled_from([b"a" * 16, b"b" * 16]),
        "trunk_in": st.sampled_from([None, "one", "two"]),
        "trunk_out": st.sampled_from([None, "three"]),
        "leg": st.sampled_from([0, 0, 1]),
        "start": st.integers(0, 120).map(lambda minute: T0 + minute * 60_000),
        "talk_s": st.sampled_from([None, 0, 6, 60]),
        "pdd_ms": st.one_of(st.none(), st.integers(0, 200_000)),
        "disposition": st.sampled_from(["answered", "busy", "unknown", "network_failure"]),
        "cause_q850": st.sampled_from([None, 16, 17]),
        "cause_sip": st.sampled_from([None, 200, 486]),
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


@pytest.mark.parametrize(("view", "schema", "row"), [("assurance", ASSURANCE, ATTEMPT), ("billing", BILLING, PAID)])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_figures_add_up_however_the_rows_are_cut_and_can_be_taken_back(view, schema, row, data):
    rows = data.draw(st.lists(row, max_size=20))
    cut = data.draw(st.integers(0, len(rows)))
    whole, left, right = (
        summarize(view, pa.Table.from_pylist(part, schema=schema), "t", "America/Denver")
        for part in (rows, rows[:cut], rows[cut:])
    )
    assert figures([left, right]) == figures([whole])
    assert figures([whole, negative(left)]) == figures([right])
    assert not any(figures([whole, negative(whole)]).values())


@given(delay=st.integers(0, 10_000_000))
def test_a_delay_lies_in_its_bucket_and_bounds_are_19_percent_apart(delay):
    low, high = pdd_bounds(int(pdd_bucket(np.array([delay]))[0]))
    assert low * (1 - 1e-12) <= max(delay, 1) < high * (1 + 1e-12)
    assert high / low == pytest.approx(math.sqrt(math.sqrt(2)))


@given(
    hours=st.integers(0, 24 * 400),
    zone=st.sampled_from(["America/Denver", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
@settings(deadline=None)
def test_the_billing_date_is_the_local_one_in_every_zone_and_season(hours, zone):
    answer = T0 + hours * 3_600_000
    row = {"account": "a", "start": answer - 90_000, "answer": answer, "talk_ms": 1, "billable_s": 1}
    table = summarize("billing", pa.Table.from_pylist([row], schema=BILLING), "t", zone)["billing_usage_daily"]
    assert table["billing_date"].to_pylist() == [
        datetime.fromtimestamp(answer / 1000, UTC).astimezone(ZoneInfo(zone)).date()
    ]


def test_the_callers_call_counts_once_and_each_route_counts_on_its_trunk():
    rows = [
        {
            "account_token": b"a" * 16,
            "trunk_in": "in",
            "trunk_out": out,
            "leg": leg,
            "start": T0,
            "disposition": disposition,
        }
        for leg, out, disposition in ((1, "first", "network_failure"), (0, "second", "answered"), (0, None, "unknown"))
    ]
    made = summarize("assurance", pa.Table.from_pylist(rows, schema=ASSURANCE), "t", "UTC")
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
    (account,) = made["assurance_account_daily"].to_pylist()
    assert account["attempts"] == 2 and account["account_token"] == (b"a" * 16).hex()


def test_no_rows_say_nothing():
    assert summarize("billing", BILLING.empty_table(), "t", "UTC") == {}
