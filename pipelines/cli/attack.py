"""`callward release attack`: the attack suite."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from callward.errors import UsageProblem
from pipelines.cli.command import command
from pipelines.cli.options import Reading
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward release attack --calls 300000 --page attack.html")
def attack(
    options: Reading,
    calls: Annotated[int, typer.Option("--calls", help="Made-up calls, with victims among them.")] = 300_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed makes the same calls.")] = 1,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="Also write a page with plots.")] = None,
    day: Annotated[
        datetime | None,
        typer.Option("--day", formats=["%Y-%m-%d"], help="Also measure the workspace's own views of this call date."),
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose views, with --day.")] = "default",
) -> Result:
    """What an attacker gets from raw, suppressed and private tables of made-up calls. Exit code 3: a bound breaks."""
    from pipelines.attack import run as attacks
    from pipelines.reports import attack as report

    if page is not None and page.exists():
        raise UsageProblem(f"{page} is there already, and is not overwritten")
    asked = day.date() if day else None
    settings = options.settings() if day else None
    with options.progress() as progress:
        attacked = attacks.attack(
            seed=seed, calls=calls, settings=settings, tenant=tenant, day=asked, progress=progress
        )
    if page is not None:
        report.write_page(attacked, page)
    return report.AttackReport(**vars(attacked))
