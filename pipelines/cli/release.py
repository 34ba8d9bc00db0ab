"""`callward release`: tables of anonymized aggregates, declared, checked, published once, and shown."""

from typing import Annotated

import typer

from callward.errors import UsageProblem
from pipelines.cli import attack as attack_commands
from pipelines.cli.command import command
from pipelines.cli.options import AS_GIVEN, Changing, Printed, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Aggregates that survive an attack: declare, lint, preview, run, show.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A declared table, as 'release list' prints it."), AS_GIVEN]
SomeName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.")]
Span = Annotated[
    str, typer.Option("--period", help="A day (2026-11-21) or a month (2026-11), as the table's grain is.")
]
Calls = Annotated[int | None, typer.Option("--calls", min=1, help="Made-up calls a day; default: as declared.")]
Units = Annotated[int | None, typer.Option("--units", min=1, help="Made-up subscribers or accounts, with --calls.")]

_WHICH = "say which table and period: release run NAME --period PERIOD; or release run --due"

app.add_typer(attack_commands.app)


@command(app, "callward release lint calls_by_hour")
def lint(options: Reading, name: SomeName = None, calls: Calls = None, units: Units = None) -> Result:
    """Say what is unsafe or useless about declarations, with the grain that works. Exit code 3 when one may not run."""
    from pipelines.reports import release as report

    return report.lint_declarations(options.settings(), name, calls, units)


@command(app, "callward release list", name="list")
def list_releases(options: Reading) -> Result:
    """Declared tables, and what of each is out."""
    from pipelines.reports import release as report

    return report.list_releases(options.settings())


@command(app, "callward release run calls_by_hour --period 2026-11-21")
def run(
    options: Changing,
    name: SomeName = None,
    period: Annotated[str | None, typer.Option("--period", help="A day or a month, as the table's grain is.")] = None,
    due: Annotated[bool, typer.Option("--due", help="All that is due and not out yet, as a night does.")] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Publish what came in late: a new draw, at its full price.")
    ] = False,
) -> Result:
    """Publish a table for a period, once. What is out already is given back as it is, and costs nothing."""
    from pipelines import release
    from pipelines.reports import release as report

    if due and (name or period or correct or options.dry_run):
        raise UsageProblem(_WHICH)
    if not due and (name is None or period is None):
        raise UsageProblem(_WHICH)
    settings = options.settings()
    with options.progress() as progress:
        if name is None or period is None:
            return report.DueReleases(release.due(settings, progress))
        if options.dry_run:
            return report.ReleasePlanned(**vars(release.plan(settings, name, period, correct=correct)))
        return report.ReleaseMade(**vars(release.run(settings, name, period, correct=correct, progress=progress)))


@command(app, "callward release budget")
def budget(options: Reading) -> Result:
    """What was paid of each tenant's privacy budget, by unit and month and in all."""
    from pipelines.reports import release as report

    return report.list_budgets(options.settings())


@command(app, "callward release preview calls_by_hour --calls 2000000 --units 150000")
def preview(
    name: Name,
    options: Reading,
    calls: Calls = None,
    units: Units = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="PERIOD", help="On the same table of this period, which is out.")
    ] = None,
) -> Result:
    """Relative errors by size of cell before any budget is spent: on made-up traffic, or on a table that is out."""
    from pipelines.reports import release as report

    return report.preview_release(options.settings(), name, calls, units, like)


@command(app, "callward release show calls_by_hour --period 2026-11-21 --format csv")
def show(
    name: Name,
    period: Span,
    options: Reading,
    correction: Annotated[
        int | None, typer.Option("--correction", min=0, help="0 is the first publication; default: the last one.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, or sheet (the data sheet).")] = "table",
) -> Result:
    """A table that is out, or its data sheet (--json), just as it was published."""
    from pipelines.reports import release as report

    return report.show(options.settings(), name, period, correction, form)


@command(app, "callward release example hourly_inside")
def example(
    options: Printed,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which; without it their names.")] = None,
) -> Result:
    """Declarations to begin with: their names, or one as it is written."""
    from pipelines.reports import release as report

    return report.list_examples() if name is None else report.show_example(name)
