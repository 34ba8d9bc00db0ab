"""Which files are merged: only such as belong together, never a large one for a few small ones; and how rows lie."""

import random
from bisect import bisect_right
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.lake.compaction import MOST_FILES, Limits, merges, together
from callward.lake.ledger import DataFile
from schemas.views import ID_COLUMN, INDEX, PARTS, ROW_INDEX, VIEW_PARTS
from tests.examples import tries

LIMITS = Limits(bytes=1000, files=4)
_FILES = st.lists(
    st.fixed_dictionaries(
        {
            "view": st.sampled_from(["billing", "assurance"]),
            "tenant": st.sampled_from(["a", "b"]),
            "bytes": st.integers(1, 1500),
            "rows": st.integers(0, 400_000),
            "shard": st.sampled_from([(0, 0), (1, 0), (1, 1)]),
            "received_on": st.sampled_from([date(2026, 3, 6), date(2026, 3, 7)]),
            "key_ids": st.sampled_from(["k1 k2", "k1"]),
            "numbers": st.booleans(),
        }
    ),
    max_size=60,
)


def _file(number: int, **changes: Any) -> DataFile:
    bits, shard = changes.pop("shard", (0, 0))
    usual = {"view": "billing", "tenant": "a", "part": "2026-03-05", "rows": 1, "bytes": 1, "path": "", "sha256": ""}
    return DataFile(file_id=f"run-{number:04d}", shard_bits=bits, shard=shard, **(usual | changes))


def _kind(file: DataFile) -> tuple[Any, ...]:
    return (
        file.view,
        file.tenant,
        file.part,
        file.shard_bits,
        file.shard,
        file.received_on,
        file.key_ids,
        file.numbers,
    )


@given(made=_FILES, leave=st.sets(st.integers(0, 59), max_size=5))
@tries(150)
def test_only_small_files_that_belong_together_are_merged_each_once(made: list[Any], leave: set[int]) -> None:
    files = [_file(number, **row) for number, row in enumerate(made)]
    left = {f"run-{number:04d}" for number in leave}
    found = list(merges(files, LIMITS, left))
    taken = [file.file_id for merge in found for file in merge.files]
    assert len(taken) == len(set(taken)) and not left & set(taken)
    for merge in found:
        assert len(merge.files) > 1
        assert len({_kind(file) for file in merge.files}) == 1
        assert merge.bytes <= LIMITS.bytes
        assert all(file.bytes < LIMITS.bytes for file in merge.files)
    for kind in {_kind(merge.first) for merge in found}:
        assert sum(_kind(file) == kind and file.bytes < LIMITS.bytes for file in files) >= LIMITS.files


@given(sizes=st.lists(st.integers(1, 999), min_size=1, max_size=40))
@tries(150)
def test_a_large_file_is_not_moved_for_a_few_small_ones(sizes: list[int]) -> None:
    """So a row is moved a number of times that grows with the logarithm of what lies beside it."""
    files = [_file(number, bytes=size) for number, size in enumerate(sizes)]
    moved = [file.bytes for merge in merges(files, LIMITS) for file in merge.files]
    if len(sizes) < LIMITS.files:
        assert not moved
    for size in moved:
        smaller = sorted(sizes)[: bisect_right(sorted(sizes), size)]
        assert len(smaller) < LIMITS.files or size <= 2 * (sum(smaller) - size)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1] * 3, []),  # too few
        ([1] * 4, [4]),
        ([1] * 3 + [900], []),  # a large file and few small ones
        ([1] * 8 + [900], [8]),
        ([100] * 8 + [700], [8]),
        ([600] * 8, []),  # two of them are more than a merged file may be
        ([300] * 8, [3, 3, 2]),
        ([1000] * 8, []),  # large enough
        ([1] * (MOST_FILES + 5), [1000]),  # the bytes that are left are those of one more merge
    ],
)
def test_what_is_merged(sizes: list[int], expected: list[int]) -> None:
    files = [_file(number, bytes=size) for number, size in enumerate(sizes)]
    random.Random(1).shuffle(files)
    assert [len(merge.files) for merge in merges(files, LIMITS)][: len(expected) or None] == expected


def test_rows_of_a_merged_file_are_bounded() -> None:
    files = [_file(number, rows=400_000) for number in range(6)]
    assert [len(merge.files) for merge in merges(files, LIMITS)] == [2, 2, 2]


@given(
    view=st.sampled_from(list(VIEW_PARTS)),
    rows=st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=16, max_size=16)), min_size=1, max_size=30),
)
@tries(60)
def test_rows_of_billing_lie_by_time_then_id_those_of_assurance_by_id_alone(
    view: str, rows: list[tuple[int, bytes]]
) -> None:
    at = [{"start": minute * 60_000, ID_COLUMN[view]: row_id} for minute, row_id in rows]
    table = pa.Table.from_pylist(at, schema=VIEW_PARTS[view])

    def by(number: int) -> tuple[int, int, int]:
        minute, row_id = rows[number]
        return minute if view in PARTS["billing"] else 0, *(
            int.from_bytes(half, "little") for half in (row_id[:8], row_id[8:])
        )  # type: ignore[return-value]

    expected = sorted(range(len(rows)), key=by)
    assert together(view, [table.slice(0, 2), table.slice(2)])[ID_COLUMN[view]].to_pylist() == [
        rows[number][1] for number in expected
    ]


@given(rows=st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.booleans()), min_size=1, max_size=30))
@tries(60)
def test_rows_of_the_index_lie_by_id_an_accepted_record_first(rows: list[tuple[bytes, bool]]) -> None:
    at = [{"record_id": record, "state": "accepted" if accepted else "duplicate"} for record, accepted in rows]

    def by(row: tuple[bytes, bool]) -> tuple[int, int, bool]:
        record, accepted = row
        return int.from_bytes(record[:8], "little"), int.from_bytes(record[8:], "little"), not accepted

    table = pa.Table.from_pylist(at, schema=ROW_INDEX)
    lies = together(INDEX, [table.slice(0, 1), table.slice(1)]).select(["record_id", "state"]).to_pylist()
    assert [(row["record_id"], row["state"] == "accepted") for row in lies] == sorted(rows, key=by)
