"""Streams of digits, and their windows that spell a number."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from callward.sweep.needles import ANYWHERE, Needles
from callward.sweep.octets import NOWHERE, SEPARATOR, WEAK, Mask, Octets, Places, Values, among, octet_classes

_WIDEST_GAP: Final = 8  # from a digit to the next: three separators in UTF-16


@dataclass
class DigitStream:
    """Digits in the order they stand, where each stands, and whether the next one goes on the same run."""

    digit: Octets
    at: Places
    linked: Mask  # one shorter than digit
    weak: Mask  # likewise: whether the link is over what parts values more often than it groups digits

    def long_runs(self, least: int) -> "DigitStream":
        """Return only the runs of at least this many digits."""
        ends = np.append(np.flatnonzero(~self.linked) + 1, len(self.digit))
        lengths = np.diff(ends, prepend=0)
        keep = np.repeat(lengths >= least, lengths)
        links = max(0, int(keep.sum()) - 1)
        return DigitStream(
            self.digit[keep], self.at[keep], self.linked[keep[:-1]][:links], self.weak[keep[:-1]][:links]
        )

    def left_in_run(self) -> Places:
        """Return for each digit how many the run still has, this one included."""
        ends = np.append(np.flatnonzero(~self.linked) + 1, len(self.digit))
        return np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(self.digit))

    def standing_alone(self, starts: Places, length: int) -> Places:
        """Return those starts of windows that no digit touches; over weak links a window must be the whole run."""
        touching = np.concatenate([[False], np.diff(self.at) == 1, [False]])
        linked = np.concatenate([[False], self.linked, [False]])
        weak = np.concatenate([[0], np.cumsum(self.weak & self.linked)])
        ends = starts + length
        whole = ~linked[starts] & ~linked[ends]
        alone = ~touching[starts] & ~touching[ends] & (whole | (weak[ends - 1] == weak[starts]))
        kept: Places = starts[alone]
        return kept


class _Windows:
    """The integers that windows of a stream spell, by doubling: 1, 2, 4, 8, 16 digits, then the length asked."""

    def __init__(self, digit: Octets) -> None:
        self._parts = [digit.astype(np.uint64)]

    def spell(self, length: int) -> Values:
        """Return one integer per window of `length` digits."""
        total, used = None, 0
        size = len(self._parts[0]) - length + 1
        for power in reversed(range(length.bit_length())):
            if length >> power & 1:
                part = self._part(power)[used : used + size]
                total = part if total is None else total * np.uint64(10 ** (1 << power)) + part
                used += 1 << power
        assert total is not None
        return total

    def _part(self, power: int) -> Values:
        while len(self._parts) <= power:
            half, step = self._parts[-1], 1 << (len(self._parts) - 1)
            self._parts.append(half[:-step] * np.uint64(10**step) + half[step:])
        return self._parts[power]


@dataclass(frozen=True)
class Match:
    """A window that is a number: positions of its digits within the stream's places."""

    at: Places
    length: int
    country: int
    backward: bool = False


def matches(
    stream: DigitStream, needles: Needles, least: int, tally: Callable[[float], None], *, backward: bool = False
) -> Iterator[Match]:
    """Yield every window of the stream that spells a number of `least` digits or more; `tally` gets the chance hits.

    With `backward` also one that spells it from its last digit to its first.
    """
    if len(stream.digit) < least:
        return
    stream = stream.long_runs(least)
    if not len(stream.digit):
        return
    left, windows = stream.left_in_run(), _Windows(stream.digit)
    for length, table in needles.by_length.items():
        starts = np.flatnonzero(left >= length) if length >= least else NOWHERE
        if length < ANYWHERE and len(starts):
            starts = stream.standing_alone(starts, length)
        if not len(starts):
            continue
        spelled = windows.spell(length)[starts]
        reverse = needles.backward.get(length) if backward else None
        for one, turned in ((table, False), *([(reverse, True)] if reverse else [])):
            tally(len(starts) * len(one.values) / 10.0**length)
            places, which = one.find(spelled)
            for start, number in zip(starts[places].tolist(), which.tolist(), strict=True):
                yield Match(stream.at[start : start + length], length, int(one.country[number]), turned)


def written_digits(octets: Octets) -> DigitStream:
    """Return the ASCII digits, linked over separators: NUL is one, so UTF-16 and UTF-32 need no pass of their own."""
    at = np.flatnonzero(octets - np.uint8(48) < 10)
    gap = np.diff(at)
    linked = gap == 1
    wide = np.flatnonzero((gap > 1) & (gap <= _WIDEST_GAP))
    for step in range(1, _WIDEST_GAP):
        between = octets[np.minimum(at[wide] + step, len(octets) - 1)]
        wide = wide[(gap[wide] <= step) | among(octet_classes(between), SEPARATOR)]
    linked[wide] = True
    weak = np.zeros(len(gap), np.bool_)
    for step in range(1, _WIDEST_GAP):
        longer = wide[gap[wide] > step]
        weak[longer] |= among(octet_classes(octets[at[longer] + step]), WEAK)
    return DigitStream(octets[at] - np.uint8(48), at, linked, weak)
