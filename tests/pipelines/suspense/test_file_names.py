"""Promises of landing files' names: a number in one is stored and shown nowhere, and its file is found by an id."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from callward import database
from schemas.tables import audit_log, input_files, runs
from tests.typed import Run, typing

RECORD = (
    b'"","1003","1004","default","","SIP/a-1","","Hangup","","2026-03-05 10:00:00",,"2026-03-05 10:00:05",5,0,'
    b'"NO ANSWER","DOCUMENTATION","1772730000.%d",""\n'
)
NUMBERED = {
    "719_555_0178.csv": "###_###_####.csv",
    "+44 20 7946 0958.csv": "+## ## #### ####.csv",
    "20201231.csv": "########.csv",
    "case5550178.csv": "case#######.csv",
    "٧١٩٥٥٥٠١٧٨.csv": "##########.csv",
    "719/555/0178": "###/###/####",
}
READABLE = ("6f1c7a52-0c3e-4b7e-9a51-012345678901.csv", "2026-03-05T10.csv", "Master-2026-03-05-001.csv")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with typing(capsys, monkeypatch, columns=200) as typed:
        yield typed


@pytest.fixture
def site(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_CONFIG", str(made.folder))
    return made


def _numbered(lines: str) -> list[str]:
    """Return the lines that hold a number in the clear."""
    return [line for line in lines.splitlines() if any(name.removesuffix(".csv") in line for name in NUMBERED)]


def _stored(site: Any) -> str:
    with database.reading(site.settings) as connection:
        rows = [row for table in (input_files, audit_log, runs) for row in connection.execute(select(table))]
    return "\n".join(map(str, rows))


def test_numbers_in_names_stand_nowhere_and_readable_names_stay(run: Run, site: Any) -> None:
    for number, name in enumerate([*NUMBERED, *READABLE]):
        path = site.settings.landing_path / "asterisk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(RECORD % number)
    site.land("asterisk", "719_555_0178.part", b"x")
    site.land("asterisk", "719.555.0179.csv", b"no record\n" * 50)
    printed = run("nightly", "--dry-run", "--files").out
    ran = run("nightly", "--json")
    assert ran.code in (0, 3), ran.err
    shown = {f"asterisk/{masked}" for masked in (*NUMBERED.values(), *READABLE)}
    assert shown <= {file["file"] for file in ran.json["files"]}
    for words in (["nightly", "--files"], ["nightly"], ["suspense", "list"], ["suspense", "list", "--files", "--json"]):
        printed += run(*words).out
    assert _numbered(printed + ran.out + ran.err) == []
    assert _numbered(_stored(site)) == []


def test_a_file_is_found_by_its_id_before_and_after_it_was_taken(run: Run, site: Any) -> None:
    site.land("asterisk", "first.csv", RECORD % 0)
    assert run("nightly").code == 0  # the key of ids is there now
    site.land("asterisk", "719_555_0178.csv", RECORD % 1)
    site.land("asterisk", "719_555_0178.csv.part", b"x")
    (site.settings.landing_path / "7195550178").mkdir()  # a folder of no source
    planned = {file["would"]: file for file in run("nightly", "--dry-run", "--json").json}
    taken = planned["be taken in"]
    assert taken["file"] == "asterisk/###_###_####.csv"
    ran = run("suspense", "file", taken["file_id"], "--reason", "ticket A", "--json")
    assert [(file["status"], file["name"]) for file in ran.json] == [("in landing", "asterisk/719_555_0178.csv")]
    night = run("nightly", "--json").json
    assert [file["file_id"] for file in night["files"]] == [taken["file_id"]]
    left = [file["file_id"] for file in night["left_alone"]]
    named = [run("suspense", "file", file_id, "--reason", "ticket A", "--json").json for file_id in left]
    assert [file["name"] for (file,) in named] == ["7195550178", "asterisk/719_555_0178.csv.part"]
    (named,) = run("suspense", "file", taken["file_id"], "--reason", "ticket A", "--json").json
    assert (named["status"], named["name"], named["file_no"]) == ("removed", "asterisk/719_555_0178.csv", 2)
    reasons = [entry["reason"] for entry in run("audit", "list", "--json", "--limit", "50").json]
    assert "ticket A" in reasons


def test_an_id_is_letters_and_keyed(run: Run, site: Any, workspace: Callable[..., Any]) -> None:
    other = workspace("asterisk")
    ids = []
    for at in (site, other):
        at.land("asterisk", "719_555_0178.csv", RECORD % 1)
        (file,) = run("nightly", "--json", "--config", at.folder).json["files"]
        ids.append(file["file_id"])
    assert all(len(file_id) == 10 and file_id.isalpha() for file_id in ids)
    assert ids[0] != ids[1]  # each register has a key of its own
    gone = run("suspense", "file", ids[1], "--reason", "x")
    assert gone.code == 1 and "no file of that id" in gone.err
