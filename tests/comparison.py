"""Whether two tables, or two workspaces with the same keys, say the same, whichever way their records came.

A difference is where it is: the table, the tenant, the date, the keyed id of the row (hex), and the names of the
columns that differ. Rows are compared as they come out of the lake, numbers too, partition by partition.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import func, select

from callward import database
from callward.disposal.derived import derived_of
from callward.keys.register import EVERY_MONTH, KeyName, name_of
from callward.lake import account_sums, ledger
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import DataFile
from callward.redaction import mask
from callward.settings import Settings
from schemas.suspense import PENDING, SUSPENSE
from schemas.tables import (
    DERIVED,
    day_column,
    input_files,
    key_columns,
    keys,
    ledger_entries,
    sla_account_daily,
    sla_sums,
    sum_columns,
)
from schemas.views import ID_COLUMN, INDEX
from tests.shared_keys import shared_keys
from transforms.assemble import fold

OURS, THEIRS = "batch", "stream"  # what the two sides are called where a person reads of them
_SHOWN: Final = 20
_KEY: Final = {**ID_COLUMN, INDEX: "record_id"}
_SUSPENSE: Final = ["suspense_id", "source", "code", "kind", "open"]
_LOGS: Final = {"suspense": SUSPENSE, "pending": PENDING}
_LEDGER: Final = ("source", "bucket", "code")
# A piece of a call is known by these; which file it came in, when, and what it was called before may differ.
_PIECE: Final = ["call_id", "record_id", "content", "piece"]
_OF_ITS_WAY: Final = ("file_no", "block", "line", "seen", "turn", "was", "was_ms")


@dataclass(frozen=True)
class Difference:
    """A row that is not the same on both sides.

    `part` is its date (or the first day of a derived table's stretch), `id` its keyed id in hex or the words that it
    is known by. `columns` are the names of those that differ, none where one side alone has the row: `only_in` says
    which then.
    """

    where: str
    tenant: str
    part: str
    id: str
    columns: tuple[str, ...] = ()
    only_in: str = ""

    def __str__(self) -> str:
        place = " ".join(word for word in (self.where, self.tenant, self.part, self.id) if word)
        return f"{place}: {f'only in {self.only_in}' if self.only_in else ', '.join(self.columns)}"


@dataclass
class Comparison:
    """What was compared: rows by table and side, how many differ, and the first of these."""

    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    differing: int = 0
    first: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.differing

    @property
    def report(self) -> str:
        """The first differences, one to a line."""
        return "\n".join(map(str, self.first))

    def add(self, where: str, tenant: str, part: str, ours: pa.Table, theirs: pa.Table, key: Sequence[str]) -> None:
        """Compare two tables, of which the rows are known by `key`, in any order."""
        counts = self.rows.setdefault(where, {OURS: 0, THEIRS: 0})
        counts[OURS] += ours.num_rows
        counts[THEIRS] += theirs.num_rows
        found = compare(ours, theirs, key)
        self.differing += found.count
        for name, columns, only_in in found.shown(_SHOWN - len(self.first)):
            self.first.append(Difference(where, tenant, part, name, columns, only_in))


# -- two tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differing:
    """Rows of two tables that differ: those in one alone, and aligned ones with a mask of each column that differs."""

    key: tuple[str, ...]
    alone: Mapping[str, pa.Table]
    aligned: pa.Table
    masks: Mapping[str, npt.NDArray[np.bool_]]

    @property
    def count(self) -> int:
        return sum(int(table.num_rows) for table in self.alone.values()) + int(self._any().sum())

    def shown(self, most: int) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """(id, names of columns, side) of the first rows that differ."""
        for side, table in self.alone.items():
            for row in table.slice(0, max(most, 0)).to_pylist():
                yield _named(row, self.key), (), side
                most -= 1
        for at in np.flatnonzero(self._any())[: max(most, 0)].tolist():
            row = self.aligned.slice(at, 1).to_pylist()[0]
            yield _named(row, self.key), tuple(name for name, where in self.masks.items() if where[at]), ""

    def _any(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(self.aligned.num_rows, np.bool_)
        for where in self.masks.values():
            found |= where
        return found


def _named(row: Mapping[str, Any], key: Sequence[str]) -> str:
    """What a row is known by: its keyed id in hex, else its words, in which what may be a number is masked."""
    first = row[key[0]]
    return first.hex() if isinstance(first, bytes) else mask(" ".join(str(row[name]) for name in key if row[name]))


def compare(ours: pa.Table, theirs: pa.Table, key: Sequence[str]) -> Differing:
    """Compare two tables row by row; rows belong together by `key`, and where several share it, in order of the rest.

    A column that one of them lacks is null there.
    """
    ours, theirs = _alike(ours, theirs)
    ours, theirs = _ordered(ours, key), _ordered(theirs, key)
    alone = {OURS: ours.slice(0, 0), THEIRS: theirs.slice(0, 0)}
    if not ours.select(key).equals(theirs.select(key)):
        here, there = _aligned(ours, theirs, key)
        alone = {OURS: _without(ours, here), THEIRS: _without(theirs, there)}
        ours, theirs = ours.take(pa.array(here)), theirs.take(pa.array(there))
    masks = {name: _unequal(ours[name], theirs[name]) for name in ours.column_names}
    return Differing(tuple(key), alone, ours.select(key), {name: found for name, found in masks.items() if found.any()})


def _alike(ours: pa.Table, theirs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The two with the same columns, of the same types, values as themselves."""
    schema = pa.unify_schemas([_decoded(ours.schema), _decoded(theirs.schema)], promote_options="permissive")
    empty = schema.empty_table()
    made = (pa.concat_tables([empty, t.cast(_decoded(t.schema))], promote_options="permissive") for t in (ours, theirs))
    one, other = (table.select(schema.names).combine_chunks() for table in made)
    return one, other


def _decoded(schema: pa.Schema) -> pa.Schema:
    return pa.schema([f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema])


def _ordered(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Rows in order of the key; where several share it, of everything."""
    table = table.take(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in key]))
    found = table.select(key)
    same = np.ones(max(table.num_rows - 1, 0), bool)
    for name in key:
        same &= ~_unequal(found[name][1:], found[name][:-1])
    if not same.any():
        return table
    rest = [(name, "ascending") for name in table.column_names if name not in key]
    return table.take(pc.sort_indices(table, sort_keys=[*((name, "ascending") for name in key), *rest]))


def _aligned(
    ours: pa.Table, theirs: pa.Table, key: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of the rows that both have, by key and by which of those that share it."""
    size, both = ours.num_rows, pa.concat_tables([ours.select(key), theirs.select(key)]).combine_chunks()
    codes = [_codes(both[name]) for name in key]
    _, group = np.unique(np.column_stack(codes), axis=0, return_inverse=True)
    one, other = (_occurrences(part) for part in (group.ravel()[:size], group.ravel()[size:]))
    _, here, there = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    return here, there


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Small numbers that stand for the values of a column; -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    indices = pc.fill_null(encoded.indices, -1)
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)


def _occurrences(group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A number for each row that tells its group and which row of its group it is (rows are in order of the key)."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, group[order][1:] != group[order][:-1]]) if len(group) else np.zeros(0, int)
    sizes = np.diff(np.r_[starts, len(group)])
    made = np.empty(len(group), np.int64)
    made[order] = group[order] * (1 << 32) + np.arange(len(group)) - np.repeat(starts, sizes)
    return made


def _without(table: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    keep = np.ones(table.num_rows, bool)
    keep[rows] = False
    return table.filter(pa.array(keep))


def _unequal(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Row by row whether two columns differ; null equals null, and what is not a number equals what is not."""
    if pa.types.is_null(ours.type):
        return np.zeros(len(ours), bool)
    differs = pc.fill_null(pc.not_equal(ours, theirs), False)
    if pa.types.is_floating(ours.type):
        neither = pc.and_(pc.is_nan(ours), pc.is_nan(theirs))
        differs = pc.and_(differs, pc.invert(pc.fill_null(neither, False)))
    found = pc.or_(differs, pc.xor(pc.is_null(ours), pc.is_null(theirs)))
    return np.asarray(found.to_numpy(zero_copy_only=False) if len(found) else [], bool)


# -- two workspaces ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One of two workspaces: how its files are read, and its manifest as it was when the comparison began."""

    files: DataFiles
    manifest: Mapping[tuple[str, str, str], Sequence[DataFile]]  # (view, tenant, part)

    @property
    def settings(self) -> Settings:
        return self.files.workspace.settings

    @classmethod
    def of(cls, files: DataFiles) -> "Side":
        """A workspace as it is now."""
        manifest: dict[tuple[str, str, str], list[DataFile]] = {}
        with database.reading(files.workspace.settings) as connection:
            for view in (*_KEY, "suspense", "pending"):
                for file in ledger.files(connection, view=view):
                    manifest.setdefault((view, file.tenant, file.part), []).append(file)
        return cls(files, manifest)

    def rows(self, view: str, tenant: str, part: str) -> pa.Table:
        """All rows of a partition of a view, or what its index says of accepted records, save where they came from."""
        found = [self.files.rows(file) for file in self.manifest.get((view, tenant, part), [])]
        rows = pa.concat_tables(found, promote_options="permissive") if found else _nothing(_KEY[view])
        if view != INDEX or not found:
            return rows
        return rows.filter(pc.equal(rows["state"], "accepted")).drop_columns(["file_no", "block", "line"])

    def log(self, kind: str, tenant: str) -> pa.Table:
        """All rows of a tenant's sealed log."""
        logs = [self.files.read_log(file) for file in self.manifest.get((kind, tenant, kind), [])]
        return pa.concat_tables([_LOGS[kind].empty_table(), *logs])


def _nothing(key: str) -> pa.Table:
    return pa.table({key: pa.array([], pa.binary(16))})


def verify(ours: Settings, theirs: Settings) -> Comparison:
    """Compare two workspaces: views, derived tables, suspense, pending, and the ledger by source, bucket and code.

    Raises ValueError where their keys differ.
    """
    one, other = (Side.of(open_files(settings, "billing-run", "verify")) for settings in (ours, theirs))
    check_keys(one, other)
    comparison = Comparison()
    for view, tenant, part in partitions(one, other):
        compare_partition(comparison, one, other, view, tenant, part)
    for tenant in tenants(one, other):
        compare_derived(comparison, one, other, tenant)
        compare_suspense(comparison, one, other, tenant)
        comparison.add("pending", tenant, "", _pending(one, tenant), _pending(other, tenant), _PIECE)
    compare_ledger(comparison, one, other)
    return comparison


def _pending(side: Side, tenant: str) -> pa.Table:
    """Return the pieces of calls that wait or are remembered, as they stand, without the way that they came."""
    log = side.log("pending", tenant)
    return (fold(log) if log.num_rows else log).drop_columns(list(_OF_ITS_WAY))


def check_keys(ours: Side, theirs: Side) -> None:
    """Raise ValueError where the two would not give equal ids to equal records."""
    months: dict[str, set[str]] = {}
    for view, tenant, part in {*ours.manifest, *theirs.manifest}:
        months.setdefault(tenant, set()).update([part[:7]] if view in ID_COLUMN else [])
    every = {EVERY_MONTH}.union(*months.values())
    known, others = _fingerprints(ours.settings, every), _fingerprints(theirs.settings, every)
    for tenant in sorted(months):
        for name in shared_keys(tenant, sorted(months[tenant])):
            if name in known and name in others and known[name] != others[name]:
                raise ValueError(
                    f"the two workspaces have different keys ({name}): equal records have other ids in each"
                )


def _fingerprints(settings: Settings, months: set[str]) -> dict[KeyName, str]:
    with database.reading(settings) as connection:
        rows = connection.execute(select(keys).where(keys.c.month.in_(months)))
        return {name_of(row): row.fingerprint for row in rows}


def partitions(ours: Side, theirs: Side) -> list[tuple[str, str, str]]:
    """(view, tenant, call_date) of all that either has, in order."""
    return sorted(name for name in {*ours.manifest, *theirs.manifest} if name[0] in _KEY)


def tenants(ours: Side, theirs: Side) -> list[str]:
    """Tenants that either has anything of."""
    named = {tenant for _, tenant, _ in (*ours.manifest, *theirs.manifest)}
    return sorted(named | {*ours.settings.tenants, *theirs.settings.tenants})


def compare_partition(made: Comparison, ours: Side, theirs: Side, view: str, tenant: str, part: str) -> None:
    """Rows of one (view, tenant, call_date): every column, and what orders the versions of a record."""
    one, other = (side.rows(view, tenant, part) for side in (ours, theirs))
    made.add(view, tenant, part, one, other, [_KEY[view]])


def compare_suspense(made: Comparison, ours: Side, theirs: Side, tenant: str) -> None:
    """Suspended records: ids of what they hold, codes, and whether they are open."""
    one, other = (side.log("suspense", tenant).select(_SUSPENSE) for side in (ours, theirs))
    made.add("suspense", tenant, "", one, other, ["suspense_id"])


def compare_ledger(made: Comparison, ours: Side, theirs: Side) -> None:
    """Rows and talk by source, bucket and code, over all files: how records were cut into files may differ."""
    made.add("ledger", "", "", _ledger(ours.settings), _ledger(theirs.settings), _LEDGER)


def _ledger(settings: Settings) -> pa.Table:
    e = ledger_entries.c
    sums = func.sum(e.rows).label("rows"), func.sum(e.talk_ms).label("talk_ms")
    query = (
        select(input_files.c.source, e.bucket, e.code, *sums)
        .join(input_files, input_files.c.file_no == e.file_no)
        .group_by(input_files.c.source, e.bucket, e.code)
    )
    with database.reading(settings) as connection:
        rows = [(r.source, r.bucket, r.code, int(r.rows), int(r.talk_ms)) for r in connection.execute(query)]
    return _table([*_LEDGER, "rows", "talk_ms"], (row for row in rows if row[3] or row[4]))


def compare_derived(made: Comparison, ours: Side, theirs: Side, tenant: str) -> None:
    """Derived tables of a tenant, a month at a time; rows that came to nothing are as good as none."""
    one, other = (_sums(side, tenant) for side in (ours, theirs))
    for month in sorted({*one, *other}):
        nothing = account_sums.SCHEMA.empty_table()
        here, there = (side.get(month, nothing).drop_columns(["tenant"]) for side in (one, other))
        made.add(sla_account_daily.name, tenant, month, here, there, key_columns(sla_account_daily)[1:])
    for table in DERIVED:
        names = key_columns(table) + sum_columns(table)
        months = sorted({*_months(ours.settings, table, tenant), *_months(theirs.settings, table, tenant)})
        for first, last in months:
            one, other = (_derived(side.settings, table, tenant, first, last) for side in (ours, theirs))
            made.add(
                table.name, tenant, f"{first:%Y-%m}", _table(names, one), _table(names, other), key_columns(table)[1:]
            )


def _sums(side: Side, tenant: str) -> dict[str, pa.Table]:
    """Sums by account, by the month of their call date (YYYY-MM)."""
    rows = account_sums.read(side.settings, side.files.workspace.keyring, sla_sums.c.tenant == tenant)
    months = pc.strftime(rows["call_date"], "%Y-%m")
    return {month: rows.filter(pc.equal(months, month)) for month in pc.unique(months).to_pylist()}


def _months(settings: Settings, table: Any, tenant: str) -> Iterator[tuple[Any, Any]]:
    """First and last day of each month that a derived table may have rows of."""
    column = day_column(table)
    query = select(func.min(column), func.max(column)).where(table.c.tenant == tenant)
    with database.reading(settings) as connection:
        low, high = connection.execute(query).one()
    if low is None:
        return
    months = np.arange(np.datetime64(low, "M"), np.datetime64(high, "M") + 1)
    for month in months:
        yield month.astype("datetime64[D]").item(), ((month + 1).astype("datetime64[D]") - 1).item()


def _derived(settings: Settings, table: Any, tenant: str, first: Any, last: Any) -> list[Sequence[Any]]:
    with database.reading(settings) as connection:
        found = derived_of(connection, table, tenant, first, last)
    size = len(key_columns(table))
    return [row for rows in found.values() for row in rows if any(row[size:])]


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(columns or [[] for _ in names], names=list(names))
