"""Where numbers belong: prefix, destination, region, and whether a call leaves its state or country."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple

import numpy as np
import phonenumbers
import pyarrow as pa
from phonenumbers import PhoneNumberType

from callward.columns import few_of
from callward.numbering.arrays import POWER, head, integers, matches
from callward.numbering.kinds import KINDS
from callward.numbering.plans import NANP, NO_COUNTRY, Plan, regions_of
from callward.numbering.possible import (
    CODE_OF_HEAD,
    PREMIUM_CODE,
    REMEMBERED,
    TOLL_FREE_CODES,
    by_code,
    is_nanp,
    number_of,
)
from callward.numbering.values import Normalized, normalize_values
from schemas.nanp import STATE_OF_NPA

JURISDICTIONS: Final = ("interstate", "intrastate", "international", "indeterminate", "unknown")
_INTERSTATE, _INTRASTATE, _INTERNATIONAL, _INDETERMINATE, _UNKNOWN = range(len(JURISDICTIONS))

_CLASS_OF_KIND: Final = {
    "extension": "extension",
    "feature_code": "feature",
    "emergency": "emergency",
    "short_code": "short_code",
    "sip_user": "sip_user",
}
_CLASS_OF_TYPE: Final = {
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
}
_SATELLITE_CODES: Final = (870, 881)  # Inmarsat; Iridium and Globalstar (ITU-T list of E.164 assigned country codes)
_TERRITORIES: Final = ("PR", "VI", "GU", "AS", "MP")  # states to 47 U.S.C. 153(47)
_LEAD: Final = 7  # digits that tell apart the regions that share a code
_LENGTHS: Final = 32  # room for a length within a key
# Digits that complete a lead to a number that phonenumbers knows: the answer depends on the lead alone.
_NANP_ENDS: Final = ("5550100", "2000100", "3000100", "9250100", "6660100")
_ENDS: Final = "50192"


class Places(NamedTuple):
    """Where numbers belong; one row per number, as schemas.cdr.FEW.

    prefix: country and area at most ("+1303", else the country code alone: "+44"); null where not E.164.
    destination: ISO region (US, JM, GB), or a class: toll_free, premium, shared_cost, satellite, international_service,
    emergency, feature, short_code, extension, sip_user, unknown. Never null.
    region: ISO region; "001" for networks of no country; null where there is none, or a +1 number serves many.
    zone: what `jurisdiction` compares: "US-CO" where the state or territory is known, else the region.
    """

    prefix: pa.DictionaryArray
    destination: pa.DictionaryArray
    region: pa.DictionaryArray
    zone: pa.DictionaryArray


class _Place(NamedTuple):
    prefix: str | None
    destination: str
    region: str | None
    zone: str | None


def places(number: pa.Array, plan: Plan) -> Places:
    """Return where normalized numbers belong (strings as `normalize_values` gives them by the same plan, shape [n])."""
    return places_of(normalize_values(number, plan))


def places_of(read: Normalized) -> Places:
    """Return where numbers belong that `normalize_values` has just read."""
    keys = pa.array(_keys(integers(read.e164), integers(read.kind.indices))).dictionary_encode()
    values = [_place_of_key(key) for key in keys.dictionary.to_pylist()]
    columns = zip(*values, strict=True) if values else ((),) * len(_Place._fields)
    return Places(*(_of_keys(keys.indices, column) for column in columns))


def _of_keys(keys: pa.Array, values: Sequence[str | None]) -> pa.DictionaryArray:
    distinct = pa.array(values, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(distinct.indices.take(keys), distinct.dictionary)


def _keys(value: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return one integer per number: of E.164 its leading digits and length, else minus the position of its kind."""
    length = np.searchsorted(POWER, value, side="right").astype(np.int8)
    return np.where(value > 0, _leads(value, length) * _LENGTHS + length, -kind.astype(np.int64))


def _leads(value: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the digits that decide where E.164 numbers belong.

    1 and the area code; elsewhere the country code, the first few digits where regions share it, all of an exception.
    """
    leads, abroad = value // 10**7, ~is_nanp(value, length)
    leads[abroad] = _leads_abroad(value[abroad], length[abroad])
    return leads


def _leads_abroad(value: np.ndarray, length: np.ndarray) -> np.ndarray:
    leads = head(value, length, _LEAD)
    for code, rows in by_code(value, length):
        if len(regions_of(code)) == 1:
            leads[rows] = code
        written = pa.array(value[rows]).cast(pa.string())
        exceptions = rows[matches(written, _exceptional_pattern(code))]
        leads[exceptions] = value[exceptions]
    return leads


@cache  # as many as there are country codes
def _exceptional_pattern(code: int) -> str:
    """Return a pattern of a code's numbers whose first digits do not decide their place: of small islands, or premium.

    The metadata gives the leading digits of most regions that share a code; of the others it has only whole patterns.
    """
    patterns = []
    for region, metadata in regions_of(code):
        kinds = [metadata.toll_free, metadata.premium_rate, metadata.shared_cost]
        if region != phonenumbers.region_code_for_country_code(code) and not metadata.leading_digits:
            kinds += [metadata.fixed_line, metadata.mobile, metadata.voip]
        patterns += [kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern]
    return f"^{code}(?:{'|'.join(patterns)})$" if patterns else r"^$"


def _place_of_key(key: int) -> _Place:
    if key <= 0:
        return _Place(None, _CLASS_OF_KIND.get(KINDS[-key], "unknown"), None, None)
    return _place(*divmod(key, _LENGTHS))


@lru_cache(maxsize=REMEMBERED)
def _place(lead: int, length: int) -> _Place:
    """Return where E.164 numbers with these leading digits and this length belong."""
    digits = str(lead)
    code = int(CODE_OF_HEAD[int(digits[:3].ljust(3, "0"))])
    if code == NANP:
        return _place_in_nanp(digits[1:])
    national, more = digits[len(str(code)) :], length - len(digits)
    region = _region(code, national, more)
    destination = region if more else _CLASS_OF_TYPE.get(phonenumbers.number_type(number_of(code, national)), region)
    if region == NO_COUNTRY:
        destination = "satellite" if code in _SATELLITE_CODES else "international_service"
    return _Place(f"+{code}", destination, region, region)


def _place_in_nanp(area: str) -> _Place:
    """Return the place of an area code. A toll-free or 900 number serves many countries: where it ends is unknown."""
    if area in TOLL_FREE_CODES or area == PREMIUM_CODE:
        return _Place(f"+1{area}", "premium" if area == PREMIUM_CODE else "toll_free", None, None)
    region = _region_of_area(area)
    state = STATE_OF_NPA.get(int(area)) if region == "US" else region if region in _TERRITORIES else None
    return _Place(f"+1{area}", region or "unknown", region, f"US-{state}" if state else region)


def _region_of_area(area: str) -> str | None:
    """Return the region whose leading digits an area code is, by the metadata; the US and Canada have ranges."""
    for region, metadata in regions_of(NANP):
        if metadata.leading_digits and re.fullmatch(metadata.leading_digits, area):
            return region
    regions = (phonenumbers.region_code_for_number(number_of(NANP, area + end)) for end in _NANP_ENDS)
    return next((region for region in regions if region), None)


def _region(code: int, national: str, more: int) -> str:
    """Return the region of the first completion that phonenumbers finds valid; else the code's main region."""
    main, *others = phonenumbers.region_codes_for_country_code(code)
    numbers = (number_of(code, national + digit * more) for digit in (_ENDS if others else ""))
    regions = (phonenumbers.region_code_for_number(number) for number in numbers)
    return next((region for region in regions if region), str(main))


def jurisdiction(calling_zone: pa.DictionaryArray, called_zone: pa.DictionaryArray, home: str) -> pa.DictionaryArray:
    """Return one of JURISDICTIONS per row, by the zones of two numbers (Places.zone; shape [n]); `home` is a country.

    Unknown where the called number has no zone (toll-free, and every number of no place); else indeterminate where the
    caller has none or is of another country than home, for its number then says nothing of where the call began.
    International where the countries differ (47 U.S.C. 153(21)); among US states, territories and DC by the states of
    the area codes (153(28), 153(47)), as carriers do by number; unknown for calls within another country. `local` is
    never given: it takes rate centers, which no number tells.
    """
    zones: dict[str, int] = {}
    calling, called = _zone_positions(calling_zone, zones), _zone_positions(called_zone, zones)
    return few_of(_rule(tuple(zones), home)[calling, called], JURISDICTIONS)


@lru_cache(maxsize=16)  # the zones of a source are soon known
def _rule(zones: tuple[str, ...], home: str) -> np.ndarray:
    """Return the jurisdiction between any two zones; int8 [zones + 1, zones + 1], last row and column: no zone."""
    country = np.array([*(zone.partition("-")[0] for zone in zones), ""])
    stated = np.array([*("-" in zone for zone in zones), False])
    rule = np.full((len(country), len(country)), _UNKNOWN, np.int8)
    rule[np.ix_(stated, stated)] = _INTERSTATE
    rule[stated, stated] = _INTRASTATE
    rule[country[:, None] != country] = _INTERNATIONAL
    rule[country != home, :] = _INDETERMINATE
    rule[:, -1] = _UNKNOWN
    return rule


def _zone_positions(zone: pa.DictionaryArray, zones: dict[str, int]) -> np.ndarray:
    """Return each row's position in `zones`, which grows by the new ones; -1 for null."""
    names = zone.dictionary.to_pylist()
    positions = np.array(
        [-1 if name is None else zones.setdefault(name, len(zones)) for name in names] + [-1], np.int16
    )
    rows = zone.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return np.asarray(positions[rows])
