"""Numbers: certain ones become E.164, the rest stays as dialled. The oracle is the phonenumbers library itself."""

import ipaddress
import re
from functools import cache

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from callward.numbering import JURISDICTIONS, KINDS, Normalized, jurisdiction, normalize_values, places, plan
from schemas.cdr import FEW, PRESENTATIONS
from schemas.nanp import STATE_OF_NPA
from tests.examples import tries

COUNTRIES = ("US", "GB", "DE", "ES", "FR")
US = plan("US")


def read(values: list[str | None], country: str = "US") -> Normalized:
    return normalize_values(pa.array(values, pa.string()), plan(country))


def one(value: str | None, country: str = "US") -> tuple[str | None, str | None, str]:
    number, presentation, kind, e164 = (column.to_pylist()[0] for column in read([value], country))
    assert e164 == (int(number) if kind == "e164" else 0)
    return number, presentation, kind


def library_e164(value: str, country: str) -> str | None:
    """E.164 where phonenumbers deems the number possible."""
    try:
        parsed = phonenumbers.parse(value, country)
    except phonenumbers.NumberParseException:
        return None
    return (
        phonenumbers.format_number(parsed, PhoneNumberFormat.E164) if phonenumbers.is_possible_number(parsed) else None
    )


def examples(region: str) -> list[phonenumbers.PhoneNumber]:
    """A number of each type; without Canada's 310-XXXX, which has no area code."""
    found = (phonenumbers.example_number_for_type(region, kind) for kind in range(11))
    return [number for number in found if number and (number.country_code != 1 or number.national_number >= 10**9)]


# ---- agreement with the library

digits = st.text("0123456789", min_size=1, max_size=16)
code = st.sampled_from(["1", "44", "49", "34", "33", "7", "39", "55", "54", "86", "353", "1876", "881", "999"])
prefix = st.sampled_from(["", "+", "0", "1", "00", "011"])
dialled = st.one_of(
    st.builds("{}{}".format, prefix, digits),
    st.builds("{}{}{}".format, prefix, code, digits),
    st.builds("{}{}".format, prefix, st.from_regex(r"[2-9][0-8][0-9][2-9][0-9]{6}", fullmatch=True)),
    st.builds("{}{}".format, prefix, st.from_regex(r"[1-9][0-9]{8,9}", fullmatch=True)),
)


@pytest.mark.parametrize("country", COUNTRIES)
@tries(40)
@given(values=st.lists(dialled, max_size=40))
def test_every_e164_equals_the_library(country: str, values: list[str]) -> None:
    result = read(values, country)
    for value, number, kind in zip(values, result.number.to_pylist(), result.kind.to_pylist(), strict=True):
        if kind == "e164":
            assert number == library_e164(value, country)
        else:
            assert number in (value, None)


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_every_e164_of_a_region_equals_the_library(region: str) -> None:
    # Also countries with carrier codes, changing prefixes, leading zeros and shared country codes.
    national = [phonenumbers.national_significant_number(number) for number in examples(region)]
    (trunk,) = plan(region).national_prefixes or ("",)
    values = [before + number for number in national for before in ("", trunk, f"{trunk}15", "+", "00")]
    result = read(values, region)
    for value, number, kind in zip(values, result.number.to_pylist(), result.kind.to_pylist(), strict=True):
        assert kind != "e164" or number == library_e164(value, region)


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize("form", [PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.RFC3966])
def test_every_number_in_international_form_is_read(country: str, form: int) -> None:
    numbers = [n for region in phonenumbers.SUPPORTED_REGIONS for n in examples(region)]
    e164 = [phonenumbers.format_number(number, PhoneNumberFormat.E164) for number in numbers]
    assert read([phonenumbers.format_number(n, form) for n in numbers], country).number.to_pylist() == e164


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_number_dialled_abroad_is_read(country: str) -> None:
    numbers = [n for region in ("US", "GB", "DE", "ES", "FR", "JM", "IT", "RU", "AR", "BR") for n in examples(region)]
    e164 = [phonenumbers.format_number(number, PhoneNumberFormat.E164) for number in numbers]
    dialled_out = [phonenumbers.format_out_of_country_calling_number(number, country) for number in numbers]
    abroad = [i for i, number in enumerate(numbers) if number.country_code != plan(country).country_code]
    assert read([dialled_out[i] for i in abroad], country).number.to_pylist() == [e164[i] for i in abroad]


@pytest.mark.parametrize(
    ("country", "value", "number"),
    [
        ("US", "3035550101", "+13035550101"),
        ("US", "13035550101", "+13035550101"),
        ("CA", "3035550101", "+13035550101"),
        ("JM", "13035550101", "+13035550101"),
        ("GB", "02079460123", "+442079460123"),
        ("GB", "2079460123", "+442079460123"),
        ("GB", "442079460123", "+442079460123"),
        ("GB", "00442079460123", "+442079460123"),
        ("GB", "0013035550101", "+13035550101"),
        ("GB", "+44 (0)20 7946 0123", "+442079460123"),
        ("US", "011 44 (0)20 7946 0123", "+442079460123"),
        ("FR", "01 99 00 12 34", "+33199001234"),
        ("FR", "199001234", "+33199001234"),
        ("FR", "33199001234", "+33199001234"),
        ("DE", "030 23125 123", "+493023125123"),
        ("US", "1-800-FLOWERS", "+18003569377"),
        ("US", "(888) 555-help", "+18885554357"),
        ("US", "800-411-CALL", "+18004112255"),
    ],
)
def test_certain_numbers_become_e164(country: str, value: str, number: str) -> None:
    assert one(value, country) == (number, "allowed", "e164")


@pytest.mark.parametrize(
    ("country", "value"),
    [
        ("US", "5550101"),  # local: no area code
        ("US", "913035550101"),  # an outside line's digit, or a country code: nobody knows
        ("US", "00034600000101"),  # a misdialled international prefix
        ("US", "1035550101"),  # no area code starts with 1
        ("US", "3031550101"),  # no exchange starts with 1
        ("US", "3039110101"),  # no exchange is N11
        ("US", "3935550101"),  # no area code has 9 in the middle
        ("US", "+130355501012"),
        ("US", "+9995550101"),  # no such country code
        ("US", "+1234567890123456"),  # longer than E.164
        ("US", "1234567890123456789012"),
        ("DE", "3023125123"),  # in an open plan this may be a local number
        ("DE", "493023125123"),
        ("ES", "0034600000101" + "0" * 6),
    ],
)
def test_what_is_not_certain_stays_as_dialled(country: str, value: str) -> None:
    assert one(value, country) == (value, "allowed", "special")


# ---- what is no number


@pytest.mark.parametrize(
    ("value", "presentation"),
    [
        *((word, "restricted") for word in ("anonymous", "Private", "RESTRICTED", "withheld", "Private Number")),
        *(
            (word, "restricted")
            for word in ("sip:anonymous@anonymous.invalid", '"Anonymous" <sip:anonymous@example.com>')
        ),
        *((word, "unavailable") for word in ("unavailable", "Unknown", "<unknown>", "Out of Area", "0")),
        *((word, "restricted") for word in ("+266696687", "266696687", "+7378742833", "+2562533")),
        *((word, "unavailable") for word in ("+86282452253", "+8656696", "sip:+8656696@example.com")),
        *((word, None) for word in ("s", "i", "h", "t", "&", "-")),
    ],
)
def test_words_name_nobody(value: str, presentation: str | None) -> None:
    assert one(value) == (None, presentation, "special")


@pytest.mark.parametrize(
    ("value", "presentation"),
    [
        (None, None),
        ("", "unavailable"),
        ("  ", "unavailable"),
        ('"" <>', "unavailable"),
        ("sip:192.0.2.1", "unavailable"),
    ],
)
def test_what_is_empty_is_absent(value: str | None, presentation: str | None) -> None:
    assert one(value) == (None, presentation, "absent")


def test_keypad_words_without_a_plus_may_be_numbers() -> None:
    assert one("7378742833")[2] == "e164"  # an area code of Texas
    assert one("8656696") == ("8656696", "allowed", "special")
    assert one("266696687", "FR")[2] == "e164"


@pytest.mark.parametrize(
    ("country", "value", "kind"),
    [
        *(("US", digits, "emergency") for digits in ("911", "112")),
        *(("GB", digits, "emergency") for digits in ("999", "112")),
        *(("FR", digits, "emergency") for digits in ("15", "17", "112")),
        *(("US", digits, "short_code") for digits in ("211", "411", "611", "988")),
        *(("GB", digits, "short_code") for digits in ("101", "111", "116000", "118500")),
        ("DE", "11833", "short_code"),
        *(("US", digits, "extension") for digits in ("12", "101", "1002", "2001", "36549", "911911")),
        *(("US", code, "feature_code") for code in ("*72", "*67", "*673035550101", "#31#", "**1")),
        *(("US", user, "sip_user") for user in ("alice", "Alice.Smith", "pbdirectory", "b00217911230", "client:alice")),
        *(("US", value, "special") for value in ("192.0.2.1", "+911", "303555-01", "7")),
    ],
)
def test_other_kinds_stay_as_dialled(country: str, value: str, kind: str) -> None:
    assert one(value, country) == (re.sub(r"(?<=\d)-", "", value), "allowed", kind)


@pytest.mark.parametrize("word", ["x", "ext. ", "ext", " EXT ", "x. "])
def test_an_extension_behind_a_number_is_left_out(word: str) -> None:
    assert one(f"(303) 555-0101{word}123") == ("+13035550101", "allowed", "e164")
    assert one(f"1001{word}12")[2] == "sip_user"  # too short to be a number with an extension


# ---- what is around a number


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        " {} ",
        "sip:{}@192.0.2.1",
        "sip:{}@example.com:5060;user=phone;transport=udp",
        "SIPS:{};npdi=yes;rn=13035550199@example.com",
        "sip:{}:secret@example.com",
        "sip:{}",
        "tel:{}",
        "tel:{};ext=12;phone-context=example.com",
        "<sip:{}@example.com>",
        '"Some Name" <sip:{}@example.com>;tag=13035550199',
        '"Name <13035550199>" <{}>',
        "13035550199 <tel:{}>",
        "{}@example.com",
        "{};ext=12",
    ],
)
@pytest.mark.parametrize(
    "user", ["13035550101", "+13035550101", "+1-303-555-0101", "%2B13035550101", "1001", "911", "alice"]
)
def test_a_uri_is_its_user(form: str, user: str) -> None:
    bare = user.replace("%2B", "+")
    if form == "sip:{}" and not re.fullmatch(r"\+?\d+", user):
        assert one(form.format(user))[2] == "absent"  # then it is a host
    else:
        assert one(form.format(user)) == one(bare)


def test_a_hidden_name_restricts_a_number_that_is_known() -> None:
    assert one('"Anonymous" <sip:+13035550101@example.com>') == ("+13035550101", "restricted", "e164")
    assert one('"Anonymous Coward" <sip:+13035550101@example.com>')[1] == "allowed"


def is_internet_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


@tries(40)
@given(
    st.integers(0, 99),
    st.lists(st.sampled_from(["(", ")", "-", ".", " "]), max_size=6),
    st.randoms(use_true_random=False),
)
def test_separators_change_nothing(last: int, separators: list[str], random) -> None:
    written = list(f"13035550{100 + last}")
    for sign in separators:
        written.insert(random.randrange(len(written) + 1), sign)
    assume(not is_internet_address("".join(written)))
    assert one("".join(written)) == (f"+13035550{100 + last}", "allowed", "e164")


# ---- properties of the whole

telephone_text = st.text('0123456789+*#()-. ;:@<>"%sipteltxabANONYMOUS&=,\u00a0\u0660é\x00', max_size=24)
any_value = st.one_of(st.none(), st.text(max_size=20), telephone_text, dialled)


@pytest.mark.parametrize("country", [*COUNTRIES, "RU", "BR", "JP"])
@tries(40)
@given(values=st.lists(any_value, max_size=30))
def test_normalizing_twice_is_normalizing_once(country: str, values: list[str | None]) -> None:
    first = read(values, country)
    again = normalize_values(first.number, plan(country))
    assert again.number.equals(first.number)
    named = first.number.is_valid()
    assert again.kind.filter(named).equals(first.kind.filter(named))


@tries(40)
@given(values=st.lists(any_value, max_size=30), data=st.data())
def test_a_value_is_read_the_same_in_any_company(values: list[str | None], data: st.DataObject) -> None:
    whole = read(values)
    start = data.draw(st.integers(0, len(values)))
    sliced = normalize_values(pa.array(values, pa.string()).slice(start), US)
    for together, apart in zip(whole, sliced, strict=True):
        assert together.slice(start).equals(apart)
    assert [one(value) for value in values] == list(zip(*(column.to_pylist() for column in whole[:3]), strict=True))


@tries(40)
@given(values=st.lists(any_value, max_size=30))
def test_every_answer_is_one_of_the_named(values: list[str | None]) -> None:
    result = read(values)
    assert {*result.kind.to_pylist()} <= {*KINDS}
    assert {*result.presentation.to_pylist()} <= {*PRESENTATIONS, None}
    for number, kind in zip(result.number.to_pylist(), result.kind.to_pylist(), strict=True):
        assert kind != "absent" or number is None
        assert kind != "e164" or re.fullmatch(r"\+[1-9]\d{4,14}", number)


def test_nothing_gives_nothing() -> None:
    assert [column.type for column in read([])] == [pa.string(), FEW, FEW, pa.int64()]
    assert read([None, None]).number.null_count == 2


# ---- plans


def test_a_plan_can_be_told_its_prefixes() -> None:
    behind_nine = plan("US", international_prefix="9011", national_prefix="91")
    read_there = normalize_values(pa.array(["9011442079460123", "913035550101", "011442079460123"]), behind_nine)
    assert read_there.number.to_pylist() == ["+442079460123", "+13035550101", "011442079460123"]
    several = normalize_values(
        pa.array(["00442079460123", "011442079460123"]), plan("US", international_prefix=["00", "011"])
    )
    assert several.number.to_pylist() == ["+442079460123"] * 2


def test_a_plan_can_be_told_how_its_switch_writes_numbers() -> None:
    e164 = plan("US", e164_without_plus=True)
    dialled = plan("US", area_code="303", outside_prefix="9", operators=["0", "00"], national_prefix=["1", "0"])
    cases = {
        e164: {"442079460123": "+442079460123", "13035550101": "+13035550101", "1001": "1001", "911": "911"},
        dialled: {
            "5550101": "+13035550101",
            "95550101": "+13035550101",
            "03035550101": "+13035550101",
            "913035550101": "+13035550101",
            "9011442079460123": "+442079460123",
            "9195550123": "+19195550123",
            "9911": "911",
            "911": "911",
            "91001": "1001",
            "0": "0",
            "00": "00",
        },
    }
    for made, numbers in cases.items():
        result = normalize_values(pa.array(list(numbers)), made)
        assert dict(zip(numbers, result.number.to_pylist(), strict=True)) == numbers
    assert normalize_values(pa.array(["0"]), dialled.of_callers).number.to_pylist() == [None]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        *((value, "+13035550101") for value in ("3035550101#", '="13035550101"', "'13035550101", '"=""3035550101"""')),
        *(
            (value, "+13035550101")
            for value in ("\\+13035550101", "&#43;13035550101", "%2B13035550101", "%252b13035550101")
        ),
        ("tel:5550101;phone-context=+1303", "+13035550101"),
        ("tel:555-0101;phone-context=+1-303-555", "+13035550101"),
        ("<sip:5550101;phone-context=%2B1303@gw.example;user=phone>", "+13035550101"),
        ("tel:02079460123;phone-context=+44", "+442079460123"),
        ("tel:7042;phone-context=pbx.example.com", "7042"),
        ("*72#", "*72#"),
        ("911#", "911"),
    ],
)
def test_what_spreadsheets_and_uris_put_around_a_number_is_no_part_of_it(written: str, number: str) -> None:
    assert read([written]).number.to_pylist() == [number]


@pytest.mark.parametrize("written", ["1.30356E+10", "1,30356E+10", "1.3e+10", "1.3E10", "+1.3E+10"])
def test_a_number_that_a_spreadsheet_rounded_is_damaged(written: str) -> None:
    assert read([written]).kind.to_pylist() == ["damaged"]


def test_a_plan_can_be_told_its_extensions_and_features() -> None:
    values = pa.array(["1001", "5550101", "911", "!72", "!72#", "*72"])
    told = normalize_values(values, plan("US", extension_digits=(7, 7), feature_prefixes=["!"]))
    assert told.kind.to_pylist()[1:3] == ["extension", "emergency"]
    assert told.kind.to_pylist()[0] == "special"
    assert told.kind.to_pylist()[3:] == ["feature_code", "feature_code", "special"]


def test_no_feature_prefix_means_no_feature_code() -> None:
    assert (
        normalize_values(pa.array(["*72", "#9"]), plan("US", feature_prefixes=())).kind.to_pylist() == ["special"] * 2
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"country": "ZZ"},
        {"country": "us"},
        {"country": "US", "international_prefix": "+"},
        {"country": "US", "international_prefix": ""},
        {"country": "US", "national_prefix": "1234567"},
        {"country": "US", "extension_digits": (4, 3)},
        {"country": "US", "extension_digits": (0, 3)},
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        plan(**wrong)


# ---- places

CLASSES = {
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
}


def place(value: str | None) -> tuple[str | None, ...]:
    return tuple(column.to_pylist()[0] for column in places(read([value]).number, US))


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_places_equal_the_library(region: str) -> None:
    numbers = examples(region)
    found = places(pa.array([phonenumbers.format_number(n, PhoneNumberFormat.E164) for n in numbers]), US)
    for number, prefix, destination in zip(
        numbers, found.prefix.to_pylist(), found.destination.to_pylist(), strict=True
    ):
        area = phonenumbers.national_significant_number(number)[:3] if number.country_code == 1 else ""
        kind = CLASSES.get(phonenumbers.number_type(number))
        if area and area[0] not in "89":  # a tariff within one +1 country is its own matter
            kind = None
        assert destination == (kind or phonenumbers.region_code_for_number(number))
        assert prefix == f"+{number.country_code}{area}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3035550101", ("+1303", "US", "US", "US-CO")),
        ("+18765550101", ("+1876", "JM", "JM", "JM")),
        ("4165550101", ("+1416", "CA", "CA", "CA")),
        ("6715550101", ("+1671", "GU", "GU", "US-GU")),
        ("8005550101", ("+1800", "toll_free", None, None)),
        ("9005550101", ("+1900", "premium", None, None)),
        ("5005550101", ("+1500", "US", "US", "US")),
        ("+442079460123", ("+44", "GB", "GB", "GB")),
        ("+447700900123", ("+44", "GB", "GB", "GB")),  # reserved for drama: of no assigned range, but of that country
        ("+7 800 555 01 01", ("+7", "toll_free", "RU", "RU")),
        ("+881612345678", ("+881", "satellite", "001", "001")),
        ("+870773111632", ("+870", "satellite", "001", "001")),
        ("+80012345678", ("+800", "international_service", "001", "001")),
        ("911", (None, "emergency", None, None)),
        ("*72", (None, "feature", None, None)),
        ("411", (None, "short_code", None, None)),
        ("1001", (None, "extension", None, None)),
        ("alice", (None, "sip_user", None, None)),
        ("5550101", (None, "unknown", None, None)),
        ("+911", (None, "unknown", None, None)),
        ("anonymous", (None, "unknown", None, None)),
        (None, (None, "unknown", None, None)),
    ],
)
def test_where_a_number_belongs(value: str | None, expected: tuple[str | None, ...]) -> None:
    assert place(value) == expected


@tries(40)
@given(st.lists(any_value, max_size=30))
def test_a_place_depends_on_its_number_alone(values: list[str | None]) -> None:
    together = places(read(values).number, US)
    assert [place(value) for value in values] == list(zip(*(column.to_pylist() for column in together), strict=True))
    assert together.destination.null_count == 0


@tries(40)
@given(st.lists(any_value, max_size=30))
def test_a_prefix_says_no_more_than_country_and_area(values: list[str | None]) -> None:
    for prefix in places(read(values).number, US).prefix.to_pylist():
        assert prefix is None or re.fullmatch(r"\+1[2-9]\d\d|\+[2-9]\d{0,2}", prefix)


# ---- states


@cache
def region_of_area(npa: int) -> str | None:
    ends = ("5550100", "2000100", "3000100", "9250100", "6660100")
    regions = (phonenumbers.region_code_for_number(phonenumbers.PhoneNumber(1, int(f"{npa}{end}"))) for end in ends)
    return next((region for region in regions if region), None)


STATE_NAMES = """
AL Alabama|AK Alaska|AZ Arizona|AR Arkansas|CA California|CO Colorado|CT Connecticut|DE Delaware|FL Florida|GA Georgia
|HI Hawaii|ID Idaho|IL Illinois|IN Indiana|IA Iowa|KS Kansas|KY Kentucky|LA Louisiana|ME Maine|MD Maryland
|MA Massachusetts|MI Michigan|MN Minnesota|MS Mississippi|MO Missouri|MT Montana|NE Nebraska|NV Nevada
|NH New Hampshire|NJ New Jersey|NM New Mexico|NY New York|NC North Carolina|ND North Dakota|OH Ohio|OK Oklahoma
|OR Oregon|PA Pennsylvania|RI Rhode Island|SC South Carolina|SD South Dakota|TN Tennessee|TX Texas|UT Utah|VT Vermont
|VA Virginia|WA Washington State|WV West Virginia|WI Wisconsin|WY Wyoming|DC Washington D.C.
"""
STATE_OF_NAME = {name: code for code, name in (entry.strip().split(" ", 1) for entry in STATE_NAMES.split("|"))}


def state_of_place(name: str) -> str | None:
    city_state = re.search(r", ([A-Z]{2})$", name)
    return STATE_OF_NAME.get(name) or (city_state.group(1) if city_state else None)


def states_by_geocoder() -> dict[int, str]:
    """The table of schemas/nanp.py from the geocoder's data: an area code's own entry, else what its longer say."""
    from phonenumbers.geodata import GEOCODE_DATA

    own: dict[int, str | None] = {}
    longer: dict[int, set[str | None]] = {}
    for digits, names in GEOCODE_DATA.items():
        if digits.startswith("1") and len(digits) >= 4 and "en" in names:
            npa, state = int(digits[1:4]), state_of_place(names["en"])
            if len(digits) == 4:
                own[npa] = state
            else:
                longer.setdefault(npa, set()).add(state)
    sole = {npa: states.copy().pop() for npa, states in longer.items() if len(states) == 1}
    return {npa: state for npa, state in (sole | own).items() if state and region_of_area(npa) == "US"}


def test_every_area_code_has_the_state_that_the_geocoder_names() -> None:
    expected = states_by_geocoder()
    changed = {npa: expected.get(npa) for npa in STATE_OF_NPA.keys() ^ expected.keys()}
    assert not changed, "area codes changed: make schemas/nanp.py again"
    assert expected == STATE_OF_NPA


def between(calling: str, called: str) -> str:
    caller, callee = (places(read([value]).number, US).zone for value in (calling, called))
    return jurisdiction(caller, callee, "US").to_pylist()[0]


@pytest.mark.parametrize(
    ("calling", "called", "expected"),
    [
        ("3035550101", "7205550101", "intrastate"),  # both Colorado
        ("3035550101", "3035550102", "intrastate"),  # the same area code, but local is never guessed
        ("3035550101", "2125550101", "interstate"),
        ("2025550101", "7035550101", "interstate"),  # DC counts as a state
        ("3035550101", "7875550101", "interstate"),  # and so does Puerto Rico
        ("7875550101", "9395550101", "intrastate"),
        ("3035550101", "4165550101", "international"),
        ("3035550101", "8765550101", "international"),
        ("3035550101", "+442079460123", "international"),
        ("+442079460123", "3035550101", "indeterminate"),  # its number says nothing of where the call began
        ("+442079460123", "+33199001234", "indeterminate"),
        ("3035550101", "+881612345678", "international"),
        ("+442079460123", "+442079460124", "indeterminate"),
        ("4165550101", "6045550101", "indeterminate"),
        ("3035550101", "8005550101", "unknown"),
        ("8005550101", "3035550101", "indeterminate"),
        ("3035550101", "5005550101", "unknown"),
        ("1001", "3035550101", "indeterminate"),
        ("1001", "1002", "unknown"),
        ("anonymous", "3035550101", "indeterminate"),
        ("3035550101", "911", "unknown"),
    ],
)
def test_jurisdiction_by_the_states_of_the_numbers(calling: str, called: str, expected: str) -> None:
    assert between(calling, called) == expected


@tries(40)
@given(st.lists(st.tuples(any_value, any_value), max_size=30))
def test_jurisdiction_within_the_country_is_the_same_both_ways(pairs: list[tuple[str | None, str | None]]) -> None:
    calling, called = (places(read([pair[i] for pair in pairs]).number, US).zone for i in (0, 1))
    there, back = (jurisdiction(*zones, "US").to_pylist() for zones in ((calling, called), (called, calling)))
    assert {*there, *back} <= {*JURISDICTIONS}
    within = {"interstate", "intrastate"}
    assert [way in within and way for way in there] == [way in within and way for way in back]
