"""`callward init | doctor`: make a workspace, and say what it lacks."""

from pathlib import Path
from typing import Annotated

import typer

from callward.settings import Settings, Tenant, load
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
    settings = initiate.init(folder, _wanted(folder, demo), dry_run=dry_run)
    return WorkspaceMade(str(settings.path), dry_run, initiate.next_steps(settings))


def _wanted(folder: Path, demo: bool) -> Settings:
    """Return the settings that a new workspace begins with."""
    if demo:
        from pipelines.demo import demo_settings

        return demo_settings(folder)
    return Settings(path=folder / "callward.toml", tenants={"default": Tenant()})


@command(app, "callward doctor --json")
def doctor(options: Reading) -> Result:
    """Say what is missing or wrong, and how to fix it; exit code 3 when something is."""
    from pipelines.doctor.checks import examine
    from pipelines.doctor.finding import Diagnosis

    return Diagnosis(examine(options.config))
