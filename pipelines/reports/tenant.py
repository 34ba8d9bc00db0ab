"""What the commands of `callward tenant` say: data that was handed back or opened, and a tenant that was closed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from callward.retention.purge.plan import ClassCounts, HeldRows
from pipelines import terminal
from pipelines.results import Part, Result, fields_of

WAITS = "waits for a second person"


class _Labelled(Result):
    """A result that is shown as its fields, each on a line of its own."""

    def render(self) -> Iterator[Part]:
        return terminal.labelled(fields_of(self))


@dataclass(frozen=True)
class TenantReturned(_Labelled):
    """A tenant's data in a folder, or what would be: sealed files, rows by what they are, the manifest's digest."""

    tenant: str
    dry_run: bool
    rows: Mapping[str, int]
    folder: str | None = None
    files: int | None = None
    manifest_sha256: str | None = None


@dataclass(frozen=True)
class ReturnOpened(_Labelled):
    """Files of a hand-over that were checked and written in the clear."""

    tenant: str
    folder: str
    files: int


@dataclass(frozen=True)
class Floor:
    """Rows of a class that the law requires to be kept, and until when the last of them."""

    class_: str
    rows: int
    until: date


@dataclass(frozen=True)
class TenantClosed(_Labelled):
    """A tenant that was closed, or would be, or that waits for the second person.

    Attributes:
        rows: of a dry run: rows that are there, by view.
        classes, held, certificates: what was destroyed, what stays, and the proof.
    """

    tenant: str
    status: str
    floors: Sequence[Floor]
    dry_run: bool = False
    rows: Mapping[str, int] | None = None
    purge_id: str | None = None
    classes: Sequence[ClassCounts] = ()
    held: Sequence[HeldRows] = ()
    certificates: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """Return 3 until the second person has said so."""
        return 3 if self.status == WAITS else 0
