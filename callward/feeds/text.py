"""From columns to the lines of a file, in bulk: templates, stamps, ids, and CSV as switches write it."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from callward.feeds.world import Ints

_HOLE: Final = re.compile(r"<<(\w+)>>")


def fill(template: str, columns: Mapping[str, pa.Array]) -> pa.Array:
    """Return one text per row: the template with each `<<name>>` replaced by that row's value (as it is, unescaped)."""
    pieces = _HOLE.split(template)
    values = [columns[piece].cast(pa.string()) if n % 2 else piece for n, piece in enumerate(pieces)]
    return pc.binary_join_element_wise(*values, "")


def csv_lines(table: pa.Table) -> pa.Array:
    """Return one CSV line per row, without its end: strings quoted with `"` doubled, numbers bare, nulls empty.

    No value may hold a line end.
    """
    return lines_of(csv_bytes(table))


def csv_bytes(table: pa.Table) -> pa.Buffer:
    """Return the same lines as the bytes of a file, each ended by a line feed."""
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(include_header=False, batch_size=8192))
    return sink.getvalue()


def lines_of(data: pa.Buffer) -> pa.LargeStringArray:
    """Return the lines of a buffer whose last byte is a line feed, without their ends."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 0x0A) + 1
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    whole = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), data)
    return pc.utf8_slice_codeunits(whole, 0, -1)


def body_of(lines: pa.LargeBinaryArray) -> bytes:
    """Return the lines, each followed by a line feed: the content of a file."""
    end = pa.scalar(b"\n", pa.large_binary())
    ended = pc.binary_join_element_wise(lines, end, pa.scalar(b"", pa.large_binary()))
    first, last = np.frombuffer(ended.buffers()[1], np.int64)[[0, len(ended)]]
    return ended.buffers()[2].to_pybytes()[first:last] if len(ended) else b""


def stamps(times_ms: Ints, zone: str) -> pa.Array:
    """Return `YYYY-MM-DD HH:MM:SS` in a zone's local time, cut to the second; null where the time is 0."""
    there = pa.array(times_ms // 1000 * 1000, pa.timestamp("ms", "UTC"), mask=times_ms == 0)
    local = pc.local_timestamp(there.cast(pa.timestamp("ms", zone)))
    return local.cast(pa.timestamp("s")).cast(pa.string())


def iso(times_ms: Ints) -> pa.Array:
    """Return `YYYY-MM-DDTHH:MM:SS.mmmZ`; null where the time is 0."""
    there = pa.array(times_ms, pa.timestamp("ms"), mask=times_ms == 0).cast(pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(there, " ", "T"), "Z", "")


def numbers(values: npt.NDArray[np.generic], missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers as text; null where missing."""
    return pa.array(values, mask=missing).cast(pa.string())


def blank(values: pa.Array) -> pa.Array:
    """Return the values with "" for null."""
    return pc.fill_null(values, "")


def chosen(words: Sequence[str], index: npt.NDArray[np.generic]) -> pa.StringArray:
    """Return the word at each index; "" where the index is negative."""
    places = np.where(np.asarray(index) < 0, len(words), index)
    return pa.array([*words, ""]).take(pa.array(places))


def either(condition: npt.NDArray[np.bool_], yes: str, no: str) -> pa.StringArray:
    """Return one of two words per row."""
    return chosen((no, yes), np.asarray(condition).astype(np.int8))


def repeated(word: str, count: int) -> pa.StringArray:
    """Return the same word in every row."""
    return chosen((word,), np.zeros(count, np.int8))


def hexes(values: Ints) -> pa.StringArray:
    """Return each value as 8 hexadecimal digits (its low 32 bits)."""
    digits = (values & 0xFFFFFFFF).astype(">u4").tobytes().hex().encode()
    return _fixed(digits, len(values), 8)


def uuids(seed: int, serials: Ints) -> pa.StringArray:
    """Return one version-4 shaped id per serial: equal serials (and seed) have equal ids, others differ."""
    high, low = _scatter(serials, seed), _scatter(serials, seed + 1)
    raw = np.column_stack([high, low]).astype(">u8").tobytes().hex().encode()
    digits = np.frombuffer(raw, "u1").reshape(-1, 32)
    text = np.full((len(serials), 36), ord("-"), np.uint8)
    text[:, [*range(8), *range(9, 13), *range(14, 18), *range(19, 23), *range(24, 36)]] = digits
    text[:, 14], text[:, 19] = ord("4"), ord("a")
    return _fixed(text.tobytes(), len(serials), 36)


def _scatter(serials: Ints, seed: int) -> npt.NDArray[np.uint64]:
    """Return the finalizer of SplitMix64: a bijection, so distinct serials stay distinct."""
    x = serials.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 1) & 0xFFFFFFFFFFFFFFFF)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _fixed(data: bytes, count: int, width: int) -> pa.StringArray:
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))
