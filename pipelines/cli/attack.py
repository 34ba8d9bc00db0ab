"""`callward release attack`: the attack suite. A sub-command of `callward release`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from callward.errors import UsageProblem
from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config


def attack(
    calls: Annotated[int, typer.Option("--calls", help="Made-up calls, with victims among them.")] = 300_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed makes the same calls.")] = 1,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="Also write a page with plots.")] = None,
    day: Annotated[
        datetime | None,
        typer.Option("--day", formats=["%Y-%m-%d"], help="Also measure the workspace's own views of this call date."),
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose views, with --day.")] = "default",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """What an attacker gets from raw, suppressed and private tables of made-up calls. Exit code 3: a bound breaks."""
    from pipelines.attack import run as attacks

    if page is not None and page.exists():
        raise UsageProblem(f"{page} is there already, and is not overwritten")
    asked = day.date() if day else None
    settings = load(config) if day else None
    with terminal.progress(as_json) as progress:
        found = attacks.attack(seed=seed, calls=calls, settings=settings, tenant=tenant, day=asked, progress=progress)
    if page is not None:
        attacks.write_page(found, page)
    if as_json:
        terminal.document(found)
    else:
        attacks.show(found)
    for sentence in found["broken"]:
        terminal.say(f"callward: {sentence}")
    if found["broken"]:
        raise typer.Exit(3)
