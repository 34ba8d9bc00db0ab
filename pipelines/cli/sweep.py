"""`callward sweep`: every byte read for numbers in the clear."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Reading
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward sweep --numbers numbers.txt --json")
def sweep(
    options: Reading,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Default: the workspace, its database, your temporary files."),
    ] = None,
    numbers: Annotated[
        Path | None, typer.Option("--numbers", help="One number to a line; default: those in the lake.")
    ] = None,
) -> Result:
    """Read every byte, and look for numbers in the clear: exit code 1 when there is one, 3 when not all was read."""
    from pipelines import sweep as sweeping
    from pipelines.reports.sweep import SweepReport

    with options.progress() as progress:
        return SweepReport(sweeping.sweep(options.settings(), paths or [], numbers, progress))
