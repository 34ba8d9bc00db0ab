"""Cut: a block of bytes, cut into records. Nothing here raises for any bytes."""

import json
import re
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.declaration import Declaration, File

_BOM: Final = b"\xef\xbb\xbf"
NEWLINE: Final = 10
_RETURN: Final = 13


def record_end(data: bytes | memoryview, declaration: Declaration) -> int:
    """Return the offset just after the last complete record in `data`, which starts at a record; -1 without one.

    A format of one document a file ends where the file does, which only the reader knows: always -1.
    """
    if declaration.file.records == "file":
        return -1
    if not declaration.file.multiline:
        return bytes(data).rfind(b"\n") + 1 or -1
    ends = _line_ends(np.frombuffer(data, np.uint8), declaration.file, has(data, b"\r"))
    return int(ends[-1]) + 1 if len(ends) else -1


def records(data: bytes | memoryview | pa.Buffer, declaration: Declaration) -> pa.LargeBinaryArray:
    """Return the records of a block that was cut at record ends: line ends trimmed, blank lines left out.

    A byte order mark before a record is dropped, because files get put together. Documents of a `records = "file"`
    format come one each, also out of an array; a file that is no JSON is one record.
    """
    block = pa.py_buffer(data) if not isinstance(data, pa.Buffer) else data
    if declaration.file.records == "file":
        return pa.array(_documents(block.to_pybytes().removeprefix(_BOM)), pa.large_binary())
    return _lines(block, data if isinstance(data, bytes) else memoryview(block), declaration.file)


def message_records(
    values: pa.LargeBinaryArray, declaration: Declaration
) -> tuple[pa.LargeBinaryArray, npt.NDArray[np.int64]]:
    """Return the records of messages, and the message (row number) that each is of.

    A message is a record, or a block of them; a wrong one spoils no other. Null and blank messages hold none.
    """
    values = pc.fill_null(values, b"")
    for ending in (b"\n", b"\r"):
        values = trimmed(values, ending)
    marked = pc.starts_with(values, pattern=_BOM)
    values = pc.if_else(marked, pc.binary_replace_slice(values, 0, len(_BOM), b""), values)
    several = pc.match_substring_regex(values, pattern=_SEVERAL[declaration.file.records])
    odd = np.flatnonzero(several.to_numpy(zero_copy_only=False))
    lone = np.flatnonzero(pc.and_(pc.invert(several), pc.greater(pc.binary_length(values), 0)))
    if not len(odd):
        return values.take(pa.array(lone)), lone
    parts = [records(values[int(at)].as_buffer(), declaration) for at in odd]
    of = np.concatenate([lone, np.repeat(odd, [len(part) for part in parts])])
    order = np.argsort(of, kind="stable")
    return pa.concat_arrays([values.take(pa.array(lone)), *parts]).take(pa.array(order)), of[order]


# What tells that a message may hold more than one record: a line end in it, an array of documents or two in a row.
_SEVERAL: Final = {"lines": r"[\r\n]", "file": r"^\s*\[|\}\s*\{"}


def _lines(block: pa.Buffer, data: bytes | memoryview, file: File) -> pa.LargeBinaryArray:
    if not block.size:
        return pa.array([], pa.large_binary())
    returns = has(data, b"\r")
    ends = _line_ends(np.frombuffer(block, np.uint8), file, returns) + 1
    complete = len(ends) > 0 and ends[-1] == block.size
    starts = np.concatenate([[0], ends if complete else np.append(ends, block.size)]).astype(np.int64)
    whole = large_binary(starts, block)
    lines = pc.binary_slice(whole, 0, -1) if complete else trimmed(whole, b"\n")
    if returns:
        lines = trimmed(lines, b"\r")
    if has(data, _BOM):
        marked = pc.starts_with(lines, pattern=_BOM)
        lines = pc.if_else(marked, pc.binary_replace_slice(lines, 0, len(_BOM), b""), lines)
    lengths = pc.binary_length(lines)
    return lines if pc.min(lengths).as_py() else lines.filter(pc.greater(lengths, 0))


def _line_ends(text: npt.NDArray[np.uint8], file: File, has_returns: bool) -> npt.NDArray[np.int64]:
    """Return the line ends that end a record: where quotes may hold line ends, those with even quotes before them."""
    ends = np.flatnonzero(text == NEWLINE)
    if file.multiline:
        quotes = np.flatnonzero(text == ord('"'))
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    returns = record_returns(text, file) if has_returns else ends[:0]
    return np.sort(np.append(ends, returns)) if len(returns) else ends


def record_returns(text: npt.NDArray[np.uint8], file: File) -> npt.NDArray[np.int64]:
    """Return where a CR alone ends a record: one that is not in quotes, or that stands between two JSON objects.

    The last byte ends none, as its LF may follow.
    """
    if file.records == "file":
        return np.array([], np.int64)
    returns: npt.NDArray[np.int64] = np.flatnonzero(text[:-1] == _RETURN)
    ends = text[returns + 1] != NEWLINE
    if ends.any():
        if file.kind == "json":
            ends &= (returns > 0) & (text[returns - 1] == ord("}")) & (text[returns + 1] == ord("{"))
        elif file.quoting != "none":
            ends &= ~_in_quotes(returns, text, file)
    alone: npt.NDArray[np.int64] = returns[ends]
    return alone


def _in_quotes(at: npt.NDArray[np.int64], text: npt.NDArray[np.uint8], file: File) -> npt.NDArray[np.bool_]:
    """Return which places have odd quotes before them, in their line, or in the block where quotes hold lines."""
    quotes = np.flatnonzero(text == ord('"'))
    before = np.searchsorted(quotes, at)
    if not file.multiline:
        ends = np.append(-1, np.flatnonzero(text == NEWLINE))
        before = before - np.searchsorted(quotes, ends[np.searchsorted(ends, at) - 1])
    odd: npt.NDArray[np.bool_] = before % 2 == 1
    return odd


def is_unended(data: bytes | memoryview, declaration: Declaration) -> bool:
    """Return whether a block of lines ends within one: its file does, as blocks are cut at record ends."""
    return declaration.file.records == "lines" and len(data) > 0 and bytes(data[-1:]) not in (b"\n", b"\r")


def large_binary(offsets: npt.NDArray[np.int64], values: pa.Buffer) -> pa.LargeBinaryArray:
    """Return values that end where the next starts: the bytes of `values` from each of `offsets` to the one after."""
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), values])


def trimmed(lines: pa.LargeBinaryArray, ending: bytes) -> pa.LargeBinaryArray:
    """Return `lines` without one `ending` each, where they have it."""
    return pc.if_else(pc.ends_with(lines, pattern=ending), pc.binary_slice(lines, 0, -len(ending)), lines)


def has(data: bytes | memoryview, what: bytes) -> bool:
    """Return whether `what` is in `data`; its lowest byte spares most looks (`in` would copy the buffer)."""
    if isinstance(data, bytes):
        return what in data if len(what) == 1 else not data.isascii() and what in data
    return lowest(data) <= min(what) and re.search(re.escape(what), data) is not None


def lowest(data: memoryview) -> int:
    """Return the lowest byte of `data`, 255 when empty: text without control characters has none below a blank."""
    return int(np.frombuffer(data, np.uint8).min(initial=255))


def _documents(data: bytes) -> list[bytes]:
    """Return documents of a JSON file: its objects one after another, or the elements of its arrays.

    From what is no JSON on, all that is left is one record.
    """
    try:
        text = data.decode("utf-8")
    except ValueError:
        return [data]
    return [part.encode() for part in _objects(text)]


def _objects(text: str) -> list[str]:
    decoder, documents, at = json.JSONDecoder(), [], 0
    while at < len(text):
        if text[at] in "[], \t\r\n":
            at += 1
            continue
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # torn, or a bomb of brackets
            end = len(text)
        documents.append(text[at:end])
        at = end
    return documents
