"""Sweeping: read every byte under some paths and find telephone numbers that stand in the clear.

Work grows with the bytes, not with numbers x forms. Bytes become streams of digits (written digits, nibbles, decoded
base64 or URL escapes), each window of a stream becomes one 64-bit integer, and a window is looked up among the sorted
numbers of its length, behind a sieve that refuses nearly all of them. Compressed members (gzip, zip, bzip2, xz, zstd,
lz4 frames: the buffers of Arrow files, pages of Parquet) are decompressed as they pass and swept in their turn.

Forms, as a report names them (layers before the form, outermost first: ``gzip/base64/national``):

* ``e164``, ``digits``, ``national``: written with ``+`` and country code, with the code, without it
* ``separated``, ``utf-16``, ``utf-32``: layers; separators stand between the digits, or NULs do
* ``url``, ``base64``: layers; base64 of nine digits or more, standard and URL-safe alphabets, wrapped lines too
* ``bcd``, ``bcd-swapped``: two digits an octet, high nibble first, or low first (TBCD, 3GPP TS 29.002)
* ``binary``: a 64-bit integer or float64, of either byte order, that equals the number; in SQLite files also the six
  octets in which SQLite keeps integers from 2^31 on
* ``name``: a layer; the number is in the name of the file or folder, not in its bytes

Not found: numbers in raw snappy or lz4 blocks (pages of plaintext Parquet), bare zlib streams, hex dumps, BCD in
base64, a local number without its area code, 32-bit integers, and text that a page border of a database cuts.

A report never holds a number: it has places and forms, and a name that holds a number is masked.
"""

import bz2
import hashlib
import io
import lzma
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zstandard

Octets = npt.NDArray[np.uint8]
Values = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Stream = io.BufferedReader | io.FileIO
Ciphertext = Callable[[PurePath, bytes], bool] | Mapping[PurePath, str]

SHORTEST: Final = 7  # digits: extensions and short codes occur everywhere
ANYWHERE: Final = 10  # digits from which a number counts inside a longer run too (Arrow puts strings end to end)
LONGEST: Final = 19  # digits that an unsigned 64-bit integer surely holds
HITS_PER_FILE: Final = 1000  # then the file is left: it is a leak, and the report says that it was not read on
DEEPEST: Final = 4  # members within members
INFLATED: Final = 8 << 30  # bytes that the members of one file may inflate to
HELD_BACK: Final = 256 << 20  # bytes of one lz4 frame, which is gathered before it is decompressed

_READ: Final = 1 << 20
_BODY: Final = 1 << 19  # bytes swept at once: the arrays of one step then fit the cache
_AHEAD: Final = 512  # longer than any form of a number
_BEHIND: Final = 128  # what a form may need to see before its first digit
_WIDEST_GAP: Final = 8  # from a digit to the next: three separators in UTF-16
_SEPARATORS: Final = b" -.()/+\0\xa0\xc2\xe2\x80\x90\x91\x92\x93\x94\x95"  # no-break space, hyphens and dashes in UTF-8
_NUMBERING_TYPES: Final = frozenset({0x81, 0x91, 0xA1})  # octet before TBCD: unknown, international, national; E.164
_FRAMED: Final = 0.02  # share of random windows that look framed, summed over the cases of _framed
_LIVE: Final = 64  # members that one stream may have open at once
_DATE: Final = re.compile(rb"(?<!\d)(?:19|20)\d\d([-./ ])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")

# Country codes of one and two digits (ITU-T E.164, list of assigned codes); all others have three.
_ONE_DIGIT: Final = frozenset("17")
_TWO_DIGITS: Final = re.compile("2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")


@dataclass(frozen=True, order=True)
class Hit:
    """Numbers in the clear: where the first digit stands, the country code not counted.

    All hits of one form in one compressed member are one: its offset is where the outermost member starts.
    """

    file: PurePath
    offset: int
    form: str


@dataclass(frozen=True)
class Remote:
    """Something to sweep that lies on no file system: its name, and how to open it for reading."""

    name: PurePath
    open: Callable[[], io.BufferedReader]


@dataclass
class Report:
    """What was read and found. Holds no number.

    `expected_chance_hits` is how many hits the same bytes would give if they held no number: the sum, over forms and
    lengths, of windows looked at x numbers of that length / 10^length (x the share that looks framed, for forms that
    need framing). For random bytes this is bytes x numbers x 2^-bits of the form; for text it is larger, because
    timestamps and ids are digits too.
    """

    files: int = 0
    bytes: int = 0
    hits: list[Hit] = field(default_factory=list)
    expected_chance_hits: float = 0.0
    left_out: int = 0  # files that the caller asked to leave out
    unreadable: list[PurePath] = field(default_factory=list)  # vanished, refused, or damaged under the reader
    unfinished: list[PurePath] = field(
        default_factory=list
    )  # left early: too many hits, or a member that inflates too far
    short_numbers: int = 0  # numbers too short to look for

    def include(self, file: PurePath, hits: Iterable[Hit], chance: float, unfinished: bool) -> None:
        """Add what one file gave."""
        self.hits += sorted(hits)
        self.expected_chance_hits += chance
        if unfinished:
            self.unfinished.append(file)

    def as_json(self) -> dict[str, Any]:
        """The document of ``callward sweep --json``."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "hits": [{"file": str(hit.file), "offset": hit.offset, "form": hit.form} for hit in self.hits],
            "expected_chance_hits": self.expected_chance_hits,
            "left_out": self.left_out,
            "unreadable": [str(path) for path in self.unreadable],
            "unfinished": [str(path) for path in self.unfinished],
            "short_numbers": self.short_numbers,
        }


def sweep(
    paths: Iterable[Path],
    numbers: Iterable[str],
    *,
    ciphertext: Ciphertext | None = None,
    leave_out: Collection[Path] = (),
    remote: Iterable[Remote] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Find `numbers` in every regular file at and under `paths`, and in `remote`. Symbolic links are not followed.

    numbers: E.164 with ``+``, or as dialled. With ``+``, or as a North American number of 10 or 11 digits, or behind
    011 or 00, a number is found with and without its country code; any other is found as it is written. Numbers under
    7 digits are not looked for, only counted. Forms under 10 digits count only where no further digit touches them.

    ciphertext: says which files are verified ciphertext: a function of path and first 4 KiB, or the SHA-256 (hex) that
    each path must have. Files that begin and end as encrypted Parquet (PARE), or begin with our seal, are known
    without. In ciphertext, BCD shorter than 8 octets is not looked for; elsewhere it counts only beside its framing
    (a length or numbering-type octet before it, or a filler nibble). Longer forms count everywhere.

    leave_out: files, or folders, not to read (landing files that are not committed yet); they are counted.
    progress: called with files and bytes read so far, after each file.
    """
    needles = _needles(numbers)
    names, report = _Names(needles), Report(short_numbers=needles.short)
    aside = {_absolute(path) for path in leave_out}
    if isinstance(ciphertext, Mapping):
        ciphertext = {_absolute(p) if isinstance(p, Path) else p: digest for p, digest in ciphertext.items()}
    entries = _entries(paths, lambda lost: report.unreadable.append(names.masked(lost)))
    places: Iterator[tuple[Path | Remote, bool]] = chain(entries, _remote_entries(remote))
    for place, folder in places:
        path = place.name if isinstance(place, Remote) else place
        if aside and not aside.isdisjoint((path, *path.parents)):
            report.left_out += not folder
            continue
        file = _File(names.masked(path), needles)
        for form in names.forms(path.name):
            file.add(0, form)
        if not folder:
            _sweep_file(place, file, ciphertext, report)
        report.include(file.shown, file.hits, file.chance, file.unfinished)
        if progress:
            progress(report.files, report.bytes)
    return report


# ---------------------------------------------------------------- the numbers


@dataclass
class _Table:
    """The numbers of one length: sorted, with a sieve that refuses most strangers at one memory access."""

    length: int
    values: Values
    country: npt.NDArray[np.uint16]  # code that may stand before the value; 0: none, the value is whole
    sieve: Mask
    shift: np.uint64

    def find(self, values: Values) -> tuple[Places, Places]:
        """Positions within `values` that are numbers, and which numbers they are."""
        maybe = np.flatnonzero(self.sieve[(values * _MIX) >> self.shift])
        which = np.minimum(np.searchsorted(self.values, values[maybe]), len(self.values) - 1)
        same = self.values[which] == values[maybe]
        return maybe[same], which[same]


_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing (Knuth, TAOCP 3, section 6.4)


@dataclass
class _Needles:
    by_length: dict[int, _Table]
    binary: _Table | None  # eight octets, read little-endian, that a binary form takes
    six: _Table | None  # integers that SQLite writes in six octets
    short: int

    @property
    def shortest(self) -> int:
        return min(self.by_length, default=LONGEST)


def _needles(numbers: Iterable[str]) -> _Needles:
    spelled: dict[str, int] = {}
    short = 0
    for number in set(numbers):
        digits = re.sub(r"\D", "", number)[-LONGEST:]
        if len(digits) < SHORTEST:
            short += bool(digits)
            continue
        spelled.update(_spellings(digits, number.lstrip().startswith("+")))
    lengths = {len(digits) for digits in spelled}
    tables = {length: _digit_table(length, spelled) for length in sorted(lengths)}
    plain = _integers(spelled)
    return _Needles(tables, _binary_table(plain), _six_octet_table(plain), short)


def _spellings(digits: str, international: bool) -> Iterator[tuple[str, int]]:
    """The digit strings to look for, each with the country code that may stand before it."""
    for prefix in () if international else ("011", "00"):
        if digits.startswith(prefix) and len(digits) >= len(prefix) + ANYWHERE:
            digits, international = digits[len(prefix) :], True
    if not international and re.fullmatch(r"1?[2-9]\d{9}", digits):
        digits, international = "1" + digits[-10:], True
    if not international:
        yield digits, 0
        return
    code = _country_code(digits)
    national = digits[len(code) :]
    if len(national) < ANYWHERE:
        yield digits, 0  # the code makes it long enough to count anywhere
        yield "0" + national, 0  # trunk prefix of most plans whose numbers are short
    if len(national) >= SHORTEST:
        yield national, int(code)


def _country_code(digits: str) -> str:
    if digits[0] in _ONE_DIGIT:
        return digits[0]
    return digits[:2] if _TWO_DIGITS.match(digits) else digits[:3]


def _digit_table(length: int, spelled: Mapping[str, int]) -> _Table:
    pairs = [(int(digits), code) for digits, code in spelled.items() if len(digits) == length]
    values, codes = zip(*pairs, strict=True)
    return _table(length, np.array(values, np.uint64), np.array(codes, np.uint16))


def _table(length: int, values: Values, country: npt.NDArray[np.uint16]) -> _Table:
    order = np.argsort(values)
    bits = min(24, max(12, len(values).bit_length() + 5))
    shift = np.uint64(64 - bits)
    sieve = np.zeros(1 << bits, np.bool_)
    sieve[(values * _MIX) >> shift] = True
    return _Table(length, values[order], country[order], sieve, shift)


def _integers(spelled: Mapping[str, int]) -> Values:
    """Whole and national numbers of 10 to 15 digits that an integer can stand for."""
    texts = set(spelled) | {f"{code}{digits}" for digits, code in spelled.items() if code}
    return np.array([int(text) for text in texts if ANYWHERE <= len(text) <= 15 and text[0] != "0"], np.uint64)


def _binary_table(plain: Values) -> _Table | None:
    real = plain.astype(np.float64).view(np.uint64)
    values = np.concatenate([plain, plain.byteswap(), real, real.byteswap()])
    return _table(8, values, np.zeros(len(values), np.uint16)) if len(values) else None


def _six_octet_table(plain: Values) -> _Table | None:
    values = plain[(plain >= 1 << 31) & (plain < 1 << 47)]
    return _table(6, values, np.zeros(len(values), np.uint16)) if len(values) else None


# ---------------------------------------------------------------- digit streams and their windows


@dataclass
class _Stream:
    """Digits in the order they stand, where each stands, and whether the next one goes on the same run."""

    digit: Octets
    at: Places
    linked: Mask  # one shorter than digit

    def long_runs(self, least: int) -> "_Stream":
        """Only the runs of at least this many digits."""
        ends = np.append(np.flatnonzero(~self.linked) + 1, len(self.digit))
        lengths = np.diff(ends, prepend=0)
        keep = np.repeat(lengths >= least, lengths)
        return _Stream(self.digit[keep], self.at[keep], self.linked[keep[:-1]][: max(0, int(keep.sum()) - 1)])

    def left_in_run(self) -> Places:
        """For each digit, how many the run still has, this one included."""
        ends = np.append(np.flatnonzero(~self.linked) + 1, len(self.digit))
        return np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(self.digit))


class _Windows:
    """The integers that windows of a stream spell, by doubling: 1, 2, 4, 8, 16 digits, then the length asked."""

    def __init__(self, digit: Octets) -> None:
        self._parts = [digit.astype(np.uint64)]

    def spell(self, length: int) -> Values:
        """One integer per window of `length` digits."""
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
class _Match:
    """A window that is a number: positions of its digits within the stream's places."""

    at: Places
    length: int
    country: int


def _matches(stream: _Stream, needles: _Needles, least: int, tally: Callable[[float], None]) -> Iterator[_Match]:
    """Every window of the stream that spells a number of at least `least` digits; `tally` gets the chance hits."""
    if len(stream.digit) < least:
        return
    stream = stream.long_runs(least)
    if not len(stream.digit):
        return
    left, windows = stream.left_in_run(), _Windows(stream.digit)
    for length, table in needles.by_length.items():
        starts = np.flatnonzero(left >= length) if length >= least else _NOWHERE
        if len(starts):
            tally(len(starts) * len(table.values) / 10.0**length)
            found, which = table.find(windows.spell(length)[starts])
            for start, number in zip(starts[found].tolist(), which.tolist(), strict=True):
                yield _Match(stream.at[start : start + length], length, int(table.country[number]))


_NOWHERE: Final = np.zeros(0, np.int64)


def _class_table(*classes: Iterable[int]) -> bytes:
    """For bytes.translate: bit 0 for members of the first class, bit 1 for the second ..."""
    table = bytearray(256)
    for bit, members in enumerate(classes):
        for member in members:
            table[member] |= 1 << bit
    return bytes(table)


_SEPARATOR, _TWO_DIGITS_OCTET, _UNPRINTED, _LEAD, _LINE_END = 1, 2, 4, 8, 16
_CLASSES: Final = _class_table(
    _SEPARATORS,
    (high << 4 | low for high in range(10) for low in range(10)),
    # What may frame BCD and is not common in text; a line end would be a length octet, but text is full of them.
    (code for code in range(256) if code not in b"\r\n" and (not 32 <= code < 127 or code & 15 == 15)),
    b"AIKLMNO",  # base64 of a group that begins with a digit, separator or NUL begins so
    b"\r\n",
)


def _classes(octets: Octets) -> Octets:
    """Class bits of each octet (bytes.translate is several times faster than indexing a table)."""
    return np.frombuffer(octets.tobytes().translate(_CLASSES), np.uint8)


def _among(classes: Octets, wanted: int) -> Mask:
    among: Mask = classes & np.uint8(wanted) != 0
    return among


def _written_digits(octets: Octets) -> _Stream:
    """ASCII digits, linked over separators: NUL is one, so UTF-16 and UTF-32 need no pass of their own."""
    at = np.flatnonzero(octets - np.uint8(48) < 10)
    gap = np.diff(at)
    linked = gap == 1
    wide = np.flatnonzero((gap > 1) & (gap <= _WIDEST_GAP))
    for step in range(1, _WIDEST_GAP):
        between = octets[np.minimum(at[wide] + step, len(octets) - 1)]
        wide = wide[(gap[wide] <= step) | _among(_classes(between), _SEPARATOR)]
    linked[wide] = True
    return _Stream(octets[at] - np.uint8(48), at, linked)


def _packed_octets(octets: Octets) -> Places:
    """Octets that BCD of 10 digits or more may touch: runs of four that are two digits each, and one on either side."""
    if len(octets) < 5:
        return _NOWHERE
    classes = _classes(octets)
    digits = _among(classes, _TWO_DIGITS_OCTET)
    run = digits[:-3] & digits[1:-2] & digits[2:-1] & digits[3:]
    if np.count_nonzero(run) * 4 > len(run):  # text is BCD too, nearly all of it; but text has no framing
        run &= _spread(_among(classes, _UNPRINTED), 12)[: len(run)]
    return np.flatnonzero(_dilate(run, 1, 4, len(octets)))


def _dilate(mask: Mask, before: int, after: int, size: int) -> Mask:
    """The mask over `size` places, each True carried to the places before and after it."""
    wide = np.zeros(size, np.bool_)
    for step in range(-before, after + 1):
        low, high = max(0, step), min(size, len(mask) + step)
        wide[low:high] |= mask[low - step : high - step]
    return wide


def _spread(mask: Mask, reach: int) -> Mask:
    """Each True carried `reach` places both ways, by doubling."""
    wide, done = mask.copy(), 0
    while done < reach:
        step = min(max(done, 1), reach - done)
        once = wide.copy()
        once[step:] |= wide[:-step]
        once[:-step] |= wide[step:]
        wide, done = once, done + step
    return wide


def _packed_digits(octets: Octets, near: Places, swapped: bool) -> _Stream:
    """Nibbles of the octets at `near` that are digits; places count nibbles in reading order."""
    high, low = octets[near] >> 4, octets[near] & np.uint8(15)
    nibbles = np.stack([low, high] if swapped else [high, low], axis=1).ravel()
    at = (near[:, None] * 2 + np.arange(2)).ravel()
    keep = nibbles < 10
    at = at[keep]
    return _Stream(nibbles[keep], at, np.diff(at) == 1)


def _framed(octets: Octets, first: int, last: int, swapped: bool) -> bool:
    """Does what stands beside these nibbles say that they are a number? Places count nibbles in reading order.

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


def _with_prefix(octets: Octets, first: int, country: int, swapped: bool) -> Iterator[int]:
    """Where the whole number may begin: at the match, at a trunk 0 before it, or at its country code."""
    yield first
    for prefix in ("0", str(country) if country else ""):
        places = range(first - len(prefix), first)
        if prefix and [_nibble(octets, place, swapped) for place in places] == [int(digit) for digit in prefix]:
            yield first - len(prefix)


# ---------------------------------------------------------------- base64, URL escapes, binary integers


def _sextets() -> Octets:
    table = np.full(256, 64, np.uint8)
    for place, code in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):
        table[code] = place
    table[ord("-")], table[ord("_")] = 62, 63
    return table


_SEXTET: Final = _sextets()
_HEX: Final = np.array([int(chr(c), 16) if chr(c) in "0123456789abcdefABCDEF" else 255 for c in range(256)], np.uint8)


def _base64_layers(octets: Octets) -> Iterator[tuple[Octets, Places]]:
    """Decoded bytes and where each came from, at four alignments, around where base64 of a number may stand."""
    near = _maybe_base64(octets)
    if not near.any():
        return
    at = np.flatnonzero(_spread(near, 80) & ~_among(_classes(octets), _LINE_END))
    split = np.flatnonzero(np.diff(at) > 3)
    letters = _SEXTET[octets[at]]
    letters[split] = 64  # a place that is not base64 keeps neighbourhoods apart
    for skip in range(4):
        count = (len(at) - skip) // 4 * 4
        if count:
            yield _decode_base64(letters[skip : skip + count]), at[skip : skip + count].reshape(-1, 4)[:, :3].ravel()


def _maybe_base64(octets: Octets) -> Mask:
    """Places where three groups running begin as groups of digits do; beside line ends, groups may be pushed apart."""
    near = np.zeros(len(octets), np.bool_)
    if len(octets) < 14:
        return near
    classes = _classes(octets)
    lead = _among(classes, _LEAD)
    size = len(octets) - 10
    near[:size] = lead[:size] & lead[4 : size + 4] & lead[8 : size + 8]
    ends = np.flatnonzero(_among(classes, _LINE_END))
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
    """Sextets to octets; an octet that a foreign byte (64) touches becomes 255, which no form has."""
    group = letters.reshape(-1, 4)
    first, second, third, fourth = group[:, 0], group[:, 1], group[:, 2], group[:, 3]
    octets = np.stack([first << 2 | second >> 4, second << 4 | third >> 2, third << 6 | fourth & 63], axis=1)
    foreign = np.stack([first | second, second | third, third | fourth], axis=1) & 64 != 0
    octets[foreign] = 255
    return octets.ravel()


def _url_layer(octets: Octets) -> tuple[Octets, Places] | None:
    """Bytes around URL escapes with the escapes decoded, and where each byte came from; None without an escape."""
    percent = np.flatnonzero(octets[:-2] == ord("%")) if len(octets) > 2 else _NOWHERE
    high, low = _HEX[octets[percent + 1]], _HEX[octets[percent + 2]]
    real = (high < 16) & (low < 16)
    percent, decoded = percent[real], (high << 4 | low)[real]
    if not len(percent):
        return None
    plain, near = octets.copy(), np.zeros(len(octets), np.bool_)
    plain[percent], near[percent] = decoded, True
    keep = _spread(near, 80)
    keep[percent + 1] = keep[percent + 2] = False
    at = np.flatnonzero(keep)
    layer = plain[at]
    layer[np.flatnonzero(np.diff(at) > 3)] = 255  # neighbourhoods stay apart
    return layer, at


def _binary_places(octets: Octets, needles: _Needles) -> Places:
    """Where eight octets are an integer or float64 that equals a number of 10 to 15 digits (below 2^50)."""
    size = len(octets) - 7
    if needles.binary is None or size <= 0:
        return _NOWHERE
    part = [octets[step : size + step] for step in range(8)]
    little = (part[7] == 0) & (part[6] < 4) & (part[3] | part[4] | part[5] != 0)
    big = (part[0] == 0) & (part[1] < 4) & (part[4] | part[3] | part[2] != 0)
    real = (part[0] & np.uint8(7) == 0) & (part[7] - np.uint8(0x41) < 3)
    real |= (part[7] & np.uint8(7) == 0) & (part[0] - np.uint8(0x41) < 3)
    at = np.flatnonzero(little | big | real)
    eight = octets[at[:, None] + np.arange(8)].view("<u8").ravel().astype(np.uint64)
    return at[needles.binary.find(eight)[0]]


def _six_octet_places(octets: Octets, table: _Table | None, tally: Callable[[float], None]) -> Places:
    """Where six octets, big-endian, are a number from 2^31 to 2^47 (SQLite file format, serial type 5)."""
    size = len(octets) - 5
    if table is None or size <= 0:
        return _NOWHERE
    at = np.flatnonzero(
        (octets[:size] < 128) & (octets[:size] | octets[1 : size + 1] | (octets[2 : size + 2] >> 7) != 0)
    )
    tally(len(at) * len(table.values) / 2.0**47)
    six = np.zeros((len(at), 8), np.uint8)
    six[:, 2:] = octets[at[:, None] + np.arange(6)]
    return at[table.find(six.view(">u8").ravel().astype(np.uint64))[0]]


# ---------------------------------------------------------------- one file


@dataclass
class _File:
    """What the scanners of one file share: what to look for, what they found, what they may still inflate."""

    shown: PurePath
    needles: _Needles
    sealed: bool = False  # verified ciphertext
    sqlite: bool = False  # a database or its write-ahead log
    hits: set[Hit] = field(default_factory=set)
    chance: float = 0.0
    room: int = field(default_factory=lambda: INFLATED)
    unfinished: bool = False

    def add(self, offset: int, form: str) -> None:
        self.hits.add(Hit(self.shown, offset, form))

    def tally(self, chance: float) -> None:
        self.chance += chance

    def tally_framed(self, chance: float) -> None:
        self.chance += chance * _FRAMED

    @property
    def full(self) -> bool:
        return len(self.hits) >= HITS_PER_FILE


class _Scanner:
    """Sweeps one stream of bytes as it passes: the file's own, or what a compressed member holds."""

    def __init__(self, file: _File, layers: str = "", anchor: int | None = None, depth: int = 0) -> None:
        self._file, self._layers, self._anchor, self._depth = file, layers, anchor, depth
        self._base = 0  # place in the stream of the first byte held
        self._held = bytearray()
        self._own = 0  # first byte held whose hits have not been reported yet
        self._passed = 0
        self._tail = b""
        self._members: list[_Member] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._feed_members(data)
        for start in range(0, len(data), _BODY):
            self._held += data[start : start + _BODY]
            if len(self._held) >= _BODY:
                self._sweep_held(len(self._held) - _AHEAD)

    def close(self) -> None:
        """The stream has ended."""
        for member in self._members:
            member.close()
        self._members = []
        self._sweep_held(len(self._held))

    def _feed_members(self, data: bytes) -> None:
        for member in self._members:
            member.feed(data)
        for start, kind in self._magics(data):
            self._open_member(kind, start, data)
        self._members = [member for member in self._members if not member.over]
        self._tail = (self._tail + data)[-5:]
        self._passed += len(data)

    def _open_member(self, kind: str, start: int, data: bytes) -> None:
        """A member of this kind may begin `start` bytes into the tail and the data."""
        if len(self._members) >= _LIVE:
            self._members = [member for member in self._members if not member.over]
        if len(self._members) >= _LIVE:
            self._file.unfinished = True
            return
        place = self._passed - len(self._tail) + start
        anchor = place if self._anchor is None else self._anchor
        inner = _Scanner(self._file, f"{self._layers}{kind}/", anchor, self._depth + 1)
        member = _Member(_UNPACKERS[kind](), inner, self._file)
        if start < len(self._tail):
            member.feed(self._tail[start:])
        member.feed(memoryview(data)[max(0, start - len(self._tail)) :])
        self._members.append(member)

    def _magics(self, data: bytes) -> list[tuple[int, str]]:
        """Where members begin, at most five bytes back (then not seen whole before)."""
        if self._depth == DEEPEST:
            return []
        seam = self._tail + data[:5]
        found = [
            (place, kind)
            for magic, kind in _MAGICS
            for place in _finds(seam, magic)
            if place < len(self._tail) < place + len(magic)
        ]
        found += [(place + len(self._tail), kind) for magic, kind in _MAGICS for place in _finds(data, magic)]
        return sorted(found)

    def _sweep_held(self, end: int) -> None:
        """Report the hits that begin before `end`, and keep what the next ones need to see."""
        octets = np.frombuffer(bytes(self._held), np.uint8)
        if octets.any() and not self._file.full:
            for place, form in _find_forms(octets, self._file):
                if self._own <= place < end:
                    self._file.add(self._base + place if self._anchor is None else self._anchor, self._layers + form)
        drop = max(0, end - _BEHIND)
        del self._held[:drop]
        self._base += drop
        self._own = end - drop


def _finds(data: bytes, magic: bytes) -> list[int]:
    """Where the magic stands (numpy: bytes.find is slow for so short a word)."""
    octets = np.frombuffer(data, np.uint8)
    size = max(0, len(octets) - len(magic) + 1)
    same = octets[:size] == magic[0]
    for step in range(1, len(magic)):
        same &= octets[step : size + step] == magic[step]
    return [int(place) for place in np.flatnonzero(same)]


def _find_forms(octets: Octets, file: _File) -> Iterator[tuple[int, str]]:
    """Place and form of every number in these bytes, compressed members aside."""
    needles, least = file.needles, file.needles.shortest
    for match in _matches(_written_digits(octets), needles, least, file.tally):
        yield from _written_form(octets, match, None)
    if (layer := _url_layer(octets)) is not None:
        decoded, origin = layer
        for match in _matches(_written_digits(decoded), needles, least, file.tally):
            yield from _written_form(decoded, match, origin, "url/")
    for decoded, origin in _base64_layers(octets):
        for match in _matches(_written_digits(decoded), needles, least, file.tally):
            yield from _written_form(decoded, match, origin, "base64/")
    for place in _binary_places(octets, needles).tolist():
        yield place, "binary"
    if file.sqlite:
        for place in _six_octet_places(octets, needles.six, file.tally).tolist():
            yield place, "binary"
    yield from _packed_forms(octets, file)


def _packed_forms(octets: Octets, file: _File) -> Iterator[tuple[int, str]]:
    least = 15 if file.sealed else ANYWHERE  # 15 digits and more fill eight octets
    if max(file.needles.by_length, default=0) < least:
        return
    near = _packed_octets(octets)
    if not len(near):
        return
    for swapped, form in ((False, "bcd"), (True, "bcd-swapped")):
        for match in _matches(_packed_digits(octets, near, swapped), file.needles, least, file.tally_framed):
            first, last = int(match.at[0]), int(match.at[-1])
            starts = _with_prefix(octets, first, match.country, swapped)
            if match.length >= 15 or any(_framed(octets, start, last, swapped) for start in starts):
                yield first // 2, form


def _written_form(octets: Octets, match: _Match, origin: Places | None, layer: str = "") -> Iterator[tuple[int, str]]:
    """Place and form of a match among written digits, unless it is not a number after all."""
    first, last = int(match.at[0]), int(match.at[-1])
    span = octets[first : last + 1].tobytes()
    before, after = octets[max(0, first - 24) : first].tobytes(), octets[last + 1 : last + 24].tobytes()
    if match.length < ANYWHERE and (before[-1:].isdigit() or after[:1].isdigit()):
        return
    gaps = re.sub(rb"\d", b"", span)
    if gaps and _crosses_date(before, span, after):
        return
    if layer == "url/" and origin is not None and int(origin[last] - origin[first]) == last - first:
        return  # none of its digits or gaps is escaped: found without this layer
    place = first if origin is None else int(origin[first])
    prefix = before.translate(None, b"\0 -.()/")
    layer = (layer or _escaped_plus(prefix, match.country)) + _encoding(match.at, gaps)
    yield place, layer + _prefix_form(prefix, match.country)


def _crosses_date(before: bytes, span: bytes, after: bytes) -> bool:
    """Is part of the span a date (2026-11-22 06:21 would be ten digits)?"""
    text, start, end = before + span + after, len(before), len(before) + len(span)
    return any(date.start() < end and start < date.end() for date in _DATE.finditer(text))


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


# ---------------------------------------------------------------- compressed members


Chunk = bytes | memoryview


class _Unpacker(Protocol):
    """Takes a member's bytes; gives what they hold, in pieces. `over` when the member has ended. Errors: _BROKEN."""

    over: bool

    def feed(self, data: Chunk) -> Iterator[bytes]: ...

    def close(self) -> Iterator[bytes]: ...


_BROKEN: Final = (zlib.error, zstandard.ZstdError, lzma.LZMAError, pa.ArrowException, OSError, ValueError, EOFError)


class _Deflate:
    """gzip, and deflate as zip has it."""

    def __init__(self, window: int = 31) -> None:
        self._inner, self.over = zlib.decompressobj(window), False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        while data and not self._inner.eof:
            yield self._inner.decompress(data, _READ)
            data = self._inner.unconsumed_tail
        self.over = self._inner.eof

    def close(self) -> Iterator[bytes]:
        yield self._inner.flush()


class _Zip:
    """One deflated entry of a zip file, from its local header on (APPNOTE 4.3.7)."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._inner, self.over = _Deflate(-15), False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        if self._head is not None:
            data = self._past_head(data)
        if data:
            yield from self._inner.feed(data)
            self.over = self._inner.over

    def _past_head(self, data: Chunk) -> bytes:
        head = (self._head or b"") + bytes(data)
        size = 30 + sum(struct.unpack_from("<HH", head, 26)) if len(head) >= 30 else 30
        if len(head) >= 10 and head[8:10] != b"\x08\0":
            raise ValueError("not deflated")
        self._head = None if len(head) >= size else head
        return head[size:] if len(head) >= size else b""

    def close(self) -> Iterator[bytes]:
        yield from self._inner.close()


class _Bounded:
    """bzip2 and xz: the standard library's decompressors, which bound their own output."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner, self.over = inner, False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        while not self._inner.eof:
            yield self._inner.decompress(data, _READ)
            data = b""
            if self._inner.needs_input:
                break
        self.over = self._inner.eof

    def close(self) -> Iterator[bytes]:
        yield b""


class _Zstd:
    """A zstd frame, fed in small slices: a few bytes can inflate to 128 KiB."""

    def __init__(self) -> None:
        self._inner, self.over = zstandard.ZstdDecompressor().decompressobj(), False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        for start in range(0, len(data), 4096):
            yield self._inner.decompress(data[start : start + 4096])
            if self._inner.eof:
                self.over = True
                return

    def close(self) -> Iterator[bytes]:
        yield b""


class _Lz4:
    """An lz4 frame, gathered to its end mark (Arrow reads frames only as files), then read in pieces."""

    def __init__(self) -> None:
        self._held, self._next, self.over = bytearray(), 0, False

    def feed(self, data: Chunk) -> Iterator[bytes]:
        self._held += data
        if self._ended():
            self.over = True
            yield from self._pieces()
        elif len(self._held) > HELD_BACK:
            raise _TooFar

    def _ended(self) -> bool:
        """Walk the blocks that are whole (lz4 frame format 1.6); cut the frame at its end mark."""
        if len(self._held) < 7:
            return False
        flags = self._held[4]
        if flags >> 6 != 1:
            raise ValueError("no such version")
        self._next = self._next or 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        while len(self._held) >= self._next + 4:
            size = int.from_bytes(self._held[self._next : self._next + 4], "little")
            if not size:
                del self._held[self._next + 4 + (4 if flags & 4 else 0) :]
                return True
            self._next += 4 + (size & 0x7FFFFFFF) + (4 if flags & 16 else 0)
        return False

    def _pieces(self) -> Iterator[bytes]:
        with pa.CompressedInputStream(pa.BufferReader(bytes(self._held)), "lz4") as stream:
            while piece := stream.read(_READ):
                yield piece

    def close(self) -> Iterator[bytes]:
        yield from self._pieces()  # a torn frame gives what it can before the error


_UNPACKERS: Final[Mapping[str, Callable[[], _Unpacker]]] = {
    "gzip": _Deflate,
    "zip": _Zip,
    "bzip2": lambda: _Bounded(bz2.BZ2Decompressor()),
    "xz": lambda: _Bounded(lzma.LZMADecompressor(memlimit=256 << 20)),
    "zstd": _Zstd,
    "lz4": _Lz4,
}
_MAGICS: Final = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
)


class _TooFar(Exception):
    """A member inflates further than the sweep follows."""


class _Member:
    """One compressed member: its bytes go in, what they hold goes to a scanner of its own. Never raises."""

    def __init__(self, unpacker: _Unpacker, inner: _Scanner, file: _File) -> None:
        self._unpacker, self._inner, self._file = unpacker, inner, file
        self.over = False

    def feed(self, data: Chunk) -> None:
        if not self.over and (self._pass_on(self._unpacker.feed(data)) or self._unpacker.over):
            self._end()

    def close(self) -> None:
        if not self.over:
            self._pass_on(self._unpacker.close())
            self._end()

    def _end(self) -> None:
        self.over = True
        self._inner.close()

    def _pass_on(self, pieces: Iterator[bytes]) -> bool:
        """Scan the pieces; True when the member is broken or goes too far."""
        try:
            for piece in pieces:
                self._file.room -= len(piece)
                if self._file.room < 0:
                    raise _TooFar
                self._inner.feed(piece)
                if self._file.full:
                    return True
        except _TooFar:
            self._file.unfinished = True
            return True
        except _BROKEN:
            return True
        return False


# ---------------------------------------------------------------- files and folders


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # resolve() would follow links


def _entries(paths: Iterable[Path], lost: Callable[[Path], None]) -> Iterator[tuple[Path, bool]]:
    """Files and folders (True) at and under the paths, each once, in order of name; links and devices are passed by."""
    seen: set[Path] = set()
    waiting = [_absolute(path) for path in paths][::-1]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                waiting += sorted(path.iterdir(), reverse=True)
        except OSError:
            lost(path)
            continue
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            yield path, stat.S_ISDIR(mode)


def _remote_entries(remote: Iterable[Remote]) -> Iterator[tuple[Remote, bool]]:
    """What lies elsewhere, and before it each folder (True) that its name tells of, once."""
    told: set[PurePath] = set()
    for place in remote:
        for folder in reversed(place.name.parents):
            if folder not in told:
                told.add(folder)
                yield Remote(folder, place.open), True
        yield place, False


def _sweep_file(place: Path | Remote, file: _File, ciphertext: Ciphertext | None, report: Report) -> None:
    try:
        with _opened(place) as stream:
            file.sqlite = _is_sqlite(stream)
            file.sealed = _is_ciphertext(stream, place.name if isinstance(place, Remote) else place, ciphertext)
            stream.seek(0)
            for size in _fed(stream, file):
                report.bytes += size
        report.files += 1
    except OSError:
        report.unreadable.append(file.shown)


def _fed(stream: Stream, file: _File) -> Iterator[int]:
    """Feed the file to a scanner; the size of each piece as it is read."""
    scanner = _Scanner(file)
    while data := stream.read(_READ):
        yield len(data)
        scanner.feed(data)
        if file.full:
            file.unfinished = True
            break
    scanner.close()


def _opened(place: Path | Remote) -> Stream:
    """The file, unbuffered; refuses a link, and does not wait for a pipe, that took its place in the meantime."""
    if isinstance(place, Remote):
        return place.open()
    return open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0)


def _is_sqlite(stream: Stream) -> bool:
    """By the magics of databases, write-ahead logs and rollback journals (SQLite file format, sections 1.3, 3, 4.1)."""
    stream.seek(0)
    head: bytes = stream.read(16) or b""
    return head.startswith((b"SQLite format 3\0", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83", b"\xd9\xd5\x05\xf9"))


def _is_ciphertext(stream: Stream, path: PurePath, ciphertext: Ciphertext | None) -> bool:
    stream.seek(0)
    head: bytes = stream.read(4096) or b""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 4))
    if head.startswith(b"CWSEAL") or (head[:4] == b"PARE" and size >= 12 and stream.read(4) == b"PARE"):
        return True
    if ciphertext is None or callable(ciphertext):
        return ciphertext is not None and ciphertext(path, head)
    expected = ciphertext.get(path)
    stream.seek(0)
    return expected is not None and hashlib.file_digest(stream, "sha256").hexdigest() == expected.lower()


class _Names:
    """Names of files and folders hold numbers too. What was asked once is kept: every path repeats its folders."""

    def __init__(self, needles: _Needles) -> None:
        self._needles, self._known = needles, dict[str, list[str]]()

    def forms(self, name: str) -> list[str]:
        """The forms in which the name holds a number."""
        if name not in self._known:
            octets = np.frombuffer(os.fsencode(name), np.uint8)
            places = _find_forms(octets, _File(Path(), self._needles, sealed=True)) if len(name) >= SHORTEST else ()
            self._known[name] = [f"name/{form}" for _, form in places]
        return self._known[name]

    def masked(self, path: PurePath) -> PurePath:
        """The path as a report may show it: letters and digits of a part that holds a number are masked."""
        return type(path)(*(re.sub(r"\w", "#", part) if self.forms(part) else part for part in path.parts))
