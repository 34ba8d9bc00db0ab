"""What Misfits promises: a file of the format is none, and of no other file a record vanishes without a word."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given

from callward.parsing.looks import packed_or_foreign
from callward.parsing.misfits import misfit
from callward.parsing.records import records
from callward.parsing.text import rewritten, text_form
from schemas.declaration import Declaration, available, load, sniff
from tests.examples import tries
from tests.mutations import FEEDS, FILES, mutated_files
from transforms.parse import parse


def _rows(data: bytes, declaration: Declaration) -> int | None:
    """Return how many rows a file becomes, as a night reads it; None where it is left alone."""
    form = text_form(data, declaration.file)
    text = rewritten(io.BytesIO(data), form).read() if form else data
    shape = sniff(text, declaration)
    if packed_or_foreign(data) or misfit(text, declaration, shape):
        return None
    body = text
    for _ in range(shape.header_lines):
        body = body.partition(b"\n")[2]
    cut = records(body, declaration)
    table = parse(cut, declaration, shape, "UTC")
    assert table["raw"].to_pylist() == cut.to_pylist()
    return table.num_rows


@tries(60, suppress_health_check=list(HealthCheck))
@given(mutated_files())
def test_a_file_that_is_taken_gives_a_row_or_is_but_names_and_line_ends(mutated: tuple[Path, bytes]) -> None:
    path, data = mutated
    declaration = load(path.parent.name)
    if _rows(data, declaration) == 0:
        text = data.decode("utf-16" if data[:2] == b"\xff\xfe" else "utf-8", "replace").strip("\ufeff\r\n")
        filled = [line for line in text.splitlines() if line.strip(" \0")]  # of UTF-16 half a line end is left
        assert len(filled) <= 2 and not any(" 2026" in line or ",2026" in line for line in filled)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_of_its_own_format_is_no_misfit(path: Path) -> None:
    declaration, data = load(path.parent.name), path.read_bytes()
    assert misfit(data, declaration, sniff(data, declaration)) is None


@pytest.mark.parametrize("format_name", sorted(set(available()) - {"acc_flatstore"}))
def test_a_file_of_another_format_says_what_it_holds(format_name: str) -> None:
    declaration = load(format_name)
    alien = [path for path in FEEDS if path.parent.name != format_name]
    for path in alien:
        other = load(path.parent.name).file
        if other.kind != declaration.file.kind:
            data = path.read_bytes()
            assert misfit(data, declaration, sniff(data, declaration)), path.name


def test_nothing_of_the_content_is_quoted() -> None:
    secret = "3035550101"
    declaration = load("generic_csv")
    for data in (f"{secret},x\n1,2\n", f"{secret};x\n{secret};y\n", f"start;to\n{secret};x\n", f'{{"{secret}": 1}}\n'):
        found = misfit(data.encode(), declaration, sniff(data.encode(), declaration))
        assert found and secret not in found


@pytest.mark.parametrize("begin", ["ORCHID", "PARENT", "PAR1", "BZhou", "RIFF", "Rar!", "GIF8", "7z", "PK"])
def test_a_text_may_begin_as_a_binary_format_does(begin: str) -> None:
    data = f"{begin},start,from,to,talk_s\n1,2026-03-05 10:00:00,3035550101,2125550102,30\n".encode()
    declaration = load("generic_csv")
    assert packed_or_foreign(data) is None
    assert misfit(data, declaration, sniff(data, declaration)) is None


def test_lines_of_json_may_be_wrong_one_by_one() -> None:
    declaration = load("generic_jsonl")
    data = b'{"a": \n' + json.dumps({"id": "1"}).encode() + b"\n"
    assert misfit(data, declaration, sniff(data, declaration)) is None
    assert misfit(b'{\n"id": 1\n}\n', declaration, sniff(data, declaration))
