"""`callward status`: how a workspace stands."""

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Reading
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward status --json")
def status(options: Reading) -> Result:
    """Say how nights, feeds, suspense, retention, releases and keys stand. Exit code 3: a person must look."""
    from pipelines import status as states
    from pipelines.reports.status import StatusReport

    return StatusReport(states.status(options.settings()))
