"""The id of a workspace: it stands in the settings, the database, the lake and every export of the key register.

A register that is empty, or another workspace's, would take old records in again and know no hold. So whoever commits
compares the ids first, and nothing makes an empty register beside a lake or exports that are there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, insert, inspect, select

from callward import database, runs
from callward.errors import Problem
from callward.keys import exports
from callward.settings import Settings
from callward.storage.store import MARK, TRANSIT, Store
from schemas.tables import lake_files, workspace

_FORM: Final = "callward-workspace/1 "


class WorkspaceProblem(Problem):
    """Settings, database, lake and exports are not of one workspace."""

    code = "workspace"


@dataclass(frozen=True)
class Ids:
    """The workspace's id as each place has it; None where a place has none."""

    settings: str | None
    database: str | None
    lake: str | None
    exports: str | None

    @property
    def elsewhere(self) -> dict[str, str]:
        """Return the ids of all places but the database, by the place."""
        named = {"the lake": self.lake, "the newest register export": self.exports, "workspace_id": self.settings}
        return {place: found for place, found in named.items() if found is not None}


def check(settings: Settings) -> str:
    """Return the workspace's id, the same in all places.

    Raises Problem where the database is empty, at another version or another workspace's, or where the lake is not
    there or another's.
    """
    database.check_version(settings)
    with database.reading(settings) as connection:
        ids = _ids(settings, _registered(connection))
        if ids.database is None:
            raise _empty(settings, ids)
        _compare(settings, ids)
        if ids.lake is None:
            _require_lake(settings, connection)
    return ids.database


def claim(settings: Settings, *, lost: bool = False) -> None:
    """Give an id to a new workspace, in database and lake; for one that has it, compare it in all places.

    Raises WorkspaceProblem for an empty database beside a lake or exports, unless it is said that the database is
    `lost` for good: then it takes over their id.
    """
    with database.writing(settings) as connection:
        ids = _ids(settings, _registered(connection))
        if ids.database is None:
            if not lost and _is_beside_data(settings, ids):
                raise _empty(settings, ids)
            known = next(iter(ids.elsewhere.values()), None) or runs.new_id()
            ids = Ids(ids.settings, known, ids.lake, ids.exports)
            connection.execute(insert(workspace).values(workspace_id=known, created_at=database.now()))
        _compare(settings, ids)
        if ids.lake is None:
            _require_lake(settings, connection)
            Store.of(settings).write(MARK, f"{_FORM}{ids.database}\n".encode())


def check_before_upgrade(settings: Settings) -> None:
    """Raise WorkspaceProblem where an upgrade would make an empty register beside a lake or exports."""
    if _found(settings, database.reading) is None:
        ids = _ids(settings, None)
        # Asked once more behind whoever commits: another upgrade may have made both just now.
        if _is_beside_data(settings, ids) and _found(settings, database.writing) is None:
            raise _empty(settings, ids)


def _found(settings: Settings, opened: Callable[[Settings], AbstractContextManager[Connection]]) -> str | None:
    """Return the id in the database; None where it has none, or is a file that is not there."""
    if settings.database_file is not None and not settings.database_file.exists():
        return None
    with opened(settings) as connection:
        return _registered(connection)


def _registered(connection: Connection) -> str | None:
    if not inspect(connection).has_table(workspace.name):
        return None
    found: str | None = connection.execute(select(workspace.c.workspace_id)).scalar()
    return found


def _ids(settings: Settings, in_database: str | None) -> Ids:
    return Ids(settings.workspace_id, in_database, _of_lake(settings), exports.newest_workspace_id(settings))


def _of_lake(settings: Settings) -> str | None:
    try:
        text = Store.of(settings).read(MARK).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if not text.startswith(_FORM):
        raise WorkspaceProblem(f"{Store.of(settings).named(MARK)} says no workspace's id", hint="restore that file")
    return text.removeprefix(_FORM)


def _compare(settings: Settings, ids: Ids) -> None:
    for place, found in ids.elsewhere.items():
        if found != ids.database:
            raise WorkspaceProblem(
                f"database {database.describe(settings)} is of the workspace {ids.database}, and {place} of {found}",
                hint="fix database.url, lake.uri or workspace_id in the settings",
            )


def _empty(settings: Settings, ids: Ids) -> WorkspaceProblem:
    places = [place for place in ids.elsewhere if place != "workspace_id"]
    if places or _is_used(settings):
        beside = " and ".join(places) or "the lake"
        return WorkspaceProblem(
            f"database {database.describe(settings)} is empty, and beside it is data of a workspace ({beside})",
            hint="restore the database (docs/keys.md, Restore a database), or fix database.url",
        )
    hint = f"callward init --upgrade {settings.folder}"
    return WorkspaceProblem(f"database {database.describe(settings)} belongs to no workspace yet", hint=hint)


def _is_beside_data(settings: Settings, ids: Ids) -> bool:
    return ids.lake is not None or ids.exports is not None or _is_used(settings)


def _is_used(settings: Settings) -> bool:
    """Return whether anything lies in the lake that outlives the run that wrote it."""
    return any(not file.path.startswith(f"{TRANSIT}/") for file in Store.of(settings).list())


def _require_lake(settings: Settings, connection: Connection) -> None:
    """Raise WorkspaceProblem for a lake without a mark that lacks files which the register names."""
    current = select(func.count()).select_from(lake_files).where(lake_files.c.superseded_at.is_(None))
    if connection.execute(current).scalar() and not _is_used(settings):
        raise WorkspaceProblem(
            f"the lake {Store.of(settings).describe()} is empty, and the register names files in it",
            hint="mount it, or fix lake.uri",
        )
