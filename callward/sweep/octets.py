"""Bytes as arrays: classes of octets, and masks over places."""

import unicodedata
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
Values = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SEPARATORS: Final = b" -.()/+\0\xa0\xc2\xe2\x80\x90\x91\x92\x93\x94\x95"  # no-break space, hyphens and dashes in UTF-8
_WEAK_SEPARATORS: Final = b"_,:\r\n\t"  # they part values more often than they group the digits of one
NOWHERE: Final = np.zeros(0, np.int64)


# Code points of decimal digits of every script (general category Nd), and what each stands for.
DECIMALS: Final = {code: unicodedata.decimal(chr(code)) for code in range(0x20000) if chr(code).isdecimal()}


def _class_table(*classes: Iterable[int]) -> bytes:
    """Return a table for bytes.translate: bit 0 for members of the first class, bit 1 for the second ..."""
    table = bytearray(256)
    for bit, members in enumerate(classes):
        for member in members:
            table[member] |= 1 << bit
    return bytes(table)


SEPARATOR, TWO_DIGITS, UNPRINTED, LEAD, LINE_END, WEAK, SCRIPT_LEAD = 1, 2, 4, 8, 16, 32, 64  # bits of octet_classes
_CLASSES: Final = _class_table(
    _SEPARATORS + _WEAK_SEPARATORS,
    (high << 4 | low for high in range(10) for low in range(10)),
    # What may frame BCD and is not common in text; a line end would be a length octet, but text is full of them.
    (code for code in range(256) if code not in b"\r\n" and (not 32 <= code < 127 or code & 15 == 15)),
    b"AIKLMNO",  # base64 of a group that begins with a digit, separator or NUL begins so
    b"\r\n",
    _WEAK_SEPARATORS,
    {digit.encode()[0] for digit in map(chr, DECIMALS) if digit > "\x7f"},
)


def octet_classes(octets: Octets) -> Octets:
    """Return the class bits of each octet (bytes.translate is several times faster than indexing a table)."""
    return np.frombuffer(octets.tobytes().translate(_CLASSES), np.uint8)


def among(classes: Octets, wanted: int) -> Mask:
    """Return where a class bit of `wanted` is set."""
    mask: Mask = classes & np.uint8(wanted) != 0
    return mask


def dilate(mask: Mask, before: int, after: int, size: int) -> Mask:
    """Return the mask over `size` places, each True carried to the places before and after it."""
    wide = np.zeros(size, np.bool_)
    for step in range(-before, after + 1):
        low, high = max(0, step), min(size, len(mask) + step)
        wide[low:high] |= mask[low - step : high - step]
    return wide


def spread(mask: Mask, reach: int) -> Mask:
    """Return the mask with each True carried `reach` places both ways, by doubling."""
    wide, carried = mask.copy(), 0
    while carried < reach:
        step = min(max(carried, 1), reach - carried)
        wider = wide.copy()
        wider[step:] |= wide[:-step]
        wider[:-step] |= wide[step:]
        wide, carried = wider, carried + step
    return wide
