"""Figures of a stream for those who watch it: rows, rates, freshness, and where each topic stands.

They are from the database alone, so a process that never saw the stream tells the same as its supervisor, and they
hold whatever the engine does. No event time is in them: freshness is about what has arrived and is not committed.
Only the broker knows how far a topic reaches; where it is not asked or is away, that is unknown (None), never 0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, and_, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from callward import database
from callward.lake.ledger import IN, Counted
from callward.runs import living
from schemas.codes import Bucket
from schemas.streaming import block_slices, kafka_inputs, stream_counts, streams
from schemas.tables import blocks, input_files, runs

RUNNING, STOPPING, DEAD, FAILED, STOPPED = "running", "stopping", "dead", "failed", "stopped"
_LATELY: Final = timedelta(minutes=5)  # what a rate is over
_DAYS_BACK: Final = 3  # how many of a partition's newest daily files may hold its highest offset: days overlap a little
_LOST = ("changed", "unreadable")  # files whose blocks nobody will commit any more

Partition = tuple[str, int]  # topic, partition
Watermarks = Mapping[Partition, tuple[int, int]]  # the broker's lowest and next offset of each, as far as it said


@dataclass(frozen=True)
class OfSource:
    """One source: what the stream committed of it, and what is on its way."""

    source: str
    rows: int  # committed by this stream
    rows_per_second: float  # over the last five minutes, or since the start
    suspended: Mapping[str, int]  # rows that it put into suspense, by code
    freshness_s: float  # age of the oldest record that is registered and not committed; 0 when there is none
    blocks: int  # registered and not committed
    unparsed: int  # of them, those of which is not known yet how many slices they fall into
    bytes: int  # of them all, as they arrived
    slices: int  # of the parsed ones, those that wait for their commit


@dataclass(frozen=True)
class OfPartition:
    """One partition of a topic. Offsets are those of the next message; None where they are not known."""

    topic: str
    partition: int
    next_offset: int | None  # the end of the last registered block
    committed_offset: int | None  # the end of the complete blocks that nothing incomplete lies before
    lag: int | None  # messages at the broker that are not committed
    missed: int | None  # messages that the broker deleted before they were read


@dataclass(frozen=True)
class StreamMetrics:
    """A stream as it stands at `at` (naive UTC, as all times here)."""

    run_id: str
    state: str
    engine: str
    job_id: str | None
    at: datetime
    started_at: datetime
    stop_requested_at: datetime | None
    stopped_at: datetime | None
    reason: str | None
    rows: int
    suspended: int
    commits: int
    retries: int  # commits that were refused, as another came first
    last_commit_at: datetime | None
    sources: list[OfSource] = field(default_factory=list)
    partitions: list[OfPartition] = field(default_factory=list)

    @property
    def freshness_s(self) -> float:
        """Return the age of the oldest record that waits in its least fresh source, in seconds."""
        return max((of.freshness_s for of in self.sources), default=0.0)

    @property
    def blocks(self) -> int:
        """Return how many blocks are in flight, of all sources."""
        return sum(of.blocks for of in self.sources)


def count(connection: Connection, run_id: str, counted: Mapping[Counted, int]) -> None:
    """Add what a commit put into each bucket to a stream's counters, within the commit's own transaction."""
    if not counted:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(stream_counts)
    more = {"rows": stream_counts.c.rows + statement.excluded.rows}
    key = [column.name for column in stream_counts.primary_key.columns]
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=more),
        [{"run_id": run_id, **key._asdict(), "rows": rows} for key, rows in sorted(counted.items())],
    )


# -- streams -----------------------------------------------------------------------------------------------------------


def watched(connection: Connection) -> list[str]:
    """Run ids of the streams that are to run: those that run, or whose supervisor died. If none: that of the last."""
    query = select(streams.c.run_id, streams.c.stopped_at, runs.c.status).join(runs, runs.c.run_id == streams.c.run_id)
    rows = list(connection.execute(query.order_by(streams.c.started_at.desc(), streams.c.run_id)))
    wanted = [row.run_id for row in rows if row.stopped_at is None and row.status == "running"]
    return wanted or [row.run_id for row in rows[:1]]


def _state(connection: Connection, row: Row[Any]) -> str:
    if row.stopped_at is not None:
        return FAILED if row.status == "failed" else STOPPED
    if row.status == "running":
        if row.run_id not in living(connection):
            return DEAD
        return RUNNING if row.stop_requested_at is None else STOPPING
    return {"dead": DEAD, "failed": FAILED}.get(row.status, STOPPED)


def figures(
    connection: Connection, run_id: str, watermarks: Watermarks | None = None, *, now: datetime | None = None
) -> StreamMetrics | None:
    """Return the figures of a stream; None when there is no such run. `watermarks` are the broker's, if given.

    The broker is asked before, never within: a transaction that waits for a server would keep a snapshot open.
    """
    at = now or database.now()
    query = select(streams, runs.c.status).join(runs, runs.c.run_id == streams.c.run_id)
    row = connection.execute(query.where(streams.c.run_id == run_id)).first()
    if row is None:
        return None
    held = frozenset(json.loads(row.sources))
    names = ("run_id", "engine", "job_id", "started_at", "stop_requested_at", "stopped_at", "reason", "last_commit_at")
    known: dict[str, Any] = {name: getattr(row, name) for name in names}
    known |= {name: int(getattr(row, name)) for name in ("rows", "suspended", "commits", "retries")}
    return StreamMetrics(
        **known,
        state=_state(connection, row),
        at=at,
        sources=_by_source(connection, row, held, at),
        partitions=_by_partition(connection, held, watermarks or {}),
    )


# -- by source ---------------------------------------------------------------------------------------------------------


@dataclass
class _Open:
    """What is registered and not committed of one source."""

    blocks: int = 0
    unparsed: int = 0
    bytes: int = 0
    slices: int = 0
    oldest_at: datetime | None = None


def _by_source(connection: Connection, stream: Row[Any], held: frozenset[str], at: datetime) -> list[OfSource]:
    rows, suspended = _counted(connection, stream.run_id)
    lately = _lately(connection, stream, at)
    waiting = _open(connection, held)
    seconds = max(1.0, min(_LATELY, at - stream.started_at).total_seconds())
    names = {*rows, *suspended, *waiting, *lately, *_sources_held(connection, held)}
    return [
        OfSource(
            source=name,
            rows=rows.get(name, 0),
            rows_per_second=lately.get(name, 0) / seconds,
            suspended=suspended.get(name, {}),
            freshness_s=_age(of.oldest_at, at),
            blocks=of.blocks,
            unparsed=of.unparsed,
            bytes=of.bytes,
            slices=of.slices,
        )
        for name in sorted(names)
        for of in [waiting.get(name, _Open())]
    ]


def _age(oldest_at: datetime | None, at: datetime) -> float:
    """Return an age in seconds, never negative: a clock may have been set back since."""
    return max(0.0, (at - oldest_at).total_seconds()) if oldest_at else 0.0


def _sources_held(connection: Connection, held: frozenset[str]) -> set[str]:
    """Return sources of the stream that are known without a record of theirs: of folders, and what topics have sent."""
    files = kafka_inputs.join(input_files, input_files.c.file_no == kafka_inputs.c.file_no)
    query = select(kafka_inputs.c.topic, input_files.c.source).select_from(files).distinct()
    sent = {row.source for row in connection.execute(query) if _lease(row.source, row.topic) in held}
    return sent | {name.removeprefix("source/") for name in held if name.startswith("source/")}


def _lease(source: str, topic: str | None) -> str:
    """Return the lease that an input file is read under."""
    return f"source/{source}" if topic is None else f"kafka/{topic}"


def _counted(connection: Connection, run_id: str) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Return rows in by source, and rows put into suspense by source and code."""
    rows: dict[str, int] = {}
    suspended: dict[str, dict[str, int]] = {}
    query = select(stream_counts).where(
        stream_counts.c.run_id == run_id, stream_counts.c.bucket.in_((IN, Bucket.SUSPENDED))
    )
    for counted in connection.execute(query.order_by(stream_counts.c.source, stream_counts.c.code)):
        if counted.bucket == IN:
            rows[counted.source] = int(counted.rows)
        else:
            suspended.setdefault(counted.source, {})[counted.code] = int(counted.rows)
    return rows, suspended


def _lately(connection: Connection, stream: Row[Any], at: datetime) -> dict[str, int]:
    """Return rows that the stream committed within the last minutes, by source."""
    query = (
        select(input_files.c.source, func.sum(block_slices.c.rows).label("rows"))
        .select_from(block_slices.join(input_files, input_files.c.file_no == block_slices.c.file_no))
        .where(block_slices.c.committed_at > at - _LATELY, block_slices.c.run_id == stream.run_id)
        .group_by(input_files.c.source)
    )
    return {row.source: int(row.rows) for row in connection.execute(query)}


def _is_open() -> ColumnElement[bool]:
    """Return a stream's block that is registered, not complete, and still to be."""
    of_stream = and_(blocks.c.committed_by.is_(None), blocks.c.registered_at.is_not(None))
    return and_(of_stream, input_files.c.status.not_in(_LOST))


_IN_FILES = blocks.join(input_files, input_files.c.file_no == blocks.c.file_no).outerjoin(
    kafka_inputs, kafka_inputs.c.file_no == blocks.c.file_no
)
_WITH_SLICES = _IN_FILES.join(
    block_slices, and_(block_slices.c.file_no == blocks.c.file_no, block_slices.c.block == blocks.c.block)
)


def _of_open_blocks(tables: FromClause, *columns: ColumnElement[Any]) -> Select[Any]:
    """Return a query over the open blocks, by source and topic (null for a folder's)."""
    by = input_files.c.source, kafka_inputs.c.topic
    return select(*by, *columns).select_from(tables).where(_is_open()).group_by(*by)


def _open(connection: Connection, held: frozenset[str]) -> dict[str, _Open]:
    """Return what waits, by source. A source that comes both by folder and by topic is one."""
    by_source: dict[str, _Open] = {}
    query = _of_open_blocks(
        _IN_FILES,
        func.count().label("blocks"),
        func.sum(case((blocks.c.slices.is_(None), 1), else_=0)).label("unparsed"),
        func.coalesce(func.sum(blocks.c.bytes), 0).label("bytes"),
        func.coalesce(func.sum(blocks.c.slices), 0).label("slices"),
        func.min(func.coalesce(blocks.c.oldest_at, blocks.c.registered_at)).label("oldest_at"),
    )
    for row in connection.execute(query):
        if _lease(row.source, row.topic) in held:
            of = by_source.setdefault(row.source, _Open())
            for name in ("blocks", "unparsed", "bytes", "slices"):
                setattr(of, name, getattr(of, name) + int(getattr(row, name)))
            of.oldest_at = min(of.oldest_at or row.oldest_at, row.oldest_at)
    committed = _of_open_blocks(_WITH_SLICES, func.count().label("slices"))
    for row in connection.execute(committed.where(blocks.c.slices.is_not(None))):
        if _lease(row.source, row.topic) in held:
            by_source[row.source].slices -= int(row.slices)
    return by_source


# -- by partition ------------------------------------------------------------------------------------------------------


def _by_partition(connection: Connection, held: frozenset[str], watermarks: Watermarks) -> list[OfPartition]:
    """Return partitions that were read or that the broker has, of the topics that the stream holds."""
    ends, starts = _registered_ends(connection), _open_starts(connection)
    wanted = sorted(key for key in {*ends, *watermarks} if f"kafka/{key[0]}" in held)
    return [_of_partition(key, ends.get(key), starts.get(key), watermarks.get(key)) for key in wanted]


def _of_partition(key: Partition, end: int | None, start: int | None, marks: tuple[int, int] | None) -> OfPartition:
    committed = end if start is None else start
    lag = missed = None
    if marks is not None:
        low, high = marks
        lag = max(0, high - max(low, committed or 0))  # what the broker deleted does not lag: it is missed
        missed = max(0, low - end) if end is not None else None
    return OfPartition(*key, next_offset=end, committed_offset=committed, lag=lag, missed=missed)


def _registered_ends(connection: Connection) -> dict[Partition, int]:
    """Return where the last registered block of each partition ends. Only its newest files are looked at, by index."""
    k = kafka_inputs.c
    age = func.row_number().over(partition_by=(k.topic, k.partition, input_files.c.source), order_by=k.file_no.desc())
    files = kafka_inputs.join(input_files, input_files.c.file_no == k.file_no)
    aged = select(k.topic, k.partition, k.file_no, age.label("age")).select_from(files)
    newest = aged.subquery()
    last_first = (
        select(func.max(blocks.c.first)).where(blocks.c.file_no == newest.c.file_no).correlate(newest).scalar_subquery()
    )
    query = (
        select(newest.c.topic, newest.c.partition, func.max(blocks.c.last).label("end"))
        .select_from(newest.join(blocks, and_(blocks.c.file_no == newest.c.file_no, blocks.c.first == last_first)))
        .where(newest.c.age <= _DAYS_BACK)
        .group_by(newest.c.topic, newest.c.partition)
    )
    return {(row.topic, row.partition): int(row.end) for row in connection.execute(query)}


def _open_starts(connection: Connection) -> dict[Partition, int]:
    """Return where the first block begins that is not complete."""
    query = (
        select(kafka_inputs.c.topic, kafka_inputs.c.partition, func.min(blocks.c.first).label("start"))
        .select_from(_IN_FILES)
        .where(_is_open(), kafka_inputs.c.topic.is_not(None))
        .group_by(kafka_inputs.c.topic, kafka_inputs.c.partition)
    )
    return {(row.topic, row.partition): int(row.start) for row in connection.execute(query)}
