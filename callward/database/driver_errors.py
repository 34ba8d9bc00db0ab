"""What a driver's error comes to: one sentence and the next step, chosen by the error's code alone.

A driver's own words are never shown: they quote statements, rows and passwords.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from callward.errors import Problem


class DatabaseAway(Problem):
    """The database refused or could not be reached: it may answer the next time."""

    code = "database"


_AGAIN: Final = "run the command again"
_LOCKED: Final = "it is locked: another process has been writing for longer than database.patience_seconds"
_START: Final = "start the server, or wait until it has started, and run the command again"
_REPORT: Final = "please report it"
_GRANT: Final = "services: let the user of database.url own the database; persons: callward grant (docs/access.md)"
# By SQLSTATE: a whole code, else its class (the first two characters).
_POSTGRESQL: Final[Mapping[str, tuple[str, str]]] = {
    "08": ("the connection to the server was lost", _AGAIN),
    "22001": ("a text is longer than its column takes", "shorten what was given"),
    "22": ("the server does not take a value", _REPORT),
    "23": ("a row contradicts another one", _REPORT),
    "25006": ("the server is a standby, or takes no changes", "name the primary server in database.url"),
    "28": ("the server refuses the user or the password", "check the user in database.url, and database.password"),
    "3D000": ("the server has no database of that name", "make it (docs/storage.md, Database), or fix database.url"),
    "3F": ("the schema public is missing", "make it again, or restore the database"),
    "40": ("another transaction came in between", _AGAIN),
    "42501": ("the user may not do that", _GRANT),
    "42P01": ("a table is missing", "callward init --upgrade; where tables were there before, restore the database"),
    "42703": ("a column is missing", "callward init --upgrade"),
    "42": ("the server does not take a statement", _REPORT),
    "53100": ("No space left on device, says the server", "make room there, and run the command again"),
    "53300": ("the server has no connection left", "raise its max_connections, or wait"),
    "53": ("the server is short of memory or files", "look at its log"),
    "55P03": (_LOCKED, _AGAIN),
    "57014": ("the server cancelled a statement", _AGAIN),
    "57": ("the server is stopping or starting", _START),
    "58": ("the server cannot read or write its files", "look at its log"),
    "XX": ("the server found its own files damaged, or failed", "look at its log, and restore the database"),
}
# By the name of SQLite's error, up to where the kinds of one error part.
_SQLITE: Final[Mapping[str, tuple[str, str]]] = {
    "SQLITE_BUSY": (_LOCKED, _AGAIN),
    "SQLITE_LOCKED": (_LOCKED, _AGAIN),
    "SQLITE_FULL": ("database or disk is full", "make room, and run the command again"),
    "SQLITE_READONLY": ("the file or its folder cannot be written", "let its owner write them"),
    "SQLITE_CANTOPEN": ("the file cannot be opened", "look at the owner and the mode of it and of its folder"),
    "SQLITE_PERM": ("the file may not be opened", "look at the owner and the mode of it and of its folder"),
    "SQLITE_AUTH": ("the file may not be opened", "look at the owner and the mode of it and of its folder"),
    "SQLITE_IOERR": ("the file cannot be read or written", "look at its disk"),
    "SQLITE_NOTADB": ("the file is no database", "restore it, or fix database.url"),
    "SQLITE_CORRUPT": ("the file is damaged", "restore the database (docs/keys.md, Restore a database)"),
    "SQLITE_CONSTRAINT": ("a row contradicts another one", _REPORT),
    "SQLITE_TOOBIG": ("a text is longer than SQLite takes", "shorten what was given"),
}
_LOST: Final = ("the connection to the server was lost", _AGAIN)
_DISCONNECTED: Final = ("08", "57P")


def problem(error: BaseException, where: str) -> DatabaseAway:
    """Return what an error of a driver, or of the network below it, comes to; `where` names the database."""
    sentence, hint = _said(error)
    return DatabaseAway(f"database {where}: {sentence}", hint=hint)


def is_disconnect(error: BaseException) -> bool:
    """Return whether the connection that an error came up on is of no more use."""
    if isinstance(error, OSError):
        return True
    state = _sqlstate(error)
    return state.startswith(_DISCONNECTED) if state else not isinstance(error, sqlite3.Error)


def _said(error: BaseException) -> tuple[str, str]:
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    state = _sqlstate(error)
    if not state:
        return _LOST  # what pg8000 says without a code is about the connection
    said = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    return said or (f"the server answers with the error {state}", _REPORT)


def _of_sqlite(error: sqlite3.Error) -> tuple[str, str]:
    name = getattr(error, "sqlite_errorname", None)
    if name is None:
        return "SQLite does not take a statement or a value", _REPORT
    said = next((said for start, said in _SQLITE.items() if name.startswith(start)), None)
    if said is None and name == "SQLITE_ERROR" and "no such table" in str(error):
        return _POSTGRESQL["42P01"]
    if said is None and name == "SQLITE_ERROR" and "no such column" in str(error):
        return _POSTGRESQL["42703"]
    return said or (f"SQLite answers with the error {name}", _REPORT)


def _sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a server's answer as pg8000 raises it; "" for anything else."""
    answer: Any = error.args[0] if error.args else None
    return str(answer.get("C", "")) if isinstance(answer, dict) else ""
