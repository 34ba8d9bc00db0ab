"""Readers: whoever reads the lake for longer than a replaced data file is kept says so, and it is kept for them.

A query reads the data files that counted when it began, whatever is committed meanwhile. Those that are replaced stay
for `lake.grace_minutes`; a query that takes longer holds a row in `leases`, which it renews, and which names when it
began. A reader that was killed holds nothing back: its lease ends with its process, one of another host by itself.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from callward import database, identity, runs
from callward.errors import Problem
from callward.settings import Settings
from schemas.tables import leases

PREFIX: Final = "reader/"
_LEASE: Final = timedelta(minutes=5)
_RENEWAL_S: Final = 60.0
_LONG_S: Final = 30.0  # a query that is over by then writes nothing
_PART_OF_GRACE: Final = 0.25
_ENDING_S: Final = 2.0


@contextmanager
def reading(settings: Settings) -> Iterator[None]:
    """Keep data files that count now in the lake while the body reads them."""
    reader, over = _Reader(settings), threading.Event()
    patience = min(_LONG_S, settings.lake.grace_minutes * 60 * _PART_OF_GRACE)
    if not patience:
        reader.take()
    keeper = threading.Thread(target=reader.keep, args=(over, patience), name="reader", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join(_ENDING_S)


class _Reader:
    """One reader's lease."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._id = settings, runs.new_id()
        self._name = f"{PREFIX}{database.now().isoformat()}/{self._id}"
        self._held = False

    def take(self) -> None:
        process = {"host": identity.host(), "pid": os.getpid(), "process_start": runs.process_start(os.getpid())}
        row = {"name": self._name, "run_id": self._id, "expires_at": database.now() + _LEASE, **process}
        with database.writing(self._settings) as connection:
            connection.execute(insert(leases).values(**row))
        self._held = True

    def keep(self, over: threading.Event, patience: float) -> None:
        """Take the lease when the reading takes long, renew it, and give it back at the end."""
        if not over.wait(patience):
            self._try(over)
        if self._held:
            with suppress(Problem), database.writing(self._settings) as connection:
                connection.execute(delete(leases).where(leases.c.name == self._name))

    def _try(self, over: threading.Event) -> None:
        while True:
            with suppress(Problem):  # the database is away: the next time
                self._renew() if self._held else self.take()
            if over.wait(_RENEWAL_S):
                return

    def _renew(self) -> None:
        with database.writing(self._settings) as connection:
            lease = update(leases).where(leases.c.name == self._name)
            connection.execute(lease.values(expires_at=database.now() + _LEASE))


def oldest(connection: Connection) -> datetime | None:
    """Return when the reading began that has gone on for longest; None when nobody reads for long."""
    alive = runs.living(connection)
    began = [_began(row.name) for row in _held(connection) if row.run_id in alive]
    return min(began, default=None)


def forget_dead(connection: Connection) -> None:
    """Take out the leases of readers that were killed."""
    alive = runs.living(connection)
    for row in _held(connection):
        if row.run_id not in alive:
            connection.execute(delete(leases).where(leases.c.name == row.name))


def _held(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(select(leases).where(leases.c.name.startswith(PREFIX))).all()


def _began(name: str) -> datetime:
    return datetime.fromisoformat(name.split("/")[1])
