"""Promises of options: no number gets through one into what is stored or shown, and blanks say nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pipelines.cli.main import app
from pipelines.cli.options import in_words
from tests.typed import Run, typing

NUMBERS = ["+44 20 7946 0958", "case5550178", "719_555_0178", "719/555/0178", "01 23 45 67 89", "７１９５５５０１７８"]
SELECT = "SELECT count(*) FROM billing"
# Text that is not recorded as it is given: numbers themselves, SQL, dates, names of files and folders, sealed notes;
# and a login of the database, which is compared with those that are there.
AS_GIVEN = {
    *("--config", "statement", "--number", "--number-file", "--numbers-file", "--statement-file", "--recipient"),
    *("certificate", "name", "hold_id", "request_id", "--role", "--tail", "--identity", "--note", "user"),
    *("--format", "--from", "--to", "--expires", "--confidential-until", "--received", "--file"),
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with typing(capsys, monkeypatch) as typed:
        yield typed


@pytest.fixture
def site(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    made = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_CONFIG", str(made.folder))
    return made


def _parameters(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _parameters(inner, f"{path} {name}".strip())
    yield from ((path, parameter) for parameter in command.params)


TEXTS = [
    (path, p)
    for path, p in _parameters(get_command(app))
    if getattr(p, "type_descriptor", None) and p.type_descriptor.annotation in (str, list[str])
]


def test_every_option_that_takes_text_is_checked_or_named_here() -> None:
    assert len(TEXTS) > 100
    unchecked = {(path, p.opts[0]) for path, p in TEXTS if getattr(p.callback, "__wrapped__", None) is not in_words}
    assert {option for _, option in unchecked} == AS_GIVEN
    assert not unchecked & {("sql", "--role"), ("keys approver add", "name"), ("keys approver new", "name")}


def test_every_checked_option_refuses_a_number_and_repeats_none(run: Run) -> None:
    checked = [(path, p.opts[0]) for path, p in TEXTS if getattr(p.callback, "__wrapped__", None) is in_words]
    for at, (path, option) in enumerate(checked):
        number = NUMBERS[at % len(NUMBERS)]
        ran = run(*path.split(), *([option] if option.startswith("-") else []), number)
        assert (ran.code, ran.out) == (2, ""), (path, option, ran)
        assert "looks like a telephone number" in ran.err and _digits(number) not in _digits(ran.err), (path, option)


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdecimal())


def _assert_nowhere(site: Any, number: str, *printed: str) -> None:
    """Nothing that was printed, no file of the workspace and no row of the database holds the number."""
    stored = [path.read_bytes() for path in Path(site.folder).iterdir() if path.is_file()]
    for text in printed:
        assert number not in text and _digits(number) not in _digits(text)
    assert not any(number.encode() in data for data in stored)


@pytest.mark.parametrize("number", NUMBERS)
def test_sql_refuses_a_number_as_purpose_or_case_and_records_nothing(run: Run, site: Any, number: str) -> None:
    for purpose, case in ((number, "CASE-1"), ("dispute", number), (f"of {number}!", "CASE-1")):
        ran = run("sql", "--role", "billing", "--purpose", purpose, "--case", case, SELECT)
        assert (ran.code, ran.out) == (2, ""), ran.err
        assert "looks like a telephone number" in ran.err and len(ran.err.splitlines()) == 1
        _assert_nowhere(site, number, ran.err)


def test_a_blank_purpose_and_case_open_no_numbers(run: Run, site: Any) -> None:
    columns = "SELECT * FROM billing"
    plain = run("sql", "--role", "billing", "--format", "csv", columns)
    assert plain.code == 0, plain.err
    for blank in (" ", "\t", "\u00a0", "\u3000 ", ""):
        ran = run("sql", "--role", "billing", "--purpose", blank, "--case", blank, "--format", "csv", columns)
        assert (ran.code, ran.out) == (0, plain.out)
        assert "calling_number" not in ran.out
        half = run("sql", "--role", "billing", "--purpose", "dispute", "--case", blank, "--format", "csv", columns)
        assert half.code == 2 and "give both" in half.err


@pytest.mark.parametrize(
    "words",
    [
        ["keys", "rotate", "--domain", "billing", "--reason"],
        ["keys", "export", "--reason"],
        ["keys", "copy", "add", "--domain", "billing", "--place"],
        ["suspense", "show", "1", "--reason"],
        ["hold", "place", "--tenant", "default", "--kind", "litigation", "--case", "case A", "--authority"],
        ["hold", "place", "--tenant", "default", "--kind", "litigation", "--authority", "the court", "--case"],
        ["policy", "propose", "policy.toml", "--tenant", "default", "--person", "ada", "--key", "k", "--reference"],
        ["policy", "propose", "policy.toml", "--tenant", "default", "--key", "k", "--person"],
        ["keys", "approver", "add", "--public", "ab" * 32],
    ],
)
def test_what_must_be_said_is_no_blank_and_no_number(run: Run, site: Any, words: list[str]) -> None:
    for blank in (" ", "\u3000", "\t\u00a0"):
        ran = run(*words, blank)
        assert (ran.code, ran.out) == (2, "") and "is blank" in ran.err, ran.err
    for number in NUMBERS:
        ran = run(*words, number)
        assert (ran.code, ran.out) == (2, "") and "looks like a telephone number" in ran.err, ran.err
        _assert_nowhere(site, number, ran.err)


def test_words_are_recorded_as_they_were_checked(run: Run, site: Any) -> None:
    words = ("sql", "--role", "billing", "--purpose", " ｄispute\u00a0A ", "--case", "\u3000CASE-1\n")
    assert run(*words, SELECT).code == 0
    log = run("audit", "list", "--json").json
    assert "dispute A CASE-1" in [entry["reason"] for entry in log]


def test_wrong_words_on_a_command_line_are_shown_without_a_number(run: Run, site: Any) -> None:
    for words in (
        ["suspense", "show", "719-555-0178", "--reason", "x"],
        ["purge", "--as-of", "719-555-0178"],
        ["7195550178"],
        ["nightly", "--7195550178"],
        ["nightly", "7195550178"],
        ["nightly", "--source", "east", "--config", "719 555 0178"],
        ["policy", "lint", "no/719_555_0178.toml"],
        ["sweep", "no/719_555_0178/file"],
        ["release", "attack", "--page", __file__, "--tenant", "719_555_0178"],
    ):
        ran = run(*words)
        assert ran.code == 2
        assert "7195550178" not in _digits(ran.err + ran.out), ran.err
