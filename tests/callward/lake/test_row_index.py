"""The row index: every committed record is found at its place, no other is, and ids are compared to the last bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from callward.keys import tokens
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.lake.row_index import _first
from schemas.views import ID_COLUMN, INDEX, VIEW_BITS
from tests.examples import tries

_WORDS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)))


@given(stored=_WORDS, asked=_WORDS)
@tries(100)
def test_an_id_is_found_where_it_first_stands_and_no_other_is(
    stored: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    """Ids that are equal in one half are told apart by the other."""
    ordered = sorted(stored)
    words, ids = (np.array(pairs, np.uint64).reshape(-1, 2) for pairs in (ordered, asked))
    assert _first(words, ids).tolist() == [ordered.index(one) if one in ordered else -1 for one in asked]


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    """A lake that a night made: 50 attempts that were not answered, 30 calls, and each tenth record twice."""
    made = workspace("opensips")
    lines = [_line(n) for n in [*range(50), *range(0, 50, 10)]]
    made.land("opensips", "a", "".join(lines).encode())
    made.night()
    return made


def _line(n: int) -> str:
    return f"INVITE|f{n}|t{n}|c{n}|486|Busy Here|{1_772_712_000 + n}|x|13035550101|13035550102||1:1\n"


def test_each_record_is_found_in_the_index_and_from_there_in_its_views(site: Any) -> None:
    files = DataFiles(site.opened, "test")
    (file,) = site.data_files(INDEX)
    records = row_index.rows(files, "default", file.part, ["record_id", "parts"])
    assert records.num_rows == 50
    days = pa.array([file.first_start.date()] * 50, pa.date32())
    (located,) = row_index.locate(files, [file], records["record_id"], days)
    ids = files.ids(file)
    assert np.array_equal(ids[located.position], tokens.as_u64(records["record_id"].combine_chunks())[located.asked])
    for view, bit in VIEW_BITS.items():
        held = [record for record in records.to_pylist() if record["parts"] & bit]
        assert sum(stored.rows for stored in site.data_files(view)) == len(held)
        for stored in site.data_files(view):
            name = ID_COLUMN[stored.view]
            secret = files.workspace.keyring.key(row_index.id_key(stored.view, "default", file.part[:7])).secret
            column = files.rows(stored, [name])[name].combine_chunks()
            theirs = tokens.unpermute(column, secret)
            places = row_index.places(files, stored, records["record_id"])
            assert records["record_id"].take(pa.array(places)).to_pylist() == theirs.to_pylist()


def test_what_the_lake_does_not_have_is_not_found(site: Any) -> None:
    files = DataFiles(site.opened, "test")
    (file,) = site.data_files(INDEX)
    strangers = pa.array([bytes([n] * 16) for n in range(200)], tokens.ID_TYPE)
    days = pa.array([file.first_start.date()] * 200, pa.date32())
    assert list(row_index.locate(files, [file], strangers, days)) == []
    known = row_index.rows(files, "default", file.part, ["record_id"])["record_id"]
    other_day = pa.array([file.first_start.date().replace(day=1)] * 50, pa.date32())
    assert list(row_index.locate(files, [file], known, other_day)) == []
    for view in VIEW_BITS:
        for stored in site.data_files(view):
            assert (row_index.places(files, stored, strangers) == -1).all()


def test_the_index_names_where_every_record_came_from_also_those_without_a_row(site: Any) -> None:
    files = DataFiles(site.opened, "test")
    (file,) = site.data_files(INDEX)
    rows = files.rows(file)
    places = list(zip(*(rows[name].to_pylist() for name in ("file_no", "block", "line")), strict=True))
    assert len(set(places)) == len(places) == 55
    states = rows["state"].to_pylist()
    assert states.count("accepted") == 50 and len(set(rows["record_id"].to_pylist())) == 50
    assert sum(files.inputs(file).values()) == 55


def test_a_file_of_the_index_that_is_lost_or_altered_is_named_and_one_that_was_replaced_is_asked_for_again(
    site: Any,
) -> None:
    (file,) = site.data_files(INDEX)
    known = row_index.rows(DataFiles(site.opened, "test"), "default", file.part, ["record_id"])["record_id"]
    days = pa.array([file.first_start.date()] * len(known), pa.date32())

    def ask(asked: DataFile) -> None:
        list(row_index.locate(DataFiles(site.opened, "test"), [asked], known, days))

    path = DataFiles(site.opened, "test").path(file)
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(Problem, match=f"row index file {file.file_id} of {file.part} was altered or cut short"):
            ask(file)
        path.unlink()
        with pytest.raises(Problem, match=f"row index file {file.file_id} of {file.part} is not in the lake"):
            ask(file)
        with pytest.raises(FileNotFoundError):
            ask(replace(file, file_id="replaced", path=file.path + ".gone"))
    finally:
        path.write_bytes(whole)


def test_a_night_that_meets_a_lost_file_of_the_index_says_which_and_goes_on_once_it_is_back(site: Any) -> None:
    (file,) = site.data_files(INDEX)
    path = DataFiles(site.opened, "test").path(file)
    whole = path.read_bytes()
    path.unlink()
    site.land("opensips", "more", "".join(_line(n) for n in range(50, 100)).encode())
    with pytest.raises(Problem) as said:
        site.night()
    next_step = "put it back from a backup, or 'callward rebuild --index' makes it again"
    assert str(said.value) == f"row index file {file.file_id} of {file.part} is not in the lake; {next_step}"
    path.write_bytes(whole)
    site.night()
    assert sum(row.rows for row in site.data_files("assurance")) == 100 and site.unbalanced() == {}
