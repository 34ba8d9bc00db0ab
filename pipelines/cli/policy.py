"""The commands of `callward policy`: check, show, propose, activate."""

from pathlib import Path
from typing import Annotated

import typer

from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun

app = typer.Typer(no_args_is_help=True, help="Retention policies: check one, show what is in force, propose, activate.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A policy (TOML); 'callward policy example' prints one.")]
OneTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant that it is for.")]
Person = Annotated[str, typer.Option("--person", help="Who signs: a person that the custodian registered.")]
Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="That person's signing key file.")]


@app.command("lint")
def lint(file: File, as_json: AsJson = False) -> None:
    """Say what would be refused (exit code 2), and what may stand and should be known."""
    from pipelines.reports import policy as policy_report

    found = policy_report.linted(file)
    if as_json:
        terminal.document(found)
        return
    terminal.show(f"{found['file']}: {found['name']} is sound; {terminal.count(found['classes'], 'class', 'classes')}")
    terminal.show(*(f"note: {note}" for note in found["notes"]))


@app.command("example")
def example(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one; without, their names.")] = None,
) -> None:
    """Print a policy that comes with callward, to start from; each clause says what it stands on."""
    from pipelines.reports import policy as policy_report
    from schemas.retention_classes import examples

    if name is None:
        terminal.show(*examples())
    else:
        terminal.show(policy_report.example_text(name).rstrip())


@app.command("show")
def show(tenant: OneTenant = None, as_json: AsJson = False, config: Config = None) -> None:
    """What governs each tenant now: windows, clocks, bounds, and what happens when they end."""
    from pipelines.reports import policy as policy_report

    found = policy_report.shown(load(config), tenant)
    if as_json:
        terminal.document(found)
    else:
        terminal.show(*policy_report.told(found))


@app.command("list")
def listed(tenant: OneTenant = None, as_json: AsJson = False, config: Config = None) -> None:
    """Every version that was proposed: its state, and who stands behind it."""
    from pipelines.reports import policy as policy_report

    rows = policy_report.listed(load(config), tenant)
    if as_json:
        terminal.document(rows)
    else:
        terminal.out([{**row, "digest": row["digest"][:16]} for row in rows], False, "In the register")


@app.command("propose")
def propose(
    file: File,
    tenant: Tenant,
    person: Person,
    key: Key,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="The notice or consent by which longer windows reach data that is there."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Put a policy before a second person. It governs nothing until that person activates it."""
    from pipelines.reports import policy as policy_report

    done = policy_report.proposed(load(config), file, tenant, person, key, reference, dry_run)
    if as_json:
        terminal.document(done)
        return
    how = "would be proposed" if dry_run else "is proposed"
    terminal.show(f"{tenant}: {done['name']} {how} as version {done['version']}, digest {done['digest']}")
    terminal.show(*(f"note: {note}" for note in done["notes"]))
    if not dry_run:
        terminal.show(f"its effect: callward purge --as-of DATE --policy {file} --dry-run")
        terminal.show(
            f"then another person: callward policy activate --tenant {tenant} --version {done['version']} ..."
        )


@app.command("activate")
def activate(
    tenant: Tenant,
    version: Annotated[int, typer.Option("--version", min=1, help="As 'callward policy list' shows it.")],
    person: Person,
    key: Key,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Put a proposed version in force, as the second person."""
    from pipelines.reports import policy as policy_report

    done = policy_report.activated(load(config), tenant, version, person, key, dry_run)
    if as_json:
        terminal.document(done)
        return
    how = "would be" if dry_run else "is"
    terminal.show(f"{tenant}: version {version} {how} in force, digest {done['digest']}")
