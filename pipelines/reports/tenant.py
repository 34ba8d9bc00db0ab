"""What the commands of `callward tenant` say: what was handed back, opened, and destroyed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import terminal
from pipelines.results import Part, Result


@dataclass(frozen=True)
class TenantOutcome(Result):
    """What was done with a tenant's data, by name."""

    fields: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def render(self) -> Iterator[Part]:
        return terminal.labelled(self.fields)


@dataclass(frozen=True)
class TenantClosed(TenantOutcome):
    """What a tenant's end destroyed and kept; exit code 3 while it waits for the second person."""

    @property
    def exit_code(self) -> int:
        return 3 if self.fields["status"].startswith("waits") else 0
