"""What a person or a script sees: documents and tables on standard output, everything else on standard error.

Nothing printed here steers a terminal: control characters and those that turn the direction of writing are replaced.
"""

import datetime as dt
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

_GAP = "  "
_USUAL_WIDTH = 100  # where nothing says how wide the terminal is
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_NARROWEST = 12  # columns of words are folded down to this, figures never
Progress = Callable[[str], None]


def say(line: str) -> None:
    """Write a line, or several, to standard error; what cannot be written stops nothing."""
    with suppress(OSError):
        print(clean(line), file=sys.stderr, flush=True)


def clean(text: str, kept: str = "\n\t") -> str:
    """Return text from outside as it may be printed: U+FFFD for what does not print, but for what is `kept`."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in kept else _UNKNOWN for c in text)


def leave_output() -> None:
    """Let what waits for a standard output that takes nothing go nowhere: Python would complain when it flushes."""
    with suppress(OSError, ValueError):  # a test's has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def document(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=1, default=plain) + "\n")


def plain(value: Any) -> Any:
    """Return a value that JSON has no form for: bytes in hex, times in ISO 8601, money exactly as it is written."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Decimal) and value == value.to_integral_value() and not _has_places(value):
        return int(value)
    return str(value)


def _has_places(value: Decimal) -> bool:
    return int(value.as_tuple().exponent) < 0


def show(*parts: Any) -> None:
    """Write lines and tables to standard output."""
    for part in parts:
        sys.stdout.write(f"{part if isinstance(part, Table | Records | Published) else clean(str(part))}\n")
    sys.stdout.flush()


def width() -> int:
    """Return the columns of the terminal (COLUMNS overrides)."""
    return shutil.get_terminal_size((_USUAL_WIDTH, 24)).columns


@dataclass(frozen=True)
class Table:
    """A table as text: figures to the right, words folded where the terminal is narrow, nothing ever cut off."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        return "\n".join(self.lines(width()))

    def natural_width(self) -> int:
        """Return the columns that the table takes when nothing is folded."""
        return sum(self._widths()) + len(_GAP) * (len(self.columns) - 1)

    def lines(self, room: int) -> list[str]:
        """Return the table's lines in at most `room` columns, if its figures alone do not take more."""
        widths = self._fitted(room)
        lines = [_bold(_printable(self.title))] if self.title else []
        lines += self._row([_printable(name) for name in self.columns], widths, _dim)
        for row in self.rows:
            lines += self._row([_cell_text(cell) for cell in row], widths)
        return lines

    def _right(self, position: int) -> bool:
        cells = [row[position] for row in self.rows if row[position] is not None]
        return bool(cells) and all(_is_figure(cell) for cell in cells)

    def _widths(self) -> list[int]:
        cells = [[_cell_text(row[i]) for row in self.rows] for i in range(len(self.columns))]
        return [max(map(len, [name, *cells[i]])) for i, name in enumerate(self.columns)]

    def _fitted(self, room: int) -> list[int]:
        """Return widths of the columns, those of words made narrower (the widest first) until the table fits."""
        widths = self._widths()
        while sum(widths) + len(_GAP) * (len(widths) - 1) > room:
            words = [i for i in range(len(widths)) if not self._right(i) and widths[i] > _NARROWEST]
            if not words:
                break
            widths[max(words, key=lambda i: widths[i])] -= 1
        return widths

    def _row(self, cells: Sequence[str], widths: Sequence[int], style: Callable[[str], str] = str) -> list[str]:
        folded = [_fold(cell, size) for cell, size in zip(cells, widths, strict=True)]
        drawn = []
        for n in range(max(map(len, folded), default=0)):
            parts = [(lines[n] if n < len(lines) else "") for lines in folded]
            aligned = [
                p.rjust(w) if self._right(i) else p.ljust(w) for i, (p, w) in enumerate(zip(parts, widths, strict=True))
            ]
            drawn.append(style(_GAP.join(aligned).rstrip()))
        return drawn


def _fold(text: str, size: int) -> list[str]:
    return textwrap.wrap(text, max(1, size), break_on_hyphens=False) or [""] if len(text) > size else [text]


def _is_figure(cell: Any) -> bool:
    """Return whether a cell holds a figure: a number, or one written with a mark behind it."""
    if isinstance(cell, str):
        return (
            bool(cell)
            and (cell[0].isdigit() or cell in ("-", "0"))
            and all(c in "0123456789.,*-" for c in cell)
            and cell.count("-") < 2
        )
    return isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)


def _cell_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, Decimal):
        return f"{cell:,f}"
    if isinstance(cell, dt.datetime):
        return cell.isoformat(" ", "milliseconds" if cell.microsecond else "seconds").replace("+00:00", "Z")
    return str(plain(cell)) if isinstance(cell, bytes | dt.date | dt.time) else _printable(str(cell))


def _printable(text: str) -> str:
    """Replace control characters of a text from outside: they would reach the terminal."""
    return clean(text, kept="")


@dataclass(frozen=True)
class Published:
    """A text that was published or signed: byte for byte for a program, on a terminal as it may be printed."""

    text: str

    def __str__(self) -> str:
        return clean(self.text) if sys.stdout.isatty() else self.text


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() else text


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table; figures to the right."""
    return Table(title, columns, rows)


@dataclass(frozen=True)
class Records:
    """Rows as a table where it fits the terminal, else one line to a value."""

    rows: Sequence[dict[str, Any]]
    columns: Sequence[str]

    def __str__(self) -> str:
        whole = Table("", self.columns, [[row.get(name) for name in self.columns] for row in self.rows])
        if whole.natural_width() <= width() or not self.rows:
            return str(whole)
        return "\n".join(line for number, row in enumerate(self.rows, 1) for line in self._lines(number, row))

    def _lines(self, number: int, row: dict[str, Any]) -> Iterator[str]:
        size = max(map(len, self.columns))
        yield _dim(f"-- {number}")
        for name in self.columns:
            yield f"{_printable(name).ljust(size)}  {_cell_text(row.get(name))}".rstrip()


def out(rows: Sequence[dict[str, Any]], as_json: bool, title: str = "") -> None:
    """Write records as JSON, or as a table for a person."""
    if as_json:
        document(list(rows))
    elif not rows:
        show(f"{title}: none" if title else "nothing")
    else:
        columns = list(rows[0])
        show(table(title, columns, [[row.get(name) for name in columns] for row in rows]))


def count(amount: int, singular: str, plural: str = "") -> str:
    """Return a count with its word: "1 wave", "2 waves"."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def percent(part: int, whole: int) -> str:
    """Return a share as text: "-" of nothing; what is there is never shown as 0, and what is not all never as 100."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if part and share < 0.1:
        return "< 0.1 %"
    return f"{share:.1f} %" if part in (0, whole) or share <= 99.9 else "> 99.9 %"


def age(span: dt.timedelta) -> str:
    """Return a span of time in the largest unit that it fills twice."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if span.total_seconds() >= 2 * size:
            return f"{span.total_seconds() / size:.0f} {unit}"
    return f"{max(0.0, span.total_seconds()):.0f} seconds"


def labelled(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line to each value, behind its name; what is None or an empty list is left out."""
    size = max(map(len, values), default=0)
    for name, value in values.items():
        if value is not None and value != []:
            yield f"{name.ljust(size)}  {_in_words(value)}"


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_in_words(item) for item in value)
    return "yes" if value is True else "no" if value is False else _printable(str(plain(value)))


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Yield what shows progress: a spinner on a terminal, plain lines elsewhere, nothing beside a JSON document."""
    if quiet or not sys.stderr.isatty():
        yield (lambda line: None) if quiet else say
        return
    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda line: status.update(Text(clean(line)))  # words, no markup
