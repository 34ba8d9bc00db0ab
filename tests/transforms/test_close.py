"""Close: parts in cells of many rows, and sums that add up to every call."""

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.lake.cells import LEAST
from schemas.cdr import ROLES, TIMESTAMP
from schemas.views import ANSWERED, IN_FLIGHT
from tests.examples import tries
from transforms.close import POOLED, durations, erlangs, in_cells, prefixes

T0 = 1_772_668_800_000  # 2026-03-05
HOUR = 3_600_000
PLACES = ("source", "leg", "trunk_in", "trunk_out")


def answered(rows):
    """Rows of the part, of (hour, trunk_in) each."""
    made = [
        {"answered_id": n.to_bytes(16, "big"), "source": "s", "leg": 0, "trunk_in": trunk, "start": T0 + hour * HOUR}
        for n, (hour, trunk) in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, schema=ANSWERED).cast(IN_FLIGHT["answered"])


def cell(row):
    return (row["start"], *(row[name] for name in PLACES))


@given(sizes=st.lists(st.tuples(st.integers(0, 23), st.sampled_from("ab"), st.integers(1, 25)), max_size=8))
@tries(40)
def test_no_cell_is_small_but_that_of_the_day_alone(sizes):
    rows = [(hour, trunk) for hour, trunk, count in sizes for _ in range(count)]
    told = in_cells(answered(rows)).to_pylist()
    counts = Counter(map(cell, told))
    day_alone = (datetime(2026, 3, 5, tzinfo=UTC), None, None, None, None)
    assert all(count >= LEAST for which, count in counts.items() if which != day_alone)
    assert [row["answered_id"] for row in told] == [n.to_bytes(16, "big") for n in range(len(rows))]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(5, "a")] * LEAST, Counter({(5, "a"): LEAST})),
        ([(4, "a")] * 10 + [(7, "a")] * 10, Counter({(4, "a"): 20})),  # four hours from 4
        ([(4, "a")] * 10 + [(8, "a")] * 10, Counter({(0, "a"): 20})),  # the day
        ([(4, "a")] * 19 + [(4, "b")] * 1, Counter({(0, None): 20})),  # the day alone
        ([(4, "a")] * 20 + [(4, "b")] * 1, Counter({(4, "a"): 20, (0, None): 1})),
    ],
)
def test_levels_are_hour_four_hours_day_and_the_day_alone(rows, expected):
    told = in_cells(answered(rows)).to_pylist()
    assert Counter((row["start"].hour, row["trunk_in"]) for row in told) == expected
    for row, (hour, _) in zip(told, rows, strict=True):
        assert row["start"].hour <= hour < row["start"].hour + row["span_h"]


def calls(rows):
    """Calls of (talk_ms, ingress, egress, prefix, disposition) each."""
    names = ("talk_ms", "ingress_trunk", "egress_trunk", "called_prefix", "disposition")
    schema = pa.schema([("talk_ms", pa.int64()), *((name, pa.string()) for name in names[1:])])
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema)


@given(
    talk=st.lists(st.one_of(st.none(), st.integers(0, 31 * 86_400_000)), max_size=80),
    trunks=st.lists(st.sampled_from(["a", "b", None]), min_size=80, max_size=80),
)
@tries(40)
def test_lengths_add_up_to_every_answered_call_and_lie_in_their_step(talk, trunks):
    rows = [(ms, trunk, None, None, "answered") for ms, trunk in zip(talk, trunks, strict=False)]
    told = durations(calls([*rows, (1000, "a", None, None, "busy")])).to_pylist()
    known = [ms for ms in talk if ms is not None]
    assert sum(row["calls"] for row in told) == len(known)
    assert sum(row["talk_ms"] for row in told) == sum(known)
    for row in told:
        assert row["calls"] >= LEAST or row["trunk_in"] == POOLED
        assert row["from_s"] * row["calls"] * 1000 <= row["talk_ms"] < row["to_s"] * row["calls"] * 1000


def test_steps_are_of_20_percent_then_of_70_then_all_then_of_all_trunks():
    def told(*rows):
        found = durations(calls([(s * 1000, trunk, "out", None, "answered") for s, trunk in rows])).to_pylist()
        return sorted((row["trunk_in"], row["from_s"], row["calls"]) for row in found)

    even, odd = [(100, "a")] * LEAST, [(n, "a") for n in np.linspace(100, 120, LEAST).astype(int).tolist()]
    [(_, low, _)] = told(*even)
    [row] = durations(calls([(100_000, "a", "out", None, "answered")] * LEAST)).to_pylist()
    assert low <= 100 < row["to_s"] <= 1.25 * low
    [(_, wide, _)] = told(*odd)
    assert wide <= 100
    assert told(*[(n * 997, "a") for n in range(LEAST)]) == [("a", 0, LEAST)]
    assert told(*[(1, trunk) for trunk in "abcdefghijklmnopqrst"]) == [(POOLED, 0, LEAST)]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["+1303", "+1719", "+44", None]),
            st.sampled_from(["a", None]),
            st.sampled_from(["answered", "busy"]),
        ),
        max_size=120,
    )
)
@tries(40)
def test_prefixes_add_up_to_every_attempt_in_cells_of_many(rows):
    told = prefixes(calls([(None, None, trunk, prefix, how) for prefix, trunk, how in rows])).to_pylist()
    for how in ("answered", "busy"):
        assert sum(row["attempts"] for row in told if row["disposition"] == how) == sum(r[2] == how for r in rows)
    assert all(row["attempts"] >= LEAST or row["trunk_out"] == POOLED for row in told)


def test_a_prefix_is_told_by_area_then_by_country_then_not():
    def told(*prefixes_of):
        rows = [(None, None, "out", prefix, "busy") for prefix in prefixes_of]
        return {(row["called_prefix"], row["trunk_out"]): row["attempts"] for row in prefixes(calls(rows)).to_pylist()}

    assert told(*["+1303"] * 20) == {("+1303", "out"): 20}
    assert told(*["+1303"] * 12, *["+1719"] * 9) == {("+1", "out"): 21}
    assert told(*["+1303"] * 12, *["+44"] * 9) == {("", "out"): 21}
    assert told(*["+1303"] * 12) == {("", POOLED): 12}


def test_talk_by_call_of_trunks_is_exact_though_long_calls_are_rare():
    rows = [(1000 * s, "a", "out", None, "answered") for s in [60] * 2 * LEAST + [10_000]]
    told = durations(calls(rows)).to_pylist()
    assert {row["trunk_in"] for row in told} == {"a"}
    assert (sum(row["calls"] for row in told), sum(row["talk_ms"] for row in told)) == (2 * LEAST + 1, 12_400_000)


@given(
    talk=st.lists(st.sampled_from([1, 2, 2, 3, 3, 60, 61, 7000]), max_size=110),
    order=st.randoms(use_true_random=False),
)
@tries(60)
def test_lengths_do_not_hang_on_the_order_of_the_rows(talk, order):
    def told(seconds):
        found = durations(calls([(1000 * s, "a", "out", None, "answered") for s in seconds])).to_pylist()
        return sorted(tuple(row.values()) for row in found)

    shuffled = order.sample(talk, len(talk))
    assert told(shuffled) == told(talk)


# -- erlangs -----------------------------------------------------------------------------------------------------------


def in_hours(rows):
    """Answered calls of (end in minutes after T0, talk in minutes, trunk) each, told by hour and side."""
    made = [
        {
            "start_time": T0 + (end - talk) * 60_000 - 5_000,
            "end_time": T0 + end * 60_000,
            "talk_ms": talk * 60_000,
            "ingress_trunk": trunk,
            "disposition": "answered",
            **more,
        }
        for end, talk, trunk, *_more in rows
        for more in (_more[0] if _more else {},)
    ]
    found = erlangs(pa.Table.from_pylist(made, schema=CALL)).to_pylist()
    return {
        ((row["hour"].replace(tzinfo=UTC).timestamp() * 1000 - T0) // HOUR, row["trunk"]): (
            row["calls"],
            row["talk_min"],
        )
        for row in found
        if row["side"] == "ingress"
    }


CALL = pa.schema(
    [
        ("start_time", TIMESTAMP),
        ("end_time", TIMESTAMP),
        ("talk_ms", pa.int64()),
        ("leg", pa.int16()),
        ("role", pa.int8()),
        ("cause_sip", pa.int16()),
        *((name, pa.string()) for name in ("ingress_trunk", "egress_trunk", "disposition", "kind")),
    ]
)


def test_talk_is_clipped_to_the_hours_it_fell_in():
    assert in_hours([(130, 100, "a")] * LEAST) == {(0, "a"): (20, 600), (1, "a"): (20, 1200), (2, "a"): (20, 200)}
    assert in_hours([(60, 10, "a")] * LEAST) == {(0, "a"): (20, 200)}, (
        "a call that ends with the hour is not in the next"
    )


def test_an_hour_of_few_calls_on_a_trunk_is_told_of_all_trunks_together():
    assert in_hours([(30, 10, "a")] * LEAST + [(30, 3, "b")]) == {(0, "a"): (20, 200), (0, POOLED): (1, 3)}


def test_legs_inside_and_further_routes_are_in_no_trunk_hour():
    internal, second = {"role": ROLES.index("internal")}, {"leg": 1}
    assert in_hours([(30, 10, "a", more) for more in [internal, second] for _ in range(LEAST)]) == {}


@given(rows=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400), st.sampled_from("ab")), max_size=60))
@tries(40)
def test_every_minute_of_talk_is_in_one_hour(rows):
    told = in_hours(rows)
    assert sum(minutes for _, minutes in told.values()) == sum(talk for _, talk, _ in rows)
    assert all(calls >= LEAST or trunk == POOLED for (_, trunk), (calls, _) in told.items())
