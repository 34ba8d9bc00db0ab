"""rebuild: the derived tables once more from the lake, to prove that they are what the views say.

Days whose data files a purge has taken cannot be computed again. What was frozen then must still have its hash; what
was left open (rows of the day may still come) must have at least what the lake still says.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from typing import Any

import pyarrow as pa
from sqlalchemy import delete, func, insert, select

from callward import database, workspace_id
from callward.accounts.zones import BillingZones
from callward.disposal.derived import rows_digest
from callward.errors import Problem, UsageProblem
from callward.evidence import checks
from callward.keys.register import Keyring
from callward.lake import account_sums, ledger, manifest, row_index
from callward.lake.additive import sum_derived
from callward.lake.conflicts import retry_on_conflict
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import CommitConflict, DataFile
from callward.retention.purge.due_files import first_kept
from callward.settings import Settings
from callward.workspace import Workspace
from pipelines import closing
from pipelines.results import Part, Result, Rows, to_document
from schemas.codes import DisposalReason
from schemas.retention import disposals, frozen_derived
from schemas.tables import (
    CLOSED,
    DERIVED,
    SUMMARIZED,
    assurance_failed_5min,
    assurance_trunk_hourly,
    day_column,
    key_columns,
    sla_account_daily,
    sla_sums,
    sum_columns,
)
from schemas.views import INDEX, PARTS, STORED
from transforms.close import tables
from transforms.summarize import summarize

ROLE = "billing-run"
_TRIES = 3  # each reads the whole lake
_RESTORE = "restore the database from a backup (docs/keys.md); nothing was changed"
Noted = dict[tuple[str, str, date], str]  # (table, tenant, day)
# The columns that derived tables are made of, of the billing view and of the index: numbers are not among them.
_COLUMNS = {
    "billing": ["account", "direction", "destination", "start", "answer", "talk_ms", "billable_s"],
    INDEX: [
        *("state", "parts", "kind", "role", "account", "trunk_in", "trunk_out", "leg", "start_time", "talk_ms"),
        *("pdd_ms", "disposition", "cause_q850", "cause_sip", "mos", "mos_method", "released_by", "called_prefix"),
    ],
}


@dataclass(frozen=True)
class TableCheck:
    """A derived table: its rows, those computed again, and how many keys differ."""

    table: str
    rows: int
    recomputed: int
    differ: int


@dataclass(frozen=True)
class Rebuild(Result):
    """Derived tables that were compared with the lake, and put right unless it was a check or a dry run."""

    tables: Sequence[TableCheck]
    check: bool
    dry_run: bool

    @property
    def differ(self) -> int:
        """Return how many keys differ, over all tables."""
        return sum(table.differ for table in self.tables)

    @property
    def exit_code(self) -> int:
        """Return 3 when a check found a difference, else 0."""
        return 3 if self.check and self.differ else 0

    def to_dict(self) -> list[Any]:
        return [to_document(table) for table in self.tables]

    def render(self) -> Iterator[Part]:
        return Rows(self.tables).render()

    def warnings(self) -> Iterator[str]:
        if not self.differ:
            yield "every derived table is what the lake says"
        elif self.check or self.dry_run:
            then = "nothing was changed" if self.check else "they would be put right"
            yield f"{self.differ:,} keys differ from what the lake says; {then}"
        else:
            yield f"{self.differ:,} keys differed from what the lake says, and were put right"


def rebuild(settings: Settings, *, write: bool, reason: str = "rebuild --check") -> list[TableCheck]:
    """Recompute every derived table from the lake and compare; return per table its rows and how many keys differ.

    With `write` the recomputed rows take the place of those that are there. A night that commits meanwhile is waited
    for by computing again. Raises Problem when that does not end, and where the manifest does not name all that the
    registers count: what is left would be taken for everything.
    """
    workspace_id.check(settings)
    return retry_on_conflict(
        lambda attempt: _rebuilt(settings, open_files(settings, ROLE, reason), write),
        sentence="nights commit faster than the derived tables can be computed again; try when none runs",
        tries=_TRIES,
        also=(FileNotFoundError,),  # a night replaced a file that this had begun to read
    )


def _rebuilt(settings: Settings, files: DataFiles, write: bool) -> list[TableCheck]:
    with database.reading(settings) as connection:
        before = _manifest(connection)
        committed = [f for view in _COLUMNS for f in ledger.files(connection, view=view)]
        _check_manifest(connection)
        closed = _closed(connection)
        stored = {table.name: _stored(connection, table) for table in DERIVED}
        batches = _batches(connection)
        noted = _noted(connection)
        told = _Told(closed, noted, _first_kept(connection))
    for tenant, day in sorted({(file.tenant, file.part) for file in committed}):
        row_index.complete(files, tenant, day)
    stored[sla_account_daily.name] = _rows(sla_account_daily, account_sums.read(settings, files.workspace.keyring))
    parts: dict[str, list[pa.Table]] = {table.name: [] for table in SUMMARIZED}
    for file in committed:
        rows, zones = _read(files, file), _zones(files.workspace, file.tenant)
        for name, part in summarize(file.view, rows, file.tenant, zones, files.workspace.sites).items():
            parts[name].append(part)
    for (tenant, day), index in _index_of(committed, closed).items():
        for _, _, calls in closing.calls_of(files, index, [], tenant):
            for name, part in tables(calls, tenant, day, files.workspace.sites).items():
                parts[name].append(part)
    stored = {table.name: told.rows(table, stored[table.name]) for table in SUMMARIZED}
    wanted = {table.name: told.rows(table, _wanted(table, parts[table.name])) for table in SUMMARIZED}
    if write:
        _replace(settings, files.workspace.keyring, wanted, before, noted, told)
    return [
        TableCheck(
            table.name,
            len(stored[table.name]),
            len(wanted[table.name]),
            _differing(table, stored[table.name], wanted[table.name], noted, batches),
        )
        for table in SUMMARIZED
    ]


def _check_manifest(connection: Any) -> None:
    """Raise Problem where the manifest has lost a data file, or input files have fewer rows than were accepted."""
    sentences = [*map(str, manifest.unnamed(connection)), *checks.short(connection)]
    if sentences:
        more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
        raise Problem(f"{sentences[0]}{more}; {_RESTORE}")


def _read(files: DataFiles, file: DataFile) -> pa.Table:
    """Return what derived tables are made of, of a data file. Raises Problem for one of the index that is lost."""
    if file.view != INDEX:
        return files.rows(file, _COLUMNS[file.view])
    with row_index.reading_beside_others(files, file):
        return files.rows(file, _COLUMNS[file.view])


def _zones(workspace: Workspace, tenant: str) -> BillingZones:
    settings = workspace.settings
    if tenant not in settings.tenants:
        raise UsageProblem(f"{settings.path.name}: the lake has data of tenant {tenant!r}, who is not in the settings")
    return workspace.billing_zones(tenant)


def _manifest(connection: Any) -> set[str]:
    """Return ids of the files that count: none of them is ever written again under its id."""
    return {file.file_id for view in STORED for file in ledger.files(connection, view=view)}


def _closed(connection: Any) -> set[tuple[str, str]]:
    """Return the dates (tenant, ISO) that are closed, and to which nothing came since."""
    parts = [file for view in PARTS["assurance"] for file in ledger.files(connection, view=view)]
    return {(f.tenant, f.part) for f in parts} - {(f.tenant, f.part) for f in parts if not f.closed}


def _index_of(files: Sequence[DataFile], dates: set[tuple[str, str]]) -> dict[tuple[str, str], list[DataFile]]:
    """Return the data files of the index of some dates."""
    index: dict[tuple[str, str], list[DataFile]] = defaultdict(list)
    for file in files:
        if file.view == INDEX and (file.tenant, file.part) in dates:
            index[file.tenant, file.part].append(file)
    return index


@dataclass(frozen=True)
class _Told:
    """Of which days the lake can tell what a derived table has: what it cannot is neither compared nor put right."""

    closed: set[tuple[str, str]]
    noted: Noted
    first_kept: date  # of the table by five minutes, which a purge takes before the rows that it was made of

    def day(self, table: Any, tenant: str, day: date) -> bool:
        if table in CLOSED:
            return (tenant, day.isoformat()) in self.closed
        if table is assurance_failed_5min:
            return day >= self.first_kept and (assurance_trunk_hourly.name, tenant, day) not in self.noted
        return True

    def rows(self, table: Any, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        of_day = _by_day(rows, _day(table))
        return [row for (tenant, day), few in of_day.items() if self.day(table, tenant, day) for row in few]


def _first_kept(connection: Any) -> date:
    """Return the first day that the newest purge left rows by five minutes of."""
    d = disposals.c
    purged = select(func.max(d.as_of)).where(d.reason == DisposalReason.PURGE, d.status.in_(("done", "partial")))
    as_of = connection.scalar(purged)
    return first_kept(as_of) if as_of else date.min


def _noted(connection: Any) -> Noted:
    """Return the days that a purge took data files of: the hash of their rows; "" where rows may still come."""
    rows = connection.execute(select(frozen_derived))
    return {(row.table_name, row.tenant, date.fromisoformat(row.part)): row.sha256 for row in rows}


def _differing(
    table: Any,
    stored: list[tuple[Any, ...]],
    wanted: list[tuple[Any, ...]],
    noted: Noted,
    batches: Mapping[tuple[str, date], list[tuple[Any, ...]]],
) -> int:
    """Return how many keys have other figures, or are in one of them only.

    On a frozen day how many rows it has, or one. `batches`: those of sums by account, which are frozen as they are.
    """
    day = _day(table)
    ours = {name: hashed for name, hashed in noted.items() if name[0] == _noted_as(table)}
    size, differ = len(key_columns(table)), 0
    if ours:
        stored_of, wanted_of = _by_day(stored, day), _by_day(wanted, day)
        for (_, tenant, at), hashed in ours.items():
            left, recomputed = stored_of.pop((tenant, at), []), wanted_of.pop((tenant, at), [])
            if hashed:
                frozen = batches.get((tenant, at), []) if table is sla_account_daily else left
                differ += 0 if rows_digest(frozen) == hashed and not recomputed else max(1, len(left))
            else:
                differ += _less(left, recomputed, size)
        stored, wanted = (list(chain.from_iterable(of_day.values())) for of_day in (stored_of, wanted_of))
    nonzero = {row for row in stored if any(row[size:])}  # what came to nothing is as good as not there
    return differ + len({row[:size] for row in nonzero ^ set(wanted)})


def _noted_as(table: Any) -> str:
    return sla_sums.name if table is sla_account_daily else str(table.name)


def _less(stored: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]], size: int) -> int:
    """Return how many keys have less than the lake still holds."""
    kept = {row[:size]: row[size:] for row in stored}
    nothing = (0,) * (len(wanted[0]) - size) if wanted else ()
    return sum(
        any(ours < theirs for ours, theirs in zip(kept.get(row[:size], nothing), row[size:], strict=True))
        for row in wanted
    )


def _by_day(rows: list[tuple[Any, ...]], day: int) -> dict[tuple[str, date], list[tuple[Any, ...]]]:
    """Return rows by tenant (their first column) and the day in column `day`."""
    by_day: dict[tuple[str, date], list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows:
        at = row[day].date() if isinstance(row[day], datetime) else row[day]
        by_day[row[0], at].append(row)
    return by_day


def _day(table: Any) -> int:
    """Return which of a derived table's columns its day is in."""
    return key_columns(table).index(day_column(table).name)


def _columns(table: Any) -> list[str]:
    return key_columns(table) + sum_columns(table)


def _stored(connection: Any, table: Any) -> list[tuple[Any, ...]]:
    columns = [table.c[name] for name in _columns(table)]
    return [tuple(row) for row in connection.execute(select(*columns))]


def _batches(connection: Any) -> dict[tuple[str, date], list[tuple[Any, ...]]]:
    """Return the batches of sums by account, as they are stored, by tenant and call date."""
    columns = [sla_sums.c[name] for name in (*key_columns(sla_sums), "sealed")]
    return _by_day([tuple(row) for row in connection.execute(select(*columns))], 1)


def _wanted(table: Any, parts: list[pa.Table]) -> list[tuple[Any, ...]]:
    return _rows(table, sum_derived(table, parts)) if parts else []


def _rows(table: Any, rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(_plain(rows[name]) for name in _columns(table)), strict=True))


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Return values as the database gives them: times naive in UTC."""
    if pa.types.is_timestamp(column.type):
        column = (
            column.cast(pa.timestamp("us"))
            if column.type.tz is None
            else column.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
        )
    return list(column.to_pylist())


def _replace(
    settings: Settings,
    keyring: Keyring,
    wanted: dict[str, list[tuple[Any, ...]]],
    before: set[str],
    noted: Noted,
    told: _Told,
) -> None:
    kept_days = [(tenant, at) for name, tenant, at in noted if name == sla_sums.name]
    sums = pa.Table.from_pylist(
        [dict(zip(_columns(sla_account_daily), row, strict=True)) for row in wanted[sla_account_daily.name]],
        schema=account_sums.SCHEMA,
    )
    batches = [batch for batch in account_sums.whole(keyring, sums) if (batch.tenant, batch.call_date) not in kept_days]
    with database.writing(settings) as connection:
        if _manifest(connection) != before or not account_sums.replace_all(connection, batches, kept_days):
            raise CommitConflict
        for table in DERIVED:
            kept, recomputed = (_by_day(rows, _day(table)) for rows in (_stored(connection, table), wanted[table.name]))
            days = {(tenant, at) for name, tenant, at in noted if name == table.name}
            days |= {of_day for of_day in kept if not told.day(table, *of_day)}
            rows = [row for of_day, of_that_day in kept.items() if of_day in days for row in of_that_day]
            rows += [row for of_day, of_that_day in recomputed.items() if of_day not in days for row in of_that_day]
            connection.execute(delete(table))
            if rows:
                connection.execute(insert(table), [dict(zip(_columns(table), row, strict=True)) for row in rows])
