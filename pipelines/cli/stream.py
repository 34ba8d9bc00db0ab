"""`callward stream`: take in records all day."""

from typing import Annotated

import typer

from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config, DryRun

app = typer.Typer(no_args_is_help=True, help="Take in records all day, from topics and watched folders.")


@app.command()
def start(
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only this source or topic; may be given again.")
    ] = None,
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Go on behind messages that the broker has not kept.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Run a stream until it is stopped. It stays in the foreground: a service manager should keep it."""
    from pipelines.stream import supervisor

    settings = load(config)
    done = supervisor.start(settings, source or [], skip_lost=skip_lost, dry_run=dry_run, progress=terminal.say)
    if as_json:
        terminal.document(done)
    elif dry_run:
        terminal.show(f"would read {', '.join(done['reads'])}")
    else:
        terminal.show(
            f"stream {done['run_id']} {done['reason']}: {done['rows']:,} records in {done['commits']:,} commits"
        )


@app.command()
def stop(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all that was read is committed.")] = True,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Ask the streams at work to stop, so that nothing is left between read and committed."""
    from pipelines.stream import supervisor

    found = supervisor.stop(load(config), wait=wait, progress=terminal.say)
    if as_json:
        terminal.document({"streams": found})
    elif not found:
        terminal.show("no stream is at work")
    else:
        terminal.show(*(f"stream {one['run_id']}: {one['reason'] or 'was asked to stop'}" for one in found))


@app.command()
def status(as_json: AsJson = False, config: Config = None) -> None:
    """Say how the streams stand. Exit code 0: running and fresh; 1: none runs; 3: a person must look."""
    from pipelines.stream import offsets
    from pipelines.stream import status as stream_status

    settings = load(config)
    found = stream_status.status(settings, offsets.ask_all(settings))
    if as_json:
        terminal.document(found)
    else:
        terminal.show(*stream_status.told(found))
    code = stream_status.exit_code(found)
    if code:
        raise typer.Exit(code)
