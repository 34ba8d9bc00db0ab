"""What is said of TOML that cannot be read quotes nothing that stands in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import toml

NUMBER = "7195550142"
BROKEN = [
    "a = {n}x",
    "a = \x01{n}",
    "[sources.x{n}]\n[sources.x{n}]",
    '"+{n}" = 1\n"+{n}" = 2',
    "a = {{ x{n} = 1, x{n} = 2 }}",
    'a = "\\{n}"',
    'a = "{n}',
    "{n}",
    "[a]\nb = 1\n[a.b.n{n}]",
    "a = [{n}, ",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_wrong_is_said_by_its_place_alone(broken: str) -> None:
    sentences = set()
    for number in (NUMBER, NUMBER[::-1]):
        with pytest.raises(toml.NotToml, match=r"^not TOML") as refused:
            toml.parse(broken.format(n=number))
        sentences.add(str(refused.value))
        assert refused.value.__cause__ is None and refused.value.__suppress_context__
    assert len(sentences) == 1


@given(st.binary() | st.text(st.sampled_from("a=[]{}\"'.\n0123456789+")).map(str.encode))
def test_no_bytes_raise_anything_else_or_are_quoted(content: bytes) -> None:
    try:
        toml.decode(content)
    except toml.NotToml as error:
        assert not re.search(r"\d", re.sub(r"line \d+, column \d+|UTF-8", "", str(error)))


def test_the_parsers_own_words_and_the_place_are_said() -> None:
    with pytest.raises(toml.NotToml, match=re.escape("not TOML: Invalid value (line 2, column 5)")):
        toml.parse("a = 1\nb = x\n")
