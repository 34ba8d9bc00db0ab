"""Sequence numbers of files: which are missing, which came again, and where a switch began anew.

A number is a place on a line: where numbers begin again after the last, a place counts on through the wraps. What was
seen is kept as the highest place and the gaps below it, so that the state stays small however many files came.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

NEW: Final = "new"  # no file had its name before
GROWN: Final = "grown"  # one of its name still lay there, and was replaced or added to
AGAIN: Final = "again"  # one of its name was taken in and had left the folder
_MOST_GAPS: Final = 1000  # ranges that are remembered, the newest
_TAIL: Final = 6  # digits of a number that are shown: no telephone number has so few

Range = tuple[int, int]  # first and last


@dataclass(frozen=True)
class Numbering:
    """How the files of a source are numbered: where the number stands in a name, and the range that it wraps in."""

    pattern: str
    bounds: Range | None = None

    @property
    def text(self) -> str:
        """Return what says whether a state is about this numbering."""
        return f"{self.pattern} {self.bounds}"

    def number(self, name: str) -> int | None:
        """Return the number in a file's name; None where it has none, or one beyond the range."""
        match = re.search(self.pattern, name)
        if match is None or not (match[1] or "").isdecimal():
            return None
        number = int(match[1])
        return None if self.bounds and not self.bounds[0] <= number <= self.bounds[1] else number

    def place(self, number: int, near: int | None) -> int:
        """Return the place of a number: of those that it may have, the nearest to another place."""
        if self.bounds is None or near is None:
            return number
        length = self.bounds[1] - self.bounds[0] + 1
        return number + length * round((near - number) / length)

    def shown(self, place: int) -> str:
        """Return the number at a place as people see it: its last six digits."""
        number = place
        if self.bounds is not None:
            number = self.bounds[0] + (place - self.bounds[0]) % (self.bounds[1] - self.bounds[0] + 1)
        digits = str(number)
        return digits if len(digits) <= _TAIL else f"…{digits[-_TAIL:]}"


@dataclass(frozen=True)
class Gap:
    """Places that no file had, and when that was found (seconds since 1970)."""

    first: int
    last: int
    at: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def without(self, place: int) -> Iterator["Gap"]:
        """Yield what is left of the gap when a file of it came."""
        if place > self.first:
            yield Gap(self.first, place - 1, self.at)
        if place < self.last:
            yield Gap(place + 1, self.last, self.at)


@dataclass
class Seen:
    """The places that files of a source had. `start`: the lowest that is looked at; None before the first file."""

    start: int | None = None
    high: int | None = None
    gaps: list[Gap] = field(default_factory=list)

    def add(self, numbering: Numbering, numbers: Sequence[int], at: int, earlier: Callable[[int], str]) -> "News":
        """Add the numbers of files that came, in any order; return what was strange about them.

        `earlier`: what the file at a position of `numbers` is to one before it: GROWN, AGAIN, or NEW. Where each of
        several had its number before and none its name, the switch counts anew, and so does this.
        """
        first = numbers[0] if numbers else None
        places = [numbering.place(number, self.high if self.high is not None else first) for number in numbers]
        again = list(self._again(places))
        if again and len(again) == len(places) and self.high is not None and {*map(earlier, again)} == {NEW}:
            self.start = self.high = None
            self.gaps = []
            self._extend(places, at)
            return News(began_at=min(places))
        self._extend(places, at)
        return News(repeats=tuple(sorted(places[position] for position in again if earlier(position) != GROWN)))

    def _again(self, places: Sequence[int]) -> Iterator[int]:
        """Yield the positions of places that a file had before, or has earlier in the list."""
        here: set[int] = set()
        for position, place in enumerate(places):
            if place in here or self._had(place):
                yield position
            here.add(place)

    def _had(self, place: int) -> bool:
        if self.start is None or self.high is None or not self.start <= place <= self.high:
            return False
        return not any(gap.first <= place <= gap.last for gap in self.gaps)

    def _extend(self, places: Iterable[int], at: int) -> None:
        for place in sorted(set(places)):
            if self.high is None:
                self.start = self.high = place
            elif place > self.high:
                if place > self.high + 1:
                    self.gaps.append(Gap(self.high + 1, place - 1, at))
                self.high = place
            else:
                self.gaps = [left for gap in self.gaps for left in _left(gap, place)]
        self.gaps = self.gaps[-_MOST_GAPS:]


def _left(gap: Gap, place: int) -> Iterable[Gap]:
    return gap.without(place) if gap.first <= place <= gap.last else (gap,)


@dataclass(frozen=True)
class News:
    """What was strange about numbers: places that came again, or where all of them began anew."""

    repeats: tuple[int, ...] = ()
    began_at: int | None = None
