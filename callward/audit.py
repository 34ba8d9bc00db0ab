"""The audit log: who opened which key, in which role, when and why; each entry's hash covers the one before.

`hash = SHA-256(tag | seq | prev | body)` over canonical JSON. An edit or a deletion in the middle breaks the chain;
a cut tail does not, so every run keeps the head that it saw in the runs table and prints it.

Who owns the database adds rows to the table. A database user that was given a role (access/grants.py) has no right to
it, and appends through a function of the server for that role: place in the chain, time and login are the server's.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from callward import database
from callward.errors import Problem
from callward.identity import who
from callward.redaction import mask
from callward.settings import Settings
from schemas.tables import audit_log, runs

_TAG = "callward/audit/1"
GENESIS = "0" * 64
_SAID_BY_SIZE = 180  # characters: a login of the server (63 at most) fits behind it
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
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(f"{_TAG}|{seq}|{prev}|{text}".encode()).hexdigest()


def head(connection: Connection) -> tuple[int, str]:
    """Return sequence number and hash of the last entry; (0, zeros) for an empty log."""
    row = connection.execute(
        select(audit_log.c.seq, audit_log.c.hash).order_by(audit_log.c.seq.desc()).limit(1)
    ).first()
    return (row.seq, row.hash) if row else (0, GENESIS)


def append(connection: Connection, entries: Sequence[Entry]) -> str:
    """Append within a transaction that writes, and return the new head; others wait to append until it ends.

    The head is "" where a granted user appends nothing: it may not read the log.
    """
    if not _may_insert(connection):
        return _append_by_function(connection, entries)
    database.lock_audit(connection)
    seq, prev = head(connection)
    at, rows = database.now().replace(microsecond=0), []
    for entry in entries:
        seq += 1
        body = {"at": at.isoformat(), "who": who(), **_masked(entry)}
        digest = _hash(seq, prev, body)
        rows.append({"seq": seq, "prev": prev, "hash": digest, **body, "at": at})
        prev = digest
    if rows:
        connection.execute(insert(audit_log), rows)
    return prev


def _masked(entry: Entry) -> dict[str, str]:
    return {name: mask(text) for name, text in asdict(entry).items()}


def _may_insert(connection: Connection) -> bool:
    """Return whether this user adds rows itself."""
    if not database.is_server(connection):
        return True
    return bool(connection.execute(select(func.has_table_privilege(audit_log.name, "INSERT"))).scalar())


def _append_by_function(connection: Connection, entries: Sequence[Entry]) -> str:
    head_hash = ""
    for entry in entries:
        said = _masked(entry)
        append_as = getattr(func, function_of(said["role"]))
        call = append_as(who(), said["event"], said["subject"], said["reason"])
        head_hash = connection.execute(select(call)).scalar_one()
    return head_hash


def function_of(role: str) -> str:
    """Return the name of the function by which users who were given a role append to the log on PostgreSQL."""
    return f"audit_as_{role}"


def function_statement(role: str, events: Sequence[str]) -> str:
    """Return the statement that makes a role's function: `append` in the server, for these events alone.

    It computes the hash as `_hash` does. The login that the server knows is added to the user whom the client names.
    """
    allowed = ", ".join(f"'{event}'" for event in events)
    return f"""
        CREATE OR REPLACE FUNCTION public.{function_of(role)}(said_by text, event text, subject text, reason text)
        RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
        DECLARE
            moment timestamp := date_trunc('second', clock_timestamp() AT TIME ZONE 'UTC');
            who text := left(said_by, {_SAID_BY_SIZE}) || ', login ' || session_user;
            seq bigint;
            prev text;
            body text;
            hash text;
        BEGIN
            IF event IS NULL OR event NOT IN ({allowed}) OR who IS NULL OR subject IS NULL OR reason IS NULL THEN
                RAISE insufficient_privilege;
            END IF;
            PERFORM pg_advisory_xact_lock({database.AUDIT_LOCK});
            SELECT last.seq, last.hash INTO seq, prev FROM public.audit_log AS last ORDER BY last.seq DESC LIMIT 1;
            seq := coalesce(seq, 0) + 1;
            prev := coalesce(prev, '{GENESIS}');
            body := '{{"at":"' || to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS') || '","event":' || to_json(event)
                || ',"reason":' || to_json(reason) || ',"role":"{role}","subject":' || to_json(subject)
                || ',"who":' || to_json(who) || '}}';
            hash := encode(sha256(convert_to('{_TAG}|' || seq || '|' || prev || '|' || body, 'UTF8')), 'hex');
            INSERT INTO public.audit_log (seq, at, who, role, event, subject, reason, prev, hash)
            VALUES (seq, moment, who, '{role}', event, subject, reason, prev, hash);
            RETURN hash;
        END
        $function$"""


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
