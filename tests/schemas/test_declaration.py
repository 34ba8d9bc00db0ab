"""What declarations promise: what is wrong in one is said in a sentence, and they say themselves what they read."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import causes
from schemas.cdr import DISPOSITIONS
from schemas.declaration import Shape, available, dropped, explain, load, sniff

ASTERISK = load("asterisk")


@pytest.mark.parametrize("name", available())
def test_every_declaration_loads_under_its_own_name_and_explains_itself(name: str) -> None:
    declaration = load(name)
    assert declaration.name == name
    rows = explain(declaration)
    fields = {row.field for row in rows}
    assert {"identity", "calling_raw", "called_raw", "start_time"} <= fields
    assert rows[-1].unit == "dropped"


@pytest.mark.parametrize("name", available())
def test_no_column_is_both_read_and_dropped(name: str) -> None:
    declaration = load(name)
    assert not declaration.columns() & set(dropped(declaration))


def test_free_text_of_an_asterisk_record_is_dropped() -> None:
    assert {"clid", "userfield"} <= set(dropped(ASTERISK))
    kept = {
        "PJSIP/+13035550101@carrier,30,Tt": "+13035550101",
        "SIP/carrier/13035550101": "13035550101",
        "SIP/2nd-carrier/13035550101,60": "13035550101",
        "SIP/13035550100/13035550101": "13035550101",
        "SIP/1001&SIP/1002": None,
        "Jane Doe 5550101": None,
    }
    text = pa.array(list(kept))
    found = [
        pc.struct_field(pc.extract_regex(text, pattern=dialled.pattern), "value")
        for dialled in ASTERISK.fields["rated_raw"]
    ]
    assert pc.coalesce(*found).to_pylist() == list(kept.values())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"fields": {"colour": "src"}}, "colour"),
        ({"fields": {"start_time": "start"}}, "start_time needs `time`"),
        ({"fields": {"direction": {"column": "dcontext", "map": {"x": "sideways"}}}}, "sideways"),
        ({"fields": {"calling_raw": "scr"}}, "scr"),
        ({"fields": {"calling_raw": {"column": "src", "pattern": "("}}}, "regular expression"),
        ({"fields": {"calling_raw": {"column": "src", "pattern": "(?P<value>a)(?=b)"}}}, "regular expression"),
        ({"fields": {"calling_raw": {"column": "src", "pattern": "a"}}}, "value"),
        ({"fields": {"calling_raw": {"column": "src", "decode": "magic"}}}, "magic"),
        ({"file": {"delimiter": "||"}}, "delimiter"),
        ({"file": {"encoding": "klingon"}}, "klingon"),
        ({"filters": [{"code": "WHIM", "when": {"src": ["x"]}}]}, "filters"),
        ({"pieces": {"rules": [{"kind": "filter"}]}}, "filter"),
        ({"shapes": [{"name": "a", "columns": ["b"], "match": {"c": "d"}}]}, "match"),
        ({"surprise": 1}, "surprise"),
        ({"format_version": 2}, "format_version"),
    ],
)
def test_a_wrong_declaration_is_said_in_one_sentence(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=r"asterisk\.toml") as raised:
        load("asterisk", overrides)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="freeswitch_json"):
        load("asterix")


def test_a_users_file_may_extend_another_and_settings_are_laid_over_both(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('extends = "generic_csv"\nformat_version = 1\nname = "mine"\n[fields]\ncalling_raw = "A-Nummer"\n')
    declaration = load(own, {"file": {"delimiter": ";"}})
    assert declaration.fields["calling_raw"][0].column == ("A-Nummer",)
    assert declaration.fields["called_raw"] == load("generic_csv").fields["called_raw"]
    assert declaration.file.delimiter == ";"


def test_a_declaration_that_extends_itself_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('extends = "mine.toml"\n')
    with pytest.raises(ValueError, match="extends itself"):
        load(own)


def test_what_is_no_toml_is_said(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_bytes(b"name = \xff")
    with pytest.raises(ValueError, match=r"mine\.toml is not TOML"):
        load(own)


# -- shapes ------------------------------------------------------------------------------------------------------------


def _line(columns: tuple[str, ...]) -> str:
    values = dict.fromkeys(columns, "x") | {
        "start": "2026-03-02 09:00:00",
        "answer": "2026-03-02 09:00:07",
        "uniqueid": "pbx-1772460000.42",
        "sequence": "7",
        "lastdata": "2026-ish, free text",
    }
    return ",".join(f'"{values[name]}"' for name in columns) + "\n"


@pytest.mark.parametrize("layout", ASTERISK.shapes, ids=lambda layout: layout.name)
def test_each_asterisk_shape_is_told_from_the_others(layout: object) -> None:
    columns = layout.columns  # type: ignore[attr-defined]
    shape = sniff((_line(columns) * 3).encode(), ASTERISK)
    assert (shape.variant, shape.columns) == (layout.name, columns)  # type: ignore[attr-defined]


@given(st.binary(max_size=300), st.sampled_from(available()))
def test_sniff_takes_any_bytes_and_its_shape_survives_json(head: bytes, name: str) -> None:
    shape = sniff(head, load(name))
    assert Shape.from_json(shape.to_json()) == shape
    assert 0 <= shape.header_lines <= head.count(b"\n") + 1


def test_a_header_is_known_whatever_its_case_blanks_mark_and_line_ends() -> None:
    head = b'\xef\xbb\xbf Record_ID ,"CALLING_NUMBER",Odd One\r\n1,2,3\r\n'
    shape = sniff(head, load("generic_csv"))
    assert shape == Shape("header", ("record_id", "calling_number", "Odd One"), 1)


@pytest.mark.parametrize(("names", "types", "expected"), [(1, 1, 2), (1, 0, 1), (0, 1, 1), (0, 0, 0)])
def test_cucm_header_lines_are_counted_where_they_are(names: int, types: int, expected: int) -> None:
    declaration = load("cucm")
    columns = declaration.shapes[0].columns[:112]
    data = ",".join("1" if name == "cdrRecordType" else "" for name in columns) + "\n"
    head = ",".join(columns) + "\n" if names else ""
    head += ",".join("INTEGER" for _ in columns) + "\n" if types else ""
    shape = sniff((head + data).encode(), declaration)
    assert shape.header_lines == expected
    assert shape.columns == columns


# -- causes ------------------------------------------------------------------------------------------------------------


def test_every_cause_has_one_disposition() -> None:
    words = {*DISPOSITIONS, *causes.UNDECIDED} - {"answered"}
    assert {causes.q850_disposition(str(cause)) for cause in range(128)} <= words
    assert {causes.sip_disposition(str(status)) for status in range(200, 700)} <= words
    assert {causes.name_disposition(name) for name in causes.Q850_NAMES | causes.OWN_NAMES} <= words


def test_no_cause_says_answered() -> None:
    assert causes.q850_disposition("16") == causes.CANCELLED
    assert causes.sip_disposition("200") == "unknown"
    assert causes.name_disposition("NORMAL_CLEARING") == causes.CANCELLED


@pytest.mark.parametrize(
    ("value", "q850", "sip"),
    [
        ("16", 16, None),
        ("1459617833", 41, 503),  # the fixture of formats.md, 1.3
        (str(1459617833 - 2**32), 41, 503),
        ("393216", None, None),
        ("129", None, None),
        ("83886081", 1, 404),
        ("1073741842", 18, 480),
        ("1174405137", 17, 486),
        ("2717909013", 21, 603),
        ("", None, None),
        ("sixteen", None, None),
        ("9" * 40, None, None),
    ],
)
def test_cucm_cause_values(value: str, q850: int | None, sip: int | None) -> None:
    unsigned = {str(1459617833 - 2**32): "1459617833"}.get(value, value)
    assert (causes.cucm_q850(unsigned), causes.cucm_sip(unsigned)) == (q850, sip)
    assert (causes.cucm_q850(value), causes.cucm_sip(value)) == (q850, sip)


@given(st.text(max_size=30))
def test_decoders_take_any_text(text: str) -> None:
    for decoder in (causes.CAUSE_DECODERS | causes.DISPOSITION_DECODERS).values():
        decoder(text)


def test_cause_tables_of_another_project_agree() -> None:
    folder = Path(__file__).parents[3] / "shared" / "samples" / "reference_tables"
    if not folder.is_dir():
        pytest.skip("the sample files of other projects are not beside this checkout")
    rows = json.loads((folder / "cdrstats_hangup_cause.json").read_text())
    named = {r["fields"]["enumeration"].strip(): r["fields"]["code"] for r in rows if r["fields"]["code"] < 128}
    named.pop("", None)
    assert {name: causes.q850_name(name) for name in named} == named
    own = {r["fields"]["enumeration"].strip() for r in rows if r["fields"]["code"] >= 128}
    assert own <= set(causes.OWN_NAMES)
    cucm = json.loads((folder / "cucm_termination_cause_codes.json").read_text())
    for value, name in cucm.items():
        digits = [part for part in name.split("_") if part.isdecimal()]
        if name.startswith("CCM_SIP") and value != "83886207":  # 420, listed under the top byte of 404
            assert causes.cucm_sip(value) == int(digits[0])
        assert (causes.cucm_q850(value) is not None) == (int(value) <= 127 or int(value) >= 1 << 24)


def test_declared_order_of_cisco_columns_is_that_of_its_files() -> None:
    folder = Path(__file__).parents[3] / "shared" / "samples" / "cucm"
    if not folder.is_dir():
        pytest.skip("the sample files of other projects are not beside this checkout")
    shapes = load("cucm").shapes
    for name, layout in (("cucm12_cdr_lab.txt", shapes[0]), ("cucm12_cmr_lab.txt", shapes[1])):
        with (folder / name).open(newline="") as file:
            assert tuple(next(csv.reader(file))) == layout.columns
