"""What people read of the audit log."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from callward import audit
from pipelines import terminal
from pipelines.results import Part, Result, Rows


@dataclass(frozen=True)
class AuditChecked(Result):
    """The length and the head of a log whose chain of hashes holds."""

    entries: int
    head: str

    def render(self) -> Iterator[Part]:
        yield f"{terminal.count(self.entries, 'entry', 'entries')}, unbroken; head {self.head}"


@dataclass(frozen=True)
class AuditEntries(Result):
    """Entries of the log: whole in the document, in short for a person."""

    entries: Sequence[dict[str, Any]]

    def to_dict(self) -> list[Any]:
        return list(self.entries)

    def render(self) -> Iterator[Part]:
        return Rows([audit.short(entry) for entry in self.entries]).render()
