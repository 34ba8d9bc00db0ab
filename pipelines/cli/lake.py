"""`callward compact | rebuild`: data files merged, derived tables computed again."""

from typing import Annotated

import typer

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
) -> Result:
    """Compute the derived tables once more from the lake, and put them in place of those that are there."""
    from pipelines import rebuild as rebuilding

    reason = "rebuild --check" if check else "rebuild"
    tables = rebuilding.rebuild(options.settings(), write=not check and not options.dry_run, reason=reason)
    return rebuilding.Rebuild(tables, check, options.dry_run)
