"""Persons who approve: each an Ed25519 key that the custodian registered, an approval its signature over a digest.

An approval says nothing about what else its person may do: a person's key opens no data. Names are for good: a person
who was revoked stays in the register, and neither the name nor the key is given out again.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, or_, select, update

from callward import audit, database, identity
from callward.errors import Problem, UsageProblem
from callward.keys import signing
from callward.keys.keys import KeyDenied
from callward.keys.signing import PUBLIC_BYTES, SigningKey
from callward.redaction import looks_like_number
from callward.settings import Settings
from schemas.retention import approvals, approvers

_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_PUBLIC: Final = re.compile(rf"[0-9a-f]{{{2 * PUBLIC_BYTES}}}")
_KIND: Final = re.compile(r"[a-z][a-z-]{0,15}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def register(settings: Settings, name: str, public_hex: str) -> None:
    """Register a person's public key, signed with the custodian's key. The same again changes nothing.

    Raises UsageProblem for a name or key of another form, Problem when either is taken, KeyProblem when the
    custodian's key cannot be used.
    """
    check_name(name)
    public_hex = public_hex.strip().lower()
    if not _PUBLIC.fullmatch(public_hex):
        raise UsageProblem(f"a person's public key is written in {2 * PUBLIC_BYTES} hex digits")
    signature = signing.sign(settings, "custodian", _registration(name, public_hex))
    with database.writing(settings) as connection:
        if not _is_new(connection, name, public_hex):
            return
        connection.execute(
            insert(approvers).values(
                name=name,
                public_key=public_hex,
                registered_at=database.now(),
                registered_by=identity.who(),
                signature=signature.hex(),
            )
        )
        audit.append(connection, [_entry("approver-add", f"{name} {public_hex[:16]}", "registered")])


def _is_new(connection: Connection, name: str, public_hex: str) -> bool:
    """Return whether a person is new; false for the very same person once more.

    Raises Problem where the name or the key is someone's already.
    """
    rows = connection.execute(
        select(approvers).where(or_(approvers.c.name == name, approvers.c.public_key == public_hex))
    ).all()
    for row in rows:
        if (row.name, row.public_key, row.revoked_at) != (name, public_hex, None):
            raise Problem(
                f"{row.name} is in the register already, "
                + ("revoked" if row.revoked_at else "with another key" if row.name == name else "with this very key")
                + "; names and keys are given out once"
            )
    return not rows


def revoke(settings: Settings, name: str) -> None:
    """End a person's right to approve, from now on; needs the custodian's key. Raises UsageProblem for a stranger."""
    signing.sign(settings, "custodian", b"callward/revoke/1|" + name.encode())
    with database.writing(settings) as connection:
        row = _person(connection, name)
        if row.revoked_at is None:
            connection.execute(update(approvers).where(approvers.c.name == name).values(revoked_at=database.now()))
            audit.append(connection, [_entry("approver-revoke", name, "revoked")])


def approve(settings: Settings, kind: str, digest: str, person: str, key_file: Path) -> None:
    """Record a person's signature over what has this SHA-256. The same again changes nothing.

    `kind` says what is approved (policy, purge, hold, close ...), `digest` is 64 hex digits. Raises UsageProblem for
    a person who is not registered, KeyDenied when the key file is not that person's or the person was revoked.
    """
    message = _approval(kind, digest)
    key = SigningKey(key_file)
    with database.writing(settings) as connection:
        row = _person(connection, person)
        _check_person(connection, row)
        if key.public.hex() != row.public_key:
            raise KeyDenied(f"the signing key file {key_file} is not the one that is registered for {person}")
        given = select(approvals.c.person).where(_about(kind, digest), approvals.c.person == person)
        if connection.execute(given).first() is not None:
            return
        connection.execute(
            insert(approvals).values(
                kind=kind, digest=digest, person=person, signature=key.sign(message).hex(), at=database.now()
            )
        )
        audit.append(connection, [_entry("approve", f"{kind} {digest}", f"by {person}", role="approver")])


def approved_by(connection: Connection, kind: str, digest: str, at: datetime | None = None) -> set[str]:
    """Return names of those whose valid approval is there: registered by the custodian, and not revoked.

    With `at` as it stood then: approvals given by that time, of persons who were not revoked by that time. So what two
    people decided stays decided when one of them leaves.
    """
    custodian = signing.registered(connection, "custodian")
    rows = connection.execute(
        select(approvals.c.signature.label("approval"), approvals.c.at, approvers)
        .join(approvers, approvers.c.name == approvals.c.person)
        .where(_about(kind, digest))
    )
    message = _approval(kind, digest)
    return {
        row.name
        for row in rows
        if _counts(row, at)
        and _is_registered(row, custodian)
        and signing.verify(_bytes(row.public_key), _bytes(row.approval), message)
    }


def _counts(row: Row[Any], at: datetime | None) -> bool:
    if at is None:
        return row.revoked_at is None
    return bool(row.at <= at and (row.revoked_at is None or row.revoked_at > at))


@dataclass(frozen=True, kw_only=True)
class Approver:
    """A person who may approve, or might once; `valid`: not revoked, and the custodian's signature holds."""

    name: str
    public_key: str  # hex
    registered_at: datetime
    registered_by: str
    revoked_at: datetime | None
    valid: bool


def list_approvers(settings: Settings) -> list[Approver]:
    """Return every person who was ever registered, by name."""
    with database.reading(settings) as connection:
        custodian = signing.registered(connection, "custodian")
        rows = connection.execute(select(approvers).order_by(approvers.c.name)).all()
    return [
        Approver(
            name=row.name,
            public_key=row.public_key,
            registered_at=row.registered_at,
            registered_by=row.registered_by,
            revoked_at=row.revoked_at,
            valid=row.revoked_at is None and _is_registered(row, custodian),
        )
        for row in rows
    ]


def _person(connection: Connection, name: str) -> Row[Any]:
    row = connection.execute(select(approvers).where(approvers.c.name == name)).first()
    if row is None:
        raise UsageProblem(
            f"no person is called {name!r}; the custodian registers one with 'callward keys approver add'"
        )
    return row


def _check_person(connection: Connection, row: Row[Any]) -> None:
    if row.revoked_at is not None:
        raise KeyDenied(f"{row.name} was revoked, and approves nothing any more")
    if not _is_registered(row, signing.registered(connection, "custodian")):
        raise KeyDenied(f"{row.name} was not registered by the custodian: the signature of the entry does not hold")


def _is_registered(row: Row[Any], custodian: bytes | None) -> bool:
    message = _registration(row.name, row.public_key)
    return custodian is not None and signing.verify(custodian, _bytes(row.signature), message)


def _bytes(text: str) -> bytes:
    """Return bytes that a register holds in hex; nothing, which no signature is, where it was spoilt."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def check_name(name: str) -> None:
    """Raise UsageProblem for what is no person's name, such as a telephone number."""
    if not _NAME.fullmatch(name) or looks_like_number(name):
        raise UsageProblem(
            "a person's name is written in lower-case letters, digits, dots and dashes, such as first.person"
        )


def _registration(name: str, public_hex: str) -> bytes:
    return f"callward/person/1|{name}|{public_hex}".encode()


def _approval(kind: str, digest: str) -> bytes:
    if not _KIND.fullmatch(kind) or not _DIGEST.fullmatch(digest):
        raise UsageProblem("what is approved is a kind (lower-case letters) and a SHA-256 in 64 hex digits")
    return f"callward/approve/1|{kind}|{digest}".encode()


def _about(kind: str, digest: str) -> Any:
    return (approvals.c.kind == kind) & (approvals.c.digest == digest)


def _entry(event: str, subject: str, reason: str, role: str = "custodian") -> audit.Entry:
    return audit.Entry(role, event, subject, reason)
