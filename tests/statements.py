"""Statements of SQLite compiled once in a process: each workspace of the tests is a database with an engine of its own.

An engine remembers what it has compiled, and a tiny night has seventy statements.
"""

from typing import Any

from sqlalchemy import Engine, create_engine

from callward.database import engines

_MAKE = engines.create_engine
_FIRST = create_engine("sqlite://")


def share_statements() -> None:
    """Let the engines of this process that open files share a dialect, and so what it has compiled."""
    _FIRST.connect().close()  # the dialect looks at what it speaks to
    engines.create_engine = _sharing


def _sharing(url: Any, **options: Any) -> Engine:
    made: Engine = _MAKE(url, **options)
    if made.dialect.name == _FIRST.dialect.name:
        made.dialect = made.pool._dialect = _FIRST.dialect
        made._compiled_cache = _FIRST._compiled_cache
    return made
