"""The forms in which numbers stand in some bytes, compressed members aside."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

import numpy as np

from callward.sweep.bcd import FRAMED_SHARE, framed, packed_digits, packed_octets, with_prefix
from callward.sweep.digits import DigitStream, Match, matches, written_digits
from callward.sweep.encodings import base32_layers, base64_layers, hex_layers
from callward.sweep.escapes import ESCAPES, Layer, escape_layers, wide_script_layers
from callward.sweep.integers import binary_places, six_octet_places
from callward.sweep.needles import ANYWHERE, Needles
from callward.sweep.octets import Octets, Places, octet_classes
from callward.sweep.report import Hit

HITS_PER_FILE: Final = 1000  # then the file is left: it is a leak, and the report says that it was not read on
INFLATED_BYTES: Final = 8 << 30  # bytes that the members of one file may inflate to
_DATE: Final = re.compile(rb"(?<!\d)(?:19|20)\d\d([-./ _:])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
_TIME: Final = re.compile(rb"(?<![\d:])(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?![\d:])")


@dataclass
class FileState:
    """What the scanners of one file share: what to look for, the hits, what they may still inflate."""

    shown: PurePath  # its path as a report shows it
    needles: Needles
    sealed: bool = False  # verified ciphertext
    sqlite: bool = False  # a database or its write-ahead log
    hits: set[Hit] = field(default_factory=set)
    chance: float = 0.0
    room: int = field(default_factory=lambda: INFLATED_BYTES)
    unfinished: bool = False

    def add(self, offset: int, form: str) -> None:
        """Add a hit at a byte offset."""
        self.hits.add(Hit(self.shown, offset, form))

    def tally(self, chance: float) -> None:
        """Add hits that are expected by chance."""
        self.chance += chance

    def tally_framed(self, chance: float) -> None:
        """Add hits that are expected by chance, of a form that counts only where it is framed."""
        self.chance += chance * FRAMED_SHARE

    @property
    def full(self) -> bool:
        """Return whether the file has so many hits that it is left."""
        return len(self.hits) >= HITS_PER_FILE


def find_forms(octets: Octets, file: FileState) -> Iterator[tuple[int, str]]:
    """Yield place and form of every number in these bytes, compressed members aside."""
    needles, least = file.needles, file.needles.shortest
    classes, written = octet_classes(octets), written_digits(octets)
    for match in matches(written, needles, least, file.tally, backward=True):
        yield from _written_form(octets, match, None)
    for layer, decoded, origin in _layers(octets, classes, written):
        for match in matches(written_digits(decoded), needles, least, file.tally, backward=True):
            yield from _written_form(decoded, match, origin, layer)
    for place in binary_places(octets, needles).tolist():
        yield place, "binary"
    if file.sqlite:
        for place in six_octet_places(octets, needles.six, file.tally).tolist():
            yield place, "binary"
    yield from _packed_forms(octets, classes, file)


def _layers(octets: Octets, classes: Octets, written: DigitStream) -> Iterator[Layer]:
    """Yield what may be encoded in these bytes: the layer's name, its bytes, and where each came from."""
    yield from escape_layers(octets, classes)
    yield from wide_script_layers(octets)
    for name, layers in (
        ("base64/", base64_layers(octets, classes)),
        ("base32/", base32_layers(octets, classes)),
        ("hex/", hex_layers(octets, written)),
    ):
        yield from ((name, decoded, origin) for decoded, origin in layers)


def _packed_forms(octets: Octets, classes: Octets, file: FileState) -> Iterator[tuple[int, str]]:
    least = 15 if file.sealed else ANYWHERE  # 15 digits and more fill eight octets
    if max(file.needles.by_length, default=0) < least:
        return
    near = packed_octets(octets, classes)
    if not len(near):
        return
    for swapped, form in ((False, "bcd"), (True, "bcd-swapped")):
        for match in matches(packed_digits(octets, near, swapped), file.needles, least, file.tally_framed):
            first, last = int(match.at[0]), int(match.at[-1])
            starts = with_prefix(octets, first, match.country, swapped)
            if match.length >= 15 or any(framed(octets, start, last, swapped) for start in starts):
                yield first // 2, form


def _written_form(octets: Octets, match: Match, origin: Places | None, layer: str = "") -> Iterator[tuple[int, str]]:
    """Yield place and form of a match among written digits, unless it is not a number after all."""
    first, last = int(match.at[0]), int(match.at[-1])
    span = octets[first : last + 1].tobytes()
    before, after = octets[max(0, first - 24) : first].tobytes(), octets[last + 1 : last + 24].tobytes()
    gaps = re.sub(rb"\d", b"", span)
    if gaps and _crosses_time(before, span, after):
        return
    if layer in ESCAPES and origin is not None and int(origin[last] - origin[first]) == last - first:
        return  # none of its digits or gaps is escaped: found without this layer
    place = first if origin is None else int(origin[first])
    if match.backward:
        yield place, layer + _encoding(match.at, gaps) + "reversed"
        return
    prefix = before.translate(None, b"\0 -.()/_,:\r\n\t")
    layer = (layer or _escaped_plus(prefix, match.country)) + _encoding(match.at, gaps)
    yield place, layer + _prefix_form(prefix, match.country)


def _crosses_time(before: bytes, span: bytes, after: bytes) -> bool:
    """Return whether part of the span is a date or a time (2026-11-22 06:21 would be ten digits)."""
    text, start, end = before + span + after, len(before), len(before) + len(span)
    times = (time for form in (_DATE, _TIME) for time in form.finditer(text))
    return any(time.start() < end and start < time.end() for time in times)


def _encoding(at: Places, gaps: bytes) -> str:
    wide = ""
    if b"\0" in gaps:
        wide = "utf-32/" if int(np.diff(at).min()) >= 4 else "utf-16/"
    return wide + ("separated/" if gaps.strip(b"\0") else "")


def _prefix_form(before: bytes, country: int) -> str:
    code = _code(country)
    if before.endswith((b"+" + code, b"%2B" + code, b"%2b" + code)):
        return "e164"
    return "digits" if not country or before.endswith(code) else "national"


def _escaped_plus(before: bytes, country: int) -> str:
    return "url/" if before.upper().endswith(b"%2B" + _code(country)) else ""


def _code(country: int) -> bytes:
    return str(country).encode() if country else b""
