"""Among: of records as they came, those that a correction reads again, with which bucket of the ledger each is in."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat, set_column
from callward.keys import tokens
from transforms.read import UNENDED

PLACE: Final = ("file_no", "block", "line")
# Records that are read again: where each stands, the bucket of the ledger (or code) that it is in, and with which talk;
# how many records before it in its file are equal to it, where suspense knows it by that (else null).
AGAIN: Final = pa.schema(
    [
        *((name, pa.int64()) for name in PLACE),
        ("was", pa.string()),
        ("was_ms", pa.int64()),
        ("occurrence", pa.int64()),
    ]
)


def among(records: pa.Table, again: pa.Table) -> pa.Table:
    """Return those of some records (as Read gives them) that are to be read again, and which bucket each is in."""
    at = pc.index_in(places_of(records), places_of(again))
    hit = at.is_valid().to_numpy(zero_copy_only=False)
    kept, of = records.filter(pa.array(hit)), again.take(at.drop_null())
    for name in ("was", "was_ms"):
        kept = set_column(kept, name, of[name])
    metadata, place = records.schema.metadata, np.cumsum(hit) - 1
    unended = [str(place[row]) for row in map(int, metadata.get(UNENDED, b"").split()) if hit[row]]
    return kept.replace_schema_metadata({**metadata, UNENDED: " ".join(unended)})


def numbered(suspended: pa.Table, again: pa.Table) -> pa.Table:
    """Return suspended records (schema SUSPENDED) with the ids that they have among all of their file: what is read
    again is only a part of it, in which they cannot be counted. As ids of their own each is counted as the first."""
    at = pc.index_in(places_of(suspended), places_of(again))
    occurrence = again["occurrence"].combine_chunks().take(at).fill_null(0).to_numpy()
    ids = tokens.as_u64(suspended["suspense_id"]).copy()
    ids[:, 1] ^= occurrence.astype(np.uint64) << np.uint64(32)
    return set_column(suspended, "suspense_id", tokens.from_u64(ids))


def places_of(rows: pa.Table) -> pa.Array:
    """Return where records stand, as values that compare."""
    columns = [flat(rows[name].cast(pa.int64())).to_numpy() for name in PLACE]
    packed = np.ascontiguousarray(np.column_stack(columns), np.int64)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(24), rows.num_rows, [None, pa.py_buffer(packed)])
