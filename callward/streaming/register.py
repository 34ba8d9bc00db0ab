"""The register of streams: which one is at work, its counters, and whether it was asked to stop."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, insert, select, update

from callward import database, runs
from callward.settings import Settings
from schemas.codes import Bucket
from schemas.streaming import streams
from schemas.tables import runs as runs_table

KIND = "stream"  # of its run


def begin(settings: Settings, run_id: str, leases: Sequence[str], engine: str) -> None:
    """Register a stream that is about to start."""
    counters = {"commits": 0, "retries": 0, "rows": 0, "suspended": 0}
    row = {"run_id": run_id, "sources": json.dumps(list(leases)), "engine": engine[:255]}
    with database.writing(settings) as connection:
        connection.execute(insert(streams).values(**row, started_at=database.now(), **counters))


def note_job(settings: Settings, run_id: str, job_id: str) -> None:
    """Note the engine's own name of the job, so that whoever starts next can end it."""
    with database.writing(settings) as connection:
        connection.execute(update(streams).where(streams.c.run_id == run_id).values(job_id=job_id[:255]))


def end(settings: Settings, run_id: str, reason: str) -> None:
    """Register that a stream is over, and why."""
    with database.writing(settings) as connection:
        over = update(streams).where(streams.c.run_id == run_id)
        connection.execute(over.values(stopped_at=database.now(), reason=reason[:255]))


def committed(connection: Connection, run_id: str, entries: pa.Table, retries: int) -> None:
    """Raise a stream's counters, within the transaction of a flush (`entries`: shape ledger.ENTRIES, summed)."""
    rows = pc.sum(entries.filter(pc.equal(entries["bucket"], "in"))["rows"]).as_py() or 0
    suspended = pc.sum(entries.filter(pc.equal(entries["bucket"], str(Bucket.SUSPENDED)))["rows"]).as_py() or 0
    c = streams.c
    raised = {"commits": c.commits + 1, "retries": c.retries + retries, "rows": c.rows + rows}
    raised["suspended"] = c.suspended + suspended
    of_run = update(streams).where(c.run_id == run_id)
    connection.execute(of_run.values(**raised, last_commit_at=database.now()))


def fail(settings: Settings, run_id: str, sentence: str) -> None:
    """Say why a stream cannot go on; the first reason stays."""
    of_run = (streams.c.run_id == run_id) & streams.c.reason.is_(None)
    with database.writing(settings) as connection:
        connection.execute(update(streams).where(of_run).values(reason=sentence[:255]))


def failure(connection: Connection, run_id: str) -> str | None:
    """Return why a stream cannot go on, if it said so."""
    return connection.execute(select(streams.c.reason).where(streams.c.run_id == run_id)).scalar()


def counters(settings: Settings, run_id: str) -> dict[str, int]:
    """Return what a stream did: {commits, retries, rows, suspended}."""
    with database.reading(settings) as connection:
        row = connection.execute(select(streams).where(streams.c.run_id == run_id)).one()
    return {name: int(getattr(row, name)) for name in ("commits", "retries", "rows", "suspended")}


@dataclass(frozen=True)
class StreamStop:
    """Whether a stream is over, and why."""

    run_id: str
    stopped: bool
    reason: str | None


def stop_of(settings: Settings, run_id: str) -> StreamStop:
    """Return whether a stream is over, and why."""
    with database.reading(settings) as connection:
        row = connection.execute(select(streams).where(streams.c.run_id == run_id)).one()
    return StreamStop(run_id, row.stopped_at is not None, row.reason)


def is_over(settings: Settings, run_id: str) -> bool:
    """Return whether a stream has ended, or its supervisor has died."""
    with database.reading(settings) as connection:
        return run_id not in runs.living(connection)


def request_stop(settings: Settings) -> list[str]:
    """Ask every stream that is at work to stop; return their runs."""
    with database.writing(settings) as connection:
        run_ids = _at_work(connection)
        mark_stop(connection, run_ids)
    return run_ids


def at_work(settings: Settings) -> list[str]:
    """Return the runs of the streams that are at work."""
    with database.reading(settings) as connection:
        return _at_work(connection)


def _at_work(connection: Connection) -> list[str]:
    alive = runs.living(connection)
    going = select(streams.c.run_id).where(streams.c.stopped_at.is_(None))
    return sorted(set(connection.execute(going).scalars()) & alive)


def held(connection: Connection) -> set[str]:
    """Return the leases of the streams that are at work."""
    going = select(streams.c.run_id, streams.c.sources).where(streams.c.stopped_at.is_(None))
    alive = runs.living(connection)
    return {name for row in connection.execute(going) if row.run_id in alive for name in json.loads(row.sources)}


def mark_stop(connection: Connection, run_ids: Sequence[str]) -> None:
    """Set the mark that the readers of some streams look for."""
    of_runs = streams.c.run_id.in_(run_ids) & streams.c.stop_requested_at.is_(None)
    connection.execute(update(streams).where(of_runs).values(stop_requested_at=database.now()))


def stopping(connection: Connection, run_id: str) -> bool:
    """Return whether the readers of a stream shall read no more: it was asked to stop, or its run is over."""
    query = select(streams.c.stop_requested_at, runs_table.c.status).join(
        runs_table, runs_table.c.run_id == streams.c.run_id
    )
    row = connection.execute(query.where(streams.c.run_id == run_id)).first()
    return row is None or row.stop_requested_at is not None or row.status != "running"


def unfinished_jobs(connection: Connection, run_id: str) -> list[tuple[str, str]]:
    """Return (run, job) of other streams that did not report that they stopped: a job of theirs may still be there."""
    query = select(streams.c.run_id, streams.c.job_id).where(streams.c.stopped_at.is_(None), streams.c.run_id != run_id)
    return [(row.run_id, row.job_id or "") for row in connection.execute(query)]
