"""Small kernels over whole columns that Arrow does not have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NULL_WORD = np.uint64(0x8000_0000_0000_0000)  # stands for null where a column is hashed as 64-bit words


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def map_distinct(column: pa.Array | pa.ChunkedArray, function: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
    """`function` over the distinct values of a column of few; null stays null."""
    encoded = flat(pc.dictionary_encode(column))
    values = pa.array([function(v) for v in encoded.dictionary.to_pylist()], kind)
    return values.take(encoded.indices)


def words(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A numeric or time column as 64-bit words (shape [n]), null as NULL_WORD; equal values give equal words."""
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


def ranks(groups: np.ndarray) -> np.ndarray:
    """Position of each row within its run of equal neighbours: [7 7 3 3 3] → [0 1 0 1 2]."""
    n = len(groups)
    if not n:
        return np.zeros(0, np.int64)
    first = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    return np.arange(n) - np.repeat(first, np.diff(np.r_[first, n]))


def set_column(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with that column replaced, in place."""
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
