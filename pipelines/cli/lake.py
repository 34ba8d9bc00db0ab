"""`callward compact | rebuild`: data files merged, derived tables computed again, lost index files made again."""

from datetime import datetime
from typing import Annotated, Any

import typer

from callward.errors import UsageProblem
from pipelines.cli.command import command
from pipelines.cli.options import Changing
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward compact --dry-run")
def compact(options: Changing) -> Result:
    """Merge small data files into few, while nights, streams and queries go on. Nobody's answer changes."""
    from pipelines import compact as compaction

    with options.progress() as progress:
        return compaction.compact(options.settings(), dry_run=options.dry_run, progress=progress)


@command(app, "callward rebuild --check")
def rebuild(
    options: Changing,
    check: Annotated[bool, typer.Option("--check", help="Compare only; exit code 3 when something differs.")] = False,
    index: Annotated[
        bool, typer.Option("--index", help="Make data files of the row index again that are lost or altered.")
    ] = False,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's, with --index.")] = None,
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="Only of calls of this date (UTC), with --index."),
    ] = None,
) -> Result:
    """Compute the derived tables once more from the lake, and put them in place of those that are there.

    With --index, make lost data files of the row index again, from the archive and the views; exit code 3 when some
    cannot be.
    """
    if index:
        if check:
            raise UsageProblem("--check and --index do not go together: --index --dry-run says what is lost")
        from pipelines import reindex

        call_date = day and day.date().isoformat()
        only: dict[str, Any] = {"tenant": tenant, "call_date": call_date, "dry_run": options.dry_run}
        with options.progress() as progress:
            return reindex.rebuild_index(options.settings(), progress=progress, **only)
    if tenant or day:
        raise UsageProblem("--tenant and --date go with --index: derived tables are computed again as a whole")
    from pipelines import rebuild as rebuilding

    reason = "rebuild --check" if check else "rebuild"
    tables = rebuilding.rebuild(options.settings(), write=not check and not options.dry_run, reason=reason)
    return rebuilding.Rebuild(tables, check, options.dry_run)
