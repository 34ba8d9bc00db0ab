"""Texts in other encodings, or with other line ends, become UTF-8 lines; what is no text spoils its line alone."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.parsing.records import records
from callward.parsing.text import TextForm, rewritten, text_form
from schemas.declaration import load, sniff
from tests.examples import tries

GENERIC, JSONL = load("generic_csv"), load("generic_jsonl")
# What a line may hold: anything printable. Its first character is ASCII, as that of a record is.
_LINES = st.lists(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='"'), min_size=1), min_size=2)
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030")


def _utf8(data: bytes, form: TextForm) -> bytes:
    return rewritten(io.BytesIO(data), form).read() if form else data


@tries(40)
@given(_LINES, st.sampled_from(_ENCODINGS), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_lines_are_the_same_in_every_encoding_and_line_end(lines: list[str], name: str, end: str, last: bool) -> None:
    lines = [f"x{line}" for line in lines]
    text = end.join(lines) + (end if last else "")
    data = (("\ufeff" if name == "gb18030" else "") + text).encode(name)
    form = text_form(data, GENERIC.file)
    assert [record.decode() for record in records(_utf8(data, form), GENERIC).to_pylist()] == lines


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(name: str) -> None:
    data = "start,from,to\n2026-03-05,3035550101,2125550102\n".encode(name)
    assert text_form(data, GENERIC.file) == TextForm(name)


@pytest.mark.parametrize("data", [b"", b"a", b"a,b\n1,2\n", b"a,b\r\n1,2\r\n", b"a\0,b\n", b"\xff", b"a\r"])
def test_other_texts_stay_as_they_are(data: bytes) -> None:
    assert not text_form(data, GENERIC.file)


def test_what_an_encoding_lacks_is_nul_in_its_line_alone() -> None:
    data = "a,b\n1,?\n2,c\n".encode("utf-16").replace(b"?\0", b"\0\xdc")
    assert _utf8(data, text_form(data, GENERIC.file)).split(b"\n") == [b"\xef\xbb\xbfa,b", b"1,\0", b"2,c", b""]


def test_a_return_within_quotes_or_between_words_of_json_ends_no_record() -> None:
    assert not text_form(b'a,"b\rc"\nd,e\n', GENERIC.file)
    assert not text_form(b'{"a":\r1}\n{"a": 2}\n', JSONL.file)
    assert records(b'{"a": 1}\r{"a": 2}\r', JSONL).to_pylist() == [b'{"a": 1}', b'{"a": 2}']


def test_a_mark_of_utf_8_stands_above_the_declared_encoding() -> None:
    latin = load("generic_csv", {"file": {"encoding": "latin-1"}})
    assert sniff("\ufeffname\n".encode(), latin).encoding == "utf-8"
    assert sniff(b"name\n", latin).encoding == ""


def test_a_form_is_known_again_by_its_words() -> None:
    for form in (TextForm(), TextForm("utf-16-le"), TextForm("", True), TextForm("utf-32-be", True)):
        assert TextForm.from_words(form.words()) == form
