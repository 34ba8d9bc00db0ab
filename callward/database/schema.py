"""Which version the tables of a database are at, and which one this callward knows."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from callward.errors import Problem

MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"


def newest() -> str:
    """Return the version that this callward makes."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def version(connection: Connection) -> str | None:
    """Return the version of a database's tables; None where it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def refuse_newer(connection: Connection, where: str) -> str | None:
    """Return the version of a database's tables. Raises Problem where a newer callward has made them."""
    there = version(connection)
    if there is not None and there > newest():
        raise Problem(
            f"database {where} was made or upgraded by a newer callward (its tables are at {there}, this one knows "
            f"{newest()})",
            hint="install that version here, too",
        )
    return there
