"""A command of the command line: its options in groups, its example, and what it did, printed.

The function of a command returns a Result, which is printed here; how it ends decides the exit code. Errors are
documents too where --json is given: {error, code, hint}.
"""

import inspect
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_type_hints

import typer
from typer.core import TyperGroup
from typer.models import ParameterInfo

from callward.redaction import looks_like_number, mask
from pipelines import terminal
from pipelines.cli.options import AS_GIVEN, Printed, in_words
from pipelines.results import Failure, Result, is_usage

HEADINGS: Final = {
    "Set up": ("init", "doctor", "try", "sources", "accounts", "settings", "demo"),
    "Run": (
        *("nightly", "stream", "receive", "status", "suspense", "recycle", "reprocess", "backout", "compact"),
        "rebuild",
    ),
    "Ask": ("sql",),
    "Keep": ("policy", "hold", "case", "purge", "request", "tenant", "audit", "sweep"),
    "Publish": ("release",),
    "Keys": ("keys", "grant"),
}


class GroupedHelp(TyperGroup):
    """A group whose help lists its commands under HEADINGS, and those that are under none at the end."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        listed = {name for names in HEADINGS.values() for name in names}
        limit = formatter.width - 6 - max(map(len, self.commands))
        for heading, names in {**HEADINGS, "Other": tuple(self.commands.keys() - listed)}.items():
            rows = [(name, self.commands[name].get_short_help_str(limit)) for name in names if name in self.commands]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def example(line: str) -> str:
    """Return what the help of a command ends with: an example that is not wrapped."""
    return f"\b\nExample:\n  {line}"


def command(
    app: typer.Typer, line: str, *, name: str | None = None
) -> Callable[[Callable[..., Result | None]], Callable[..., Result | None]]:
    """Add a command to `app`, with the example `line` at the end of its help.

    The function may take option groups (dataclasses whose fields are options), of which one is a `Printed`, and
    returns its result, or None where it printed by itself.
    """

    def add(function: Callable[..., Result | None]) -> Callable[..., Result | None]:
        app.command(name, epilog=example(line))(printing(function))
        return function

    return add


def printing(function: Callable[..., Result | None]) -> Callable[..., None]:
    """Return a function for Typer with the options of `function`'s groups side by side, that prints its result."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if name != "return" and is_dataclass(hint)}

    def run(**given: Any) -> None:
        changes = given.get("dry_run") is False
        values = {name: given.pop(name) for name in list(given) if name in hints}
        options = {name: group(**{f.name: given[f.name] for f in fields(group)}) for name, group in groups.items()}
        result = function(**values, **options)
        if result is not None:
            as_json = any(isinstance(group, Printed) and group.as_json for group in options.values())
            finish(result, as_json, committed=changes)

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
    return [_normalised(parameter) for parameter in parameters]


def _normalised(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter whose words the command gets as they are recorded; one that is AS_GIVEN stays as it is."""
    kind, *notes = get_args(parameter.annotation) or (None,)  # the context has no notes
    if AS_GIVEN in notes or not _holds_text(kind):
        return parameter
    checked = [copy(note) if isinstance(note, ParameterInfo) else note for note in notes]
    for note in checked:
        if isinstance(note, ParameterInfo):
            note.callback = in_words
    return parameter.replace(annotation=Annotated[kind, *checked])


def _holds_text(kind: Any) -> bool:
    return kind is str or any(map(_holds_text, get_args(kind)))


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


def finish(result: Result, as_json: bool, *, committed: bool = False) -> None:
    """Print a result and raise typer.Exit with its exit code, if it is not 0.

    Whatever fails while what was `committed` is printed changes no exit code: a scheduler would run it again.
    """
    try:
        _print(result, as_json)
    except Exception as error:
        if not committed:
            raise
        _say_unprinted(error, as_json)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _print(result: Result, as_json: bool) -> None:
    if as_json:
        result.print_document()
        sys.stdout.flush()
    else:
        terminal.show(*result.render())
        for sentence in result.warnings():
            terminal.say(sentence)


def _say_unprinted(error: Exception, as_json: bool) -> None:
    """Say that what was done is done, and leave nothing in a standard output that takes nothing more."""
    if isinstance(error, OSError):
        if not isinstance(error, BrokenPipeError):
            terminal.say(f"callward: it is done, and could not be printed: {Failure.of(error).error}")
        terminal.leave_output()
        return
    failure = Failure.of(error)
    failure = replace(failure, error=f"it is done, and could not be printed: {failure.error}")
    terminal.say(*map(str, failure.render()))
    if as_json:
        terminal.document(failure.to_dict())


def run_words(app: Callable[..., Any], words: Sequence[str]) -> int:
    """Run the words of a command line, and return the exit code; what goes wrong is raised."""
    try:
        return int(app(list(words), standalone_mode=False, prog_name="callward") or 0)
    except typer.Exit as ended:
        return int(ended.exit_code)


# -- errors ------------------------------------------------------------------------------------------------------------


def wants_json(words: Sequence[str]) -> bool:
    """Return whether --json stands among the words of a command line, also of one that cannot be parsed."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def fail(error: Exception, as_json: bool, words: Sequence[str] = ()) -> int:
    """Print one sentence for an error of a command line, and its document with `as_json`; return the exit code.

    Never a traceback, and never a number that stands among the words.
    """
    if isinstance(error, BrokenPipeError):  # whoever read us has seen enough; Python would complain when it flushes
        terminal.leave_output()
        return 1
    failure = _without_words(Failure.of(error), words)
    if is_usage(error):
        _show_usage(error)
    else:
        terminal.say(*map(str, failure.render()))
    if as_json:
        with suppress(OSError):  # standard output may be what failed
            terminal.document(failure.to_dict())
            sys.stdout.flush()
    return failure.exit_code


def _without_words(failure: Failure, words: Sequence[str]) -> Failure:
    """Return a failure that repeats no number of the words: a file may be named for one, or an integer be one."""
    numbers = [word for word in words if looks_like_number(word)]
    hidden = {part for word in numbers for part in (word, *Path(word).parts, "".join(filter(str.isdecimal, word)))}
    error, hint = failure.error, failure.hint
    for part in sorted(filter(looks_like_number, hidden), key=len, reverse=True):
        error, hint = error.replace(part, mask(part)), hint and hint.replace(part, mask(part))
    return replace(failure, error=error, hint=hint)


def _show_usage(error: Any) -> None:
    """Print what is wrong with the words of a command line, with the usage, and where the help is."""
    text = io.StringIO()
    error.show(file=text)
    terminal.say(mask(text.getvalue()).removesuffix("\n"))
