"""Numbering plans: how numbers are dialled in a country, from phonenumbers' metadata."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import phonenumbers
from phonenumbers import PhoneMetadata

NANP: Final = 1  # the country code of the North American Numbering Plan
NO_COUNTRY: Final = phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY  # "001": networks of no country (+800, +88x)
_MOST_PREFIX_DIGITS: Final = 6


@dataclass(frozen=True)
class Plan:
    """How numbers are dialled where a switch stands; build it with `plan`.

    The patterns are regular expressions of phonenumbers' metadata: the digits of a national number; and, only where it
    is more than one prefix (a choice of carriers), what may stand before a national or an international number.
    `area_code` leads a local number, `outside_prefix` a number that leaves the site; `operators` are dialled digits
    that call one; with `e164_without_plus`, digits that can be a number of any country are one.
    """

    country: str
    country_code: int
    international_prefixes: tuple[str, ...]
    national_prefixes: tuple[str, ...]
    national_lengths: tuple[int, ...]
    national_pattern: str
    carrier_pattern: str
    international_pattern: str
    extension_digits: tuple[int, int]
    feature_prefixes: tuple[str, ...]
    e164_without_plus: bool = False
    area_code: str = ""
    outside_prefix: str = ""
    operators: tuple[str, ...] = ()

    @property
    def of_callers(self) -> "Plan":
        """Return the plan without what is only ever dialled: a caller's number has no prefix for an outside line."""
        return replace(self, outside_prefix="", operators=())

    @property
    def bare_lengths(self) -> tuple[int, ...]:
        """Return lengths at which digits without any prefix are certainly a national number.

        Where a national prefix is dialled, other lengths may be a local number (open plans: DE, AT) or another
        country's number without its "+". A plan whose longest number has at most 10 digits leaves no such doubt there.
        """
        if not self.national_prefixes:
            return self.national_lengths
        longest = max(self.national_lengths)
        return (longest,) if longest <= 10 else ()


def plan(
    country: str,
    *,
    international_prefix: str | Sequence[str] | None = None,
    national_prefix: str | Sequence[str] | None = None,
    extension_digits: tuple[int, int] = (2, 6),
    feature_prefixes: Sequence[str] = ("*", "#"),
    e164_without_plus: bool = False,
    area_code: str = "",
    outside_prefix: str = "",
    operators: Sequence[str] = (),
) -> Plan:
    """Return the numbering plan of an ISO country, from phonenumbers' metadata; what is given replaces the metadata.

    `international_prefix` and `national_prefix` are one prefix or several ("00", or "9011" behind an outside line); ""
    means no national one; `extension_digits` is the least and greatest length of an extension; `feature_prefixes` start
    a feature code; the rest is as in Plan. Raises ValueError for a country without a plan, or for a prefix or length
    that is not one.
    """
    if country not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"there is no numbering plan for the country {country!r}")
    local: Any = PhoneMetadata.metadata_for_region(country)  # its stubs make every field optional
    shared = metadata_of(local.country_code)
    abroad, abroad_pattern = _international_prefixes(local, international_prefix)
    trunk = _given(local.national_prefix or "" if national_prefix is None else national_prefix)
    led = (*abroad, *trunk, *operators, *(code for code in (area_code, outside_prefix) if code))
    _check_overrides(led, extension_digits)
    return Plan(
        country=country,
        country_code=local.country_code,
        international_prefixes=abroad,
        national_prefixes=trunk,
        national_lengths=_lengths(local, shared),
        national_pattern=shared.general_desc.national_number_pattern,
        carrier_pattern=carrier_pattern(shared) if national_prefix is None else "",
        international_pattern=abroad_pattern,
        extension_digits=extension_digits,
        feature_prefixes=tuple(feature_prefixes),
        e164_without_plus=e164_without_plus,
        area_code=area_code,
        outside_prefix=outside_prefix,
        operators=tuple(operators),
    )


def _given(prefixes: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(prefix for prefix in ((prefixes,) if isinstance(prefixes, str) else prefixes) if prefix)


def metadata_of(country_code: int) -> Any:
    """Return the PhoneMetadata of a country code's main region, or of a network that belongs to no country."""
    region = phonenumbers.region_code_for_country_code(country_code)
    if region == NO_COUNTRY:
        return PhoneMetadata.metadata_for_nongeo_region(country_code)
    return PhoneMetadata.metadata_for_region(region)


def regions_of(country_code: int) -> list[tuple[str, Any]]:
    """Return the regions that share a country code, with their PhoneMetadata; the main one first."""
    regions = phonenumbers.region_codes_for_country_code(country_code)
    if regions == (NO_COUNTRY,):
        return [(NO_COUNTRY, metadata_of(country_code))]
    return [(region, PhoneMetadata.metadata_for_region(region)) for region in regions]


def carrier_pattern(metadata: Any) -> str:
    """Return what may stand before a national number, where that is more than the national prefix; else ""."""
    pattern = metadata.national_prefix_for_parsing or ""
    return "" if pattern == (metadata.national_prefix or "") else pattern


def _lengths(local: Any, shared: Any) -> tuple[int, ...]:
    """Return lengths of national numbers that can be dialled in a region (others may share its country code)."""
    return tuple(sorted({*local.general_desc.possible_length} & {*shared.general_desc.possible_length}))


def _international_prefixes(local: Any, given: str | Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """Return prefixes, and a pattern of all where there are more, by carrier."""
    if given is not None:
        return ((given,) if isinstance(given, str) else tuple(given)), ""
    pattern = local.international_prefix or ""
    if pattern == "" or pattern.isdigit():
        return ((pattern,) if pattern else ()), ""
    preferred = re.sub(r"\D", "", local.preferred_international_prefix or "")
    return ((preferred,) if preferred else ()), pattern


def _check_overrides(prefixes: tuple[str, ...], extension_digits: tuple[int, int]) -> None:
    if not all(re.fullmatch(f"[0-9]{{1,{_MOST_PREFIX_DIGITS}}}", prefix) for prefix in prefixes):
        raise ValueError(f"a dialling prefix is one to {_MOST_PREFIX_DIGITS} digits")
    least, most = extension_digits
    if not 1 <= least <= most <= 15:
        raise ValueError("extension_digits is a least and a greatest length, within 1 to 15")
