"""The command line.

Exit codes: 0 done, 1 failed (nothing or not all committed), 2 wrong usage, 3 done but a person must look.
"""

import logging
import os
import signal
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from pipelines.engine import process

process.prepare()  # before the large libraries are imported
# isort: split
from pipelines import terminal  # noqa: E402
from pipelines.cli import (  # noqa: E402
    accounts,
    audit,
    case,
    corrections,
    demo,
    grant,
    hold,
    init,
    keys,
    lake,
    library_log,
    nightly,
    policy,
    purge,
    query,
    receive,
    release,
    request,
    settings,
    sources,
    status,
    stream,
    suspense,
    sweep,
    tenant,
    trial,
)
from pipelines.cli.command import GroupedHelp, example, fail, run_words, wants_json  # noqa: E402

app = typer.Typer(
    name="callward",
    cls=GroupedHelp,
    help="CPNI-compliant pipeline for call-detail records: encrypted views, a balanced ledger, proof.",
    epilog=example("callward init /srv/callward"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (init, trial, demo, nightly, receive, status, corrections, lake, query, sweep, grant):
    app.add_typer(commands.app)
app.add_typer(suspense.recycle_app)
_GROUPS = (
    sources,
    accounts,
    settings,
    stream,
    suspense,
    policy,
    hold,
    case,
    purge,
    request,
    tenant,
    audit,
    release,
    keys,
)
for group in _GROUPS:
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def _print_version(wanted: bool) -> None:
    if wanted:
        terminal.show(f"callward {version('callward')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Entry point. Leaves at once: taking the interpreter apart would look at every object for half a second."""
    code = run()
    logging.shutdown()
    os._exit(code)


def run() -> int:
    """One command, to its exit code: every error is one sentence, never a traceback."""
    _open_closed()
    library_log.prepare()
    warnings.filterwarnings("ignore")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        code = run_words(app, sys.argv[1:])
        sys.stdout.flush()
        return code
    except Exception as error:
        return fail(error, wants_json(sys.argv[1:]), sys.argv[1:])


def _open_closed() -> None:
    """Give standard streams that whoever started us has closed to nobody: a file of ours would take their place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (as long as the process)


def _interrupt(*_: object) -> None:
    """Ctrl-C or SIGTERM: stop here and now, as a kill would, which changes nothing that was committed.

    An exception would be lost where Python swallows one (in a finalizer), and workers are threads in the middle of a
    block. Written by hand, as the interruption may have come in the middle of a print.
    """
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a spinner had hidden it
    sentence = "callward: interrupted; what was committed stays, and running again goes on from there\n"
    os.write(2, (cursor + sentence).encode())
    os._exit(1)


if __name__ == "__main__":
    main()
