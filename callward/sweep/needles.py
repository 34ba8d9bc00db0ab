"""The numbers to look for, as sorted integers by length, each behind a sieve that refuses most others."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from callward.sweep.octets import Mask, Places, Values

SHORTEST: Final = 7  # digits: extensions and short codes occur everywhere
ANYWHERE: Final = 10  # digits from which a number counts inside a longer run too (Arrow puts strings end to end)
LONGEST: Final = 19  # digits that an unsigned 64-bit integer surely holds

# Country codes of one and two digits (ITU-T E.164, list of assigned codes); all others have three.
_ONE_DIGIT: Final = frozenset("17")
_TWO_DIGITS: Final = re.compile("2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing (Knuth, TAOCP 3, section 6.4)


@dataclass
class Table:
    """The numbers of one length: sorted, with a sieve that refuses most strangers at one memory access."""

    length: int
    values: Values
    country: npt.NDArray[np.uint16]  # code that may stand before the value; 0: none, the value is whole
    sieve: Mask
    shift: np.uint64

    def find(self, values: Values) -> tuple[Places, Places]:
        """Return the positions within `values` that are numbers, and which numbers of the table they are."""
        maybe = np.flatnonzero(self.sieve[(values * _MIX) >> self.shift])
        which = np.minimum(np.searchsorted(self.values, values[maybe]), len(self.values) - 1)
        same = self.values[which] == values[maybe]
        return maybe[same], which[same]


@dataclass
class Needles:
    """The numbers to look for, in each form that is looked up."""

    by_length: dict[int, Table]
    backward: dict[int, Table]  # those of ANYWHERE digits and more, from the last digit to the first
    binary: Table | None  # eight octets, read little-endian, that a binary form takes
    six: Table | None  # integers that SQLite writes in six octets
    short: int  # numbers too short to look for

    @property
    def shortest(self) -> int:
        """Return how many digits the shortest has; LONGEST when there is none."""
        return min(self.by_length, default=LONGEST)


def needles_of(numbers: Iterable[str]) -> Needles:
    """Return the needles for numbers in E.164 with ``+``, or as dialled."""
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
    turned = {digits[::-1]: 0 for digits in spelled if len(digits) >= ANYWHERE and digits[::-1] not in spelled}
    backward = {length: _digit_table(length, turned) for length in sorted({len(digits) for digits in turned})}
    plain = _integers(spelled)
    return Needles(tables, backward, _binary_table(plain), _six_octet_table(plain), short)


def _spellings(digits: str, international: bool) -> Iterator[tuple[str, int]]:
    """Yield the digit strings to look for, each with the country code that may stand before it."""
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


def _digit_table(length: int, spelled: Mapping[str, int]) -> Table:
    pairs = [(int(digits), code) for digits, code in spelled.items() if len(digits) == length]
    values, codes = zip(*pairs, strict=True)
    return _table(length, np.array(values, np.uint64), np.array(codes, np.uint16))


def _table(length: int, values: Values, country: npt.NDArray[np.uint16]) -> Table:
    order = np.argsort(values)
    bits = min(24, max(12, len(values).bit_length() + 5))
    shift = np.uint64(64 - bits)
    sieve = np.zeros(1 << bits, np.bool_)
    sieve[(values * _MIX) >> shift] = True
    return Table(length, values[order], country[order], sieve, shift)


def _integers(spelled: Mapping[str, int]) -> Values:
    """Return whole and national numbers of 10 to 15 digits that an integer can stand for."""
    texts = set(spelled) | {f"{code}{digits}" for digits, code in spelled.items() if code}
    return np.array([int(text) for text in texts if ANYWHERE <= len(text) <= 15 and text[0] != "0"], np.uint64)


def _binary_table(plain: Values) -> Table | None:
    real = plain.astype(np.float64).view(np.uint64)
    values = np.concatenate([plain, plain.byteswap(), real, real.byteswap()])
    return _table(8, values, np.zeros(len(values), np.uint16)) if len(values) else None


def _six_octet_table(plain: Values) -> Table | None:
    values = plain[(plain >= 1 << 31) & (plain < 1 << 47)]
    return _table(6, values, np.zeros(len(values), np.uint16)) if len(values) else None
