"""The ways into the database: to read, to commit one at a time, to append to the audit log."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, text

from callward.database.engines import READS, describe, engine
from callward.database.schema import refuse_newer
from callward.errors import Problem
from callward.settings import Settings

_IN: Final = 1000
_COMMITS, AUDIT_LOCK = 7_201_964, 7_201_965  # any constants: PostgreSQL's advisory locks
_HALF_SEEN: Final = text("""
    SELECT has_table_privilege('public.runs', 'INSERT') AND row_security_active('public.lake_files')
""")
Value = TypeVar("Value")


class DatabaseMissing(Problem):
    """The file of SQLite is not there."""

    code = "database"

    def __init__(self, file: Path) -> None:
        hint = "restore it (docs/keys.md, Restore a database), or fix database.url"
        super().__init__(f"there is no database {file}", hint=hint)


def now() -> datetime:
    """Return the time in UTC, naive as the database stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """Open a consistent snapshot to read from; never waits for a writer."""
    _check(settings)
    with engine(settings).connect().execution_options(**{READS: True}) as connection, connection.begin():
        if is_server(connection):
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection


@contextmanager
def writing(settings: Settings) -> Iterator[Connection]:
    """Write, one at a time (SQLite BEGIN IMMEDIATE, PostgreSQL advisory lock): commits compare and set under it."""
    _check(settings)
    with engine(settings).begin() as connection:
        lock_commits(connection)
        yield connection


@contextmanager
def appending(settings: Settings) -> Iterator[Connection]:
    """Write what depends on no commit: entries of the audit log. On PostgreSQL no commit is waited for."""
    _check(settings)
    with engine(settings).begin() as connection:
        yield connection


def lock_commits(connection: Connection) -> None:
    """Wait until no other transaction commits; SQLite's has waited already."""
    _lock(connection, _COMMITS)


def lock_audit(connection: Connection) -> None:
    """Wait until no other transaction appends to the audit log; to be taken after the lock of commits."""
    _lock(connection, AUDIT_LOCK)


def _lock(connection: Connection, key: int) -> None:
    if is_server(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def is_server(connection: Connection) -> bool:
    """Return whether the database is on a PostgreSQL server; a file of SQLite is not."""
    return connection.dialect.name == "postgresql"


def _check(settings: Settings) -> None:
    """Raise Problem for a lost file (SQLite would make an empty one, and hide the loss), and for a newer database."""
    file = settings.database_file
    if file is not None and not file.exists():
        raise DatabaseMissing(file)
    _check_once(engine(settings), describe(settings))


@lru_cache(maxsize=8)
def _check_once(opened: Engine, where: str) -> None:
    with opened.connect().execution_options(**{READS: True}) as connection:
        if refuse_newer(connection, where) is not None and is_server(connection):
            _refuse_half_seen(connection, where)


def _refuse_half_seen(connection: Connection, where: str) -> None:
    """Raise Problem for a user who writes registers and does not own them: the server shows it a role's rows alone.

    A service would take what it does not see for what is not there.
    """
    if connection.execute(_HALF_SEEN).scalar():
        raise Problem(
            f"database {where}: the user of database.url may write the registers but does not own them, and would see "
            "some of their rows only",
            hint="services: let that user own the database (docs/storage.md); persons: callward grant (docs/access.md)",
        )


def batches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield values in lists short enough for an IN (...): databases limit how many parameters a statement has."""
    left = iter(values)
    while batch := list(itertools.islice(left, _IN)):
        yield batch
