"""The command line. Exit codes: 0 done, 1 failed (nothing or not all committed), 2 wrong usage, 3 a person must look."""

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from callward.errors import Problem
from callward.settings import Settings, Tenant, load
from pipelines import console

app = typer.Typer(
    name="callward",
    help="CPNI-compliant pipeline for call-detail records: encrypted views, a balanced ledger, proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Config = Annotated[str | None, typer.Option("--config", help="Settings file (default: callward.toml here, or CALLWARD_CONFIG).")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def main() -> None:
    """Entry point: every Problem is one sentence on standard error and an exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())
    warnings.filterwarnings("ignore")
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        app(standalone_mode=False)
        code = 0
    except typer.Exit as done:
        code = done.exit_code
    except Problem as problem:
        console.say(f"callward: {problem}")
        code = problem.exit_code
    except KeyboardInterrupt:
        console.say("callward: interrupted; what was committed stays, and running again goes on from there")
        code = 1
    except BrokenPipeError:
        code = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        console.say(f"callward: {where}{error.strerror or type(error).__name__}")
        code = 1
    except Exception as error:
        code = _usage(error)
    sys.stdout.flush()
    sys.exit(code)


def _usage(error: Exception) -> int:
    """Click's own errors say what is wrong with the arguments; anything else is a defect, without its values."""
    show = getattr(error, "show", None)
    if show is None:
        console.say(f"callward: a defect ({console.place_of(error)}); please report it")
        return 1
    show()
    return int(getattr(error, "exit_code", 2))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    demo: Annotated[bool, typer.Option("--demo", help="With the demo's sources, tenant policy, trunks and accounts.")] = False,
    keys_of: Annotated[Path | None, typer.Option("--keys-of", help="Use copies of the key roots of another workspace.")] = None,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Bring an existing workspace's database to this version.")] = False,
) -> None:
    """Make a workspace: callward.toml, landing folders, key roots, database."""
    from callward import database, initiate

    if upgrade:
        settings = load(folder)
        database.upgrade(settings)
        initiate.make_folders(settings)
        console.say(f"{settings.path}: the database is at this version")
        return
    from pipelines.demo import demo_settings

    settings = demo_settings(folder) if demo else Settings(path=folder / "callward.toml", tenants={"default": Tenant()})
    made = initiate.init(folder, settings, load(keys_of) if keys_of else None)
    console.say(f"{made.path}: a workspace; next: give every tenant its retention windows, then 'callward doctor'")


@app.command()
def nightly(
    source: Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be given again.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print what the sources' declarations map and drop, and stop.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take in every complete file of the landing folders, and commit it."""
    from pipelines import nightly as night
    from pipelines import report

    settings = load(config)
    if explain:
        console.out(report.explained(settings, source or []), as_json)
        return
    if dry_run:
        console.out(report.arrived(settings, source or []), as_json)
        return
    with console.progress(as_json) as progress:
        done = night.nightly(settings, source or [], progress=progress)
    if as_json:
        console.document(done.document())
    else:
        console.show(*report.of_night(settings, done))
    if done.must_look:
        raise typer.Exit(3)


if __name__ == "__main__":
    main()


