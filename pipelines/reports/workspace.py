"""What people read of a workspace that was made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.results import Part, Result


@dataclass(frozen=True)
class WorkspaceMade(Result):
    """A workspace that was made or upgraded, or would be, and the commands that come next."""

    settings: str
    dry_run: bool
    next: list[str]
    upgraded: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"settings": self.settings, "dry_run": self.dry_run, "next": self.next}

    def render(self) -> Iterator[Part]:
        verb = "would be" if self.dry_run else "is"
        state = f"its database {verb} at this version" if self.upgraded else f"a workspace {verb} made"
        yield f"{self.settings}: {state}; next:"
        yield from (f"  {number}. {step}" for number, step in enumerate(self.next, 1))
