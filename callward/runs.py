"""Runs and leases: who is at work on what, and what a killed run leaves for the next to take over at once."""

import json
import os
import platform
import secrets
import string
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from callward import audit, database, identity
from callward.errors import Problem
from callward.settings import Settings
from schemas.tables import leases, runs

CODE_VERSION = "0.1.0"
_LEASE = timedelta(minutes=5)  # how long a lease on another host lives without renewal

_RENEWAL_S = 60.0


def new_id() -> str:
    """Return an id of letters alone: a sweep for numbers can never take it for one."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(14))


def process_start(pid: int) -> str:
    """Return when the process started, in the kernel's words; "" when it is gone. Pids are used again: compare both.

    One that has ended and that its parent never asked for (a zombie, as in a container without an init) is gone.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            state, *fields = stat.read().rsplit(")", 1)[1].split()
            return "" if state in "ZX" else fields[18]
    except OSError:
        if platform.system() == "Linux":
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _alive(row: Row[Any]) -> bool:
    if row.host == identity.host():
        return bool(process_start(row.pid)) and process_start(row.pid) == row.process_start
    return bool(row.expires_at > database.now())


def start(settings: Settings, kind: str, resources: Iterable[str]) -> str:
    """Register a run and its leases; raises Problem when a living run holds one of them."""
    run_id = new_id()
    process = {"host": identity.host(), "pid": os.getpid()}
    with database.writing(settings) as connection:
        for name in resources:
            _take(connection, name, run_id)
        connection.execute(
            insert(runs).values(
                run_id=run_id,
                kind=kind,
                status="running",
                started_at=database.now(),
                code_version=CODE_VERSION,
                settings_digest=settings.digest,
                started_by=identity.who(),
                **process,
            )
        )
    return run_id


def _take(connection: Connection, name: str, run_id: str) -> None:
    held = connection.execute(select(leases).where(leases.c.name == name)).first()
    if held is not None:
        if _alive(held):
            raise Problem(
                f"{name} is being worked on by run {held.run_id} "
                f"(process {held.pid} on {held.host}); wait for it to end"
            )
        connection.execute(delete(leases).where(leases.c.name == name))
        connection.execute(
            update(runs).where(runs.c.run_id == held.run_id, runs.c.status == "running").values(status="dead")
        )
    values = {"host": identity.host(), "pid": os.getpid(), "process_start": process_start(os.getpid())}
    connection.execute(insert(leases).values(name=name, run_id=run_id, expires_at=database.now() + _LEASE, **values))


def renew(connection: Connection, run_id: str) -> None:
    """Keep the run's leases; raises Problem when another run took one over."""
    renewed = connection.execute(
        update(leases).where(leases.c.run_id == run_id).values(expires_at=database.now() + _LEASE)
    )
    status = connection.execute(select(runs.c.status).where(runs.c.run_id == run_id)).scalar()
    if status != "running" or renewed.rowcount == 0:
        raise Problem(f"run {run_id} lost its lease to another run; nothing of this wave was committed")


def require(connection: Connection, run_id: str) -> None:
    """Raise Problem when the run is not at work any more: another took over its lease, or it was closed."""
    status = connection.execute(select(runs.c.status).where(runs.c.run_id == run_id)).scalar()
    if status != "running":
        raise Problem(f"run {run_id} is over or lost its lease to another run; nothing more is read")


def finish(settings: Settings, run_id: str, status: str, summary: dict[str, Any] | None = None) -> None:
    """Close a run, give back its leases and keep the audit log's head beside its summary."""
    with database.writing(settings) as connection:
        connection.execute(delete(leases).where(leases.c.run_id == run_id))
        connection.execute(
            update(runs)
            .where(runs.c.run_id == run_id)
            .values(
                status=status,
                finished_at=database.now(),
                audit_head=audit.head(connection)[1],
                summary=json.dumps(summary) if summary else None,
            )
        )


@contextmanager
def running(settings: Settings, kind: str, resources: Iterable[str]) -> Iterator[str]:
    """Begin a run, which is closed as failed when its body raises; the body itself finishes it when done."""
    run_id = start(settings, kind, resources)
    over = threading.Event()
    threading.Thread(target=_keep, args=(settings, run_id, over), name="lease", daemon=True).start()
    try:
        yield run_id
    except BaseException:
        over.set()
        finish(settings, run_id, "failed")
        raise
    finally:
        over.set()


def _keep(settings: Settings, run_id: str, over: threading.Event) -> None:
    """Renew the run's leases while it works: a wave may take longer than a lease lives."""
    while not over.wait(_RENEWAL_S):
        try:
            with database.writing(settings) as connection:
                renew(connection, run_id)
        except Problem:  # the database is away, or the lease is lost: the commit will say so
            continue


def living(connection: Connection) -> set[str]:
    """Return ids of the runs that hold a lease and are still alive."""
    return {row.run_id for row in connection.execute(select(leases)) if _alive(row)}
