"""Normalize: both numbers are filled from the raw ones, and everything else of a record stays."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from callward.numbering import jurisdiction, normalize_values, places, plan
from schemas.cdr import CDR, PARSED
from tests.examples import tries
from transforms.normalize import normalize

US = plan("US")
PLACE_COLUMNS = ("calling_prefix", "called_prefix", "destination", "jurisdiction")
FILLED = ("calling_number", "called_number", "calling_presentation", "calling_place")

raw_value = st.one_of(
    st.none(),
    st.sampled_from(["3035550101", "+13035550102", "anonymous", "", "911", "1001", "*72", "8005550101", "alice"]),
    st.sampled_from(["sip:+12125550101@example.com", "(720) 555-0101", "011442079460123", '"Bob" <1002>']),
    st.text(max_size=12),
)
presentation = st.sampled_from([None, "allowed", "restricted", "unavailable"])
records = st.lists(st.tuples(raw_value, raw_value, presentation), max_size=30)


def parsed(rows: list[tuple[str | None, str | None, str | None]]) -> pa.Table:
    """A table of schema PARSED with the raw numbers and presentations given, and something in the other columns."""
    columns = {field.name: pa.nulls(len(rows), field.type) for field in PARSED}
    columns["calling_raw"] = pa.array([row[0] for row in rows], pa.string())
    columns["called_raw"] = pa.array([row[1] for row in rows], pa.string())
    columns["calling_presentation"] = pa.array([row[2] for row in rows], pa.string())
    columns["line"] = pa.array(range(len(rows)), pa.int32())
    return pa.table(columns, schema=PARSED)


@tries(30)
@given(records)
def test_numbers_are_filled_from_the_raw_ones(rows: list) -> None:
    table = normalize(parsed(rows), US)
    for side in ("calling", "called"):
        expected = normalize_values(table[f"{side}_raw"].combine_chunks(), US)
        assert table[f"{side}_number"].combine_chunks().equals(expected.number)


@tries(30)
@given(records)
def test_everything_else_stays(rows: list) -> None:
    before = parsed(rows)
    after = normalize(before, US)
    assert after.select(PARSED.names).schema.equals(PARSED, check_metadata=True)
    assert after.drop_columns([*FILLED, *PLACE_COLUMNS]).equals(before.drop_columns(list(FILLED)))
    assert before.equals(parsed(rows))


@tries(30)
@given(records)
def test_a_declared_presentation_stays(rows: list) -> None:
    after = normalize(parsed(rows), US)["calling_presentation"].to_pylist()
    read = normalize_values(pa.array([row[0] for row in rows], pa.string()), US).presentation.to_pylist()
    assert after == [declared or said for (_, _, declared), said in zip(rows, read, strict=True)]


def test_presentation_of_a_record_without_a_caller_is_unknown() -> None:
    table = normalize(parsed([(None, "3035550101", None), ("anonymous", None, None), ("x", None, "allowed")]), US)
    assert table["calling_presentation"].to_pylist() == [None, "restricted", "allowed"]
    assert table["calling_number"].to_pylist() == [None, None, None]


@tries(30)
@given(records, st.integers(1, 7))
def test_chunks_make_no_difference(rows: list, size: int) -> None:
    whole = parsed(rows)
    pieces = pa.Table.from_batches(whole.to_batches(max_chunksize=size), PARSED)
    assert normalize(pieces, US).equals(normalize(whole, US))


@tries(30)
@given(records, st.integers(0, 30), st.integers(0, 30))
def test_a_record_is_the_same_in_any_batch(rows: list, start: int, length: int) -> None:
    whole = normalize(parsed(rows), US).slice(start, length)
    assert normalize(parsed(rows).slice(start, length), US).to_pylist() == whole.to_pylist()


@tries(30)
@given(records)
def test_normalizing_again_changes_nothing(rows: list) -> None:
    once = normalize(parsed(rows), US)
    assert normalize(once, US).equals(once)


@tries(30)
@given(records)
def test_places_are_those_of_the_numbers(rows: list) -> None:
    table = normalize(parsed(rows), US)
    calling, called = (places(table[f"{side}_number"].combine_chunks(), US) for side in ("calling", "called"))
    assert table["calling_prefix"].to_pylist() == calling.prefix.to_pylist()
    assert table["called_prefix"].to_pylist() == called.prefix.to_pylist()
    assert table["destination"].to_pylist() == called.destination.to_pylist()
    assert table["jurisdiction"].to_pylist() == jurisdiction(calling.zone, called.zone, "US").to_pylist()


def test_an_empty_table_gets_its_columns() -> None:
    table = normalize(pa.Table.from_batches([], PARSED), US)
    assert table.num_rows == 0
    assert table.schema.field("called_number") == PARSED.field("called_number")
    assert [table.schema.field(name) for name in PLACE_COLUMNS] == [CDR.field(name) for name in PLACE_COLUMNS]


def test_the_plan_is_the_sources() -> None:
    rows = [("02079460123", "0013035550101", None)]
    table = normalize(parsed(rows), plan("GB"))
    found = {name: table[name].to_pylist()[0] for name in ("calling_number", "called_number", *PLACE_COLUMNS)}
    assert found == {
        "calling_number": "+442079460123",
        "called_number": "+13035550101",
        "calling_prefix": "+44",
        "called_prefix": "+1303",
        "destination": "US",
        "jurisdiction": "international",
    }
