"""`callward receive`: take records that switches post over HTTP."""

import sys
from typing import Annotated

import typer

from callward.errors import UsageProblem
from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson, Config


def attach(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(receive)


def receive(
    make_hash: Annotated[
        bool, typer.Option("--hash", help="Ask for a password, print its hash for the settings, and end.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Receive records by HTTP (FreeSWITCH mod_json_cdr) until SIGTERM; each is sealed on disk before it is answered."""
    if make_hash:
        _print_hash()
        return
    from pipelines.stream import http_receiver as receiver

    done = receiver.receive(load(config), terminal.say)
    if as_json:
        terminal.document(done)
    else:
        taken, refused = (sum(done[name].values()) for name in ("taken", "refused"))
        terminal.show(f"{terminal.count(taken, 'record')} taken, {terminal.count(refused, 'request')} refused")


def _print_hash() -> None:
    from callward.ingest.senders import hash_password

    asked = sys.stdin.isatty()
    password = typer.prompt("password", hide_input=True, err=True) if asked else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UsageProblem("there was no password to hash")
    terminal.show(hash_password(password))
