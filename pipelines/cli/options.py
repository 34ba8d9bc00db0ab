"""Options that commands share, one by one and in groups.

A group is a frozen dataclass whose fields are options; a command that takes it has them all (pipelines/cli/command.py).
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from callward.access.second_person import Consent
from callward.errors import UsageProblem
from callward.redaction import recorded
from callward.settings import Settings, load
from pipelines import terminal

AS_GIVEN: Final = "as given"  # on an option whose text is neither stored nor shown: a number, SQL, a date, an id


def in_words(param: typer.CallbackParam, value: Any) -> Any:
    """Return the words of an option, or each of a list of them, as they are recorded; None where it is not given.

    Raises UsageProblem for what cannot be recorded, and for a blank where something must be said.
    """
    name = param.opts[0] if param.opts[0].startswith("-") else param.opts[0].upper()
    if value is None:
        return None
    words = [recorded(name, text) for text in ([value] if isinstance(value, str) else value)]
    if "" in words and param.default != "":
        raise UsageProblem(f"{name} is blank: say why or what in one line")
    return words[0] if isinstance(value, str) else words


Config = Annotated[
    str | None,
    typer.Option("--config", help="Settings file (default: callward.toml here, or CALLWARD_CONFIG)."),
    AS_GIVEN,
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Files = Annotated[bool, typer.Option("--files", help="Print every file, not only sums by source and reason.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be given again.")]
Codes = Annotated[
    list[str] | None, typer.Option("--code", help="Only records with this suspense code; may be given again.")
]
FileNames = Annotated[
    list[str] | None,
    typer.Option("--file", help="Only this file, by its number, id or name below landing; may be given again."),
    AS_GIVEN,
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="So many at most.")]
Day = typer.Option("--as-of", formats=["%Y-%m-%d"], help="As it is, or would be, on that day (UTC).")
AsOf = Annotated[datetime | None, Day]
RecipientKey = Annotated[
    str,
    typer.Option("--recipient", help="The recipient's X25519 public key: a PEM file, or 64 hex digits."),
    AS_GIVEN,
]
PersonName = Annotated[str, typer.Option("--person", help="Who approves: a person that the custodian registered.")]
Plan = Annotated[
    str | None, typer.Option("--approve", metavar="PLAN", help="Run the plan that waits, as a second person.")
]
KeyFile = Annotated[Path, typer.Option("--key", metavar="FILE", help="That person's key file.")]


@dataclass(frozen=True, kw_only=True)
class Printed:
    """The option of every command, also of those that need no workspace."""

    as_json: AsJson = False

    def progress(self) -> AbstractContextManager[terminal.Progress]:
        """Return a context that gives a function for progress: quiet beside a JSON document."""
        return terminal.progress(self.as_json)


@dataclass(frozen=True, kw_only=True)
class Reading(Printed):
    """Options of a command that changes nothing."""

    config: Config = None

    def settings(self) -> Settings:
        """Return the workspace's settings. Raises UsageProblem where there are none, or wrong ones."""
        return load(self.config)


@dataclass(frozen=True, kw_only=True)
class Changing(Reading):
    """Options of a command that changes something."""

    dry_run: DryRun = False


@dataclass(frozen=True, kw_only=True)
class Consenting:
    """Who lets what waits for a second person go ahead."""

    approve: Plan = None
    person: Annotated[
        str | None, typer.Option("--person", help="Who approves: a person that the custodian registered.")
    ] = None
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="That person's key file.")] = None

    def consent(self) -> Consent | None:
        """Return the approval that is given. Raises UsageProblem for half of one."""
        return Consent.of(self.approve, self.person, self.key)


@dataclass(frozen=True, kw_only=True)
class Approver:
    """Who approves by a signature."""

    person: PersonName
    key: KeyFile


def key_text(recipient: str) -> str:
    """Return a recipient's key as text: what the file of that name has, else what was given."""
    path = Path(recipient)
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else recipient
    except (OSError, UnicodeDecodeError):
        raise UsageProblem("--recipient: the file cannot be read as text") from None
