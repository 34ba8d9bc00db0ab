"""Split: two views of the same calls that neither ids, tokens nor order join."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.columns import has_value
from callward.keys import tokens
from callward.keys.register import KeyName
from schemas.views import ASSURANCE, BILLING, ID_COLUMN, IN_FLIGHT
from tests.conftest import spread
from tests.examples import tries
from transforms.rate import rate
from transforms.split import by_date, split

T0 = 1_772_712_000_000
NUMBERS = [f"+130355501{n:02}" for n in range(20)]

CALL = st.fixed_dictionaries(
    {
        "start_time": st.integers(0, 300_000).map(lambda ms: T0 + ms),
        "length": st.integers(0, 500_000),
        "talk_ms": st.one_of(st.none(), st.integers(0, 500_000)),
        "ring": st.one_of(st.none(), st.integers(0, 20_000)),
        "disposition": st.sampled_from(["answered", "busy"]),
        "calling_number": st.sampled_from([None, *NUMBERS]),
        "called_number": st.sampled_from(NUMBERS),
    }
)


@pytest.fixture(scope="module")
def opened(workspace):
    return {rows: workspace("asterisk", billing_rows=rows).opened for rows in ("answered", "attempts")}


def cdrs(cdr_table, drawn):
    rows = []
    for n, call in enumerate(drawn):
        row = {**call, "record_id": n, "content": n, "line": n, "end_time": call["start_time"] + call.pop("length", 0)}
        ring = row.pop("ring")
        row["ring_time"] = None if ring is None else row["start_time"] + ring
        row["answer_time"] = row["start_time"] + 1000 if row["disposition"] == "answered" else None
        rows.append(row)
    calls = cdr_table(rows)
    return rate(calls.append_column("charged", has_value(calls["disposition"], "answered")))


def tokens_in(table):
    columns = [column for column in table.columns if pa.types.is_fixed_size_binary(column.type)]
    return {value for column in columns for value in column.to_pylist() if value is not None}


@given(drawn=st.lists(CALL, min_size=1, max_size=12))
@tries(25)
def test_no_word_of_one_view_is_in_the_other_or_in_the_record(cdr_table, opened, drawn):
    calls = cdrs(cdr_table, [dict(call) for call in drawn])
    parts = {part.view: part for part in split(calls, "default", "2026-03", opened["attempts"])}
    raw = set(calls["record_id"].to_pylist()) | set(calls["content"].to_pylist())
    words = {view: tokens_in(part.rows) for view, part in parts.items()}
    assert not words["billing"] & words["assurance"]
    assert not (words["billing"] | words["assurance"]) & raw
    for view, part in parts.items():
        assert part.rows.schema.equals(IN_FLIGHT[view]) and part.rows.num_rows == len(drawn)
    assert not any(number in str(parts["assurance"].rows.to_pydict()) for number in NUMBERS)


def with_lines(part, opened):
    """Each row of a part with the line that its record came in, which is the record's id here."""
    name = ID_COLUMN[part.view]
    secret = opened.keyring.key(KeyName(part.view, "default", "2026-03", "id")).secret
    records = tokens.unpermute(part.rows[name].combine_chunks(), secret).to_pylist()
    line_of = {spread("record_id", line): line for line in range(600)}
    return zip(part.rows.to_pylist(), [line_of[record] for record in records], strict=True)


@given(drawn=st.lists(CALL, min_size=1, max_size=12))
@tries(25)
def test_assurance_is_coarse_and_billing_exact(cdr_table, opened, drawn):
    calls = cdrs(cdr_table, [dict(call) for call in drawn])
    parts = {part.view: part for part in split(calls, "default", "2026-03", opened["answered"])}
    by_line = {row["line"]: row for row in calls.to_pylist()}
    for row, line in with_lines(parts["assurance"], opened["answered"]):
        call = by_line[line]
        assert row["start"] == call["start_time"].replace(second=0, microsecond=0)
        talk = call["talk_ms"]
        assert (
            row["talk_s"] is None
            if talk is None
            else (row["talk_s"] % 6 == 0 and 0 <= row["talk_s"] * 1000 - talk < 6000)
        )
        until = call["answer_time"] or call["end_time"]
        assert row["ring_s"] is None or abs(row["ring_s"] - (until - call["ring_time"]).total_seconds()) < 1
    answered = [row for row in by_line.values() if row["disposition"] == "answered"]
    assert ("billing" in parts) == bool(answered)
    for row, line in with_lines(parts["billing"], opened["answered"]) if answered else ():
        call = by_line[line]
        assert (row["start"], row["end"], row["talk_ms"], row["calling_number"]) == (
            call["start_time"],
            call["end_time"],
            call["talk_ms"],
            call["calling_number"],
        )


def test_equal_numbers_have_equal_tokens_and_none_has_none(cdr_table, opened):
    drawn = [
        {
            "start_time": T0 + n,
            "talk_ms": 1,
            "ring": None,
            "disposition": "answered",
            "calling_number": a,
            "called_number": b,
        }
        for n, (a, b) in enumerate([(NUMBERS[0], NUMBERS[1]), (NUMBERS[1], NUMBERS[0]), (None, NUMBERS[1])])
    ]
    rows = split(cdrs(cdr_table, drawn), "default", "2026-03", opened["answered"])[1].rows
    calling, called = rows["calling_token"].to_pylist(), rows["called_token"].to_pylist()
    assert calling[0] == called[1] and calling[1] == called[0] == called[2] and calling[2] is None
    assert calling[0] != calling[1]
    later = split(cdrs(cdr_table, drawn), "default", "2026-02", opened["answered"])[1].rows
    assert not set(later["called_token"].to_pylist()) & set(called), "a key per month"


def test_order_within_a_minute_is_not_the_order_of_time(cdr_table, opened):
    drawn = [
        {
            "start_time": T0 + n * 50,
            "talk_ms": 1,
            "ring": None,
            "disposition": "answered",
            "calling_number": None,
            "called_number": NUMBERS[0],
        }
        for n in range(600)
    ]
    parts = {part.view: part for part in split(cdrs(cdr_table, drawn), "default", "2026-03", opened["answered"])}
    lines = [line for _, line in with_lines(parts["assurance"], opened["answered"])]
    assert [line for _, line in with_lines(parts["billing"], opened["answered"])] == list(range(600))
    rising = sum(a < b for a, b in pairwise(lines))
    assert 200 < rising < 400  # half of 599, give or take eight standard deviations
    ids = parts["assurance"].rows["assurance_id"].to_pylist()
    assert ids == sorted(ids, key=lambda i: int.from_bytes(i[:8], "little") >> 32)


def test_days_are_told_apart_in_order(cdr_table):
    day = 86_400_000
    starts = [T0 + day, T0, T0 + 2 * day, T0 + 1]
    parts = list(by_date(cdr_table([{"record_id": n, "start_time": s, "line": n} for n, s in enumerate(starts)])))
    assert [(date, rows["line"].to_pylist()) for date, rows in parts] == [
        ("2026-03-05", [1, 3]),
        ("2026-03-06", [0]),
        ("2026-03-07", [2]),
    ]


def test_views_have_no_column_of_the_other_key():
    assert not {"billing_id", "calling_number", "called_number", "calling_token", "called_token", "account"} & set(
        ASSURANCE.names
    )
    assert "assurance_id" not in BILLING.names
