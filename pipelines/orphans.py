"""Orphans: data files that a run wrote and no commit named. Only runs that are over leave any."""

import os
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Connection, select, update

from callward import database, runs
from callward.crash import point
from callward.settings import Settings
from schemas.tables import lake_files
from schemas.tables import runs as runs_table


def sweep_orphans(settings: Settings, over: Collection[str] | None = None) -> int:
    """Remove what dead or failed runs (or those given) left in the lake; returns how many files. Each run once."""
    with database.reading(settings) as connection:
        gone = set(over) if over is not None else _ended(connection)
        named = select(lake_files.c.file_id).where(lake_files.c.run_id.in_(gone))
        known = set(connection.execute(named).scalars()) if gone else set()
    if not gone or not settings.lake_path.is_dir():
        return 0
    removed = 0
    for folder, _, names in os.walk(settings.lake_path):
        for name in names:
            file_id = name.lstrip(".").split(".", 1)[0]
            if file_id.split("-", 1)[0] in gone and file_id not in known:
                Path(folder, name).unlink(missing_ok=True)
                removed += 1
                point("orphan-removed")
    if over is None:
        with database.writing(settings) as connection:
            connection.execute(update(runs_table).where(runs_table.c.run_id.in_(gone)).values(swept_at=database.now()))
    return removed


def _ended(connection: Connection) -> set[str]:
    """Runs that did not end well, are not alive, and have not been swept."""
    query = select(runs_table.c.run_id).where(runs_table.c.status != "done", runs_table.c.swept_at.is_(None))
    return set(connection.execute(query).scalars()) - runs.living(connection)
