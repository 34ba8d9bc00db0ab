"""The record of a disposal: one state machine for all that is destroyed with proof, whatever the reason.

    planned → approved → tombstoned → removing → done or partial

`abandoned` ends what has not come to `removing`: up to there everything can count again. Each change of state is made
in the transaction that makes it true, so a kill falls before it or after it; who comes next finds the disposal under
way and goes on. From `removing` on there is no way back, and the way is the same for every reason (completion.py).
Which state a disposal begins in, and what is done before `removing`, is particular to its reason: purge.py,
erasure.py, tenant_keys.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from callward import database, identity
from callward.errors import Problem
from schemas.codes import DisposalReason
from schemas.retention import disposal_items, disposals

ROLE: Final = "retention-run"


class Status(StrEnum):
    """How far a disposal has come."""

    PLANNED = "planned"  # it waits for a person
    APPROVED = "approved"  # what takes the place of its files is written
    TOMBSTONED = "tombstoned"  # its files count no more, and lie where they lay
    REMOVING = "removing"  # there is no way back
    DONE = "done"  # all is gone, and certified
    PARTIAL = "partial"  # the same, and the certificate says what stays
    ABANDONED = "abandoned"  # nothing was destroyed, and everything counts as before


UNDER_WAY: Final = (Status.TOMBSTONED, Status.REMOVING)
_MAY_FOLLOW: Final[Mapping[Status, tuple[Status, ...]]] = {
    Status.APPROVED: (Status.PLANNED,),
    Status.TOMBSTONED: (Status.APPROVED,),
    Status.REMOVING: (Status.TOMBSTONED,),
    Status.DONE: (Status.REMOVING,),
    Status.PARTIAL: (Status.REMOVING,),
    Status.ABANDONED: (Status.PLANNED, Status.APPROVED, Status.TOMBSTONED),
}
# What becomes of the items of a disposal that comes to a state. Items that are only counted are `kept` from the start.
_ITEM_PLANNED, _ITEM_TOMBSTONED, ITEM_REMOVED, ITEM_KEPT = "planned", "tombstoned", "removed", "kept"


@dataclass(frozen=True)
class Disposal:
    """A disposal as the register has it."""

    disposal_id: str
    reason: DisposalReason
    about: str | None  # the request of an erasure, the tenant of a tenant's end
    run_id: str | None  # that wrote its files; another one may finish it
    as_of: date
    status: Status
    digest: str  # SHA-256 of what was planned, hex
    certificate_id: str | None
    facts: dict[str, Any]  # the plan, as its reason keeps it


@dataclass(frozen=True)
class Item:
    """One data file of a disposal: `rows` go, of which `held` are kept apart."""

    retention_class: str
    action: str  # delete, rewrite, release, keep
    tenant: str
    view: str
    part: str
    file_id: str
    rows: int
    held: int
    kept: bool = False  # it is only counted


def enter(connection: Connection, disposal: Disposal, plan: str) -> None:
    """Begin a disposal in its state; `plan` is the text of its facts (JSON)."""
    connection.execute(
        insert(disposals).values(
            disposal_id=disposal.disposal_id,
            reason=disposal.reason,
            about=disposal.about,
            run_id=disposal.run_id,
            as_of=disposal.as_of,
            status=disposal.status,
            plan_digest=disposal.digest,
            plan=plan,
            started_by=identity.who(),
            created_at=database.now(),
        )
    )


def list_items(connection: Connection, disposal_id: str, items: Sequence[Item], *, tombstoned: bool = False) -> None:
    """Put the items of a disposal in the place of those that it had."""
    i = disposal_items.c
    connection.execute(delete(disposal_items).where(i.disposal_id == disposal_id))
    state = _ITEM_TOMBSTONED if tombstoned else _ITEM_PLANNED
    rows = [
        {**{k: v for k, v in vars(item).items() if k != "kept"}, "state": ITEM_KEPT if item.kept else state}
        for item in items
    ]
    if rows:
        numbered = [{"disposal_id": disposal_id, "item": number, **row} for number, row in enumerate(rows)]
        connection.execute(insert(disposal_items), numbered)


def move(connection: Connection, disposal_id: str, to: Status, **values: Any) -> None:
    """Bring a disposal and its items to a state; raises Problem where its state does not lead there."""
    d = disposals.c
    if to in (Status.DONE, Status.PARTIAL, Status.ABANDONED):
        values["finished_at"] = database.now()
    before = update(disposals).where(d.disposal_id == disposal_id, d.status.in_(_MAY_FOLLOW[to]))
    if connection.execute(before.values(status=to, **values)).rowcount != 1:
        raise Problem(f"disposal {disposal_id} is not in a state that leads to {to!r}: another run has changed it")
    if to == Status.TOMBSTONED:
        _move_items(connection, disposal_id, _ITEM_PLANNED, _ITEM_TOMBSTONED)
    if to == Status.ABANDONED:
        i = disposal_items.c
        connection.execute(update(disposal_items).where(i.disposal_id == disposal_id).values(state=ITEM_KEPT))


def note_removed(connection: Connection, disposal_id: str) -> None:
    """Note that the data files of a disposal's items are off the disk."""
    _move_items(connection, disposal_id, _ITEM_TOMBSTONED, ITEM_REMOVED)


def _move_items(connection: Connection, disposal_id: str, before: str, to: str) -> None:
    i = disposal_items.c
    connection.execute(update(disposal_items).where(i.disposal_id == disposal_id, i.state == before).values(state=to))


# -- reading -----------------------------------------------------------------------------------------------------------


def find(connection: Connection, disposal_id: str) -> Disposal | None:
    """Return a disposal by its id."""
    row = connection.execute(select(disposals).where(disposals.c.disposal_id == disposal_id)).first()
    return _disposal(row) if row is not None else None


def in_states(
    connection: Connection, reason: DisposalReason, states: Sequence[Status] = UNDER_WAY, about: str | None = None
) -> list[Disposal]:
    """Return disposals for a reason that are in one of the states, oldest first.

    By default those that were begun and not ended: nobody is at work on them while we hold the lease.
    """
    d = disposals.c
    query = select(disposals).where(d.reason == reason, d.status.in_(states)).order_by(d.created_at)
    if about is not None:
        query = query.where(d.about == about)
    return [_disposal(row) for row in connection.execute(query)]


def _disposal(row: Row[Any]) -> Disposal:
    return Disposal(
        disposal_id=row.disposal_id,
        reason=DisposalReason(row.reason),
        about=row.about,
        run_id=row.run_id,
        as_of=row.as_of,
        status=Status(row.status),
        digest=row.plan_digest,
        certificate_id=row.certificate_id,
        facts=json.loads(row.plan),
    )
