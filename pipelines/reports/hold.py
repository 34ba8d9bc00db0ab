"""What the commands of `callward hold` say: a hold placed, changed, shown, or all of them. Numbers are only counted."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from callward import database
from callward.retention import holds
from callward.retention.holds import Hold, HoldSummary, RemovedRows
from callward.settings import Settings
from pipelines import terminal
from pipelines.results import Part, Result, to_document

_COLUMNS = ("hold_id", "state", "tenant", "kind", "case", "from", "to", "selects", "age_days", "expires_on")


# -- a hold that was placed --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HoldPlaced(Result):
    """A hold that was placed, or would be (it has no id then); what purges had removed before it is for a person."""

    hold_id: str | None
    dry_run: bool
    expires_on: date | None
    numbers: int
    removed: Sequence[RemovedRows]

    @property
    def exit_code(self) -> int:
        return 3 if self.removed else 0

    def render(self) -> Iterator[Part]:
        name = "the hold would be placed" if self.dry_run else f"hold {self.hold_id} is placed"
        yield f"{name}{f'; its order expires on {self.expires_on}' if self.expires_on else ''}"
        if self.removed:
            rows = [to_document(rows) for rows in self.removed]
            title = "Destroyed before it was placed, of its tenant and dates"
            yield terminal.table(title, list(rows[0]), [list(row.values()) for row in rows])


def place(settings: Settings, hold: Hold, *, unlisted: bool, dry_run: bool) -> HoldPlaced:
    """Place a hold. Raises UsageProblem for a wrong one."""
    placed = holds.place(settings, hold, _today(), unlisted=unlisted, dry_run=dry_run)
    with database.reading(settings) as connection:
        removed = holds.removed(connection, placed)
    hold_id = None if dry_run else placed.hold_id
    return HoldPlaced(hold_id, dry_run, placed.expires_on, len(placed.numbers), removed)


# -- a hold that was changed -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HoldRenewed(Result):
    """An order that was extended, or would be."""

    hold_id: str
    dry_run: bool
    expires_on: date | None

    def render(self) -> Iterator[Part]:
        ends = f"its order expires on {self.expires_on}" if self.expires_on else "its order has no end"
        yield f"{_changed(self.hold_id, self.dry_run)}: {ends}"


@dataclass(frozen=True)
class HoldReleased(Result):
    """A hold that was ended, or would be; with a tail it blocks through a day."""

    hold_id: str
    dry_run: bool
    blocks_through: date | None

    def render(self) -> Iterator[Part]:
        through = self.blocks_through
        ends = f"it blocks through {through}" if through else "what it kept is due at the next purge"
        yield f"{_changed(self.hold_id, self.dry_run)}: {ends}"


def _changed(hold_id: str, dry_run: bool) -> str:
    return f"hold {hold_id} {'would be changed' if dry_run else 'is changed'}"


def renewed(hold: Hold, dry_run: bool) -> HoldRenewed:
    """Return what is said of a hold whose order was extended."""
    return HoldRenewed(hold.hold_id, dry_run, hold.expires_on)


def released(hold: Hold, dry_run: bool) -> HoldReleased:
    """Return what is said of a hold that was released."""
    return HoldReleased(hold.hold_id, dry_run, hold.last_day if hold.tail else None)


# -- holds that there are ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HoldList(Result):
    """Holds, the oldest first; a person must look where an order has expired or soon will."""

    holds: Sequence[HoldSummary]

    @property
    def exit_code(self) -> int:
        return 3 if any(hold.warning for hold in self.holds) else 0

    def to_dict(self) -> list[Any]:
        return [to_document(hold) for hold in self.holds]

    def render(self) -> Iterator[Part]:
        rows = [{**to_document(hold), "selects": _selects(hold)} for hold in self.holds]
        yield terminal.Records(rows, _COLUMNS) if rows else "holds: none"

    def warnings(self) -> Iterator[str]:
        return (hold.warning for hold in self.holds if hold.warning)


@dataclass(frozen=True, kw_only=True)
class HoldShown(HoldSummary, Result):
    """Everything about one hold but its numbers."""

    def render(self) -> Iterator[Part]:
        return terminal.labelled(to_document(vars(self)))


def list_holds(settings: Settings, role: str, *, released: bool) -> HoldList:
    """Return the holds that the role may know of; with `released` those that keep nothing any more as well."""
    found = holds.list_holds(settings, role, _today())
    return HoldList([hold for hold in found if released or hold.state != "released"])


def show(settings: Settings, hold_id: str, role: str) -> HoldShown:
    """Return one hold. Raises UsageProblem for one that is not there, or that the role may not know of."""
    return HoldShown(**asdict(holds.read_hold(settings, hold_id, role, _today())))


def _selects(hold: HoldSummary) -> str:
    """Return what a hold selects by, in words."""
    counts = ((len(hold.accounts), "account"), (len(hold.trunks), "trunk"), (hold.numbers, "number"))
    return ", ".join(terminal.count(number, word) for number, word in counts if number) or "everything"


def _today() -> date:
    return database.now().date()
