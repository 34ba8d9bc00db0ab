"""Making the tables, and bringing them to this version."""

import itertools
from typing import Final

from sqlalchemy import Connection, bindparam, func, inspect, select, text
from sqlalchemy.schema import CreateSchema

from callward.database.engines import describe, engine
from callward.database.schema import MIGRATIONS, newest, refuse_newer, version
from callward.database.transactions import is_server, lock_commits, reading
from callward.errors import Problem
from callward.settings import Settings
from schemas.tables import SCHEMAS

_IN_A_LANGUAGE: Final = text("""
    SELECT n.nspname AS schema_name, c.relname AS table_name, a.attname AS column_name,
           format_type(a.atttypid, a.atttypmod) AS type
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_collation o ON o.oid = a.attcollation CROSS JOIN pg_database d
    WHERE d.datname = current_database() AND NOT (d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8'))
      AND n.nspname IN :schemas AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND o.collname <> 'C'
    ORDER BY n.nspname, c.relname, a.attnum
""").bindparams(bindparam("schemas", ("public", *SCHEMAS), expanding=True))


def upgrade(settings: Settings) -> None:
    """Create the tables, or bring them to this version's, one process at a time.

    Raises Problem where a newer callward has made them, and where the user may make no schemas.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine(settings).begin() as connection:
        lock_commits(connection)
        refuse_newer(connection, describe(settings))
        config.attributes["connection"] = connection
        if is_server(connection):
            _make_schemas(connection, describe(settings))
        command.upgrade(config, "head")
        if is_server(connection):
            _order_by_characters(connection)


def _make_schemas(connection: Connection, where: str) -> None:
    """Make the schemas that are not there. Raises Problem where the user may make none."""
    missing = [schema for schema in SCHEMAS if not inspect(connection).has_schema(schema)]
    may_create = func.has_database_privilege(func.current_database(), "CREATE")
    if missing and not connection.execute(select(may_create)).scalar():
        raise Problem(
            f"database {where}: the user of database.url may make no schemas there ({', '.join(missing)})",
            hint="let that user own the database (docs/storage.md, Database), or GRANT CREATE ON DATABASE to it",
        )
    for schema in missing:
        connection.execute(CreateSchema(schema))


def _order_by_characters(connection: Connection) -> None:
    """Give text columns that have none a collation as SQLite's: a language's orders otherwise, and changes with it."""
    rows = connection.execute(_IN_A_LANGUAGE)
    for (schema, table), columns in itertools.groupby(rows, lambda row: (row.schema_name, row.table_name)):
        changes = ", ".join(f'ALTER COLUMN "{row.column_name}" TYPE {row.type} COLLATE "C"' for row in columns)
        connection.execute(text(f'ALTER TABLE "{schema}"."{table}" {changes}'))


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
