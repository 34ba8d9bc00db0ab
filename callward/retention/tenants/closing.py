"""Tenants that leave: the decision of two persons that a tenant's data is no longer kept.

It stands in the register of policies, as a version of its own kind: proposed by one person, decided by another, both
of whom sign its digest. From then on nothing of the tenant is within its window (see `rules.Leaving`), so
every purge works towards its end, and one that was killed is just run again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from callward import audit, database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers
from callward.settings import Settings
from schemas.retention import policies

KIND: Final = "close"  # of approvals
PROPOSED, DECIDED = "leave-proposed", "leaving"
NAME: Final = "the tenant leaves"
_TAG: Final = "callward/close/1"
_ROLE: Final = "compliance"


@dataclass(frozen=True)
class Left:
    """A decision that is in force."""

    left_on: date
    keep_floors: bool
    by: tuple[str, str]


def decide(settings: Settings, tenant: str, keep_floors: bool, person: str, key_file: Path) -> Left | None:
    """Take a person's word that the tenant leaves: the first one's is kept, the second one's puts it in force.

    None while one is missing. The same person's again changes nothing; another `keep_floors` is another proposal,
    which takes the place of one that waits.
    """
    with database.reading(settings) as connection:
        known = decided(connection).get(tenant)
        row = _row(connection, tenant, PROPOSED)
    if known is not None:
        return known
    if row is None or _facts(row)["keep_floors"] != keep_floors:
        _propose(settings, tenant, keep_floors, person, key_file)
        return None
    approvers.approve(settings, KIND, row.digest, person, key_file)
    if person != row.proposed_by:
        _put_in_force(settings, row, person)
    with database.reading(settings) as connection:
        return decided(connection).get(tenant)


def _propose(settings: Settings, tenant: str, keep_floors: bool, person: str, key_file: Path) -> None:
    at = database.now().replace(microsecond=0)
    text = json.dumps({"keep_floors": keep_floors, "proposed_at": at.isoformat()}, sort_keys=True)
    digest = _digest(tenant, text)
    approvers.approve(settings, KIND, digest, person, key_file)
    with database.writing(settings) as connection:
        connection.execute(policies.delete().where(policies.c.tenant == tenant, policies.c.state == PROPOSED))
        newest = select(func.max(policies.c.version)).where(policies.c.tenant == tenant)
        connection.execute(
            insert(policies).values(
                tenant=tenant,
                version=(connection.execute(newest).scalar() or 0) + 1,
                name=NAME,
                text=text,
                digest=digest,
                state=PROPOSED,
                proposed_by=person,
                proposed_at=at,
            )
        )
        audit.append(connection, [_entry("tenant-close-propose", tenant, digest, person)])


def _put_in_force(settings: Settings, row: Row[Any], person: str) -> None:
    same = (policies.c.tenant == row.tenant) & (policies.c.version == row.version) & (policies.c.state == PROPOSED)
    with database.writing(settings) as connection:
        if {row.proposed_by, person} - approvers.approved_by(connection, KIND, row.digest):
            raise Problem(f"the closing of {row.tenant} lacks a valid signature; propose it again")
        values = {"state": DECIDED, "activated_by": person, "activated_at": database.now()}
        if connection.execute(update(policies).where(same).values(**values)).rowcount:
            audit.append(connection, [_entry("tenant-close", row.tenant, row.digest, person)])


def decided(connection: Connection) -> Mapping[str, Left]:
    """Return by tenant the decision in force; raises Problem for one that two persons did not sign."""
    rows = connection.execute(select(policies).where(policies.c.state == DECIDED)).all()
    return {row.tenant: _checked(connection, row) for row in rows}


def _checked(connection: Connection, row: Row[Any]) -> Left:
    signed = approvers.approved_by(connection, KIND, row.digest, at=row.activated_at)
    two = {row.proposed_by, row.activated_by}
    if row.digest != _digest(row.tenant, row.text) or len(two) != 2 or not two <= signed:
        raise Problem(f"the closing of {row.tenant} is not as two persons signed it: the register was altered")
    return Left(row.activated_at.date(), bool(_facts(row)["keep_floors"]), (row.proposed_by, row.activated_by))


def _row(connection: Connection, tenant: str, state: str) -> Row[Any] | None:
    return connection.execute(select(policies).where(policies.c.tenant == tenant, policies.c.state == state)).first()


def _facts(row: Row[Any]) -> dict[str, Any]:
    return dict(json.loads(row.text))


def _digest(tenant: str, text: str) -> str:
    return hashlib.sha256(json.dumps([_TAG, tenant, text]).encode()).hexdigest()


def _entry(event: str, tenant: str, digest: str, person: str) -> audit.Entry:
    return audit.Entry(_ROLE, event, f"{tenant} {digest}", f"by {person}")


def check_known(settings: Settings, tenant: str) -> None:
    """Raise UsageProblem for a tenant that the settings do not name, or whose sources still do."""
    if tenant not in settings.tenants:
        raise UsageProblem(f"no tenant of that name is in {settings.path.name}; name it there until it is closed")
    feeding = [source.name for source in settings.sources if tenant in source.all_tenants]
    if feeding:
        raise UsageProblem(f"take {', '.join(feeding)} out of {settings.path.name} first: they still bring its records")
