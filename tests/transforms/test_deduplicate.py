"""Deduplicate: each record once, and of several versions the same one whichever came first."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.lake import ledger
from callward.lake.data_files import DataFiles
from schemas.cdr import CDR
from tests.examples import tries
from transforms.deduplicate import deduplicate, number_legs, number_occurrences

T0 = 1_772_712_000_000
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def files(workspace):
    """Data files of a workspace whose lake is empty: what is settled is the group alone."""
    return DataFiles(workspace("asterisk").opened, "test")


def call(name, content=0, end=60_000, talk=None, **more):
    return {
        "record_id": name,
        "content": content,
        "start_time": T0,
        "end_time": T0 + end,
        "talk_ms": talk,
        "carried_ms": talk,
        **more,
    }


def settled(files, table):
    return deduplicate(table, CDR.empty_table(), CDR.empty_table(), files, [])


@st.composite
def versions(draw):
    """Records that were not answered, in a few versions each, some repeated, with nulls as switches write them."""
    kinds = st.tuples(
        st.integers(1, 4), st.integers(0, 3), st.sampled_from([None, 60_000, 61_000]), st.sampled_from([None, 0, 5000])
    )
    return [
        {
            **call(name, content * 10 + name, talk=talk, disposition="busy"),
            "end_time": None if end is None else T0 + end,
        }
        for name, content, end, talk in draw(st.lists(kinds, max_size=14))
    ]


def lasts(rows):
    """Per record the time and talk of its last version: null is before everything."""
    best: dict[bytes, tuple[int, int]] = {}
    for row in rows:
        end = -1 if row["end_time"] is None else int(row["end_time"].timestamp() * 1000)
        version = (end, -1 if row["talk_ms"] is None else row["talk_ms"])
        best[row["record_id"]] = max(best.get(row["record_id"], version), version)
    return best


@given(rows=versions(), shuffle=st.randoms(use_true_random=False))
@tries(60)
def test_the_last_version_is_the_row_and_nothing_is_lost(files, cdr_table, rows, shuffle):
    table = cdr_table([{**row, "line": n, "file_no": n % 3 + 1} for n, row in enumerate(rows)])
    mixed = list(range(len(rows)))
    shuffle.shuffle(mixed)
    first = settled(files, table)
    other = settled(files, cdr_table([{**rows[n], "line": n, "file_no": n % 3 + 1} for n in mixed]))
    assert lasts(first.rows.to_pylist()) == lasts(table.to_pylist())
    assert first.rows.num_rows == len(set(table["record_id"].to_pylist()))
    assert contents(first.rows) == contents(other.rows)
    assert contents(first.conflicts) == contents(other.conflicts)
    entries = [
        ledger.read_entries(table),
        *first.entries,
        *ledger.entries(first.rows, "accepted"),
        *ledger.entries(first.conflicts, "suspended"),
        *ledger.entries(first.held, "suspended"),
    ]
    ledger.check_balance(ledger.sum_entries(entries))


def contents(table):
    return Counter(zip(table["record_id"].to_pylist(), table["content"].to_pylist(), strict=True))


def test_a_repeated_record_is_counted_where_it_came_last(files, cdr_table):
    table = cdr_table([call(1, file_no=2, line=0), call(1, file_no=1, line=9), call(1, file_no=2, line=5)])
    found = settled(files, table)
    assert [(row["file_no"], row["line"]) for row in found.rows.to_pylist()] == [(1, 9)]
    assert [(row["file_no"], row["rows"]) for row in ledger.sum_entries(found.entries).to_pylist()] == [(2, 2)]


def test_one_id_on_two_dates_names_two_records_in_a_group_as_in_the_lake(files, cdr_table):
    rows = [call(1, 1), {**call(1, 2), "start_time": T0 + DAY_MS, "end_time": T0 + DAY_MS + 60_000}]
    found = settled(files, cdr_table(rows))
    assert found.rows.num_rows == 2 and not found.conflicts.num_rows


@given(
    names=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=12),
    shuffle=st.randoms(use_true_random=False),
)
@tries(50)
def test_occurrences_count_within_a_file_whatever_the_order(cdr_table, names, shuffle):
    rows = [call(name, by_content=True, file_no=file, line=n) for n, (name, file) in enumerate(names)]
    mixed = list(rows)
    shuffle.shuffle(mixed)
    ids = {(r["file_no"], r["line"]): r["record_id"] for r in number_occurrences(cdr_table(rows)).to_pylist()}
    assert ids == {(r["file_no"], r["line"]): r["record_id"] for r in number_occurrences(cdr_table(mixed)).to_pylist()}
    seen: Counter = Counter()
    nth = {}
    for n, (name, file) in enumerate(names):
        nth[file, n] = (name, seen[name, file])
        seen[name, file] += 1
    by_id: dict[bytes, set] = {}
    for place, record_id in ids.items():
        by_id.setdefault(record_id, set()).add(nth[place])
    assert all(len(meaning) == 1 for meaning in by_id.values()), "one id, one meaning"
    assert len(by_id) == len(set(nth.values())), "and one meaning, one id"


def test_ids_that_a_source_gives_are_left_alone(cdr_table):
    table = cdr_table([call(1), call(1, line=1), call(2, by_content=True, line=2)])
    assert number_occurrences(table)["record_id"].to_pylist() == table["record_id"].to_pylist()


def test_the_last_attempt_is_leg_0_and_repetitions_are_no_attempts(files, cdr_table):
    first, last = call(1, 1, call_id=9, sequence=4), call(2, 2, call_id=9, sequence=5, line=1)
    longer = {**last, "end_time": T0 + 99_000, "content": 3, "line": 3}
    table = cdr_table([first, last, {**last, "line": 2}, longer, call(3, line=4)])
    legs = {row["record_id"]: row["leg"] for row in settled(files, table).rows.to_pylist()}
    one, two, three = (table["record_id"][n].as_py() for n in (0, 1, 4))
    assert legs == {one: 1, two: 0, three: 0}


def test_legs_that_a_source_gives_are_kept(cdr_table):
    table = cdr_table([call(1, call_id=9, leg=3), call(2, call_id=9, leg=0)])
    assert number_legs(table)["leg"].to_pylist() == [3, 0]
