"""`callward purge`: enforce retention, or say what would go. Its sub-commands show the evidence."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from callward.access.second_person import Consent
from callward.errors import UsageProblem
from callward.settings import Settings, load
from pipelines import terminal
from pipelines.cli import evidence as evidence_commands
from pipelines.cli.command import finish
from pipelines.cli.options import AsJson, Config, DryRun, in_words

app = typer.Typer(help="Delete what is past its window, keep what is held, certify it; or show what is due.")
app.add_typer(evidence_commands.app)


@app.callback(invoke_without_command=True)
def purge(
    context: typer.Context,
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="What is past its window on that UTC day.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="With --dry-run: as if this policy were in force.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="The tenant whose policy --policy would be.", callback=in_words)
    ] = None,
    approve: Annotated[
        str | None,
        typer.Option(
            "--approve", metavar="PLAN", help="Run the plan that waits, as a second person.", callback=in_words
        ),
    ] = None,
    person: Annotated[
        str | None, typer.Option("--person", help="Who approves: one that the custodian knows.", callback=in_words)
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="That person's signing key file.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Purge as of a day. Exit code 3: the plan waits for a person, or something that should be gone is not."""
    if context.invoked_subcommand is not None:
        return
    from pipelines import purge as purges

    settings = load(config)
    candidates = _candidates(policy, tenant, dry_run)
    day = _day(settings, as_of.date() if as_of else None, approve)
    with terminal.progress(as_json) as progress:
        report = purges.purge(
            settings,
            day,
            dry_run=dry_run,
            candidates=candidates,
            consent=Consent.of(approve, person, key),
            progress=progress,
        )
    finish(report, as_json)


def _day(settings: Settings, as_of: date | None, approve: str | None) -> date:
    """The day given, or that of the plan to approve."""
    from pipelines import purge as purges

    planned = purges.waiting(settings, approve) if approve else None
    if planned and as_of and planned != as_of:
        raise UsageProblem(f"plan {approve} is as of {planned}, not {as_of}")
    day = as_of or planned
    if not day:
        raise UsageProblem("say as of which day: --as-of DATE (nothing past its window on that day is left)")
    return day


def _candidates(file: Path | None, tenant: str | None, dry_run: bool) -> dict[str, Any] | None:
    if (file is None) != (tenant is None):
        raise UsageProblem("a policy is tried for a tenant: --policy and --tenant go together")
    if file is None or tenant is None:
        return None
    if not dry_run:
        raise UsageProblem("a policy that is not in force is tried with --dry-run; 'callward policy propose' begins it")
    from callward.retention.policy import register as policy_register

    return {tenant: policy_register.load(file, tenant)}
