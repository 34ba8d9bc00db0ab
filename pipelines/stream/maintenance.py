"""Maintenance of a stream, by its supervisor: committed files leave the landing folder, pending pieces are looked
through, small files are merged, restrictions are marked, and the broker learns where the ledger stands.

All of it may fail in passing, and is done the next time.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select

from callward import database
from callward.errors import Problem
from callward.ingest.kafka import BrokerProblem
from callward.lake import ledger, shares
from callward.lake.data_files import DataFiles
from callward.retention.requests import restrictions
from callward.settings import Settings
from callward.streaming import blocks
from callward.workspace import WorkspaceRef, open_workspace
from pipelines import compact
from pipelines import intake as intakes
from pipelines.engine import log as stream_log
from pipelines.engine.child_process import die_with_parent
from pipelines.monitoring import alerts, feeds
from pipelines.monitoring.alarms import alarms
from pipelines.network_elements import match_all
from pipelines.pending import expire_pending
from pipelines.stream import offsets
from schemas.tables import input_files

_FILES_S: Final = 2.0
_SLICES_KEPT: Final = timedelta(days=1)  # for the figures, of blocks that are complete


class _Merging:
    """`callward compact` in a process of its own: the supervisor neither waits for it nor keeps the memory it took."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Start a process where there is something to merge and none is at work."""
        if self._process is None and compact.is_due(self._settings):
            program = sys.executable, "-P", "-m", "pipelines.cli.main"
            self._process = subprocess.Popen(
                die_with_parent([*program, "compact", "--json", "--config", str(self._settings.path)]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C asks the stream to stop, not this
            )

    def end(self, *, wait: bool = False) -> None:
        """Clear the process if it is over. Raises Problem with what it wrote when it could not merge."""
        process = self._process
        if process is None or (not wait and process.poll() is None):
            return
        error = process.communicate()[1].strip().removeprefix("callward: ")
        self._process = None
        if process.returncode:
            raise Problem(f"small files were not merged: {error or f'compact ended with {process.returncode}'}")


class Maintenance:
    """The work that is due in each tick of the supervisor."""

    def __init__(
        self,
        settings: Settings,
        reference: WorkspaceRef,
        run_id: str,
        sources: Sequence[str],
        partitions: Mapping[str, list[int]],
    ) -> None:
        self._settings, self._run_id, self._sources = settings, run_id, list(sources)
        self._partitions = partitions
        self._files = DataFiles(open_workspace(reference), run_id)
        self._merging = _Merging(settings)
        self._filed = self._kept = time.monotonic()

    def tick(self, heartbeat: Callable[[], None] = lambda: None, *, last: bool = False) -> None:
        """Do what is due; with `last` all of it. `heartbeat` is called between, as some of it takes its time."""
        now = time.monotonic()
        if last or now - self._filed >= _FILES_S:
            self._passing(self._close_files)
            self._passing(self._merging.end)
            self._filed = time.monotonic()
        if last or now - self._kept >= self._settings.stream.maintenance_minutes * 60:
            for work in (self._tidy, self._merging.begin, self._mark, self._watch, self._commit_offsets):
                self._passing(work)
                heartbeat()
            self._kept = time.monotonic()
        if last:
            self._passing(lambda: self._merging.end(wait=True))

    def _passing(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (Problem, OSError) as problem:
            stream_log.failed("maintenance", problem, logging.WARNING, run=self._run_id)

    def _close_files(self) -> None:
        """Take landing files whose last block is committed out of the folder, as after a night's wave."""
        f = input_files.c
        landed = f.source.in_(self._sources) & f.status.in_(("reading", "committed")) & (f.path_form != blocks.TOPIC)
        with database.reading(self._settings) as connection:
            rows = {row.file_no: row for row in connection.execute(select(input_files).where(landed))}
            complete = intakes.complete(connection, list(rows))
        if not complete:
            return
        intakes.close_files(self._files, {no: intakes.arrival_of(rows[no], self._files) for no in complete})

    def _tidy(self) -> None:
        expire_pending(self._settings, self._files.workspace, self._run_id, int(time.time() * 1000))
        match_all(self._settings, self._files.workspace, self._run_id)
        with database.writing(self._settings) as connection:
            blocks.close_days(connection, datetime.now(UTC).date())
            ledger.forget_slices(connection, database.now() - _SLICES_KEPT)

    def _mark(self) -> None:
        restrictions.mark(self._settings)

    def _watch(self) -> None:
        """Look at the feeds as a night does, and tell of what is strange."""
        now, topics = database.now(), self._settings.kafka.topics
        of_topics = {name for topic in topics if topic.name in self._partitions for name in topic.all_sources}
        of = [source for source in self._settings.sources if source.name in {*self._sources, *of_topics}]
        names = [source.name for source in of]
        found = feeds.look(self._files, of, now, landed=self._sources)
        with database.reading(self._settings) as connection:
            day = shares.last_day(connection, self._run_id)
            found += alarms(self._files.workspace, connection, self._run_id, {}, day)
        mine = [alarm for alarm in found if alarm.source in names]
        for sentence in alerts.stand(self._settings, names, mine, now):
            stream_log.say("alert-unsent", logging.WARNING, reason=sentence)

    def _commit_offsets(self) -> None:
        if self._partitions:
            try:
                offsets.commit_offsets(self._settings, self._partitions)
            except BrokerProblem:  # only who watches the group's lag misses it
                return
