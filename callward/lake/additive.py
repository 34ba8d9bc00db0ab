"""Rows of derived tables as they are added up: by their key, in its order."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Table

from schemas.tables import key_columns, sum_columns


def sum_derived(table: Table, parts: Sequence[pa.Table]) -> pa.Table:
    """Return parts of a derived table added up by its key and in its order, without the rows that came to nothing."""
    keys, sums = key_columns(table), sum_columns(table)
    joined = pa.concat_tables(parts, promote_options="permissive").select(keys + sums)
    grouped = joined.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in sums])
    grouped = grouped.rename_columns(
        [name.removesuffix("_sum") if name.endswith("_sum") else name for name in grouped.column_names]
    )
    nonzero = pc.not_equal(grouped[sums[0]], 0)
    for name in sums[1:]:
        nonzero = pc.or_(nonzero, pc.not_equal(grouped[name], 0))
    # In order of the key: the database finds each row's neighbour at hand, and two commits wait for rows in one order.
    return grouped.select(keys + sums).filter(nonzero).sort_by([(name, "ascending") for name in keys])
