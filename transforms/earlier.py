"""Earlier generations: the ids and dates that records had before their source's zone, date form or identity changed.

A record that comes again after such a change has a new id, perhaps on another date. So Identify adds what it had under
each earlier generation whose rows may still be in the lake, and Deduplicate looks there first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.columns import flat
from callward.keys import tokens
from schemas.declaration import Declaration, Shape
from schemas.generation import Generation
from transforms.parse import parse

NO_DATE: Final = -(1 << 31)  # days since 1970, where the record had none
_WORDS: Final = 3  # of each generation: a record id (two), and its date with whether the id is of the content
_BY_CONTENT: Final = np.uint64(1 << 32)
_SNIFFED: Final = 100  # records that a block's shape is told from

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class EarlierReading:
    """How records were read by earlier generations: by today's declaration in all else, in the shape of their file."""

    declaration: Declaration
    shape: Shape

    def ids(self, table: pa.Table, generation: Generation, secret: bytes) -> Words:
        """Return of each record (schema PARSED) its id and date under a generation: shape [n, 3]."""
        raw = flat(table["raw"])
        head = b"\n".join(raw.slice(0, _SNIFFED).to_pylist())
        shape = generation.shape(self.shape, head, self.declaration)
        read = parse(raw, generation.declaration(self.declaration), shape, generation.zone or "UTC")
        # Under the same keys the name is the same, also one that a broker's message gave.
        same = not Generation.of(self.declaration, generation.zone).names_otherwise(generation)
        identity = table["identity"] if same else read["identity"]
        by_content = flat(pc.is_null(identity)).to_numpy(zero_copy_only=False)
        named = pc.coalesce(flat(identity).cast(pa.large_binary()), raw)
        days = flat(pc.fill_null(read["start_time"].cast(pa.date32()).cast(pa.int32()), NO_DATE)).to_numpy()
        last = days.astype(np.uint32).astype(np.uint64) | np.where(by_content, _BY_CONTENT, np.uint64(0))
        return np.column_stack([tokens.as_u64(tokens.mac([named], secret)), last])


def pack(ids: Sequence[Words]) -> pa.BinaryArray:
    """Return ids under several generations (each of shape [n, 3]) as one column."""
    joined = np.ascontiguousarray(np.concatenate(ids, axis=1), "<u8")
    width = joined.shape[1] * 8
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(joined), [None, pa.py_buffer(joined)])
    return fixed.cast(pa.binary())


def unpack(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], Words]:
    """Return which rows of a column have earlier ids, one row number for each id, and those ids: shape [m, 3].

    Rows may be of several sources, with as many earlier generations as each has.
    """
    values = flat(column)
    if values.null_count == len(values):
        return np.zeros(0, np.int64), np.zeros((0, _WORDS), np.uint64)
    values = pa.concat_arrays([values, values[:0]])  # its offsets begin at 0, and a null has no bytes
    counts = flat(pc.fill_null(pc.binary_length(values), 0)).to_numpy().astype(np.int64) // (8 * _WORDS)
    rows = np.repeat(np.arange(len(values), dtype=np.int64), counts)
    return rows, np.frombuffer(values.buffers()[2], "<u8", count=len(rows) * _WORDS).reshape(-1, _WORDS)


def days(ids: Words) -> npt.NDArray[np.int32]:
    """Return the dates of earlier ids, in days since 1970."""
    return ids[:, 2].astype(np.uint32).view(np.int32)


def numbered(column: pa.ChunkedArray, occurrence: npt.NDArray[np.uint64]) -> pa.Array:
    """Return the column with each row's occurrence within its file added to those ids that are of its content."""
    rows, ids = unpack(column)
    ids = ids.copy()
    by_content = (ids[:, 2] & _BY_CONTENT) != 0
    ids[by_content, 1] ^= occurrence[rows[by_content]] << np.uint64(32)
    values = flat(column)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(values)))]) * 8 * _WORDS
    data = pa.py_buffer(np.ascontiguousarray(ids, "<u8"))
    valid = pc.is_valid(values).to_numpy(zero_copy_only=False)
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(), len(values), [bitmap, pa.py_buffer(offsets.astype("<i4")), data])
