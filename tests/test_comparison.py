"""Two tables compared: equal in any order, every planted difference is found, and what is told holds no value."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.comparison import OURS, THEIRS, Comparison, compare
from tests.examples import tries

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(2)),
        pa.field("name", pa.string()),
        pa.field("amount", pa.decimal128(18, 6)),
        pa.field("share", pa.float64()),
        pa.field("open", pa.bool_()),
        pa.field("at", pa.timestamp("ms", "UTC")),
    ]
)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from([b"aa", b"ab", b"ba", b"bb"]),
            "name": st.sampled_from([None, "", "x", "+13035550101"]),
            "amount": st.sampled_from([None, 0, 1]),
            "share": st.sampled_from([None, 0.0, 1.5, float("nan")]),
            "open": st.sampled_from([None, True, False]),
            "at": st.sampled_from([None, 0, 86_400_000]),
        }
    ),
    max_size=8,
)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _counted(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(repr(sorted(row.items())) for row in rows)  # which key was drawn first says nothing


@given(rows=_ROWS, data=st.data())
@tries(60)
def test_the_same_rows_in_any_order_are_equal(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    found = compare(_table(rows), _table(data.draw(st.permutations(rows))), ["id"])
    assert found.count == 0
    assert list(found.shown(10)) == []


@given(ours=_ROWS, theirs=_ROWS)
@tries(150)
def test_tables_are_equal_exactly_when_they_have_the_same_rows_as_often(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> None:
    found = compare(_table(ours), _table(theirs), ["id"])
    assert (found.count == 0) == (_counted(ours) == _counted(theirs))
    by_id = {side: Counter(row["id"] for row in rows) for side, rows in ((OURS, ours), (THEIRS, theirs))}
    for side, other in ((OURS, THEIRS), (THEIRS, OURS)):
        assert found.alone[side].num_rows == sum((by_id[side] - by_id[other]).values())
    told = list(found.shown(100))
    assert len(told) == found.count
    assert "3035550101" not in repr(told)


@given(rows=_ROWS.filter(bool), data=st.data())
@tries(60)
def test_a_cell_that_differs_is_named_by_its_column_alone(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    rows = list({row["id"]: row for row in rows}.values())
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(_SCHEMA.names[1:]))
    changed = [dict(row) for row in rows]
    changed[at][name] = {"name": "+13035550199", "amount": 7, "share": 2.5, "at": 5}.get(name, not rows[at]["open"])
    found = compare(_table(rows), _table(changed), ["id"])
    assert list(found.shown(10)) == [(rows[at]["id"].hex(), (name,), "")]


def test_a_column_that_one_side_lacks_is_null_there() -> None:
    rows = [{"id": b"aa", "name": "x"}, {"id": b"bb", "name": None}]
    without = _table(rows).drop_columns(["name"])
    assert list(compare(_table(rows), without, ["id"]).shown(10)) == [(b"aa".hex(), ("name",), "")]


def test_encoded_text_equals_the_same_text() -> None:
    table = _table([{"id": b"aa", "name": "x"}])
    encoded = table.set_column(1, "name", table["name"].dictionary_encode())
    assert compare(table, encoded, ["id"]).count == 0


def test_a_comparison_tells_the_first_differences_and_counts_all() -> None:
    made = Comparison()
    rows = [{"id": bytes([a, b]), "name": "x"} for a in range(10) for b in range(10)]
    made.add("billing", "default", "2026-03-05", _table(rows), _table([]), ["id"])
    made.add("billing", "default", "2026-03-06", _table(rows), _table(rows), ["id"])
    assert made.differing == 100
    assert 0 < len(made.first) < 100
    assert str(made.first[0]) == "billing default 2026-03-05 0000: only in batch"
    assert made.rows == {"billing": {OURS: 200, THEIRS: 100}}


@pytest.mark.parametrize("empty", [True, False])
def test_tables_without_rows_are_equal(empty: bool) -> None:
    table = _table([]) if empty else pa.table({"id": pa.array([])})
    assert compare(table, _table([]), ["id"]).count == 0
