"""`callward demo`: a workspace with made-up feeds, and what each person gets from it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipelines import terminal
from pipelines.cli.command import command, run_words
from pipelines.cli.options import DryRun, Printed
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward demo demo-workspace --calls 10000")
def demo(
    context: typer.Context,
    options: Printed,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")] = Path(
        "demo-workspace"
    ),
    samples: Annotated[
        Path | None, typer.Option("--samples", help="Run on published samples in this folder instead.")
    ] = None,
    calls: Annotated[int, typer.Option("--calls", min=100, help="About how many calls to make up.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Another seed makes other calls.")] = 1,
    dry_run: DryRun = False,
) -> Result:
    """Make a workspace with made-up feeds, run two nights, and show what each person gets."""
    from pipelines import demo as demos
    from pipelines.reports.demo import DemoPlan, DemoSteps, SamplesReport

    if dry_run and samples is not None:
        return DemoPlan([sample.source.name for sample in demos.present_samples(folder, samples)])
    if dry_run:
        return DemoPlan([command.typed for command in demos.planned(folder)])
    progress = (lambda line: None) if options.as_json else terminal.say  # no spinner: it would mix with what is shown
    if samples is not None:
        return SamplesReport(demos.samples(folder, samples, progress=progress))
    run = partial(run_words, context.find_root().command)
    steps = []
    for step in demos.demo(folder, run, calls=calls, seed=seed, as_json=options.as_json, progress=progress):
        steps.append(step)
        if not options.as_json:
            terminal.show(step)
    return DemoSteps(str(folder), steps)
