"""Small kernels over whole columns that Arrow does not have."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.cdr import FEW

Column: TypeAlias = pa.Array | pa.ChunkedArray
NULL_WORD = np.uint64(0x8000_0000_0000_0000)  # stands for null where a column is hashed as 64-bit words


def flat(column: Column) -> pa.Array:
    """Return the column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def map_distinct(column: Column, function: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
    """Return `function` over the distinct values of a column of few; null stays null."""
    encoded = flat(column.dictionary_encode())
    values = pa.array([function(v) for v in encoded.dictionary.to_pylist()], kind)
    return values.take(encoded.indices)


# -- columns that no record has: most sources lack some ----------------------------------------------------------------

_zeros = pa.py_buffer(b"")


def nulls(rows: int, kind: pa.DataType) -> pa.Array:
    """Return nulls as pa.nulls, in memory that all such columns share. `kind` is not nested, at most 16 bytes wide."""
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(nulls(rows, kind.index_type), pa.array([], kind.value_type))
    zeros = _zeros_for(rows + 1)
    buffers = 3 if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else 2
    return pa.Array.from_buffers(kind, rows, [zeros] * buffers, rows)


def _zeros_for(rows: int) -> pa.Buffer:
    global _zeros
    zeros = _zeros  # another thread may put a smaller one in its place
    if zeros.size < rows * _WIDEST:
        zeros = _zeros = pa.py_buffer(bytes(rows * _WIDEST))
    return zeros


_WIDEST = 16  # bytes of a value


def is_absent(column: Column) -> bool:
    """Return whether no row has a value."""
    return bool(column.null_count == len(column))


def taken(column: Column, at: pa.Array) -> pa.Array:
    """Return the rows of a column at those positions, in that order; one that no row has is not moved."""
    return nulls(len(at), column.type) if is_absent(column) else flat(column).take(at)


def moved(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return the rows of a table at those positions, in that order; what no row has is not moved."""
    at = pa.array(rows)
    return pa.Table.from_arrays([taken(column, at) for column in table.columns], schema=table.schema)


# -- few-valued text (schemas.cdr.FEW) ---------------------------------------------------------------------------------


def few(column: Column) -> pa.DictionaryArray:
    """Return a text column as FEW, in one array; one that is FEW stays as it is."""
    return flat(column if column.type == FEW else column.dictionary_encode())


def few_of(positions: pa.Array | np.ndarray, values: Sequence[str]) -> pa.DictionaryArray:
    """Return FEW of positions (integers, null for null) in a list of distinct values."""
    positions = positions if isinstance(positions, pa.Array) else pa.array(positions)
    return pa.DictionaryArray.from_arrays(positions.cast(pa.int32()), pa.array(values, pa.string()))


def constant(value: str, rows: int) -> pa.DictionaryArray:
    """Return FEW with one value throughout."""
    return few_of(np.zeros(rows, np.int32), [value])


def map_few(column: Column, function: Callable[[str], object | None]) -> pa.DictionaryArray:
    """Return `function` of each distinct value of a text column, as FEW; null where it gives None, and for null."""
    column = few(column)
    values = [function(value) for value in column.dictionary.to_pylist()]
    distinct = pa.array([None if value is None else str(value) for value in values], pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(distinct.indices.take(column.indices), distinct.dictionary)


def overlaid(column: Column, where: Column, value: str | None) -> pa.DictionaryArray:
    """Return FEW with `value` on the rows of the mask `where`; null where the mask is."""
    column = few(column)
    values = column.dictionary.to_pylist()
    if value is not None and value not in values:
        values.append(value)
    at = pa.scalar(None if value is None else values.index(value), pa.int32())
    return few_of(pc.if_else(flat(where), at, column.indices), values)


def filled(column: Column, value: str) -> pa.DictionaryArray:
    """Return FEW with `value` for null."""
    column = few(column)
    return overlaid(column, column.is_null(), value) if column.null_count else column


def either(*columns: Column) -> pa.DictionaryArray:
    """Return the first of several text columns that has a value, row by row, as FEW."""
    if not columns[0].null_count:
        return few(columns[0])
    alike = pa.chunked_array([few(column) for column in columns]).unify_dictionaries()
    at = pc.coalesce(*(chunk.indices for chunk in alike.chunks))
    return pa.DictionaryArray.from_arrays(at, alike.chunk(0).dictionary)


def has_value(column: Column, *values: str) -> pa.BooleanArray:
    """Return which rows of a text column have one of `values`; false for null. FEW is not spelled out for it."""
    column = few(column)
    wanted = pc.is_in(column.dictionary, pa.array(values, pa.string()))
    return wanted.take(column.indices).fill_null(False)


def only_used(column: Column) -> Column:
    """Return a dictionary-encoded column without the values that none of its rows has: filtering leaves them there."""
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([only_used(chunk) for chunk in column.chunks], column.type)
    size = len(column.dictionary)
    indices = column.indices.cast(pa.int32())
    rows = (indices.fill_null(size) if indices.null_count else indices).to_numpy()
    used = np.zeros(size + 1, bool)
    used[rows] = True
    if used[:size].all():
        return column
    place = (np.cumsum(used, dtype=np.int32) - np.int32(1))[rows]
    indices = pa.array(place, mask=rows == size if indices.null_count else None).cast(column.type.index_type)
    dictionary = column.dictionary.filter(pa.array(used[:size]))
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=column.type.ordered, safe=False)


# -- words, ranks ------------------------------------------------------------------------------------------------------


def words(column: Column) -> np.ndarray:
    """Return a numeric or time column as 64-bit words (shape [n]), null as NULL_WORD; equal values give equal words."""
    array = flat(column)
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    elif pa.types.is_float32(array.type):
        array = array.view(pa.int32())
    if not pa.types.is_int64(array.type):
        array = array.cast(pa.int64())
    filled = array.fill_null(int(NULL_WORD.astype(np.int64))) if array.null_count else array
    numbers: np.ndarray = filled.to_numpy(zero_copy_only=False)
    return numbers.view(np.uint64)


def repeated(keys: np.ndarray) -> np.ndarray:
    """Return positions of the keys (uint64, spread evenly) that occur more than once, in no order worth relying on."""
    ordered = np.sort(keys)
    twins = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twins):
        return np.zeros(0, np.int64)
    perhaps = np.zeros(1 << 16, bool)  # by 16 bits of a key: a look at these spares a search for nearly all
    perhaps[twins & np.uint64(0xFFFF)] = True
    rows = np.flatnonzero(perhaps[keys & np.uint64(0xFFFF)])
    place = np.minimum(np.searchsorted(twins, keys[rows]), len(twins) - 1)
    found: np.ndarray = rows[twins[place] == keys[rows]]
    return found


def ranks(groups: np.ndarray) -> np.ndarray:
    """Return the position of each row within its run of equal neighbours: [7 7 3 3 3] → [0 1 0 1 2]."""
    n = len(groups)
    if not n:
        return np.zeros(0, np.int64)
    first = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(n) - np.repeat(first, np.diff(np.r_[first, n]))


def set_column(table: pa.Table, name: str, column: Column) -> pa.Table:
    """Return the table with that column replaced, in place."""
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
