"""Domains that were made from a library's metadata are made again from the installed release, and say what changed."""

from functools import cache

import phonenumbers
from phonenumbers import PhoneNumberType as Kind

from callward.feeds.world import AREA_CODES
from callward.release import domains
from schemas.nanp import STATE_OF_NPA
from tests.callward.numbering.test_numbering import region_of_area

Cells = dict[str, set[str]]

TERRITORIES = {"AS", "GU", "MP", "PR", "VI"}
CLASSES = {
    *("toll_free", "premium", "shared_cost", "satellite", "international_service", "emergency", "feature"),
    *("short_code", "extension", "sip_user"),
}
DIVISIONS = {  # of the US Census Bureau; territories are in none
    "New England": "CT MA ME NH RI VT",
    "Middle Atlantic": "NJ NY PA",
    "East North Central": "IL IN MI OH WI",
    "West North Central": "IA KS MN MO ND NE SD",
    "South Atlantic": "DC DE FL GA MD NC SC VA WV",
    "East South Central": "AL KY MS TN",
    "West South Central": "AR LA OK TX",
    "Mountain": "AZ CO ID MT NM NV UT WY",
    "Pacific": "AK CA HI OR WA",
    "Territories": " ".join(sorted(TERRITORIES)),
}


@cache
def regions() -> dict[int, str]:
    """Return the region of every geographic area code of the North American Numbering Plan."""
    found = {npa: region_of_area(npa) for npa in range(200, 1000)}
    return {npa: region for npa, region in found.items() if region and is_geographic(npa, region)}


def is_geographic(npa: int, region: str) -> bool:
    """Return whether an area code is a place's: in small countries all are; else not toll-free, premium, a person's."""
    numbers = (phonenumbers.PhoneNumber(1, int(f"{npa}{end}")) for end in ("5550100", "2000100", "3000100", "9250100"))
    return region not in ("US", "CA") or Kind.FIXED_LINE_OR_MOBILE in map(phonenumbers.number_type, numbers)


def states() -> Cells:
    """Return area codes of each state and territory of the US, of Canada, and of the other countries of the plan."""
    cells: Cells = {}
    for npa, region in regions().items():
        if region == "US":
            label = STATE_OF_NPA.get(npa)
        else:
            label = region if region in TERRITORIES else "Canada" if region == "CA" else "Caribbean"
        if label:
            cells.setdefault(label, set()).add(f"+1{npa}")
    return cells


def shipped(name: str) -> Cells:
    return {label: set(codes) for label, codes in domains.load(name).cells}


def same(name: str, expected: Cells) -> None:
    """Fail with the codes that moved."""
    before = {(label, code) for label, codes in shipped(name).items() for code in codes}
    now = {(label, code) for label, codes in expected.items() for code in codes}
    assert not now - before, f"{name}: add these, under a new version"
    assert not before - now, f"{name}: remove these, under a new version"


def test_area_codes_are_those_of_the_installed_metadata() -> None:
    codes = {code for listed in states().values() for code in listed}
    same("nanp_areas", {code.removeprefix("+1"): {code} for code in codes})


def test_states_are_those_of_the_installed_metadata() -> None:
    same("us_states", states())


def test_divisions_are_made_of_whole_states() -> None:
    by_state = states()
    cells = {name: set().union(*(by_state[state] for state in listed.split())) for name, listed in DIVISIONS.items()}
    same("census_divisions", cells | {name: by_state[name] for name in ("Canada", "Caribbean")})


def test_destinations_are_those_of_the_installed_metadata() -> None:
    same("destinations", {name: {name} for name in {*phonenumbers.SUPPORTED_REGIONS, *CLASSES}})


def test_groups_of_destinations_are_those_of_the_installed_metadata() -> None:
    american = set(phonenumbers.region_codes_for_country_code(1))
    cells = {
        "US": {"US", *TERRITORIES},
        "Canada": {"CA"},
        "Caribbean": american - {"US", "CA", *TERRITORIES},
        "International": set(phonenumbers.SUPPORTED_REGIONS) - american,
    }
    classes = {"Toll-free", "Services", "Special"}
    same("destination_groups", cells | {label: shipped("destination_groups")[label] for label in classes})
    assert set().union(*(shipped("destination_groups")[label] for label in classes)) == CLASSES


def test_feeds_call_from_area_codes_of_the_installed_metadata() -> None:
    assert {npa for npa, region in regions().items() if region == "US"} == {int(code) for code in AREA_CODES}
