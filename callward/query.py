"""SQL for people: DuckDB over encrypted data files and derived tables, by role.

A role sees the tables listed for it here and nothing else, and a view only as far as its key roots open it. Numbers
are among the columns only for a stated purpose and case. DuckDB spills numbers in the clear and reads any file it
is asked for, so both are off, and its configuration is locked.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from sqlalchemy import Table, select

from callward import audit, database, ledger
from callward.errors import Problem, UsageProblem
from callward.keys import Key, KeyProblem
from callward.lake import LakeFile, open_dataset
from callward.register import Keyring, KeyName
from callward.settings import Settings
from schemas import tables, views

_DIGITS = re.compile(r"\d{5,}")
_HIDDEN = {"blob", "name_sealed", "shape_sealed"}  # sealed bytes: nothing to read
_REGISTERS = (tables.runs, tables.waves, tables.input_files, tables.blocks, tables.ledger_entries, tables.lake_files, tables.keys, tables.audit_log)
_ASSURANCE_TABLES = tuple(table for table in tables.DERIVED if table.name.startswith("assurance"))


@dataclass(frozen=True)
class Role:
    """What a role may ask: a view of the lake, tables of the database."""

    view: str | None
    tables: tuple[Table, ...]


ROLES = {
    "billing": Role("billing", (tables.billing_usage_daily,)),
    "assurance": Role("assurance", _ASSURANCE_TABLES),
    "compliance": Role(None, _REGISTERS),
    "analytics": Role(None, ()),
}


def query(settings: Settings, role: str, sql: str, *, purpose: str = "", case: str = "", limit: int | None = None) -> pa.Table:
    """Run one SELECT as a role; raises Problem or UsageProblem in one sentence, with any long run of digits masked."""
    if role not in ROLES:
        raise UsageProblem(f"no role is called {role!r} (known: {', '.join(ROLES)})")
    if role == "analytics":
        raise Problem("analytics sees released cells only, and nothing has been released")
    _check_case(role, purpose, case)
    connection = duckdb.connect(":memory:", config={"temp_directory": "", "autoinstall_known_extensions": "false"})
    try:
        names = _register(connection, settings, role, purpose, case)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        digest = hashlib.sha256(sql.encode()).hexdigest()
        audit.record(settings, [audit.Entry(role, "sql", f"sha256:{digest}", f"{purpose or 'reading'} {case}".strip())])
        return _run(connection, sql, names, limit)
    finally:
        connection.close()


def _check_case(role: str, purpose: str, case: str) -> None:
    if bool(purpose) != bool(case):
        raise UsageProblem("numbers are shown for a stated purpose and a case: give both --purpose and --case")
    if case and role != "billing":
        raise UsageProblem(f"role {role} sees no numbers, whatever the case")


def _register(connection: duckdb.DuckDBPyConnection, settings: Settings, role: str, purpose: str, case: str) -> list[str]:
    names = []
    view = ROLES[role].view
    if view is not None:
        reason = f"sql {purpose} {case}".strip()
        connection.register(view, _view(settings, view, Keyring(settings, role, reason), bool(case)))
        names.append(view)
    for table in ROLES[role].tables:
        connection.register(table.name, _database_table(settings, table))
        names.append(table.name)
    for name, statement in _VIEWS.get(role, {}).items():
        connection.execute(f"CREATE VIEW {name} AS {statement(settings)}")
        names.append(name)
    return names


def _view(settings: Settings, view: str, keyring: Keyring, with_numbers: bool):  # type: ignore[no-untyped-def]
    """A dataset over a view's data files; without numbers the reader never sees that there are such columns."""
    hidden = set() if with_numbers else set(views.NUMBER_COLUMNS[view])
    schema = pa.schema([field for field in views.VIEWS[view] if field.name not in hidden])
    with database.reading(settings) as connection:
        files = ledger.files(connection, view=view)
    try:
        keys = _month_keys(keyring, view, {(f.tenant, f.part[:7]) for f in files}, with_numbers)
    except KeyProblem as problem:
        raise Problem(f"{problem} (a role is what its key roots open)") from None
    found, opened = [], {}
    for file in files:
        meta, numbers = keys[file.tenant, file.part[:7]]
        opened.update({key.key_id: key for key in (meta, numbers) if key is not None})
        path = str(settings.lake_path / file.path)
        found.append(LakeFile(path, file.file_id, meta.key_id, numbers.key_id if numbers else None))
    return open_dataset(found, opened, schema)


def _month_keys(keyring: Keyring, view: str, months: set[tuple[str, str]], with_numbers: bool) -> dict[tuple[str, str], tuple[Key, Key | None]]:
    metas = {month: KeyName(view, *month, "meta") for month in months}
    numbers = {month: KeyName(f"{view}-numbers", *month, "numbers") for month in months} if with_numbers else {}
    opened = keyring.existing([*metas.values(), *numbers.values()])
    return {month: (opened[metas[month]], opened.get(numbers[month]) if month in numbers else None) for month in months}


def _database_table(settings: Settings, table: Table) -> pa.Table:
    columns = [column for column in table.columns if column.name not in _HIDDEN]
    with database.reading(settings) as connection:
        rows = connection.execute(select(*columns)).all()
    schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
    return pa.table([list(values) for values in zip(*rows, strict=True)] if rows else [[] for _ in columns], schema=schema)


def _arrow_type(column) -> pa.DataType:  # type: ignore[no-untyped-def]
    kinds = {"BIGINT": pa.int64(), "INTEGER": pa.int64(), "DATETIME": pa.timestamp("us"), "DATE": pa.date32(), "BOOLEAN": pa.bool_()}
    name = str(column.type).split("(")[0]
    return pa.decimal128(18, 6) if name == "NUMERIC" else kinds.get(name, pa.string())


def _run(connection: duckdb.DuckDBPyConnection, sql: str, names: list[str], limit: int | None) -> pa.Table:
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageProblem("one SELECT statement, please")
        relation = connection.sql(sql)
        return (relation.limit(limit) if limit is not None else relation).to_arrow_table()
    except duckdb.OutOfMemoryException:
        raise Problem("the query needs more memory than there is, and spilling to disk is off (numbers would lie there in the clear); narrow it") from None
    except duckdb.CatalogException as error:
        raise UsageProblem(f"{_masked(error)} (this role's tables: {', '.join(sorted(names))})") from None
    except duckdb.Error as error:
        raise UsageProblem(_masked(error)) from None


def _masked(error: Exception) -> str:
    return _DIGITS.sub(lambda match: "#" * len(match[0]), str(error).splitlines()[0])


def _kpis(settings: Settings) -> str:
    """Ratios, read from the sums: null above the set share of unknown dispositions, marked under few attempts."""
    thresholds = settings.thresholds
    known = f"unknown * 100.0 <= {thresholds.unknown_share_pct} * attempts"
    return f"""
        SELECT tenant, hour, side, trunk, attempts, unknown, seizures, answered,
               CASE WHEN {known} THEN round(100.0 * answered / nullif(seizures, 0), 2) END AS asr_pct,
               CASE WHEN {known} THEN round(100.0 * ner_success / nullif(seizures, 0), 2) END AS ner_pct,
               round(talk_s / nullif(answered, 0), 1) AS acd_s,
               round(pdd_ms / nullif(pdd_count, 0)) AS pdd_mean_ms,
               p.pdd_p95_ms, attempts < {thresholds.few_attempts} AS few_attempts
        FROM assurance_trunk_hourly LEFT JOIN (
            SELECT tenant, hour, side, trunk, round(min(upper)) AS pdd_p95_ms FROM (
                SELECT *, pow(2, (bucket + 1) / 4.0) AS upper, sum(count) OVER w AS until, sum(count) OVER k AS total
                FROM assurance_trunk_hourly_pdd
                WINDOW k AS (PARTITION BY tenant, hour, side, trunk), w AS (PARTITION BY tenant, hour, side, trunk ORDER BY bucket)
            ) WHERE until >= 0.95 * total GROUP BY ALL
        ) p USING (tenant, hour, side, trunk)"""  # noqa: S608  (settings are numbers)


_MONTHLY = """
    SELECT tenant, account, date_trunc('month', billing_date)::DATE AS billing_month, direction, destination,
           sum(calls) AS calls, sum(answered) AS answered, sum(talk_ms) AS talk_ms, sum(billable_s) AS billable_s, sum(charge) AS charge
    FROM billing_usage_daily GROUP BY ALL"""

_VIEWS: dict[str, dict[str, Callable[[Settings], str]]] = {
    "billing": {"billing_usage_monthly": lambda settings: _MONTHLY},
    "assurance": {"trunk_kpi": _kpis},
}


def tables_of(role: str) -> list[str]:
    """Names that a role can query."""
    made = ROLES[role]
    return [*([made.view] if made.view else []), *(table.name for table in made.tables), *_VIEWS.get(role, {})]

