"""What a person or a script sees: documents and tables on standard output, everything else on standard error."""

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def say(line: str) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr, flush=True)


def document(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=1, default=str)
    sys.stdout.write("\n")


def show(*parts: Any) -> None:
    """Text or rich tables on standard output."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for part in parts:
        console.print(part)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table; figures to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for position, column in enumerate(columns):
        number = any(isinstance(row[position], int | float) for row in rows)
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        made.add_row(*("" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return made


def out(rows: Sequence[dict[str, Any]], as_json: bool, title: str = "") -> None:
    """Records as JSON, or as a table for a person."""
    if as_json:
        document(list(rows))
    elif not rows:
        show(f"{title or 'nothing'}: none" if title else "nothing")
    else:
        columns = list(rows[0])
        show(table(title, columns, [[row.get(name) for name in columns] for row in rows]))


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Progress for a person: a spinner on a terminal, plain lines elsewhere, nothing beside a JSON document."""
    if quiet or not sys.stderr.isatty():
        yield (lambda line: None) if quiet else say
        return
    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda line: status.update(line)


def place_of(error: BaseException) -> str:
    """The type of an error and where it came from: never its message, which may quote a value."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}" if last else type(error).__name__
