"""Assemble as a pure function: in whatever order pieces come, the calls, ledger and what waits are the same."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.lake import ledger
from schemas.cdr import CDR
from schemas.suspense import PENDING
from tests.examples import tries
from transforms.assemble import Assembled, assemble, end_as_known, fold, in_pieces
from transforms.combine import CLOSED, SKEW_MS, WAITING

T0 = 1_772_712_000_000
RULES = {"sip": "computed", "sums": "sum"}


def open_piece(call, at=0, **more):
    return {
        "source": "sip",
        "record_id": call,
        "content": call * 10,
        "piece": "open",
        "start_time": T0 + at,
        "answer_time": T0 + at,
        "calling_number": "+13035550101",
        "called_number": "+13035550102",
        **more,
    }


def close_piece(call, at, **more):
    return {"source": "sip", "record_id": call, "content": call * 100, "piece": "close", "end_time": T0 + at, **more}


def refused_piece(call, at, **more):
    """A request that was refused with the tags of the call: within it, if the call was answered."""
    named = {"record_id": 3000 + call * 100 + at // 1000, "call_id": call, "content": 7000 + call * 100 + at // 1000}
    times = {"start_time": T0 + at, "end_time": T0 + at, "disposition": "no_answer"}
    return {"source": "sip", "piece": "refused", **named, **times, **more}


def whole(call, **more):
    times = {"start_time": T0, "answer_time": T0, "end_time": T0 + 60_000, "talk_ms": 60_000, "carried_ms": 60_000}
    legs = {"leg_a": call * 2, "leg_b": call * 2 + 1}
    return {"source": "cucm", "record_id": 1000 + call, "call_id": call, "content": call * 10, **times, **legs, **more}


def quality(call, leg, name, **heard):
    said = {"piece": "quality", "end_time": T0, "mos_method": "cisco_mlqk", **heard}
    return {
        "source": "cucm",
        "record_id": 2000 + name,
        "call_id": call,
        "content": 5000 + name,
        "leg_a": call * 2 + leg,
        **said,
    }


def nights(cdr_table, batches):
    """Pair batch after batch, as nights do; returns the state in the end."""
    log, rows, entries = PENDING.empty_table(), {}, []
    for number, batch in enumerate(batches):
        new = cdr_table([{**row, "file_no": number + 1, "line": line} for line, row in enumerate(batch)])
        paired = assemble(new, fold(log), RULES, T0 + number)
        amended = {row["record_id"]: row for row in paired.amended.to_pylist()}
        fresh = {row["record_id"]: row for row in paired.calls.to_pylist()}
        withdrawn = paired.withdrawn.to_pylist()
        for row in withdrawn:
            assert rows.pop(row["record_id"])["call_date"] == row["call_date"], "only what was handed on is withdrawn"
        assert not set(fresh) & set(rows), "a call is handed on once"
        assert set(amended) <= set(rows), "only what was handed on before is amended"
        rows |= fresh
        for name, row in amended.items():
            changes = (
                ("end_time", "talk_ms", "content", "cause_sip")
                if row["piece"] in ("close", "interim")
                else ("mos", "jitter_ms", "loss_pct", "mos_method")
            )
            rows[name] = {**rows[name], **{field: row[field] for field in changes}}
            rows[name]["piece"] = "estimated" if row["piece"] == "interim" else "whole"
        read = [ledger.read_entries(new), *ledger.entries(paired.calls, "accepted"), *paired.entries]
        read += ledger.entries(paired.withdrawn, "merged") if withdrawn else []
        ledger.check_balance(ledger.sum_entries(read))
        entries += read
        log = pa.concat_tables([log, paired.pending])
    return rows, totals(entries), fold(log)


def totals(entries):
    counted: Counter = Counter()
    for row in ledger.sum_entries(entries).to_pylist():
        counted[row["bucket"]] += row["rows"]
        counted[row["bucket"], row["code"]] += row["rows"]
        counted[row["bucket"], "talk"] += row["talk_ms"]
    return {key: amount for key, amount in counted.items() if amount}


LINEAGE = ("file_no", "block", "line", "was", "was_ms")


def said(rows):
    """Rows without where they came from."""
    return {name: {k: v for k, v in row.items() if k not in LINEAGE} for name, row in rows.items()}


@st.composite
def records(draw):
    """Pieces of a few calls, repetitions among them; some calls lack a half, some quality records their call."""
    found = []
    for call in range(1, draw(st.integers(2, 5))):
        if draw(st.booleans()):
            moments = st.lists(st.integers(0, 50), max_size=3, unique=True)
            ends, refusals, refreshed = draw(moments), draw(moments), draw(moments)
            found += [close_piece(call, end * 1000, content=call * 100 + end, cause_sip=end) for end in ends]
            found += [refused_piece(call, at * 1000) for at in refusals]
            found += [
                open_piece(call, at * 1000, content=call * 10_000 + at)
                for at in (*refreshed, call)[draw(st.integers(0, 1)) :]
            ]
        else:
            found += [whole(call)] * draw(st.integers(0, 1))
            for name in range(draw(st.integers(0, 3))):
                scores = {
                    "mos": draw(st.sampled_from([1.5, 3.0, 4.25])),
                    "jitter_ms": draw(st.sampled_from([1.0, 8.0])),
                }
                found.append(quality(call, draw(st.integers(0, 1)), call * 10 + name, **scores))
    repeated = draw(st.lists(st.sampled_from(found), max_size=4)) if found else []
    return found + repeated


@given(data=st.data())
@tries(30)
def test_the_end_state_does_not_depend_on_order_or_nights(cdr_table, data):
    found = data.draw(records())
    cut = data.draw(st.lists(st.integers(0, 2), min_size=len(found), max_size=len(found)))
    mixed = data.draw(st.permutations(list(zip(found, cut, strict=True))))
    batches = [[row for row, night in mixed if night == n] for n in range(3)]
    rows, amounts, log = nights(cdr_table, [found])
    rows_apart, amounts_apart, log_apart = nights(cdr_table, batches)
    assert said(rows_apart) == said(rows)
    assert amounts_apart == amounts
    states = [
        sorted(zip(t["record_id"].to_pylist(), t["content"].to_pylist(), t["state"].to_pylist(), strict=True))
        for t in (log, log_apart)
    ]
    assert states[0] == states[1]


@given(data=st.data())
@tries(30)
def test_nothing_that_is_closed_keeps_a_number(cdr_table, data):
    found = data.draw(records())
    _, _, log = nights(cdr_table, [found[::2], found[1::2]])
    closed = log.filter(pa.array([state == CLOSED for state in log["state"].to_pylist()], pa.bool_()))
    assert all(value is None for name in ("calling_number", "called_number") for value in closed[name].to_pylist())


def test_talk_follows_the_rule_of_the_source(cdr_table):
    rows, amounts, _ = nights(cdr_table, [[open_piece(1), close_piece(1, 42_000)]])
    (row,) = rows.values()
    assert row["talk_ms"] == 42_000 and row["calling_number"] == "+13035550101"
    assert amounts["paired", "talk"] == 42_000
    parts = [{"talk_ms": ms, "carried_ms": ms, "content": ms} for ms in (10_000, 20_000, 5_000)]
    opened, between, closed = (
        open_piece(2, **parts[0]),
        {**open_piece(2, 9), **parts[1], "piece": "interim"},
        close_piece(2, 36_000, **parts[2]),
    )
    rows, amounts, _ = nights(cdr_table, [[{**row, "source": "sums"} for row in (opened, between, closed)]])
    (row,) = rows.values()
    assert row["talk_ms"] == 35_000 and row["end_time"].timestamp() * 1000 == T0 + 36_000
    assert ("paired", "talk") not in amounts and amounts["in", "talk"] == 35_000


def test_computed_talk_begins_with_the_answer_not_with_the_start(cdr_table):
    rang = open_piece(1, answer_time=T0 + 9_000)
    rows, amounts, _ = nights(cdr_table, [[rang, close_piece(1, 42_000)]])
    (row,) = rows.values()
    assert row["talk_ms"] == amounts["paired", "talk"] == 33_000
    earlier = close_piece(1, 30_000, content=101)  # the other party hung up before, and is read the next night
    rows, amounts, _ = nights(cdr_table, [[rang, close_piece(1, 42_000)], [earlier]])
    (row,) = rows.values()
    assert row["talk_ms"] == amounts["paired", "talk"] == 21_000


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("apart", [True, False])
def test_a_refused_request_is_an_attempt_unless_its_call_was_answered(cdr_table, order, apart):
    records = [refused_piece(1, 57_000), open_piece(1)]
    batches = [[records[at]] for at in order]
    rows, amounts, _ = nights(cdr_table, batches if apart else [[*batches[0], *batches[1]]])
    assert not rows and (amounts["merged"], amounts["pending"]) == (1, 1)
    rows, amounts, _ = nights(cdr_table, [[refused_piece(1, 1000)], [refused_piece(1, 2000), refused_piece(2, 1000)]])
    assert len(rows) == amounts["accepted"] == 3


@pytest.mark.parametrize("late", [False, True])
def test_a_call_begins_with_its_first_answer_whatever_was_read_first(cdr_table, late):
    """A refreshed session (RFC 4028) is accepted again and again; from the other side, parties are the other way."""
    day = 86_400_000
    first = open_piece(1, -day)
    again = open_piece(1, 900_000, content=11, calling_number="+13035550102", called_number="+13035550101")
    batches = [[again, close_piece(1, 1_800_000)], [first]] if late else [[first, again, close_piece(1, 1_800_000)]]
    rows, amounts, _ = nights(cdr_table, batches)
    (row,) = rows.values()
    assert row["talk_ms"] == amounts["paired", "talk"] == day + 1_800_000
    assert row["calling_number"] == "+13035550101" and str(row["call_date"]) == "2026-03-04"
    assert (amounts["accepted"], amounts["merged"]) == (1, 2)


def test_a_close_that_knows_the_answer_is_a_whole_call(cdr_table):
    stop = close_piece(1, 60_000, start_time=T0 - 5000, answer_time=T0, talk_ms=61_000, carried_ms=61_000)
    again = {**stop, "content": 101, "end_time": T0 + 63_000}
    start = open_piece(1, -5000, answer_time=None)
    for batches in ([[stop]], [[start], [stop]], [[stop], [start]], [[start], [again], [stop]], [[stop, again, start]]):
        rows, amounts, _ = nights(cdr_table, batches)
        (row,) = rows.values()
        assert (row["talk_ms"], row["end_time"].timestamp() * 1000) == (61_000, T0 + 60_000)
        assert amounts["accepted"] == 1 and ("paired", "talk") not in amounts


@pytest.mark.parametrize(
    ("behind", "piece", "codes"),
    [(0, "whole", {}), (1, "estimated", {}), (SKEW_MS, "estimated", {}), (SKEW_MS + 1, None, {"ORDER": 1})],
)
def test_an_end_before_the_answer_is_the_answer_only_where_two_clocks_may_differ(cdr_table, behind, piece, codes):
    batches = [[open_piece(1)], [close_piece(1, -behind)]]
    for order in (batches, batches[::-1], [batches[0] + batches[1]]):
        rows, amounts, _ = nights(cdr_table, order)
        assert [(row["end_time"].timestamp() * 1000, row["talk_ms"], row["piece"]) for row in rows.values()] == (
            [(T0, 0, piece)] if piece else []
        )
        assert suspended(amounts) == codes and amounts.get("pending", 0) == len(codes)


def suspended(amounts):
    """Pieces in suspense by code."""
    return {key[1]: amount for key, amount in amounts.items() if key[0] == "suspended" and key[1] not in ("", "talk")}


def test_a_piece_that_contradicts_its_call_leaves_suspense_with_the_piece_that_agrees(cdr_table):
    opened, wrong = open_piece(1, 600_000), close_piece(1, 0, content=101)
    for late in (close_piece(1, 660_000), open_piece(1, -60_000, content=11)):
        rows, amounts, _ = nights(cdr_table, [[wrong, opened], [late]])
        (row,) = rows.values()
        assert row["talk_ms"] == 60_000 and row["calling_number"] == "+13035550101"
        assert amounts["merged"] == 2 and not suspended(amounts) and "pending" not in amounts


def test_an_opening_that_no_end_fits_is_suspended_and_the_row_stays(cdr_table):
    """Its answer is after every end: only a later end makes it the call's opening, with its numbers."""
    stands = [open_piece(1, 0), close_piece(1, 60_000)]
    earlier = open_piece(1, -60_000, answer_time=T0 + 90_000, content=11, called_number="+13035550103")
    for batches in ([stands, [earlier]], [[earlier], stands], [[earlier, *stands]]):
        rows, amounts, _ = nights(cdr_table, batches)
        assert [row["talk_ms"] for row in rows.values()] == [60_000] and suspended(amounts) == {"ORDER": 1}
        rows, amounts, _ = nights(cdr_table, [*batches, [close_piece(1, 120_000, content=102)]])
        (row,) = rows.values()
        assert (row["talk_ms"], row["called_number"]) == (30_000, "+13035550103") and not suspended(amounts)
        assert (amounts["accepted"], amounts["merged"]) == (1, 3)


def test_parts_that_come_to_more_than_their_call_are_none_of_it(cdr_table):
    parts = [
        {**piece, "source": "sums", "talk_ms": ms, "carried_ms": ms, "content": ms}
        for piece, ms in (
            (open_piece(1), 10_000),
            ({**open_piece(1, 9), "piece": "interim"}, 20_000),
            ({**open_piece(1, 10), "piece": "interim"}, 700_000),
            (close_piece(1, 36_000), 5_000),
        )
    ]
    for batches in ([parts], [[part] for part in parts], [[part] for part in reversed(parts)]):
        rows, amounts, _ = nights(cdr_table, batches)
        assert [row["talk_ms"] for row in rows.values()] == [35_000] and suspended(amounts) == {"DURATION": 1}
        assert amounts["suspended", "talk"] == 700_000


def test_a_local_end_that_came_twice_is_after_the_answer(cdr_table):
    hour = 3_600_000
    for before, talk in ((0, 0), (SKEW_MS, 0), (SKEW_MS + 1000, hour - SKEW_MS - 1000), (40 * 60_000, 20 * 60_000)):
        end = close_piece(1, -before, end_again=T0 - before + hour)
        rows, amounts, _ = nights(cdr_table, [[end], [open_piece(1)]])
        assert [row["talk_ms"] for row in rows.values()] == [talk] and not suspended(amounts)


@st.composite
def contradicting(draw):
    """Pieces of a call or two of which hardly any agree: ends before, at and long after answers that come late."""
    found = []
    for call in range(1, draw(st.integers(1, 2)) + 1):
        source, part = draw(st.sampled_from(["sip", "sums"])), st.sampled_from([0, 40_000, 200_000])
        for at in draw(st.lists(st.sampled_from([-100, 0, 1, 100]), max_size=3, unique=True)):
            times = {"answer_time": T0 + at * 1000 + draw(st.sampled_from([0, 150_000])), "talk_ms": draw(part)}
            numbers = {"called_number": f"+1303555010{at % 7}"}
            found.append(open_piece(call, at * 1000, content=call * 1000 + at, source=source, **times, **numbers))
        for at in draw(st.lists(st.sampled_from([-400, -104, -4, 60, 160, 40 * 86_400]), max_size=3, unique=True)):
            again = draw(st.sampled_from([None, T0 + at * 1000 + 3_600_000]))
            more = {"content": call * 3000 + at, "source": source, "end_again": again}
            found.append(close_piece(call, at * 1000, **more))
        for at in draw(st.lists(st.sampled_from([-50, 50, 170]), max_size=2, unique=True)):
            more = {"content": call * 5000 + at, "source": source, "piece": "interim", "talk_ms": draw(part)}
            found.append(open_piece(call, at * 1000, **more))
        found += [refused_piece(call, at * 1000, source=source) for at in draw(st.sampled_from([[], [20]]))]
    return [{**row, "carried_ms": row.get("talk_ms")} for row in found]


@given(data=st.data())
@tries(60)
def test_contradictions_end_the_same_in_any_order_and_night(cdr_table, data):
    found = data.draw(contradicting())
    cut = data.draw(st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found)))
    mixed = data.draw(st.permutations(list(zip(found, cut, strict=True))))
    rows, amounts, log = nights(cdr_table, [found])
    rows_apart, amounts_apart, log_apart = nights(
        cdr_table, [[row for row, night in mixed if night == n] for n in range(4)]
    )
    assert said(rows_apart) == said(rows) and amounts_apart == amounts
    for row in rows.values():
        if row["answer_time"] is not None:
            assert row["start_time"] <= row["answer_time"] <= row["end_time"]
            assert row["talk_ms"] <= (row["end_time"] - row["start_time"]).total_seconds() * 1000 + 1000
    ended, ended_apart = (
        end_as_known(log, np.array([s == WAITING for s in log["state"].to_pylist()], bool), RULES)[0].calls
        for log in (log, log_apart)
    )
    assert said(dict(enumerate(ended_apart.to_pylist()))) == said(dict(enumerate(ended.to_pylist())))


def test_computed_talk_begins_with_the_start_where_no_answer_is_known(cdr_table):
    rows, _, _ = nights(cdr_table, [[open_piece(1, answer_time=None), close_piece(1, 42_000)]])
    assert [row["talk_ms"] for row in rows.values()] == [42_000]


def test_the_worst_of_both_legs_is_the_quality_of_a_call(cdr_table):
    heard = [quality(1, 0, 1, mos=4.0, jitter_ms=2.0, loss_pct=0.5), quality(1, 1, 2, mos=3.0, jitter_ms=1.0)]
    rows, _, _ = nights(cdr_table, [[whole(1), *heard]])
    (row,) = rows.values()
    assert (row["mos"], row["jitter_ms"], row["loss_pct"], row["mos_method"]) == (3.0, 2.0, 0.5, "cisco_mlqk")


@pytest.mark.parametrize("split", [1, 2, 3], ids=["late", "one leg late", "together"])
@pytest.mark.parametrize(
    ("own", "worst"),
    [
        ({"mos": 2.0, "jitter_ms": 9.0, "loss_pct": 3.0}, (2.0, 9.0, 3.0)),
        ({"mos": 3.5, "jitter_ms": 9.0, "loss_pct": 0.1}, (3.0, 9.0, 0.5)),
        ({"mos": 4.5, "jitter_ms": 1.0, "loss_pct": 3.0}, (3.0, 2.0, 3.0)),
    ],
)
def test_a_score_of_the_calls_own_counts_among_the_worst(cdr_table, own, worst, split):
    heard = [
        quality(1, 0, 1, mos=4.0, jitter_ms=2.0, loss_pct=0.25),
        quality(1, 1, 2, mos=3.0, jitter_ms=1.0, loss_pct=0.5),
    ]
    records = [whole(1, mos_method="source", **own), *heard]
    rows, _, _ = nights(cdr_table, [records[:split], records[split:]] if split < 3 else [records])
    (row,) = rows.values()
    assert (row["mos"], row["jitter_ms"], row["loss_pct"]) == pytest.approx(worst)


def test_two_legs_that_sound_the_same_are_two_records(cdr_table):
    heard = [{**quality(1, leg, leg, mos=4.0), "content": 77} for leg in (0, 1)]
    _, amounts, _ = nights(cdr_table, [[whole(1), *heard]])
    assert amounts["merged"] == 2 and "duplicate" not in amounts


@pytest.mark.parametrize(
    ("row", "waits"), [(whole(1, leg_a=None, leg_b=None), False), (whole(1), True), (open_piece(1), True)]
)
def test_only_pieces_and_calls_with_legs_need_the_pending_log(cdr_table, row, waits):
    assert in_pieces(cdr_table([row])) is waits


def test_no_records_make_no_calls():
    paired = assemble(CDR.empty_table(), PENDING.empty_table(), RULES, T0)
    assert (paired.calls.num_rows, paired.pending.num_rows, paired.amended.num_rows) == (0, 0, 0)
    assert isinstance(paired, Assembled) and ledger.sum_entries(paired.entries).num_rows == 0
