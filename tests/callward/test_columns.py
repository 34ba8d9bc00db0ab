"""Columns: few-valued text is handled as values and indices, and says what the same text would say row by row."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.columns import (
    constant,
    either,
    few,
    filled,
    has_value,
    is_absent,
    map_few,
    moved,
    nulls,
    only_used,
    overlaid,
    repeated,
)
from schemas.cdr import CDR, FEW, PARSED
from tests.examples import tries

text = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "trunk-1", "ü", "longer than the others"])))
columns = st.lists(text, min_size=1, max_size=4).map(lambda parts: pa.chunked_array(parts, pa.string()))


def encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as FEW, each chunk with a dictionary of its own."""
    return pa.chunked_array([chunk.dictionary_encode() for chunk in column.chunks], FEW)


def assert_sound(column: pa.DictionaryArray) -> None:
    values = column.dictionary.to_pylist()
    assert column.type == FEW and len(set(values)) == len(values) and None not in values


@tries(60)
@given(columns, st.booleans())
def test_a_function_of_values_is_that_function_of_each_row(column: pa.ChunkedArray, coded: bool) -> None:
    said = {"a": "x", "b": "x", "": None, "ü": "y"}.get
    told = map_few(encoded(column) if coded else column, said)
    assert_sound(told)
    assert told.to_pylist() == [None if value is None else said(value) for value in column.to_pylist()]


@tries(60)
@given(columns, st.sampled_from(["a", "new", None]), st.data())
def test_a_value_is_laid_over_the_rows_of_a_mask(
    column: pa.ChunkedArray, value: str | None, data: st.DataObject
) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(column), max_size=len(column)))
    told = overlaid(encoded(column), pa.array(mask, pa.bool_()), value)
    assert_sound(told)
    assert told.to_pylist() == [value if on else old for on, old in zip(mask, column.to_pylist(), strict=True)]


@tries(60)
@given(columns, st.data())
def test_the_first_column_that_has_a_value_counts(column: pa.ChunkedArray, data: st.DataObject) -> None:
    other = pa.array(data.draw(st.lists(st.sampled_from([None, "a", "z"]), min_size=len(column), max_size=len(column))))
    told = either(encoded(column), other.cast(pa.string()))
    assert_sound(told)
    rows = zip(column.to_pylist(), other.to_pylist(), strict=True)
    assert told.to_pylist() == [second if first is None else first for first, second in rows]
    assert filled(told, "none").to_pylist() == ["none" if value is None else value for value in told.to_pylist()]


@tries(60)
@given(columns, st.lists(st.sampled_from(["a", "", "never"]), unique=True))
def test_rows_are_found_by_their_value(column: pa.ChunkedArray, wanted: list[str]) -> None:
    expected = [value in wanted if value is not None else False for value in column.to_pylist()]
    assert has_value(column, *wanted).to_pylist() == has_value(encoded(column), *wanted).to_pylist() == expected


@tries(60)
@given(columns, st.data())
def test_what_was_filtered_away_leaves_no_value_behind(column: pa.ChunkedArray, data: st.DataObject) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(column), max_size=len(column)))
    kept = few(encoded(column)).filter(pa.array(mask, pa.bool_()))
    used = only_used(kept)
    assert used.to_pylist() == kept.to_pylist()
    assert set(used.dictionary.to_pylist()) == set(kept.to_pylist()) - {None}


def test_one_value_throughout() -> None:
    assert constant("whole", 3).to_pylist() == ["whole"] * 3
    assert constant("whole", 0).to_pylist() == []


@pytest.mark.parametrize(
    "field", {field.name: field for field in (*CDR, *PARSED)}.values(), ids=lambda field: field.name
)
def test_columns_that_nobody_has_are_as_arrow_makes_them(field: pa.Field) -> None:
    for rows in (0, 1, 9, 1000):
        column = nulls(rows, field.type)
        column.validate(full=True)
        assert column.equals(pa.nulls(rows, field.type)) and is_absent(column)
        assert pa.concat_arrays([column, column[:1]]).null_count == rows + min(rows, 1)


@tries(40)
@given(columns, st.data())
def test_rows_are_moved_whole(column: pa.ChunkedArray, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(column) - 1))) if len(column) else []
    table = pa.table({"text": column, "few": encoded(column), "absent": nulls(len(column), pa.int64())})
    rows = table.to_pylist()
    assert moved(table, np.array(places, np.int64)).to_pylist() == [rows[place] for place in places]


@tries(60)
@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)), max_size=200))
def test_keys_that_occur_again_are_found(keys: list[int]) -> None:
    counts = Counter(keys)
    found = repeated(np.array(keys, np.uint64))
    assert sorted(found.tolist()) == [place for place, key in enumerate(keys) if counts[key] > 1]
