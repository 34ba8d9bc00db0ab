"""Base64 and URL escapes: what they hold, and where each decoded byte came from."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from callward.sweep.octets import LEAD, LINE_END, NOWHERE, Mask, Octets, Places, among, octet_classes, spread


def _sextets() -> Octets:
    table = np.full(256, 64, np.uint8)
    for place, code in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):
        table[code] = place
    table[ord("-")], table[ord("_")] = 62, 63
    return table


_SEXTET: Final = _sextets()
_HEX: Final = np.array([int(chr(c), 16) if chr(c) in "0123456789abcdefABCDEF" else 255 for c in range(256)], np.uint8)


def base64_layers(octets: Octets) -> Iterator[tuple[Octets, Places]]:
    """Yield decoded bytes and where each came from, at four alignments, around where base64 of a number may stand."""
    near = _maybe_base64(octets)
    if not near.any():
        return
    at = np.flatnonzero(spread(near, 80) & ~among(octet_classes(octets), LINE_END))
    split = np.flatnonzero(np.diff(at) > 3)
    letters = _SEXTET[octets[at]]
    letters[split] = 64  # a place that is not base64 keeps neighbourhoods apart
    for skip in range(4):
        count = (len(at) - skip) // 4 * 4
        if count:
            yield _decode_base64(letters[skip : skip + count]), at[skip : skip + count].reshape(-1, 4)[:, :3].ravel()


def _maybe_base64(octets: Octets) -> Mask:
    """Return where three groups running begin as groups of digits do; beside line ends, groups may be pushed apart."""
    near = np.zeros(len(octets), np.bool_)
    if len(octets) < 14:
        return near
    classes = octet_classes(octets)
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


def url_layer(octets: Octets) -> tuple[Octets, Places] | None:
    """Return bytes around URL escapes, decoded, and where each byte came from; None where there is no escape."""
    percent = np.flatnonzero(octets[:-2] == ord("%")) if len(octets) > 2 else NOWHERE
    high, low = _HEX[octets[percent + 1]], _HEX[octets[percent + 2]]
    real = (high < 16) & (low < 16)
    percent, decoded = percent[real], (high << 4 | low)[real]
    if not len(percent):
        return None
    plain, near = octets.copy(), np.zeros(len(octets), np.bool_)
    plain[percent], near[percent] = decoded, True
    keep = spread(near, 80)
    keep[percent + 1] = keep[percent + 2] = False
    at = np.flatnonzero(keep)
    layer = plain[at]
    layer[np.flatnonzero(np.diff(at) > 3)] = 255  # neighbourhoods stay apart
    return layer, at
