"""Split: two views of the same calls that neither ids, tokens nor order join."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from callward import database
from callward.columns import has_value
from callward.keys import tokens
from callward.keys.keys import KeyGone
from callward.keys.register import Keyring, name_of
from callward.lake import row_index
from schemas.cdr import DISPOSITIONS
from schemas.tables import keys
from schemas.views import ANSWERED, FAILED, ID_COLUMN, IN_FLIGHT, PARTS, VIEW_PARTS
from tests.conftest import spread
from tests.examples import tries
from transforms import split as splitting
from transforms.elements import Group
from transforms.rate import rate
from transforms.split import by_date, split, split_group, with_answered, with_part

T0 = 1_772_712_000_000
NUMBERS = [f"+130355501{n:02}" for n in range(20)]

CALL = st.fixed_dictionaries(
    {
        "start_time": st.integers(0, 300_000).map(lambda ms: T0 + ms),
        "length": st.integers(0, 500_000),
        "talk_ms": st.one_of(st.none(), st.integers(0, 500_000)),
        "ring": st.one_of(st.none(), st.integers(0, 20_000)),
        "pdd_ms": st.one_of(st.none(), st.integers(0, 30_000)),
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
        row = {"record_id": n, "content": n, "line": n, **call, "end_time": call["start_time"] + call.get("length", 0)}
        del row["length"]
        ring = row.pop("ring")
        row["ring_time"] = None if ring is None else row["start_time"] + ring
        row["answer_time"] = row["start_time"] + 1000 if row["disposition"] == "answered" else None
        rows.append(row)
    calls = cdr_table(rows)
    return rate(calls.append_column("charged", has_value(calls["disposition"], "answered")))


def call(start_ms=0, disposition="answered", **more):
    plain = {"length": 0, "talk_ms": 1, "ring": None, "calling_number": None, "called_number": NUMBERS[0]}
    return {**plain, "start_time": T0 + start_ms, "disposition": disposition, **more}


def parts_of(calls, opened, month="2026-03"):
    """{part: rows} of calls of one group and month."""
    made = split(with_part(calls, "default", opened), "default", month, opened)
    assert len({part.view for part in made}) == len(made)
    return {part.view: part.rows for part in made}


def tokens_in(table):
    columns = [column for column in table.columns if pa.types.is_fixed_size_binary(column.type)]
    return {value for column in columns for value in column.to_pylist() if value is not None}


@given(drawn=st.lists(CALL, min_size=1, max_size=12))
@tries(25)
def test_no_word_of_one_part_is_in_another_or_in_the_record(cdr_table, opened, drawn):
    calls = cdrs(cdr_table, drawn)
    raw = set(calls["record_id"].to_pylist()) | set(calls["content"].to_pylist())
    for rows in ("answered", "attempts"):
        parts = parts_of(calls, opened[rows])
        words = [raw, *(tokens_in(part) for part in parts.values())]
        assert len(set().union(*words)) == sum(map(len, words))
        for part, table in parts.items():
            assert table.schema.equals(IN_FLIGHT[part])
            assert part == "billing" or not any(number in str(table.to_pydict()) for number in NUMBERS)
        assert sum(parts[part].num_rows for part in PARTS["assurance"] if part in parts) == len(drawn)


def with_lines(part, rows, opened, lines=600):
    """Each row of a part with the line that its record came in, which is the record's id here."""
    secret = opened.keyring.key(row_index.id_key(part, "default", "2026-03")).secret
    records = tokens.unpermute(rows[ID_COLUMN[part]].combine_chunks(), secret).to_pylist()
    line_of = {spread("record_id", line): line for line in range(lines)}
    return list(zip(rows.to_pylist(), [line_of[record] for record in records], strict=True))


@given(drawn=st.lists(CALL, min_size=1, max_size=12))
@tries(25)
def test_assurance_is_coarse_and_billing_exact(cdr_table, opened, drawn):
    calls = cdrs(cdr_table, drawn)
    parts = {
        part: with_lines(part, rows, opened["answered"]) for part, rows in parts_of(calls, opened["answered"]).items()
    }
    by_line = {row["line"]: row for row in calls.to_pylist()}
    for row, line in parts.get("failed", ()):
        call = by_line[line]
        assert row["start"] == call["start_time"].replace(second=0, microsecond=0)
        assert row["ring_s"] is None or abs(row["ring_s"] - (call["end_time"] - call["ring_time"]).total_seconds()) < 1
        assert row["pdd_ms"] == call["pdd_ms"]
    for row, line in parts.get("answered", ()):
        call = by_line[line]
        assert row["start"] == call["start_time"].replace(minute=0, second=0, microsecond=0)
        assert row["pdd_ms"] is None or (row["pdd_ms"] % 100 == 0 and 0 <= call["pdd_ms"] - row["pdd_ms"] < 100)
        assert (row["pdd_ms"] is None) == (call["pdd_ms"] is None)
    for row, line in parts.get("billing", ()):
        call = by_line[line]
        assert (row["start"], row["end"], row["talk_ms"], row["calling_number"]) == (
            call["start_time"],
            call["end_time"],
            call["talk_ms"],
            call["calling_number"],
        )
    answered = [line for line, row in by_line.items() if row["disposition"] == "answered"]
    lines = {part: sorted(line for _, line in parts.get(part, ())) for part in VIEW_PARTS}
    failed = sorted(by_line.keys() - set(answered))
    assert lines == {"billing": answered, "uncharged": [], "answered": answered, "failed": failed}


def test_equal_numbers_have_equal_tokens_and_none_has_none(cdr_table, opened):
    pairs = [(NUMBERS[0], NUMBERS[1]), (NUMBERS[1], NUMBERS[0]), (None, NUMBERS[1])]
    calls = cdrs(cdr_table, [call(n, calling_number=a, called_number=b) for n, (a, b) in enumerate(pairs)])
    rows = parts_of(calls, opened["answered"])["billing"]
    calling, called = rows["calling_token"].to_pylist(), rows["called_token"].to_pylist()
    assert calling[0] == called[1] and calling[1] == called[0] == called[2] and calling[2] is None
    assert calling[0] != calling[1]
    later = parts_of(calls, opened["answered"], "2026-02")["billing"]
    assert not set(later["called_token"].to_pylist()) & set(called), "a key per month"


# -- in which part an attempt is ---------------------------------------------------------------------------------------


def group(calls):
    return Group("default", 0, 0, with_answered(calls), calls.schema.empty_table())


def in_groups(calls, opened):
    """{part: lines of its rows} of a whole group, as it is split."""
    made = {rows.view: with_lines(rows.view, rows.rows, opened) for rows in split_group(group(calls), opened)}
    return {part: sorted(line for _, line in rows) for part, rows in made.items()}


@pytest.mark.parametrize("slab", [splitting.SLAB, 2])
def test_attempts_of_a_call_that_another_leg_answered_are_told_by_the_hour_with_it(
    cdr_table, opened, monkeypatch, slab
):
    """Route advance: two routes fail, the third is answered; of another call all fail. Over slabs, in any order."""
    monkeypatch.setattr(splitting, "SLAB", slab)
    legs = {"rescued": ("network_failure", "busy", "answered"), "lost": ("network_failure", "busy", "no_answer")}
    drawn = [
        call(n * 90_000, disposition, call_id=1000 + of_call, leg=2 - leg)
        for n, (leg, of_call, disposition) in enumerate(
            (leg, of_call, name[leg]) for leg in range(3) for of_call, name in enumerate(legs.values())
        )
    ]
    calls = cdrs(cdr_table, drawn)
    for order in (range(6), reversed(range(6))):
        assert in_groups(calls.take(list(order)), opened["answered"]) == {
            "answered": [0, 2, 4],
            "billing": [4],
            "failed": [1, 3, 5],
        }
    answered = next(rows.rows for rows in split_group(group(calls), opened["answered"]) if rows.view == "answered")
    assert {(start.minute, start.second) for start in answered["start"].to_pylist()} == {(0, 0)}
    assert sorted(answered["disposition"].to_pylist()) == ["answered", "busy", "network_failure"]


def test_where_all_attempts_are_billed_all_are_told_by_the_hour(cdr_table, opened):
    calls = cdrs(cdr_table, [call(n * 70_000, disposition) for n, disposition in enumerate(DISPOSITIONS)])
    everything = list(range(len(DISPOSITIONS)))
    assert in_groups(calls, opened["attempts"]) == {"answered": everything, "billing": everything}
    assert set(in_groups(calls, opened["answered"])) == {"answered", "billing", "failed"}


def test_an_answered_call_is_not_told_by_length_ring_prefix_or_moment(cdr_table, opened):
    """Calls of one hour that differ in all that billing tells of them, and in nothing else, are the same rows."""
    assert not {"talk_s", "talk_ms", "ring_s", "calling_prefix", "called_prefix", "account"} & set(ANSWERED.names)
    assert [field.name for field in ANSWERED if pa.types.is_temporal(field.type)] == ["start"]
    assert not {"talk_s", "talk_ms", "account"} & set(FAILED.names)
    drawn = [
        call(
            (n * 7919) % 3_600_000,
            length=1000 * n,
            talk_ms=990 * n,
            ring=n * 10,
            pdd_ms=300 + n % 100,
            calling_number=NUMBERS[n % 20],
            called_number=NUMBERS[-n % 20],
            calling_prefix=f"1{n:03}",
            called_prefix=f"1{n:03}",
            account=f"acct-{n:04}",
        )
        for n in range(500)
    ]
    rows = parts_of(cdrs(cdr_table, drawn), opened["answered"])["answered"]
    assert rows.num_rows == 500
    assert len({tuple(row.values()) for row in rows.drop_columns("answered_id").to_pylist()}) == 1


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disposition", ["answered", "busy"])
@pytest.mark.parametrize("slab", [splitting.SLAB, 100])
def test_the_order_of_rows_is_not_that_of_time(cdr_table, opened, monkeypatch, slab, disposition):
    """However large a group: also rows that were split in different slabs are not told apart by where they stand."""
    monkeypatch.setattr(splitting, "SLAB", slab)
    calls = cdrs(cdr_table, [call(n * 50, disposition) for n in range(600)])
    part = "answered" if disposition == "answered" else "failed"
    made = {rows.view: rows.rows for rows in split_group(group(calls), opened["answered"])}
    lines = [line for _, line in with_lines(part, made[part], opened["answered"])]
    rising = sum(a < b for a, b in pairwise(lines))
    assert 200 < rising < 400  # half of 599, give or take eight standard deviations
    assert 90 < sum(line < 300 for line in lines[:300]) < 210  # half of 300, likewise
    ids = made[part][ID_COLUMN[part]].to_pylist()
    assert ids == sorted(ids, key=lambda i: int.from_bytes(i[:8], "little"))


def test_days_are_told_apart_in_order(cdr_table):
    day = 86_400_000
    starts = [T0 + day, T0, T0 + 2 * day, T0 + 1]
    parts = list(by_date(cdr_table([{"record_id": n, "start_time": s, "line": n} for n, s in enumerate(starts)])))
    assert [(date, rows["line"].to_pylist()) for date, rows in parts] == [
        ("2026-03-05", [1, 3]),
        ("2026-03-06", [0]),
        ("2026-03-07", [2]),
    ]


# -- columns and keys --------------------------------------------------------------------------------------------------


def test_parts_have_no_column_of_another_ones_key():
    assert not {"calling_number", "called_number", "calling_token", "called_token", "account"} & {
        *FAILED.names,
        *ANSWERED.names,
    }
    for part, schema in VIEW_PARTS.items():
        assert set(ID_COLUMN.values()) & set(schema.names) == {ID_COLUMN[part]}


def test_the_keys_of_both_views_lead_from_no_id_to_a_record(cdr_table, workspace):
    """Two persons who open both views, with numbers, and put their roots together: only services open the index."""
    site = workspace("asterisk")
    rows = parts_of(cdrs(cdr_table, [call()]), site.opened)
    theirs = {"billing", "billing-numbers", "assurance"}
    for root in (site.folder / "keys").iterdir():
        if root.name.removesuffix(".root") not in theirs:
            root.unlink()
    settings = site.settings
    for role in ("billing", "assurance"):
        keyring = Keyring(settings, role, "a question")
        for part in rows:
            with pytest.raises(KeyGone, match=r"index\.root"):
                keyring.key(row_index.id_key(part, "default", "2026-03"))
    with database.reading(settings) as connection:
        names = [name for name in map(name_of, connection.execute(select(keys))) if name.domain in theirs]
    secrets = [key.secret for key in keyring.keys(names)]
    assert len(secrets) > 2
    ids = {part: rows[part][ID_COLUMN[part]].combine_chunks() for part in ("billing", "answered")}
    led = {part: {tokens.unpermute(of, secret)[0].as_py() for secret in secrets} for part, of in ids.items()}
    assert not led["billing"] & led["answered"]
    assert spread("record_id", 0) not in led["billing"] | led["answered"]
