"""Where in callward.toml a setting stands: Python's own reader of TOML does not say it."""

import re
from collections.abc import Iterator
from typing import Final

Location = tuple[str | int, ...]
_HEADER: Final = re.compile(r"\s*(\[\[?)([^\[\]#]+)\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART: Final = re.compile(r"""[\w-]+|"([^"]*)"|'([^']*)'""")


def line_of(text: str, location: Location) -> int | None:
    """Return the line, from 1, of a setting, else of the table that it is missing in; None where neither is written."""
    best, line = 0, None
    for number, place in _places(text):
        if len(place) > best and location[: len(place)] == place:
            best, line = len(place), number
    return line


def _places(text: str) -> Iterator[tuple[int, Location]]:
    """Yield (line, place) of each table and key; tables of a list are numbered from 0."""
    table: Location = ()
    counts: dict[Location, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _table(header[1] == "[[", _parts(header[2]), counts)
            yield number, table
        elif key := _KEY.match(line):
            yield number, (*table, *_parts(key[1]))


def _parts(dotted: str) -> list[str]:
    return [part[1] or part[2] or part[0].strip("\"'") for part in _PART.finditer(dotted)]


def _table(begins: bool, names: list[str], counts: dict[Location, int]) -> Location:
    """Return the place of a table, and count it where it `begins` one more of a list."""
    place: Location = ()
    for at, name in enumerate(names, 1):
        place = (*place, name)
        if begins and at == len(names):
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place
