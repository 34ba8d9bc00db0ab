"""The database: one engine per process and URL, SQLite made safe, and the schema's migrations."""

import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from callward import extras
from callward.errors import Problem
from callward.settings import Settings


class DatabaseAway(Problem):
    """The database refused or could not be reached: it may answer the next time."""

    code = "database"


_PATIENCE_S = 60.0  # how long a writer waits for another one on SQLite; ?timeout=SECONDS in the URL says otherwise
_IN = 1000
Value = TypeVar("Value")
_LOCK_KEY = 7_201_964  # any constant: PostgreSQL's advisory lock that serializes commits and the audit chain


def now() -> datetime:
    """Return the time in UTC, naive as the database stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def engine(settings: Settings) -> Engine:
    """Return the process's engine for the settings' database (a forked process gets its own)."""
    return _engine(settings.database_url, os.getpid())


@lru_cache(maxsize=8)
def _engine(url: str, _pid: int) -> Engine:
    if url.startswith("postgresql+pg8000:"):
        extras.require("pg8000")
    patience = {"timeout": _PATIENCE_S} if url.startswith("sqlite") and "timeout=" not in url else {}
    opened = create_engine(url, pool_pre_ping=True, connect_args=patience)
    if opened.dialect.name == "sqlite":
        event.listen(opened, "connect", _prepare_sqlite)
        event.listen(opened, "begin", _begin_immediate)
    return opened


def sqlite_file(settings: Settings) -> Path | None:
    """Return the database's file; None when it is a server's, or in memory."""
    prefix = "sqlite:///"
    name = settings.database_url.removeprefix(prefix).partition("?")[0]
    return Path(name) if settings.database_url.startswith(prefix) and name not in ("", ":memory:") else None


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions by itself, so that BEGIN IMMEDIATE below is the only way in.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql("BEGIN" if options.get("callward_read") else "BEGIN IMMEDIATE")


def _check_file(settings: Settings) -> None:
    """Raise Problem for a lost file: SQLite would make an empty one, and hide that the database is lost."""
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        raise Problem(
            f"there is no database {file}; restore it, or make a new one: callward init --upgrade {settings.folder}"
        )


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """Open a consistent snapshot to read from; never waits for a writer."""
    _check_file(settings)
    with _friendly(settings), engine(settings).connect().execution_options(callward_read=True) as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(settings: Settings) -> Iterator[Connection]:
    """Write, one at a time (SQLite BEGIN IMMEDIATE, PostgreSQL advisory lock): commits compare and set under it."""
    _check_file(settings)
    with _friendly(settings), engine(settings).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        yield connection


@contextmanager
def _friendly(settings: Settings) -> Iterator[None]:
    """Turn what the database says into one sentence without the statement's values."""
    try:
        yield
    except DBAPIError as error:
        where = settings.database_url.split("@")[-1]
        raise DatabaseAway(f"database {where}: {str(error.orig).splitlines()[0]}") from None


_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(settings: Settings) -> None:
    """Create the tables, or bring them to this version's."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with _friendly(settings), engine(settings).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_version(settings: Settings) -> None:
    """Raise Problem when the database is not at this version's schema."""
    head = max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    with reading(settings) as connection:
        versioned = inspect(connection).has_table("alembic_version")
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if versioned else None
    if version is None:
        raise Problem(
            f"database {settings.database_url.split('@')[-1]} has no callward tables; 'callward init' makes them"
        )
    if version != head:
        raise Problem(
            f"the database's schema is at {version}, this callward needs {head}; run 'callward init --upgrade'"
        )


def batches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Yield values in lists short enough for an IN (...): databases limit how many parameters a statement has."""
    left = iter(values)
    while batch := list(itertools.islice(left, _IN)):
        yield batch
