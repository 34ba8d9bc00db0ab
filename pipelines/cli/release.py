"""`callward release`: tables of anonymized aggregates, declared, checked, published once, and shown."""

import sys
from typing import Annotated, Any

import typer

from callward.errors import UsageProblem
from callward.settings import load
from pipelines import terminal
from pipelines.cli import attack as attack_commands
from pipelines.cli.options import AsJson, Config, DryRun

app = typer.Typer(no_args_is_help=True, help="Aggregates that survive an attack: declare, lint, preview, run, show.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A declared table, as 'release list' prints it.")]
SomeName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.")]
Span = Annotated[
    str, typer.Option("--period", help="A day (2026-11-21) or a month (2026-11), as the table's grain is.")
]
Calls = Annotated[int | None, typer.Option("--calls", min=1, help="Made-up calls a day; default: as declared.")]
Units = Annotated[int | None, typer.Option("--units", min=1, help="Made-up subscribers or accounts, with --calls.")]

app.command("attack")(attack_commands.attack)


@app.command()
def lint(
    name: SomeName = None,
    calls: Calls = None,
    units: Units = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Say what is unsafe or useless about declarations, with the grain that works. Exit code 3 when one may not run."""
    from pipelines.reports import release as release_report

    found = release_report.linted(load(config), name, calls, units)
    terminal.out(found, as_json, "Declarations")
    if any(row["refuses"] for row in found):
        raise typer.Exit(3)


@app.command("list")
def list_(as_json: AsJson = False, config: Config = None) -> None:
    """Declared tables, and what of each is out."""
    from pipelines.reports import release as release_report

    terminal.out(release_report.listed(load(config)), as_json, "Releases")


@app.command()
def run(
    name: SomeName = None,
    period: Annotated[str | None, typer.Option("--period", help="A day or a month, as the table's grain is.")] = None,
    due: Annotated[bool, typer.Option("--due", help="All that is due and not out yet, as a night does.")] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Publish what came in late: a new draw, at its full price.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Publish a table for a period, once. What is out already is given back as it is, and costs nothing."""
    from pipelines import release
    from pipelines.reports import release as release_report

    if due == (period is not None) or (due and (name or correct or dry_run)) or (period and not name):
        raise UsageProblem("say which table and period: release run NAME --period PERIOD; or release run --due")
    settings = load(config)
    with terminal.progress(as_json) as progress:
        if due:
            several = release.due(settings, progress)
        else:
            done = release.run(settings, str(name), str(period), correct=correct, dry_run=dry_run, progress=progress)
    if due:
        terminal.out(several, as_json, "Releases due")
        if any(one["status"] != "published" for one in several):
            raise typer.Exit(3)
    elif as_json:
        terminal.document(done)
    else:
        terminal.show(*release_report.ran(done))


@app.command()
def budget(as_json: AsJson = False, config: Config = None) -> None:
    """What was paid of each tenant's privacy budget, by unit and month and in all."""
    from pipelines.reports import release as release_report

    terminal.out(release_report.budgets(load(config)), as_json, "Privacy budgets")


@app.command()
def preview(
    name: Name,
    calls: Calls = None,
    units: Units = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="PERIOD", help="On the same table of this period, which is out.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Relative errors by size of cell before any budget is spent: on made-up traffic, or on a table that is out."""
    from pipelines.reports import release as release_report

    found = release_report.previewed(load(config), name, calls, units, like)
    if as_json:
        terminal.document(found)
    else:
        terminal.show(*release_report.preview_shown(found))


@app.command()
def show(
    name: Name,
    period: Span,
    correction: Annotated[
        int | None, typer.Option("--correction", min=0, help="0 is the first publication; default: the last one.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv, or sheet (the data sheet).")] = "table",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """A table that is out, or its data sheet (--json), just as it was published."""
    from pipelines.reports import release as release_report

    files = release_report.out(load(config), name, period, correction)
    if form not in ("table", "csv", "sheet"):
        raise UsageProblem(f"--format is table, csv or sheet, not {form!r}")
    if as_json or form == "sheet":
        sys.stdout.write(files["sheet.json"].decode())
    elif form == "csv":
        sys.stdout.write(files["cells.csv"].decode())
    else:
        terminal.show(release_report.cells_shown(files))


@app.command()
def example(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which; without it their names.")] = None,
    as_json: AsJson = False,
) -> None:
    """Declarations to begin with: their names, or one as it is written."""
    from pipelines.reports import release as release_report

    if name is None:
        rows: list[dict[str, Any]] = release_report.examples()
        terminal.out(rows, as_json, "Examples")
        return
    text = release_report.example(name)
    if as_json:
        terminal.document({"name": name, "declaration": text})
    else:
        sys.stdout.write(text)
