"""Making the tables, and bringing them to this version."""

from callward.database.engines import describe, engine
from callward.database.schema import MIGRATIONS, newest, refuse_newer, version
from callward.database.transactions import lock_commits, reading
from callward.errors import Problem
from callward.settings import Settings


def upgrade(settings: Settings) -> None:
    """Create the tables, or bring them to this version's, one process at a time.

    Raises Problem where a newer callward has made them.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine(settings).begin() as connection:
        lock_commits(connection)
        refuse_newer(connection, describe(settings))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_version(settings: Settings) -> None:
    """Raise Problem when the database is not at this version's schema."""
    with reading(settings) as connection:
        there = version(connection)
    if there is None:
        raise Problem(f"database {describe(settings)} has no callward tables", hint=_upgrade(settings))
    if there != newest():
        raise Problem(f"the database's tables are at {there}, this callward needs {newest()}", hint=_upgrade(settings))


def _upgrade(settings: Settings) -> str:
    return f"callward init --upgrade {settings.folder}"
