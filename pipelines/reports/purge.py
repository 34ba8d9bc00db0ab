"""What `callward purge` says: what is due, held and deleted by class, how it ended, and what a person must do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from callward.disposal.record import Status
from callward.retention import holds
from callward.retention.purge.plan import ClassCounts, HeldRows, PolicyEffect
from pipelines import terminal
from pipelines.results import Part, Result, fields_of


@dataclass(frozen=True)
class PurgeReport(Result):
    """A purge, or what one would do. Holds that are confidential are in no figure of their own.

    Attributes:
        purge_id: of the disposal, which is the plan's id as well; None where nothing was due, and of a dry run.
        safety_check: why a person must approve the plan, one sentence each.
        failed_checks: sentences of the certificate's checks that do not hold.
        overdue: rows that are past their window and still there.
        effect: what another policy would change; None unless one was tried.
    """

    purge_id: str | None
    plan_id: str | None
    plan_digest: str
    as_of: date
    dry_run: bool
    status: str
    classes: Sequence[ClassCounts]
    held: Sequence[HeldRows]
    certificate: str | None = None
    safety_check: Sequence[str] = ()
    failed_checks: Sequence[str] = ()
    overdue: int = 0
    hold_warnings: Sequence[str] = ()
    effect: Sequence[PolicyEffect] | None = None

    @property
    def exit_code(self) -> int:
        """Return 3 where the plan waits for a person, or something that should be gone is not."""
        return 3 if self._waits or self.failed_checks or self.overdue else 0

    @property
    def _waits(self) -> bool:
        return self.status == Status.PLANNED

    def to_dict(self) -> dict[str, Any]:
        document = fields_of(self) | {"as_of": self.as_of.isoformat(), "warnings": list(self.hold_warnings)}
        del document["hold_warnings"]
        if self.effect is None:
            del document["effect"]
        return document

    def render(self) -> Iterator[Part]:
        if self.classes:
            yield self._table()
        else:
            yield f"as of {self.as_of}: nothing is past its window"
        for row in self.held:
            why = f"hold {row.hold}" if row.hold else holds.OTHER
            yield f"kept for {why}: {row.rows:,} of {row.tenant}, {row.class_}"
        if self.effect is not None:
            yield _effect(self.effect)
        yield from (f"warning: {sentence}" for sentence in self.hold_warnings)
        yield from self._ending()

    def _table(self) -> terminal.Table:
        would = "would be " if self.dry_run or self._waits else ""
        columns = ("class", "due", "held", f"{would}deleted", "files", f"keys {would}destroyed")
        rows = [[c.class_, c.due, c.held, c.deleted, c.files, c.keys_destroyed] for c in self.classes]
        return terminal.table(f"As of {self.as_of}", columns, rows)

    def _ending(self) -> Iterator[str]:
        """Yield how it ended, and what is to be done now."""
        if self.dry_run:
            yield "nothing was changed"
            yield from (f"it would wait for a person: {reason}" for reason in self.safety_check)
        elif self._waits:
            yield from (f"it waits for a person: {reason}" for reason in self.safety_check)
            yield f"nothing was changed; to run it: callward purge --approve {self.plan_id} --person NAME --key FILE"
        elif self.certificate:
            yield f"purge {self.purge_id} {self.status}; certificate {self.certificate}"
        yield from (f"a check failed: {sentence}" for sentence in self.failed_checks)
        if self.overdue:
            yield f"{self.overdue:,} rows are past their window and still there: run it again"


def _effect(rows: Sequence[PolicyEffect]) -> terminal.Table:
    columns = ("tenant", "class", "would go", "of it newly", "would now stay")
    lines = [[row.tenant, row.class_, row.goes, row.newly_goes, row.stays] for row in rows]
    return terminal.table("Under that policy", columns, lines)
