"""Parse: the records of a block, as one canonical batch. A row per record, always; what is wrong is a value in it.

Three steps, each on whole Arrow arrays: cut a block into records, read records into text columns (only those that
the declaration names), and turn text columns into the fields of `schemas.cdr.PARSED`. Loops run over distinct values,
or over the few records that the fast readers refuse. Nothing here raises for any bytes.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from schemas.causes import CANCELLED, CAUSE_DECODERS, DISPOSITION_DECODERS, TIMED_OUT
from schemas.cdr import PARSED, READ_FIELDS, TIMESTAMP
from schemas.codes import Suspense
from schemas.declaration import (
    DURATION_FIELDS,
    TIME_FIELDS,
    WORKING_FIELDS,
    Condition,
    Declaration,
    Edges,
    File,
    Key,
    Layout,
    Rule,
    Shape,
    Value,
    dialect,
)
from transforms.stamp import Settled, Stamp, Times, decimals, durations, in_utc, integers, read_times, stamp

LONGEST_RECORD: Final = 1 << 20  # bytes
# Bytes that pyarrow reads at once: small stays in the cache, which is worth half the time; the longest record must fit.
_BLOCK: Final = LONGEST_RECORD + 64
_SINGLY: Final = 64  # so few refused records are read one by one
_GROUP: Final = 1024  # JSON records that are tried together after a block was refused
_SAMPLE: Final = 16
_BOM: Final = b"\xef\xbb\xbf"
_NEWLINE: Final = 10
_JOINT: Final = "\x1f"
_OF_ATTEMPTS: Final = ("talk_ms", "pdd_ms", "disposition", "calling_presentation")  # said of no other piece of a call
_ESCAPES: Final = {"%3A": ":", "%3a": ":", "%20": " ", "%2B": "+", "%2b": "+", "%40": "@", "%2F": "/", "%2f": "/"}


def _spelled(*words: str) -> pa.Array:
    return pa.array([spelling for word in words for spelling in (word, word.capitalize(), word.upper())])


_RESTRICTED: Final = _spelled("anonymous", "restricted", "private", "withheld", "blocked")
_UNAVAILABLE: Final = _spelled("unavailable", "unknown", "asserted", "none")

# Codec names that a record may carry on; all else becomes "other", because free text may be a number.
_CODEC_SPELLINGS: Final = {
    "PCMU": ("ULAW", "G711U", "G711ULAW", "G.711U", "G711", "G.711"),
    "PCMA": ("ALAW", "G711A", "G711ALAW", "G.711A"),
    "G722": ("G.722", "G722.1"),
    "G723": ("G.723", "G723.1", "G7231"),
    "G726": ("G.726", "G726-16", "G726-24", "G726-32", "G726-40"),
    "G728": ("G.728",),
    "G729": ("G.729", "G729A", "G729B", "G729AB"),
    "AMR-WB": ("AMRWB", "G722.2"),
    "L16": ("SLIN", "SLIN16"),
    **dict.fromkeys(("AMR", "CODEC2", "EVS", "GSM", "H264", "ILBC", "ISAC", "OPUS", "SILK", "SPEEX", "T38", "VP8"), ()),
}
_CODECS: Final = {spelling: codec for codec, spellings in _CODEC_SPELLINGS.items() for spelling in (codec, *spellings)}

# A field of csv's may be as long as a record: the same line reads the same whichever way it goes.
csv.field_size_limit(LONGEST_RECORD + 1)

_Rows = npt.NDArray[np.int64]
_Texts = dict[str, pa.Array]


# ---------------------------------------------------------------------------------------------- cutting


def record_end(data: bytes | memoryview, declaration: Declaration) -> int:
    """Offset just after the last complete record in `data`, which starts at a record; -1 if there is none.

    A format of one document a file ends where the file does, which only the reader knows: always -1.
    """
    if declaration.file.records == "file":
        return -1
    if not declaration.file.multiline:
        return bytes(data).rfind(b"\n") + 1 or -1
    ends = _line_ends(np.frombuffer(data, np.uint8), declaration.file)
    return int(ends[-1]) + 1 if len(ends) else -1


def records(data: bytes | memoryview | pa.Buffer, declaration: Declaration) -> pa.LargeBinaryArray:
    """The records of a block that was cut at record ends: line ends trimmed, blank lines left out.

    A byte order mark before a record is dropped, because files get put together. Documents of a `records = "file"`
    format come one each, also out of an array; a file that is no JSON is one record.
    """
    block = pa.py_buffer(data) if not isinstance(data, pa.Buffer) else data
    if declaration.file.records == "file":
        return pa.array(_documents(block.to_pybytes().removeprefix(_BOM)), pa.large_binary())
    return _lines(block, declaration.file)


def _lines(block: pa.Buffer, file: File) -> pa.LargeBinaryArray:
    if not block.size:
        return pa.array([], pa.large_binary())
    ends = _line_ends(np.frombuffer(block, np.uint8), file) + 1
    complete = len(ends) > 0 and ends[-1] == block.size
    starts = np.concatenate([[0], ends if complete else np.append(ends, block.size)]).astype(np.int64)
    whole = _large_binary(starts, block)
    lines = pc.binary_slice(whole, 0, -1) if complete else _trimmed(whole, b"\n")
    if _has(memoryview(block), b"\r"):
        lines = _trimmed(lines, b"\r")
    if _has(memoryview(block), _BOM):
        marked = pc.starts_with(lines, pattern=_BOM)
        lines = pc.if_else(marked, pc.binary_replace_slice(lines, 0, len(_BOM), b""), lines)
    lengths = pc.binary_length(lines)
    return lines if pc.min(lengths).as_py() else lines.filter(pc.greater(lengths, 0))


def _line_ends(text: npt.NDArray[np.uint8], file: File) -> npt.NDArray[np.int64]:
    """Positions of the line ends that end a record: where quotes may hold line ends, those with even quotes before."""
    ends = np.flatnonzero(text == _NEWLINE)
    if not file.multiline:
        return ends
    quotes = np.flatnonzero(text == ord('"'))
    outside: npt.NDArray[np.int64] = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return outside


def _large_binary(offsets: npt.NDArray[np.int64], values: pa.Buffer) -> pa.LargeBinaryArray:
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), values])


def _trimmed(lines: pa.LargeBinaryArray, ending: bytes) -> pa.LargeBinaryArray:
    """`lines` without one `ending` each, where they have it."""
    return pc.if_else(pc.ends_with(lines, pattern=ending), pc.binary_slice(lines, 0, -len(ending)), lines)


def _documents(data: bytes) -> list[bytes]:
    """Documents of a JSON file: its objects one after another, or the elements of its arrays."""
    try:
        text = data.decode("utf-8")
        return [part.encode() for part in _objects(text)]
    except (ValueError, RecursionError):  # what is no UTF-8, no JSON, or a bomb of brackets
        return [data] if data.strip() else []


def _objects(text: str) -> list[str]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        if text[at] in "[], \t\r\n":
            at += 1
            continue
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = end
    return found


# ---------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Part:
    """Records that were read alike: which ones, and their text columns (string, null for "")."""

    rows: _Rows
    texts: _Texts


@dataclass
class _Sheet:
    """Records on the way to columns: the fault of each (a Suspense code or ""), and the parts read so far."""

    faults: npt.NDArray[np.object_]
    parts: list[_Part] = field(default_factory=list)

    def mark(self, rows: npt.NDArray[Any], code: Suspense) -> None:
        """Give `rows` (a mask or positions) the fault `code`, unless they have one: the first fault wins."""
        marked = self.faults[rows]
        self.faults[rows] = np.where(marked == "", code.value, marked)

    def readable(self) -> _Rows:
        """Positions of the records without a fault."""
        return np.flatnonzero(self.faults == "")


def _read(found: pa.LargeBinaryArray, declaration: Declaration, shape: Shape, names: set[str]) -> _Sheet:
    """The text columns called `names` of the records `found`, and what is wrong with those that have none."""
    sheet = _Sheet(np.full(len(found), "", object))
    _mark_unreadable(sheet, found, declaration.file)
    rows = sheet.readable()
    if not len(rows):
        return sheet
    lines = found if len(rows) == len(found) else found.take(pa.array(rows))
    lines = _one_line_each(_utf8(lines, declaration.file))
    if declaration.file.kind == "json":
        _read_json(sheet, rows, lines, declaration.file, sorted(names))
    else:
        names = names | {column for layout in declaration.shapes for column in layout.match}
        _CsvLines(sheet, rows, lines, declaration.file, names).read(shape, declaration.shapes)
    return sheet


def _mark_unreadable(sheet: _Sheet, found: pa.LargeBinaryArray, file: File) -> None:
    lengths = pc.binary_length(found)
    shortest, longest = (pc.min_max(lengths).as_py()[k] or 0 for k in ("min", "max"))
    if longest > LONGEST_RECORD:
        sheet.mark(_true(pc.greater(lengths, LONGEST_RECORD)), Suspense.TOO_LONG)
    if not shortest:
        sheet.mark(_true(pc.equal(lengths, 0)), Suspense.JSON if file.kind == "json" else Suspense.COLUMNS)
    data = _bytes(found)
    if _has(data, b"\0"):
        sheet.mark(_true(pc.match_substring(found, pattern=b"\0")), Suspense.ENCODING)
    # With line ends between: the end of one record and the start of the next may make a character together.
    if not _is_ascii(data) and not _decodes(_joined(found).to_pybytes(), file.encoding):
        _mark_undecodable(sheet, found, file.encoding)


def _mark_undecodable(sheet: _Sheet, found: pa.LargeBinaryArray, encoding: str) -> None:
    beyond_ascii = np.flatnonzero(np.frombuffer(_bytes(found), np.uint8) >= 0x80)
    offsets = np.frombuffer(found.buffers()[1], np.int64)[: len(found) + 1]
    rows = np.unique(np.searchsorted(offsets, beyond_ascii, side="right") - 1)
    wrong = [row for row in rows.tolist() if row < len(found) and not _decodes(found[row].as_py(), encoding)]
    sheet.mark(np.array(wrong, np.int64), Suspense.ENCODING)


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def _bytes(lines: pa.LargeBinaryArray) -> memoryview:
    """The bytes of `lines`, one after another (and of neighbours, where `lines` is a slice); not a copy."""
    return memoryview(lines.buffers()[2] or b"")


def _has(data: memoryview, what: bytes) -> bool:
    """Whether `what` is in `data`: re looks into a buffer, which `in` cannot without a copy."""
    return re.search(re.escape(what), data) is not None


def _is_ascii(data: memoryview) -> bool:
    return bool(np.frombuffer(data, np.uint8).max(initial=0) < 0x80)


def _true(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask, min_count=0).as_py())


def _utf8(lines: pa.LargeBinaryArray, file: File) -> pa.LargeBinaryArray:
    if file.encoding.lower().replace("-", "") in ("utf8", "ascii") or _is_ascii(_bytes(lines)):
        return lines
    block = pa.py_buffer(_joined(_one_line_each(lines)).to_pybytes().decode(file.encoding).encode())
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1
    return pc.binary_slice(_large_binary(np.concatenate([[0], ends]).astype(np.int64), block), 0, -1)


def _one_line_each(lines: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Records without line ends within: pyarrow takes a lone CR for one, and a torn quote runs over them."""
    data = _bytes(lines)
    for end in (b"\r", b"\n"):
        if _has(data, end):
            lines = pc.replace_substring(lines, pattern=end, replacement=b" ")
    return lines


def _joined(lines: pa.LargeBinaryArray) -> pa.Buffer:
    """The bytes of `lines`, each ended by a line end."""
    nothing, end = (pa.scalar(b, pa.large_binary()) for b in (b"", b"\n"))
    return pc.binary_join_element_wise(lines, nothing, end).buffers()[2] or pa.py_buffer(b"")


def _finished(text: pa.Array, file: File) -> pa.Array:
    """A column as a source means it: without blanks around, without percent-encoding, null for ""."""
    if file.trim:
        text = pc.utf8_trim_whitespace(text)
    if file.url_encoded and _any(pc.match_substring(text, "%")):
        text = _unquoted(text)
    return _null_empty(text)


def _unquoted(text: pa.Array) -> pa.Array:
    """`text` without percent-encoding: frequent escapes by kernel, what is left by distinct value."""
    if not _any(pc.match_substring(text, "%25")):  # an encoded percent sign could make a new escape
        for escape, character in _ESCAPES.items():
            text = pc.replace_substring(text, pattern=escape, replacement=character)
    return _by_distinct(text, unquote) if _any(pc.match_substring(text, "%")) else text


def _null_empty(text: pa.Array) -> pa.Array:
    """`text` (string) with null for "", by its offsets alone."""
    if text.offset or text.null_count or text.type != pa.string() or not len(text):
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
    _, offsets, values = text.buffers()
    filled = np.diff(np.frombuffer(offsets, np.int32)[: len(text) + 1]) > 0
    if filled.all():
        return text
    bits = pa.py_buffer(np.packbits(filled, bitorder="little"))
    return pa.StringArray.from_buffers(len(text), offsets, values, bits)


# ---------------------------------------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _Tried:
    """Lines read as one order of columns: those that have as many, and those that do not (0 columns: torn quotes)."""

    rows: _Rows
    texts: _Texts
    refused: _Rows
    counts: _Rows

    @classmethod
    def together(cls, parts: Sequence[tuple[_Rows, "_Tried"]]) -> "_Tried":
        """One result of several, each over the lines at its positions."""
        names = parts[0][1].texts
        return cls(
            np.concatenate([at[tried.rows] for at, tried in parts]),
            {name: pa.concat_arrays([tried.texts[name] for _, tried in parts]) for name in names},
            np.concatenate([at[tried.refused] for at, tried in parts]),
            np.concatenate([tried.counts for _, tried in parts]),
        )


_Reader = Callable[[pa.LargeBinaryArray, File, Sequence[str], set[str]], _Tried]


@dataclass(frozen=True)
class _CsvLines:
    """Lines of a CSV file that are being read: each is the record at `rows` of the sheet."""

    sheet: _Sheet
    rows: _Rows
    lines: pa.LargeBinaryArray
    file: File
    names: set[str]

    def read(self, shape: Shape, layouts: Sequence[Layout]) -> None:
        """Read the lines in the file's shape; what it refuses, in another declared layout of as many columns."""
        first = Layout(name="file", columns=shape.columns) if shape.columns else next(iter(layouts), None)
        left, counts = np.arange(len(self.lines)), np.full(len(self.lines), -1)
        if first is not None:
            left, counts = self._take(left, first, len(first.columns), _READERS[self.file.quoting])
            left, counts = self._take_unescaped(left, counts, first)
        for count in np.unique(counts[counts > 0]):
            these = left[counts == count]
            for layout in (layout for layout in layouts if layout.fits(int(count))):
                these, _ = self._take(these, layout, int(count), _READERS[self.file.quoting])
            self.sheet.mark(self.rows[these], Suspense.COLUMNS)
        self.sheet.mark(self.rows[left[counts < 0]], Suspense.COLUMNS)
        self.sheet.mark(self.rows[left[counts == 0]], Suspense.QUOTING)

    def _take(self, which: _Rows, layout: Layout, count: int, reader: _Reader) -> tuple[_Rows, _Rows]:
        """Put the lines at `which` that fit `layout` on the sheet; the others, and how many columns those have."""
        if not len(which):
            return which, which
        lines = self.lines if len(which) == len(self.lines) else self.lines.take(pa.array(which))
        tried = reader(lines, self.file, layout.laid(count), self.names)
        fits = _matching(tried, layout)
        if fits.any():
            kept = tried.texts if fits.all() else {n: t.filter(pa.array(fits)) for n, t in tried.texts.items()}
            texts = {name: _finished(text, self.file) for name, text in kept.items()}
            self.sheet.parts.append(_Part(self.rows[which[tried.rows[fits]]], texts))
        unlike = tried.rows[~fits]
        left = which[np.concatenate([tried.refused, unlike])]
        return left, np.concatenate([tried.counts, np.full(len(unlike), count)])

    def _take_unescaped(self, left: _Rows, counts: _Rows, layout: Layout) -> tuple[_Rows, _Rows]:
        """A second chance for lines whose values are all quoted and hold quotes that nobody escaped."""
        if self.file.quoting != "doubled" or not len(left):
            return left, counts
        still, _ = self._take(left, layout, len(layout.columns), _loose)
        refused = np.isin(left, still)
        return left[refused], counts[refused]


def _matching(tried: _Tried, layout: Layout) -> npt.NDArray[np.bool_]:
    fits = np.ones(len(tried.rows), bool)
    for column, pattern in layout.match.items():
        fits &= _true(pc.match_substring_regex(tried.texts[column], pattern))
    return fits


def _wanted(columns: Sequence[str], names: set[str]) -> dict[str, int]:
    """Position of each column that is read; the first of a name counts."""
    return {name: columns.index(name) for name in dict.fromkeys(columns) if name in names}


def _strict(lines: pa.LargeBinaryArray, file: File, columns: Sequence[str], names: set[str]) -> _Tried:
    """Lines whose quotes are escaped, or that have none, by pyarrow; believed only if it finds as many as there are."""
    wanted = _wanted(columns, names)
    tried = _by_pyarrow(lines, file, len(columns), wanted)
    if tried is not None and _values(lines[-1].as_py(), file) is not None:
        return tried
    odd = pc.count_substring(lines, pattern=b'"').to_numpy() % 2 == 1
    if len(lines) <= _SINGLY or odd.all():
        return _singly(lines, file, len(columns), wanted)
    if odd.any():
        even, torn = np.flatnonzero(~odd), np.flatnonzero(odd)
        apart = _singly(lines.take(pa.array(torn)), file, len(columns), wanted)
        return _Tried.together([(even, _strict(lines.take(pa.array(even)), file, columns, names)), (torn, apart)])
    halves = np.array_split(np.arange(len(lines)), 2)
    return _Tried.together([(at, _strict(lines.take(pa.array(at)), file, columns, names)) for at in halves])


def _by_pyarrow(lines: pa.LargeBinaryArray, file: File, count: int, wanted: dict[str, int]) -> _Tried | None:
    """`lines` as pyarrow reads them; None where a torn quote ran from one line into others."""
    include = [str(at) for at in wanted.values()] or ["0"]
    data = _joined(lines)
    refused: list[tuple[int, int]] = []
    try:
        if _is_ascii(memoryview(data)):
            table = _csv_table(data, file, count, include, _noting(refused))
        else:
            # Its handler is given each refused row as text, cut anywhere: it must not meet half a character.
            probe = _csv_table(_masked(data), file, count, ["0"], _noting(refused))
            if probe.num_rows + len(refused) != len(lines):
                return None
            kept = np.delete(np.arange(len(lines)), [row for row, _ in refused])
            table = _csv_table(_joined(lines.take(pa.array(kept))), file, count, include) if len(kept) else None
    except pa.ArrowInvalid:
        return None
    rows = len(lines) - len(refused)
    if (table.num_rows if table is not None else 0) != rows:
        return None
    wrong = np.array(refused, np.int64).reshape(-1, 2)
    read = np.delete(np.arange(len(lines)), wrong[:, 0])
    empty = pa.array([], pa.string())
    texts = {name: empty if table is None else table[str(at)].combine_chunks() for name, at in wanted.items()}
    return _Tried(read, texts, wrong[:, 0], wrong[:, 1])


def _noting(refused: list[tuple[int, int]]) -> Callable[[pa.csv.InvalidRow], str]:
    """A handler that lists each row of another number of columns: its position, and how many it has."""

    def note(row: pa.csv.InvalidRow) -> str:
        refused.append((row.number - 1, row.actual_columns))
        return "skip"

    return note


def _masked(data: pa.Buffer) -> pa.Buffer:
    """`data` with every byte beyond ASCII as "?": where values end stays the same."""
    text = np.frombuffer(data, np.uint8)
    return pa.py_buffer(np.where(text < 0x80, text, np.uint8(ord("?"))))


def _csv_table(
    data: pa.Buffer,
    file: File,
    count: int,
    include: list[str],
    on_invalid: Callable[[pa.csv.InvalidRow], str] | None = None,
) -> pa.Table:
    quote = False if file.quoting == "none" else '"'
    return pa.csv.read_csv(
        data,
        pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=[str(at) for at in range(count)]),
        pa.csv.ParseOptions(
            delimiter=file.delimiter,
            quote_char=quote,
            double_quote=bool(quote),
            escape_char=file.escape or False,
            ignore_empty_lines=False,
            invalid_row_handler=on_invalid,
        ),
        pa.csv.ConvertOptions(
            check_utf8=False, column_types=dict.fromkeys(include, pa.string()), include_columns=include
        ),
    )


def _values(line: bytes, file: File) -> list[str] | None:
    """Values of one line, as pyarrow takes them; None where a quote that opens does not close."""
    reader = csv.reader([line.decode() + "\n", "end\n"], **dialect(file))
    try:
        found = list(reader)
    except csv.Error:
        return None
    return found[0] if len(found) == 2 else None


def _singly(lines: pa.LargeBinaryArray, file: File, count: int, wanted: dict[str, int]) -> _Tried:
    read = [_values(line, file) for line in lines.to_pylist()]
    lengths = np.array([0 if values is None else len(values) for values in read], np.int64)
    kept = [values for values in read if values is not None and len(values) == count]
    texts = {name: pa.array([values[at] for values in kept], pa.string()) for name, at in wanted.items()}
    return _Tried(np.flatnonzero(lengths == count), texts, np.flatnonzero(lengths != count), lengths[lengths != count])


def _loose(lines: pa.LargeBinaryArray, file: File, columns: Sequence[str], names: set[str]) -> _Tried:
    """Lines in which every value is quoted and none escaped: a value ends only at quote, delimiter, quote."""
    body = _trimmed(lines, b";")
    body = pc.if_else(_quoted(body), pc.binary_slice(body, 1, -1), pa.scalar(None, body.type))
    split = pc.split_pattern(body, pattern=f'"{file.delimiter}"'.encode())
    lengths = pc.fill_null(pc.list_value_length(split), 0).to_numpy().astype(np.int64)
    rows = np.flatnonzero(lengths == len(columns))
    starts = np.cumsum(lengths) - lengths
    flat = split.flatten()
    texts = {n: flat.take(pa.array(starts[rows] + at)).cast(pa.string()) for n, at in _wanted(columns, names).items()}
    refused = np.flatnonzero(lengths != len(columns))
    return _Tried(rows, texts, refused, lengths[refused])


def _quoted(lines: pa.LargeBinaryArray) -> pa.Array:
    ends = pc.and_(pc.starts_with(lines, pattern=b'"'), pc.ends_with(lines, pattern=b'"'))
    return pc.and_(ends, pc.greater(pc.binary_length(lines), 1))


_READERS: Final[dict[str, _Reader]] = {"doubled": _strict, "none": _strict, "loose": _loose}


# ---------------------------------------------------------------------------------------------- JSON


def _read_json(sheet: _Sheet, rows: _Rows, lines: pa.LargeBinaryArray, file: File, paths: list[str]) -> None:
    """Read `lines` (an object each) by pyarrow; in groups where it refuses the block; one by one where a group."""
    # A line that starts and ends as an object cannot be the rest of another: so many rows means these rows.
    alike = _true(pc.and_(pc.starts_with(lines, pattern=b"{"), pc.ends_with(lines, pattern=b"}")))
    parts, refused = _json_parts(lines, np.flatnonzero(alike), paths)
    singly = np.concatenate([np.flatnonzero(~alike), *refused])
    objects = [_object(lines[int(at)].as_py()) for at in singly]
    good = np.array([found is not None for found in objects], bool)
    sheet.mark(rows[singly[~good]], Suspense.JSON)
    if good.any():
        kept = [found for found in objects if found is not None]
        parts.append((singly[good], {path: _looked_up(kept, path) for path in paths}))
    if parts:
        texts = {path: _finished(pa.concat_arrays([texts[path] for _, texts in parts]), file) for path in paths}
        sheet.parts.append(_Part(rows[np.concatenate([at for at, _ in parts])], texts))


def _json_parts(
    lines: pa.LargeBinaryArray, which: _Rows, paths: list[str]
) -> tuple[list[tuple[_Rows, _Texts]], list[_Rows]]:
    """What pyarrow reads of the lines at `which`, and the groups of lines that it refuses."""
    if not len(which):
        return [], []
    texts = _objects_by_pyarrow(lines if len(which) == len(lines) else lines.take(pa.array(which)), paths)
    if texts is not None:
        return [(which, texts)], []
    if len(which) <= _GROUP:
        return [], [which]
    halves = [_json_parts(lines, half, paths) for half in np.array_split(which, 2)]
    return [part for parts, _ in halves for part in parts], [group for _, groups in halves for group in groups]


def _objects_by_pyarrow(lines: pa.LargeBinaryArray, paths: list[str]) -> _Texts | None:
    longest = pc.max(pc.binary_length(lines)).as_py()
    try:
        table = pa.json.read_json(
            _joined(lines),
            pa.json.ReadOptions(use_threads=False, block_size=max(_BLOCK, 2 * longest)),
            pa.json.ParseOptions(explicit_schema=_json_schema(lines, paths), unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != len(lines):
        return None
    return {path: _leaf(table, path.split(".")) for path in paths}


def _json_schema(lines: pa.LargeBinaryArray, paths: list[str]) -> pa.Schema:
    """The declared paths, each a string unless a sample of the records has numbers or booleans there."""
    step = max(1, len(lines) // _SAMPLE)
    sample = [_object(lines[at].as_py(), as_written=False) for at in range(0, len(lines), step)]
    tree: dict[str, Any] = {}
    for path in paths:
        *parents, last = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = _leaf_type({type(_at(found, path)) for found in sample if found is not None})
    return pa.schema([(name, _arrow_type(kind)) for name, kind in tree.items()])


def _leaf_type(seen: set[type]) -> pa.DataType:
    # Each of these refuses what is of another: a string of digits must never be read as a number.
    for kind, arrow in ((bool, pa.bool_()), (float, pa.float64()), (int, pa.int64())):
        if kind in seen:
            return arrow
    return pa.string()


def _arrow_type(kind: Any) -> pa.DataType:
    if not isinstance(kind, dict):
        return kind
    if all(name.isdecimal() for name in kind):
        return pa.list_(_arrow_type(kind[min(kind)]))
    return pa.struct([(name, _arrow_type(inner)) for name, inner in kind.items()])


def _leaf(table: pa.Table, path: list[str]) -> pa.Array:
    values = table[path[0]].combine_chunks()
    for name in path[1:]:
        values = _element(values, int(name)) if name.isdecimal() else pc.struct_field(values, name)
    text = values.cast(pa.string())
    exponents = pa.types.is_floating(values.type) and _any(pc.match_substring(text, "e"))
    return _by_distinct(text, _number) if exponents else text


def _element(lists: pa.Array, index: int) -> pa.Array:
    long_enough = pc.greater(pc.list_value_length(lists), index)
    if _any(pc.invert(pc.fill_null(long_enough, False))):
        lists = pc.if_else(pc.fill_null(long_enough, False), lists, pa.scalar(None, lists.type))
        if not lists.null_count < len(lists):
            return pa.nulls(len(lists), lists.type.value_type)
    return pc.list_element(lists, index)


def _object(line: bytes, as_written: bool = True) -> dict[str, Any] | None:
    """The JSON object of a record, its numbers as text; None where it is none."""
    try:
        found = json.loads(line, parse_int=_number, parse_float=_number) if as_written else json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _number(text: str) -> str:
    """A JSON number as `_leaf` writes it: no exponent, no zeros at the end of a fraction."""
    if text.lstrip("-").isdecimal():
        return text
    plain = format(Decimal(text), "f") if abs(Decimal(text).adjusted()) < 38 else text
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _at(found: Any, path: str) -> Any:
    for name in path.split("."):
        if name.isdecimal() and isinstance(found, list):
            found = found[int(name)] if int(name) < len(found) else None
        elif not (name == "0" and isinstance(found, dict) and name not in found):  # a lone object in a list's place
            found = found.get(name) if isinstance(found, dict) else None
    return found


def _looked_up(objects: Sequence[dict[str, Any]], path: str) -> pa.Array:
    values = [_at(found, path) for found in objects]
    words = [str(value).lower() if isinstance(value, bool) else value for value in values]
    return pa.array([word if isinstance(word, str) else None for word in words], pa.string())


# ---------------------------------------------------------------------------------------------- values


def _by_distinct(text: pa.Array, word: Callable[[str], object | None]) -> pa.Array:
    """`word` of each distinct value of `text`, as string; null where it gives None."""
    distinct = text.dictionary_encode()
    told = [None if v is None else word(v) for v in distinct.dictionary.to_pylist()]
    return pa.array([None if v is None else str(v) for v in told], pa.string()).take(distinct.indices)


def _without(text: pa.Array, absent: Sequence[str]) -> pa.Array:
    if not absent:
        return text
    return pc.if_else(pc.is_in(text, pa.array(absent, text.type)), pa.scalar(None, text.type), text)


def _text(texts: _Texts, value: Value) -> pa.Array | None:
    """The text that `value` names, as far as it is there; None where the records have no such column."""
    given = [_without(texts[column], value.absent) for column in value.column if column in texts]
    if not given or (value.join is not None and len(given) < len(value.column)):
        return None
    text = given[0] if len(given) == 1 else _put_together(given, value.join)
    if value.cut:
        text = pc.list_element(pc.split_pattern(text, pattern=value.cut, max_splits=1, reverse=True), 0)
    if value.pattern:
        text = _kept(text, value.pattern)
    return _by_distinct(text, (CAUSE_DECODERS | DISPOSITION_DECODERS)[value.decode]) if value.decode else text


def _put_together(given: Sequence[pa.Array], join: str | None) -> pa.Array:
    return pc.coalesce(*given) if join is None else pc.binary_join_element_wise(*given, join)


def _kept(text: pa.Array, pattern: str) -> pa.Array:
    """The group `value` of `pattern`, found once per distinct value; null where there is none."""
    distinct = text.dictionary_encode()
    group = pc.struct_field(pc.extract_regex(distinct.dictionary, pattern=pattern), "value")
    return _null_empty(group.take(distinct.indices))


def _worded(text: pa.Array, value: Value) -> pa.Array:
    """`text` in canonical words: through the value's map, or its constant; null for a word that the map lacks."""
    if value.map:
        other = value.map.get("*")
        text = _by_distinct(text, lambda word: value.map.get(word, other))
    if value.const:
        text = pc.if_else(pc.is_valid(text), value.const, pa.scalar(None, pa.string()))
    return text


def _codec(name: str) -> str:
    return _CODECS.get(name.strip().upper().split("/")[0].split("@")[0], "other")


def _typed(name: str, text: pa.Array, value: Value) -> pa.Array:
    """`text` as the field `name` has it; null where it cannot be."""
    if name in DURATION_FIELDS:
        return durations(text, value.unit)
    if name == "codec":
        return _by_distinct(text, _codec)
    kind = pa.float64() if name in WORKING_FIELDS else PARSED.field(name).type
    if pa.types.is_floating(kind):
        return decimals(text)
    return integers(text, kind) if pa.types.is_integer(kind) else text


@dataclass
class _Fields:
    """Fields of a part's records as they are read from the declaration, with what could not be read."""

    texts: _Texts
    rows: int
    zone: str
    declaration: Declaration
    values: dict[str, pa.Array] = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    bad_time: pa.Array | None = None
    bad_field: pa.Array | None = None
    seen: dict[str, Stamp] = field(default_factory=dict)

    def read(self, fields: Mapping[str, tuple[Value, ...]], where: pa.Array | None = None) -> None:
        """Read `fields`; where a mask is given, only for the records it says, leaving others as they are."""
        for name, values in fields.items():
            if name in TIME_FIELDS:
                self._read_time(name, values, where)
            else:
                self._read_value(name, values, where)

    def _read_value(self, name: str, values: tuple[Value, ...], where: pa.Array | None) -> None:
        found, present = None, None
        for value in values:
            text = _text(self.texts, value)
            if text is not None:
                typed = _typed(name, _worded(text, value), value)
                found = typed if found is None else pc.coalesce(found, typed)
                present = text if present is None else pc.coalesce(present, text)
        if found is not None:
            self.bad_field = _worse(self.bad_field, present, found, where)
            self.values[name] = _laid_over(self.values.get(name), found, where)

    def _read_time(self, name: str, values: tuple[Value, ...], where: pa.Array | None) -> None:
        found, present = None, None
        for value in values:
            text = _text(self.texts, value)
            if text is not None:
                read = self._stamp(text, value)
                found = read if found is None else self._either(found, read)
                present = text if present is None else pc.coalesce(present, text)
        if found is not None:
            self.bad_time = _worse(self.bad_time, present, found.at, where)
            before = self.stamps.get(name)
            self.stamps[name] = Stamp(_laid_over(before.at if before else None, found.at, where), found.local)

    def _stamp(self, text: pa.Array, value: Value) -> Stamp:
        key = repr(value)
        if key not in self.seen:
            self.seen[key] = read_times(text, value, self.zone, self.declaration.time)
        return self.seen[key]

    def _either(self, first: Stamp, second: Stamp) -> Stamp:
        if first.local != second.local:
            first, second = (in_utc(s, self.zone, self.declaration.time) for s in (first, second))
        return Stamp(pc.coalesce(first.at, second.at), first.local)

    def keep_only(self, names: Sequence[str], where: pa.Array) -> None:
        """Records of the mask `where` speak of the fields `names` alone."""
        for name in set(self.values) - set(names):
            self.values[name] = _blank(self.values[name], where)
        for name in set(self.stamps) - set(names):
            self.stamps[name] = Stamp(_blank(self.stamps[name].at, where), self.stamps[name].local)

    def get(self, name: str) -> pa.Array:
        """The field `name`, null throughout where the source has none."""
        return self.values.get(name, pa.nulls(self.rows, PARSED.field(name).type))

    def settled(self) -> Settled:
        """The records' times, complete."""
        times = Times(
            *(self.stamps.get(name) for name in TIME_FIELDS),
            *(self.values.get(name) for name in DURATION_FIELDS),
        )
        return stamp(times, self.rows, self.zone, self.declaration.time)


def _worse(bad: pa.Array | None, text: pa.Array, read: pa.Array, where: pa.Array | None) -> pa.Array | None:
    """`bad`, and the records whose `text` is there but could not be read."""
    if read.null_count == text.null_count:
        return bad
    wrong = pc.and_(pc.is_valid(text), pc.is_null(read))
    wrong = wrong if where is None else pc.and_(wrong, where)
    return wrong if bad is None else pc.or_(bad, wrong)


def _laid_over(before: pa.Array | None, found: pa.Array, where: pa.Array | None) -> pa.Array:
    if where is None:
        return found
    return pc.if_else(where, found, pa.scalar(None, found.type) if before is None else before)


def _blank(values: pa.Array, where: pa.Array) -> pa.Array:
    return pc.if_else(where, pa.scalar(None, values.type), values)


# ---------------------------------------------------------------------------------------------- records


def parse(
    found: pa.LargeBinaryArray | pa.ChunkedArray,
    declaration: Declaration,
    shape: Shape,
    zone: str = "UTC",
    *,
    tenant_column: str = "",
    lines: pa.Array | None = None,
) -> pa.Table:
    """Records of one file as canonical CDRs: `schemas.cdr.PARSED`, row i is record i.

    `zone` is the IANA zone of stamps that name none; `tenant_column` the source column that a tenant rule looks at;
    `lines` the records' lines (int32), if not 0, 1, 2 ... A record that cannot be read has its `fault`, one that a
    rule leaves out its `filter`. Numbers are as the switch wrote them: Normalize makes E.164 of them.
    """
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    found = pa.concat_arrays([found, found[:0]]) if found.offset else found
    sheet = _read(found, declaration, shape, declaration.columns(tenant_column))
    tables = [_batch(part, declaration, zone, tenant_column or declaration.tenant_column) for part in sheet.parts]
    table = _in_order(tables, sheet, len(found))
    numbered = lines if lines is not None else pa.array(np.arange(len(found), dtype=np.int32))
    table = table.set_column(PARSED.get_field_index("line"), PARSED.field("line"), numbered)
    return table.set_column(PARSED.get_field_index("raw"), PARSED.field("raw"), found)


def _in_order(tables: list[pa.Table], sheet: _Sheet, rows: int) -> pa.Table:
    """One row per record: those read, and the unreadable ones with their fault and nothing else."""
    if len(tables) == 1 and tables[0].num_rows == rows and (np.diff(sheet.parts[0].rows) == 1).all():
        return tables[0]
    unreadable = np.flatnonzero(sheet.faults != "")
    order = np.concatenate([*(part.rows for part in sheet.parts), unreadable]).astype(np.int64)
    table = pa.concat_tables([*tables, _unreadable(sheet.faults[unreadable])]).combine_chunks()
    return table.take(pa.array(np.argsort(order, kind="stable")))


def _unreadable(faults: npt.NDArray[np.object_]) -> pa.Table:
    columns = {f.name: pa.nulls(len(faults), f.type) for f in PARSED}
    return pa.table({**columns, "fault": pa.array(faults, pa.string())}, schema=PARSED)


def _batch(part: _Part, declaration: Declaration, zone: str, tenant_column: str) -> pa.Table:
    """Records that were read alike, as canonical rows (without `line` and `raw`)."""
    rows, texts = len(part.rows), part.texts
    fields = _Fields(texts, rows, zone, declaration)
    fields.read(declaration.fields)
    kinds = _kinds(texts, rows, declaration)
    for index, rule in enumerate(kinds.rules):
        _apply(rule, pa.array(kinds.which == index), fields)
    settled = fields.settled()
    columns = _told(fields, settled, declaration)
    columns |= _names(texts, declaration)
    attempt = kinds.attempts()
    if not attempt.all():
        columns |= {name: _blank(columns[name], pa.array(~attempt)) for name in _OF_ATTEMPTS}
    columns |= {"piece": kinds.pieces(), "filter": _filters(texts, rows, declaration, kinds)}
    columns["fault"] = _faults(fields, columns, kinds, declaration, texts)
    columns["tenant_field"] = texts.get(tenant_column)
    return _table(columns, rows)


def _table(columns: Mapping[str, pa.Array | None], rows: int) -> pa.Table:
    def column(f: pa.Field) -> pa.Array:
        given = columns.get(f.name)
        if given is None:
            return pa.nulls(rows, f.type)
        return given if given.type == f.type else given.cast(f.type)

    return pa.Table.from_arrays([column(f) for f in PARSED], schema=PARSED)


@dataclass(frozen=True)
class _Kinds:
    """Which of the declaration's rules each record follows; -1 where none does."""

    rules: tuple[Rule, ...]
    which: npt.NDArray[np.int64]

    def pieces(self) -> pa.Array:
        """What part of a call each record is (schemas.cdr.PIECES); null where no rule says."""
        if not self.rules:
            return pa.repeat(pa.scalar("whole"), len(self.which))
        words = pa.array([None if rule.kind == "filter" else rule.kind for rule in self.rules], pa.string())
        return words.take(pa.array(self.which, mask=self.which < 0))

    def attempts(self) -> npt.NDArray[np.bool_]:
        """Which records are about an attempt, and so have a disposition."""
        if not self.rules:
            return np.ones(len(self.which), bool)
        return np.array([rule.kind not in ("close", "quality") for rule in self.rules] + [True])[self.which]


def _kinds(texts: _Texts, rows: int, declaration: Declaration) -> _Kinds:
    rules = declaration.pieces.rules if declaration.pieces else ()
    which = np.full(rows, -1, np.int64)
    for index in reversed(range(len(rules))):  # the first that matches holds
        which[_meets(texts, rows, rules[index].when)] = index
    return _Kinds(rules, which)


def _apply(rule: Rule, where: pa.Array, fields: _Fields) -> None:
    if not (rule.fields or rule.keeps is not None) or not _any(where):
        return
    fields.read(rule.fields, where)
    if rule.keeps is not None:
        fields.keep_only((*rule.keeps, *rule.fields), where)


def _meets(texts: _Texts, rows: int, when: Mapping[str, Condition]) -> npt.NDArray[np.bool_]:
    meets = np.ones(rows, bool)
    for column, condition in when.items():
        meets &= _true(_holds(texts.get(column, pa.nulls(rows, pa.string())), condition))
    return meets


def _holds(text: pa.Array, condition: Condition) -> pa.Array:
    if isinstance(condition, Edges):
        starts = pc.starts_with(text, pattern=condition.starts)
        return pc.and_(starts, pc.ends_with(text, pattern=condition.ends))
    if isinstance(condition, str):
        distinct = text.dictionary_encode()
        return pc.match_substring_regex(distinct.dictionary, pattern=condition).take(distinct.indices)
    listed = pc.is_in(text, pa.array([word for word in condition if word], pa.string()))
    return pc.or_(listed, pc.is_null(text)) if "" in condition else listed


def _told(fields: _Fields, settled: Settled, declaration: Declaration) -> dict[str, pa.Array]:
    """The fields of the canonical record."""
    columns = {f.name: fields.values[f.name] for f in READ_FIELDS if f.name in fields.values}
    stamps = dict(zip(TIME_FIELDS, (settled.start, settled.ring, settled.answer, settled.end), strict=True))
    columns |= {name: at.cast(TIMESTAMP) for name, at in stamps.items()}
    columns |= {"talk_ms": settled.talk, "pdd_ms": settled.pdd}
    columns["disposition"] = _disposition(fields, settled, declaration)
    columns["calling_presentation"] = pc.coalesce(fields.get("calling_presentation"), _presentation(fields))
    if {"packets_lost", "packets_received"} <= set(fields.values):
        columns.setdefault("loss_pct", _loss(fields.values["packets_lost"], fields.values["packets_received"]))
    if "mos" in columns:
        columns |= _scored(columns)
    return columns


def _disposition(fields: _Fields, settled: Settled, declaration: Declaration) -> pa.Array:
    """Every attempt's one word: answered if it was; else what its cause says, with the ring time where it is known."""
    said = fields.get("disposition")
    if {"ring_time"} & set(fields.stamps) or "pdd_ms" in fields.values:
        rang = pc.or_(pc.is_valid(settled.ring), pc.is_valid(settled.pdd))
        given_up = pc.if_else(rang, "abandoned_alerting", "abandoned_before_alerting")
        ran_out = pc.if_else(rang, "no_answer", "network_failure")
    else:
        given_up, ran_out = pa.scalar(declaration.cancelled_as), pa.scalar(declaration.timed_out_as)
    said = pc.if_else(pc.equal(said, CANCELLED), given_up, said)
    said = pc.if_else(pc.equal(said, TIMED_OUT), ran_out, said)
    return pc.if_else(settled.answered, "answered", pc.fill_null(said, "unknown"))


def _presentation(fields: _Fields) -> pa.Array:
    """Whether the caller's number was shown, by the words that stand in its place; null where no source says."""
    calling = fields.values.get("calling_raw")
    if calling is None:
        return pa.nulls(fields.rows, pa.string())
    anonymous = pc.or_(pc.starts_with(calling, "sip:anonymous@"), pc.starts_with(calling, "anonymous@"))
    restricted = pc.or_(pc.is_in(calling, _RESTRICTED), pc.fill_null(anonymous, False))
    unavailable = pc.or_(pc.is_in(calling, _UNAVAILABLE), pc.is_null(calling))
    return pc.if_else(restricted, "restricted", pc.if_else(unavailable, "unavailable", "allowed"))


def _loss(lost: pa.Array, received: pa.Array) -> pa.Array:
    """Percent of packets lost; CUCM writes a negative loss where packets came twice, which is none."""
    lost = pc.max_element_wise(lost, 0.0, skip_nulls=False)
    sent = pc.add(lost, received)
    return pc.if_else(pc.greater(sent, 0.0), pc.multiply(pc.divide(lost, sent), 100.0), None)


def _scored(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """MOS and its method, null where the score is on no scale of 1 to 5 (0 is written for "not measured")."""
    mos = columns["mos"]
    real = pc.fill_null(pc.and_(pc.greater_equal(mos, 1.0), pc.less_equal(mos, 5.0)), False)
    method = columns.get("mos_method", pa.nulls(len(mos), pa.string()))
    return {"mos": _blank(mos, pc.invert(real)), "mos_method": _blank(method, pc.invert(real))}


def _names(texts: _Texts, declaration: Declaration) -> dict[str, pa.Array | None]:
    keys = {name: getattr(declaration, name) for name in ("identity", "call", "leg_a", "leg_b")}
    return {name: _key(texts, key) for name, key in keys.items()}


def _groups(texts: _Texts, key: Key) -> list[tuple[str, ...]]:
    """The groups of `key` that the records have the columns of."""
    return [group for group in key.any_of or ((),) if all(column in texts for column in (*group, *key.unordered))]


def _key(texts: _Texts, key: Key) -> pa.Array | None:
    """What `key` names, joined with \\x1f; null where a column that must not be empty is."""
    groups = _groups(texts, key) if key.any_of or key.unordered else []
    if not groups:
        return None
    joined = [_joint(texts, key, group) for group in (groups if key.fall_back else groups[:1])]
    return joined[0] if len(joined) == 1 else pc.coalesce(*joined)


def _joint(texts: _Texts, key: Key, group: Sequence[str]) -> pa.Array:
    def column(name: str) -> pa.Array:
        return pc.fill_null(texts[name], "") if name in key.optional else texts[name]

    parts = [column(name) for name in group] + _sorted_columns([column(name) for name in key.unordered])
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, _JOINT)


def _sorted_columns(columns: list[pa.Array]) -> list[pa.Array]:
    """Columns with the values of each row in order."""
    columns = list(columns)
    for end in range(len(columns) - 1, 0, -1):
        for at in range(end):
            first, second = columns[at], columns[at + 1]
            swap = pc.greater(first, second)
            columns[at], columns[at + 1] = pc.if_else(swap, second, first), pc.if_else(swap, first, second)
    return columns


def _filters(texts: _Texts, rows: int, declaration: Declaration, kinds: _Kinds) -> pa.Array:
    """The code of the rule that leaves a record out; null for those that stay."""
    codes = pa.array([rule.filter.value if rule.filter else None for rule in kinds.rules] or [None], pa.string())
    left_out = codes.take(pa.array(kinds.which, mask=kinds.which < 0))
    for leave in declaration.filters:
        meets = pa.array(_meets(texts, rows, leave.when))
        left_out = pc.coalesce(left_out, pc.if_else(meets, leave.code.value, pa.scalar(None, pa.string())))
    return left_out


def _faults(
    fields: _Fields, columns: Mapping[str, pa.Array | None], kinds: _Kinds, declaration: Declaration, texts: _Texts
) -> pa.Array:
    """Why a record that was read cannot be taken; the first fault wins, and one left out has none."""
    nothing = pa.scalar(None, pa.string())
    fault = pa.nulls(fields.rows, pa.string())
    unnamed = None
    if not declaration.identity.content and columns["identity"] is not None:
        unnamed = pc.is_null(columns["identity"])
    unruled = pa.array(kinds.which < 0) if kinds.rules else None
    faults = (
        (Suspense.FIELD, unruled),
        (Suspense.TIME, fields.bad_time),
        (Suspense.FIELD, fields.bad_field),
        (Suspense.IDENTITY, unnamed),
    )
    for code, wrong in faults:
        if wrong is not None and _any(wrong):
            fault = pc.coalesce(fault, pc.if_else(wrong, code.value, nothing))
    return _blank(fault, pc.is_valid(columns["filter"])) if fault.null_count < len(fault) else fault
