"""Misfits: what a file is whose first bytes hold nothing that its source's declaration can read.

What is answered is the end of "this file …", without anything of its content but names that the declaration has.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from callward.parsing.looks import as_binary, looks
from schemas.declaration import Declaration, File, Shape, head_lines, header, matches, repeated, split_line

_DELIMITERS: Final = {
    ",": '","',
    ";": '";"',
    "\t": "tabs",
    "|": '"|"',
    "^": '"^"',
    "~": '"~"',
    "\x1f": "U+001F",
    "\x01": "U+0001",
    "§": '"§"',
    ":": '":"',
}
_DATA: Final = re.compile(r"^[+\-]?\d[\d\s.,:/+\-]*([TZ][\d:.Z+\-]*)?$")
_DATE: Final = re.compile(r"^(\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4})")
_ENDS: Final = re.compile(r"[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # what str.splitlines takes for line ends too
_LINES: Final = 50  # of the first bytes that are looked at
_LEAST_WIDTH: Final = 20  # characters of a line of fixed width
# What a record must say of a call: without one of each group it is a call at no time, to nobody, or of no length.
_ESSENTIAL: Final = (("start_time",), ("called_raw",), ("answer_time", "talk_ms"))


def misfit(head: bytes, declaration: Declaration, shape: Shape) -> str | None:
    """Return what a file's first bytes hold that cannot be read as declared; None where they can, or hold nothing.

    `shape` is how the file was sniffed. A record that is wrong by itself is no misfit, nor is a row of names alone.
    """
    if not head.removeprefix(b"\xef\xbb\xbf").strip(b"\r\n"):
        return None
    if declaration.file.kind == "json":
        return _json_misfit(head, declaration.file)
    file = shape.file(declaration.file)
    lines = head_lines(head, file)
    ends = "" if as_binary(head) else _foreign_ends(lines)
    if ends:
        return f"has no line ends: its lines seem to end in {ends}"
    names, data = header(lines, file)
    rows = [line for line in lines[data : data + _LINES] if line.strip()]
    if names is not None:
        return _names_misfit(head, split_line(lines[names], file), rows, declaration, shape)
    return None if shape.columns or not rows else _rows_misfit(head, rows, declaration, file)


def _foreign_ends(lines: Sequence[str]) -> str:
    """Return what seems to end the lines of a text that is all one line; "" where nothing does."""
    ends = Counter(_ENDS.findall(lines[0])) if len(lines) == 1 else Counter()
    return f"U+{ord(ends.most_common(1)[0][0]):04X}" if ends else ""


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json_misfit(head: bytes, file: File) -> str | None:
    text = head.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    begins = text[:1] in ("{", "[")
    if file.records == "file":
        return None if begins else _look(head, "is no JSON: choose its format")
    lines = [line for line in text.split("\n") if line.strip()]
    whole = lines if len(lines) < 2 or head.endswith(b"\n") else lines[:-1]
    if any(_is_object(line) for line in whole):
        return None
    if begins and (text[0] == "[" or len(whole) > 1):
        return 'is one JSON document and not an object a line: declare records = "file"'
    return None if begins else _look(head, "is no JSON: choose its format")


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _look(head: bytes, otherwise: str) -> str:
    """Return what the bytes look like; where that is nothing known, what separates their columns, or `otherwise`."""
    known = looks(head)
    if known:
        return known
    lines = [line for line in head.decode("utf-8", "replace").split("\n") if line.strip()]
    delimiter = _even_delimiter(lines[:_LINES], File(kind="csv"), "")
    return f"has columns separated by {_DELIMITERS[delimiter]}: choose a CSV format" if delimiter else otherwise


# -- a row of names ----------------------------------------------------------------------------------------------------


def _names_misfit(
    head: bytes, names: Sequence[str], rows: Sequence[str], declaration: Declaration, shape: Shape
) -> str | None:
    read = [column for column in shape.columns if column in declaration.columns()]
    if not read:
        return _without_names(head, names, declaration, shape.file(declaration.file))
    twice = repeated(read)
    if twice:
        return f"has two columns called {twice}: rename one"
    if not rows:
        joined = any(_DATA.match(name.strip()) for name in names)
        return "has names and values in one line: end its lines in LF" if joined else None
    return _uneven(rows, len(names), shape.file(declaration.file)) or _incomplete(read, declaration)


def _without_names(head: bytes, names: Sequence[str], declaration: Declaration, file: File) -> str:
    delimiter = _naming_delimiter(head, declaration, file)
    if delimiter:
        return _separated(delimiter)
    known = looks(head)
    if known:
        return known
    above = _lines_above_names(head_lines(head, file), declaration, file)
    if above:
        return f"has {above} lines above its row of names: have the feed leave them out"
    first = next((name.strip() for name in names if name.strip()), "")
    if _DATA.match(first):
        kind = "date" if _DATE.match(first) else "number"
        return f"has no row of names: its first value is a {kind}; declare its columns (shapes)"
    lines = head_lines(head, file)
    delimiter = _even_delimiter(lines[:_LINES], file, file.delimiter)
    if delimiter:
        return _separated(delimiter)
    if _is_fixed_width(lines, file):
        return "has lines of fixed width: convert it to columns"
    if any(_DATA.match(name.strip()) for name in names):
        return "has no row of names: its first line holds values; declare its columns (shapes)"
    return f"has a row of {len(names)} names and none that is declared: declare its names under fields"


def _naming_delimiter(head: bytes, declaration: Declaration, file: File) -> str:
    """Return the delimiter by which the first line has names that are declared; "" where none does."""
    for line in [line for line in head_lines(head, file) if line.strip()][:2]:  # Excel's sep= may stand above
        for delimiter in _others(file):
            if _has_names(line, declaration, _with(file, delimiter)):
                return delimiter
    return ""


def _lines_above_names(lines: Sequence[str], declaration: Declaration, file: File) -> int:
    """Return how many lines stand above one with names that are declared; 0 where there is none."""
    return next((at for at, line in enumerate(lines[:_LINES]) if _has_names(line, declaration, file)), 0)


def _has_names(line: str, declaration: Declaration, file: File) -> bool:
    """Return whether several values of a line are names that the declaration reads."""
    known = {column.casefold() for column in declaration.columns()}
    return len({name.strip().casefold() for name in split_line(line, file)} & known) > 1


def _uneven(rows: Sequence[str], count: int, file: File) -> str | None:
    """Return that no line has as many columns as there are names, where that is so."""
    counts = [len(split_line(row, file)) for row in rows]
    if file.multiline or count in counts or 0 in counts:
        return None
    return f"has {count} names and {_range(counts)} columns in its lines: declare its columns"


def _incomplete(read: Sequence[str], declaration: Declaration) -> str | None:
    """Return which declared field, without which no call can be charged, has no column."""
    if declaration.pieces:
        return None
    for fields in _ESSENTIAL:
        columns = [c for field in fields for value in declaration.fields.get(field, ()) for c in value.column]
        if columns and not set(columns) & set(read):
            return f"has no column for {' or '.join(fields)}, which is read from {', '.join(columns)}: declare its name"
    return None


# -- rows alone --------------------------------------------------------------------------------------------------------


def _rows_misfit(head: bytes, rows: Sequence[str], declaration: Declaration, file: File) -> str | None:
    values = [split_line(row, file) for row in rows]
    if any(matches(layout, row) for row in values for layout in declaration.shapes):
        return None
    for delimiter in _others(file):
        other = [split_line(row, _with(file, delimiter)) for row in rows]
        if any(matches(layout, row) for row in other for layout in declaration.shapes):
            return _separated(delimiter)
    known = looks(head)
    if known:
        return known
    counts = [len(row) for row in values if row]
    if not counts:
        return "has torn or unquoted values in every line: declare its quoting"
    if max(counts) == 1:
        return _in_one_column(rows, file)
    return _unlike(values, counts, declaration)


def _in_one_column(rows: Sequence[str], file: File) -> str:
    delimiter = _even_delimiter(rows, file, file.delimiter)
    if delimiter:
        return _separated(delimiter)
    if _is_fixed_width(rows, file):
        return "has lines of fixed width: convert it to columns"
    return "has one column a line: declare its delimiter and columns"


def _unlike(values: Sequence[Sequence[str]], counts: Sequence[int], declaration: Declaration) -> str:
    """Return how rows of several columns differ from every shape."""
    for layout in declaration.shapes:
        for row in values:
            if layout.fits(len(row)):
                named = dict(zip(layout.columns, row, strict=False))
                odd = next(c for c, pattern in layout.match.items() if not re.search(pattern, named.get(c, "")))
                return f"has {len(row)} columns, but {odd} is not as declared: declare its columns (shapes)"
    return f"has {_range(counts)} columns, and no declared shape has so many: declare its columns (shapes)"


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


# -- how columns are separated -----------------------------------------------------------------------------------------


def _separated(delimiter: str) -> str:
    return f"has columns separated by {_DELIMITERS[delimiter]}: declare that delimiter"


def _others(file: File) -> Iterator[str]:
    return (delimiter for delimiter in _DELIMITERS if delimiter != file.delimiter)


def _with(file: File, delimiter: str) -> File:
    return file.model_copy(update={"delimiter": delimiter})


def _even_delimiter(lines: Sequence[str], file: File, but: str) -> str:
    """Return a delimiter, other than `but`, that gives all of several lines the same number of columns, more than 2."""
    if len(lines) < 2:
        return ""
    for delimiter in _DELIMITERS:
        counts = {len(split_line(line, _with(file, delimiter))) for line in lines if line.strip()}
        if delimiter != but and len(counts) == 1 and counts.pop() > 2:
            return delimiter
    return ""


def _is_fixed_width(lines: Sequence[str], file: File) -> bool:
    widths = {len(line) for line in lines if line.strip()}
    single = all(len(split_line(line, file)) <= 1 for line in lines)
    return single and len(lines) > 1 and len(widths) == 1 and widths.pop() >= _LEAST_WIDTH
