"""Escapes of single characters, and digits of other scripts: what they stand for, and where each byte came from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from callward.sweep.octets import DECIMALS, NOWHERE, SCRIPT_LEAD, Mask, Octets, Places, among, spread

_REACH: Final = 80  # bytes around an escape that may belong to the same number
_CLUSTER: Final = 32  # bytes within which three digits of another script stand, or they are chance
_ENTITY_PLACES: Final = 7  # figures of a character reference, with leading zeros
HEX: Final = np.array([int(chr(c), 16) if chr(c) in "0123456789abcdefABCDEF" else 255 for c in range(256)], np.uint8)
Layer = tuple[str, Octets, Places]  # its name, its bytes, and where each came from


def _byte_table() -> Octets:
    """Return for each code point the byte that it stands for: ASCII digits for digits, 255 for what groups none."""
    table = np.full(0x20000, 255, np.uint8)
    table[:255] = np.arange(255)
    table[0x2010:0x2016] = ord("-")
    table[list(DECIMALS)] = [ord("0") + digit for digit in DECIMALS.values()]
    return table


_BYTE: Final = _byte_table()
_HIGH: Final = np.isin(np.arange(256), [code >> 8 for code in DECIMALS if 0xFF < code <= 0xFFFF])  # of UTF-16


@dataclass(frozen=True)
class _Escapes:
    """Escapes: where each starts, how many bytes it takes, and the byte that it stands for."""

    start: Places
    length: Places
    value: Octets

    def layer(self, octets: Octets) -> tuple[Octets, Places]:
        """Return the bytes around the escapes, each escape as one byte; neighbourhoods are kept apart."""
        plain, near = octets.copy(), np.zeros(len(octets), np.bool_)
        plain[self.start], near[self.start] = self.value, True
        keep = spread(near, _REACH)
        longest = int(self.length.max())
        for step in range(1, longest):
            keep[self.start[self.length > step] + step] = False
        at = np.flatnonzero(keep)
        decoded = plain[at]
        decoded[np.flatnonzero(np.diff(at) > longest)] = 255
        return decoded, at


def escape_layers(octets: Octets, classes: Octets) -> Iterator[Layer]:
    """Yield what the bytes are around each kind of escapes that they have, decoded."""
    for name, find in _KINDS.items():
        escapes = find(octets, classes)
        if len(escapes.start):
            yield name, *escapes.layer(octets)


def _after(octets: Octets, first: str, second: str = "") -> Places:
    """Return where one or two characters stand that begin an escape."""
    if len(octets) < 3:
        return NOWHERE
    at = np.flatnonzero(octets[:-2] == ord(first))
    return at[octets[at + 1] == ord(second)] if second else at


def _hex_at(octets: Octets, at: Places, count: int) -> tuple[Places, Places]:
    """Return the numbers in `count` hex digits at some places, and which of the places have so many."""
    which = np.flatnonzero(at + count <= len(octets))
    digits = HEX[octets[at[which][:, None] + np.arange(count)]].astype(np.int64)
    real = (digits < 16).all(axis=1)
    return digits[real] @ (16 ** np.arange(count)[::-1]), which[real]


def _fixed(lead: str, second: str, count: int) -> Callable[[Octets, Octets], _Escapes]:
    """Return what finds escapes of a fixed length: one or two characters, and hex digits."""
    size = 1 + len(second)

    def find(octets: Octets, classes: Octets) -> _Escapes:
        at = _after(octets, lead, second)
        codes, which = _hex_at(octets, at + size, count)
        return _Escapes(at[which], np.full(len(which), size + count), _BYTE[codes])

    return find


def _entities(octets: Octets, classes: Octets) -> _Escapes:
    """Find character references of HTML and XML, decimal and hex (&#49; &#x31;)."""
    at = _after(octets, "&", "#")
    padded = np.concatenate([octets, np.zeros(12, np.uint8)])
    by_hex = padded[at + 2] | 32 == ord("x")
    base, place = np.where(by_hex, 16, 10), at + 2 + by_hex
    code, going = np.zeros(len(at), np.int64), np.ones(len(at), np.bool_)
    for _ in range(_ENTITY_PLACES):
        figure = HEX[padded[place]].astype(np.int64)
        going &= figure < base
        code = np.where(going, code * base + figure, code)
        place = place + going
    real = (padded[place] == ord(";")) & (code < len(_BYTE))
    return _Escapes(at[real], (place - at + 1)[real], _BYTE[code[real]])


def _scripts(octets: Octets, classes: Octets) -> _Escapes:
    """Find decimal digits of other scripts in UTF-8, three or more near each other."""
    at = np.flatnonzero(among(classes, SCRIPT_LEAD))
    padded = np.concatenate([octets, np.zeros(3, np.uint8)]) if len(at) else octets
    at = at[padded[at + 1] & 0xC0 == 0x80]
    four = padded[at[:, None] + np.arange(4)].astype(np.int64)
    length = np.select([four[:, 0] < 0xE0, four[:, 0] < 0xF0], [2, 3], 4)
    code = np.where(length == 2, four[:, 0] & 31, np.where(length == 3, four[:, 0] & 15, four[:, 0] & 7))
    real = np.ones(len(at), np.bool_)
    for step in (1, 2, 3):
        within = length > step
        real &= ~within | (four[:, step] & 0xC0 == 0x80)
        code = np.where(within, code << 6 | four[:, step] & 63, code)
    real &= (code > 0x7F) & (code < len(_BYTE))
    value = _BYTE[np.where(real, code, 0)]
    real &= value - np.uint8(48) < 10
    real[real] = _clustered(at[real])
    return _Escapes(at[real], length[real], value[real])


def _clustered(at: Places) -> Mask:
    """Return which places have two others close behind, before, or on both sides."""
    close = np.zeros(len(at), np.bool_)
    if len(at) > 2:
        three = at[2:] - at[:-2] <= _CLUSTER
        for step in range(3):
            close[step : step + len(three)] |= three
    return close


_KINDS: Final[Mapping[str, Callable[[Octets, Octets], _Escapes]]] = {
    "url/": _fixed("%", "", 2),
    "json/": _fixed("\\", "u", 4),
    "escape/": _fixed("\\", "x", 2),
    "html/": _entities,
    "script/": _scripts,
}

ESCAPES: Final = frozenset(_KINDS)


def wide_script_layers(octets: Octets) -> Iterator[Layer]:
    """Yield UTF-16 around digits of other scripts as bytes, in both byte orders and at both alignments."""
    if len(octets) < 6:
        return
    same = octets[2:] == octets[:-2]
    near = np.zeros(len(octets), np.bool_)
    first = np.flatnonzero(same[:-2] & same[2:])
    near[first[_HIGH[octets[first]]]] = True  # one high byte three times: a group of digits
    if not near.any():
        return
    at = np.flatnonzero(spread(near, 2 * _REACH))
    for skip in (0, 1):
        for order in ("<u2", ">u2"):
            yield _as_utf16(octets, at[skip:], order)


def _as_utf16(octets: Octets, at: Places, order: str) -> Layer:
    pairs = at[: len(at) // 2 * 2].reshape(-1, 2)
    codes = np.ascontiguousarray(octets[pairs]).view(order).ravel().astype(np.int64)
    decoded = _BYTE[codes]
    apart = pairs[:, 1] - pairs[:, 0] != 1
    apart[:-1] |= np.diff(pairs[:, 0]) > 2
    decoded[apart] = 255
    return "script/utf-16/", decoded, pairs[:, 0]
