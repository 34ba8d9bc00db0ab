"""The register of holds: sealed bodies, each the one that the audit log has the digest of, or nobody may rely on it."""

import hashlib
import json
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from callward import audit, database
from callward.errors import Problem
from callward.keys import approvers, exports
from callward.keys.register import EVERY_MONTH, KeyName, Keyring
from callward.keys.seal import Sealer
from callward.retention.holds.order import SERVICE, Hold
from callward.settings import Settings
from schemas import retention
from schemas.retention_classes import Window
from schemas.tables import audit_log

FORMAT_VERSION: Final = 1

PLACE, RENEW, RELEASE = "hold-place", "hold-renew", "hold-release"
# One key for all tenants: one of its own would tell, in the register of keys, whose data is held.
_REGISTER: Final = KeyName("hold", "_all", EVERY_MONTH, "register")
_PAD: Final = 1024  # bodies are filled up to a multiple, so that their length does not tell how much they select


class HoldUnreadable(Problem):
    """Nobody can say what is held: nothing may be purged."""


def opened(settings: Settings, role: str = SERVICE, today: date | None = None) -> list[Hold]:
    """Return the holds that keep rows `today` (by default now): open ones, and released ones within their tail.

    FAILS CLOSED: raises Problem where the root or a body does not open, a body is not the one in the audit log, or
    register and log do not know the same holds.
    """
    day = today or database.now().date()
    return [hold for _, hold in read(settings, role) if hold.blocks(day)]


def any_open(connection: Connection) -> bool:
    """Return whether a hold may keep rows now, opening none; true as well where register and audit log disagree."""
    table = retention.holds
    blocking = or_(table.c.released_at.is_(None), table.c.released_at > database.now())
    if connection.execute(select(table.c.hold_id).where(blocking).limit(1)).first() is not None:
        return True
    placed = select(func.count()).where(audit_log.c.event == PLACE)
    there = select(func.count()).select_from(table)
    return connection.execute(placed).scalar() != connection.execute(there).scalar()


def fingerprint(connection: Connection) -> str:
    """Return a digest of all holds as they stand (SHA-256, hex): another one after each change."""
    table = retention.holds
    rows = connection.execute(select(table.c.hold_id, table.c.version, table.c.digest).order_by(table.c.hold_id))
    return hashlib.sha256("\n".join(f"{r.hold_id} {r.version} {r.digest}" for r in rows).encode()).hexdigest()


# -- reading -----------------------------------------------------------------------------------------------------------


def read(settings: Settings, role: str) -> list[tuple[Row[Any], Hold]]:
    """Return every hold ever placed, the oldest first; raises HoldUnreadable unless all are there and whole."""
    try:
        sealer = sealer_of(settings, role)
        with database.reading(settings) as connection:
            audit.verify(connection)
            table = retention.holds
            rows = connection.execute(select(table).order_by(table.c.placed_at, table.c.hold_id)).all()
            logged = _logged(connection)
        if logged.keys() - {row.hold_id for row in rows}:
            raise Problem("a hold that was placed is not in it")
        return [(row, _opened(sealer, row, logged.get(row.hold_id, []))) for row in rows]
    except Problem as problem:
        raise HoldUnreadable(f"the hold register cannot be relied on, so nothing is purged: {problem}") from None


def _logged(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    """Return (event, digest) of each change in the audit log, in its order, by hold."""
    entries = connection.execute(
        select(audit_log.c.event, audit_log.c.subject)
        .where(audit_log.c.event.in_((PLACE, RENEW, RELEASE)))
        .order_by(audit_log.c.seq)
    )
    changes: dict[str, list[tuple[str, str]]] = {}
    for event, subject in entries:
        hold_id, _, digest = subject.partition(" ")
        changes.setdefault(hold_id, []).append((event, digest))
    return changes


def _opened(sealer: Sealer, row: Row[Any], logged: list[tuple[str, str]]) -> Hold:
    """Return a row's hold. The problems name no hold: whoever reads them may not be one to know of it."""
    if not logged:
        raise Problem("it has a hold that the audit log does not know")
    event, digest = logged[-1]
    if not hashlib.sha256(row.body).hexdigest() == row.digest == digest:
        raise Problem("a hold in it is not as the audit log says that it was left")
    body = sealer.open(row.body, _aad(row.hold_id, row.version))
    try:
        hold = _unpacked(body)
    except (ValueError, KeyError, TypeError):
        raise Problem("a hold in it is of a form that this release does not know") from None
    beside = (hold.hold_id, hold.placed_at, hold.free_at, "released" if event == RELEASE else "open")
    if beside != (row.hold_id, row.placed_at, row.released_at, row.state):
        raise Problem("what stands beside a hold's sealed body is not what the body says")
    return hold


def sealer_of(settings: Settings, role: str) -> Sealer:
    """Return a sealer with a keyring of its own: a root that was taken away since must not be open still."""
    return Keyring(settings, role, "hold register").sealer(_REGISTER)


# -- writing -----------------------------------------------------------------------------------------------------------


def add(settings: Settings, hold: Hold) -> Hold:
    """Write a new hold and return it with its time of placing; export the registers, so that a restore knows of it.

    The time is taken where no other writer can commit any more: a purge that commits later has seen the hold, and one
    that committed before and did not see it is older than the hold.
    """
    exports.check(settings)
    sealer = sealer_of(settings, SERVICE)
    with database.writing(settings) as connection:
        placed = replace(hold, placed_at=database.now().replace(microsecond=0))
        row = row_of(sealer, placed, 1)
        connection.execute(insert(retention.holds).values(**row))
        audit.append(connection, [_entry(PLACE, row)])
    exports.write(settings, "registers changed")
    return placed


def change(settings: Settings, row: Row[Any], hold: Hold, event: str, person: str = "") -> None:
    """Write a hold's next version; a release only while the person's approval stands.

    Raises Problem where that approval is not valid, and where somebody else has changed the hold meanwhile.
    """
    exports.check(settings)
    table, changed = retention.holds, row_of(sealer_of(settings, SERVICE), hold, row.version + 1)
    with database.writing(settings) as connection:
        if person and person not in approvers.approved_by(connection, "hold", row.digest):
            raise Problem(f"the approval of {person} is not valid: nothing was released")
        same = (table.c.hold_id == row.hold_id) & (table.c.version == row.version) & (table.c.digest == row.digest)
        if connection.execute(update(table).where(same).values(**changed)).rowcount != 1:
            raise Problem("somebody else has just changed that hold: look again")
        audit.append(connection, [_entry(event, changed, f"approved by {person}" if person else "")])
    exports.write(settings, "registers changed")


def _entry(event: str, row: dict[str, Any], reason: str = "") -> audit.Entry:
    """Always the service's role: legal's own would tell in the audit log which holds are confidential."""
    return audit.Entry(SERVICE, event, f"{row['hold_id']} {row['digest']}", reason or "hold register")


def row_of(sealer: Sealer, hold: Hold, version: int) -> dict[str, Any]:
    body = sealer.seal(_packed(hold), _aad(hold.hold_id, version))
    return {
        "hold_id": hold.hold_id,
        "state": "open" if hold.released_on is None else "released",
        "placed_at": hold.placed_at,
        "released_at": hold.free_at,
        "body": body,
        "digest": hashlib.sha256(body).hexdigest(),
        "version": version,
    }


def _aad(hold_id: str, version: int) -> bytes:
    return f"callward/hold/{FORMAT_VERSION}|{hold_id}|{version}".encode()


def _packed(hold: Hold) -> bytes:
    values = {f.name: getattr(hold, f.name) for f in fields(hold)}
    values["tail"] = str(hold.tail) if hold.tail else None
    body = json.dumps({"format_version": FORMAT_VERSION, **values}, default=lambda value: value.isoformat()).encode()
    return body.ljust(-(-len(body) // _PAD) * _PAD)


def _unpacked(body: bytes) -> Hold:
    values = json.loads(body)
    del values["format_version"]
    for name in ("first", "last", "expires_on", "confidential_until", "released_on"):
        values[name] = date.fromisoformat(values[name]) if values[name] else None
    for name in ("accounts", "numbers", "trunks"):
        values[name] = tuple(values[name])
    values["placed_at"] = datetime.fromisoformat(values["placed_at"])
    values["tail"] = Window.parse(values["tail"]) if values["tail"] else None
    return Hold(**values)
