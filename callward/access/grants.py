"""Rights of database users on a PostgreSQL server: what a role reads and writes (roles.py), given to a login.

Whoever owns the database gives them. A user has what its roles need and nothing else: a grant takes away all that the
user had of this database's tables, and gives it anew, in one transaction. That a user has a role is noted where the
server enforces it: it may call the role's function to append to the audit log. Which rows of a table a role sees is a
policy of the table (row-level security). SQLite has no users, so there is nothing to give.
"""

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, text

from callward import audit, database
from callward.access.roles import ROLES, Access, Role
from callward.errors import UsageProblem
from callward.redaction import mask
from callward.settings import Settings
from schemas.tables import SCHEMAS

_PUBLIC: Final = "public"
_SCHEMAS: Final[BindParameter[Any]] = bindparam("schemas", (_PUBLIC, *SCHEMAS), expanding=True)
_FUNCTIONS: Final = {audit.function_of(role): role for role in ROLES}
_CUSTODIAN: Final = "custodian"

_USER: Final = text("""
    SELECT pg_has_role(oid, current_user, 'MEMBER') AS is_owner FROM pg_roles WHERE rolname = :user
""")
_GRANTED: Final = text("""
    SELECT p.proname, r.rolname FROM pg_proc p CROSS JOIN aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN :functions AND r.oid <> p.proowner
    ORDER BY r.rolname, p.proname
""").bindparams(bindparam("functions", tuple(_FUNCTIONS), expanding=True))
# Also what a user has by a group that it may change to, and what members of a group have.
_HAS: Final = text("""
    SELECT p.proname FROM pg_proc p JOIN pg_roles r
      ON pg_has_role(:user, r.oid, 'MEMBER') OR (pg_has_role(r.oid, :user, 'MEMBER') AND NOT r.rolsuper)
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN :functions
      AND NOT pg_has_role(r.oid, p.proowner, 'MEMBER') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
""").bindparams(bindparam("functions", tuple(_FUNCTIONS), expanding=True))
_TABLES: Final = text("""
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN :schemas AND c.relkind IN ('r', 'S', 'v') AND pg_has_role(c.relowner, 'USAGE') ORDER BY 1
""").bindparams(_SCHEMAS)
_POLICIES: Final = text("""
    SELECT format('DROP POLICY %I ON %I.%I', policyname, schemaname, tablename) FROM pg_policies
    WHERE schemaname IN :schemas
""").bindparams(_SCHEMAS)
_READERS: Final = text("""
    SELECT DISTINCT u.rolname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_roles r ON has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_any_column_privilege(r.oid, c.oid, 'SELECT')
    JOIN pg_roles u ON pg_has_role(u.oid, r.oid, 'MEMBER') AND NOT pg_has_role(u.oid, c.relowner, 'MEMBER')
    WHERE n.nspname IN :schemas AND c.relkind IN ('r', 'v', 'm') AND NOT starts_with(u.rolname, 'pg_')
    ORDER BY u.rolname, n.nspname
""").bindparams(bindparam("schemas", tuple(role.view for role in ROLES.values() if role.view), expanding=True))


def grant(settings: Settings, role: str, user: str, *, dry_run: bool = False) -> list[Access]:
    """Give a database user all that a role needs, and return it. The same again changes nothing.

    Raises UsageProblem for SQLite, for a role or a user that is not there, for a user whom no grant limits, and for one
    who has the role of another view.
    """
    _check_server(settings)
    _check_role(role)
    with database.writing(settings) as connection:
        _check_user(connection, user)
        _check_one_view(connection, role, user)
        if not dry_run:
            _give_exactly(connection, user, {role, *roles_of(connection, user)})
            audit.append(connection, [audit.Entry(_CUSTODIAN, "grant", f"{role} to {user}", "rights in the database")])
    return ROLES[role].access()


def revoke(settings: Settings, role: str, user: str, *, dry_run: bool = False) -> list[Access]:
    """Take away from a database user what a role needs and no other of its roles does; return what the role needs.

    Raises UsageProblem as `grant` does, and for a user who does not have the role.
    """
    _check_server(settings)
    _check_role(role)
    with database.writing(settings) as connection:
        _check_user(connection, user)
        left = roles_of(connection, user)
        if role not in left:
            raise UsageProblem(f"the database user {mask(user)} does not have the role {role}")
        if not dry_run:
            _give_exactly(connection, user, left - {role})
            entry = audit.Entry(_CUSTODIAN, "revoke", f"{role} from {user}", "rights in the database")
            audit.append(connection, [entry])
    return ROLES[role].access()


def prepare(settings: Settings) -> None:
    """Take the rights of PUBLIC away, make what grants rest on, and give each user anew what this version's roles need.

    On SQLite nothing.
    """
    if settings.database_file is not None:
        return
    with database.writing(settings) as connection:
        _run(connection, _taken("PUBLIC", connection))
        for role, needs in ROLES.items():
            _run(connection, _function(role, needs))
        _run(connection, _protected(connection))
        for user, roles in granted(connection).items():
            _give_exactly(connection, user, roles)


def granted(connection: Connection) -> dict[str, set[str]]:
    """Return the roles of each database user who was given one."""
    roles: dict[str, set[str]] = defaultdict(set)
    for function, user in connection.execute(_GRANTED):
        roles[user].add(_FUNCTIONS[function])
    return roles


def roles_of(connection: Connection, user: str) -> set[str]:
    """Return the roles that a database user was given."""
    return granted(connection).get(user, set())


def readers_of_views(connection: Connection) -> dict[str, list[str]]:
    """Return the views whose derived tables each database user can read, by grants of any kind, its groups' too.

    Owners of the tables and superusers are not listed: nothing limits them.
    """
    views: dict[str, list[str]] = defaultdict(list)
    for user, view in connection.execute(_READERS):
        views[user].append(view)
    return views


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_server(settings: Settings) -> None:
    if settings.database_file is not None:
        raise UsageProblem(
            f"database {database.describe(settings)} is a file of SQLite, which has no users: whoever may read "
            "the file reads every table in it, and its owner and mode alone decide who does",
            hint="for users with rights of their own, PostgreSQL (docs/storage.md, Database)",
        )


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise UsageProblem(
            f"no role that is granted is called {mask(role)!r} (those that are: {', '.join(ROLES)}; services use the "
            "user who owns the database)"
        )


def _check_user(connection: Connection, user: str) -> None:
    row = connection.execute(_USER, {"user": user}).first()
    if row is None:
        raise UsageProblem(
            f"the server has no database user {mask(user)!r}", hint="its administrator makes one: CREATE ROLE ... LOGIN"
        )
    if row.is_owner:
        raise UsageProblem(f"the database user {mask(user)} owns the tables or is a superuser: no grant limits it")


def _check_one_view(connection: Connection, role: str, user: str) -> None:
    view = ROLES[role].view
    has = (_FUNCTIONS[name] for name in connection.execute(_HAS, {"user": user}).scalars())
    other = next((name for name in sorted(has) if view and ROLES[name].view not in (None, view)), None)
    if other is not None:
        raise UsageProblem(
            f"the database user {mask(user)}, or a group of it, has the role {other}: no user reads both views",
            hint=f"give {role} to another user, or first: callward grant {other} {shlex.quote(mask(user))} --revoke",
        )


# -- statements --------------------------------------------------------------------------------------------------------


def _run(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def _give_exactly(connection: Connection, user: str, roles: Collection[str]) -> None:
    """Take away all that a user has of the database, and give what the roles need."""
    name = _quoted(connection, user)
    _run(connection, _taken(name, connection))
    if roles:
        _run(connection, (f"GRANT CONNECT ON DATABASE {_database(connection)} TO {name}",))
    for role in sorted(roles):
        _run(connection, (f"GRANT EXECUTE ON FUNCTION {_signature(role)} TO {name}",))
        for access in ROLES[role].access():
            _run(connection, _given(access, name))


def _taken(name: str, connection: Connection) -> Iterator[str]:
    """Yield what takes all rights from a user, or from PUBLIC; those on columns go with those on their table."""
    yield f"REVOKE ALL ON DATABASE {_database(connection)} FROM {name}"
    yield f"REVOKE ALL ON SCHEMA {', '.join((_PUBLIC, *SCHEMAS))} FROM {name}"
    yield f"REVOKE ALL ON {', '.join(connection.execute(_TABLES).scalars())} FROM {name}"
    for role in _made(connection):
        yield f"REVOKE ALL ON FUNCTION {_signature(role)} FROM {name}"


def _made(connection: Connection) -> list[str]:
    """Return the roles whose functions are there."""
    there = connection.execute(
        text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    ).scalars()
    return sorted(_FUNCTIONS[name] for name in set(there) & _FUNCTIONS.keys())


def _given(access: Access, name: str) -> Iterator[str]:
    rights = "SELECT, INSERT, UPDATE, DELETE" if access.writes else "SELECT"
    columns = ", ".join(f'"{column}"' for column in access.columns)
    yield f"GRANT USAGE ON SCHEMA {access.schema} TO {name}"
    yield f"GRANT {rights}{f' ({columns})' if columns else ''} ON {access.name} TO {name}"


def _function(role: str, needs: Role) -> Iterator[str]:
    yield audit.function_statement(role, needs.events)
    yield f"REVOKE ALL ON FUNCTION {_signature(role)} FROM PUBLIC"


def _protected(connection: Connection) -> Iterator[str]:
    """Yield what makes a policy for each role of a table of which some role sees some rows only.

    The server then shows no row of it to anybody else but its owner.
    """
    yield from connection.execute(_POLICIES).scalars().all()
    every = [(role, access) for role, needs in ROLES.items() for access in needs.access()]
    tables = sorted({access.name for _, access in every if access.rows})
    for table in tables:
        yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    for role, access in every:
        if access.name in tables:
            action, rows = ("ALL" if access.writes else "SELECT"), access.rows or "true"
            # A query of its own is answered once, and not again for each row.
            has_role = f"(SELECT has_function_privilege('{_signature(role)}', 'EXECUTE'))"
            yield f"CREATE POLICY {role} ON {access.name} FOR {action} USING ({has_role} AND {rows})"


def _signature(role: str) -> str:
    return f"{_PUBLIC}.{audit.function_of(role)}(text, text, text, text)"


def _database(connection: Connection) -> str:
    return _quoted(connection, str(connection.execute(text("SELECT current_database()")).scalar()))


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)
