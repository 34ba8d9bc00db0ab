"""What Parse promises for any bytes: a row per record, no exception, and the same reading whatever lies beside."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import strategies as st

from callward.parsing.raw_columns import LONGEST_RECORD
from callward.parsing.records import record_end, records
from schemas.cdr import BY_ROLE_RAW, DISPOSITIONS, PARSED, PIECES
from schemas.codes import Filter, Suspense
from schemas.declaration import Declaration, Shape, available, load, sniff
from tests.examples import tries
from transforms.parse import parse
from transforms.validate import validate

GOLDEN = Path(__file__).parents[1] / "golden"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
NOW_MS = 1_796_083_200_000
NEW_YORK = "America/New_York"
LONG = tries(40, suppress_health_check=list(HealthCheck))
MUTABLE = sorted(
    path
    for name in available()
    for path in (GOLDEN / name).iterdir()
    if path.name != "case.json" and not path.name.endswith((".rows.jsonl", ".suspense.jsonl"))
)


def _after_header(data: bytes, shape: Shape) -> bytes:
    return b"".join(data.splitlines(keepends=True)[shape.header_lines :])


def _parsed(data: bytes, name: str, zone: str = "UTC", **overrides: object) -> pa.Table:
    declaration = load(name, overrides)
    shape = sniff(data, declaration)
    return parse(records(_after_header(data, shape), declaration), declaration, shape, zone)


@st.composite
def _mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A golden file with bytes deleted, inserted, replaced or cut off."""
    path = draw(st.sampled_from(MUTABLE))
    data = path.read_bytes()
    noise = st.sampled_from(
        [b"\0", b"\r", b"\n", b'"', b",", b"|", b"\xff", b"\\", b"{", b"}", b"[", b";", b'","', b""]
    )
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 1, 3, 40]))
        data = data[:at] + draw(noise | st.binary(max_size=4)) + data[at + length :]
    if draw(st.integers(0, 4)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return path.parent.name, data


@LONG
@given(_mutated())
@example(("freepbx_web", b"calldate,src,src\n2026-03-02 09:00:00,5035550101,15035550123\n"))
def test_any_bytes_give_a_row_per_record_and_known_codes(mutated: tuple[str, bytes]) -> None:
    name, data = mutated
    declaration = load(name)
    shape = sniff(data, declaration)
    found = records(_after_header(data, shape), declaration)
    table = validate(parse(found, declaration, shape, NEW_YORK), NOW_MS)
    assert table.schema == PARSED
    assert table["raw"].to_pylist() == found.to_pylist()
    assert table["line"].to_pylist() == list(range(len(found)))
    for row in table.select(["fault", "filter", "piece", "disposition"]).to_pylist():
        assert row["fault"] is None or row["fault"] in set(Suspense)
        assert row["filter"] is None or row["filter"] in set(Filter)
        assert not (row["fault"] and row["filter"])
        assert row["piece"] in (*PIECES, None)
        assert row["disposition"] in (*DISPOSITIONS, None)
        if row["fault"] is None and row["filter"] is None and row["piece"] in ("whole", "open"):
            assert row["disposition"] is not None


@LONG
@given(_mutated())
def test_a_record_reads_the_same_whatever_lies_beside_it(mutated: tuple[str, bytes]) -> None:
    name, data = mutated
    declaration = load(name)
    shape = sniff(data, declaration)
    assume(len(set(shape.columns)) == len(shape.columns))  # such a file stays in landing
    found = records(_after_header(data, shape), declaration)
    together = parse(found, declaration, shape, NEW_YORK).drop_columns("line").to_pylist()
    alone = [
        parse(found[i : i + 1], declaration, shape, NEW_YORK).drop_columns("line").to_pylist()
        for i in range(len(found))
    ]
    assert [[row] for row in together] == alone


@LONG
@given(_mutated(), st.integers(1, 400))
def test_blocks_cut_at_record_ends_hold_the_records_of_the_whole(mutated: tuple[str, bytes], size: int) -> None:
    name, data = mutated
    declaration = load(name)
    if declaration.file.records == "file":
        assert record_end(data, declaration) == -1
        return
    blocks, rest, wanted = [], data, size
    while rest:
        end = record_end(rest[:wanted], declaration)
        if end < 0 and wanted < len(rest):
            wanted *= 2
            continue
        blocks.append(rest[: end if end > 0 else len(rest)])
        rest, wanted = rest[len(blocks[-1]) :], size
    whole = records(data, declaration).to_pylist()
    assert [record for block in blocks for record in records(block, declaration).to_pylist()] == whole


# -- Asterisk against the csv module -----------------------------------------------------------------------------------

COLUMNS = load("asterisk").shapes[-1].columns
_PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


def _quoted(values: dict[str, str]) -> str:
    bare = ("duration", "billsec", "sequence")
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="")
    parts = []
    for name in COLUMNS:
        if name in bare or (name in ("start", "answer", "end") and not values[name]):
            parts.append(values[name])
        else:
            out.seek(0)
            out.truncate()
            writer.writerow([values[name]])
            parts.append(out.getvalue())
    return ",".join(parts)


@st.composite
def _asterisk_call(draw: st.DrawFn) -> dict[str, str]:
    start = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=draw(st.integers(0, 10**7)))
    ring, talk = draw(st.integers(0, 60)), draw(st.none() | st.integers(0, 4000))
    end = start + timedelta(seconds=ring + (talk or 0))
    stamp = "%Y-%m-%d %H:%M:%S"
    free = {name: draw(_PLAIN) for name in ("clid", "lastapp", "lastdata", "accountcode", "dcontext", "userfield")}
    return (
        dict.fromkeys(COLUMNS, "")
        | free
        | {
            "src": draw(_PLAIN),
            "dst": draw(_PLAIN),
            "start": start.strftime(stamp),
            "answer": "" if talk is None else (start + timedelta(seconds=ring)).strftime(stamp),
            "end": end.strftime(stamp),
            "duration": str(ring + (talk or 0)),
            "billsec": str(talk or 0),
            "disposition": "NO ANSWER" if talk is None else "ANSWERED",
            "uniqueid": f"{int(start.timestamp())}.{draw(st.integers(0, 10**6))}",
            "linkedid": f"{int(start.timestamp())}.1",
            "sequence": str(draw(st.integers(0, 2**31))),
        }
    )


@LONG
@given(st.lists(_asterisk_call(), min_size=1, max_size=5))
def test_asterisk_agrees_with_the_csv_module(calls: list[dict[str, str]]) -> None:
    data = ("\n".join(_quoted(call) for call in calls) + "\n").encode()
    rows = _parsed(data, "asterisk").to_pylist()
    oracle = [dict(zip(COLUMNS, line, strict=True)) for line in csv.reader(data.decode().split("\n")) if line]
    assert len(rows) == len(oracle)
    for row, line in zip(rows, oracle, strict=True):
        assert row["fault"] is None
        assert (row["calling_raw"], row["called_raw"]) == (line["src"] or None, line["dst"] or None)
        assert row["account_code"] == (line["accountcode"] or None)
        assert row["identity"] == f"{line['uniqueid']}\x1f{line['sequence']}"
        assert row["start_time"] == datetime.fromisoformat(line["start"]).replace(tzinfo=UTC)
        assert row["end_time"] == datetime.fromisoformat(line["end"]).replace(tzinfo=UTC)
        assert row["talk_ms"] == int(line["billsec"]) * 1000
        assert (row["disposition"] == "answered") == bool(line["answer"])


# -- local time --------------------------------------------------------------------------------------------------------


def _call_line(start: datetime, answer: datetime, end: datetime, number: int) -> str:
    def wall(at: datetime) -> str:
        return at.astimezone(ZoneInfo(NEW_YORK)).strftime("%Y-%m-%d %H:%M:%S")

    values = dict.fromkeys(COLUMNS, "x") | {
        "start": wall(start),
        "answer": wall(answer),
        "end": wall(end),
        "duration": str(int((end - start).total_seconds())),
        "billsec": str(int((end - answer).total_seconds())),
        "uniqueid": f"1700000000.{number}",
        "sequence": str(number),
    }
    return _quoted(values)


@LONG
@given(
    st.sampled_from([datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)]),
    st.integers(-7200, 7200),
    st.integers(0, 120),
    st.integers(0, 7200),
)
def test_a_clock_change_bends_no_duration(change: datetime, before: int, ring: int, talk: int) -> None:
    start = change + timedelta(seconds=before)
    answer = start + timedelta(seconds=ring)
    end = answer + timedelta(seconds=talk)
    row = _parsed((_call_line(start, answer, end, 1) + "\n").encode(), "asterisk", NEW_YORK).to_pylist()[0]
    assert row["end_time"] - row["start_time"] == end - start
    assert row["end_time"] - row["answer_time"] == end - answer
    # A wall clock that shows an hour twice does not say which: earliest is the declared rule.
    repeated = change.month == 11 and 0 <= before < 3600
    assert row["start_time"] == (start - timedelta(hours=1) if repeated else start)


def test_latest_takes_the_second_pass_of_a_repeated_hour() -> None:
    start = datetime(2026, 11, 1, 6, 10, tzinfo=UTC)
    line = _call_line(start, start, start + timedelta(seconds=30), 1).encode() + b"\n"
    row = _parsed(line, "asterisk", NEW_YORK, time={"ambiguous": "latest"}).to_pylist()[0]
    assert row["start_time"] == start


def test_stamps_that_no_duration_vouches_for_keep_their_own_hour() -> None:
    fields = {
        "duration_ms": [{"column": "none"}],
        "talk_ms": [{"column": "none"}],
        "start_time": [{"column": "start", "time": "local"}],
        "end_time": [{"column": "end", "time": "local"}],
    }
    text = "id,start,end\n1,2026-03-08 01:59:30,2026-03-08 03:01:30\n2,2026-11-01 01:50:00,2026-11-01 01:10:00\n"
    rows = _parsed(text.encode(), "generic_csv", NEW_YORK, fields=fields).to_pylist()
    assert [row["end_time"] - row["start_time"] for row in rows] == [timedelta(minutes=2), timedelta(minutes=20)]
    assert [row["talk_ms"] for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("written", "kind", "pattern", "expected"),
    [
        ("20260302140005.250", "utc", "%Y%m%d%H%M%S.%f", "2026-03-02T14:00:05.250"),
        ("02/03/2026 14:00", "utc", "%d/%m/%Y %H:%M", "2026-03-02T14:00:00.000"),
        ("30/02/2026 14:00", "utc", "%d/%m/%Y %H:%M", None),
        ("Mon, 02 Mar 2026 14:00:05 +0000", "utc", "%a, %d %b %Y %H:%M:%S +0000", "2026-03-02T14:00:05.000"),
        ("2026-03-02T14:00:05.123456789Z", "offset", "", "2026-03-02T14:00:05.123"),
        ("2026-03-02T14:00:05+02:00", "offset", "", "2026-03-02T12:00:05.000"),
        ("2026-03-02 14:00:05.987654", "utc", "", "2026-03-02T14:00:05.987"),
        ("1772460005.999", "epoch_s", "", "2026-03-02T14:00:05.999"),
        ("1772460005999", "epoch_ms", "", "2026-03-02T14:00:05.999"),
        ("1772460005999999", "epoch_us", "", "2026-03-02T14:00:05.999"),
        ("2026-02-29 00:00:00", "utc", "", None),
        ("9" * 18, "epoch_s", "", None),
        ("nan", "epoch_s", "", None),
        ("inf", "any", "", None),
        ("0000-00-00 00:00:00", "any", "", None),
        ("1772460005999", "any", "", "2026-03-02T14:00:05.999"),
        ("1772460005999999", "any", "", "2026-03-02T14:00:05.999"),
        ("20260302140005", "any", "", "2026-03-02T14:00:05.000"),
        ("2026/03/02 14:00:05", "any", "", "2026-03-02T14:00:05.000"),
        ("03/02/2026 02:00:05 PM", "local", "%m/%d/%Y %I:%M:%S %p", "2026-03-02T14:00:05.000"),
        ("03/02/2026 12:00:05 am", "local", "%m/%d/%Y %I:%M:%S %p", "2026-03-02T00:00:05.000"),
        ("03/02/2026 14:00:05 PM", "local", "%m/%d/%Y %I:%M:%S %p", None),
        ("Mon, 02 Mar 2026 14:00:05 +0200", "offset", "%a, %d %b %Y %H:%M:%S", "2026-03-02T12:00:05.000"),
        ("Mon, 02 Mar 2026 14:00:05 -0700 (MST)", "offset", "%a, %d %b %Y %H:%M:%S", "2026-03-02T21:00:05.000"),
        ("2 Mar 2026 14:00:05 GMT", "offset", "%d %b %Y %H:%M:%S", "2026-03-02T14:00:05.000"),
        ("2 Mar 2026 14:00:05", "offset", "%d %b %Y %H:%M:%S", None),
        ("46083.583391203705", "excel", "", "2026-03-02T14:00:05.000"),
    ],
)
def test_stamps_as_switches_write_them(written: str, kind: str, pattern: str, expected: str | None) -> None:
    start = {"column": "start", "time": kind, "format": pattern}
    data = f'id,start\n1,"{written}"\n2,"{written}"\n'.encode()
    for row in _parsed(data, "generic_csv", fields={"start_time": [start]}).to_pylist():
        at = row["start_time"]
        assert (at and at.replace(tzinfo=None).isoformat(timespec="milliseconds")) == expected
        assert row["fault"] == (None if expected else "TIME")


def test_a_stamp_may_name_its_zone_or_have_one_of_its_own() -> None:
    radius = {"time": "offset", "format": "%H:%M:%S.%f %a %b %d %Y", "zones": {"EET": "+02:00", "EEST": "+03:00"}}
    fields = {
        "start_time": [{"column": "start", **radius}],
        "answer_time": [{"column": "answer", "time": "local", "zone": "America/Denver"}],
        "end_time": [{"column": "end", "time": "local", "format": ["%d/%m/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S"]}],
    }
    text = (
        "id,start,answer,end\n"
        "1,15:59:47.250 EET Sun Dec 25 2005,2005-12-25 06:59:50,25/12/2005 14:00:00\n"
        "2,15:59:47.000 EEST Mon Jul 25 2005,2005-07-25 06:59:50,2005-07-25 14:00:00\n"
    )
    rows = _parsed(text.encode(), "generic_csv", "UTC", fields=fields).to_pylist()
    assert [row["fault"] for row in rows] == [None, None]
    stamps = [[row[name].isoformat()[11:22] for name in ("start_time", "answer_time", "end_time")] for row in rows]
    assert stamps == [["13:59:47.25", "13:59:50+00", "14:00:00+00"], ["12:59:47+00", "12:59:50+00", "14:00:00+00"]]


@pytest.mark.parametrize(
    ("written", "unit", "decimal", "expected"),
    [
        ("00:00:30", "s", "", 30_000),
        ("1:02:03", "s", "", 3_723_000),
        ("1:02:03.5", "min", "", 3_723_500),
        ("02:03", "clock", "", 123_000),
        ("1:02:03", "clock", "", 3_723_000),
        ("90:00", "clock", "", 5_400_000),
        ("02:03", "s", "", None),
        ("1:99:03", "s", "", None),
        ("62,4", "s", ",", 62_400),
        ("1.830,5", "s", ",", 1_830_500),
        ("62.4", "s", ",", None),
        ("1,830", "s", ".", 1_830_000),
        ("1 830", "s", ".", 1_830_000),
        ("1,83", "s", ".", None),
        ("1,830", "s", "", None),
        ("62,4", "s", "", None),
        ("1.5", "min", "", 90_000),
        ("1,5", "min", ",", 90_000),
    ],
)
def test_durations_as_switches_write_them(written: str, unit: str, decimal: str, expected: int | None) -> None:
    talk = {"column": "talk", "unit": unit, "decimal": decimal}
    data = f'id,start,talk\n1,2026-03-02 14:00:05,"{written}"\n2,2026-03-02 14:00:05,\n'.encode()
    first, second = _parsed(data, "generic_csv", fields={"talk_ms": [talk]}).to_pylist()
    assert (first["talk_ms"], first["fault"]) == ((expected, None) if expected else (0, "FIELD"))
    assert second["fault"] is None


def test_a_local_end_after_an_absolute_start_is_the_first_such_moment() -> None:
    fields = {
        "start_time": [{"column": "start", "time": "epoch_s"}],
        "end_time": [{"column": "end", "time": "local"}],
        "answer_time": [{"column": "none", "time": "local"}],
    }
    second_pass = int(datetime(2026, 11, 1, 6, 5, tzinfo=UTC).timestamp())  # 01:05 for the second time
    data = f"id,start,end\n1,{second_pass},2026-11-01 01:10:00\n2,{second_pass - 3600},2026-11-01 01:10:00\n".encode()
    rows = _parsed(data, "generic_csv", NEW_YORK, fields=fields).to_pylist()
    assert [row["end_time"] - row["start_time"] for row in rows] == [timedelta(minutes=5)] * 2


@pytest.mark.parametrize("kind", ["local", "any"])
@pytest.mark.parametrize(
    ("lengths", "start", "end", "minutes"),
    [
        ("", "01:50:00", "01:10:00", 20),  # the first such moment after the start
        ("", "00:50:00", "01:10:00", 20),
        ("duration", "00:50:00", "01:10:00", 80),  # the switch's own duration says which of both
        ("billsec", "00:50:00", "01:10:00", 80),
        ("billsec", "01:50:00", "01:10:00", 20),
    ],
)
def test_an_end_in_an_hour_that_comes_twice_is_where_the_duration_says(
    kind: str, lengths: str, start: str, end: str, minutes: int
) -> None:
    names = {"start_time": "start", "answer_time": "answer", "end_time": "end"}
    fields = {field: [{"column": column, "time": kind}] for field, column in names.items()}
    stamps = f"2026-11-01 {start},2026-11-01 {start},2026-11-01 {end}"
    text = f"id,start,answer,end,{lengths or 'none'}\n1,{stamps},{minutes * 60}\n"
    (row,) = _parsed(text.encode(), "generic_csv", NEW_YORK, fields=fields).to_pylist()
    assert (row["end_time"] - row["start_time"], row["fault"]) == (timedelta(minutes=minutes), None)
    assert row["end_again"] is None


def test_an_end_without_a_start_has_both_moments_of_an_hour_that_comes_twice() -> None:
    bye = "BYE|f|t|{}|200|OK|{}|13035550101|13035550102\n"
    stamps = "2026-11-01 01:10:00", "2026-11-01 02:10:00", "1793509800", "2026-11-01 01:10:00-04:00"
    data = "".join(bye.format(call, stamp) for call, stamp in enumerate(stamps)).encode()
    rows = _parsed(data, "acc_flatstore", NEW_YORK).to_pylist()
    assert [row["end_time"].hour for row in rows] == [5, 7, 5, 5]
    assert [row["end_again"] and row["end_again"].hour for row in rows] == [6, None, None, None]
    late = _parsed(data, "acc_flatstore", NEW_YORK, time={"ambiguous": "latest"}).to_pylist()
    assert late[0]["end_time"].hour == 6 and late[0]["end_again"] is None


def test_an_answered_call_of_no_length_is_answered() -> None:
    data = b"id,start,answer,end,billsec\n1,2026-03-02 14:00:05,2026-03-02 14:00:09,2026-03-02 14:00:09,0\n"
    (row,) = _parsed(data, "generic_csv").to_pylist()
    assert (row["fault"], row["disposition"], row["talk_ms"]) == (None, "answered", 0)


def test_documents_before_a_torn_one_are_read() -> None:
    declaration = load("freeswitch_json")
    found = records(b'{"a": 1} {"a": 2}\n[{"a": 3}, {"a":', declaration).to_pylist()
    assert found == [b'{"a": 1}', b'{"a": 2}', b'{"a": 3}', b'{"a":']


def test_an_identity_that_a_spreadsheet_rounded_is_none() -> None:
    data = b"id,start\n1.795E+09,2026-03-02 14:00:05\n1.795E+09,2026-03-02 14:00:06\n1E+x,2026-03-02 14:00:06\n"
    assert [row["fault"] for row in _parsed(data, "generic_csv").to_pylist()] == ["IDENTITY", "IDENTITY", None]


def test_json_may_say_nan_or_write_numbers_as_text() -> None:
    lines = [
        '{"id": "1", "start": 1772460005, "talk_s": 30, "mos": NaN, "from": 3035550101}',
        '{"id": "2", "start": "1772460005", "talk_s": "30", "mos": "4.5", "from": "3035550101"}',
        '{"id": "3", "start": 1772460005, "talk_s": 30, "mos": -Infinity, "from": 3035550101}',
    ]
    for chosen in (lines, lines[:1], lines[1:2], [lines[0], lines[2]]):
        rows = _parsed("\n".join(chosen).encode(), "generic_jsonl").to_pylist()
        assert {(row["fault"], row["talk_ms"], row["calling_raw"]) for row in rows} == {(None, 30_000, "3035550101")}
        assert {row["mos"] for row in rows} <= {None, 4.5}


def test_an_object_with_two_values_of_one_read_name_is_suspended() -> None:
    data = b'{"id": "1", "start": 1772460005, "start": 1772460006}\n{"id": "2", "start": 1772460005, "x": 1, "x": 2}\n'
    assert [row["fault"] for row in _parsed(data, "generic_jsonl").to_pylist()] == ["JSON", None]


def test_talk_that_the_source_does_not_carry_is_from_the_answer_to_the_end() -> None:
    lines = [
        "id,start,answer,end",
        "1,2026-03-02T14:00:00Z,2026-03-02T14:00:09Z,2026-03-02T14:00:51Z",
        "2,2026-03-02T14:00:00Z,,2026-03-02T14:00:51Z",
        "3,2026-03-02T14:00:00Z,2026-03-02T14:00:09Z,",
    ]
    rows = _parsed("\n".join([*lines, ""]).encode(), "generic_csv").to_pylist()
    assert [row["talk_ms"] for row in rows] == [42_000, None, None]
    assert [row["disposition"] for row in rows] == ["answered", "unknown", "answered"]


# -- particular dirt ---------------------------------------------------------------------------------------------------

GOOD = (GOLDEN / "asterisk" / "Master.csv").read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\r\n")[0]


def test_a_line_longer_than_a_record_may_be_is_set_aside() -> None:
    long = GOOD.replace(b"Dial", b"D" * (LONGEST_RECORD + 1))
    table = _parsed(b"\n".join([GOOD, long, GOOD]) + b"\n", "asterisk")
    assert table["fault"].to_pylist() == [None, "TOO_LONG", None]


def test_a_long_field_reads_the_same_beside_a_torn_line() -> None:
    long = GOOD.replace(b"Dial", b"D" * 300_000)
    assert _parsed(b"\n".join([long, GOOD[:55], long]) + b"\n", "asterisk")["fault"].to_pylist() == [
        None,
        "QUOTING",
        None,
    ]


def test_a_torn_line_costs_only_itself() -> None:
    lines = [GOOD] * 500
    lines[137] = GOOD[:55]
    lines[400] = b'"a"b,"c'  # an even number of quotes, and torn all the same
    lines[-1] = b'"a"b,"c'
    faults = _parsed(b"\n".join(lines), "asterisk")["fault"].to_pylist()
    assert [i for i, fault in enumerate(faults) if fault] == [137, 400, 499]
    assert {faults[137], faults[400], faults[499]} == {"QUOTING"}


_ACCOUNT_LINE = b"1,1772460000,desk\n"


@pytest.mark.parametrize("name", ["asterisk", "generic_csv"])
@pytest.mark.parametrize("sound", [0, 1, 2, 100], ids=lambda count: f"behind {count}")
def test_a_torn_quote_on_the_last_line_of_a_block_costs_only_that_line(name: str, sound: int) -> None:
    """Each line has as many columns as it should; pyarrow alone takes the end of its input for the end of the quote."""
    header, good = (b"", GOOD + b"\n") if name == "asterisk" else (b"id,start,account\n", _ACCOUNT_LINE)
    torn = good.rsplit(b",", 1)[0] + b',"84\n'
    declaration, body = load(name), good * sound + torn + good * 3
    end = record_end(body[: -3 * len(good) + 1], declaration)  # a block that is full one byte into the next line
    assert end == len(good) * sound + len(torn)
    blocks = [_parsed(header + block, name) for block in (body[:end], body[end:], body)]
    faults = [block["fault"].to_pylist() for block in blocks]
    assert faults == [[None] * sound + ["QUOTING"], [None] * 3, [None] * sound + ["QUOTING"] + [None] * 3]
    assert blocks[0]["raw"].to_pylist() + blocks[1]["raw"].to_pylist() == body.splitlines()


def test_a_torn_quote_loses_no_byte_where_quotes_may_hold_line_ends() -> None:
    """What follows the torn quote cannot be told from its value: it is kept whole, in one suspended record."""
    overrides = {"file": {"multiline": True}}
    sound, torn = _ACCOUNT_LINE * 5, b'2,1772460000,"Doe\n'
    body = sound + torn + _ACCOUNT_LINE * 2
    end = record_end(body, load("generic_csv", overrides))
    assert end == len(sound)  # the next block begins with the torn line
    first, rest = (_parsed(b"id,start,account\n" + part, "generic_csv", **overrides) for part in (sound, body[end:]))
    assert first["fault"].to_pylist() == [None] * 5
    assert rest["fault"].to_pylist() == ["QUOTING"]
    assert rest["raw"].to_pylist() == [body[end:].rstrip(b"\n")]


@pytest.mark.parametrize("offset", range(4))
def test_a_refused_line_may_hold_any_character_anywhere(offset: int) -> None:
    wide = b'"' + b"a" * offset + "\U0001f600".encode() * 200 + b'","too","few"'
    table = _parsed(b"\n".join([GOOD, wide, GOOD, wide]) + b"\n", "asterisk")
    assert table["fault"].to_pylist() == [None, "COLUMNS", None, "COLUMNS"]


def test_another_declared_shape_in_the_same_file_is_read() -> None:
    older = b",".join(GOOD.replace(b'"Front, desk"', b'"Desk"').replace(b'""Desk""', b"Desk").split(b",")[:18])
    mixed = [GOOD, older, GOOD, older, older]
    table = _parsed(b"\n".join(mixed) + b"\n", "asterisk")
    if table["fault"].to_pylist() != [None] * 5:
        pytest.fail(str(table["fault"].to_pylist()))
    assert [row["sequence"] for row in table.to_pylist()] == [84, None, 84, None, None]


def test_latin_1_is_read_where_it_is_declared() -> None:
    line = GOOD.replace(b'"acme"', '"zoë"'.encode("latin-1"))
    table = _parsed(line + b"\n" + GOOD + b"\n", "asterisk", file={"encoding": "latin-1"})
    assert table["account_code"].to_pylist() == ["zoë", "acme"]
    assert _parsed(line + b"\n" + GOOD + b"\n", "asterisk")["fault"].to_pylist() == ["ENCODING", None]


def test_quoted_line_ends_are_part_of_a_value_where_declared() -> None:
    data = b'id,start,from\n1,1772460000,"50355\n50101"\n2,1772460001,5035550102\n'
    declaration = load("generic_csv", {"file": {"multiline": True}})
    body = data.split(b"\n", 1)[1]
    assert record_end(body[:25], declaration) == -1
    assert len(records(body, declaration)) == 2
    table = _parsed(data, "generic_csv", file={"multiline": True})
    assert table["fault"].to_pylist() == [None, None]
    assert table["calling_raw"].to_pylist()[1] == "5035550102"


def test_quotes_that_nobody_escaped_get_a_second_chance() -> None:
    lines = [
        b'"id","start","account"',
        b'"1","1772460000","The "old", desk"',
        b'"2","1772460000","plain"',
        b'"3","1","2","4"',
    ]
    rows = _parsed(b"\n".join(lines) + b"\n", "generic_csv").to_pylist()
    assert [row["account_code"] for row in rows] == ['The "old", desk', "plain", None]
    assert [row["fault"] for row in rows] == [None, None, "COLUMNS"]


@pytest.mark.parametrize("stamp", ["0001-01-01 00:00:00", "1899-12-31 23:59:59", "9999-12-31 23:59:59"])
def test_the_ends_of_time_are_read_and_set_aside(stamp: str) -> None:
    line = GOOD.replace(b"2026-03-02 09:00:00", stamp.encode())
    declaration = load("asterisk")
    table = validate(parse(records(line, declaration), declaration, sniff(GOOD, declaration), NEW_YORK), NOW_MS)
    assert table["fault"].to_pylist()[0] in ("TIME", "FUTURE")


def test_backslash_escapes_without_quotes() -> None:
    file = {"quoting": "none", "escape": "\\"}
    lines = [b"id,start,account", b"1,1772460000,Doe\\, Inc.", b"2,1772460000,torn\\", b"3,1772460000,x"]
    data = b"\n".join(lines) + b"\n"
    rows = _parsed(data, "generic_csv", file=file).to_pylist()
    assert rows[0]["account_code"] == "Doe, Inc."
    assert [row["fault"] for row in rows] == [None, "QUOTING", None]


def test_columns_that_nothing_names_are_never_read() -> None:
    secret = "5035550177"
    line = GOOD.replace(b'"Dial"', f'"{secret}"'.encode()).replace(b"carrier-a,60", f"{secret},60".encode())
    rows = _parsed(line + b"\n", "asterisk").drop_columns("raw").to_pylist()
    assert secret not in repr(rows)
    document = json.loads((GOLDEN / "freeswitch_json" / "call.cdr.json").read_text())
    document["variables"] |= {"switch_r_sdp": secret, "last_arg": secret, "sip_full_from": secret}
    rows = _parsed(json.dumps(document).encode(), "freeswitch_json").drop_columns("raw").to_pylist()
    assert rows[0]["fault"] is None
    assert secret not in repr(rows)


def test_tenant_field_is_the_column_that_the_rule_names() -> None:
    declaration = load("asterisk")
    shape = sniff(GOOD, declaration)
    table = parse(records(GOOD, declaration), declaration, shape, tenant_column="dcontext")
    assert table["tenant_field"].to_pylist() == ["from-internal"]


def test_json_numbers_and_strings_name_the_same_record() -> None:
    ids: list[object] = [1500, "1500", "0015", 0, 1.5, "1.50", 10.0, "x", True]
    for order in (ids, ids[::-1], *([one] for one in ids), ids * 300):
        data = "".join(json.dumps({"record_id": one, "start_time": 1772460000}) + "\n" for one in order).encode()
        expected = [{10.0: "10", True: "true"}.get(one, str(one)) for one in order]
        assert _parsed(data, "generic_jsonl")["identity"].to_pylist() == expected


def test_no_record_reaches_an_exception_or_a_repr() -> None:
    declaration: Declaration = load("asterisk")
    assert "5035550101" not in repr(sniff(GOOD, declaration))


# -- other people's files, read where they lie -------------------------------------------------------------------------


def _sample(folder: str, name: str) -> bytes:
    path = SAMPLES / folder / name
    if not path.is_file():
        pytest.skip("the sample files of other projects are not beside this checkout")
    return path.read_bytes()


def test_sample_cucm_is_one_call_two_recording_legs_and_two_measurements() -> None:
    calls = _parsed(_sample("cucm", "cucm12_cdr_lab.txt"), "cucm").to_pylist()
    assert [row["filter"] for row in calls] == ["RECORDING_LEG", "RECORDING_LEG", None]
    assert [row["talk_ms"] for row in calls] == [0, 0, 11_000]
    quality = _parsed(_sample("cucm", "cucm12_cmr_lab.txt"), "cucm").to_pylist()
    assert [row["piece"] for row in quality] == ["quality", "quality"]
    assert [row["leg_a"] for row in quality] == [calls[2]["leg_a"], calls[2]["leg_b"]]
    assert {row["call"] for row in quality} == {calls[2]["call"]}


def test_sample_cucm_without_names_is_read_in_the_standard_order() -> None:
    call = _parsed(_sample("cucm", "fixture_sample_cdr.txt"), "cucm").to_pylist()
    assert [(row["talk_ms"], row["disposition"], row["fault"]) for row in call] == [(60_000, "answered", None)]
    quality = _parsed(_sample("cucm", "fixture_sample_cmr.txt"), "cucm").to_pylist()
    assert [(row["mos"], row["mos_method"], row["jitter_ms"]) for row in quality] == [(3.5, "cisco_mlqk", 15.0)]


def test_sample_flatstore_is_four_calls_and_three_failures() -> None:
    rows = _parsed(_sample("opensips_flatstore", "fullSuccessfull.psv"), "acc_flatstore").to_pylist()
    opened = {row["call"]: row for row in rows if row["piece"] == "open"}
    closed = {row["call"]: row for row in rows if row["piece"] == "close"}
    assert len(rows) == 8
    assert len(opened) == 4
    assert opened.keys() == closed.keys()
    assert [int((closed[c]["end_time"] - o["answer_time"]).total_seconds()) for c, o in opened.items()] == [2, 4, 4, 2]
    failed = _parsed(_sample("opensips_flatstore", "fullMissed.psv"), "acc_flatstore").to_pylist()
    # One with a tag may be a refused re-INVITE of a dialog that was answered; one without is an attempt.
    assert [(row["piece"], row["cause_sip"]) for row in failed] == [("refused", 487), ("whole", 404), ("refused", 486)]
    assert all(row["fault"] is None for row in rows + failed)


def test_sample_freeswitch_talk_is_exact_to_the_millisecond() -> None:
    row = _parsed(_sample("freeswitch_json", "fs_json_cdr_1.json"), "freeswitch_json").to_pylist()[0]
    assert (row["fault"], row["talk_ms"], row["pdd_ms"], row["cause_q850"]) == (None, 67_540, 60, 16)


@pytest.mark.parametrize(("name", "count"), [("import_cdr.txt", 5), ("import_cdr_100.txt", 100)])
def test_sample_billing_export_maps_by_a_declaration_of_a_few_lines(name: str, count: int) -> None:
    data = _sample("generic_import", name)
    declaration = load(GOLDEN / "own" / "export.toml")
    shape = sniff(data, declaration)
    rows = validate(parse(records(data, declaration), declaration, shape), NOW_MS).to_pylist()
    assert len(rows) == count
    negative = [line for line in data.decode().splitlines() if int(line.split(",")[4]) < 0]
    assert [row["fault"] for row in rows if row["fault"]] == ["DURATION"] * len(negative)


@pytest.mark.parametrize("value", ["1e99999999999999999999", "-1e-99999999999999999999", "9" * 5000, "[" * 200_000])
def test_json_that_python_cannot_hold_does_not_keep_the_others_from_being_read(value: str) -> None:
    good = next(path for path in MUTABLE if path.parent.name == "freeswitch_jsonl").read_bytes().splitlines()[0]
    bad = b'{"variables":' + value.encode() + b"}"
    alone, among = _parsed(good, "freeswitch_jsonl"), _parsed(b"\n".join([good, bad, good]), "freeswitch_jsonl")
    assert among.num_rows == 3
    assert among.slice(0, 1).to_pylist() == alone.to_pylist()


def _transferred(elements: list[dict[str, object]] | dict[str, object] | None) -> dict[str, object]:
    document = json.loads((GOLDEN / "freeswitch_json" / "call.cdr.json").read_text())
    document["variables"] |= {"caller_id_number": "5035550190", "destination_number": "5035550191"}
    document["variables"]["uuid"] = str(len(json.dumps(elements)))
    return {**{k: v for k, v in document.items() if k != "callflow"}, **({"callflow": elements} if elements else {})}


def _profile(last_digits: int) -> dict[str, object]:
    return {"caller_profile": {"caller_id_number": "5035550101", "destination_number": f"50355501{last_digits}"}}


@pytest.mark.parametrize("name", ["freeswitch_json", "freeswitch_jsonl"])
def test_a_transferred_call_was_dialled_as_its_oldest_callflow_element_says(name: str) -> None:
    callflows: list[list[dict[str, object]]] = [[_profile(50 - at) for at in range(n)] for n in range(1, 5)]
    documents = [_transferred(callflow) for callflow in callflows]  # newest first
    documents += [_transferred(None), _transferred([{"profile_index": "1"}]), _transferred([])]
    expected = ["5035550150", "5035550149", "5035550148", "5035550147", *["5035550191"] * 3]
    lines = [json.dumps(document).encode() for document in documents]
    together = _parsed(b"\n".join(lines) + b"\n", name)
    assert together["called_raw"].to_pylist() == expected
    assert together["calling_raw"].to_pylist() == ["5035550101"] * 4 + ["5035550190"] * 3
    lone = _parsed(json.dumps(_transferred(_profile(60))).encode(), name)  # an object where a list of one is meant
    assert lone["called_raw"].to_pylist() == ["5035550160"]
    odd = lines[2][:-1] + b', "odd": NaN}'  # read by itself: pyarrow takes no NaN
    assert _parsed(odd, name)["called_raw"].to_pylist() == ["5035550148"]


def test_places_of_a_list_are_counted_from_either_end() -> None:
    fields = {"calling_raw": "legs.0.from", "called_raw": "legs.-1.to", "account_code": "legs.-2.code"}
    fields |= {"start_time": {"column": "start", "time": "epoch_s"}}  # type: ignore[dict-item]
    legs = [[], [{"from": "a", "to": "b"}], [{"from": "c", "code": "x"}, {"to": "d", "code": "y"}], None]
    lines = [json.dumps({"id": str(n), "start": 1772460000, "legs": leg}).encode() for n, leg in enumerate(legs)]
    rows = _parsed(b"\n".join(lines), "generic_jsonl", fields=fields)
    assert rows["calling_raw"].to_pylist() == [None, "a", "c", None]
    assert rows["called_raw"].to_pylist() == [None, "b", "d", None]
    assert rows["account_code"].to_pylist() == [None, None, "x", None]


def _roles(row: dict[str, object]) -> dict[str, object]:
    return {name: row[name] for name in (*BY_ROLE_RAW, "oli", "carrier_id") if row[name] is not None}


def test_freeswitch_says_who_forwarded_asserts_and_pays_and_what_was_sent_out() -> None:
    sent = {"originatee": {"originatee_caller_profiles": [{"destination_number": "17205550151"}]}}
    oldest = {"caller_id_number": "5035550101", "destination_number": "5035550150;npdi;rn=+15035550199", "aniii": "62"}
    document = _transferred([_profile(49), {"caller_profile": {**oldest, "rdnis": "5035550152"}}])
    document["variables"] |= {  # type: ignore[operator]
        "sip_P-Asserted-Identity": "%3Csip:5035550153@192.0.2.7%3E",
        "sip_h_P-Charge-Info": "<sip:5035550154@192.0.2.7>",
        "sip_req_user": "5035550150;cic=+10288",
    }
    (row,) = _parsed(json.dumps(document).encode(), "freeswitch_json").to_pylist()
    expected = {"redirecting_raw": "5035550152", "asserted_raw": "<sip:5035550153@192.0.2.7>", "oli": "62"}
    expected |= {"charge_raw": "<sip:5035550154@192.0.2.7>", "lrn_raw": "+15035550199", "carrier_id": "+10288"}
    assert _roles(row) == expected
    document["callflow"][0]["caller_profile"] |= sent  # type: ignore[index]
    rows = [_parsed(json.dumps(document).encode(), "freeswitch_json").to_pylist()[0]]
    document["callflow"][1]["caller_profile"] |= json.loads(json.dumps(sent).replace("51", "55"))  # type: ignore[index]
    rows += _parsed(json.dumps(document).encode(), "freeswitch_json").to_pylist()
    assert [row["rated_raw"] for row in rows] == ["17205550151", "17205550155"]


def test_a_uri_with_routing_parameters_gives_lrn_carrier_and_line_information() -> None:
    lines = [
        "INVITE|f1|t1|c1@x|200|OK|1772460000|sip:5035550101@x;isup-oli=29|sip:+15035550150;npdi;rn=+15035550199@x",
        "INVITE|f2|t2|c2@x|200|OK|1772460000|5035550101|sip:+15035550150;cic=+10288;rn=5035550198@x;user=phone",
        "INVITE|f3|t3|c3@x|200|OK|1772460000|5035550101|5035550150",
    ]
    rows = _parsed("\n".join(lines).encode() + b"\n", "acc_flatstore").to_pylist()
    told = [{"lrn_raw": "+15035550199", "oli": "29"}, {"lrn_raw": "5035550198", "carrier_id": "+10288"}, {}]
    assert [_roles(row) for row in rows] == told


def test_kamailio_notes_what_was_dialled_and_what_was_sent_out() -> None:
    header = "id,start_time,end_time,src_user,dst_ouser,dst_user,pai,answered_at\n"
    stamps = "2026-03-02 09:00:00,2026-03-02 09:01:07"
    ends = "2026-03-02 09:00:07"
    lines = [
        f"1,{stamps},5035550101,0015035550150,+15035550150,5035550102,{ends}",
        f"2,{stamps},5035550101,5035550150,5035550150,NULL,{ends}",
    ]
    rows = _parsed((header + "\n".join(lines) + "\n").encode(), "acc_cdrs").to_pylist()
    assert [row["called_raw"] for row in rows] == ["0015035550150", "5035550150"]
    assert [_roles(row) for row in rows] == [{"rated_raw": "+15035550150", "asserted_raw": "5035550102"}, {}]


def test_cucm_names_a_redirecting_party_where_someone_redirected() -> None:
    names = "cdrRecordType,globalCallID_callManagerId,globalCallID_callId,pkid,dateTimeOrigination,dateTimeConnect,"
    names += "dateTimeDisconnect,duration,callingPartyNumber,originalCalledPartyNumber,finalCalledPartyNumber,"
    names += "lastRedirectDn,lastRedirectRedirectReason,outpulsedCalledPartyNumber,origCause_value,destCause_value\n"
    lines = [
        "1,2,1,p1,1772460000,1772460005,1772460065,60,5035550101,1001,15035550150,1001,15,15035550150,16,0",
        "1,2,2,p2,1772460000,1772460005,1772460065,60,5035550101,1001,1001,1001,0,,16,0",
    ]
    rows = _parsed((names + "\n".join(lines) + "\n").encode(), "cucm").to_pylist()
    assert [row["fault"] for row in rows] == [None, None]
    assert [_roles(row) for row in rows] == [{"rated_raw": "15035550150", "redirecting_raw": "1001"}, {}]
