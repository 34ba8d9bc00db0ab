"""second_person: what changes much is done by two people. One starts it, and an approver's key file signs that it goes
ahead (separation of duties)."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from callward import database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers
from callward.settings import Settings

_KIND: Final = "change"
_SHOWN: Final = 16  # hex digits of a plan's digest that a person copies


class SecondPersonNeeded(Problem):
    """A change waits for a second person; nothing was changed (exit code 3)."""

    exit_code = 3
    code = "second_person"


@dataclass(frozen=True)
class Consent:
    """Who lets a plan go ahead: a registered person's key file signs for it."""

    plan: str
    person: str
    key_file: Path

    @classmethod
    def of(cls, plan: str | None, person: str | None, key_file: Path | None) -> "Consent | None":
        """Return what the options --approve, --person and --key say; None where none is given. Raises UsageProblem."""
        if plan is None and person is None and key_file is None:
            return None
        if plan is None or person is None or key_file is None:
            raise UsageProblem("an approval takes --approve PLAN, --person and --key together")
        return cls(plan, person, key_file)


def is_large(settings: Settings, size: int) -> bool:
    """Return whether a change of so many records or entries waits for a second person."""
    limit = settings.thresholds.second_person
    return 0 < limit < size


def require(settings: Settings, size: int, consent: Consent | None, **plan: Any) -> None:
    """Require a second person for a change of more than thresholds.second_person records or entries.

    `plan` says what would be done, so that an approval fits this and nothing else; today's settings are part of it.
    An approval that was given stays, as for a run that was killed. Raises SecondPersonNeeded, Problem for an approval
    of something else, and what `approvers.approve` raises.
    """
    if not is_large(settings, size):
        return
    text = json.dumps({**plan, "size": size, "settings": settings.digest}, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    shown = digest[:_SHOWN]
    if consent is not None:
        if consent.plan != shown:
            raise Problem(f"plan {consent.plan} is not what would be done now, which is plan {shown}")
        approvers.approve(settings, _KIND, digest, consent.person, consent.key_file)
    with database.reading(settings) as connection:
        if approvers.approved_by(connection, _KIND, digest):
            return
    limit = settings.thresholds.second_person
    raise SecondPersonNeeded(
        f"{size:,} are more than one person changes (thresholds.second_person = {limit:,}): nothing was changed. Look "
        f"at it with --dry-run; then a second person runs the same with --approve {shown} --person NAME --key FILE"
    )
