"""Dialled digits read as international numbers, where only one reading is certain."""

from functools import lru_cache

import numpy as np
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc

from callward.numbering.arrays import MOST_DIGITS, POWER, Runs, head, integers, is_one_of, matches, replaced, runs_of
from callward.numbering.kinds import is_service
from callward.numbering.plans import NANP, Plan
from callward.numbering.possible import REMEMBERED, check, parsed, parsed_abroad

_LEAST_E164 = 8  # digits of a number without its plus: shorter ones may be local


def international(text: pa.Array, runs: Runs, plan: Plan) -> np.ndarray:
    """Return E.164 of each run of digits (`text` is theirs) as an integer, 0 where it is not certain; int64 [n]."""
    value, length, unread = _abroad(text, runs, plan)
    if unread.any():
        domestic, domestic_length = _national(text, runs, plan, unread)
        value, length = value + domestic, length + domestic_length  # one of the two is 0
    sound, doubtful = check(value, length)
    number = np.where(sound, value, 0)
    if doubtful.any():
        _read_doubtful(number, value, doubtful)
    if plan.area_code:
        _read_local(number, runs, unread & (number == 0), plan)
    if plan.carrier_pattern or plan.international_pattern:
        _read_at_home(number, text, unread & (number == 0) & (runs.length >= 7), plan)
    return number


def _abroad(text: pa.Array, runs: Runs, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value and length of what follows "+" or an international prefix, else 0; and which runs are unread."""
    value = np.where(runs.plus, runs.value, 0)
    length = np.where(runs.plus, runs.length, np.int8(0))
    unread = runs.plain & ~runs.plus
    if plan.e164_without_plus:
        bare = unread & (runs.length >= _LEAST_E164)
        bare[bare] = check(runs.value[bare], runs.length[bare])[0]
        value[bare], length[bare] = runs.value[bare], runs.length[bare]
        unread &= ~bare
    for prefix in plan.international_prefixes:
        led = unread & _led(runs, prefix)
        led[led] = _is_plainly_led(
            text.filter(pa.array(led)), runs.length[led] - len(prefix), plan.international_pattern
        )
        rest = runs.length[led] - np.int8(len(prefix))
        value[led], length[led] = runs.value[led] % POWER[rest], rest
        unread &= ~led
    return value, length, unread


def _national(text: pa.Array, runs: Runs, plan: Plan, unread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return value and length, country code included, of the runs that are certainly national numbers; 0 elsewhere."""
    code, longest = str(plan.country_code), max(plan.national_lengths)
    if plan.international_pattern:
        unread = unread & ~matches(text, f"^(?:{plan.international_pattern})")
    led = _trunk_digits(runs, plan)
    trunk = unread & (led > 0)
    coded = unread & ~trunk & (runs.length > longest)  # E.164 that lost its "+"
    if coded.any():
        coded &= _led(runs, code)
    bare = unread & ~trunk & ~coded & is_one_of(runs.length, plan.bare_lengths)
    rest = runs.length - trunk * led - coded * np.int8(len(code))
    certain = (trunk | coded | bare) & is_one_of(rest, plan.national_lengths)
    rest = np.where(certain, rest, np.int8(0))
    value = np.where(certain, runs.value % POWER[rest] + plan.country_code * POWER[rest], 0)
    if plan.country_code != NANP:  # whose numbers have a rule of their own
        written = pa.array(value[certain]).cast(pa.string())
        certain[certain] = matches(written, f"^{code}(?:{plan.national_pattern})$")
    dialled = certain & ~coded
    certain[dialled] = _is_plainly_led(text.filter(pa.array(dialled)), rest[dialled], plan.carrier_pattern)
    return np.where(certain, value, 0), np.where(certain, rest + np.int8(len(code)), np.int8(0))


def _trunk_digits(runs: Runs, plan: Plan) -> np.ndarray:
    """Return how many digits of each run are the plan's national prefix, 0 where it does not start with one."""
    digits = np.zeros(len(runs.length), np.int8)
    for prefix in sorted(plan.national_prefixes, key=len):
        digits[_led(runs, prefix)] = len(prefix)
    return digits


def _is_plainly_led(text: pa.Array, length: np.ndarray, pattern: str) -> np.ndarray:
    """Return whether the pattern, if any, takes the prefix off and leaves so many digits: no carrier's code."""
    if not pattern:
        return np.ones(len(length), bool)
    kept = replaced(text, f"^(?:{pattern})", "")
    return np.asarray(integers(pc.binary_length(kept)) == length)


def _led(runs: Runs, prefix: str) -> np.ndarray:
    """Return whether a run starts with the prefix and goes on."""
    longer = (runs.length > len(prefix)) & (runs.length <= MOST_DIGITS)
    return np.asarray(longer & (head(runs.value, runs.length, len(prefix)) == int(prefix)))


def _read_doubtful(number: np.ndarray, value: np.ndarray, rows: np.ndarray) -> None:
    distinct, places = np.unique(value[rows], return_inverse=True)
    number[rows] = np.array([parsed_abroad(int(digits)) for digits in distinct], np.int64)[places]


def _read_local(number: np.ndarray, runs: Runs, rows: np.ndarray, plan: Plan) -> None:
    """Read local numbers: longer than an extension, and with the area code as long as a national number."""
    lead = np.int64(f"{plan.country_code}{plan.area_code}")
    whole = runs.length + np.int8(len(plan.area_code))
    rows = rows & (runs.length > plan.extension_digits[1]) & is_one_of(whole, plan.national_lengths)
    value = lead * POWER[runs.length[rows]] + runs.value[rows]
    sound, _ = check(value, whole[rows] + np.int8(len(str(plan.country_code))))
    number[rows] = np.where(sound, value, 0)


def without_outside_line(text: pa.Array, runs: Runs, plan: Plan) -> tuple[pa.Array, Runs]:
    """Return dialled text and its runs without the digits for an outside line, unless they make a certain number."""
    led = runs.plain & ~runs.plus & _led(runs, plan.outside_prefix) & ~is_service(runs, plan)
    rows = np.flatnonzero(led)
    if not len(rows):
        return text, runs
    whole = text.take(pa.array(rows))
    rest = pc.utf8_slice_codeunits(whole, len(plan.outside_prefix))
    rest_runs = runs_of(rest)
    certain = international(whole, Runs(*(column[rows] for column in runs)), plan) > 0
    led[rows] = ~certain | (international(rest, rest_runs, plan) > 0)
    kept = led[rows]
    for column, part in zip(runs, rest_runs, strict=True):
        column[led] = part[kept]
    return pc.replace_with_mask(text, pa.array(led), rest.filter(pa.array(kept))), runs


def _read_at_home(number: np.ndarray, text: pa.Array, rows: np.ndarray, plan: Plan) -> None:
    """Read what bulk reading left, where carriers have codes of their own."""
    encoded = text.filter(pa.array(rows)).dictionary_encode()
    numbers = np.array([_parsed_at_home(dialled, plan) for dialled in encoded.dictionary.to_pylist()], np.int64)
    number[rows] = numbers[integers(encoded.indices)]


@lru_cache(maxsize=REMEMBERED)
def _parsed_at_home(dialled: str, plan: Plan) -> int:
    """Return E.164, by phonenumbers, of a number dialled in a country with carrier codes, 0 where it is not valid."""
    number = parsed(dialled, plan.country)
    domestic = str(number).startswith(str(plan.country_code))
    readable = domestic or plan.international_pattern != ""
    return number if readable and number and _is_valid(number) else 0


def _is_valid(number: int) -> bool:
    return phonenumbers.is_valid_number(phonenumbers.parse(f"+{number}", None))
