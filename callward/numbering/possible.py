"""Which digits are possible as an E.164 number (ITU-T E.164: at most 15; lengths by phonenumbers' metadata)."""

from collections.abc import Iterator
from functools import cache, lru_cache, partial
from typing import Final, NamedTuple

import numpy as np
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
from phonenumbers import PhoneNumberFormat, ValidationResult

from callward.numbering.arrays import POWER, head, integers, is_one_of, replaced
from callward.numbering.plans import NANP, carrier_pattern, metadata_of

MOST_E164_DIGITS: Final = 15
_NANP_LOCAL: Final = 7  # digits
REMEMBERED: Final = 1 << 16  # answers of the library kept per process and question
PREMIUM_CODE: Final = "900"
TOLL_FREE_CODES: Final = ("800", "822", "833", "844", "855", "866", "877", *(str(code) for code in range(880, 890)))


def _codes_by_head() -> np.ndarray:
    """Return country code by the first three digits of an E.164 number, 0 where there is none; int16 [1000]."""
    codes = np.zeros(1000, np.int16)
    for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        room = 10 ** (3 - len(str(code)))
        codes[code * room : (code + 1) * room] = code
    return codes


def _nanp_leads() -> np.ndarray:
    """Return which NPA-NXX are possible, by their six digits; bool [1000000].

    NPA is [2-9][0-8]X and no N11; NXX is [2-9]XX and no N11, save in toll-free numbers, which spell words with it.
    """
    area, exchange = np.arange(1000)[:, None], np.arange(1000)[None, :]
    toll_free = is_one_of(area[:, 0], [int(code) for code in TOLL_FREE_CODES])[:, None]
    areas = (area >= 200) & (area // 10 % 10 != 9) & (area % 100 != 11)
    exchanges = (exchange >= 200) & ((exchange % 100 != 11) | toll_free)
    return np.ravel(areas & exchanges)


CODE_OF_HEAD: Final = _codes_by_head()
_CODE_DIGITS: Final = np.array([len(str(code)) for code in range(1000)], np.int8)
_NANP_LEADS: Final = _nanp_leads()


class _Code(NamedTuple):
    """What the metadata says of a country code: lengths of national numbers, and what may wrongly stand before one."""

    lengths: tuple[int, ...]
    prefix: str
    pattern: str


def check(value: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which numbers are possible E.164, and which only the library can read; two bool [n].

    Doubtful are those with a national prefix after the country code, as in +44 (0)20.
    """
    nanp, doubtful = is_nanp(value, length), np.zeros(len(value), bool)
    sound = nanp & _NANP_LEADS[value // 10**4 % 10**6]
    rows = np.flatnonzero((length >= 5) & (length <= MOST_E164_DIGITS) & ~nanp)
    if len(rows):
        sound[rows], doubtful[rows] = _check_abroad(value[rows], length[rows])
    return sound, doubtful


def is_nanp(value: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return whether a number is 1 and ten digits."""
    return np.asarray((length == 11) & (value // 10**10 == NANP))


def _check_abroad(value: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `check` does for numbers of other countries, country code by country code."""
    sound, doubtful = np.zeros(len(value), bool), np.zeros(len(value), bool)
    for code, rows in by_code(value, length):
        rest = length[rows] - _CODE_DIGITS[code]
        check_code = _check_odd_nanp if code == NANP else partial(_check_code, _code(code))
        sound[rows], doubtful[rows] = check_code(value[rows] % POWER[rest], rest)
    return sound, doubtful


def by_code(value: np.ndarray, length: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each country code among E.164 digits, and the rows that have it."""
    codes = CODE_OF_HEAD[head(value, length, 3)]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=0))  # the rows of code 0, which is none, come first
    for rows in np.split(order, starts)[1:]:
        yield int(codes[rows[0]]), rows


def _check_odd_nanp(national: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `check` of +1 and other lengths than ten: none is possible; +1 1303... may have one prefix too many."""
    return np.zeros(len(national), bool), (length == 11) & (national // 10**10 == NANP)


def _check_code(facts: _Code, national: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    led = np.zeros(len(national), bool)
    if facts.prefix:
        led |= head(national, length, len(facts.prefix)) == int(facts.prefix)
    if facts.pattern:
        led |= _is_stripped(national, length, facts.pattern)
    return is_one_of(length, facts.lengths) & ~led, led


def _is_stripped(national: np.ndarray, length: np.ndarray, pattern: str) -> np.ndarray:
    """Return whether the pattern takes digits away (some match nothing at all)."""
    padded = pc.utf8_slice_codeunits(pa.array(national + POWER[length]).cast(pa.string()), 1)
    kept = integers(pc.binary_length(replaced(padded, f"^(?:{pattern})", "")))
    return np.asarray(kept != length)


@cache  # as many as there are country codes
def _code(code: int) -> _Code:
    metadata = metadata_of(code)
    lengths = tuple(metadata.general_desc.possible_length)
    return _Code(lengths, metadata.national_prefix or "", carrier_pattern(metadata))


@lru_cache(maxsize=REMEMBERED)
def parsed_abroad(number: int) -> int:
    """Return E.164, by phonenumbers, of digits after "+", 0 where impossible: +44 (0)20 loses its 0."""
    return parsed(f"+{number}", None)


@lru_cache(maxsize=REMEMBERED)
def in_context(local: str, context: str) -> int:
    """Return E.164 of a local number within a context (RFC 3966, 5.1.5), both digits; 0 where they make none.

    A context may be a country, an area, or, as in the RFC's example, more digits than stand before the local number.
    """
    code = int(CODE_OF_HEAD[int(context[:3].ljust(3, "0"))])
    whole = [context + local]
    if code == NANP and len(local) == _NANP_LOCAL:
        whole.append(context[: 1 + 3] + local)
    if code and context == str(code):
        region = phonenumbers.region_code_for_country_code(code)
        whole.insert(0, str(parsed(local, region)))
    possible = (number for number in map(parsed_abroad, map(int, whole)) if number)
    return next(possible, 0)


def parsed(dialled: str, country: str | None) -> int:
    """Return E.164, by phonenumbers, of what is dialled in a country (None: it starts with "+"), 0 where impossible.

    So is a number that changes when it is parsed again: it began with one prefix too many.
    """
    try:
        number = phonenumbers.parse(dialled, country)
        again = phonenumbers.parse(phonenumbers.format_number(number, PhoneNumberFormat.E164), None)
    except phonenumbers.NumberParseException:
        return 0
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    return _digits(number) if possible and _digits(number) == _digits(again) else 0


def _digits(number: phonenumbers.PhoneNumber) -> int:
    """Return E.164 of a number that phonenumbers read; 0 where E.164 or the NANP has no such number."""
    digits = phonenumbers.format_number(number, PhoneNumberFormat.E164)[1:]
    impossible = number.country_code == NANP and not _NANP_LEADS[int(digits[1:7])]
    return 0 if impossible or len(digits) > MOST_E164_DIGITS else int(digits)


def number_of(code: int, national: str) -> phonenumbers.PhoneNumber:
    """Return a country code and national digits as phonenumbers holds them (parsing would strip and cost more)."""
    zeros = len(national) - len(national.lstrip("0"))
    return phonenumbers.PhoneNumber(
        country_code=code,
        national_number=int(national),
        italian_leading_zero=bool(zeros) or None,
        number_of_leading_zeros=zeros or None,
    )
