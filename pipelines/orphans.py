"""Orphans: data files that a run wrote and no commit named. Only runs that are over leave any."""

from collections.abc import Collection

from sqlalchemy import Connection, select, update

from callward import database, runs
from callward.crash import point
from callward.settings import Settings
from callward.store import Store
from schemas.tables import lake_files
from schemas.tables import runs as runs_table


def sweep_orphans(settings: Settings, over: Collection[str] | None = None) -> int:
    """Remove what dead or failed runs (or those given) left in the lake; returns how many files. Each run once."""
    with database.reading(settings) as connection:
        gone = set(over) if over is not None else _ended(connection)
        named = select(lake_files.c.file_id).where(lake_files.c.run_id.in_(gone))
        known = set(connection.execute(named).scalars()) if gone else set()
    if not gone:
        return 0
    store, removed = Store.of(settings), 0
    orphans = (file.path for file in store.list() if _is_orphan(_file_id(file.path), gone, known))
    for some in store.removing(orphans):
        removed += len(some)
        point("orphan-removed")
    if over is None:
        with database.writing(settings) as connection:
            connection.execute(update(runs_table).where(runs_table.c.run_id.in_(gone)).values(swept_at=database.now()))
    return removed


def _file_id(path: str) -> str:
    """The data file that a file of the lake is, or lies beside, or was to become."""
    return path.rpartition("/")[2].lstrip(".").split(".", 1)[0]


def _is_orphan(file_id: str, gone: Collection[str], known: Collection[str]) -> bool:
    return file_id.split("-", 1)[0] in gone and file_id not in known


def _ended(connection: Connection) -> set[str]:
    """Runs that did not end well, are not alive, and have not been swept."""
    query = select(runs_table.c.run_id).where(runs_table.c.status != "done", runs_table.c.swept_at.is_(None))
    return set(connection.execute(query).scalars()) - runs.living(connection)
