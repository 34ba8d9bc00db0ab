"""What Validate promises: what cannot have happened is set aside, each under the code that says why."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cdr import PARSED, PIECES
from transforms.validate import contradictions, validate

NOW_MS = 1_772_460_000_000  # 2026-03-02T14:00:00Z
DAY_MS = 86_400_000


def _table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(PARSED.names) | {"piece": "whole"} | row for row in rows], schema=PARSED)


def _fault(**row: Any) -> str | None:
    return validate(_table(row), NOW_MS)["fault"].to_pylist()[0]


SOUND = {"start_time": NOW_MS - 60_000, "answer_time": NOW_MS - 50_000, "end_time": NOW_MS, "talk_ms": 50_000}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"start_time": None}, "TIME"),
        ({"start_time": 0, "answer_time": None, "end_time": None}, "TIME"),
        ({"end_time": NOW_MS - 61_000}, "ORDER"),
        ({"answer_time": NOW_MS - 61_000}, "ORDER"),
        ({"answer_time": NOW_MS + 1}, "ORDER"),
        ({"talk_ms": -1}, "DURATION"),
        ({"pdd_ms": -1}, "DURATION"),
        ({"talk_ms": 61_000}, None),  # switches round talk and stamps apart
        ({"talk_ms": 61_001}, "DURATION"),
        ({"start_time": NOW_MS + DAY_MS + 1, "answer_time": None, "end_time": None}, "FUTURE"),
        ({"start_time": NOW_MS + DAY_MS, "answer_time": None, "end_time": None}, None),
        ({"calling_raw": "5" * 32}, None),
        ({"calling_raw": "5" * 33}, "NUMBER"),
        ({"called_raw": "5" * 33}, "NUMBER"),
        ({"called_raw": "sip:5035550101@a-long-name-of-a-host.carrier.example.net;user=phone"}, None),
        ({"called_raw": "SIP:" + "5" * 33 + "@example.net"}, "NUMBER"),
        ({"called_raw": "5" * 40, "called_number": "+15035550101"}, None),
        ({"piece": "open", "call": "x"}, None),
        ({"piece": "open", "call": None}, "IDENTITY"),
        ({"piece": "close", "call": "x", "start_time": None, "answer_time": None}, None),
        ({"piece": "close", "call": "x", "start_time": None, "answer_time": None, "end_time": None}, "TIME"),
        ({"piece": "interim", "call": "x", "start_time": None}, "TIME"),
        ({"start_time": None, "fault": "QUOTING"}, "QUOTING"),
        ({"start_time": None, "filter": "NOT_A_CALL"}, None),
    ],
)
def test_an_impossible_record_gets_its_code(change: dict[str, Any], fault: str | None) -> None:
    assert _fault(**SOUND | change) == fault


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"end_time": NOW_MS - 50_001}, "ORDER"),
        ({"talk_ms": 61_001}, "DURATION"),
        ({"end_time": NOW_MS + 32 * DAY_MS, "talk_ms": 32 * DAY_MS}, "DURATION"),
        ({"start_time": NOW_MS + 2 * DAY_MS, "answer_time": None, "end_time": None, "talk_ms": None}, None),
    ],
)
def test_a_call_that_was_put_together_contradicts_what_a_record_would(change: dict[str, Any], code: str | None) -> None:
    rows = _table(SOUND, SOUND | change)
    assert contradictions(rows).to_pylist() == [None, code]
    if code is not None:
        assert validate(rows, NOW_MS)["fault"].to_pylist() == [None, code]


def test_talk_of_more_than_31_days_is_none() -> None:
    month = 31 * DAY_MS
    call = {"start_time": NOW_MS - 2 * month, "end_time": NOW_MS}
    assert _fault(**call, talk_ms=month) is None
    assert _fault(**call, talk_ms=month + 1) == "DURATION"


_MOMENT = st.none() | st.integers(NOW_MS - 10**9, NOW_MS + 2 * DAY_MS)
_ROW = st.fixed_dictionaries(
    {
        "start_time": _MOMENT,
        "answer_time": _MOMENT,
        "end_time": _MOMENT,
        "talk_ms": st.none() | st.integers(-10, 10**9),
        "piece": st.sampled_from(PIECES),
        "call": st.none() | st.just("x"),
    }
)


@given(st.lists(_ROW, max_size=6))
def test_what_passes_is_in_order_and_whatever_lies_beside_does_not_matter(rows: list[dict[str, Any]]) -> None:
    table = _table(*rows)
    judged = validate(table, NOW_MS)
    assert judged.drop_columns("fault").equals(table.drop_columns("fault"))
    assert judged["fault"].to_pylist() == [_fault(**row) for row in rows]
    for row, fault in zip(rows, judged["fault"].to_pylist(), strict=True):
        if fault is None:
            known = [row[name] for name in ("start_time", "answer_time", "end_time") if row[name] is not None]
            assert known == sorted(known)
            assert (row["talk_ms"] or 0) >= 0
