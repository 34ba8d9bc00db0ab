"""Suspend: a record is set aside once, whichever night it comes, and equal lines of one file are told apart."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.lake import ledger
from schemas.codes import Suspense
from schemas.suspense import SUSPENDED, SUSPENSE
from transforms.suspend import add_to_log, conflicting_versions, faulty_records

NOW = 1_772_776_800_000


def table(rows):
    """(what the line says, file, line) → schema SUSPENDED."""
    made = [
        {
            "tenant": "default",
            "source": "s",
            "code": "TIME",
            "suspense_id": bytes([said] * 16),
            "by_occurrence": True,
            "kind": "raw",
            "payload": b"x",
            "shape": "",
            "file_no": file,
            "block": 0,
            "line": line,
            "carried_ms": 0,
            "was": "",
        }
        for said, file, line in rows
    ]
    return pa.Table.from_pylist(made, schema=SUSPENDED)


def delivered(lines):
    return table([(said, file, n) for n, (said, file) in enumerate(lines)])


LINES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12)


@given(lines=LINES)
def test_the_greatest_number_of_equal_lines_in_one_file_is_kept(lines):
    kept, entries = add_to_log(delivered(lines), SUSPENSE.empty_table(), NOW)
    per_file = Counter(lines)
    most = {said: max(n for (other, _), n in per_file.items() if other == said) for said, _ in lines}
    assert kept.num_rows == sum(most.values()) == len(set(kept["suspense_id"].to_pylist()))
    ledger.check_balance(ledger.sum_entries([ledger.read_entries(delivered(lines)), *entries]))


@given(lines=LINES, closed=st.booleans())
def test_what_is_known_open_or_closed_is_a_duplicate(lines, closed):
    kept, _ = add_to_log(delivered(lines), SUSPENSE.empty_table(), NOW)
    known = kept.set_column(
        SUSPENSE.get_field_index("open"), "open", pa.array([not closed] * kept.num_rows, pa.bool_())
    )
    again, entries = add_to_log(table([(said, file + 10, n) for n, (said, file) in enumerate(lines)]), known, NOW)
    assert again.num_rows == 0
    buckets = Counter()
    for row in ledger.sum_entries(entries).to_pylist():
        buckets[row["bucket"]] += row["rows"]
    assert buckets == ({"duplicate": len(lines)} if lines else {})


@given(lines=LINES, shuffle=st.randoms(use_true_random=False))
def test_what_is_kept_does_not_depend_on_order(lines, shuffle):
    rows = [(said, file, n) for n, (said, file) in enumerate(lines)]
    mixed = list(rows)
    shuffle.shuffle(mixed)
    one, other = (add_to_log(table(r), SUSPENSE.empty_table(), NOW)[0] for r in (rows, mixed))
    assert set(one["suspense_id"].to_pylist()) == set(other["suspense_id"].to_pylist())


@pytest.fixture(scope="module")
def opened(workspace):
    return workspace("asterisk").opened


def test_the_id_says_nothing_of_the_line_and_differs_by_source(workspace):
    opened = workspace("asterisk", "cucm").opened
    lines = pa.table(
        {
            "raw": pa.array([b"a line", b"a line", b"another"], pa.large_binary()),
            "fault": ["TIME"] * 3,
            "was": [""] * 3,
            **{
                n: pa.array([0] * 3, SUSPENDED.field(n).type)
                for n in ("file_no", "block", "line", "carried_ms", "was_ms")
            },
        }
    )
    ids = {
        name: faulty_records(lines, "default", name, "", opened)["suspense_id"].to_pylist()
        for name in ("asterisk", "cucm")
    }
    assert ids["asterisk"][0] == ids["asterisk"][1] != ids["asterisk"][2]
    assert not set(ids["asterisk"]) & set(ids["cucm"])


def test_a_version_that_lost_is_one_entry_however_often_it_loses(cdr_table, opened):
    first = {"record_id": 1, "content": 5, "start_time": NOW, "talk_ms": 1000, "carried_ms": 1000}
    lost = conflicting_versions(
        cdr_table([first, {**first, "line": 1}, {**first, "content": 6, "line": 2}]),
        Suspense.CONFLICT,
        "default",
        opened,
    )
    kept, entries = add_to_log(lost, SUSPENSE.empty_table(), NOW)
    assert kept.num_rows == 2 and set(kept["code"].to_pylist()) == {str(Suspense.CONFLICT)}
    assert {row["bucket"]: row["talk_ms"] for row in ledger.sum_entries(entries).to_pylist()} == {
        "suspended": 2000,
        "duplicate": 1000,
    }
    row = pa.ipc.open_stream(kept["payload"][0].as_py()).read_all()
    assert row.num_rows == 1 and row["talk_ms"].to_pylist() == [1000]
