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


ROLE_CASES = [
    # called, role numbers, what comes of it
    ("+13035550102", {"rated_raw": "3035550102"}, {"rated_number": None, "destination": "US"}),
    ("+13035550102", {"rated_raw": "+17205550103"}, {"rated_number": "+17205550103", "called_number": "+13035550102"}),
    ("70", {"rated_raw": "+442079460123"}, {"called_number": "70", "destination": "GB", "called_prefix": "+44"}),
    ("70", {"rated_raw": "71"}, {"destination": "extension", "called_prefix": None}),
    ("911", {"rated_raw": "+13035550104"}, {"destination": "emergency"}),
    ("8005550105", {"rated_raw": "+13035550104"}, {"destination": "toll_free", "jurisdiction": "unknown"}),
    # Jurisdiction: the asserted caller (else who called, of Colorado) against the LRN (else who was called).
    ("+13035550102", {}, {"jurisdiction": "intrastate"}),
    ("+13035550102", {"lrn_raw": "+12125550106"}, {"jurisdiction": "interstate", "lrn": "+12125550106"}),
    ("+12125550102", {"lrn_raw": "13035550106"}, {"jurisdiction": "intrastate", "lrn": "+13035550106"}),
    ("+13035550102", {"asserted_raw": '"A" <sip:+12125550107@192.0.2.7>'}, {"jurisdiction": "interstate"}),
    ("+13035550102", {"asserted_raw": "anonymous", "lrn_raw": "none"}, {"jurisdiction": "intrastate", "lrn": None}),
    ("70", {"rated_raw": "+12125550103"}, {"jurisdiction": "interstate"}),
    ("+13035550102", {"redirecting_raw": "7205550108"}, {"redirecting_number": "+17205550108"}),
    ("+13035550102", {"charge_raw": "<sip:7205550109@192.0.2.7>"}, {"charge_number": "+17205550109"}),
    ("+13035550102", {"oli": "62", "carrier_id": "+10288"}, {"oli": "62", "carrier_id": "0288"}),
    ("+13035550102", {"oli": "3035550110", "carrier_id": "3035550110"}, {"oli": None, "carrier_id": None}),
    ("+13035550102", {"charge_raw": "1.30356E+10"}, {"fault": "NUMBER"}),
]


def _with_roles(cases: list) -> pa.Table:
    rows = [{"calling_raw": "+13035550101", "called_raw": called, "line": 0, **said} for called, said, _ in cases]
    return pa.Table.from_pylist(rows, schema=PARSED)


def test_numbers_are_kept_by_their_role_and_say_where_a_call_belongs() -> None:
    for cases in (ROLE_CASES, *([case] for case in ROLE_CASES)):  # also where no other record has a role
        rows = normalize(_with_roles(cases), US).to_pylist()
        for row, (called, said, expected) in zip(rows, cases, strict=True):
            assert {name: row[name] for name in expected} == expected, (called, said)


def test_a_number_in_a_role_is_not_dialled_behind_an_outside_line() -> None:
    behind_nine = plan("US", outside_prefix="9")
    called, said = "93035550102", {"rated_raw": "9705550103", "lrn_raw": "9705550104"}
    row = normalize(_with_roles([(called, said, {})]), behind_nine).to_pylist()[0]
    assert (row["called_number"], row["rated_number"], row["lrn"]) == ("+13035550102", "+19705550103", "+19705550104")
