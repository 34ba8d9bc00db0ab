"""What `callward try` promises: it says what a night would do, writes nothing, shows no number, and helps to start."""

import gzip
import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import select

from callward import database
from callward.redaction import number_at
from callward.settings import Settings, Source, Trunk, load
from callward.workspace import WorkspaceRef, open_workspace
from pipelines.reports.trial import TrialReport
from pipelines.trial.candidates import candidates
from pipelines.trial.reading import trial
from pipelines.trial.specimen import specimens
from schemas import declaration
from schemas.codes import Bucket
from schemas.tables import input_files, ledger_entries
from tests.examples import tries
from tests.mutations import FEEDS, GOLDEN, mutated_files
from tests.typed import Run, typing

_HEADER = "call_id,start,answer,end,talk_s,from,to,account\n"
_OF_EACH_FORMAT = [  # the largest file
    max((path for path in FEEDS if path.parent.name == name), key=lambda path: path.stat().st_size)
    for name in sorted({path.parent.name for path in FEEDS})
]
_NUMBER = re.compile(rb"[0-9]{7,}")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """run("try", "calls.csv", …) → how `callward try calls.csv …` ended."""
    with typing(capsys, monkeypatch) as typed:
        yield typed


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with no workspace anywhere near."""
    monkeypatch.delenv("CALLWARD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _call(number: int, start: str = "2026-03-05 10:00:00", talk: object = 30, **others: str) -> str:
    row = {"answer": "", "end": "", "from": "3035550101", "to": "+12125550102", "account": "ac-1"} | others
    return f"id-{number},{start},{row['answer']},{row['end']},{talk},{row['from']},{row['to']},{row['account']}\n"


def _calls(path: Path, *calls: str) -> Path:
    path.write_text(_HEADER + "".join(calls))
    return path


def _tried(run: Run, *words: object) -> dict[str, Any]:
    (reading,) = run("try", *words, "--json").json["readings"]
    return dict(reading)


# -- what a night would do ---------------------------------------------------------------------------------------------


def _suspended(site: Any) -> dict[str, Counter[str]]:
    """Records in suspense by source and code, as a night left them; without what only other records decide."""
    counts: dict[str, Counter[str]] = {}
    query = select(input_files.c.source, ledger_entries.c.code, ledger_entries.c.rows)
    query = query.join(input_files, input_files.c.file_no == ledger_entries.c.file_no)
    with database.reading(site.settings) as connection:
        for row in connection.execute(query.where(ledger_entries.c.bucket == Bucket.SUSPENDED)):
            if row.code not in ("CONFLICT", "PARTIAL"):
                counts.setdefault(row.source, Counter())[row.code] += row.rows
    return {name: +by for name, by in counts.items()}


def _check_agrees(run: Run, site: Any, files: dict[str, bytes]) -> None:
    """Try each file in its source's landing folder, run the night, and compare what is suspended and what stays."""
    tried = {}
    for name, data in files.items():
        site.land(name, "feed.txt", data)
        tried[name] = run("try", site.settings.landing_path / name / "feed.txt", "--json", "--config", site.folder).json
    night = run("nightly", "--json", "--config", site.folder).json
    left = {item["file"].partition("/")[0] for item in night["left_alone"]}
    suspended = _suspended(site)
    for name, document in tried.items():
        counts = {row["code"]: row["records"] for reading in document["readings"] for row in reading["suspended"]}
        assert counts == suspended.get(name, {}), name
        assert bool(document["unread"]) == (name in left) or not files[name], (name, document["unread"])


def test_try_counts_by_suspense_code_what_a_night_suspends(
    run: Run, workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    files = {f"s{number}": path for number, path in enumerate(_OF_EACH_FORMAT)}
    site = workspace(*(feed_source(name, format=path.parent.name, zone="UTC") for name, path in files.items()))
    _check_agrees(run, site, {name: path.read_bytes() for name, path in files.items()})


@tries(2, suppress_health_check=list(HealthCheck))
# A file that came in under another source is refused whole (tests/pipelines/test_sources.py).
@given(files=st.lists(mutated_files(), min_size=12, max_size=12, unique_by=lambda file: file[1]))
def test_try_counts_what_a_night_suspends_of_files_that_something_happened_to(
    files: list[tuple[Path, bytes]], run: Run, workspace: Callable[..., Any], feed_source: Callable[..., Any]
) -> None:
    names = {f"s{number}": path.parent.name for number, (path, _) in enumerate(files)}
    site = workspace(*(feed_source(name, format=form, zone="UTC") for name, form in names.items()))
    _check_agrees(run, site, {f"s{number}": data for number, (_, data) in enumerate(files) if data})


def test_a_file_over_its_threshold_is_set_aside_whole_in_both(run: Run, workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    lines = [_call(n) for n in range(60)] + [_call(n, start="never") for n in range(60, 120)]
    _check_agrees(run, site, {"generic": (_HEADER + "".join(lines)).encode()})


def test_the_line_of_the_first_record_with_a_code_is_that_of_the_file(run: Run, alone: Path) -> None:
    blank = "\r\n\n"
    path = _calls(alone / "calls.csv", _call(1), blank, _call(2), _call(3, start="never"), _call(4, talk="x"))
    rows = {row["code"]: (row["file"], row["line"]) for row in _tried(run, path)["suspended"]}
    assert rows == {"TIME": ("calls.csv", 6), "FIELD": ("calls.csv", 7)}


# -- which format fits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", _OF_EACH_FORMAT, ids=lambda path: path.parent.name)
def test_a_file_is_recognized_as_of_its_format(path: Path, run: Run, alone: Path) -> None:
    assert _tried(run, path)["format"] == path.parent.name


def test_a_file_that_no_format_reads_says_why_of_each(run: Run, alone: Path) -> None:
    (alone / "what.xml").write_text("<calls><call/></calls>\n")
    ran = run("try", alone / "what.xml", "--json")
    assert ran.code == 3
    assert {fit["format"] for fit in ran.json["refused"]} >= {"asterisk", "cucm", "generic_csv"}
    assert all("looks like XML" in fit["why"] for fit in ran.json["refused"])


def test_a_source_of_the_settings_comes_before_its_bare_format(run: Run, workspace: Callable[..., Any]) -> None:
    site = workspace("asterisk")
    reading = _tried(run, GOLDEN / "asterisk" / "Master.csv", "--config", site.folder)
    assert (reading["source"], reading["zone"], reading["toml"]) == ("asterisk", "America/Denver", "")


def test_a_source_that_would_read_more_when_changed_is_read_as_it_is(run: Run, workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    path = site.folder / "semicolons.csv"
    path.write_text((_HEADER + _call(1) + _call(2)).replace(",", ";"))
    document = run("try", path, "--source", "generic", "--json", "--config", site.folder).json
    assert "separated by" in document["unread"][0]["why"] and not document["readings"]
    assert 'delimiter = ";"' in document["refused"][0]["toml"]


# -- ready to paste ----------------------------------------------------------------------------------------------------

_PASTED = {
    "plain": _HEADER + _call(1) + _call(2),
    "semicolons": (_HEADER + _call(1) + _call(2)).replace(",", ";"),
    "tabs": (_HEADER + _call(1) + _call(2)).replace(",", "\t"),
    "day first": _HEADER + _call(1, start="13/3/2026 10:00:00") + _call(2, start="2/3/2026 10:00"),
    "month first": _HEADER + _call(1, start="3/13/2026 10:00:00") + _call(2, start="3/2/2026 10:00"),
    "points": _HEADER + _call(1, start="13.03.2026 10:00:00") + _call(2, start="02.03.2026 10:00"),
    "latin-1": _HEADER + _call(1, account="caf\u00e9") + _call(2),
    "trunk": (GOLDEN / "asterisk" / "plain16.csv").read_text(),
    "quotes": (GOLDEN / "freepbx_web" / "cdr26.csv").read_text().replace("from-internal", 'a"b\\c'),
}


@pytest.mark.parametrize("kind", _PASTED)
def test_what_is_to_paste_loads_and_reads_the_file(kind: str, run: Run, alone: Path) -> None:
    path = alone / "feed.csv"
    path.write_text(_PASTED[kind], encoding="latin-1")
    reading = _tried(run, path)
    assert run("init", alone / "site").code == 0
    settings_file = alone / "site" / "callward.toml"
    settings_file.write_text(settings_file.read_text() + "\n" + reading["toml"])
    settings = load(alone / "site")
    (source,) = settings.sources
    workspace = open_workspace(WorkspaceRef.of(settings, "ops", "test"))
    assert workspace.declaration(source).name == reading["format"] and workspace.plan(source)
    again = _tried(run, path, "--source", source.name, "--config", alone / "site")
    assert (again["suspended"], again["sound"]) == (reading["suspended"], reading["sound"])
    assert (again["sound"] > 0 and not again["unlisted"]["trunks"]) or kind == "trunk" or kind == "quotes"


@tries(12, suppress_health_check=list(HealthCheck))
@given(mutated=mutated_files())
def test_whatever_a_file_is_there_is_a_reading_or_a_reason_and_what_is_to_paste_is_right(
    mutated: tuple[Path, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes(mutated[1])
    settings = Settings(path=tmp_path / "callward.toml")
    result = trial(list(specimens(path, ())), candidates(settings, path, None, None, "UTC"), str)
    report = TrialReport(result)
    assert (result.readings or result.unread) and list(report.render())
    assert number_at(report.to_dict()) is None
    for reading in report.to_dict()["readings"]:
        tables = tomllib.loads(reading["toml"])
        (source,) = (Source(**table) for table in tables["sources"])
        assert declaration.load(source.format, source.declare).name == reading["format"]
        assert len({Trunk(**table).name for table in tables.get("trunks", [])}) == len(tables.get("trunks", []))


# -- what looks wrong --------------------------------------------------------------------------------------------------


def _findings(run: Run, *words: object) -> str:
    return "\n".join(_tried(run, *words)["findings"])


def test_talk_that_looks_like_milliseconds_is_named(run: Run, alone: Path) -> None:
    span = {"answer": "2026-03-05 10:00:05", "end": "2026-03-05 10:00:35"}
    told = _findings(run, _calls(alone / "a.csv", *(_call(n, talk=30_000, **span) for n in range(3))))
    assert "longer than from start to end in 3 records" in told and 'unit = "ms"' in told
    without_end = _findings(run, _calls(alone / "b.csv", *(_call(n, talk=60_000) for n in range(3))))
    assert "look like milliseconds" in without_end
    a_little = {"answer": "2026-03-05 10:00:05", "end": "2026-03-05 10:00:25"}
    told = _findings(run, _calls(alone / "c.csv", _call(1, talk=30, **a_little), _call(2)))
    assert "in 1 record" in told and "milliseconds" not in told


def test_talk_in_seconds_that_is_declared_as_milliseconds_is_named(run: Run, alone: Path) -> None:
    path = alone / "a.csv"
    path.write_text((_HEADER + "".join(_call(n, talk=40) for n in range(5))).replace("talk_s", "talk_ms"))
    assert 'unit = "s"' in _findings(run, path)


def test_stamps_of_another_zone_are_named_by_the_epoch_beside_them(run: Run, alone: Path) -> None:
    path = GOLDEN / "freepbx_database" / "iso25.csv"
    assert "6 h before" in _findings(run, path, "--zone", "UTC")
    assert "zone" not in _findings(run, path, "--zone", "America/Chicago")
    in_utc = (alone / "utc.csv", path.read_text().replace("1772", "1772"))
    in_utc[0].write_text(re.sub(r"2026-03-02 09:", "2026-03-02 15:", in_utc[1]))
    assert "look like UTC" in _findings(run, in_utc[0], "--zone", "America/Chicago")


def test_calls_after_their_file_are_named(run: Run, alone: Path) -> None:
    path = _calls(alone / "a.csv", _call(1, start="2026-03-05 10:00:00"))
    os.utime(path, (1_772_704_800 - 7200,) * 2)  # two hours before
    assert "1 record starting after the file was written" in _findings(run, path)


def test_dates_of_which_days_and_months_cannot_be_told_apart_are_named(run: Run, alone: Path) -> None:
    path = GOLDEN / "freeswitch_spreadsheet" / "asterisk.csv"
    assert "the month is taken to come first" in _findings(run, path)
    clear = alone / "a.csv"
    clear.write_bytes(path.read_bytes().replace(b"3/2/2026", b"3/22/2026"))
    assert "first" not in _findings(run, clear)


def test_names_that_the_settings_do_not_list_and_shapes_of_numbers_are_counted(run: Run, alone: Path) -> None:
    path = _calls(
        alone / "a.csv", _call(1, to="00"), _call(2, to="9" * 17), _call(3, to="9" * 17, account="3035550199")
    )
    reading = _tried(run, path)
    assert reading["unlisted"]["account_codes"] == [{"name": "ac-1", "records": 2}, {"name": "#" * 10, "records": 1}]
    assert {"party": "called", "shape": "999" + "#" * 14, "records": 2} in reading["numbers"]
    assert reading["null_pct"]["called_number"] < 100 == reading["null_pct"]["mos"]


# -- nothing written, nothing shown ------------------------------------------------------------------------------------


def _all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written(run: Run, workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    site = workspace("asterisk")
    monkeypatch.chdir(site.folder)
    monkeypatch.delenv("CALLWARD_CONFIG", raising=False)
    site.land("asterisk", "Master.csv.gz", gzip.compress((GOLDEN / "asterisk" / "Master.csv").read_bytes()))
    before = _all_bytes(site.folder)
    detected = GOLDEN / "generic_csv" / "usage.csv"
    for words in ((site.settings.landing_path,), (detected, "--json"), (GOLDEN / "cucm", "--format", "cucm")):
        assert run("try", *words).code == 3
    assert _all_bytes(site.folder) == before


def test_no_number_is_shown(run: Run, alone: Path) -> None:
    """Every golden file: no text of the document looks like a number, and no digits of a file are on the terminal."""
    for folder in sorted({path.parent for path in FEEDS}):
        assert number_at(run("try", folder, "--format", folder.name, "--json").json) is None
        shown = run("try", folder, "--format", folder.name)
        digits = {found.decode() for path in folder.iterdir() for found in _NUMBER.findall(path.read_bytes())}
        assert not set(re.findall(r"[0-9]{7,}", shown.out + shown.err)) & digits, folder.name


def test_no_number_hides_in_names_of_files_columns_trunks_and_contexts(run: Run, alone: Path) -> None:
    number = "3035550101"
    master = (GOLDEN / "asterisk" / "plain16.csv").read_text()
    hidden = master.replace("from-internal", f"ctx-{number}").replace("PJSIP/desk-", f"PJSIP/{number}-")
    (alone / f"{number}.csv").write_text(hidden.replace("acme", number))
    _calls(alone / f"x{number}.csv", _call(1, to=f"user{number}x"), _call(2, start=number))
    for ran in (run("try", alone), run("try", alone, "--json")):
        assert number not in ran.out + ran.err and ran.out


# -- as a person types it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere.csv",), "nowhere.csv"),
        (("a.csv", "--format", "nope"), "there is no declaration 'nope'"),
        (("a.csv", "--source", "x"), "callward init"),
        (("a.csv", "--source", "x", "--format", "asterisk"), "--source or --format"),
        (("a.csv", "--zone", "Mars"), "no time zone"),
    ],
)
def test_wrong_words_are_said_in_one_sentence(words: tuple[str, ...], told: str, run: Run, alone: Path) -> None:
    _calls(alone / "a.csv", _call(1))
    ran = run("try", *words)
    assert ran.code == 2 and told in ran.err and not ran.out


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("empty.csv", b"", "it is empty"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" * 9000, mtime=0)[:40], "cut short"),
        ("fake.csv.gz", b"a,b\n", "not packed by gzip"),
        ("noise.csv", bytes(range(256)) * 20, "is binary"),
        ("push-x.seal", b"CWSEAL", "sealed by the receiver"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, data: bytes, told: str, run: Run, alone: Path) -> None:
    (alone / name).write_bytes(data)
    ran = run("try", name, "--json")
    assert ran.code == 3 and told in ran.json["unread"][0]["why"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_file_that_may_not_be_read_is_said_in_one_sentence(run: Run, alone: Path) -> None:
    _calls(alone / "a.csv", _call(1)).chmod(0)
    ran = run("try", "a.csv")
    assert (ran.code, ran.out) == (1, "") and "Permission denied" in ran.err


def test_a_sound_file_ends_with_0_and_a_folder_is_read_whole(run: Run, alone: Path) -> None:
    text = _HEADER + _call(1) + _call(2, start="2026-03-06 10:00:00")
    (alone / "in").mkdir()
    (alone / "in" / "a.csv").write_text(text)
    (alone / "in" / "b.csv.gz").write_bytes(gzip.compress(text.replace("id-", "no-").encode()))
    (alone / "in" / "c.csv").write_text("\ufeff" + text.replace("id-", "nu-"), encoding="utf-16")
    for name in (".hidden", "a.csv.done", "d.csv.tmp"):
        (alone / "in" / name).write_text("x")
    ran = run("try", "in", "--json")
    (reading,) = ran.json["readings"]
    assert (ran.code, reading["files"], reading["records"], reading["sound"]) == (0, 3, 6, 6)
    assert (reading["first_start"][:10], reading["last_start"][:10]) == ("2026-03-05", "2026-03-06")
    assert json.loads(json.dumps(ran.json)) == ran.json
