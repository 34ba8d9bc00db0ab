"""`callward nightly`: what has landed, taken in."""

from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Changing, Files, Sources
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward nightly --source asterisk --json")
def nightly(
    options: Changing,
    source: Sources = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print what the sources' declarations map and drop, and stop.")
    ] = False,
    files: Files = False,
) -> Result:
    """Take in every complete file of the landing folders, and commit it."""
    from pipelines import nightly as nights
    from pipelines.reports import night as reports

    settings, only = options.settings(), source or []
    if explain:
        return reports.explained(settings, only)
    if options.dry_run:
        return reports.Arrived(reports.arrived(settings, only), files)
    with options.progress() as progress:
        night = nights.nightly(settings, only, progress=progress)
    return reports.NightReport(settings, night, files)
