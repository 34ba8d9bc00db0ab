"""The commands as people and scripts meet them: exit codes, one sentence for what is wrong, documents, no number."""

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from callward import audit, database
from callward.errors import Problem
from callward.feeds.generate import generate
from callward.initiate import root_file
from callward.settings import load
from callward.sweep import scanner
from pipelines import terminal
from pipelines.cli.command import fail
from schemas.codes import Bucket
from schemas.tables import audit_log, billing_usage_daily
from tests.examples import tries
from tests.typed import Ran, Run, typing

CASE = ("--purpose", "dispute", "--case", "CASE-1")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """run("nightly", "--json", …) → how `callward nightly --json …` ended, in this process."""
    with typing(capsys, monkeypatch) as typed:
        yield typed


@pytest.fixture
def site(finished: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CALLWARD_CONFIG", str(finished[0].folder))
    return finished[0]


@pytest.fixture
def fresh(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_CONFIG", str(made.folder))
    return made


def _sentence(ran: Ran, code: int, told: str) -> None:
    """The command ended with that code and one sentence that says so, nothing on standard output."""
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert re.search(told, ran.err), ran.err
    assert len(ran.err.strip().splitlines()) == 1


def _copy(finished: Any, folder: Path) -> Any:
    """A copy of the finished workspace that a test may change; SQLite copies its own file."""
    shutil.copytree(finished[0].folder, folder, ignore=shutil.ignore_patterns("callward.db*"))
    with (
        closing(sqlite3.connect(finished[0].folder / "callward.db")) as old,
        closing(sqlite3.connect(folder / "callward.db")) as new,
    ):
        old.backup(new)
    return type(finished[0])(folder)


def _columns(text: str) -> int:
    return max(map(len, text.splitlines()))


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nigtly"], "Did you mean 'nightly'"),
        (["nightly", "--sorce", "a"], "--source"),
        (["sql", "--role", "billing"], "SELECT"),
        (["sql", "SELECT 1"], "--role"),
        (["suspense", "shw"], "Did you mean 'show'"),
        (["suspense", "show", "1"], "--reason"),
        (["suspense", "show", "one", "--reason", "x"], "valid int"),
        (["audit", "list", "--limit", "0"], "limit"),
        (["rebuild", "--chek"], "--check"),
    ],
)
def test_wrong_words_end_with_2_and_the_nearest_right_one(run: Run, site: Any, words: list[str], told: str) -> None:
    ran = run(*words)
    assert ran.code == 2
    assert told in ran.err
    assert ran.out == ""


def test_wrong_names_end_with_2_and_the_nearest_right_one(run: Run, site: Any) -> None:
    _sentence(run("nightly", "--source", "asteris"), 2, "did you mean 'asterisk'")
    _sentence(run("nightly", "--explain", "--source", "asteris"), 2, "did you mean 'asterisk'")
    _sentence(run("suspense", "list", "--code", "COLUMN"), 2, "did you mean COLUMNS")
    _sentence(run("sql", "--role", "biling", "SELECT 1"), 2, "did you mean 'billing'")
    _sentence(run("sql", "--role", "billing", "--format", "xls", "SELECT 1"), 2, "table, csv, json, parquet, arrow")
    _sentence(run("sweep", "/nowhere/at/all"), 2, "there is no")


@pytest.mark.parametrize(
    "command",
    [
        ["nightly"],
        ["sql", "--role", "billing", "SELECT 1"],
        ["suspense", "list"],
        ["rebuild", "--check"],
        ["sweep"],
        ["audit", "verify"],
    ],
)
def test_without_settings_every_command_says_how_to_make_them(run: Run, tmp_path: Path, command: list[str]) -> None:
    _sentence(run(*command, "--config", tmp_path), 2, "callward init DIR")


def test_a_defect_tells_its_place_and_never_its_values(run: Run, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("about +13035550142")

    monkeypatch.setattr(audit, "checked", fail)
    _sentence(run("audit", "verify"), 1, r"a defect \(RuntimeError at (?:callward|pipelines)/[\w/]+\.py:\d+\)")
    assert "5550142" not in run("audit", "verify").err


# -- init and doctor ---------------------------------------------------------------------------------------------------


def test_init_makes_what_doctor_then_leads_through(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    assert run("init", folder, "--dry-run").code == 0
    assert not folder.exists()
    made = run("init", folder)
    assert made.code == 0
    assert "callward doctor" in made.out
    _sentence(run("init", folder), 2, "not an empty folder")
    looked = run("doctor", "--config", folder, "--json")
    assert looked.code == 3
    assert {item["what"] for item in looked.json if item["state"] == "missing"} == {"windows of default", "sources"}
    assert all(item["fix"] for item in looked.json if item["state"] in ("missing", "wrong"))
    _sentence(run("nightly", "--config", folder), 2, "windows of default: no retention window is given for call_detail")


def test_demo_workspace_needs_no_mending(run: Run, tmp_path: Path) -> None:
    assert run("init", tmp_path / "w", "--demo").code == 0
    ran = run("doctor", "--config", tmp_path / "w")
    assert ran.code == 0, ran.out
    assert "all that a night needs is there" in ran.out


def test_a_workspace_begins_with_a_source_in_a_short_file(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    begin = ("init", folder, "--minimal", "--source", "asterisk", "--zone")
    _sentence(run(*begin, "America/Denwer"), 2, "--zone takes a zone of the tz database")
    _sentence(run("init", folder, "--source", "asterix"), 2, "did you mean 'asterisk'?")
    assert run(*begin, "America/Denver").code == 0
    (source,) = load(folder).sources
    assert (source.name, source.format, source.zone) == ("asterisk", "asterisk", "America/Denver")
    assert (folder / "landing" / "asterisk").is_dir()
    looked = run("doctor", "--config", folder, "--json")
    assert {item["what"] for item in looked.json if item["state"] == "missing"} == {"windows of default"}


def _break_mode(site: Any) -> None:
    root_file(site.settings, "billing").chmod(0o644)


def _break_root(site: Any) -> None:
    shutil.copyfile(root_file(site.settings, "assurance"), root_file(site.settings, "billing"))


def _lose_root(site: Any) -> None:
    root_file(site.settings, "billing").unlink()


def _open_folder(site: Any) -> None:
    (site.folder / "keys").chmod(0o755)


def _lose_database(site: Any) -> None:
    site.settings.database_file.unlink()


def _lose_landing(site: Any) -> None:
    shutil.rmtree(site.settings.landing_path / "asterisk")


def _add_stranger(site: Any) -> None:
    (site.settings.landing_path / "unknown_switch").mkdir()


def _break_format(site: Any) -> None:
    path = site.settings.path
    path.write_text(path.read_text().replace('format = "asterisk"', 'format = "asterix"'))


@pytest.mark.parametrize(
    ("harm", "what", "state"),
    [
        (_break_mode, "root billing", "wrong"),
        (_break_root, "root billing", "wrong"),
        (_lose_root, "root billing", "missing"),
        (_open_folder, "folder", "wrong"),
        (_lose_database, "database", "missing"),
        (_lose_landing, "landing asterisk", "missing"),
        (_add_stranger, "landing unknown_switch", "wrong"),
        (_break_format, "source asterisk", "wrong"),
    ],
)
def test_doctor_finds_each_harm_and_says_how_to_fix_it(
    run: Run, fresh: Any, harm: Callable[[Any], None], what: str, state: str
) -> None:
    fresh.folder.chmod(0o700)
    before = {(item["what"], item["state"]) for item in run("doctor", "--json").json}
    assert (what, state) not in before
    harm(fresh)
    ran = run("doctor", "--json")
    assert ran.code == 3
    found = [item for item in ran.json if (item["what"], item["state"]) == (what, state)]
    assert found
    assert all(item["fix"] for item in found)


def test_doctor_makes_no_database_by_looking(run: Run, fresh: Any) -> None:
    _lose_database(fresh)
    run("doctor")
    assert not fresh.settings.database_file.exists()


# -- nightly -----------------------------------------------------------------------------------------------------------


def test_nightly_document_has_the_keys_that_scripts_rely_on(run: Run, fresh: Any, finished: Any) -> None:
    fresh.land(
        "asterisk",
        "Master.csv",
        b'"","1003","1004","default","","SIP/a-1","","Hangup","","2026-03-05 10:00:00",,"2026-03-05 10:00:05",5,0,'
        b'"NO ANSWER","DOCUMENTATION","1772730000.1",""\n',
    )
    planned = run("nightly", "--dry-run", "--json").json
    assert [item["would"] for item in planned] == ["be taken in"]
    document = run("nightly", "--json").json
    assert {"run_id", "status", "seconds", "rows", "rows_per_second", "files"} <= set(document)
    assert (document["status"], document["rows"]) == ("done", 1)
    buckets = {str(bucket) for bucket in Bucket}
    (item,) = document["files"]
    assert {"file", "source", "rows", "talk_ms", "talk_ms_paired"} | buckets <= set(item)
    assert set(item["talk_ms"]) == {"in"} | buckets
    assert item["rows"] == sum(item[bucket] for bucket in buckets)
    again = run("nightly")
    assert again.code == 0
    assert "nothing new had arrived" in again.out


def test_explain_tells_every_source_or_the_one_asked_for(run: Run, site: Any) -> None:
    every = run("nightly", "--explain", "--json").json
    assert {row["source"] for row in every} == {"asterisk", "freeswitch", "opensips"}
    one = run("nightly", "--explain", "--source", "asterisk", "--json").json
    assert one == [row for row in every if row["source"] == "asterisk"]
    assert {"calling_raw", "start_time", "identity", "(dropped)"} <= {row["field"] for row in one}


# -- sql ---------------------------------------------------------------------------------------------------------------

_SQL = "SELECT billing_id, account, start, talk_ms, charge FROM billing ORDER BY start, billing_id"


@pytest.fixture
def printed(site: Any) -> Callable[..., bytes]:
    """What `callward sql` writes, as bytes, from a process of its own."""

    def ask(*words: str, stdin: bytes = b"") -> bytes:
        command = [sys.executable, "-m", "pipelines.cli.main", "sql", *words, "--config", str(site.folder)]
        return subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE).stdout

    return ask


def test_every_format_says_the_same(run: Run, site: Any, printed: Callable[..., bytes]) -> None:
    rows = run("sql", "--role", "billing", "--format", "json", _SQL).json
    assert len(rows) == site.view("billing").num_rows > 100
    assert run("sql", "--role", "billing", "--json", _SQL).json == rows
    table = pq.read_table(io.BytesIO(printed("--role", "billing", "--format", "parquet", _SQL)))
    assert [value.hex() for value in table["billing_id"].to_pylist()] == [row["billing_id"] for row in rows]
    assert table["talk_ms"].to_pylist() == [row["talk_ms"] for row in rows]
    assert (
        pa.ipc.open_stream(printed("--role", "billing", "--format", "arrow", "-", stdin=_SQL.encode()))
        .read_all()
        .equals(table)
    )
    text = run("sql", "--role", "billing", "--format", "csv", _SQL).out.encode()
    told = pa_csv.read_csv(
        io.BytesIO(text), convert_options=pa_csv.ConvertOptions(column_types={"billing_id": pa.string()})
    )
    assert told["billing_id"].to_pylist() == [row["billing_id"] for row in rows]
    assert told["talk_ms"].to_pylist() == [row["talk_ms"] for row in rows]


def test_no_rows_are_still_a_document(run: Run, site: Any) -> None:
    assert run("sql", "--role", "billing", "--json", "SELECT 1 AS x WHERE false").json == []
    assert run("sql", "--role", "billing", "--format", "csv", "SELECT 1 AS x WHERE false").out == '"x"\n'


def test_values_keep_their_exact_form_in_json(run: Run, site: Any) -> None:
    exact = "0.1::DECIMAL(18,6) AS money, sum(n)::HUGEINT AS total"
    sql = f"SELECT {exact}, 'nan'::DOUBLE AS nan, [1] AS many FROM range(3) t(n)"
    assert run("sql", "--role", "billing", "--json", sql).json == [
        {"money": "0.100000", "total": 3, "nan": None, "many": [1]}
    ]


_FAR = "date, timestamp, timestamp_s, timestamp_ms, timestamp_tz, date_array, timestamp_array, timestamptz_array"


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet", "arrow"])
def test_every_type_of_the_engine_has_an_answer_in_every_format(
    run: Run, site: Any, printed: Callable[..., bytes], form: str
) -> None:
    sql = f"SELECT * EXCLUDE ({_FAR}), '1 day'::INTERVAL AS lasted, union_value(a := 1) AS one FROM test_all_types()"
    asked = ("--role", "billing", "--format", form, sql)
    if form in ("parquet", "arrow"):
        answer = io.BytesIO(printed(*asked))
        table = pq.read_table(answer) if form == "parquet" else pa.ipc.open_stream(answer).read_all()
        assert table["lasted"].to_pylist() == ["1 day"] * 3
        return
    ran = run("sql", *asked)
    assert (ran.code, ran.out.count("1 day")) == (0, 3)
    assert form != "json" or len(json.loads(ran.out, parse_constant=pytest.fail)) == 3


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("far", ["'infinity'::DATE", "'-infinity'::TIMESTAMP", "['290000-01-01'::TIMESTAMPTZ]"])
def test_times_beyond_the_calendar_are_said_in_one_sentence(run: Run, site: Any, form: str, far: str) -> None:
    _sentence(run("sql", "--role", "billing", "--format", form, f"SELECT {far} AS far"), 2, r"CAST\(start AS VARCHAR\)")


def test_no_value_loses_its_sign_its_zone_or_its_bits(run: Run, site: Any) -> None:
    sql = """SELECT 340282366920938463463374607431768211455::UHUGEINT AS large, '12:00:00+02'::TIMETZ AS zoned,
        '0101'::BIT AS bits, ['nan'::DOUBLE] AS many, {'a': '00:00:00.123456789'::TIME_NS} AS fine,
        [1, 2]::INT[2] AS two, 1 AS same, 2 AS "a""b" """
    assert run("sql", "--role", "billing", "--json", sql).json == [
        {
            "large": "340282366920938463463374607431768211455",
            "zoned": "12:00:00+02",
            "bits": "0101",
            "many": [None],
            "fine": {"a": "00:00:00.123456789"},
            "two": [1, 2],
            "same": 1,
            'a"b': 2,
        }
    ]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_terminal_is_spared_binary_forms(run: Run, site: Any, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    _sentence(run("sql", "--role", "billing", "--format", form, "SELECT 1"), 2, "is binary")


def test_numbers_in_sql_that_fails_are_masked(run: Run, site: Any) -> None:
    ran = run(
        "sql", "--role", "billing", *CASE, "SELECT * FROM billing WHERE calld = '+13035550142' OR '3035550142'::DATE"
    )
    assert ran.code == 2
    assert "5550142" not in ran.err


def test_a_reader_that_has_seen_enough_is_no_traceback(site: Any) -> None:
    options = f"--role billing --config '{site.folder}' --format csv"
    command = f"'{sys.executable}' -m pipelines.cli.main sql {options} 'SELECT range FROM range(300000)' | head -1"
    ran = subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, text=True)
    assert ran.stdout == '"range"\n'
    assert ran.stderr == ""


# -- suspense ----------------------------------------------------------------------------------------------------------


def test_suspense_is_listed_as_the_ledger_has_it(run: Run, site: Any) -> None:
    rows = run("suspense", "list", "--json").json
    suspended = {code: n for (bucket, code), (n, _) in site.entries().items() if bucket == "suspended"}
    assert suspended
    for code, count in suspended.items():
        assert sum(row["records"] for row in rows if row["code"] == code) == count
        assert sum(row["records"] for row in run("suspense", "list", "--json", "--code", code).json) == count
    assert _columns(run("suspense", "list").out) <= 100


def test_suspense_is_shown_for_a_reason_that_is_recorded(run: Run, site: Any) -> None:
    item = run("suspense", "list", "--json", "--code", "COLUMNS").json[0]
    rows = run("suspense", "show", item["file_no"], "--reason", "ticket 7", "--code", "COLUMNS", "--json").json
    assert len(rows) == item["records"]
    assert all(row["code"] == "COLUMNS" and row["content"] for row in rows)
    with database.reading(site.settings) as connection:
        found = connection.execute(
            select(audit_log).where(audit_log.c.event == "suspense show").order_by(audit_log.c.seq.desc())
        ).first()
    assert (found.subject, found.reason) == (f"file {item['file_no']}", "ticket 7")
    _sentence(run("suspense", "show", item["file_no"], "--reason", " "), 2, "say why")
    _sentence(run("suspense", "show", item["file_no"], "--reason", "of 303-555-0142"), 2, "telephone number")
    _sentence(run("suspense", "show", 999_999, "--reason", "x"), 1, "no open record")


def test_showing_suspense_needs_its_root_and_no_other(
    run: Run, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    _copy(finished, folder)
    monkeypatch.setenv("CALLWARD_CONFIG", str(folder))
    file_no = run("suspense", "list", "--json").json[0]["file_no"]
    for root in (folder / "keys").iterdir():
        if root.name != "suspense.root":
            root.unlink()
    assert run("suspense", "show", file_no, "--reason", "x").code == 0
    (folder / "keys" / "suspense.root").unlink()
    _sentence(run("suspense", "show", file_no, "--reason", "another"), 1, "suspense.root does not exist")
    assert run("suspense", "list").code == 0


# A file in which nothing can be read stays in landing: beside lines that are no records it needs one that is.
_RECORD = (Path(__file__).parents[2] / "golden" / "asterisk" / "Master.csv").read_bytes().splitlines(keepends=True)[0]


def test_what_a_switch_wrote_does_not_steer_a_terminal(run: Run, fresh: Any) -> None:
    fresh.land("asterisk", "Master.csv", _RECORD + b'"a","\x1b[2Jwiped"\n' * 3)
    assert run("nightly").code in (0, 3)
    item = run("suspense", "list", "--json").json[0]
    shown = run("suspense", "show", item["file_no"], "--reason", "x").out
    assert "wiped" in shown
    assert "\x1b" not in shown


# -- rebuild -----------------------------------------------------------------------------------------------------------


def test_rebuild_finds_and_mends_what_differs(
    run: Run, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    site = _copy(finished, folder)
    monkeypatch.setenv("CALLWARD_CONFIG", str(folder))
    right = site.derived()
    assert run("rebuild", "--check").code == 0
    with database.writing(site.settings) as connection:
        changed = connection.execute(
            update(billing_usage_daily)
            .where(billing_usage_daily.c.account == "acct-0001")
            .values(calls=billing_usage_daily.c.calls + 1)
        )
    wrong = site.derived()
    checked = run("rebuild", "--check", "--json")
    assert checked.code == 3
    assert {row["table"]: row["differ"] for row in checked.json if row["differ"]} == {
        "billing_usage_daily": changed.rowcount
    }
    assert run("rebuild", "--dry-run").code == 0
    assert site.derived() == wrong
    assert run("rebuild").code == 0
    assert site.derived() == right
    assert run("rebuild", "--check").code == 0


# -- sweep -------------------------------------------------------------------------------------------------------------


def test_sweep_finds_nothing_after_a_night_and_a_planted_leak(
    run: Run, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, list_of = tmp_path / "w", tmp_path / "numbers"
    _copy(finished, folder)
    shutil.copyfile(finished[1], list_of)
    monkeypatch.setenv("CALLWARD_CONFIG", str(folder))
    (folder / "landing" / "asterisk" / "waits.csv").write_bytes(finished[1].read_bytes())
    for options in (["--numbers", list_of], []):
        clean = run("sweep", folder, "--json", *options)
        assert clean.code == 0, clean.out
        assert clean.json["hits"] == []
        assert clean.json["files"] > 10
        assert clean.json["numbers"] > 500
        assert clean.json["left_out"] >= 10  # a landing file, roots
    leak = next(line for line in list_of.read_text().splitlines() if len(line) == 12)
    (folder / "lake" / "forgotten.log").write_text(f"call of {leak[2:5]}-{leak[5:8]}-{leak[8:]}\n")
    for options in (["--numbers", list_of], []):
        found = run("sweep", folder, *options)
        assert found.code == 1
        assert "forgotten.log" in found.out
        assert leak[2:] not in re.sub(r"\D", "", found.out)
        assert "chance alone would give" in found.out
        assert "Not found, wherever it stands: numbers that are not on the list" in found.out
    (folder / "lake" / "forgotten.log").unlink()
    with (folder / "callward.toml").open("a") as settings:
        settings.write(f"# asked for by {leak}\n")
    found = run("sweep", folder, "--json")
    assert (found.code, [Path(hit["file"]).name for hit in found.json["hits"]]) == (1, ["callward.toml"])


def test_sweep_reads_the_temporary_folder_and_the_database_by_default(
    run: Run, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("CALLWARD_CONFIG", str(finished[0].folder))
    leak = next(line for line in finished[1].read_text().splitlines() if len(line) == 12)
    assert run("sweep", "--numbers", finished[1]).code == 0
    (temporary / "spill.bin").write_text(leak)
    found = run("sweep", "--numbers", finished[1], "--json")
    assert found.code == 1
    assert [Path(hit["file"]).name for hit in found.json["hits"]] == ["spill.bin"]


def test_sweep_that_could_not_read_everything_ends_with_3(
    run: Run, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLWARD_CONFIG", str(finished[0].folder))
    (tmp_path / "a").write_text("a")

    monkeypatch.setattr(scanner, "_sweep_file", lambda path, file, cipher, report: report.unreadable.append(path))
    ran = run("sweep", tmp_path, "--numbers", finished[1])
    assert ran.code == 3
    assert "could not be read" in ran.out


def test_sweep_without_a_number_says_so(run: Run, fresh: Any) -> None:
    _sentence(run("sweep", fresh.folder), 1, "no number to look for")
    assert "no number to look for" in run("sweep", fresh.folder, "--json").json["error"]


# -- what is many is grouped -------------------------------------------------------------------------------------------


def test_files_left_alone_are_grouped_by_source_and_reason_unless_each_is_asked_for(run: Run, fresh: Any) -> None:
    for name in ("a", "b", "c"):
        fresh.land("asterisk", f"{name}.csv.part", b"x")
    for words in ((), ("--dry-run",)):
        grouped = [line.split() for line in run("nightly", *words).out.splitlines() if "being written" in line]
        (row,) = grouped
        assert row[0] == "asterisk" and "3" in row and any(word.endswith("a.csv.part") for word in row)
        each = run("nightly", "--files", *words).out
        assert all(each.count(f"{name}.csv.part") == 1 for name in ("a", "b", "c"))
    assert len(run("nightly", "--json").json["left_alone"]) == 3


def test_suspense_is_grouped_by_source_and_code_unless_each_file_is_asked_for(run: Run, fresh: Any) -> None:
    for name in ("a", "b", "c"):
        fresh.land("asterisk", f"{name}.csv", _RECORD + b'"%s","x"\n' % name.encode() * 3)
    assert run("nightly").code in (0, 3)
    files = run("suspense", "list", "--json").json
    assert len(files) == 3
    for words in (("suspense", "list"), ("recycle", "--dry-run", *_each_code(files))):
        (row,) = [line.split() for line in run(*words).out.splitlines() if line.startswith("asterisk")]
        assert row[2:4] == [str(sum(file["records"] for file in files)), "3"]
        each = run(*words, "--files").out.splitlines()
        assert sum(line.startswith("asterisk") for line in each) == 3


def _each_code(files: list[dict[str, Any]]) -> list[str]:
    return [word for code in {file["code"] for file in files} for word in ("--code", code)]


# -- audit -------------------------------------------------------------------------------------------------------------


def test_audit_verifies_and_lists(run: Run, site: Any) -> None:
    checked = run("audit", "verify", "--json").json
    rows = run("audit", "list", "--limit", "3", "--json").json
    assert rows[-1]["seq"] == checked["entries"]
    assert rows[-1]["hash"] == checked["head"]
    assert len(rows) == 3
    assert _columns(run("audit", "list").out) <= 100


# -- what a person sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_and_figures_are_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    words = "a long reason why this was left alone, in as many words as it takes to say so, and then some more"
    said = sorted(words.split())
    table = terminal.table("Title", ["file", "rows", "why"], [["x" * 30, 123_456_789, words], ["y", 1, "short"]])
    text = str(table)
    assert _columns(text) <= width
    assert "123,456,789" in text
    assert "…" not in text
    assert sorted(word for line in text.splitlines()[2:] for word in line.split() if word in said) == said


def test_night_summary_fits_a_terminal(run: Run, fresh: Any, finished: Any, tmp_path: Path, day: Any) -> None:
    generate(tmp_path, seed=2, day=day, calls=600, sources=("asterisk",))
    fresh.deliver(tmp_path.rglob("*.csv"))
    ran = run("nightly")
    assert "What came in" in ran.out
    assert "By trunk" in ran.out
    assert "balanced" in ran.out
    assert "\N{HORIZONTAL ELLIPSIS}" not in ran.out
    assert _columns(ran.out) <= 100


# -- what is printed or written steers nothing -------------------------------------------------------------------------

STEERING = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F)]))
STEERING += "".join(map(chr, [*range(0x2066, 0x206A), 0xFEFF]))


@given(st.text(st.sampled_from(STEERING) | st.characters(), max_size=40))
@tries(60)
def test_no_text_that_is_printed_steers_a_terminal(text: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        terminal.say(text)
        terminal.show(text, terminal.table(text, [text], [[text]]), terminal.Records([{text: text}] * 2, [text]))
        terminal.show(*terminal.labelled({"name": text, "list": [text]}))
        fail(Problem(text), as_json=True)
    assert not set(STEERING) - set("\n\t") & set(out.getvalue() + err.getvalue())


@pytest.mark.parametrize("words", [["doctor"], ["nightly"]])
def test_names_that_steer_a_terminal_are_replaced(
    run: Run, workspace: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    folder = tmp_path / "here\x1b[31m\u202e"
    shutil.copytree(workspace("asterisk").folder, folder)
    (folder / "landing" / "asterisk" / "\x9b31mMaster.csv").write_bytes(b"no record\n")
    (folder / "landing" / "\x1b]0;stranger\x07").mkdir()
    monkeypatch.setenv("CALLWARD_CONFIG", str(folder))
    ran = run(*words)
    assert not set(STEERING) - set("\n\t") & set(ran.out + ran.err)
    assert not set(STEERING) - set("\n\t") & set((said := run("sql", "\x1b[31m", "--role", "\x1b[1m")).out + said.err)


def test_wrong_words_are_quoted_without_numbers_and_controls(run: Run, site: Any) -> None:
    for words in (
        ["+13035550142"],
        ["nightly", "--\x1b[31m"],
        ["nightly", "3035550142"],
        ["audit", "list", "--limit", "3035550142x"],
    ):
        ran = run(*words)
        assert ran.code == 2
        assert "5550142" not in ran.err and "\x1b" not in ran.err


# A spreadsheet takes each of these for a formula; pandas reads what stands there.
FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "=1+1\n",
    "＝1+1",
    "+a",
    "=",
    "-",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_for_a_spreadsheet_has_no_formula(run: Run, site: Any, text: str) -> None:
    quoted = text.replace("'", "''")
    ran = run("sql", "--role", "billing", "--format", "csv", f"""SELECT '{quoted}' AS "{text}", -5 AS number""")
    rows = list(csv.reader(io.StringIO(ran.out)))
    assert rows == [[f"'{text}", "number"], [f"'{text}", "-5"]]


@pytest.mark.parametrize("text", ["+17195550142", "-5", "+1.5", "-1,250.75", "words = none", "1-800", ""])
def test_csv_keeps_what_is_no_formula(run: Run, site: Any, text: str) -> None:
    ran = run("sql", "--role", "billing", "--format", "csv", f"SELECT '{text}' AS text, ['=1'] AS list")
    assert list(csv.reader(io.StringIO(ran.out)))[1] == [text, '["=1"]']
