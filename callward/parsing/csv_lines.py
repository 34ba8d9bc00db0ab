"""Lines of a CSV file onto the sheet: by pyarrow, and one by one the few that it refuses."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from callward.parsing.raw_columns import (
    BLOCK,
    LONGEST_RECORD,
    Part,
    Rows,
    Sheet,
    Texts,
    as_mask,
    finished,
    is_ascii,
    joined,
)
from callward.parsing.records import trimmed
from schemas.codes import Suspense
from schemas.declaration import File, Layout, Shape, dialect

_SINGLY: Final = 64  # so few refused records are read one by one

# A field of csv's may be as long as a record: the same line reads the same whichever way it goes.
csv.field_size_limit(LONGEST_RECORD + 1)


@dataclass(frozen=True)
class _Tried:
    """Lines read as one order of columns: those that have as many, and those that do not (0 columns: torn quotes)."""

    rows: Rows
    texts: Texts
    refused: Rows
    counts: Rows

    @classmethod
    def together(cls, parts: Sequence[tuple[Rows, "_Tried"]]) -> "_Tried":
        """Return several results as one, each over the lines at its positions."""
        names = parts[0][1].texts
        return cls(
            np.concatenate([at[tried.rows] for at, tried in parts]),
            {name: pa.concat_arrays([tried.texts[name] for _, tried in parts]) for name in names},
            np.concatenate([at[tried.refused] for at, tried in parts]),
            np.concatenate([tried.counts for _, tried in parts]),
        )


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of columns; one that several have is not read. (Such a file stays in landing.)"""
    often = Counter(names)
    return tuple(name if often[name] == 1 else "" for name in names)


_Reader = Callable[[pa.LargeBinaryArray, File, Sequence[str], set[str]], _Tried]


@dataclass(frozen=True)
class CsvLines:
    """Lines of a CSV file that are being read: each is the record at `rows` of the sheet."""

    sheet: Sheet
    rows: Rows
    lines: pa.LargeBinaryArray
    file: File
    names: set[str]

    def read(self, shape: Shape, layouts: Sequence[Layout]) -> None:
        """Read the lines in the file's shape; what it refuses, in another declared layout of as many columns.

        A line without its end is read in the file's own shape alone: what is left of a torn one may fit another.
        """
        first = Layout(name="file", columns=_told_apart(shape.columns)) if shape.columns else next(iter(layouts), None)
        left, counts = np.arange(len(self.lines)), np.full(len(self.lines), -1)
        if first is not None:
            left, counts = self._take(left, first, len(first.columns), _READERS[self.file.quoting])
            left, counts = self._take_unescaped(left, counts, first)
        if shape.columns and self.sheet.unended.any():
            torn = self.sheet.unended[self.rows[left]]
            self.sheet.mark(self.rows[left[torn]], Suspense.TORN)
            left, counts = left[~torn], counts[~torn]
        for count in np.unique(counts[counts > 0]):
            these = left[counts == count]
            for layout in (layout for layout in layouts if layout.fits(int(count))):
                these, _ = self._take(these, layout, int(count), _READERS[self.file.quoting])
            self.sheet.mark(self.rows[these], Suspense.COLUMNS)
        self.sheet.mark(self.rows[left[counts < 0]], Suspense.COLUMNS)
        self.sheet.mark(self.rows[left[counts == 0]], Suspense.QUOTING)

    def _take(self, which: Rows, layout: Layout, count: int, reader: _Reader) -> tuple[Rows, Rows]:
        """Put the lines at `which` that fit `layout` on the sheet; the others, and how many columns those have."""
        if not len(which):
            return which, which
        lines = self.lines if len(which) == len(self.lines) else self.lines.take(pa.array(which))
        tried = reader(lines, self.file, layout.laid(count), self.names)
        fits = _matching(tried, layout)
        if fits.any():
            kept = tried.texts if fits.all() else {n: t.filter(pa.array(fits)) for n, t in tried.texts.items()}
            texts = {name: finished(text, self.file) for name, text in kept.items()}
            self.sheet.parts.append(Part(self.rows[which[tried.rows[fits]]], texts))
        unlike = tried.rows[~fits]
        left = which[np.concatenate([tried.refused, unlike])]
        return left, np.concatenate([tried.counts, np.full(len(unlike), count)])

    def _take_unescaped(self, left: Rows, counts: Rows, layout: Layout) -> tuple[Rows, Rows]:
        """Read again the lines whose values are all quoted and hold quotes that nobody escaped."""
        if self.file.quoting != "doubled" or not len(left):
            return left, counts
        still, _ = self._take(left, layout, len(layout.columns), _loose)
        refused = np.isin(left, still)
        return left[refused], counts[refused]


def _matching(tried: _Tried, layout: Layout) -> npt.NDArray[np.bool_]:
    fits = np.ones(len(tried.rows), bool)
    for column, pattern in layout.match.items():
        fits &= as_mask(pc.match_substring_regex(tried.texts[column], pattern))
    return fits


def _wanted(columns: Sequence[str], names: set[str]) -> dict[str, int]:
    """Return position of each column that is read; the first of a name counts."""
    return {name: columns.index(name) for name in dict.fromkeys(columns) if name in names}


def _strict(lines: pa.LargeBinaryArray, file: File, columns: Sequence[str], names: set[str]) -> _Tried:
    """Return lines whose quotes are escaped, or that have none, by pyarrow; None unless it finds as many."""
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
    """Return `lines` as pyarrow reads them; None where a torn quote ran from one line into others."""
    include = [str(at) for at in wanted.values()] or ["0"]
    data = joined(lines)
    refused: list[tuple[int, int]] = []
    try:
        if is_ascii(memoryview(data)):
            table = _csv_table(data, file, count, include, _noting(refused))
        else:
            # Its handler is given each refused row as text, cut anywhere: it must not meet half a character.
            probe = _csv_table(_masked(data), file, count, ["0"], _noting(refused))
            if probe.num_rows + len(refused) != len(lines):
                return None
            kept = np.delete(np.arange(len(lines)), [row for row, _ in refused])
            table = _csv_table(joined(lines.take(pa.array(kept))), file, count, include) if len(kept) else None
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
    """Return a handler that lists each row of another number of columns: its position, and how many it has."""

    def note(row: pa.csv.InvalidRow) -> str:
        refused.append((row.number - 1, row.actual_columns))
        return "skip"

    return note


def _masked(data: pa.Buffer) -> pa.Buffer:
    """Return `data` with every byte beyond ASCII as "?": where values end stays the same."""
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
        pa.csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=[str(at) for at in range(count)]),
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
    """Return values of one line, as pyarrow takes them; None where a quote that opens does not close."""
    reader = csv.reader([line.decode() + "\n", "end\n"], **dialect(file))
    try:
        rows = list(reader)
    except csv.Error:
        return None
    return rows[0] if len(rows) == 2 else None


def _singly(lines: pa.LargeBinaryArray, file: File, count: int, wanted: dict[str, int]) -> _Tried:
    read = [_values(line, file) for line in lines.to_pylist()]
    lengths = np.array([0 if values is None else len(values) for values in read], np.int64)
    kept = [values for values in read if values is not None and len(values) == count]
    texts = {name: pa.array([values[at] for values in kept], pa.string()) for name, at in wanted.items()}
    return _Tried(np.flatnonzero(lengths == count), texts, np.flatnonzero(lengths != count), lengths[lengths != count])


def _loose(lines: pa.LargeBinaryArray, file: File, columns: Sequence[str], names: set[str]) -> _Tried:
    """Return lines in which every value is quoted and none escaped: a value ends only at quote, delimiter, quote."""
    body = trimmed(lines, b";")
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
