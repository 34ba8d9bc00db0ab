"""`callward policy`: check one, show what is in force, propose, activate."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.command import command
from pipelines.cli.options import Approver, Changing, Printed, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Retention policies: check one, show what is in force, propose, activate.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A policy (TOML); 'callward policy example' prints one.")]
OneTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant that it is for.")]


@command(app, "callward policy lint mine.toml")
def lint(file: File, options: Printed) -> Result:
    """Say what would be refused (exit code 2), and what may stand and should be known."""
    from pipelines.reports import policy as report

    return report.lint(file)


@command(app, "callward policy example global-carrier")
def example(
    options: Printed,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one; without, their names.")] = None,
) -> Result:
    """Print a policy that comes with callward, to start from; each clause says what it stands on."""
    from pipelines.reports import policy as report

    return report.example(name)


@command(app, "callward policy show --tenant default")
def show(options: Reading, tenant: OneTenant = None) -> Result:
    """What governs each tenant now: windows, clocks, bounds, and what happens when they end."""
    from pipelines.reports import policy as report

    return report.show(options.settings(), tenant)


@command(app, "callward policy list --tenant default", name="list")
def list_versions(options: Reading, tenant: OneTenant = None) -> Result:
    """Every version that was proposed: its state, and who stands behind it."""
    from pipelines.reports import policy as report

    return report.list_versions(options.settings(), tenant)


@command(app, "callward policy propose mine.toml --tenant default --person ada --key ada.sign")
def propose(
    file: File,
    tenant: Tenant,
    approver: Approver,
    options: Changing,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="The notice or consent by which longer windows reach data that is there."),
    ] = None,
) -> Result:
    """Put a policy before a second person. It governs nothing until that person activates it."""
    from pipelines.reports import policy as report

    settings, dry_run = options.settings(), options.dry_run
    return report.propose(settings, file, tenant, approver.person, approver.key, reference, dry_run=dry_run)


@command(app, "callward policy activate --tenant default --version 1 --person ben --key ben.sign")
def activate(
    tenant: Tenant,
    version: Annotated[int, typer.Option("--version", min=1, help="As 'callward policy list' shows it.")],
    approver: Approver,
    options: Changing,
) -> Result:
    """Put a proposed version in force, as the second person."""
    from pipelines.reports import policy as report

    return report.activate(options.settings(), tenant, version, approver.person, approver.key, dry_run=options.dry_run)
