"""Rights in the database: each login has what its role needs and nothing else, whichever way it asks."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import bindparam, create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from callward import audit, database, initiate
from callward.access import cases, grants
from callward.access.cases import Case
from callward.access.roles import ROLES
from callward.errors import Problem, UsageProblem
from callward.initiate import root_file
from callward.runs import new_id
from callward.settings import KEY_DOMAINS, Settings
from callward.template import render
from pipelines.doctor.rights import rights
from pipelines.nightly import nightly
from pipelines.readiness.finding import OK, WARNING
from schemas.release import PUBLISHED, RESERVED, releases
from schemas.tables import SCHEMAS, leases
from schemas.views import PARTS, UNCHARGED
from tests import commands, retention
from tests.examples import tries
from tests.postgresql import on_loopback
from tests.typed import Ran, Run, typing

VIEWS = ("billing", "assurance")
OTHER = dict(zip(VIEWS, reversed(VIEWS), strict=True))
SUMS = {
    "billing": "SELECT sum(calls)::BIGINT AS n FROM billing_usage_daily",
    "assurance": "SELECT sum(attempts)::BIGINT AS n FROM trunk_kpi WHERE side = 'ingress'",
}
# Of support, of an account that no case is restricted for.
ONE_ACCOUNT = "SELECT sum(attempts)::BIGINT AS n FROM sla_account_daily"
CASE = ("--purpose", "complaint", "--case", "T-1")
ASKED = {"support": ONE_ACCOUNT, "compliance": "SELECT count(*) AS n FROM lake_files", "analytics": "SHOW TABLES"}
ANSWERS = {"billing": 5, "assurance": 6}  # calls that were answered; attempts of all
# All that a server knows of who may do what in a database.
ACLS = """
    SELECT 'd', datname, CAST(datacl AS text) FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'n', nspname, CAST(nspacl AS text) FROM pg_namespace
    UNION ALL SELECT 'r', CAST(oid::regclass AS text), CAST(relacl AS text) FROM pg_class WHERE relnamespace >= 2200
    UNION ALL SELECT 'a', attrelid::regclass || '.' || attname, CAST(attacl AS text) FROM pg_attribute
    UNION ALL SELECT 'p', CAST(oid::regprocedure AS text), CAST(proacl AS text) FROM pg_proc
    UNION ALL SELECT 'y', tablename || '.' || policyname, qual FROM pg_policies
"""
_ALLOWED = text("""
    SELECT n.nspname || '.' || c.relname, p.name, has_table_privilege(CAST(:login AS name), c.oid, p.name)
        OR (p.name IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege(CAST(:login AS name), c.oid, p.name))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (name)
    WHERE n.nspname IN :schemas AND c.relkind IN ('r', 'v', 'S')
""").bindparams(bindparam("schemas", ("public", *SCHEMAS), expanding=True))


@dataclass
class Office:
    """A workspace on PostgreSQL, whose database a login without any other right owns, and logins of its persons."""

    site: Any
    server: str  # URL of its administrator's database
    name: str
    logins: set[str] = field(default_factory=set)

    @property
    def settings(self) -> Settings:
        settings: Settings = self.site.settings
        return settings

    def login(self, role: str) -> str:
        """Return the name of a role's login; made where there is none yet, with no right."""
        name = f"{role}_{self.name}"
        if name not in self.logins:
            with _administrator(self.server) as connection:
                connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
            self.logins.add(name)
        return name

    def given(self, role: str) -> str:
        """Return a role's login, with the role."""
        login = self.login(role)
        grants.grant(self.settings, role, login)
        return login

    def url(self, login: str) -> str:
        return self.server.replace("//callward@", f"//{login}@").rpartition("/")[0] + f"/{self.name}"

    def asked(self, login: str, statement: str) -> list[Any]:
        """Return what the server answers a login that asks it without callward. Raises DBAPIError for a refusal."""
        with create_engine(self.url(login), poolclass=NullPool).begin() as connection:
            return list(connection.exec_driver_sql(statement))

    def rights(self) -> list[tuple[Any, ...]]:
        """Return all rights in the database, but not those of the server's other databases."""
        with database.reading(self.settings) as connection:
            rows = [tuple(row) for row in connection.execute(text(ACLS)) if row[2] is not None]
        return sorted((kind, on, _in_order(acl)) for kind, on, acl in rows)

    def person(self, folder: Path, role: str) -> Settings:
        """Return the settings of somebody who has a role's login and roots, and the same lake."""
        folder.mkdir(mode=0o700)
        roots = [domain for domain in ROLES[role].roots(with_numbers=True) if domain in KEY_DOMAINS]
        for domain in roots:
            shutil.copy2(root_file(self.settings, domain), folder / f"{domain}.root")
        mine = Settings(
            path=folder / "callward.toml",
            lake={"uri": f"file:{self.settings.lake_path}", "grace_minutes": 0.0},  # so each query holds a lease
            database=on_loopback(self.url(self.login(role))),
            keys={"roots": {domain: f"local:{domain}.root" for domain in roots}},
        )
        mine.path.write_text(render(mine))
        return mine


def _in_order(acl: str) -> str:
    return ",".join(sorted(acl.strip("{}").split(",")))


def _administrator(server: str) -> Any:
    return create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect()


def _office(server: str, workspace: Callable[..., Any], **changes: Any) -> Office:
    name = f"office_{new_id()}"
    with _administrator(server) as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
        connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {name}")
    office = Office(None, server, name)
    office.site = workspace("generic", database=on_loopback(office.url(name)), **changes)
    initiate.upgrade(office.site.settings)
    return office


@pytest.fixture(scope="module")
def office(server_url: str, workspace: Callable[..., Any]) -> Office:
    """One night, a person who is restricted, and a login with each role."""
    made = _office(server_url, workspace)
    retention.night(made.site)
    key = retention.person(made.site)
    about = f"--tenant default --account acct-0007 --regime gdpr --identity seen --person ada --key {key}"
    commands.run("request", "restrict", *about.split(), "--config", str(made.settings.path)).check_clean()
    for case_id, account in (("T-1", "unassigned"), ("T-2", "acct-0007"), ("T-3", "unassigned")):
        cases.open_case(made.settings, Case(case_id, "default", account, "complaint", "why"), unlisted=True)
    cases.close(made.settings, "T-3")
    for role in ROLES:
        made.given(role)
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with typing(capsys, monkeypatch) as typed:
        yield typed


def _sql(run: Run, person: Settings, role: str, sql: str, *more: str) -> Ran:
    return run("sql", "--role", role, *more, "--json", sql, "--config", person.path)


def _case(role: str) -> tuple[str, ...]:
    return CASE if role == "support" else ()


def _allowed(office: Office, login: str) -> dict[str, set[str]]:
    """Return what the server lets a login do with each table, whether or not it would see a row."""
    allowed = defaultdict[str, set[str]](set)
    with database.reading(office.settings) as connection:
        for name, right, may in connection.execute(_ALLOWED, {"login": login}):
            allowed[name] |= {right} if may else set()
    return allowed


# -- what a role reads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", VIEWS)
def test_a_role_answers_its_questions_and_cannot_read_the_other_view_whichever_way_it_asks(
    office: Office, tmp_path: Path, run: Run, role: str
) -> None:
    person, login, other = office.person(tmp_path / role, role), office.login(role), OTHER[role]
    restricted = 1
    assert _sql(run, person, role, SUMS[role]).json == [{"n": ANSWERS[role] - (restricted if role == "billing" else 0)}]
    assert _sql(run, person, role, f"SELECT count(*) AS n FROM {role}").json == [{"n": ANSWERS[role] - restricted}]
    assert {row[0] for row in office.asked(login, "SELECT view FROM lake_files")} == set(PARTS[role]) - {UNCHARGED}
    its_own = {domain for domain in (role, f"{role}-numbers") if domain in KEY_DOMAINS}
    assert {row[0] for row in office.asked(login, "SELECT domain FROM keys")} == its_own
    assert {row[0] for row in office.asked(login, "SELECT domain FROM roots")} == its_own
    for table in ROLES[other].tables:
        with pytest.raises(DBAPIError, match="permission denied"):
            office.asked(login, f"SELECT * FROM {table.schema}.{table.name}")
    assert _sql(run, person, other, SUMS[other]).code == 1  # its root does not open here, either
    assert run("doctor", "--config", person.path).code == 0


def test_billing_sees_numbers_for_a_case_by_its_login(office: Office, tmp_path: Path, run: Run) -> None:
    person, case = office.person(tmp_path / "p", "billing"), ("--purpose", "dispute", "--case", "c7")
    ran = _sql(run, person, "billing", "SELECT count(calling_number) AS n FROM billing", *case)
    assert ran.json == [{"n": ANSWERS["billing"] - 1}]


def test_support_sees_the_account_of_an_open_case_by_its_login_and_can_make_none(
    office: Office, tmp_path: Path, run: Run
) -> None:
    person, login = office.person(tmp_path / "p", "support"), office.login("support")
    assert _sql(run, person, "support", ONE_ACCOUNT, *CASE).json == [{"n": 5}]
    for case, why in (("T-2", "is restricted"), ("T-3", "no case T-3 is open")):
        refused = _sql(run, person, "support", ONE_ACCOUNT, "--purpose", "complaint", "--case", case)
        assert refused.code == 1 and why in refused.json["error"], case
    assert {row[0] for row in office.asked(login, "SELECT case_id FROM cases")} == {"T-1", "T-2"}
    assert {row[0] for row in office.asked(login, "SELECT domain FROM keys")} == {"sla"}
    for statement in ("UPDATE cases SET account = 'acct-0001'", "INSERT INTO cases SELECT * FROM cases"):
        with pytest.raises(DBAPIError, match="permission denied"):
            office.asked(login, statement)
    for view in VIEWS:
        with pytest.raises(UsageProblem, match="no user reads both views"):
            grants.grant(office.settings, view, login)


@pytest.mark.parametrize("role", ROLES)
def test_a_login_may_do_what_its_role_says_and_nothing_else(office: Office, role: str) -> None:
    needs = {access.name: access for access in ROLES[role].access()}
    for name, may in _allowed(office, office.login(role)).items():
        if name not in needs:
            assert may == set(), name
        else:
            assert may == ({"SELECT", "INSERT", "UPDATE", "DELETE"} if needs[name].writes else {"SELECT"}), name
    sealed = {"keys.blob", "input_files.name_sealed", "input_files.shape_sealed", "holds.body", "requests.body"}
    for column in sealed - ({"keys.blob"} if role in (*VIEWS, "compliance", "support") else set()):
        table, _, name = column.partition(".")
        with database.reading(office.settings) as connection:
            asked = func.has_column_privilege(office.login(role), table, name, "SELECT")
            assert not connection.execute(select(asked)).scalar(), column


def test_no_login_but_one_with_a_role_gets_into_the_database(office: Office) -> None:
    with pytest.raises(DBAPIError, match="permission denied for database"):
        office.asked(office.login("nobody"), "SELECT 1")


def test_a_reader_holds_a_lease_and_touches_no_lease_of_a_night(office: Office) -> None:
    night = {"name": "source/generic", "run_id": new_id(), "host": "h", "pid": 1, "process_start": "1"}
    with database.writing(office.settings) as connection:
        connection.execute(insert(leases).values(**night, expires_at=database.now()))
    login = office.login("billing")
    assert office.asked(login, "SELECT name FROM leases") == []
    assert office.asked(login, "DELETE FROM leases RETURNING 1") == []
    assert office.asked(login, "UPDATE leases SET pid = 2 RETURNING 1") == []
    with pytest.raises(DBAPIError, match="row-level security"):
        office.asked(login, "INSERT INTO leases SELECT 'source/other', 'r', 'h', 1, '1', now()")
    with database.writing(office.settings) as connection:
        assert connection.execute(leases.delete().where(leases.c.name == night["name"])).rowcount == 1


def test_analytics_sees_what_is_published_and_no_reservation(office: Office, tmp_path: Path, run: Run) -> None:
    assert "nothing has been released" in _sql(run, office.person(tmp_path / "a", "analytics"), "analytics", "x").err
    words = {c.name: "x" for c in releases.columns if not c.nullable}
    numbers = {"correction_no": 0, "attempt": 0, "rho": 0, "reserved_at": database.now()}
    days = {"period_start": database.now().date(), "period_end": database.now().date()}
    with database.writing(office.settings) as connection:
        for status in (PUBLISHED, RESERVED):
            row = words | numbers | days | {"release_id": status, "status": status, "name": status}
            connection.execute(insert(releases).values(**row))
    try:
        login = office.login("analytics")
        assert office.asked(login, "SELECT name, status FROM releases") == [(PUBLISHED, PUBLISHED)]
        with pytest.raises(DBAPIError, match="permission denied"):
            office.asked(login, "SELECT partition FROM releases")
    finally:
        with database.writing(office.settings) as connection:
            connection.execute(releases.delete())


def test_compliance_runs_the_commands_that_look_and_opens_no_key(office: Office, tmp_path: Path, run: Run) -> None:
    person = office.person(tmp_path / "compliance", "compliance")
    for line in (
        "audit verify",
        "audit list",
        "purge calendar",
        "purge certificates list",
        "policy list",
        "keys list",
        "keys approver list",
        "release list",
        "release budget",
        "doctor",
    ):
        ran = run(*line.split(), "--json", "--config", person.path)
        assert ran.code in (0, 3) and "may not do that" not in ran.out, (line, ran.out, ran.err)
    for table in ("retention_due", *(table.name for table in ROLES["compliance"].tables)):
        assert _sql(run, person, "compliance", f"SELECT count(*) AS n FROM {table}").code == 0, table


# -- the audit log -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_login_appends_to_the_log_and_can_neither_change_nor_read_it(
    office: Office, tmp_path: Path, run: Run, role: str
) -> None:
    before = audit.checked(office.settings)[0]
    _sql(run, office.person(tmp_path / role, role), role, ASKED.get(role, SUMS.get(role, "")), *_case(role))
    newest = audit.newest(office.settings, 1)[0]
    if role != "analytics":  # nothing was released, so nothing is asked
        assert audit.checked(office.settings)[0] > before and newest.role == role
        assert newest.who.endswith(f", login {office.login(role)}")
    changes = ["UPDATE audit_log SET reason = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
    changes += ["INSERT INTO audit_log SELECT * FROM audit_log", "DROP TABLE audit_log"]
    changes += ["ALTER TABLE audit_log DISABLE TRIGGER ALL", f"DROP FUNCTION {audit.function_of(role)}"]
    for statement in [*changes, *(["SELECT hash FROM audit_log"] if role != "compliance" else [])]:
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            office.asked(office.login(role), statement)
    assert audit.checked(office.settings)[0] >= before


@pytest.mark.parametrize(
    "call",
    [
        "audit_as_assurance('ada', 'sql', 'x', 'y')",
        "audit_as_compliance('ada', 'sql', 'x', 'y')",
        "audit_as_billing('ada', 'destroy', 'x', 'y')",
        "audit_as_billing('ada', NULL, 'x', 'y')",
        "audit_as_billing(NULL, 'sql', 'x', 'y')",
        "audit_as_billing('ada', 'sql', NULL, 'y')",
    ],
)
def test_a_login_appends_nothing_in_another_role_and_nothing_that_its_role_does_not_do(
    office: Office, call: str
) -> None:
    before = audit.checked(office.settings)
    with pytest.raises(DBAPIError, match=r"permission denied|insufficient_privilege"):
        office.asked(office.login("billing"), f"SELECT {call}")
    assert audit.checked(office.settings) == before


_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)


@pytest.fixture(scope="module")
def clerk(office: Office) -> tuple[str, Settings]:
    """The login of billing, and settings under which it asks."""
    login = office.login("billing")
    return login, _as(office, login)


@tries(20)
@given(said=_TEXT, subject=_TEXT, reason=_TEXT)
def test_whatever_a_login_appends_the_chain_holds(
    office: Office, clerk: tuple[str, Settings], said: str, subject: str, reason: str
) -> None:
    login, settings = clerk
    before = audit.newest(office.settings, 1)[0]
    with database.appending(settings) as connection:
        head = connection.execute(select(func.audit_as_billing(said, "sql", subject, reason))).scalar()
    newest = audit.newest(office.settings, 1)[0]
    assert (newest.seq, newest.hash, newest.prev) == (before.seq + 1, head, before.hash)
    assert (newest.who, newest.role) == (f"{said}, login {login}", "billing")
    with database.reading(office.settings) as connection:
        audit.verify(connection)


def _as(office: Office, login: str) -> Settings:
    return office.settings.model_copy(update={"database": on_loopback(office.url(login))})


# -- giving and taking -------------------------------------------------------------------------------------------------


def test_the_same_grant_again_and_an_upgrade_change_nothing_and_revoke_leaves_nothing(
    office: Office, run: Run, tmp_path: Path
) -> None:
    login, before = office.login("second"), office.rights()
    words = ("grant", "assurance", login, "--config", office.settings.path)
    assert run(*words, "--dry-run").code == 0 and office.rights() == before
    given = run(*words, "--json").json
    once = office.rights()
    assert once != before
    assert given["user"] == login and not given["revoked"]
    assert {"on": "assurance.assurance_trunk_hourly", "may": "read", "columns": "", "rows": ""} in given["rights"]
    assert run(*words, "--json").json == given and office.rights() == once
    initiate.upgrade(office.settings)
    assert office.rights() == once
    assert audit.newest(office.settings, 1)[0].event == "grant"
    assert run(*words, "--revoke").code == 0
    assert office.rights() == before
    with pytest.raises(DBAPIError, match="permission denied for database"):
        office.asked(login, "SELECT 1")
    assert run(*words, "--revoke").code == 2


def test_a_role_that_is_taken_away_leaves_another_whole(office: Office) -> None:
    login, nothing = office.login("third"), office.rights()
    grants.grant(office.settings, "billing", login)
    billing = office.rights()
    grants.grant(office.settings, "analytics", login)
    grants.revoke(office.settings, "analytics", login)
    assert office.rights() == billing
    grants.revoke(office.settings, "billing", login)
    assert office.rights() == nothing


def test_a_grant_takes_away_what_was_given_by_hand(office: Office) -> None:
    login = office.login("fourth")
    grants.grant(office.settings, "billing", login)
    exact = office.rights()
    with database.appending(office.settings) as connection:
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA assurance TO {login}")
        connection.exec_driver_sql(f"GRANT SELECT ON assurance.assurance_trunk_hourly, audit_log TO {login}")
        connection.exec_driver_sql(f"GRANT UPDATE (reason) ON audit_log TO {login}")
    (warning,) = rights(office.settings)
    assert warning.state == WARNING and f"{login} (assurance, billing)" in warning.seen
    grants.grant(office.settings, "billing", login)
    assert office.rights() == exact
    assert [finding.state for finding in rights(office.settings)] == [OK]
    grants.revoke(office.settings, "billing", login)


@pytest.mark.parametrize("inherits", ["INHERIT", "NOINHERIT"])  # without, it changes to the group (SET ROLE)
def test_no_user_gets_both_views_not_even_by_a_group(office: Office, inherits: str) -> None:
    login, group = office.login(f"of_{inherits}".lower()), office.login("group")
    _run(office, f"ALTER ROLE {login} {inherits}", f"GRANT {group} TO {login}")
    for first, other in ((group, login), (login, group)):
        grants.grant(office.settings, "billing", first)
        with pytest.raises(UsageProblem, match="has the role billing: no user reads both views"):
            grants.grant(office.settings, "assurance", other)
        grants.revoke(office.settings, "billing", first)
    _run(office, f"REVOKE {group} FROM {login}")
    grants.grant(office.settings, "billing", group)
    grants.grant(office.settings, "assurance", login)
    assert [finding.state for finding in rights(office.settings)] == [OK]
    _run(office, f"GRANT {group} TO {login}")
    (warning,) = rights(office.settings)
    assert warning.state == WARNING and f"{login} (assurance, billing)" in warning.seen and warning.fix
    for role, user in (("billing", group), ("assurance", login)):
        grants.revoke(office.settings, role, user)
    _run(office, f"REVOKE {group} FROM {login}")


def _run(office: Office, *statements: str) -> None:
    with _administrator(office.server) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    ("role", "user", "sentence"),
    [
        ("ops", "{billing}", "no role that is granted is called 'ops'"),
        ("billing", "gone_7195550178", "the server has no database user 'gone_*"),
        ("billing", "public", "the server has no database user 'public'"),
        ("billing", "{owner}", "owns the tables or is a superuser"),
        ("billing", "callward", "owns the tables or is a superuser"),
        ("assurance", "{billing}", "or a group of it, has the role billing: no user reads both views"),
    ],
)
def test_what_cannot_be_granted_is_one_sentence(office: Office, run: Run, role: str, user: str, sentence: str) -> None:
    before = office.rights()
    named = user.format(billing=office.login("billing"), owner=office.name)
    for more in ((), ("--dry-run",)):
        ran = run("grant", role, named, *more, "--config", office.settings.path)
        assert ran.code == 2 and "7195550178" not in ran.err
        assert sentence.rstrip("*") in ran.err.replace("\n", " ")
    assert office.rights() == before


def test_whoever_does_not_own_the_database_grants_nothing(office: Office) -> None:
    before = office.rights()
    with pytest.raises(Problem, match="the user may not do that"):
        grants.grant(_as(office, office.login("billing")), "billing", office.login("sixth"))
    assert office.rights() == before


def test_a_service_whose_login_does_not_own_the_registers_is_refused(office: Office) -> None:
    """Its administrator gave it all rights; the server would show it no row of those that roles share."""
    login, before = office.login("service"), office.rights()
    everywhere = ", ".join(("public", *SCHEMAS))
    with database.appending(office.settings) as connection:
        connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {office.name} TO {login}")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {everywhere} TO {login}")
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {everywhere} TO {login}")
    try:
        with pytest.raises(Problem, match="may write the registers but does not own them"):
            nightly(_as(office, login))
    finally:
        with database.appending(office.settings) as connection:
            connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {office.name} FROM {login}")
            connection.exec_driver_sql(f"REVOKE ALL ON SCHEMA {everywhere} FROM {login}")
            connection.exec_driver_sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA {everywhere} FROM {login}")
    assert office.rights() == before


def test_sqlite_has_no_users_and_doctor_says_so_once(workspace: Callable[..., Any], run: Run) -> None:
    site = workspace("generic")
    for more in ((), ("--dry-run",), ("--revoke",)):
        ran = run("grant", "billing", "ada", *more, "--config", site.settings.path)
        assert ran.code == 2 and "is a file of SQLite, which has no users" in ran.err.replace("\n", " ")
    found = run("doctor", "--json", "--config", site.settings.path).json
    (warning,) = [finding for finding in found if "SQLite" in finding["seen"]]
    assert warning["state"] == "warning" and "callward grant" in warning["fix"]


def test_an_init_that_may_make_no_schema_is_one_sentence_and_one_grant_away(
    server_url: str, workspace: Callable[..., Any]
) -> None:
    name = f"office_{new_id()}"
    with _administrator(server_url) as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    office = Office(None, server_url, name)
    site = workspace("generic", database=on_loopback(office.url(name)))
    with pytest.raises(Problem, match=r"may make no schemas there \(billing, assurance, sla, analytics\)") as refused:
        initiate.upgrade(site.settings)
    assert "GRANT CREATE ON DATABASE" in (refused.value.hint or "")
    with _administrator(server_url.rpartition("/")[0] + f"/{name}") as connection:
        connection.exec_driver_sql(f"GRANT CREATE ON DATABASE {name} TO {name}")
        connection.exec_driver_sql(f"GRANT ALL ON SCHEMA public TO {name}")
    initiate.upgrade(site.settings)
    assert [finding.state for finding in rights(site.settings)] == [OK]
