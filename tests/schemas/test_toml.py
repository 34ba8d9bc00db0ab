"""TOML that people write is read; what would take all time or memory is refused before it is parsed, and what is said
of TOML that cannot be read quotes nothing that stands in it."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import UsageProblem
from callward.release import declaration as release_declaration
from callward.release import domains
from callward.retention.policy import policy_file
from callward.retention.requests import hotlines
from schemas import declaration, toml
from tests.commands import run

ROOT = Path(__file__).resolve().parents[2]
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


# -- within limits -----------------------------------------------------------------------------------------------------

DEEP = "a" + ".a" * 200_000
BOMBS = {
    "key": f"{DEEP} = 1",
    "key with blanks": "a" + " . a" * 200_000 + " = 1",
    "key in quotes": '"a"' + ".'a'" * 200_000 + " = 1",
    "table": f"[{DEEP}]",
    "list of tables": f"[[{DEEP}]]",
    "key behind a text": f'x = {{ t = """a"""", {DEEP} = 1 }}',
    "lists": "x = " + "[" * 1_000_000,
    "tables": "x = " + "{a=" * 1_000_000,
    "lists behind a text": 'x = [ """]""""" , ' + "[" * 1_000_000,
    "digits": "x = " + "9" * 5_000,
    "hexadecimal digits": "x = 0x" + "f" * 1_000_000,
    "quotes": "x = " + '\\"' * 100_000,
    "text without an end": 'x = """' + '\\"' * 100_000,
    "size": "#" * (toml.LARGEST + 1),
    "not text": "x = \udcff",
}
FAULTS = "\n".join(f"k{n} = 1" for n in range(20_000))


def written(text: str, folder: Path, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    return path


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(toml.NotToml) as refused:
        toml.decode(BOMBS[name].encode(errors="surrogateescape"))
    assert len(str(refused.value)) < 200 and "\n" not in str(refused.value)


READERS: dict[str, Callable[[Path], Any]] = {
    "declaration": declaration.load,
    "policy": lambda path: policy_file.load(path, "default"),
    "hotlines": hotlines.read,
    "release": release_declaration.load,
    "domain": lambda path: domains.load(path.name, path.parent),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["key", "digits", "size", "not text", "faults"])
def test_every_reader_refuses_it_in_a_few_lines(reader: str, name: str, tmp_path: Path) -> None:
    path = written(BOMBS.get(name, FAULTS), tmp_path)
    with pytest.raises((ValueError, UsageProblem), match=r"mine\.toml") as refused:
        READERS[reader](path)
    assert len(str(refused.value)) < 5_000


@pytest.mark.parametrize("name", ["table", "faults"])
def test_settings_that_are_a_bomb_are_wrong_usage(name: str, tmp_path: Path) -> None:
    written(BOMBS.get(name, FAULTS), tmp_path, "callward.toml")
    ended = run("nightly", "--config", str(tmp_path)).check_clean()
    assert ended.code == 2 and len(ended.sentences) <= toml.FAULTS


def test_what_people_write_is_read_as_the_standard_library_reads_it() -> None:
    files = sorted(ROOT.glob("[cdps]*/**/*.toml"))
    assert len(files) > 10
    for path in files:
        assert toml.decode(toml.read(path)) == tomllib.loads(path.read_text(encoding="utf-8"))


TEXTS = ["'[[['", '"{{{"', '"""[\n["""', '"""a"""""', "'''{''''", '"\\"["', "1", "[1, [2]]", "{ a.b = 3 }", "1.5"]


COMMENTS = ["", " # " + "[" * 20, " # a.b" * 9]


@given(values=st.lists(st.sampled_from(TEXTS), max_size=6), comment=st.sampled_from(COMMENTS))
def test_brackets_and_dots_within_texts_and_comments_do_not_count(values: list[str], comment: str) -> None:
    text = "\n".join(f"k{n}.'v.w.x' = {value}{comment}" for n, value in enumerate(values))
    assert toml.parse(text) == tomllib.loads(text)
