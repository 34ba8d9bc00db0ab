"""Base64, base32 and hex: what they hold, and where each decoded byte came from."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from callward.sweep.digits import DigitStream
from callward.sweep.escapes import HEX
from callward.sweep.octets import LEAD, LINE_END, Mask, Octets, Places, among, spread


def _sextets() -> Octets:
    table = np.full(256, 64, np.uint8)
    for place, code in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):
        table[code] = place
    table[ord("-")], table[ord("_")] = 62, 63
    return table


_SEXTET: Final = _sextets()


def base64_layers(octets: Octets, classes: Octets) -> Iterator[tuple[Octets, Places]]:
    """Yield decoded bytes and where each came from, at four alignments, around where base64 of a number may stand."""
    near = _maybe_base64(octets, classes)
    if not near.any():
        return
    at = np.flatnonzero(spread(near, 80) & ~among(classes, LINE_END))
    split = np.flatnonzero(np.diff(at) > 3)
    letters = _SEXTET[octets[at]]
    letters[split] = 64  # a place that is not base64 keeps neighbourhoods apart
    for skip in range(4):
        count = (len(at) - skip) // 4 * 4
        if count:
            yield _decode_base64(letters[skip : skip + count]), at[skip : skip + count].reshape(-1, 4)[:, :3].ravel()


def _maybe_base64(octets: Octets, classes: Octets) -> Mask:
    """Return where three groups running begin as groups of digits do; beside line ends, groups may be pushed apart."""
    near = np.zeros(len(octets), np.bool_)
    if len(octets) < 14:
        return near
    lead = among(classes, LEAD)
    size = len(octets) - 10
    near[:size] = lead[:size] & lead[4 : size + 4] & lead[8 : size + 8]
    ends = np.flatnonzero(among(classes, LINE_END))
    if len(ends):
        around = (ends[:, None] - np.arange(1, 11)).ravel()
        around = around[(around >= 0) & (around < size)]
        around = around[lead[around]]
        pushed = (lead[around + 4] | lead[around + 5] | lead[around + 6]) & (
            lead[around + 8] | lead[around + 9] | lead[around + 10]
        )
        near[around[pushed]] = True
    return near


def _decode_base64(letters: Octets) -> Octets:
    """Return sextets as octets; an octet that a foreign byte (64) touches becomes 255, which no form has."""
    group = letters.reshape(-1, 4)
    first, second, third, fourth = group[:, 0], group[:, 1], group[:, 2], group[:, 3]
    octets = np.stack([first << 2 | second >> 4, second << 4 | third >> 2, third << 6 | fourth & 63], axis=1)
    foreign = np.stack([first | second, second | third, third | fourth], axis=1) & 64 != 0
    octets[foreign] = 255
    return octets.ravel()


# -- base32 ------------------------------------------------------------------------------------------------------------

_BASE32: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Letters that may stand at each of the eight places of a group whose five octets are digits or ASCII separators.
_OF_GROUP: Final = ("001..", "...00", "1....", ".001.", "....0", "01...", "..001", ".....")


def _base32_tables() -> tuple[Octets, Octets]:
    """Return the value of each letter (255: none), and as bits the places of a group where it may stand."""
    value, places = np.full(256, 255, np.uint8), np.zeros(256, np.uint8)
    for number, letter in enumerate(_BASE32):
        bits = f"{number:05b}"
        fits = [all(want in (".", bit) for want, bit in zip(form, bits, strict=True)) for form in _OF_GROUP]
        for code in (letter, letter | 32 if letter > 64 else letter):
            value[code] = number
            places[code] = sum(1 << place for place, fit in enumerate(fits) if fit)
    return value, places


_LETTERS_OF_OCTET: Final = ((0, 2), (1, 4), (3, 5), (4, 7), (6, 8))
_FIVE_BITS, _PLACES_32 = _base32_tables()
_PLACES_32_BYTES: Final = _PLACES_32.tobytes()


def base32_layers(octets: Octets, classes: Octets) -> Iterator[tuple[Octets, Places]]:
    """Yield decoded bytes and where each came from, at each alignment that a group of digits has."""
    size = len(octets) - 7
    if size <= 0:
        return
    fits = np.frombuffer(octets.tobytes().translate(_PLACES_32_BYTES), np.uint8)
    groups = np.flatnonzero(fits[:size] & 1 & fits[3 : size + 3] >> 3 & fits[6 : size + 6] >> 6)
    for place in (1, 2, 4, 5, 7):
        groups = groups[fits[groups + place] >> place & 1 == 1]
    if not len(groups):
        return
    near = np.zeros(len(octets), np.bool_)
    near[groups] = True
    at = np.flatnonzero(spread(near, 80) & ~among(classes, LINE_END))
    letters = _FIVE_BITS[octets[at]]
    letters[np.flatnonzero(np.diff(at) > 3)] = 255
    for skip in np.unique(np.searchsorted(at, groups) % 8).tolist():
        missing = -(len(at) - skip) % 8
        whole = np.pad(letters[skip:], (0, missing), constant_values=255)
        places = np.pad(at[skip:], (0, missing), "edge")
        yield _decode_base32(whole), places.reshape(-1, 8)[:, :5].ravel()


def _decode_base32(letters: Octets) -> Octets:
    """Return letters as octets, eight to five; one that a foreign letter (255) touches becomes 255, as no form has."""
    group = letters.reshape(-1, 8)
    bits = np.unpackbits(group[:, :, None], axis=2)[:, :, 3:].reshape(len(group), 40)
    octets = np.packbits(bits, axis=1)
    foreign = group > 31
    touched = np.stack([foreign[:, first:last].any(axis=1) for first, last in _LETTERS_OF_OCTET], axis=1)
    octets[touched] = 255
    return octets.ravel()


# -- hex ---------------------------------------------------------------------------------------------------------------


def hex_layers(octets: Octets, stream: DigitStream) -> Iterator[tuple[Octets, Places]]:
    """Yield decoded bytes and where each came from, at both alignments, around where hex of digits may stand.

    `stream`: the written digits of the bytes. Hex of a digit is two digits, of which the first is 3; in UTF-16 two
    noughts stand beside them.
    """
    size = len(stream.digit) - 5
    if size <= 0:
        return
    three, nought, linked = stream.digit == 3, stream.digit == 0, stream.linked
    begins = three[:size] & three[4 : size + 4] & linked[:size] & linked[1 : size + 1] & linked[2 : size + 2]
    begins &= linked[3 : size + 3] & (three[2 : size + 2] | nought[2 : size + 2] & nought[3 : size + 3])
    if not begins.any():
        return
    near = np.zeros(len(octets), np.bool_)
    near[stream.at[np.flatnonzero(begins)]] = True
    at = np.flatnonzero(spread(near, 160) & (HEX[octets] < 16))
    apart = np.flatnonzero(np.diff(at) > 4) + 1
    nibbles, at = np.insert(HEX[octets[at]], apart, 255), np.insert(at, apart, at[apart])
    for skip in (0, 1):
        pairs = nibbles[skip : skip + (len(at) - skip) // 2 * 2].reshape(-1, 2)
        decoded: Octets = (pairs[:, 0] << 4 | pairs[:, 1]).astype(np.uint8)
        decoded[(pairs > 15).any(axis=1)] = 255
        origin: Places = at[skip : skip + 2 * len(pairs)].reshape(-1, 2)[:, 0]
        yield decoded, origin
