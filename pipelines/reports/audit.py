"""What people read of the audit log."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from callward.audit import LoggedEntry
from pipelines import terminal
from pipelines.results import Part, Result, to_document

_COLUMNS = ("seq", "at", "who", "role", "event", "subject", "reason")


@dataclass(frozen=True)
class AuditChecked(Result):
    """The length and the head of a log whose chain of hashes holds."""

    entries: int
    head: str

    def render(self) -> Iterator[Part]:
        yield f"{terminal.count(self.entries, 'entry', 'entries')}, unbroken; head {self.head}"


@dataclass(frozen=True)
class AuditEntries(Result):
    """Entries of the log: whole in the document, without hashes for a person."""

    entries: Sequence[LoggedEntry]

    def to_dict(self) -> list[Any]:
        return [to_document(entry) for entry in self.entries]

    def render(self) -> Iterator[Part]:
        rows = [
            [str(entry.seq), entry.at, entry.who, entry.role, entry.event, entry.subject_name, entry.reason]
            for entry in self.entries
        ]
        yield terminal.table("", _COLUMNS, rows) if rows else "nothing"
