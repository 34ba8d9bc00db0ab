"""`callward settings check | diff`: what is wrong with the settings, and what a change of them does."""

from pathlib import Path
from typing import Annotated

import typer

from callward.errors import UsageProblem
from pipelines.cli.command import command
from pipelines.cli.options import Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="What is wrong with the settings, and what a change of them does.")
_File = typer.Argument(metavar="[FILE]", help="A file of settings beside callward.toml, not yet in its place.")


@command(app, "callward settings check callward.new.toml")
def check(options: Reading, file: Annotated[Path | None, _File] = None) -> Result:
    """Say all that is wrong with the settings (exit code 2), and with what they name (3)."""
    from pipelines.settings_check import check as look

    return look(file or options.config)


@command(app, "callward settings diff --json")
def diff(
    options: Reading,
    file: Annotated[Path | None, _File] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="RUN", help="Only what this run read, or later.")
    ] = None,
) -> Result:
    """Say which settings changed since records were read; exit code 3: rows would be otherwise by them."""
    from pipelines.reports.settings import SettingsDiff
    from pipelines.settings_diff import diff as compare

    if file is not None and since is not None:
        raise UsageProblem("name a file or --since RUN, not both")
    return SettingsDiff(compare(options.settings(), file, since), str(file or ""))
