"""The sheet: records on the way to text columns, and what their readers share.

Before a reader: what no reader may see is marked, and lines become UTF-8 without line ends within. After it: columns as
their source means them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from callward.parsing.records import NEWLINE, has, large_binary
from schemas.codes import Suspense
from schemas.declaration import File, is_utf8

LONGEST_RECORD: Final = 1 << 20  # bytes
# Bytes that pyarrow reads at once: small stays in the cache, which is worth half the time; the longest record must fit.
BLOCK: Final = LONGEST_RECORD + 64
_ESCAPES: Final = {"%3A": ":", "%3a": ":", "%20": " ", "%2B": "+", "%2b": "+", "%40": "@", "%2F": "/", "%2f": "/"}

Rows = npt.NDArray[np.int64]  # positions of records
Texts = dict[str, pa.Array]  # text columns by name


@dataclass(frozen=True)
class Part:
    """Records that were read alike: which ones, and their text columns (string, null for "")."""

    rows: Rows
    texts: Texts


@dataclass
class Sheet:
    """Records on the way to columns: the fault of each (a Suspense code or ""), and the parts read so far."""

    faults: npt.NDArray[np.object_]
    unended: npt.NDArray[np.bool_]  # the lines that end with their file, without a line end
    parts: list[Part] = field(default_factory=list)

    def mark(self, rows: npt.NDArray[Any], code: Suspense) -> None:
        """Give `rows` (a mask or positions) the fault `code`, unless they have one: the first fault wins."""
        marked = self.faults[rows]
        self.faults[rows] = np.where(marked == "", code.value, marked)

    def readable(self) -> Rows:
        """Return positions of the records without a fault."""
        return np.flatnonzero(self.faults == "")


def mark_unreadable(sheet: Sheet, lines: pa.LargeBinaryArray, file: File) -> None:
    """Mark the records of `found` that no reader may see: too long, empty, or no text in the file's encoding."""
    lengths = pc.binary_length(lines)
    shortest, longest = (pc.min_max(lengths).as_py()[k] or 0 for k in ("min", "max"))
    if longest > LONGEST_RECORD:
        sheet.mark(as_mask(pc.greater(lengths, LONGEST_RECORD)), Suspense.TOO_LONG)
    if not shortest:
        sheet.mark(as_mask(pc.equal(lengths, 0)), Suspense.JSON if file.kind == "json" else Suspense.COLUMNS)
    data = _bytes(lines)
    if has(data, b"\0"):
        sheet.mark(as_mask(pc.match_substring(lines, pattern=b"\0")), Suspense.ENCODING)
    # With line ends between: the end of one record and the start of the next may make a character together.
    if not is_ascii(data) and not _decodes(joined(lines).to_pybytes(), file.encoding):
        _mark_undecodable(sheet, lines, file.encoding)


def _mark_undecodable(sheet: Sheet, lines: pa.LargeBinaryArray, encoding: str) -> None:
    beyond_ascii = np.flatnonzero(np.frombuffer(_bytes(lines), np.uint8) >= 0x80)
    offsets = np.frombuffer(lines.buffers()[1], np.int64)[: len(lines) + 1]
    rows = np.unique(np.searchsorted(offsets, beyond_ascii, side="right") - 1)
    wrong = [row for row in rows.tolist() if row < len(lines) and not _decodes(lines[row].as_py(), encoding)]
    sheet.mark(np.array(wrong, np.int64), Suspense.ENCODING)


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def _bytes(lines: pa.LargeBinaryArray) -> memoryview:
    """Return the bytes of `lines`, one after another (and of neighbours, where `lines` is a slice); not a copy."""
    return memoryview(lines.buffers()[2] or b"")


def is_ascii(data: memoryview) -> bool:
    """Return whether no byte of `data` is beyond ASCII."""
    return bool(np.frombuffer(data, np.uint8).max(initial=0) < 0x80)


def in_utf8(lines: pa.LargeBinaryArray, file: File) -> pa.LargeBinaryArray:
    """Return `lines` in UTF-8, from the encoding of the file."""
    if is_utf8(file) or is_ascii(_bytes(lines)):
        return lines
    block = pa.py_buffer(joined(one_line_each(lines)).to_pybytes().decode(file.encoding).encode())
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE) + 1
    return pc.binary_slice(large_binary(np.concatenate([[0], ends]).astype(np.int64), block), 0, -1)


def one_line_each(lines: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Return records without line ends within: pyarrow takes a lone CR for one, and a torn quote runs across them."""
    data = _bytes(lines)
    for end in (b"\r", b"\n"):
        if has(data, end):
            lines = pc.replace_substring(lines, pattern=end, replacement=b" ")
    return lines


def joined(lines: pa.LargeBinaryArray) -> pa.Buffer:
    """Return the bytes of `lines`, each ended by a line end."""
    nothing, end = (pa.scalar(b, pa.large_binary()) for b in (b"", b"\n"))
    return pc.binary_join_element_wise(lines, nothing, end).buffers()[2] or pa.py_buffer(b"")


def as_mask(mask: pa.Array) -> npt.NDArray[np.bool_]:
    """Return a mask of Arrow's as one of numpy's, where null is False."""
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)


def any_true(mask: pa.Array) -> bool:
    """Return whether `mask` says yes to any record."""
    return bool(pc.any(mask, min_count=0).as_py())


def finished(text: pa.Array, file: File) -> pa.Array:
    """Return a column as a source means it: without blanks around, without percent-encoding, null for ""."""
    if file.trim:
        text = pc.utf8_trim_whitespace(text)
    if file.url_encoded and any_true(pc.match_substring(text, "%")):
        text = _unquoted(text)
    return null_empty(text)


def _unquoted(text: pa.Array) -> pa.Array:
    """Return `text` without percent-encoding: frequent escapes by kernel, what is left by distinct value."""
    if not any_true(pc.match_substring(text, "%25")):  # an encoded percent sign could make a new escape
        for escape, character in _ESCAPES.items():
            text = pc.replace_substring(text, pattern=escape, replacement=character)
    return by_distinct(text, unquote) if any_true(pc.match_substring(text, "%")) else text


def null_empty(text: pa.Array) -> pa.Array:
    """Return `text` (string) with null for "", by its offsets alone."""
    if text.offset or text.null_count or text.type != pa.string() or not len(text):
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
    _, offsets, values = text.buffers()
    filled = np.diff(np.frombuffer(offsets, np.int32)[: len(text) + 1]) > 0
    if filled.all():
        return text
    bits = pa.py_buffer(np.packbits(filled, bitorder="little"))
    return pa.StringArray.from_buffers(len(text), offsets, values, bits)


def by_distinct(text: pa.Array, word: Callable[[str], object | None]) -> pa.Array:
    """Return `word` of each distinct value of `text`, as string; null where it gives None."""
    distinct = text.dictionary_encode()
    words = [None if v is None else word(v) for v in distinct.dictionary.to_pylist()]
    return pa.array([None if v is None else str(v) for v in words], pa.string()).take(distinct.indices)
