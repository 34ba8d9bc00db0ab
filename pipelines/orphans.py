"""Orphans: data files that a run wrote and no commit named. Only runs that are over leave any."""

import os
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select

from callward import database, runs
from callward.crash import point
from callward.settings import Settings
from schemas.tables import lake_files
from schemas.tables import runs as runs_table


def sweep_orphans(settings: Settings, over: Collection[str] | None = None) -> int:
    """Remove what dead or failed runs (or those given) left in the lake; returns how many files."""
    with database.reading(settings) as connection:
        living = runs.living(connection)
        ended = set(connection.execute(select(runs_table.c.run_id).where(runs_table.c.status != "done")).scalars()) - living
        known = set(connection.execute(select(lake_files.c.file_id).where(lake_files.c.run_id.in_(ended | set(over or ())))).scalars())
    gone = set(over) if over is not None else ended
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
    return removed
