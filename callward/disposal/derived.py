"""Derived rows of a purge: those past their window go, others are frozen with their hash, or left open."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, DateTime, Table, and_, delete, insert, select

from callward import database
from callward.disposal.record import Disposal
from callward.retention.purge.due_files import FROZEN, OPEN, REMOVED
from schemas.retention import frozen_derived
from schemas.tables import DERIVED, day_column, key_columns, sla_sums, sum_columns

# Sums by account go, and are told apart, by the batches that they lie sealed in: nobody opens these here.
TABLES: Final = {table.name: table for table in (*DERIVED, sla_sums)}


def rows_digest(rows: Iterable[Sequence[Any]]) -> str:
    """SHA-256 (hex) of derived rows (key columns, then sums) in the order of their keys, as canonical JSON."""
    texts = sorted([str(value) for value in row] for row in rows)
    return hashlib.sha256(json.dumps(texts, separators=(",", ":")).encode()).hexdigest()


def derived_of(connection: Connection, table: Table, tenant: str, first: date, last: date) -> dict[date, list[Any]]:
    """Return a derived table's rows by day (both ends included): key columns, then sums or sealed bytes, as stored."""
    names = key_columns(table) + (["sealed"] if table is sla_sums else sum_columns(table))
    columns = [table.c[name] for name in names]
    where = _within(table, tenant, first, last)
    rows: dict[date, list[Any]] = defaultdict(list)
    for row in connection.execute(select(*columns).where(where)):
        moment = row._mapping[day_column(table)]
        rows[moment.date() if isinstance(moment, datetime) else moment].append(tuple(row))
    return rows


def _within(table: Table, tenant: str, first: date, last: date) -> ColumnElement[bool]:
    low: date = first
    high: date = last + timedelta(1)
    column = day_column(table)
    if isinstance(column.type, DateTime):
        low, high = datetime.combine(low, time()), datetime.combine(high, time())
    return and_(table.c.tenant == tenant, column >= low, column < high)


def settle(connection: Connection, purge: Disposal) -> list[dict[str, Any]]:
    """Delete, freeze or leave open the plan's derived rows; returns how many went, by tenant and table."""
    planned: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for table, tenant, day, state in purge.facts["derived"]:
        planned[table, tenant][day] = state
    removed = []
    for (name, tenant), states in sorted(planned.items()):
        table, days = TABLES[name], sorted(map(date.fromisoformat, states))
        rows = derived_of(connection, table, tenant, days[0], days[-1])
        _forget(connection, name, tenant, list(states))
        _freeze(connection, purge.disposal_id, name, tenant, {d: s for d, s in states.items() if s != REMOVED}, rows)
        going = [day for day in days if states[day.isoformat()] == REMOVED]
        for first, last in _stretches(going):
            connection.execute(delete(table).where(_within(table, tenant, first, last)))
        count = sum(len(rows.get(day, ())) for day in going)
        if count:
            removed.append({"tenant": tenant, "table": name, "rows": count})
    return removed


def _forget(connection: Connection, table: str, tenant: str, days: Sequence[str]) -> None:
    f = frozen_derived.c
    for some in database.batches(days):
        connection.execute(delete(frozen_derived).where(f.table_name == table, f.tenant == tenant, f.part.in_(some)))


def _freeze(
    connection: Connection, purge_id: str, table: str, tenant: str, states: Mapping[str, str], rows: Mapping[date, Any]
) -> None:
    """Note what stays: with its hash where nothing can change it any more, without while it may still grow."""
    assert set(states.values()) <= {FROZEN, OPEN}
    common = {"disposal_id": purge_id, "table_name": table, "tenant": tenant}
    frozen = []
    for day, state in states.items():
        of_day = rows.get(date.fromisoformat(day), [])
        frozen.append(
            {**common, "part": day, "rows": len(of_day), "sha256": rows_digest(of_day) if state == FROZEN else ""}
        )
    if frozen:
        connection.execute(insert(frozen_derived), frozen)


def _stretches(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Days in order as stretches without a gap: few statements delete many days."""
    for place, day in enumerate(days):
        if place == 0 or day - days[place - 1] > timedelta(1):
            first = day
        if place + 1 == len(days) or days[place + 1] - day > timedelta(1):
            yield first, day
