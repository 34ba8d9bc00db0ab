"""rebuild: the derived tables once more from the lake, to prove that they are what the views say."""

from typing import Any

import pyarrow as pa
from sqlalchemy import delete, insert, select

from callward import database, ledger
from callward.files import Files
from callward.ledger import Refused
from callward.settings import Settings
from callward.workspace import Reference, open_workspace
from schemas.tables import DERIVED, key_columns, sum_columns
from transforms.summarize import summarize

ROLE = "billing-run"
# The columns of a view that its derived tables are made of: numbers are not among them.
_COLUMNS = {
    "billing": ["account", "direction", "destination", "start", "answer", "talk_ms", "billable_s"],
    "assurance": [
        "account_token",
        "trunk_in",
        "trunk_out",
        "leg",
        "start",
        "talk_s",
        "pdd_ms",
        "disposition",
        "cause_q850",
        "cause_sip",
        "mos",
        "mos_method",
    ],
}


def rebuild(settings: Settings, *, write: bool, reason: str = "rebuild --check") -> list[dict[str, Any]]:
    """Recompute every derived table from the lake and compare: per table its rows and how many differ.

    With `write` the recomputed rows take the place of those that are there.
    """
    workspace = open_workspace(Reference(str(settings.path), ROLE, reason))
    with database.reading(settings) as connection:
        before = {(f.tenant, f.part): f for f in ledger.files(connection)}
        committed = [f for view in _COLUMNS for f in ledger.files(connection, view=view)]
        stored = {table.name: _stored(connection, table) for table in DERIVED}
    made: dict[str, list[pa.Table]] = {table.name: [] for table in DERIVED}
    files = Files(workspace, "rebuild")
    for file in committed:
        rows = files.rows(file, _COLUMNS[file.view])
        for name, part in summarize(file.view, rows, file.tenant, settings.tenants[file.tenant].zone).items():
            made[name].append(part)
    wanted = {table.name: _wanted(table, made[table.name]) for table in DERIVED}
    if write:
        _replace(settings, wanted, before)
    return [
        {"table": name, "rows": len(stored[name]), "recomputed": len(wanted[name]), "differ": len(set(stored[name]) ^ set(wanted[name]))}
        for name in stored
    ]


def _columns(table: Any) -> list[str]:
    return key_columns(table) + sum_columns(table)


def _stored(connection: Any, table: Any) -> list[tuple[Any, ...]]:
    columns = [table.c[name] for name in _columns(table)]
    sums = range(len(key_columns(table)), len(columns))
    return [tuple(row) for row in connection.execute(select(*columns)) if any(row[i] for i in sums)]


def _wanted(table: Any, parts: list[pa.Table]) -> list[tuple[Any, ...]]:
    if not parts:
        return []
    summed = ledger.sum_derived(table, parts)
    columns = [_plain(summed[name]) for name in _columns(table)]
    return list(zip(*columns, strict=True))


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Values as the database gives them: times naive in UTC."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us")) if column.type.tz is None else column.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    return list(column.to_pylist())


def _replace(settings: Settings, wanted: dict[str, list[tuple[Any, ...]]], before: dict[tuple[str, str], Any]) -> None:
    with database.writing(settings) as connection:
        if {(f.tenant, f.part): f for f in ledger.files(connection)} != before:
            raise Refused
        for table in DERIVED:
            connection.execute(delete(table))
            rows = [dict(zip(_columns(table), row, strict=True)) for row in wanted[table.name]]
            if rows:
                connection.execute(insert(table), rows)
