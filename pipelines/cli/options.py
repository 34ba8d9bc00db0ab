"""Options that commands share."""

from typing import Annotated

import typer

Config = Annotated[
    str | None, typer.Option("--config", help="Settings file (default: callward.toml here, or CALLWARD_CONFIG).")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
