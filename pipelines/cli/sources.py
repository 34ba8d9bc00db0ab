"""`callward sources`: which sources are registered, and what changes of them."""

from typing import Annotated

import typer

from callward.errors import UsageProblem
from pipelines.cli.command import command
from pipelines.cli.options import Changing, Reading
from pipelines.results import Result, Rows

app = typer.Typer(no_args_is_help=True, help="Sources: their names, and since when their records are read as they are.")

Name = Annotated[str, typer.Argument(metavar="SOURCE", help="The source, as callward.toml names it.")]


@command(app, "callward sources list --json", name="list")
def list_sources(options: Reading) -> Result:
    """Every source that is registered: its names, its generation, whether its records are in the lake."""
    from pipelines import sources

    return Rows(sources.listed(options.settings()), "Sources")


@command(app, "callward sources second --json")
def second(options: Reading) -> Result:
    """Records of calls that a source of a higher billing rank has too: by source and date, held from billing or not."""
    from pipelines import network_elements

    return Rows(network_elements.second_records(options.settings()), "Second records of calls")


@command(app, "callward sources rename denver denver-1")
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Its name now.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on.")],
    options: Changing,
) -> Result:
    """Give a source another name; its records stay the same records."""
    from pipelines import sources

    return sources.rename(options.settings(), old, new, dry_run=options.dry_run)


@command(app, "callward sources accept denver --from-now")
def accept(
    source: Name,
    options: Changing,
    from_now: Annotated[
        bool, typer.Option("--from-now", help="New files alone are read so; records in the lake stay as they are.")
    ] = False,
) -> Result:
    """Accept that a source's zone, the form of its dates or what identifies its records has changed."""
    from pipelines import sources

    if not from_now:
        raise UsageProblem("say for which files: --from-now, for new ones alone; 'callward reprocess' reads the others")
    return sources.accept(options.settings(), source, dry_run=options.dry_run)


@command(app, "callward sources add boulder")
def add(source: Name, options: Changing) -> Result:
    """Register a source as new, where another is no longer in the settings: it is not that one under a new name."""
    from pipelines import sources

    return sources.add(options.settings(), source, dry_run=options.dry_run)
