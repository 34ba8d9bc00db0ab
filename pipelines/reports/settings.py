"""What people read of settings that changed: what of them does what."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines import terminal
from pipelines.results import Part, Result, fields_of
from pipelines.settings_diff import Differences


@dataclass(frozen=True)
class SettingsDiff(Result):
    """What changed, and what it does; `file`: that would take the place of the settings of today."""

    differences: Differences
    file: str = ""

    @property
    def exit_code(self) -> int:
        """Return 3 where committed rows would be altered, else 0."""
        return 3 if self.differences.rows else 0

    def to_dict(self) -> dict[str, Any]:
        document = fields_of(self.differences)
        for row in document["rows"]:
            row |= {"first": row["first"].isoformat(), "last": row["last"].isoformat()}
        at = self.differences.read_at
        return {**document, "read_at": at.isoformat(timespec="seconds") if at else None}

    def render(self) -> Iterator[Part]:
        found = self.differences
        if not found.run_id:
            yield "no run has read records yet: there is nothing to compare with"
            return
        if found.rows:
            columns = ["source", "setting", "was", "is", "files", "records", "came in from", "to"]
            yield terminal.table(
                "Rows that would be otherwise", columns, [list(vars(row).values()) for row in found.rows]
            )
        if found.others:
            columns = ["setting", "was", "is", "takes effect"]
            yield terminal.table("Alters no row", columns, [list(vars(row).values()) for row in found.others])
        yield from found.notes
        yield self._conclusion()
        yield from (f"  {line}" for line in found.commands)

    def _conclusion(self) -> str:
        found = self.differences
        if found.commands:
            then = f"once {self.file} is in force" if self.file else "what it would change is said with --dry-run"
            return f"have these rows read again ({then}):"
        if found.rows or found.others:
            return "no row can be altered" if found.rows else "no committed row is altered"
        return f"nothing changed since run {found.run_id} read records"
