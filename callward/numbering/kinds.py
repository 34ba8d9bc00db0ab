"""What a value is when it is no E.164 number, and what it says of the caller's wish to be known."""

import re
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc

from callward.numbering.arrays import POWER, Runs, mask, matches, replaced
from callward.numbering.dressed import spelled
from callward.numbering.plans import Plan
from callward.numbering.possible import REMEMBERED, number_of

KINDS: Final = (
    "e164",
    "extension",
    "feature_code",
    "emergency",
    "short_code",
    "sip_user",
    "special",
    "absent",
    "damaged",
)
E164, EXTENSION, FEATURE_CODE, EMERGENCY, SHORT_CODE, SIP_USER, SPECIAL, ABSENT, DAMAGED = range(len(KINDS))

PRESENTATIONS: Final = ("allowed", "restricted", "unavailable")
ALLOWED, RESTRICTED, UNAVAILABLE, UNSAID = range(len(PRESENTATIONS) + 1)

# Compared in lower case, without spaces, "_" and "-".
_RESTRICTED_WORDS: Final = (
    *("anonymous", "private", "restricted", "withheld", "blocked", "idrestricted", "idwithheld", "idblocked"),
    *("privatenumber", "privatecaller", "restrictednumber", "numberwithheld", "withheldnumber", "blockednumber"),
    *("calleridblocked", "calleridrestricted", "calleridwithheld"),
)
_UNAVAILABLE_WORDS: Final = (
    *("unavailable", "unknown", "notavailable", "outofarea", "unknownnumber", "unknowncaller", "numberunavailable"),
    *("numberunknown", "nonumber", "nocallerid", "calleridunavailable", "none", "null", "n/a"),
)
# Some carriers put a word's keypad digits after a "+" where a number is withheld. None is a number anyone could have.
_KEYPAD_WORDS: Final = {
    "anonymous": RESTRICTED,
    "restricted": RESTRICTED,
    "blocked": RESTRICTED,
    "unavailable": UNAVAILABLE,
    "unknown": UNAVAILABLE,
}
_ROUNDED: Final = r"^\+?[0-9](?:[.,][0-9]*[eE]\+?|[eE]\+)[0-9]{1,2}$"  # as a spreadsheet shows long numbers
_SERVICE_DIGITS: Final = 6  # no short code is longer
_PERHAPS_SHORT: Final = -1


class Saying(NamedTuple):
    """What values say apart from digits; one row per value."""

    kind: np.ndarray  # int8, a position in KINDS
    presentation: np.ndarray  # int8, a position in PRESENTATIONS; UNSAID is the one after the last
    nobody: np.ndarray  # bool: it names no party


def nothing_said(rows: int) -> Saying:
    """Return kinds of `rows` values that name a party in a way that is not known yet."""
    return Saying(np.full(rows, SPECIAL, np.int8), np.full(rows, ALLOWED, np.int8), np.zeros(rows, bool))


def say(text: pa.Array, plan: Plan) -> Saying:
    """Return kinds of undressed texts that are no digits: feature codes, SIP users, words for nobody, nothing."""
    plainly = pc.ascii_lower(replaced(text, r"[ _\-]+", ""))
    meanings = (
        (matches(text, "^$"), ABSENT, UNAVAILABLE),
        (mask(pc.is_in(plainly, pa.array(_RESTRICTED_WORDS))), SPECIAL, RESTRICTED),
        (mask(pc.is_in(plainly, pa.array(_UNAVAILABLE_WORDS))), SPECIAL, UNAVAILABLE),
        (matches(text, "^[^0-9]$"), SPECIAL, UNSAID),  # a PBX's own s, i, h, t; "&": no party, nothing said of one
        (matches(text, _feature_pattern(plan)), FEATURE_CODE, ALLOWED),
        (matches(text, _ROUNDED), DAMAGED, ALLOWED),
        (matches(text, r"\pL"), SIP_USER, ALLOWED),
    )
    where, kinds, presentations = zip(*meanings, strict=True)
    presentation = np.select(where, presentations, ALLOWED).astype(np.int8)
    return Saying(np.select(where, kinds, SPECIAL).astype(np.int8), presentation, presentation != ALLOWED)


def _feature_pattern(plan: Plan) -> str:
    led = "|".join(re.escape(prefix) for prefix in plan.feature_prefixes)
    return f"^(?:{led})[0-9*#]+$" if led else "^$"


def name_short(runs: Runs, plan: Plan, kind: np.ndarray) -> None:
    """Set the kind of extensions by their length, of emergency numbers, operators and other short codes."""
    least, most = plan.extension_digits
    dialled = runs.plain & ~runs.plus
    rows = np.flatnonzero(dialled & (runs.length <= _SERVICE_DIGITS))
    service = _services(runs.value[rows], runs.length[rows], plan)
    kind[rows[service == _PERHAPS_SHORT]] = SHORT_CODE
    kind[dialled & (runs.length >= least) & (runs.length <= most)] = EXTENSION
    certain = (service == EMERGENCY) | (service == SHORT_CODE)
    kind[rows[certain]] = service[certain]
    for operator in plan.operators:
        kind[dialled & (runs.length == len(operator)) & (runs.value == int(operator))] = SHORT_CODE


def name_nobody(runs: Runs, kind: np.ndarray, presentation: np.ndarray, nobody: np.ndarray) -> None:
    """Set the kind of "0", and of the words that carriers spell on a keypad: they name no party."""
    special = kind == SPECIAL
    words = [(runs.plain & special & (runs.length == 1) & (runs.value == 0), UNAVAILABLE)]
    for word, meaning in _KEYPAD_WORDS.items():
        bare_too = special if word == "anonymous" else False  # the others may be local numbers
        words.append(((runs.value == spelled(word)) & (runs.plus | bare_too), meaning))
    for rows, meaning in words:
        kind[rows], presentation[rows], nobody[rows] = SPECIAL, meaning, True


def is_service(runs: Runs, plan: Plan) -> np.ndarray:
    """Return which runs are an emergency number, a service code or an operator; bool [n]."""
    kind = np.full(len(runs.plain), SPECIAL, np.int8)
    name_short(runs, plan, kind)
    return np.asarray((kind == EMERGENCY) | (kind == SHORT_CODE))


def _services(value: np.ndarray, length: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the service of each run of at most six digits; int8 [n]."""
    padded, places = np.unique(value + POWER[length], return_inverse=True)  # a 1 before it keeps leading zeros
    return np.array([_service(str(run)[1:], plan.country) for run in padded], np.int8)[places]


@lru_cache(maxsize=REMEMBERED)
def _service(digits: str, country: str) -> int:
    """Return the service of a run: emergency; short code where three digits, or 11 and more (116, 118 of the CEPT).

    Text-message codes are none: nobody calls them, and most extensions of four or five digits would be one.
    """
    if phonenumbers.is_emergency_number(digits, country):
        return EMERGENCY
    number = number_of(phonenumbers.country_code_for_region(country), digits)
    valid = phonenumbers.is_valid_short_number_for_region(number, country)
    if not valid or phonenumbers.is_sms_service_for_region(number, country):
        return SPECIAL
    return SHORT_CODE if len(digits) == 3 or (len(digits) >= 5 and digits.startswith("11")) else _PERHAPS_SHORT
