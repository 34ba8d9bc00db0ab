"""What every command keeps: --json, a dry run where it changes something, an example at the end of its help."""

import shlex
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from pipelines.cli.command import HEADINGS
from pipelines.cli.main import app

NOT_YET = ("purge",)
ROOT: Any = get_command(app)
# These change nothing but the audit log. All others must have a dry run.
READING = {
    "accounts history",
    "accounts lint",
    "accounts list",
    "accounts unassigned",
    "audit list",
    "sources second",
    "audit verify",
    "case list",
    "doctor",
    "hold list",
    "hold show",
    "keys approver list",
    "keys list",
    "policy example",
    "policy lint",
    "policy list",
    "policy show",
    "purge calendar",
    "purge certificates list",
    "purge certificates show",
    "purge verify",
    "release attack",
    "release budget",
    "release example",
    "release lint",
    "release list",
    "release preview",
    "release show",
    "request list",
    "settings check",
    "settings diff",
    "sources list",
    "sql",
    "status",
    "stream status",
    "suspense file",
    "suspense list",
    "suspense show",
    "sweep",
    "try",
}


def _commands(command: Any = ROOT, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path of each command that can be run, and the command: the leaves, and groups that do something."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    if path and command.invoke_without_command:
        yield path, command
    for name, inner in command.commands.items():
        yield from _commands(inner, f"{path} {name}".strip())


COMMANDS = {path: command for path, command in _commands() if not path.startswith(NOT_YET)}


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def _example(command: Any) -> str:
    """Return the line that a command's help ends with."""
    lines = CliRunner().invoke(app, [*_path_of(command), "--help"]).stdout.rstrip().splitlines()
    assert lines[-2].strip() == "Example:", lines[-3:]
    return lines[-1].strip()


def _path_of(command: Any) -> list[str]:
    return next((path.split() for path, other in COMMANDS.items() if other is command), [])


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_prints_a_document_when_asked(path: str) -> None:
    assert "--json" in _options(COMMANDS[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_that_changes_something_has_a_dry_run(path: str) -> None:
    assert ("--dry-run" in _options(COMMANDS[path])) != (path in READING)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_that_can_be_typed(path: str) -> None:
    program, *words = shlex.split(_example(COMMANDS[path]))
    assert program == "callward" and words[: len(path.split())] == path.split()
    command, rest, context = ROOT, words, None
    for name in path.split():
        context = command.make_context(command.name, [*rest], parent=context, resilient_parsing=True)
        command, rest = command.commands[name], rest[1:]
    command.make_context(command.name, rest, parent=context).close()  # wrong or missing options are an error here


def test_the_help_lists_every_command_under_a_heading() -> None:
    assert sorted(name for names in HEADINGS.values() for name in names) == sorted(ROOT.commands)
    text = CliRunner().invoke(app, ["--help"]).stdout
    headings = [text.index(f"{heading}:") for heading in HEADINGS]
    assert headings == sorted(headings) and "Other:" not in text


def test_the_version_is_that_of_the_installation() -> None:
    ran = CliRunner().invoke(app, ["--version"])
    assert (ran.exit_code, ran.stdout) == (0, f"callward {version('callward')}\n")
