"""Promises of the recognizer: no form of a number passes, and what is none passes as it is."""

import hashlib
import html
import sys
import unicodedata
from collections.abc import Callable
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import UsageProblem
from callward.redaction import looks_like_number, mask, recorded, refuse_number
from tests.examples import tries

NATIONAL = "7195550178"
# The zero of every script that writes decimal digits: nine others follow it.
ZEROS = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.decimal(chr(code), None) == 0]
SEPARATORS = [
    "",
    "-",
    ".",
    " ",
    "_",
    "/",
    ",",
    ":",
    ";",
    "\n",
    "\r\n",
    "\t",
    "\u00a0",
    "\u2011",
    "\0",
    " - ",
    ") ",
    "|",
]
UNPRINTED = ["\u200b", "\u200d", "\u2060", "\ufeff", "\u0301", "\ufe0f\u20e3", "\u3164", "\u202e", "\u0332"]

numbers = st.from_regex(r"\A[1-9][0-9]{6,14}\Z")
separators = st.sampled_from(SEPARATORS)
letters = st.text(st.characters(categories=["L"], max_codepoint=0xFFFF), max_size=6)

Write = Callable[[str], str]

FORMS: dict[str, Write] = {  # a national number of ten digits, as the sweep's forms that are text write it
    "digits": str,
    "e164": lambda n: f"+1{n}",
    "international prefix": lambda n: f"0111{n}",
    "dashes": lambda n: f"{n[:3]}-{n[3:6]}-{n[6:]}",
    "brackets": lambda n: f"+1 ({n[:3]}) {n[3:6]}-{n[6:]}",
    "dots": lambda n: f"1.{n[:3]}.{n[3:6]}.{n[6:]}",
    "low lines": lambda n: f"{n[:3]}_{n[3:6]}_{n[6:]}",
    "slashes": lambda n: f"{n[:3]}/{n[3:6]}/{n[6:]}",
    "commas": lambda n: ",".join(n),
    "colons": lambda n: f"{n[:3]}:{n[3:6]}:{n[6:]}",
    "lines": lambda n: f"{n[:3]}\n{n[3:6]}\n{n[6:]}",
    "pairs": lambda n: " ".join(n[i : i + 2] for i in range(0, 10, 2)),
    "without area": lambda n: f"{n[3:6]}-{n[6:]}",
    "UTF-16 read as Latin-1": lambda n: n.encode("utf-16-le").decode("latin-1"),
    "url": lambda n: quote(f"+1{n}"),
    "url separated": lambda n: quote(f"({n[:3]}) {n[3:6]}-{n[6:]}", safe=""),
    "url dashes": lambda n: f"{n[:3]}%2D{n[3:6]}%2d{n[6:]}",
    "url every byte": lambda n: "".join(f"%{ord(c):02x}" for c in n),
    "url of another script": lambda n: quote(n.translate({48 + d: 0x660 + d for d in range(10)})),
    "json": lambda n: "".join(f"\\u{ord(c):04x}" for c in n),
    "json separated": lambda n: f"{n[:3]}\\u002d{n[3:6]}\\u002D{n[6:]}",
    "python": lambda n: "".join(f"\\x{ord(c):02x}" for c in n),
    "html": lambda n: "".join(f"&#{ord(c)};" for c in n),
    "html in hex": lambda n: "".join(f"&#x{ord(c):x};" for c in n),
    "html separated": lambda n: f"{n[:3]}&nbsp;{n[3:6]}&nbsp;{n[6:]}",
    "fullwidth": lambda n: n.translate({48 + d: 0xFF10 + d for d in range(10)}),
    "raised": lambda n: n.translate(dict(zip(range(48, 58), map(ord, "⁰¹²³⁴⁵⁶⁷⁸⁹"), strict=True))),
    "circled": lambda n: n.translate(dict(zip(range(48, 58), map(ord, "⓪①②③④⑤⑥⑦⑧⑨"), strict=True))),
    "negative circled": lambda n: n.translate(dict(zip(range(48, 58), map(ord, "⓿❶❷❸❹❺❻❼❽❾"), strict=True))),
    "full stops": lambda n: n.translate({48 + d: 0x2487 + d for d in range(1, 10)}),
    "keycaps": lambda n: "".join(f"{c}\ufe0f\u20e3" for c in n),
    "zero width": lambda n: "\u200b\u200c\u200d\u2060".join(n),
    "underlined": lambda n: "".join(f"{c}\u0332\u0332\u0332\u0332" for c in n),
}

NO_NUMBERS = [
    *("", "CASE-1", "case A", "INC001234", "ticket 7", "notice 2026-11", "file 17 of 20", "551234x", "v3.12.4"),
    *("0.10.2+cu118", "acct-0001", "acc_03.log", "east-01-02-03", "10,000 rows", "555    0178", "10.0.0.1"),
    *("2026-03-05", "2026/03/05", "2026.03.05", "2026_03_05", "31.12.2026", "12/31/2026", "12/31/2026 14:00"),
    *("2026-03-05T14:00:59Z", "2026-03-05 14:00:59.123456+00:00", "2026-03-05_14-00-59", "20260305T1400"),
    *("20260305T14", "20260305T14:00:59Z", "cdr_20260305T14.csv", "2026-03-05T14", "2026-03-05 1400"),
    *("20260305T140059.123Z", "2026-03-05 to 2026-04-04", "2026-03-05/2026-04-04", "cdr_2026-03-05_001.csv"),
    *("14:00:59", "14:00:59.123456", "08:00-17:30", "from 2026-03-05 08:00 until 2026-03-05 17:30"),
    "6f1c7a52-0c3e-4b7e-9a51-0123456789ab",
    "cdr-6F1C7A52-1234-4567-8901-012345678901.csv",
    *(hashlib.new(kind, b"x").hexdigest() for kind in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")),
]  # fmt: skip

NUMBERS = [
    *("+44 20 7946 0958", "case5550178", "719_555_0178", "719/555/0178", "01 23 45 67 89", "17195550178"),
    *("20201231", "20201231.csv", "Master-20260305-04.csv", "CASE-2026-001234", "INC0012345", "1700000000.123"),
    *("(719) 555-0178", "(020) - 7946 - 0958", "5550178", "555-0178", "call7195550178now", "é5550178", "七5550178"),
    *("face7195550178", "7195550178aaaaaaaaaaaaaaaaaaaaaa", "71955501787195550178719555017871", "719-555-2026-13-05"),
    *("2026-03-05 5550178", "20260305140059", "20260305T14:5550178", "01:23:45:67:89", "192.168.100.200"),
    *("17195550-1780-4000-8000-000000000000", "+2026-03-05", "1\u00bd\u00bd\u00bd\u00bd\u00bd\u00bd", "2019-2020"),
]  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_recognized(text: str) -> None:
    assert looks_like_number(text)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_passes_as_it_is(text: str) -> None:
    assert not looks_like_number(text)
    assert mask(text) == text


@given(st.uuids(), st.sampled_from(["{}", "{}.csv", "cdr-{}", "east/{}.csv.gz", "{}_2026-03-05_01"]))
def test_uuids_in_names_pass_as_they_are(uuid: UUID, around: str) -> None:
    assert mask(around.format(uuid)) == around.format(uuid)


@given(st.binary(max_size=20), st.sampled_from(["sha1", "sha256", "sha512", "blake2b"]))
def test_hashes_pass_as_they_are(data: bytes, kind: str) -> None:
    digest = hashlib.new(kind, data).hexdigest()
    assert mask(f"{kind}:{digest}.sig") == f"{kind}:{digest}.sig"


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2099, 1, 1)))
def test_times_with_separators_or_a_t_pass_as_they_are(when: datetime) -> None:
    for text in (f"{when:%Y-%m-%d}", when.isoformat(), str(when), f"{when:%Y%m%dT%H%M%SZ}", f"{when:%d.%m.%Y %H:%M}"):
        assert mask(text) == text


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2099, 1, 1)))
def test_bare_dates_are_numbers(when: datetime) -> None:
    assert mask(f"cdr{when:%Y%m%d}.csv") == "cdr########.csv"


@pytest.mark.parametrize("form", FORMS)
@given(national=st.from_regex(r"\A[2-9][0-9]{2}[2-9][0-9]{6}\Z"), before=letters, after=letters)
@tries(10)
def test_every_form_that_the_sweep_knows_is_masked_and_refused(
    form: str, national: str, before: str, after: str
) -> None:
    written = FORMS[form](national)
    text = f"{before}{written}{after}" if "\\" not in written else written
    with pytest.raises(UsageProblem) as refused:
        refuse_number("--case", text)
    _assert_without(str(refused.value), national)
    masked = mask(text)
    assert len(masked) == len(text)
    assert not looks_like_number(masked)
    _assert_without(html.unescape(masked), national)


def _assert_without(text: str, number: str) -> None:
    folded = "".join(str(unicodedata.digit(c, "")) for c in unicodedata.normalize("NFKC", text))
    assert number not in folded and number[3:] not in folded


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(ZEROS)), min_size=7, max_size=15))
def test_digits_of_every_script_are_digits(digits: list[tuple[int, str]]) -> None:
    text = "".join(chr(ord(zero) + digit) for digit, zero in digits)
    assert mask(f"case{text}x") == f"case{'#' * len(digits)}x"


@given(numbers, st.data())
def test_digits_over_up_to_three_others_that_are_no_letters_are_a_number(number: str, data: st.DataObject) -> None:
    no_letter = st.characters(exclude_categories=["L", "N", "Cs"]).filter(_stays_no_letter)
    text = "".join(digit + data.draw(st.text(no_letter, max_size=3)) for digit in f"{number}7")
    if not _is_no_number(text):
        assert not any(char.isdecimal() for char in mask(text))


def _stays_no_letter(char: str) -> bool:
    """Return whether a character is none once it is folded, as a radical that stands for a letter is one."""
    return not any(unicodedata.category(folded)[0] in "LN" for folded in unicodedata.normalize("NFKC", char))


def _is_no_number(text: str) -> bool:
    """Return whether separators that were drawn made a date or a time."""
    return any(mark in text for mark in ":-/._ ") and text[:2] in ("19", "20")


@given(st.text(), numbers, st.text())
def test_masking_keeps_the_length_and_is_done_once(before: str, number: str, after: str) -> None:
    masked = mask(before + number + after)
    assert len(masked) == len(before + number + after)
    assert mask(masked) == masked


@pytest.mark.parametrize("hidden", UNPRINTED)
def test_characters_that_print_nothing_do_not_save_a_number(hidden: str) -> None:
    assert looks_like_number((hidden * 5).join(NATIONAL))


# -- words that are recorded -------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_recorded_words_are_the_same_when_they_are_read_again(text: str) -> None:
    try:
        words = recorded("--case", text)
    except UsageProblem:
        return
    assert recorded("--case", words) == words == words.strip()


@pytest.mark.parametrize(
    ("text", "words"),
    [(" case A ", "case A"), ("\u3000", ""), (" ", ""), ("ｃａｓｅ\u00a0Ａ", "case A"), ("\n\t case A\r\n", "case A")],
)
def test_recorded_words_are_normalised(text: str, words: str) -> None:
    assert recorded("--case", text) == words


@pytest.mark.parametrize("text", ["a\nb", "x" * 101, "a\x1b[31mb", "a\u202eb", "a\u200bb", "\ufdfa" * 20, *NUMBERS])
def test_words_that_cannot_be_recorded_are_refused(text: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        recorded("--case", text)
    assert text not in str(refused.value)
