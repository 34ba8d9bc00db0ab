"""Packed digits (BCD, and TBCD of 3GPP TS 29.002): two to an octet, and what frames them."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from callward.sweep.digits import DigitStream
from callward.sweep.octets import NOWHERE, TWO_DIGITS, UNPRINTED, Octets, Places, among, dilate, spread

_NUMBERING_TYPES: Final = frozenset({0x81, 0x91, 0xA1})  # octet before TBCD: unknown, international, national; E.164
FRAMED_SHARE: Final = 0.02  # share of random windows that look framed, summed over the cases of framed


def packed_octets(octets: Octets, classes: Octets) -> Places:
    """Return octets that BCD of 10 digits may touch: runs of four that are two digits each, and one on either side."""
    if len(octets) < 5:
        return NOWHERE
    digits = among(classes, TWO_DIGITS)
    run = digits[:-3] & digits[1:-2] & digits[2:-1] & digits[3:]
    if np.count_nonzero(run) * 4 > len(run):  # text is BCD too, nearly all of it; but text has no framing
        run &= spread(among(classes, UNPRINTED), 12)[: len(run)]
    return np.flatnonzero(dilate(run, 1, 4, len(octets)))


def packed_digits(octets: Octets, near: Places, swapped: bool) -> DigitStream:
    """Return nibbles of the octets at `near` that are digits; places count nibbles in reading order."""
    high, low = octets[near] >> 4, octets[near] & np.uint8(15)
    nibbles = np.stack([low, high] if swapped else [high, low], axis=1).ravel()
    at = (near[:, None] * 2 + np.arange(2)).ravel()
    keep = nibbles < 10
    at = at[keep]
    linked = np.diff(at) == 1
    return DigitStream(nibbles[keep], at, linked, np.zeros(len(linked), np.bool_))


def framed(octets: Octets, first: int, last: int, swapped: bool) -> bool:
    """Return whether what stands beside these nibbles shows a number. Places count nibbles in reading order.

    A filler F makes an odd number of digits whole octets, or a whole octet of fillers follows; or the octet before is
    the length (in octets or digits) or the type of a number.
    """
    digits = last - first + 1
    if first % 2:  # begins within an octet: only right-justified behind a filler
        return digits % 2 == 1 and _nibble(octets, first - 1, swapped) == 15
    fillers = [_nibble(octets, last + 1, swapped)] + ([] if digits % 2 else [_nibble(octets, last + 2, swapped)])
    if all(nibble == 15 for nibble in fillers):
        return True
    before = int(octets[first // 2 - 1]) if first else -1
    return before in _NUMBERING_TYPES or before in (digits, (digits + 1) // 2)


def _nibble(octets: Octets, place: int, swapped: bool) -> int:
    if not 0 <= place < 2 * len(octets):
        return -1
    return int(octets[place // 2]) >> (0 if place % 2 != swapped else 4) & 15


def with_prefix(octets: Octets, first: int, country: int, swapped: bool) -> Iterator[int]:
    """Yield where the whole number may begin: at the match, at a trunk 0 before it, or at its country code."""
    yield first
    for prefix in ("0", str(country) if country else ""):
        places = range(first - len(prefix), first)
        if prefix and [_nibble(octets, place, swapped) for place in places] == [int(digit) for digit in prefix]:
            yield first - len(prefix)
