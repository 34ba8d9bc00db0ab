"""`callward init | doctor`: make a workspace, and say what it lacks."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from callward.errors import UsageProblem
from callward.settings import Settings, Source, Tenant, load, nearest
from pipelines.cli.command import command
from pipelines.cli.options import DryRun, Printed, Reading
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward init /srv/callward")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    options: Printed,
    demo: Annotated[
        bool, typer.Option("--demo", help="With the demo's sources, tenant policy, trunks and accounts.")
    ] = False,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Write only the keys that are set, without explanations.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--source", metavar="FORMAT", help="Begin with a source of this format.")
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option("--zone", metavar="ZONE", help="With --source: the zone that its switch's clock shows."),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Bring an existing workspace's database and folders to this version.")
    ] = False,
    lost_database: Annotated[
        bool,
        typer.Option(
            "--lost-database",
            help="With --upgrade: make an empty database beside a lake, as the old one is lost and no backup is left.",
        ),
    ] = False,
    dry_run: DryRun = False,
) -> Result:
    """Make a workspace: callward.toml, landing folders, key roots, database."""
    from callward import initiate
    from pipelines.reports.workspace import WorkspaceMade

    if upgrade:
        settings = load(folder)
        if not dry_run:
            initiate.upgrade(settings, lost=lost_database)
        return WorkspaceMade(str(settings.path), dry_run, ["callward doctor"], upgraded=True)
    settings = initiate.init(folder, _wanted(folder, demo, source, zone), minimal=minimal, dry_run=dry_run)
    return WorkspaceMade(str(settings.path), dry_run, initiate.next_steps(settings))


def _wanted(folder: Path, demo: bool, source: str | None, zone: str | None) -> Settings:
    """Return the settings that a new workspace begins with. Raises UsageProblem for a format or zone there is not."""
    if demo:
        from pipelines.demo import demo_settings

        return demo_settings(folder)
    settings = Settings(path=folder / "callward.toml", tenants={"default": Tenant()})
    if source is None:
        return settings
    from schemas.declaration import available

    if source not in available():
        raise UsageProblem(f"there is no format of that name{nearest(source, available())}")
    try:
        first = Source(name=source, format=source, zone=zone)
    except ValidationError:  # all else is known to be right
        raise UsageProblem("--zone takes a zone of the tz database, such as America/Denver, or UTC") from None
    return settings.model_copy(update={"sources": [first]})


@command(app, "callward doctor --json")
def doctor(options: Reading) -> Result:
    """Say what is missing or wrong, and how to fix it; exit code 3 when something is."""
    from pipelines.doctor.checks import examine
    from pipelines.doctor.finding import Diagnosis

    return Diagnosis(examine(options.config))
