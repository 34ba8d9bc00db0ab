"""The phases of a purge in the database: each is one transaction, so a kill falls before it or after it.

planned → approved → tombstoned → destroying → done or partial. Up to `tombstoned` nothing has changed for anyone; there
old data files no longer count (reads refuse them) but lie where they lay. A hold that comes before `destroying` wins:
everything counts again. From `destroying` on there is no way back, only on.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, func, insert, literal, select, update

from callward import audit, database, runs
from callward.failpoints import point
from callward.lake import ledger
from callward.lake.data_files import HELD
from callward.lake.ledger import ENDS, CommitConflict, DataFile
from callward.retention import holds
from callward.retention.purge.due_files import BY_TRUNK, FROZEN, GONE, KEEP, OPEN, USAGE, PlanItem
from callward.retention.purge.plan import Plan
from callward.settings import Settings
from schemas.retention import frozen_derived, lake_file_inputs, purge_items, purges, requests, row_ends
from schemas.tables import DERIVED, key_columns, lake_files, ledger_entries, sum_columns

ROLE: Final = "retention-run"
PLANNED, APPROVED, TOMBSTONED, DESTROYING = "planned", "approved", "tombstoned", "destroying"
DONE, PARTIAL, ABANDONED = "done", "partial", "abandoned"
_UNDER_WAY: Final = (TOMBSTONED, DESTROYING)
TABLES: Final = {table.name: table for table in DERIVED}
_NOT_PARTITIONS: Final = ("archive",)  # of these nobody reads a version


@dataclass(frozen=True)
class Written:
    """What a plan's batch wrote: data files by the id of the one whose place they take, and what sealed logs note."""

    files: Mapping[str, Sequence[DataFile]] = field(default_factory=dict)
    entries: Sequence[Mapping[str, Any]] = ()  # rows of ledger.ENTRIES
    ends: Sequence[Mapping[str, Any]] = ()  # rows of ledger.ENDS


@dataclass(frozen=True)
class Purge:
    """A purge as the register has it."""

    purge_id: str
    run_id: str  # that wrote its files; another one may finish it
    as_of: date
    status: str
    digest: str
    approved_by: str | None
    facts: dict[str, Any]  # Plan.told, as read back

    @property
    def key_ids(self) -> list[str]:
        """Keys that it destroys."""
        return [*(key_id for key_id, _ in self.facts["keys"]), *self.facts["litter"]]


def _purge(row: Row[Any]) -> Purge:
    facts = json.loads(row.plan)
    return Purge(row.purge_id, row.run_id, row.as_of, row.status, row.plan_digest, row.approved_by, facts)


def found(connection: Connection, purge_id: str) -> Purge | None:
    """A purge by its id."""
    row = connection.execute(select(purges).where(purges.c.purge_id == purge_id)).first()
    return _purge(row) if row is not None and row.status != "forecast" else None


def under_way(connection: Connection) -> list[Purge]:
    """Purges that were begun and not ended, oldest first: nobody is at work on them while we hold the lease."""
    query = select(purges).where(purges.c.status.in_(_UNDER_WAY)).order_by(purges.c.created_at)
    return [_purge(row) for row in connection.execute(query)]


# -- before anything counts --------------------------------------------------------------------------------------------


def plan(settings: Settings, made: Plan, run_id: str) -> str:
    """Register a plan that waits for a person; the same plan keeps its id. Older plans that wait are abandoned."""
    with database.writing(settings) as connection:
        waiting = connection.execute(select(purges).where(purges.c.status == PLANNED)).all()
        same = [row.purge_id for row in waiting if row.plan_digest == made.digest]
        others = [row.purge_id for row in waiting if row.plan_digest != made.digest]
        for purge_id in others:
            _set(connection, purge_id, status=ABANDONED, finished_at=database.now())
        if same:
            return str(same[0])
        purge_id = runs.new_id()
        _insert(connection, purge_id, made, run_id, PLANNED)
        _audit(connection, "purge-planned", purge_id, made.digest, f"as of {made.as_of}")
        return purge_id


def approve(settings: Settings, made: Plan, run_id: str, purge_id: str, by: str | None) -> None:
    """Let a plan go ahead: `by` a person, or None where the policies of two people let it run by itself."""
    with database.writing(settings) as connection:
        _set(connection, purge_id, status=APPROVED, approved_by=by, run_id=run_id, plan=made.told())
        connection.execute(delete(purge_items).where(purge_items.c.purge_id == purge_id))
        listed = [_item_row(purge_id, number, item) for number, item in enumerate(made.items)]
        if listed:
            connection.execute(insert(purge_items), listed)
        _audit(connection, "purge-begun", purge_id, made.digest, f"as of {made.as_of}, approved by {by or 'policy'}")
    point("purge-approved")


def abandon_unfinished(settings: Settings) -> None:
    """Purges that were killed, or refused, before anything counted: their files are orphans of their run."""
    with database.writing(settings) as connection:
        for purge_id in (
            connection.execute(select(purges.c.purge_id).where(purges.c.status == APPROVED)).scalars().all()
        ):
            _abandon(connection, purge_id)


def _abandon(connection: Connection, purge_id: str) -> None:
    _set(connection, purge_id, status=ABANDONED, finished_at=database.now())
    connection.execute(update(purge_items).where(purge_items.c.purge_id == purge_id).values(state="kept"))


def _insert(connection: Connection, purge_id: str, made: Plan, run_id: str, status: str) -> None:
    values = {"plan_digest": made.digest, "plan": made.told(), "started_by": audit.who(), "created_at": database.now()}
    connection.execute(
        insert(purges).values(purge_id=purge_id, as_of=made.as_of, status=status, run_id=run_id, **values)
    )


def _item_row(purge_id: str, number: int, item: PlanItem) -> dict[str, Any]:
    return {
        "purge_id": purge_id,
        "item": number,
        "retention_class": item.retention_class,
        "action": item.action,
        "tenant": item.file.tenant,
        "view": item.file.view,
        "part": item.file.part,
        "file_id": item.file.file_id,
        "rows": item.rows,
        "held": item.held,
        "state": "kept" if item.action == KEEP else "planned",
    }


def _set(connection: Connection, purge_id: str, **values: Any) -> None:
    connection.execute(update(purges).where(purges.c.purge_id == purge_id).values(**values))


def _audit(connection: Connection, event: str, purge_id: str, digest: str, reason: str) -> None:
    audit.append(connection, [audit.Entry(ROLE, event, f"{purge_id} {digest}", reason)])


# -- first phase: tombstones -------------------------------------------------------------------------------------------


def tombstone(settings: Settings, made: Plan, run_id: str, purge_id: str, written: Written) -> None:
    """Old data files count no more, and what was written counts: all at once.

    Raises CommitConflict when a hold, or a partition of the plan, is not as it was planned with.
    """
    at = database.now()
    point("purge-prepared")
    with database.writing(settings) as connection:
        runs.renew(connection, run_id)
        _check_as_planned(connection, made)
        old = [item.file for item in made.doing]
        _supersede(connection, [file.file_id for file in old], run_id, at)
        new = [file for files in written.files.values() for file in files]
        ledger.add_files(connection, run_id, new, at)
        _same_inputs(connection, written)
        ledger.raise_versions(connection, {(f.tenant, f.part) for f in [*old, *new] if f.view not in _NOT_PARTITIONS})
        point("purge-half-tombstoned")
        _count_ends(connection, made, purge_id, written)
        _note_entries(connection, run_id, written.entries)
        connection.execute(
            update(purge_items)
            .where(purge_items.c.purge_id == purge_id, purge_items.c.state == "planned")
            .values(state=TOMBSTONED)
        )
        _set(connection, purge_id, status=TOMBSTONED)
    point("purge-tombstoned")


def _check_as_planned(connection: Connection, made: Plan) -> None:
    if holds.fingerprint(connection) != made.fingerprint:
        raise CommitConflict
    by_tenant: dict[str, list[str]] = defaultdict(list)
    for tenant, part in made.versions:
        by_tenant[tenant].append(part)
    for tenant, parts in by_tenant.items():
        for some in database.batches(sorted(parts)):
            for key, version in ledger.versions(connection, tenant, some).items():
                if made.versions[key] != version:
                    raise CommitConflict


def _supersede(connection: Connection, file_ids: Sequence[str], run_id: str, at: datetime) -> None:
    for some in database.batches(file_ids):
        gone = connection.execute(
            update(lake_files)
            .where(lake_files.c.file_id.in_(some), lake_files.c.superseded_at.is_(None))
            .values(superseded_at=at, superseded_by=run_id)
        )
        if gone.rowcount != len(some):
            raise CommitConflict


def _same_inputs(connection: Connection, written: Written) -> None:
    """A file of the same rows in other columns has them from the same input files: its writer did not count them."""
    i = lake_file_inputs.c
    for old, files in written.files.items():
        for file in files:
            if file.rows and not file.inputs:
                same = select(literal(file.file_id), i.file_no, i.rows).where(i.file_id == old)
                connection.execute(insert(lake_file_inputs).from_select(["file_id", "file_no", "rows"], same))


def _count_ends(connection: Connection, made: Plan, purge_id: str, written: Written) -> None:
    """By view and input file: rows that went, that a hold keeps, whose numbers went, that a hold kept no longer."""
    counts: Counter[tuple[str, int, str]] = Counter()
    for row in written.ends:
        counts[row["view"], row["file_no"], row["end"]] += row["rows"]
    for end, listed in _by_end(made):
        went: Counter[tuple[str, int]] = Counter()
        for some in database.batches(item.file.file_id for item in listed):
            went.update(_inputs(connection, some))
        for item in listed:
            for file in written.files.get(item.file.file_id, ()):
                # Rows of a held copy stay: of a file that goes they are held, of a copy written anew held as before.
                kept = {(item.file.view, file_no): rows for file_no, rows in _kept(item, file).items()}
                went.subtract(kept)
                if not item.file.view.startswith(HELD):
                    counts.update({(view, file_no, "held"): rows for (view, file_no), rows in kept.items()})
        counts.update({(view.removeprefix(HELD), file_no, end): rows for (view, file_no), rows in went.items()})
    rows = [{"view": v, "file_no": n, "end": e, "rows": r} for (v, n, e), r in sorted(counts.items()) if r]
    if rows:
        ledger.add_ends(connection, purge_id, [pa.Table.from_pylist(rows, schema=ENDS)])


def _by_end(made: Plan) -> Iterator[tuple[str, list[PlanItem]]]:
    """Items whose rows are counted from the register alone, by what becomes of these. Sealed logs count their own."""
    ends: dict[str, list[PlanItem]] = defaultdict(list)
    for item in made.doing:
        if item.file.view.startswith(HELD):
            ends["unheld"].append(item)
        elif item.file.view in ("billing", "assurance", "late") and not item.accounts:
            ends["numbers" if item.action == "rewrite" else "purged"].append(item)
    yield from sorted(ends.items())


def _kept(item: PlanItem, file: DataFile) -> Mapping[int, int]:
    return file.inputs if file.view.startswith(HELD) else {}


def _inputs(connection: Connection, file_ids: Sequence[str]) -> dict[tuple[str, int], int]:
    """Rows of data files by view and input file."""
    i = lake_file_inputs.c
    query = (
        select(lake_files.c.view, i.file_no, func.sum(i.rows).label("rows"))
        .join(lake_files, lake_files.c.file_id == i.file_id)
        .where(i.file_id.in_(file_ids))
        .group_by(lake_files.c.view, i.file_no)
    )
    return {(row.view, row.file_no): int(row.rows) for row in connection.execute(query)}


def _note_entries(connection: Connection, run_id: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Records of sealed logs that expired move in the ledger to filtered; their file balances as before."""
    if not entries:
        return
    summed = ledger.sum_entries([pa.Table.from_pylist(list(entries), schema=ledger.ENTRIES)])
    ledger.check_balance(summed)
    rows = [row for row in summed.to_pylist() if row["rows"] or row["talk_ms"]]
    if rows:
        connection.execute(insert(ledger_entries), [{"run_id": run_id, "wave": 0, **row} for row in rows])


# -- second phase ------------------------------------------------------------------------------------------------------


def begin(settings: Settings, run_id: str, purge: Purge) -> bool:
    """Begin the second phase of a tombstoned purge; False when a hold came before: then everything counts again."""
    with database.writing(settings) as connection:
        runs.renew(connection, run_id)
        if holds.fingerprint(connection) != purge.facts["fingerprint"]:
            _undo(connection, purge)
            return False
        removed = _derived(connection, purge)
        _set(connection, purge.purge_id, status=DESTROYING, plan=_told(purge, removed))
        point("purge-half-begun")
    point("purge-begun")
    return True


def _told(purge: Purge, removed: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({**purge.facts, "removed": removed}, sort_keys=True, separators=(",", ":"))


def _undo(connection: Connection, purge: Purge) -> None:
    """Everything counts as before the tombstones, and what was written instead does not."""
    at, f = database.now(), lake_files.c
    stuck = _changed_since(connection, purge)
    mine = (f.superseded_by == purge.run_id) & f.removed_at.is_(None) & (f.run_id != purge.run_id)
    parts = connection.execute(select(f.tenant, f.part, f.view).where(mine)).all()
    for view in ("billing", "assurance"):
        # A night has rewritten what replaced these: it stays, and the old file is held whole for whoever wants it.
        held = update(lake_files).where(mine, f.view == view, f.part.in_(stuck))
        connection.execute(held.values(view=HELD + view, superseded_at=None, superseded_by=None))
    connection.execute(update(lake_files).where(mine).values(superseded_at=None, superseded_by=None))
    connection.execute(
        update(lake_files)
        .where(f.run_id == purge.run_id, f.superseded_at.is_(None))
        .values(superseded_at=at, superseded_by=purge.run_id)
    )
    ledger.raise_versions(connection, {(row.tenant, row.part) for row in parts if row.view not in _NOT_PARTITIONS})
    connection.execute(delete(row_ends).where(row_ends.c.purge_id == purge.purge_id))
    connection.execute(delete(ledger_entries).where(ledger_entries.c.run_id == purge.run_id))
    _abandon(connection, purge.purge_id)
    _audit(connection, "purge-undone", purge.purge_id, purge.digest, "a hold was placed or changed")


def _changed_since(connection: Connection, purge: Purge) -> list[str]:
    """Partitions in which a file that the purge wrote was replaced since."""
    f = lake_files.c
    query = select(f.part).where(f.run_id == purge.run_id, f.superseded_by != purge.run_id).distinct()
    return list(connection.execute(query).scalars())


# -- derived rows ------------------------------------------------------------------------------------------------------


def rows_digest(rows: Iterable[Sequence[Any]]) -> str:
    """SHA-256 (hex) of derived rows (key columns, then sums) in the order of their keys, as canonical JSON."""
    told = sorted([str(value) for value in row] for row in rows)
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


def derived_of(connection: Connection, table: Table, tenant: str, first: date, last: date) -> dict[date, list[Any]]:
    """Rows of a derived table by day (both ends included): key columns, then sums, as the database gives them."""
    columns = [table.c[name] for name in key_columns(table) + sum_columns(table)]
    where = _within(table, tenant, first, last)
    found: dict[date, list[Any]] = defaultdict(list)
    for row in connection.execute(select(*columns).where(where)):
        moment = row._mapping[_day_column(table)]
        found[moment.date() if isinstance(moment, datetime) else moment].append(tuple(row))
    return found


def _day_column(table: Table) -> Any:
    return (
        table.c.hour if table.name in BY_TRUNK else table.c.billing_date if table.name == USAGE else table.c.call_date
    )


def _within(table: Table, tenant: str, first: date, last: date) -> ColumnElement[bool]:
    low: date = first
    high: date = last + timedelta(1)
    if table.name in BY_TRUNK:
        low, high = datetime.combine(low, time()), datetime.combine(high, time())
    column = _day_column(table)
    return and_(table.c.tenant == tenant, column >= low, column < high)


def _derived(connection: Connection, purge: Purge) -> list[dict[str, Any]]:
    """Delete, freeze or leave open the plan's derived rows; returns how many went, by tenant and table."""
    planned: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for table, tenant, day, state in purge.facts["derived"]:
        planned[table, tenant][day] = state
    removed = []
    for (name, tenant), states in sorted(planned.items()):
        table, days = TABLES[name], sorted(map(date.fromisoformat, states))
        rows = derived_of(connection, table, tenant, days[0], days[-1])
        _forget(connection, name, tenant, list(states))
        _freeze(connection, purge.purge_id, name, tenant, {d: s for d, s in states.items() if s != GONE}, rows)
        gone = [day for day in days if states[day.isoformat()] == GONE]
        for first, last in _stretches(gone):
            connection.execute(delete(table).where(_within(table, tenant, first, last)))
        count = sum(len(rows.get(day, ())) for day in gone)
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
    common = {"purge_id": purge_id, "table_name": table, "tenant": tenant}
    made = []
    for day, state in states.items():
        of_day = rows.get(date.fromisoformat(day), [])
        made.append(
            {**common, "part": day, "rows": len(of_day), "sha256": rows_digest(of_day) if state == FROZEN else ""}
        )
    if made:
        connection.execute(insert(frozen_derived), made)


def _stretches(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Days in order as stretches without a gap: few statements delete many days."""
    for place, day in enumerate(days):
        if place == 0 or day - days[place - 1] > timedelta(1):
            first = day
        if place + 1 == len(days) or days[place + 1] - day > timedelta(1):
            yield first, day


# -- what is gone ------------------------------------------------------------------------------------------------------


def files_to_destroy(connection: Connection, purge: Purge) -> list[Row[Any]]:
    """Data files of a purge, and those replaced before, that are still on disk: (file_id, path, view)."""
    f = lake_files.c
    mine = f.superseded_by == purge.run_id
    columns = f.file_id, f.path, f.view
    found: list[Row[Any]] = list(connection.execute(select(*columns).where(mine, f.removed_at.is_(None))))
    for some in database.batches(purge.facts["stale"]):
        found += connection.execute(select(*columns).where(f.file_id.in_(some), f.removed_at.is_(None)))
    return found


def note_removed(settings: Settings, run_id: str, purge: Purge, file_ids: Iterable[str]) -> None:
    """The files are off the disk; so are the database's own rows that are due."""
    with database.writing(settings) as connection:
        runs.renew(connection, run_id)
        for some in database.batches(file_ids):
            removed = update(lake_files).where(lake_files.c.file_id.in_(some))
            connection.execute(removed.values(removed_at=database.now()))
        for some in database.batches(purge.facts["requests"]):
            connection.execute(delete(requests).where(requests.c.request_id.in_(some)))
        done = (purge_items.c.purge_id == purge.purge_id) & (purge_items.c.state == TOMBSTONED)
        connection.execute(update(purge_items).where(done).values(state=DONE))


def finish(settings: Settings, purge: Purge, status: str) -> None:
    """The purge is over."""
    with database.writing(settings) as connection:
        _set(connection, purge.purge_id, status=status, finished_at=database.now())
        _audit(connection, "purge-done", purge.purge_id, purge.digest, status)
