"""`callward backout`, `callward reprocess`: what was done wrongly is put right."""

from datetime import datetime
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Changing, Consenting
from pipelines.results import Result

app = typer.Typer()
_OneFile = typer.Option(
    "--file", help="A file by its number, its id, or its name below the landing folder; may be given again."
)


@command(app, "callward backout --file 17 --dry-run")
def backout(options: Changing, second: Consenting, file: Annotated[list[str], _OneFile, AS_GIVEN]) -> Result:
    """Take a wrong delivery out again; what other files hold of the same calls takes its place."""
    from pipelines.corrections.run import back_out
    from pipelines.reports.corrections import CorrectionReport

    done = back_out(options.settings(), file, dry_run=options.dry_run, consent=second.consent())
    return CorrectionReport(done, "backed out")


def _day(name: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, formats=["%Y-%m-%d"], help=f"Files that came in {what} (UTC).")
    return option


@command(app, "callward reprocess --source denver --from 2026-03-01 --to 2026-03-31 --dry-run")
def reprocess(
    options: Changing,
    second: Consenting,
    source: Annotated[str | None, typer.Option("--source", help="Files of this source.")] = None,
    start: Annotated[datetime | None, _day("--from", "on that day or later")] = None,
    end: Annotated[datetime | None, _day("--to", "on that day or before")] = None,
    file: Annotated[list[str] | None, _OneFile, AS_GIVEN] = None,
) -> Result:
    """Read files again as the settings say today, and replace what the earlier reading wrote."""
    from pipelines.corrections import run as corrections
    from pipelines.reports.corrections import CorrectionReport

    first, last = (day.date() if day else None for day in (start, end))
    with options.progress() as progress:
        done = corrections.reprocess(
            options.settings(),
            source,
            first,
            last,
            file or (),
            dry_run=options.dry_run,
            consent=second.consent(),
            progress=progress,
        )
    return CorrectionReport(done, "read again")
