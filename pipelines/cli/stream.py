"""`callward stream`: take in records all day."""

from typing import Annotated

import typer

from pipelines import terminal
from pipelines.cli.command import command
from pipelines.cli.options import Changing, Reading
from pipelines.results import Result

app = typer.Typer(no_args_is_help=True, help="Take in records all day, from topics and watched folders.")


@command(app, "callward stream start --source cdr-east")
def start(
    options: Changing,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only this source or topic; may be given again.")
    ] = None,
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Go on behind messages that the broker has not kept.")
    ] = False,
) -> Result:
    """Run a stream until it is stopped. It stays in the foreground: a service manager should keep it."""
    from pipelines.stream import supervisor

    return supervisor.start(
        options.settings(), source or [], skip_lost=skip_lost, dry_run=options.dry_run, progress=terminal.say
    )


@command(app, "callward stream stop --no-wait")
def stop(
    options: Changing,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until all that was read is committed.")] = True,
) -> Result:
    """Ask the streams at work to stop, so that nothing is left between read and committed."""
    from pipelines.stream import supervisor

    return supervisor.stop(options.settings(), wait=wait, dry_run=options.dry_run, progress=terminal.say)


@command(app, "callward stream status --json")
def status(options: Reading) -> Result:
    """Say how the streams stand. Exit code 0: running and fresh; 1: none runs; 3: a person must look."""
    from pipelines.reports.stream import StatusReport
    from pipelines.stream import offsets
    from pipelines.stream import status as stream_status

    settings = options.settings()
    return StatusReport(stream_status.status(settings, offsets.ask_all(settings)))
