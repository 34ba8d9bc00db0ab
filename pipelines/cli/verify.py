"""`callward verify`: whether a batch and a stream of the same records came to the same."""

from pathlib import Path
from typing import Annotated

import typer

from callward.settings import load
from pipelines import terminal
from pipelines.cli.options import AsJson


def verify(
    batch: Annotated[Path, typer.Option("--batch", metavar="DIR", help="A workspace, such as that of the nights.")],
    stream: Annotated[
        Path, typer.Option("--stream", metavar="DIR", help="Another, made with 'callward init --keys-of' the first.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare two workspaces with the same keys: exit code 0 when they are equal, 1 when not. No value is printed."""
    from pipelines import verify as verifies

    with terminal.progress(as_json) as progress:
        done = verifies.verify(load(batch), load(stream), progress=progress)
    if as_json:
        terminal.document(done.document())
    else:
        terminal.show(*done.told())
    if not done.equal:
        raise typer.Exit(1)
