"""SQL for people: DuckDB over encrypted data files and derived tables, by role.

A role sees the tables listed for it (access/roles.py) and nothing else, and only when its key roots open: its name
alone opens nothing. Numbers are among the columns only for a stated purpose and case; support sees the one account of
a case that is open. DuckDB spills numbers in the clear, reads any file it is asked for and looks into Python's
variables, so all three are off, and its configuration is locked.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from sqlalchemy import ColumnElement, Table, select

from callward import audit, database, query_errors
from callward.access import cases
from callward.access.cases import Case
from callward.access.roles import ROLES, unsealed
from callward.answer_types import portable
from callward.errors import Problem, UsageProblem
from callward.keys.keys import Key, KeyProblem, open_source
from callward.keys.register import KeyName, Keyring
from callward.lake import account_sums, ledger, readers
from callward.lake.conflicts import retry_on_conflict
from callward.lake.ledger import DataFile
from callward.lake.parquet import LakeFile, open_dataset
from callward.redaction import mask, recorded
from callward.retention.purge import calendar as purge_calendar
from callward.retention.requests import restrictions
from callward.retention.requests.restrictions import Hidden
from callward.settings import Settings
from callward.storage.store import Store
from schemas import tables, views
from schemas.release import PUBLISHED, analytics_cells, releases
from schemas.tables import sla_account_daily

_CONFIG: dict[str, Any] = {
    "temp_directory": "",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "errors_as_json": "true",  # they say where in the question, apart from words that may quote a value
}
SUPPORT = "support"
_BATCH_ROWS = 100_000
_TRIES = 3  # a night may replace a data file between the manifest's reading and its own


def query(
    settings: Settings, role: str, sql: str, *, purpose: str = "", case: str = "", limit: int | None = None
) -> pa.Table:
    """Run one SELECT as a role; raises Problem or UsageProblem in one sentence, with any long run of digits masked."""
    with asking(settings, role, sql, purpose=purpose, case=case) as answer:
        if limit is None:
            return answer.read_all()
        return _first(answer, limit)


def _first(answer: pa.RecordBatchReader, limit: int) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in batches) < limit:
        try:
            batches.append(answer.read_next_batch())
        except StopIteration:
            break
    return pa.Table.from_batches(batches, schema=answer.schema).slice(0, limit)


@contextmanager
def asking(
    settings: Settings, role: str, sql: str, *, purpose: str = "", case: str = ""
) -> Iterator[pa.RecordBatchReader]:
    """Yield the answer to a question batch by batch: memory does not grow with its rows."""
    _check_role(role)
    purpose, case = _checked_case(role, purpose, case)
    _prove(settings, role, bool(case))
    asked = _Question(settings, role, purpose, case, _opened_case(settings, case, purpose) if role == SUPPORT else None)
    released = _released(settings, role)
    if role == "analytics" and not released:
        raise Problem("analytics sees released cells only, and nothing has been released")
    # Numbers written into the SQL would be found again from a hash of it by trying all: they are masked first.
    digest = hashlib.sha256(mask(sql).encode()).hexdigest()
    audit.record(settings, [audit.Entry(role, "sql", f"sha256:{digest}", f"{purpose or 'reading'} {case}".strip())])
    names = [*tables_of(role), *released]
    with readers.reading(settings):
        with _connected() as connection, _sentences(settings, names, sql, rows_read=False):
            _bound(connection, asked, sql)
        with _connected() as connection, _sentences(settings, names, sql, rows_read=True):
            _register(connection, asked, sql)
            yield _asked(connection, sql).to_arrow_reader(_BATCH_ROWS)


@dataclass(frozen=True)
class _Question:
    """Who asks what for. `of`: the case of support, whose account it may see."""

    settings: Settings
    role: str
    purpose: str
    case: str
    of: Case | None


def _opened_case(settings: Settings, case: str, purpose: str) -> Case:
    """Return the case that support names. Raises Problem, with an entry in the audit log, where it is not open."""
    try:
        return cases.in_force(settings, case, purpose)
    except Problem as problem:
        _note_refusal(settings, case, str(problem))
        raise


def _note_refusal(settings: Settings, case: str, why: str) -> None:
    audit.record(settings, [audit.Entry(SUPPORT, "refused", f"case {case}", why)])


def _bound(connection: duckdb.DuckDBPyConnection, asked: _Question, sql: str) -> None:
    """Bind the question to the role's tables without a row in them: what is wrong with it is said before one is read.

    Raises UsageProblem for anything but one SELECT statement.
    """
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UsageProblem("one SELECT statement, please")
    _register(connection, asked, "")
    _asked(connection, sql)


def _asked(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return portable(connection.sql(sql))


@contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:", config=_CONFIG)
    try:
        yield connection
    finally:
        connection.close()


def _check_role(role: str) -> None:
    if role not in ROLES:
        close = difflib.get_close_matches(role, ROLES, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else f" (those that query: {', '.join(ROLES)})"
        raise UsageProblem(f"no role that queries is called {mask(role)!r}{hint}")


def _checked_case(role: str, purpose: str, case: str) -> tuple[str, str]:
    """Return purpose and case as they are recorded, both empty where neither numbers nor an account are asked for."""
    purpose, case = recorded("--purpose", purpose), recorded("--case", case)
    if bool(purpose) != bool(case):
        raise UsageProblem("numbers are shown for a stated purpose and a case: give both --purpose and --case")
    if role == SUPPORT and not case:
        raise UsageProblem("support sees the one account of a case that is open: give both --purpose and --case")
    if case and role not in ("billing", SUPPORT):
        raise UsageProblem(f"role {role} sees no numbers, whatever the case")
    return purpose, case


def _prove(settings: Settings, role: str, with_numbers: bool) -> None:
    """Open a role's roots: whoever cannot learns nothing, not even from an empty lake."""
    for domain in ROLES[role].roots(with_numbers and role == "billing"):
        try:
            open_source(settings.root_uri(domain)).close()
        except KeyProblem as problem:
            raise Problem(f"{problem} (a role is what its key roots open)") from None


def _register(connection: duckdb.DuckDBPyConnection, asked: _Question, sql: str) -> None:
    """Give the connection the role's tables; those that the SQL does not name stay empty, and nothing is opened."""
    settings, role, case = asked.settings, asked.role, asked.case
    named = _named(role, sql)
    view = ROLES[role].view
    keyring = Keyring(settings, role, f"sql {asked.purpose} {case}".strip())
    if asked.of is not None:
        wanted = sla_account_daily.name in named
        rows = _sums_of(asked.of, settings, keyring, sql) if wanted else account_sums.SCHEMA.empty_table()
        connection.register(sla_account_daily.name, rows)
    elif view is not None:
        unseen = restrictions.hidden(settings, keyring, view) if named else {}
        for part in views.PARTS[view]:
            schema = _schema(part, bool(case))
            rows = _part(settings, part, keyring, schema, unseen) if part in named else schema.empty_table()
            connection.register(part, rows)
    released = _released(settings, role)
    if set(released) & _words(sql):
        named.add(analytics_cells.name)
    for table in ROLES[role].tables:
        content = _database_table(settings, table, table.name in named)
        connection.register(table.name, content if view is None else _unrestricted(content, unseen))
    if "retention_due" in ROLES[role].computed:
        today = database.now().date() if "retention_due" in named else None
        connection.register("retention_due", purge_calendar.table(settings, today))
    for name, statement in _VIEWS.get(role, {}).items():
        connection.execute(f"CREATE VIEW {name} AS {statement(settings)}")
    for name, text in released.items():
        connection.execute(f'CREATE VIEW "{name}" AS {text}')


def _sums_of(case: Case, settings: Settings, keyring: Keyring, sql: str) -> pa.Table:
    """Return the sums of a case's account.

    Raises Problem, with an entry in the audit log, where the question names another account, or that one is restricted.
    """
    if restrictions.hides_account(settings, keyring, case.tenant, case.account):
        problem = Problem(f"the account of case {case.case_id} is restricted: its data is kept, and used for nothing")
        _note_refusal(settings, case.case_id, str(problem))
        raise problem
    rows, accounts = account_sums.of_account(settings, keyring, case.tenant, case.account)
    quoted = {word.replace("''", "'") for word in re.findall(r"'((?:[^']|'')*)'", sql)}
    if quoted & (accounts - {case.account}):
        problem = Problem(f"case {case.case_id} is of another account than the question names")
        _note_refusal(settings, case.case_id, str(problem))
        raise problem
    return rows


def _named(role: str, sql: str) -> set[str]:
    """Return tables that the SQL may read: those whose names it holds, and what the views it names stand on."""
    words = _words(sql)
    if words & {"query", "query_table"}:  # these functions take a name that is put together when they run
        return set(tables_of(role))
    named = words.intersection(tables_of(role))
    return named.union(*(_STANDS_ON.get(name, ()) for name in named))


def _words(sql: str) -> set[str]:
    return set(re.findall(r"\w+", sql.lower()))


def tables_of(role: str) -> list[str]:
    """Return names that a role can query."""
    granted = ROLES[role]
    stored = (table.name for table in granted.tables)
    parts = views.PARTS.get(granted.view or "", ())
    return [*parts, *stored, *granted.computed, *_VIEWS.get(role, {})]


def _released(settings: Settings, role: str) -> dict[str, str]:
    """Return a view for each table that is out, with a column for each dimension and measure, by its name.

    For analytics.
    """
    if role != "analytics":
        return {}
    with database.reading(settings) as connection:
        out = connection.execute(
            select(releases.c.release_id, releases.c.name, releases.c.tenant, releases.c.period_start, releases.c.sheet)
            .where(releases.c.status == PUBLISHED)
            .order_by(releases.c.published_at, releases.c.correction_no)
        ).all()
    newest: dict[str, dict[tuple[str, Any], tuple[str, _Axes]]] = {}
    for row in out:
        newest.setdefault(row.name, {})[row.tenant, row.period_start] = (row.release_id, _axes(row.sheet))
    return {name: _released_view(list(of_name.values())) for name, of_name in newest.items()}


_Axes = tuple[tuple[str, ...], tuple[str, ...]]  # names of dimensions, and of measures


def _axes(sheet: str) -> _Axes:
    document = json.loads(sheet)
    return tuple(axis["name"] for axis in document["dimensions"]), tuple(axis["name"] for axis in document["measures"])


def _released_view(out: Sequence[tuple[str, _Axes]]) -> str:
    """Return the newest table of each period, those of the newest shape.

    Periods of another are in analytics_cells alone.
    """
    dimensions, measures = out[-1][1]
    ids = ", ".join(f"'{release_id}'" for release_id, axes in out if axes == out[-1][1])
    columns = [f'd{n} AS "{name}"' for n, name in enumerate(dimensions, 1)]
    for name in measures:
        of_measure = f"FILTER (WHERE measure = '{name}')"
        columns += [f'max(value) {of_measure} AS "{name}"', f'max(error) {of_measure} AS "{name}_error"']
    return (
        f"SELECT tenant, period_start, period_end, correction_no, {', '.join(columns)}, "
        f"bool_or(suppressed) AS suppressed FROM analytics_cells WHERE release_id IN ({ids}) GROUP BY ALL"
    )


def _schema(part: str, with_numbers: bool) -> pa.Schema:
    """Return columns of a part of a view; without numbers a reader never sees that there are such columns."""
    hidden = set() if with_numbers else set(views.NUMBER_COLUMNS[part])
    return pa.schema([field for field in views.VIEW_PARTS[part] if field.name not in hidden])


def _unrestricted(table: pa.Table, unseen: Mapping[str, Hidden]) -> pa.Table:
    """Return a derived table without the rows of restricted accounts."""
    for tenant, hidden in unseen.items():
        of_tenant = np.asarray(pc.equal(table["tenant"], tenant))
        table = table.filter(pa.array(~(of_tenant & hidden.derived(table))))
    return table


def _part(
    settings: Settings, part: str, keyring: Keyring, schema: pa.Schema, unseen: Mapping[str, Hidden]
) -> ds.Dataset:
    """Return a dataset over a part's files with the columns of `schema`, without the rows of restricted persons."""
    with_numbers = not set(views.NUMBER_COLUMNS[part]).isdisjoint(schema.names)

    def opened(attempt: int) -> ds.Dataset:
        with database.reading(settings) as connection:
            files = ledger.files(connection, view=part)
        try:
            keys = _month_keys(
                settings, keyring, views.VIEW_OF[part], {(f.tenant, f.part[:7]) for f in files}, with_numbers
            )
            return _opened(settings, files, keys, schema, unseen)
        except KeyProblem as problem:
            raise Problem(f"{problem} (a role is what its key roots open)") from None

    return retry_on_conflict(
        opened,
        sentence="a data file that the manifest names is not in the lake; 'callward doctor' says more",
        tries=_TRIES,
        also=(FileNotFoundError,),
    )


_Months = dict[tuple[str, str], tuple[Key, Key | None]]


def _opened(
    settings: Settings,
    files: Collection[DataFile],
    keys: _Months,
    schema: pa.Schema,
    unseen: Mapping[str, Hidden],
) -> ds.Dataset:
    store, lake_files, opened = Store.of(settings), [], {}
    for file in files:
        month, hidden = (file.tenant, file.part[:7]), unseen.get(file.tenant)
        if month not in keys:
            continue  # its month key was destroyed: nobody reads it any more
        if hidden is not None and file.file_id in hidden.files:
            continue  # nobody has looked yet which of its rows are restricted
        meta, numbers = keys[month]
        opened.update({key.key_id: key for key in (meta, numbers) if key is not None})
        path = store.full(file.path)
        rows = hidden.rows(file.view) if hidden is not None else None
        lake_files.append(LakeFile(path, file.file_id, meta.key_id, numbers.key_id if numbers else None, rows))
    with store.answering():
        return open_dataset(lake_files, opened, schema, store.filesystem)


def _month_keys(
    settings: Settings, keyring: Keyring, view: str, months: set[tuple[str, str]], with_numbers: bool
) -> _Months:
    """Return keys of the months that still have any; raises Problem for a month that the register does not know."""
    metas = {month: KeyName(view, *month, "meta") for month in months}
    numbers = {month: KeyName(f"{view}-numbers", *month, "numbers") for month in months} if with_numbers else {}
    opened = keyring.existing([*metas.values(), *numbers.values()])
    for name in metas.values():
        if name not in opened and not _was_destroyed(settings, name):
            raise Problem(
                f"the register has no key {name}, but the lake has files under it: the database is older than the lake"
            )
    return {
        month: (opened[metas[month]], opened.get(numbers[month]) if month in numbers else None)
        for month in months
        if metas[month] in opened
    }


def _was_destroyed(settings: Settings, name: KeyName) -> bool:
    k = tables.keys.c
    of_name = (
        (k.domain == name.domain) & (k.tenant == name.tenant) & (k.month == name.month) & (k.purpose == name.purpose)
    )
    with database.reading(settings) as connection:
        return connection.execute(select(k.state).where(of_name)).scalar() == "destroyed"


def _database_table(settings: Settings, table: Table, wanted: bool) -> pa.Table:
    columns = [table.c[name] for name in unsealed(table)]
    schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
    if not wanted:
        return schema.empty_table()
    with database.reading(settings) as connection:
        rows = connection.execute(select(*columns)).all()
    return (
        pa.table([list(values) for values in zip(*rows, strict=True)], schema=schema) if rows else schema.empty_table()
    )


def _arrow_type(column: ColumnElement[Any]) -> pa.DataType:
    kinds = {
        "BIGINT": pa.int64(),
        "INTEGER": pa.int64(),
        "DATETIME": pa.timestamp("us"),
        "DATE": pa.date32(),
        "BOOLEAN": pa.bool_(),
    }
    name = str(column.type).split("(")[0]
    return pa.decimal128(18, 6) if name == "NUMERIC" else kinds.get(name, pa.string())


@contextmanager
def _sentences(settings: Settings, names: list[str], sql: str, *, rows_read: bool) -> Iterator[None]:
    """Turn what DuckDB, Arrow and the object store say into one sentence without the values that they quote."""
    try:
        yield
    except (duckdb.OutOfMemoryException, pa.ArrowMemoryError, MemoryError):
        raise Problem(
            "the query needs more memory than there is, and spilling to disk is off (numbers would lie there in the "
            "clear); narrow it"
        ) from None
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.PermissionException:
        raise UsageProblem("a query reads this role's tables only: no file, no other database, no extension") from None
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if (refused := Store.of(settings).problem(str(error))) is not None:
            raise refused from None
        if isinstance(error, OSError):
            raise
        if "No such file" in str(error):
            raise Problem("a data file was replaced while it was read; ask again") from None
        problem = query_errors.problem(error, sql, rows_read=rows_read)
        known = (
            f" (this role's tables: {', '.join(sorted(names))})" if isinstance(error, duckdb.CatalogException) else ""
        )
        raise UsageProblem(f"{problem}{known}", hint=problem.hint) from None


def _kpis(settings: Settings) -> str:
    """Return ratios, read from the sums.

    Null above the set share of unknown dispositions, marked under few attempts.
    """
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
                WINDOW k AS (PARTITION BY tenant, hour, side, trunk),
                       w AS (PARTITION BY tenant, hour, side, trunk ORDER BY bucket)
            ) WHERE until >= 0.95 * total GROUP BY ALL
        ) p USING (tenant, hour, side, trunk)"""


_MONTHLY = """
    SELECT tenant, account, date_trunc('month', billing_date)::DATE AS billing_month, direction, destination,
           sum(calls)::BIGINT AS calls, sum(answered)::BIGINT AS answered, sum(talk_ms)::BIGINT AS talk_ms,
           sum(billable_s)::BIGINT AS billable_s, sum(charge)::DECIMAL(18, 6) AS charge, currency
    FROM billing_usage_daily GROUP BY ALL"""

# Every attempt: what a part does not tell is null.
_ATTEMPTS = """
    SELECT failed_id AS assurance_id, * EXCLUDE (failed_id) FROM failed
    UNION ALL BY NAME SELECT answered_id AS assurance_id, * EXCLUDE (answered_id) FROM answered"""

_VIEWS: dict[str, dict[str, Callable[[Settings], str]]] = {
    "billing": {"billing_usage_monthly": lambda settings: _MONTHLY},
    "assurance": {"trunk_kpi": _kpis, "assurance": lambda settings: _ATTEMPTS},
}

_STANDS_ON = {
    "billing_usage_monthly": ("billing_usage_daily",),
    "trunk_kpi": ("assurance_trunk_hourly", "assurance_trunk_hourly_pdd"),
    "assurance": views.PARTS["assurance"],
}
