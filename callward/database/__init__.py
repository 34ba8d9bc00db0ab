"""The database: registers and derived tables, in a file of SQLite or on a PostgreSQL server, with one behaviour.

Both hand over the same types, order text by its characters, wait equally long for another commit, and fail with one
sentence (DatabaseAway) that quotes no statement, no value and no driver.
"""

from callward.database.driver_errors import DatabaseAway
from callward.database.engines import cleared, describe, engine
from callward.database.migrate import check_version, upgrade
from callward.database.transactions import (
    AUDIT_LOCK,
    DatabaseMissing,
    appending,
    batches,
    is_server,
    lock_audit,
    now,
    reading,
    writing,
)

__all__ = [
    "AUDIT_LOCK",
    "DatabaseAway",
    "DatabaseMissing",
    "appending",
    "batches",
    "check_version",
    "cleared",
    "describe",
    "engine",
    "is_server",
    "lock_audit",
    "now",
    "reading",
    "upgrade",
    "writing",
]
