"""A command of the command line: its options in groups, its example, and what it did, printed.

The function of a command returns a Result, which is printed here; how it ends decides the exit code. Errors are
documents too where --json is given: {error, code, hint}.
"""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final, get_type_hints

import typer
from typer.core import TyperGroup

from callward.error_text import error_text
from callward.errors import Problem
from callward.redaction import mask
from pipelines import terminal
from pipelines.cli.options import Printed
from pipelines.results import Result

GROUPS: Final = ("Set up", "Run", "Ask", "Keep", "Publish", "Charge", "Keys")
_DEFECT_HINT: Final = "please report it"


class GroupedHelp(TyperGroup):
    """A group whose help lists its commands under the headings of GROUPS, in the order they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        limit = formatter.width - 6 - max(len(name) for name, _ in commands)
        for heading in (*GROUPS, None):
            rows = [
                (name, command.get_short_help_str(limit))
                for name, command in commands
                if command is not None and getattr(command, "rich_help_panel", None) == heading
            ]
            if rows:
                with formatter.section(heading or "Other"):
                    formatter.write_dl(rows)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def example(line: str) -> str:
    """Return what the help of a command ends with: an example that is not wrapped."""
    return f"\b\nExample:\n  {line}"


def command(
    app: typer.Typer, line: str, *, name: str | None = None, group: str | None = None
) -> Callable[[Callable[..., Result | None]], Callable[..., Result | None]]:
    """Add a command to `app`, with the example `line` at the end of its help.

    The function may take option groups (dataclasses whose fields are options), of which one is a `Printed`, and
    returns its result, or None where it printed by itself.
    """

    def add(function: Callable[..., Result | None]) -> Callable[..., Result | None]:
        app.command(name, epilog=example(line), rich_help_panel=group)(printing(function))
        return function

    return add


def printing(function: Callable[..., Result | None]) -> Callable[..., None]:
    """Return a function for Typer with the options of `function`'s groups side by side, that prints its result."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if name != "return" and is_dataclass(hint)}

    def run(**given: Any) -> None:
        values = {name: given.pop(name) for name in list(given) if name in hints}
        made = {name: group(**{f.name: given[f.name] for f in fields(group)}) for name, group in groups.items()}
        result = function(**values, **made)
        if result is not None:
            finish(result, any(isinstance(group, Printed) and group.as_json for group in made.values()))

    run.__doc__, run.__name__ = function.__doc__, function.__name__
    run.__signature__ = inspect.Signature(_parameters(function, hints, groups))  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def _parameters(
    function: Callable[..., Any], hints: Mapping[str, Any], groups: Mapping[str, Any]
) -> list[inspect.Parameter]:
    """Return the parameters of a function in their order, each group replaced by its fields."""
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += _of_group(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    return parameters


def _of_group(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    signature = inspect.signature(group)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=signature.parameters[field.name].default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def finish(result: Result, as_json: bool) -> None:
    """Print a result and raise typer.Exit with its exit code, if it is not 0."""
    if as_json:
        terminal.document(result.to_dict())
    else:
        terminal.show(*result.render())
        for sentence in result.warnings():
            terminal.say(sentence)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


# -- errors ------------------------------------------------------------------------------------------------------------


def wants_json(words: Sequence[str]) -> bool:
    """Return whether --json stands among the words of a command line, also of one that cannot be parsed."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def fail(error: Exception, as_json: bool) -> int:
    """Print one sentence for an error, and its document with `as_json`; return the exit code. Never a traceback."""
    if isinstance(error, BrokenPipeError):  # whoever read us has seen enough; Python would complain when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, Problem):
        return _failed(str(error), error.code, error.hint, error.exit_code, as_json)
    if isinstance(error, OSError):
        where = f"{mask(str(error.filename))}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or type(error).__name__}", "io", None, 1, as_json)
    if hasattr(error, "show") and hasattr(error, "format_message"):
        return _usage(error, as_json)
    return _failed(f"a defect ({error_text(error).at})", "defect", _DEFECT_HINT, 1, as_json)


def _failed(sentence: str, code: str, hint: str | None, exit_code: int, as_json: bool) -> int:
    terminal.say(f"callward: {sentence}{f'; {hint}' if hint else ''}")
    if as_json:
        _document(sentence, code, hint)
    return exit_code


def _usage(error: Any, as_json: bool) -> int:
    """Click's own errors say what is wrong with the arguments, and where the help is."""
    error.show()
    if as_json:
        context = getattr(error, "ctx", None)
        _document(mask(error.format_message()), "usage", f"{context.command_path} --help" if context else None)
    return int(error.exit_code)


def _document(sentence: str, code: str, hint: str | None) -> None:
    terminal.document({"error": sentence, "code": code, "hint": hint})
    sys.stdout.flush()
