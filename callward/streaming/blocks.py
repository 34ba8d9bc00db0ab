"""Blocks of a stream in the ledger: registered before they are emitted, complete when all their slices are committed.

A restart reads registered ranges exactly so again, and what of them is committed already is dropped before
Deduplicate: so no savepoint of the engine is ever needed. Only a run that is alive may register, so that of two streams
on one topic the one that lost its lease stops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, update

from callward import database, runs, sources
from callward.errors import Problem
from schemas.streaming import kafka_inputs
from schemas.tables import blocks, input_files

TOPIC = "kafka"  # the path form of an input file that came through a topic
_EPOCH = datetime(1970, 1, 1)
_NEWEST = 64  # files of a partition: one for each source and day

# An input file's name → its keyed hash, and the name sealed: as the ledger knows it.
Naming = Callable[[str], tuple[str, bytes]]


@dataclass(frozen=True)
class Range:
    """Offsets [first, last) of a partition as one source's registered block. `now_ms`: when it was registered."""

    source: str
    file_no: int
    block: int
    first: int
    last: int
    sharding: str
    now_ms: int
    complete: bool = False


@dataclass(frozen=True)
class Part:
    """What one source sent in a range: so many bytes, the oldest of it arrived at `oldest_at`."""

    source: str
    bytes: int
    oldest_at: datetime


class RegisteredAlready(Problem):
    """Another reader of this run (one that the engine has given up) has registered these messages."""


def position(connection: Connection, topic: str, partition: int) -> int | None:
    """Return where reading goes on: the oldest incomplete block, else behind the last; None without a block."""
    oldest = connection.execute(_here(func.min(blocks.c.first), topic, partition).where(_INCOMPLETE)).scalar()
    offset = _end(connection, topic, partition) if oldest is None else oldest
    return None if offset is None else int(offset)


_INCOMPLETE = blocks.c.committed_by.is_(None)


def _here(what: ColumnElement[int], topic: str, partition: int) -> Select[int]:
    join = select(what).join(kafka_inputs, kafka_inputs.c.file_no == blocks.c.file_no)
    return join.where(_of(topic, partition))


def _of(topic: str, partition: int) -> ColumnElement[bool]:
    return (kafka_inputs.c.topic == topic) & (kafka_inputs.c.partition == partition)


def _end(connection: Connection, topic: str, partition: int) -> int | None:
    """Return the offset after the last registered block of a partition, which is in one of its newest files."""
    files = select(kafka_inputs.c.file_no).where(_of(topic, partition)).order_by(kafka_inputs.c.file_no.desc())
    newest = files.limit(_NEWEST).subquery()
    begins = select(func.max(blocks.c.first)).where(blocks.c.file_no == newest.c.file_no).correlate(newest)
    last = (blocks.c.file_no == newest.c.file_no) & (blocks.c.first == begins.scalar_subquery())
    last_offset = connection.execute(select(func.max(blocks.c.last)).select_from(newest.join(blocks, last))).scalar()
    return None if last_offset is None else int(last_offset)


def ranges(connection: Connection, topic: str, partition: int, start: int) -> list[Range]:
    """Return the blocks registered from an offset on, in order of it; those of one range are of several sources."""
    query = (
        select(blocks, input_files.c.source)
        .join(kafka_inputs, kafka_inputs.c.file_no == blocks.c.file_no)
        .join(input_files, input_files.c.file_no == blocks.c.file_no)
        .where(_of(topic, partition), blocks.c.first >= start)
        .order_by(blocks.c.first, blocks.c.file_no)
    )
    return [
        Range(
            r.source,
            r.file_no,
            r.block,
            r.first,
            r.last,
            r.sharding,
            milliseconds(r.registered_at),
            bool(r.committed_by),
        )
        for r in connection.execute(query)
    ]


def register(
    connection: Connection,
    run_id: str,
    topic: str,
    partition: int,
    span: tuple[int, int],
    parts: Sequence[Part],
    sharding: str,
    naming: Naming,
) -> list[Range]:
    """Register a range that was read as one block for each source in it.

    Raises Problem when this run may not go on, RegisteredAlready when another reader of it was first.
    """
    runs.require(connection, run_id)
    end = _end(connection, topic, partition)
    if end is not None and end > span[0]:
        raise RegisteredAlready(f"topic {topic}, partition {partition}: offset {span[0]} is registered already")
    at, ranges = database.now(), []
    for part in parts:
        file_no = _file(connection, run_id, part.source, topic, partition, at, naming)
        number = _next_block(connection, file_no)
        row = {"file_no": file_no, "block": number, "first": span[0], "last": span[1], "run_id": run_id}
        row["generation"] = sources.number(connection, part.source)
        connection.execute(insert(blocks).values(**row, **stream_columns(at, part.oldest_at, part.bytes, sharding)))
        ranges.append(Range(part.source, file_no, number, *span, sharding, milliseconds(at)))
    return ranges


def stream_columns(at: datetime, oldest_at: datetime, size: int, sharding: str) -> dict[str, object]:
    """Return the columns of a block that only a stream's has."""
    return {"registered_at": at, "oldest_at": min(oldest_at, at), "bytes": size, "sharding": sharding}


def _file(
    connection: Connection, run_id: str, source: str, topic: str, partition: int, at: datetime, naming: Naming
) -> int:
    """Return the ledger's number of what a source sends through a partition on a day."""
    name = f"{topic}/{partition}/{at.date().isoformat()}"
    here = select(input_files.c.file_no).join(kafka_inputs, kafka_inputs.c.file_no == input_files.c.file_no)
    of_day = (input_files.c.source == source) & (input_files.c.name == name[-255:]) & _of(topic, partition)
    file_no = connection.execute(here.where(of_day)).scalar()
    if file_no is not None:
        return int(file_no)
    name_id, name_sealed = naming(name)
    row = {"source": source, "name": name[-255:], "name_id": name_id, "name_sealed": name_sealed, "size": 0}
    row |= {"modified_ns": 0, "status": "reading", "path_form": TOPIC, "run_id": run_id, "seen_at": at}
    key = connection.execute(insert(input_files).values(**row)).inserted_primary_key
    assert key is not None
    file_no = int(key[0])
    connection.execute(insert(kafka_inputs).values(file_no=file_no, topic=topic, partition=partition))
    return file_no


def ahead(connection: Connection, topic: str, partition: int) -> int:
    """Return how many blocks of a partition are registered and not complete."""
    return int(connection.execute(_here(func.count(), topic, partition).where(_INCOMPLETE)).scalar() or 0)


def waiting(connection: Connection, sources: Sequence[str], topics: Sequence[str]) -> int:
    """Return how many blocks are registered and not complete, of landing files of `sources` and of `topics`."""
    through = kafka_inputs.c.file_no == blocks.c.file_no
    query = select(func.count()).select_from(blocks).join(input_files, input_files.c.file_no == blocks.c.file_no)
    query = query.outerjoin(kafka_inputs, through).where(_INCOMPLETE, blocks.c.registered_at.is_not(None))
    landed = input_files.c.source.in_(sources) & kafka_inputs.c.topic.is_(None)
    return int(connection.execute(query.where(landed | kafka_inputs.c.topic.in_(topics))).scalar() or 0)


def close_days(connection: Connection, today: date) -> None:
    """Mark as committed the input files of topics whose day is over and whose blocks are all complete."""
    f = input_files.c
    past = (f.path_form == TOPIC) & (f.status == "reading") & (f.seen_at < datetime.combine(today, time()))
    query = select(f.file_no).where(past, f.file_no.not_in(select(blocks.c.file_no).where(_INCOMPLETE)))
    for numbers in database.batches(connection.execute(query).scalars().all()):
        connection.execute(update(input_files).where(f.file_no.in_(numbers)).values(status="committed"))


def give_up(connection: Connection, topic: str, partition: int, before: int, run_id: str) -> int:
    """Close blocks that begin before an offset as they are: what of them is not committed cannot be read again. What
    of them lies behind it becomes a block of its own, which is read as if it were new. A gap behind the last block
    becomes an empty one, so that every later start is behind it."""
    here = select(kafka_inputs.c.file_no).where(_of(topic, partition))
    lost = _INCOMPLETE & (blocks.c.first < before) & blocks.c.file_no.in_(here)
    across = connection.execute(select(blocks).where(lost, blocks.c.last > before)).all()
    closed = connection.execute(update(blocks).where(lost).values(committed_by=run_id)).rowcount
    for row in across:
        this_block = (blocks.c.file_no == row.file_no) & (blocks.c.block == row.block)
        connection.execute(update(blocks).where(this_block).values(last=before))
        kept = {
            name: getattr(row, name)
            for name in ("file_no", "last", "registered_at", "oldest_at", "bytes", "generation")
        }
        number = _next_block(connection, row.file_no)
        rest = {"block": number, "first": before, "run_id": run_id, "sharding": row.sharding}
        connection.execute(insert(blocks).values(**kept, **rest))
    _close_gap(connection, topic, partition, before, run_id)
    return closed


def _close_gap(connection: Connection, topic: str, partition: int, before: int, run_id: str) -> None:
    end = _end(connection, topic, partition)
    if end is None or end >= before:
        return
    newest = select(func.max(kafka_inputs.c.file_no)).where(_of(topic, partition))
    file_no, at = connection.execute(newest).scalar_one(), database.now()
    row = {"file_no": file_no, "block": _next_block(connection, file_no), "first": end, "last": before}
    empty = {"run_id": run_id, "committed_by": run_id, "records": 0, "slices": 0, "generation": sources.FIRST}
    connection.execute(insert(blocks).values(**row, **empty, **stream_columns(at, at, 0, "")))


def _next_block(connection: Connection, file_no: int) -> int:
    last = connection.execute(select(func.max(blocks.c.block)).where(blocks.c.file_no == file_no)).scalar()
    return 0 if last is None else int(last) + 1


def drop_changed(connection: Connection, file_nos: Sequence[int]) -> None:
    """Forget what is not committed of files that changed while they were read: each is taken as a new file."""
    for numbers in database.batches(sorted(file_nos)):
        connection.execute(delete(blocks).where(blocks.c.file_no.in_(numbers), _INCOMPLETE))
        connection.execute(update(input_files).where(input_files.c.file_no.in_(numbers)).values(status="changed"))


def milliseconds(moment: datetime) -> int:
    """Return a naive UTC moment of the database as ms since 1970."""
    return int((moment - _EPOCH).total_seconds() * 1000)
