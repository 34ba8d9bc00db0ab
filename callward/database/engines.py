"""One engine per process and database: SQLite made safe, PostgreSQL's connections ours, errors as sentences."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError

from callward import extras
from callward.database import driver_errors, server
from callward.settings import Database, Settings
from schemas.tables import SCHEMAS

READS = "callward_read"  # the option of a connection that only reads


def engine(settings: Settings) -> Engine:
    """Return the process's engine for the settings' database (a forked process gets its own)."""
    return _engine(settings.path, settings.database, os.getpid())


def describe(settings: Settings) -> str:
    """Return the database for messages: its file, or its name and the server's, without user and password."""
    return str(settings.database_file or settings.database.server)


@lru_cache(maxsize=8)
def _engine(path: Path, database: Database, _pid: int) -> Engine:
    settings = Settings(path=path, database=database)
    if settings.database_file is not None:
        url = URL.create("sqlite", database=str(settings.database_file))
        opened = create_engine(
            url,
            connect_args={"timeout": database.patience_seconds},
            execution_options={"schema_translate_map": dict.fromkeys(SCHEMAS)},  # a file has no schemas
        )
        event.listen(opened, "connect", _prepare_sqlite)
        event.listen(opened, "begin", _begin_immediate)
    else:
        extras.require("pg8000")
        # The pool would print the traceback of a connection that broke; whoever uses it gets a sentence.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        opened = create_engine("postgresql+pg8000://", creator=lambda: server.connect(settings))
        event.listen(opened, "checkout", _try)
    where = describe(settings)
    event.listen(opened, "handle_error", lambda context: _translated(context, where))
    return opened


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions by itself, so that BEGIN IMMEDIATE below is the only way in.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get(READS) else "BEGIN IMMEDIATE")


def _try(connection: Any, _record: object, _proxy: object) -> None:
    """Have a pooled connection that broke, as at a restart of the server, replaced by a new one."""
    try:
        connection.cursor().execute(";")
    except Exception:
        raise DisconnectionError from None


def _translated(context: ExceptionContext, where: str) -> BaseException | None:
    """Return what takes the place of a driver's error; None for what is none."""
    error = context.original_exception
    if context.sqlalchemy_exception is None and not isinstance(error, OSError):
        return None
    context.is_disconnect = context.is_disconnect or driver_errors.is_disconnect(error)
    return driver_errors.problem(error, where)


@contextmanager
def cleared(settings: Settings) -> Iterator[Any]:
    """Yield a connection of the driver with no transaction, for what runs in none; its errors are sentences."""
    opened = engine(settings)
    raw = opened.raw_connection()
    try:
        raw.rollback()  # the pool's test of the connection has begun a transaction
        yield raw
    except opened.dialect.loaded_dbapi.Error as error:
        raise driver_errors.problem(error, describe(settings)) from None
    finally:
        raw.close()
