"""The ledger and the manifest: what each run read, wrote and set aside, and which data files count.

A commit is one transaction: it says which partition versions it read, and is refused when another commit came first;
it checks that every input file balances; then files, derived tables and entries count together, or none does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    Text,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from callward import database, runs
from callward.columns import few, has_value, map_distinct
from callward.errors import Problem
from callward.failpoints import point
from callward.keys.register import Keyring
from callward.lake import account_sums
from callward.lake.account_sums import Sealed
from callward.lake.additive import sum_derived
from callward.lake.shares import RECORDS
from callward.settings import Settings
from schemas.codes import Bucket
from schemas.retention import lake_file_inputs, row_ends
from schemas.streaming import block_slices
from schemas.tables import (
    DERIVED,
    blocks,
    input_files,
    key_columns,
    keys,
    lake_files,
    ledger_entries,
    partitions,
    sla_account_daily,
    source_shares,
    sum_columns,
)

IN = "in"  # what was read; the other buckets must add up to it
PAIRED = "paired"  # talk that pairing computed: a figure of its own
PENDING, SUSPENSE = "pending", "suspense"

SliceKey = tuple[int, int, int]  # (file_no, block, slice)

ENTRIES = pa.schema(
    [
        ("file_no", pa.int64()),
        ("bucket", pa.string()),
        ("code", pa.string()),
        ("rows", pa.int64()),
        ("talk_ms", pa.int64()),
    ]
)
BLOCKS = pa.schema(
    [
        ("file_no", pa.int64()),
        ("block", pa.int32()),
        ("records", pa.int64()),
        ("digest", pa.string()),
        ("archive_file", pa.string()),
        ("archive_first", pa.int64()),
    ]
)


ENDS = pa.schema([("view", pa.string()), ("file_no", pa.int64()), ("end", pa.string()), ("rows", pa.int64())])
NEVER_WRITTEN = "expired"  # the end of a row that a view never got: its window was past when the row came


class CommitConflict(Exception):
    """Another commit changed a partition that this one had read: settle anew."""


class Unbalanced(Problem):
    """A file's records do not add up: a defect, so nothing is committed."""

    code = "unbalanced"


@dataclass(frozen=True)
class DataFile:
    """One data file of the lake as the manifest names it."""

    file_id: str
    view: str
    tenant: str
    part: str  # call_date, "pending" or "suspense"; for the archive the date it came in
    path: str  # below the lake's root
    rows: int
    bytes: int
    sha256: str
    first_start: datetime | None = None
    last_start: datetime | None = None
    shard_bits: int = 0
    shard: int = 0
    format_version: int = 1
    received_on: date | None = None  # when its rows came in; a file written anew keeps it
    key_ids: str = ""  # of the month keys it is under, with spaces between
    numbers: bool = False  # whether it still has its number columns
    closed: bool = False  # of a part of assurance: made anew when its date closed
    parts: int = 0  # of the row index: sum of VIEW_BITS of the views that it still says anything of
    inputs: Mapping[int, int] = field(
        default_factory=dict, compare=False
    )  # rows by input file; only where the file is made

    def overlaps(self, bits: int, shard: int) -> bool:
        """Return whether a shard of `bits` bits may share calls with this file."""
        common = min(bits, self.shard_bits)
        return shard >> (bits - common) == self.shard >> (self.shard_bits - common)


@dataclass(frozen=True)
class Slice:
    """A part of a stream's block that is committed by itself: its bucket, of how many, and its records."""

    file_no: int
    block: int
    number: int
    of: int
    rows: int

    @property
    def key(self) -> SliceKey:
        return self.file_no, self.block, self.number


@dataclass
class Changes:
    """What a piece of work wants committed. Outcomes of one wave are merged and committed together."""

    files: list[DataFile] = field(default_factory=list)
    superseded: dict[str, tuple[str, str]] = field(default_factory=dict)  # file_id: its (tenant, part)
    read: dict[tuple[str, str], int] = field(default_factory=dict)
    entries: list[pa.Table] = field(default_factory=list)
    derived: dict[str, list[pa.Table]] = field(default_factory=dict)
    sums: Sealed | None = None  # what `derived` says of accounts, sealed: the last that is done before the commit
    blocks: list[pa.Table] = field(default_factory=list)
    ends: list[pa.Table] = field(default_factory=list)  # rows that a view does not keep (shape ENDS)
    changed: set[int] = field(default_factory=set)  # files that changed or vanished while they were read
    faults: Counter[int] = field(default_factory=Counter)  # records that could not be taken as they came, by file
    set_aside: set[int] = field(default_factory=set)  # files that are over their error threshold
    shares: Counter[tuple[str, str]] = field(default_factory=Counter)  # records by (source, what they lack)
    slices: list[Slice] = field(default_factory=list)  # of a stream: a block is complete with the last of its slices

    @classmethod
    def merge(cls, outcomes: Iterable["Changes"]) -> "Changes":
        """Put together; raises CommitConflict when two of them read different versions of a partition."""
        merged = cls()
        for outcome in outcomes:
            merged.files += outcome.files
            merged.superseded |= outcome.superseded
            merged.entries += outcome.entries
            merged.blocks += outcome.blocks
            merged.ends += outcome.ends
            merged.changed |= outcome.changed
            merged.faults += outcome.faults
            merged.set_aside |= outcome.set_aside
            merged.shares += outcome.shares
            merged.slices += outcome.slices
            for name, tables in outcome.derived.items():
                merged.derived.setdefault(name, []).extend(tables)
            for part, version in outcome.read.items():
                if merged.read.setdefault(part, version) != version:
                    raise CommitConflict
        return merged


def entries(table: pa.Table, bucket: str, code: pa.Array | pa.ChunkedArray | str = "") -> list[pa.Table]:
    """Return ledger entries (shape ENTRIES) that put `table`'s records into a bucket, by file.

    `table` has the lineage columns. A record that was in another bucket is taken out of it, and talk that became
    known only now (a corrected record) is added to what was read.
    """
    code = pa.repeat(code, table.num_rows) if isinstance(code, str) else code
    carried, before = pc.fill_null(table["carried_ms"], 0), pc.fill_null(table["was_ms"], 0)
    known = pc.subtract(carried, before)
    counted = (
        pa.table(
            {
                "file_no": table["file_no"],
                "code": code,
                "was": few(table["was"]),
                "talk": carried,
                "before": before,
                "known": known,
            }
        )
        .group_by(["file_no", "code", "was"], use_threads=False)
        .aggregate([("talk", "sum"), ("before", "sum"), ("known", "sum"), ([], "count_all")])
    )
    rows = _entry_table(counted["file_no"], bucket, counted["code"], counted["count_all"], counted["talk_sum"])
    old = counted.filter(pc.not_equal(counted["was"], ""))
    if not old.num_rows:
        return [rows]
    was_bucket = map_distinct(old["was"], lambda was: was if was in _BUCKETS else Bucket.SUSPENDED, pa.string())
    was_code = map_distinct(old["was"], lambda was: "" if was in _BUCKETS else was, pa.string())
    return [
        rows,
        _entry_table(old["file_no"], was_bucket, was_code, pc.negate(old["count_all"]), pc.negate(old["before_sum"])),
        _entry_table(old["file_no"], IN, "", pa.repeat(0, old.num_rows), old["known_sum"]),
    ]


_BUCKETS = frozenset(map(str, Bucket))


def ends(file_no: pa.ChunkedArray, view: str, end: str) -> pa.Table:
    """Return rows that a view does not keep, by input file (shape ENDS)."""
    counts = pc.value_counts(file_no)
    n = len(counts)
    return pa.table(
        [pa.repeat(view, n), counts.field("values"), pa.repeat(end, n), counts.field("counts")], schema=ENDS
    )


def read_entries(table: pa.Table) -> pa.Table:
    """Return entries for records just read: what the buckets must add up to.

    Records put through again were counted before.
    """
    table = table.select(["file_no", "carried_ms", "was"])
    table = table.filter(has_value(table["was"], ""))
    counted = table.group_by("file_no", use_threads=False).aggregate([("carried_ms", "sum"), ([], "count_all")])
    return _entry_table(counted["file_no"], IN, "", counted["count_all"], pc.fill_null(counted["carried_ms_sum"], 0))


def computed_talk_entries(table: pa.Table) -> pa.Table:
    """Return entries for talk that pairing computed (`table`: file_no, talk_ms)."""
    counted = table.group_by("file_no", use_threads=False).aggregate([("talk_ms", "sum")])
    return _entry_table(
        counted["file_no"], PAIRED, "", pa.repeat(0, counted.num_rows), pc.fill_null(counted["talk_ms_sum"], 0)
    )


def negated(table: pa.Table) -> pa.Table:
    """Return entries with their sign turned: what takes them back."""
    for name in ("rows", "talk_ms"):
        table = table.set_column(table.schema.get_field_index(name), name, pc.negate(table[name]))
    return table


def _entry_table(file_no: Any, bucket: Any, code: Any, rows: Any, talk_ms: Any) -> pa.Table:
    constant = {1: bucket, 2: code}
    columns = [file_no, bucket, code, rows, talk_ms]
    for position, value in constant.items():
        if isinstance(value, str):
            columns[position] = pa.repeat(str(value), len(file_no))
    return pa.table(columns, schema=ENTRIES)


def sum_entries(tables: Sequence[pa.Table]) -> pa.Table:
    """Return entries of many parts added up by file, bucket and code."""
    table = pa.concat_tables([ENTRIES.empty_table(), *tables])
    summed = table.group_by(["file_no", "bucket", "code"], use_threads=False).aggregate(
        [("rows", "sum"), ("talk_ms", "sum")]
    )
    return pa.table(
        [summed["file_no"], summed["bucket"], summed["code"], summed["rows_sum"], summed["talk_ms_sum"]], schema=ENTRIES
    )


def check_balance(table: pa.Table) -> None:
    """Check promise 1: per file, rows in = all buckets, and talk likewise. Raises Unbalanced."""
    for figure in ("rows", "talk_ms"):
        sums: dict[int, int] = defaultdict(int)
        for file_no, bucket, amount in zip(
            table["file_no"].to_pylist(), table["bucket"].to_pylist(), table[figure].to_pylist(), strict=True
        ):
            if bucket != PAIRED:
                sums[file_no] += -amount if bucket == IN else amount
        wrong = {file_no: amount for file_no, amount in sums.items() if amount}
        if wrong:
            file_no, amount = next(iter(wrong.items()))
            raise Unbalanced(
                f"file {file_no} does not balance: {amount:+d} {figure} against what was read; nothing was committed"
            )


def versions(connection: Connection, tenant: str, parts: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return versions of partitions; 0 for one that does not exist yet."""
    known = {
        row.part: row.version
        for row in connection.execute(
            select(partitions).where(partitions.c.tenant == tenant, partitions.c.part.in_(parts))
        )
    }
    return {(tenant, part): known.get(part, 0) for part in parts}


def files(
    connection: Connection,
    *,
    view: str | None = None,
    tenant: str | None = None,
    parts: Sequence[str] | None = None,
    file_id: str | None = None,
    where: ColumnElement[bool] | None = None,
) -> list[DataFile]:
    """Return data files that count, by view, tenant, partition or id, and by any other condition on them."""
    columns = (lake_files.c[name] for name in _MANIFEST)
    query = select(*columns).where(lake_files.c.superseded_at.is_(None)).order_by(lake_files.c.file_id)
    if view is not None:
        query = query.where(lake_files.c.view == view)
    if tenant is not None:
        query = query.where(lake_files.c.tenant == tenant)
    if file_id is not None:
        query = query.where(lake_files.c.file_id == file_id)
    if parts is not None:
        query = query.where(lake_files.c.part.in_(parts))
    if where is not None:
        query = query.where(where)
    return [DataFile(*row) for row in connection.execute(query)]


_MANIFEST: Final = tuple(name for name in DataFile.__dataclass_fields__ if name != "inputs")  # columns of lake_files


def data_file(row: Row[Any]) -> DataFile:
    """Return a row of lake_files as a data file."""
    return DataFile(*(getattr(row, name) for name in _MANIFEST))


def commit(connection: Connection, run_id: str, wave: int, outcome: Changes) -> pa.Table:
    """Commit a wave within a writing transaction; returns its summed entries.

    Its sums by account are sealed (`with_sealed_sums`). Raises CommitConflict (a partition changed, or the sums of a
    day), Unbalanced, or Problem (the lease was lost).
    """
    assert outcome.sums is not None or sla_account_daily.name not in outcome.derived, "sums by account in the clear"
    point("commit-begun")
    runs.renew(connection, run_id)
    summed = sum_entries(outcome.entries)
    check_balance(summed)
    for (tenant, part), version in outcome.read.items():
        if versions(connection, tenant, [part])[tenant, part] != version:
            raise CommitConflict
    swap_files(connection, run_id, outcome)
    _raise_versions(connection, outcome)
    _add_derived(connection, outcome.derived)
    if outcome.sums is not None and not account_sums.put(connection, outcome.sums):
        raise CommitConflict
    point("commit-half")
    if summed.num_rows:
        nonzero = summed.filter(pc.or_(pc.not_equal(summed["rows"], 0), pc.not_equal(summed["talk_ms"], 0)))
        if nonzero.num_rows:
            connection.execute(
                insert(ledger_entries), [{"run_id": run_id, "wave": wave, **row} for row in nonzero.to_pylist()]
            )
    if outcome.slices:
        _note_blocks(connection, outcome.blocks)
        _close_slices(connection, run_id, outcome.slices)
    else:
        _close_blocks(connection, run_id, outcome.blocks)
    for file_nos in database.batches(sorted(outcome.set_aside)):
        connection.execute(update(input_files).where(input_files.c.file_no.in_(file_nos)).values(set_aside=True))
    add_ends(connection, run_id, outcome.ends)
    add_shares(connection, run_id, outcome.shares + _records(connection, summed))
    point("commit-ready")
    return summed


def with_sealed_sums(outcome: Changes, settings: Settings, keyring: Keyring) -> Changes:
    """Return changes ready to be committed: their sums by account sealed, as they would be if they counted now."""
    parts = outcome.derived.get(sla_account_daily.name)
    if not parts:
        return outcome
    added = sum_derived(sla_account_daily, parts)
    return replace(outcome, sums=account_sums.sealed(settings, keyring, added))


class Counted(NamedTuple):
    """What records are counted by."""

    source: str
    bucket: str
    code: str


def counted(connection: Connection, summed: pa.Table) -> Counter[Counted]:
    """Return how many records a commit put into each bucket (`summed`: shape ENTRIES).

    Rows that a commit takes out of a bucket again (a piece that waited, a code that was fixed) are not taken off:
    counters say what was done, and only grow.
    """
    source_of = _sources_of(connection, summed["file_no"].unique().to_pylist())
    counts: Counter[Counted] = Counter()
    for entry in summed.to_pylist():
        if entry["rows"] > 0:
            counts[Counted(source_of[entry["file_no"]], entry["bucket"], entry["code"])] += entry["rows"]
    return counts


def _sources_of(connection: Connection, file_nos: list[int]) -> dict[int, str]:
    sources: dict[int, str] = {}
    for numbers in database.batches(file_nos):
        query = select(input_files.c.file_no, input_files.c.source).where(input_files.c.file_no.in_(numbers))
        sources.update((row.file_no, row.source) for row in connection.execute(query))
    return sources


def add_files(connection: Connection, run_id: str, made: Sequence[DataFile], at: datetime) -> None:
    """Name data files in the manifest. Raises CommitConflict when one is under a key that was destroyed meanwhile."""
    if not made:
        return
    used = sorted({key_id for file in made for key_id in file.key_ids.split()})
    for key_ids in database.batches(used):
        alive = select(func.count()).select_from(keys).where(keys.c.key_id.in_(key_ids), keys.c.state != "destroyed")
        if connection.execute(alive).scalar() != len(key_ids):
            raise CommitConflict
    names = DataFile.__dataclass_fields__.keys() - {"inputs"}
    rows = [{name: getattr(f, name) for name in names} for f in made]
    common = {"run_id": run_id, "committed_at": at}
    connection.execute(
        insert(lake_files), [{**row, "received_on": row["received_on"] or at.date(), **common} for row in rows]
    )
    inputs = [
        {"file_id": f.file_id, "file_no": file_no, "rows": count} for f in made for file_no, count in f.inputs.items()
    ]
    if inputs:
        connection.execute(insert(lake_file_inputs), inputs)


def inputs(connection: Connection, file_ids: Iterable[str]) -> Counter[int]:
    """Return how many rows of some data files, together, came from each input file."""
    i, counts = lake_file_inputs.c, Counter[int]()
    for batch in database.batches(file_ids):
        for row in connection.execute(select(i.file_no, i.rows).where(i.file_id.in_(batch))):
            counts[row.file_no] += int(row.rows)
    return counts


def swap_files(connection: Connection, run_id: str, outcome: Changes) -> None:
    """Name an outcome's data files and let those that they supersede count no more; no version is raised.

    Raises CommitConflict when one of these does not count any more, or a key was destroyed.
    """
    at = database.now()
    add_files(connection, run_id, outcome.files, at)
    supersede_files(connection, run_id, sorted(outcome.superseded), at)


def supersede_files(connection: Connection, run_id: str, file_ids: Sequence[str], at: datetime) -> None:
    """Let data files count no more from now on. Raises CommitConflict when one of them does not count any more."""
    f = lake_files.c
    for batch in database.batches(file_ids):
        counting = update(lake_files).where(f.file_id.in_(batch), f.superseded_at.is_(None))
        if connection.execute(counting.values(superseded_at=at, superseded_by=run_id)).rowcount != len(batch):
            raise CommitConflict


def note_removed(connection: Connection, file_ids: Iterable[str]) -> None:
    """Note data files as removed from the disk; the register keeps what they were."""
    f = lake_files.c
    for batch in database.batches(file_ids):
        on_disk = update(lake_files).where(f.file_id.in_(batch), f.removed_at.is_(None))
        connection.execute(on_disk.values(removed_at=database.now()))


def _raise_versions(connection: Connection, outcome: Changes) -> None:
    changed = {(f.tenant, f.part) for f in outcome.files if f.view != "archive"} | set(outcome.superseded.values())
    raise_versions(connection, changed)


def raise_versions(connection: Connection, changed: Iterable[tuple[str, str]]) -> None:
    """Raise the versions of partitions (tenant, part): they are no longer as anyone has read them."""
    for tenant, part in sorted(changed):
        statement = _dialect(connection).insert(partitions).values(tenant=tenant, part=part, version=1)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant", "part"], set_={"version": partitions.c.version + 1}
            )
        )


def _records(connection: Connection, summed: pa.Table) -> Counter[tuple[str, str]]:
    """Return how many records came in, by source (`summed`: shape ENTRIES)."""
    read = summed.filter(pc.equal(summed["bucket"], IN)).select(["file_no", "rows"])
    source_of = _sources_of(connection, read["file_no"].to_pylist())
    records: Counter[tuple[str, str]] = Counter()
    for file_no, rows in zip(read["file_no"].to_pylist(), read["rows"].to_pylist(), strict=True):
        if file_no in source_of:
            records[source_of[file_no], RECORDS] += rows
    return records


def add_shares(connection: Connection, run_id: str, shares: Mapping[tuple[str, str], int]) -> None:
    """Add to what a run counted of (source, measure) today."""
    if not shares:
        return
    statement = _dialect(connection).insert(source_shares)
    more = {"rows": source_shares.c.rows + statement.excluded.rows}
    common = {"run_id": run_id, "day": database.now().date()}
    connection.execute(
        statement.on_conflict_do_update(index_elements=key_columns(source_shares), set_=more),
        [{**common, "source": name, "measure": what, "rows": rows} for (name, what), rows in sorted(shares.items())],
    )


def _dialect(connection: Connection) -> Any:
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def _add_derived(connection: Connection, derived: Mapping[str, Sequence[pa.Table]]) -> None:
    for table in DERIVED:
        if not derived.get(table.name):
            continue
        summed = sum_derived(table, derived[table.name])
        if not summed.num_rows:
            continue
        statement = _insert_columns(connection, table, summed.column_names)
        added = {name: table.c[name] + statement.excluded[name] for name in sum_columns(table)}
        upsert = statement.on_conflict_do_update(index_elements=key_columns(table), set_=added)
        _execute_columns(connection, upsert, table, summed)
        less = reduce(pc.or_, (pc.less(summed[name], 0) for name in sum_columns(table)))
        _drop_empty(connection, table, summed.filter(less).to_pylist())


def _insert_columns(connection: Connection, table: Table, names: Sequence[str]) -> Any:
    """Return the statement by which `_execute_columns` puts rows of those columns in."""
    statement = _dialect(connection).insert(table)
    if connection.dialect.name != "postgresql":
        return statement
    kinds = [Text() if isinstance(table.c[name].type, String) else table.c[name].type for name in names]
    arrays = [bindparam(f"all_{name}", type_=postgresql.ARRAY(kind)) for name, kind in zip(names, kinds, strict=True)]
    rows = func.unnest(*arrays).table_valued(*map(column, names, kinds)).render_derived()
    return statement.from_select(names, select(rows))


def _execute_columns(connection: Connection, statement: Any, table: Table, rows: pa.Table) -> None:
    """Execute a statement of `_insert_columns` for many rows (columns of `table`).

    SQLAlchemy would go through them one by one. PostgreSQL takes a column as an array; SQLite rows as they are, with
    times in its own form.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(statement, {f"all_{name}": rows[name].to_pylist() for name in rows.column_names})
        return
    compiled = statement.compile(
        dialect=connection.dialect,
        column_keys=rows.column_names,
        schema_translate_map=connection.get_execution_options().get("schema_translate_map"),
        render_schema_translate=True,
    )
    columns = (_as_stored(connection, table.c[name], rows[name]) for name in compiled.positiontup)
    connection.exec_driver_sql(compiled.string, list(zip(*columns, strict=True)))


def _as_stored(connection: Connection, column: Any, values: pa.ChunkedArray) -> list[Any]:
    """Return values as the database's driver takes them; each different one is made once."""
    stored = column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    distinct = values.combine_chunks().dictionary_encode("encode")
    known = [stored(value) if stored else value for value in distinct.dictionary.to_pylist()]
    return [known[at] for at in distinct.indices.to_pylist()]


def _drop_empty(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Delete those of some derived rows that came to nothing: their keys alone would name an account and its day.

    One that a purge took already may come to less, where a record of it changes later.
    """
    if not rows:
        return
    keys = [{f"key_{name}": row[name] for name in key_columns(table)} for row in rows]
    these = [table.c[name] == bindparam(f"key_{name}") for name in key_columns(table)]
    connection.execute(delete(table).where(*these, *(table.c[name] <= 0 for name in sum_columns(table))), keys)


def add_ends(connection: Connection, run_id: str, tables: Sequence[pa.Table]) -> None:
    """Count rows that a view does not keep, under the run or disposal that says so."""
    if not tables:
        return
    summed = (
        pa.concat_tables(tables).group_by(["view", "file_no", "end"], use_threads=False).aggregate([("rows", "sum")])
    )
    rows = [{"disposal_id": run_id, **row} for row in summed.rename_columns({"rows_sum": "rows"}).to_pylist()]
    statement = _dialect(connection).insert(row_ends)
    more = {"rows": row_ends.c.rows + statement.excluded.rows}
    keys_of = [column.name for column in row_ends.primary_key.columns]
    connection.execute(statement.on_conflict_do_update(index_elements=keys_of, set_=more), rows)


def _close_blocks(connection: Connection, run_id: str, tables: Sequence[pa.Table]) -> None:
    if not tables:
        return
    rows = [{f"b_{k}": v for k, v in row.items()} for row in pa.concat_tables(tables).to_pylist()]
    statement = (
        update(blocks)
        .where(
            blocks.c.file_no == bindparam("b_file_no"),
            blocks.c.block == bindparam("b_block"),
            blocks.c.committed_by.is_(None),
        )
        .values(
            committed_by=run_id,
            records=bindparam("b_records"),
            digest=bindparam("b_digest"),
            archive_file=bindparam("b_archive_file"),
            archive_first=bindparam("b_archive_first"),
        )
    )
    for row in rows:
        if connection.execute(statement, row).rowcount != 1:
            raise CommitConflict  # another run committed this block


def _note_blocks(connection: Connection, tables: Sequence[pa.Table]) -> None:
    """Note what is known of a stream's blocks when they are read: how many records, and where they are archived."""
    statement = (
        update(blocks)
        .where(blocks.c.file_no == bindparam("b_file_no"), blocks.c.block == bindparam("b_block"))
        .values(
            records=bindparam("b_records"),
            digest=bindparam("b_digest"),
            archive_file=bindparam("b_archive_file"),
            archive_first=bindparam("b_archive_first"),
        )
    )
    rows = [{f"b_{k}": v for k, v in row.items()} for table in tables for row in table.to_pylist()]
    if rows:
        connection.execute(statement, rows)


def _close_slices(connection: Connection, run_id: str, slices: Sequence[Slice]) -> None:
    """Note slices as committed; raises CommitConflict when one was already. A block with all of them is complete."""
    if committed_slices(connection, {part.key for part in slices}):
        raise CommitConflict
    at = database.now()
    rows = [
        {"file_no": s.file_no, "block": s.block, "slice": s.number, "run_id": run_id, "rows": s.rows} for s in slices
    ]
    connection.execute(insert(block_slices).values(committed_at=at), rows)
    wanted = {(s.file_no, s.block): s.of for s in slices}
    there = Counter(key[:2] for key in _noted_slices(connection, wanted))
    counted = update(blocks).where(blocks.c.file_no == bindparam("b_file_no"), blocks.c.block == bindparam("b_block"))
    keys_of = [{"b_file_no": file_no, "b_block": block, "b_of": of} for (file_no, block), of in wanted.items()]
    connection.execute(counted.values(slices=bindparam("b_of")), keys_of)
    whole = [key for key in keys_of if there[key["b_file_no"], key["b_block"]] == key["b_of"]]
    if whole:
        complete = [{"b_file_no": key["b_file_no"], "b_block": key["b_block"]} for key in whole]
        connection.execute(counted.values(committed_by=run_id), complete)


def committed_slices(connection: Connection, asked: Set[SliceKey]) -> set[SliceKey]:
    """Return those of some slices that are committed.

    Of a complete block all are: forget_slices drops what was noted.
    """
    of = {key[:2] for key in asked}
    noted, whole = _noted_slices(connection, of), _complete_blocks(connection, of)
    return {key for key in asked if key in noted or key[:2] in whole}


def _noted_slices(connection: Connection, of: Iterable[tuple[int, int]]) -> set[SliceKey]:
    s = block_slices.c
    query = select(s.file_no, s.block, s.slice)
    return {(row.file_no, row.block, row.slice) for row in _of_blocks(connection, query, block_slices, of)}


def _complete_blocks(connection: Connection, of: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    b = blocks.c
    query = select(b.file_no, b.block).where(b.committed_by.is_not(None))
    return {(row.file_no, row.block) for row in _of_blocks(connection, query, blocks, of)}


def _of_blocks(
    connection: Connection, query: Select[Any], table: Table, of: Iterable[tuple[int, int]]
) -> Iterator[Row[Any]]:
    """Yield rows of a query over a table that are of some blocks."""
    for batch in database.batches(sorted(of)):
        yield from connection.execute(query.where(tuple_(table.c.file_no, table.c.block).in_(batch)))


def forget_slices(connection: Connection, before: datetime) -> int:
    """Drop what is known of slices that were committed before a moment and whose blocks are complete; how many."""
    s, b = block_slices.c, blocks.c
    whole = select(b.block).where(b.file_no == s.file_no, b.block == s.block, b.committed_by.is_not(None)).exists()
    return connection.execute(delete(block_slices).where(s.committed_at < before, whole)).rowcount


def balances(connection: Connection, file_nos: Sequence[int] | None = None) -> dict[int, dict[str, dict[str, int]]]:
    """Return per file the rows and talk_ms of every bucket, over all nights: {file_no: {bucket: {rows, talk_ms}}}."""
    e = ledger_entries.c
    sums = func.sum(e.rows).label("rows"), func.sum(e.talk_ms).label("talk_ms")
    query = select(e.file_no, e.bucket, *sums).group_by(e.file_no, e.bucket)
    queries = [query]
    if file_nos is not None:
        queries = [query.where(e.file_no.in_(batch)) for batch in database.batches(file_nos)]
    result: dict[int, dict[str, dict[str, int]]] = defaultdict(dict)
    for part in queries:
        for row in connection.execute(part):
            result[row.file_no][row.bucket] = {"rows": int(row.rows), "talk_ms": int(row.talk_ms)}
    return result


def to_datetime(milliseconds: int | None) -> datetime | None:
    """Return milliseconds since 1970 as the naive UTC that the database stores; None for none."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
