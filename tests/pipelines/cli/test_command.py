"""Commands of the command line: option groups, printed results, and errors as documents."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from callward.errors import Problem, UsageProblem
from pipelines.cli.command import GroupedHelp, command, fail, finish, wants_json
from pipelines.cli.options import Approver, Changing, Printed
from pipelines.results import Part, Result, Rows
from tests.typed import Run, typing

SENTENCE = "the lake is away"
ADVICE = f"{SENTENCE}; run 'callward doctor'"


@dataclass(frozen=True)
class Counted(Result):
    """A result with a name that Python keeps for itself."""

    class_: str
    rows: int

    @property
    def exit_code(self) -> int:
        return 3 if self.rows else 0

    def render(self) -> Iterator[Part]:
        yield f"{self.rows} of {self.class_}"

    def warnings(self) -> Iterator[str]:
        yield "look at it"


def _app() -> typer.Typer:
    app = typer.Typer(cls=GroupedHelp, rich_markup_mode=None)

    @command(app, "callward recycle cdr --rows 2", name="recycle")
    def count(what: Annotated[str, typer.Argument()], options: Changing, rows: int = 0) -> Result:
        """Count."""
        return Counted(f"{what}{' (dry)' if options.dry_run else ''}", rows)

    @command(app, "callward hold --person a --key b", name="hold")
    def approve(approver: Approver, options: Printed) -> Result:
        """Approve."""
        return Rows([Counted(approver.person, 1), Counted(str(approver.key), 2)], "Approved")

    return app


def test_a_group_of_options_reaches_its_command() -> None:
    ran = CliRunner().invoke(_app(), ["recycle", "cdr", "--dry-run", "--json"])
    assert (ran.exit_code, ran.stdout) == (0, '{\n "class": "cdr (dry)",\n "rows": 0\n}\n')


def test_a_required_option_of_a_group_is_required() -> None:
    ran = CliRunner().invoke(_app(), ["hold", "--person", "a"])
    assert ran.exit_code == 2 and "--key" in ran.stderr


def test_a_result_decides_the_exit_code_and_warns_on_standard_error() -> None:
    ran = CliRunner().invoke(_app(), ["recycle", "cdr", "--rows", "2"])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (3, "2 of cdr\n", "look at it\n")


def test_rows_are_a_table_for_a_person_and_a_list_for_a_program() -> None:
    rows = Rows([Counted("a", 1)], "Approved")
    assert rows.to_dict() == [{"class": "a", "rows": 1}]
    assert [str(part).splitlines()[0] for part in rows.render()] == ["Approved"]
    assert list(Rows([], "Approved").render()) == ["Approved: none"]


def test_help_lists_commands_under_their_headings_and_ends_with_an_example() -> None:
    text = CliRunner().invoke(_app(), ["--help"]).stdout
    assert text.index("Run:") < text.index("recycle") < text.index("Keep:") < text.index("hold")
    lines = CliRunner().invoke(_app(), ["recycle", "--help"]).stdout.rstrip().splitlines()
    assert lines[-1].strip() == "callward recycle cdr --rows 2"


@pytest.mark.parametrize(
    ("error", "code", "document"),
    [
        (Problem(SENTENCE), 1, {"error": SENTENCE, "code": "problem", "hint": None}),
        (Problem(ADVICE), 1, {"error": ADVICE, "code": "problem", "hint": "run 'callward doctor'"}),
        (UsageProblem(SENTENCE, hint="try later"), 2, {"error": SENTENCE, "code": "usage", "hint": "try later"}),
        (FileNotFoundError(2, "No such file", "/a"), 1, {"error": "/a: No such file", "code": "io", "hint": None}),
        (KeyError("+13035550100"), 1, {"error": "a defect (KeyError)", "code": "defect", "hint": "please report it"}),
    ],
)
def test_every_error_is_a_sentence_and_a_document(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, document: dict[str, Any]
) -> None:
    assert fail(error, as_json=True) == code
    printed = capsys.readouterr()
    assert json.loads(printed.out) == document
    assert printed.err.startswith(f"callward: {document['error']}") and printed.err.count("\n") == 1
    assert fail(error, as_json=False) == code
    assert capsys.readouterr().out == ""


def test_json_is_asked_for_by_an_option_and_not_by_what_follows_two_dashes() -> None:
    assert wants_json(["sql", "--json", "SELECT 1"])
    assert not wants_json(["sql", "--", "--json"])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with typing(capsys, monkeypatch) as typed:
        yield typed


def test_wrong_usage_is_a_document_too(run: Run, tmp_path: Path) -> None:
    ran = run("doctor", "--json", "--no-such-option")
    assert (ran.code, ran.json["code"], ran.json["hint"]) == (2, "usage", "callward doctor --help")
    ran = run("sql", "SELECT 1", "--role", "billing", "--json", "--config", tmp_path / "none.toml")
    assert (ran.code, ran.json["code"]) == (2, "usage") and ran.json["error"] in ran.err


@dataclass(frozen=True)
class Unprintable(Result):
    """What a run committed, with a value that nothing can print."""

    rows: Any

    @property
    def exit_code(self) -> int:
        return 3

    def render(self) -> Iterator[str]:
        yield f"{self.rows:,d}"


@pytest.mark.parametrize("as_json", [True, False])
def test_what_fails_while_printing_changes_no_exit_code_of_what_was_committed(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """For a program it is a document all the same; what changed nothing has failed when it could not be shown."""
    result = Unprintable({("not", "a key"): 1})
    with pytest.raises(typer.Exit) as ended:
        finish(result, as_json, committed=True)
    assert ended.value.exit_code == 3
    printed = capsys.readouterr()
    assert printed.err.startswith("callward: it is done, and could not be printed: a defect (TypeError")
    assert bool(printed.out) == as_json
    if as_json:
        assert json.loads(printed.out)["error"] in printed.err
    with pytest.raises(TypeError):
        finish(result, as_json)


@pytest.mark.parametrize(("words", "code"), [(("compact",), 0), (("compact", "--dry-run"), 1), (("audit", "list"), 1)])
def test_a_full_disk_behind_the_output_is_no_failure_of_what_was_committed(
    words: tuple[str, ...], code: int, workspace: Any
) -> None:
    """The command in a process of its own: Python flushes once more at its end."""
    site = workspace("generic")
    program = [sys.executable, "-m", "pipelines.cli.main", *words, "--config", str(site.folder)]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count("\n") == 1 and "No space left on device" in ended.stderr
