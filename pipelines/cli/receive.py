"""`callward receive`: take records that switches post over HTTP."""

import sys
from typing import Annotated

import typer

from callward.errors import UsageProblem
from pipelines import terminal
from pipelines.cli.command import command
from pipelines.cli.options import Changing
from pipelines.results import Result, Text

app = typer.Typer()


@command(app, "callward receive --dry-run")
def receive(
    options: Changing,
    make_hash: Annotated[
        bool, typer.Option("--hash", help="Ask for a password, print its hash for the settings, and end.")
    ] = False,
) -> Result:
    """Receive records by HTTP (FreeSWITCH mod_json_cdr) until SIGTERM; each is sealed on disk before it is answered."""
    if make_hash:
        return Text("hash", _ask_and_hash())
    from pipelines.stream import http_receiver

    return http_receiver.receive(options.settings(), terminal.say, dry_run=options.dry_run)


def _ask_and_hash() -> str:
    from callward.ingest.senders import hash_password

    asked = sys.stdin.isatty()
    password = typer.prompt("password", hide_input=True, err=True) if asked else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UsageProblem("there was no password to hash")
    return hash_password(password)
