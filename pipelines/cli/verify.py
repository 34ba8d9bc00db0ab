"""`callward verify`: whether a batch and a stream of the same records came to the same."""

from pathlib import Path
from typing import Annotated

import typer

from callward.settings import load
from pipelines.cli.command import command
from pipelines.cli.options import Printed
from pipelines.results import Result

app = typer.Typer()


@command(app, "callward verify --batch /srv/nights --stream /srv/stream")
def verify(
    batch: Annotated[Path, typer.Option("--batch", metavar="DIR", help="A workspace, such as that of the nights.")],
    stream: Annotated[
        Path, typer.Option("--stream", metavar="DIR", help="Another, made with 'callward init --keys-of' the first.")
    ],
    options: Printed,
) -> Result:
    """Compare two workspaces with the same keys: exit code 0 when they are equal, 1 when not. No value is printed."""
    from pipelines import verify as verification

    with options.progress() as progress:
        return verification.verify(load(batch), load(stream), progress=progress)
