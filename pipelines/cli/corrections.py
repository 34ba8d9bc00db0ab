"""`callward backout`: a wrong delivery is taken out again."""

from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Changing
from pipelines.results import Result

app = typer.Typer()
_OneFile = typer.Option(
    "--file", help="A file by its number, its id, or its name below the landing folder; may be given again."
)


@command(app, "callward backout --file 17 --dry-run")
def backout(options: Changing, file: Annotated[list[str], _OneFile, AS_GIVEN]) -> Result:
    """Take a wrong delivery out again; what other files hold of the same calls takes its place."""
    from pipelines.corrections import back_out
    from pipelines.reports.corrections import CorrectionReport

    return CorrectionReport(back_out(options.settings(), file, dry_run=options.dry_run), "backed out")
