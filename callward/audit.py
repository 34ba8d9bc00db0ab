"""The audit log: who opened which key, in which role, when and why; each entry's hash covers the one before.

`hash = SHA-256(tag | seq | prev | body)` over canonical JSON. An edit or a deletion in the middle breaks the chain;
a cut tail does not, so every run keeps the head that it saw in the runs table and prints it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from callward import database
from callward.errors import Problem
from callward.identity import who
from callward.redaction import mask
from callward.settings import Settings
from schemas.tables import audit_log, runs

_TAG = "callward/audit/1"
GENESIS = "0" * 64
_KEY_ID = re.compile(r"^[0-9a-f]{32} ")


@dataclass(frozen=True)
class Entry:
    """One thing to record. `subject` names a key or a record by opaque id; what looks like a number is masked."""

    role: str
    event: str
    subject: str
    reason: str


@dataclass(frozen=True)
class LoggedEntry:
    """An entry of the log as it stands there, with its place in the chain of hashes (hex)."""

    seq: int
    at: datetime
    who: str
    role: str
    event: str
    subject: str
    reason: str
    prev: str
    hash: str

    @property
    def subject_name(self) -> str:
        """The subject, a key by its name alone."""
        return _KEY_ID.sub("", self.subject)


def _hash(seq: int, prev: str, body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(f"{_TAG}|{seq}|{prev}|{text}".encode()).hexdigest()


def head(connection: Connection) -> tuple[int, str]:
    """Return sequence number and hash of the last entry; (0, zeros) for an empty log."""
    row = connection.execute(
        select(audit_log.c.seq, audit_log.c.hash).order_by(audit_log.c.seq.desc()).limit(1)
    ).first()
    return (row.seq, row.hash) if row else (0, GENESIS)


def append(connection: Connection, entries: Sequence[Entry]) -> str:
    """Append within a transaction that writes, and return the new head; others wait to append until it ends."""
    database.lock_audit(connection)
    seq, prev = head(connection)
    at, rows = database.now().replace(microsecond=0), []
    for entry in entries:
        seq += 1
        said = {name: mask(text) for name, text in asdict(entry).items()}
        body = {"at": at.isoformat(), "who": who(), **said}
        digest = _hash(seq, prev, body)
        rows.append({"seq": seq, "prev": prev, "hash": digest, **body, "at": at})
        prev = digest
    if rows:
        connection.execute(insert(audit_log), rows)
    return prev


def record(settings: Settings, entries: Iterable[Entry]) -> None:
    """Append in a transaction of its own, which waits for no commit on PostgreSQL."""
    listed = list(entries)
    if listed:
        with database.appending(settings) as connection:
            append(connection, listed)


def verify(connection: Connection) -> int:
    """Check the whole chain and return its length; raises Problem at the first entry that does not hold."""
    seq, prev = 0, GENESIS
    for row in connection.execute(select(audit_log).order_by(audit_log.c.seq)):
        seq += 1
        body = {
            "at": row.at.isoformat(),
            "who": row.who,
            **{k: getattr(row, k) for k in ("role", "event", "subject", "reason")},
        }
        if row.seq != seq or row.prev != prev or row.hash != _hash(seq, prev, body):
            raise Problem(f"the audit log is broken at entry {seq}: it was edited, or an entry is missing")
        prev = row.hash
    return seq


def checked(settings: Settings) -> tuple[int, str]:
    """Return length and head of the log, after the whole chain and every head that a run has seen were found in it.

    Raises Problem where an entry was edited or is missing, and where entries were cut off the end.
    """
    with database.reading(settings) as connection:
        length = verify(connection)
        kept = runs.c.audit_head
        lost = connection.execute(
            select(runs.c.run_id)
            .where(kept.is_not(None), kept != GENESIS, kept.not_in(select(audit_log.c.hash)))
            .order_by(runs.c.started_at)
        ).scalar()
        if lost is not None:
            raise Problem(
                f"the audit log is broken: the head that run {lost} saw is not in it, so entries were cut off its end"
            )
        return length, head(connection)[1]


def newest(settings: Settings, limit: int) -> list[LoggedEntry]:
    """Return the newest entries, the oldest of them first."""
    with database.reading(settings) as connection:
        rows = connection.execute(select(audit_log).order_by(audit_log.c.seq.desc()).limit(limit)).all()
    return [LoggedEntry(**row._mapping) for row in reversed(rows)]
