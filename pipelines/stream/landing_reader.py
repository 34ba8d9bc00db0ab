"""The watched landing folders, read as blocks of files: a night's intake that never ends.

Which files are complete, how they are cut, registered and named is the night's own way (pipelines.intake). What was
handed on and is not committed yet is this reader's mark; the ledger knows the rest.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
from sqlalchemy import Row

from callward import database
from callward.database import DatabaseAway
from callward.failpoints import point
from callward.ingest.contents import FileUnreadable
from callward.ingest.landing import Arrival, FileChanged, LeftAlone, arrivals, unchanged
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.redaction import mask
from callward.settings import Source
from callward.streaming import blocks, register
from pipelines import intake as intakes
from pipelines.engine import log as stream_log
from pipelines.intake import Intake
from pipelines.stream.topic_reader import flush_now
from transforms.cut_slices import SUSPENDED
from transforms.error_limit import error_limit, over_limit
from transforms.take_in import count_faults

_FILES_AT_ONCE: Final = 2000
_FILES_AHEAD: Final = 20_000
Seen: TypeAlias = tuple[Path, int, int]


class LandingReader:
    """Blocks of what arrives for some sources. `ahead`: ledger numbers of files that were handed on before."""

    def __init__(self, files: DataFiles, sources: Sequence[Source], ahead: Sequence[int], sharding: str) -> None:
        self._files, self._sources, self._sharding = files, list(sources), sharding
        self._settings = files.workspace.settings
        self._ready: deque[tuple[pa.Table, frozenset[int]]] = deque()  # works, and the files that are done with each
        self._seen: set[Seen] = set()  # as they were when they were last looked at: they need no second look
        self._reported: set[tuple[str, str]] = set()  # source and reason of what is left alone
        self._planned_contents: dict[str, str] = {}  # content of a file: the source that it was planned for
        self._ahead: dict[int, int] = dict.fromkeys(ahead, 0)  # file_no: bytes
        self._polled, self._looked_back = 0.0, False
        self._stopping, self._flushed = False, False

    @property
    def ahead(self) -> list[int]:
        """Return the numbers of files that were handed on and are not known to be committed, sorted."""
        return sorted(set(self._ahead).difference(*(files for _, files in self._ready)))

    def next(self) -> pa.Table | None:
        """Return the next block (a work table), or None when there is none yet. Raises Problem."""
        if not self._ready and time.monotonic() - self._polled >= self._settings.stream.poll_seconds:
            self._polled = time.monotonic()
            try:
                return self._poll()
            except DatabaseAway:
                return None
        return self._pop()

    def _pop(self) -> pa.Table | None:
        return self._ready.popleft()[0] if self._ready else None

    def close(self) -> None:
        self._ready.clear()

    def _poll(self) -> pa.Table | None:
        with database.reading(self._settings) as connection:
            self._stopping = register.stopping(connection, self._files.run_id)
            for number in intakes.complete(connection, list(self._ahead)):
                del self._ahead[number]
        if not self._ahead:  # the ledger knows what they held
            self._planned_contents.clear()
        if not self._looked_back:
            self._forget_changed()
            self._looked_back = True
        arrived = list(self._planned())
        if arrived:
            self._take(arrived)
            self._flushed = False
        if self._stopping and not self._ready and not self._flushed:
            self._flushed = True
            return flush_now()
        return self._pop()

    def _forget_changed(self) -> None:
        """Drop files that an attempt before has begun, and that are not as they were: nobody can read on in them."""
        with database.reading(self._settings) as connection:
            rows = intakes.begun(connection, [source.name for source in self._sources])
        changed = [row.file_no for row in rows if row.file_no not in self._ahead and not self._is_there(row)]
        if changed:
            with database.writing(self._settings) as connection:
                blocks.drop_changed(connection, changed)

    def _is_there(self, row: Row[Any]) -> bool:
        arrival = intakes.arrival_of(row, self._files)
        return arrival.path.exists() and unchanged(arrival)

    # -- which files ------------------------------------------------------------------------------------------------

    def _planned(self) -> Iterator[Intake]:
        """Yield files that have arrived and are not on their way yet, as many as may be ahead of the commits.

        A stream that stops takes no new ones, but ends those that it has begun.
        """
        stream = self._settings.stream
        most, count = int(stream.blocks_ahead * stream.block_mebibytes * (1 << 20)), 0
        size, present = sum(self._ahead.values()), set()
        for source in self._sources:
            for arrival in arrivals(self._settings, source):
                if isinstance(arrival, LeftAlone):
                    self._report(source, arrival)
                    continue
                present.add(_as_seen(arrival))
                if _as_seen(arrival) in self._seen:
                    continue
                if size >= most or count >= _FILES_AT_ONCE or len(self._ahead) + count >= _FILES_AHEAD:
                    return
                planned = self._plan(arrival, source)
                if planned is not None:
                    yield planned
                    size, count = size + planned.bytes, count + 1
        self._seen &= present  # those that were taken out of the folder are forgotten

    def _report(self, source: Source, left: LeftAlone) -> None:
        """Log once why files of a source are left alone, where a person must look."""
        if left.wrong and (source.name, left.reason) not in self._reported:
            self._reported.add((source.name, left.reason))
            stream_log.say("left-alone", logging.WARNING, source=source.name, reason=left.reason)

    def _plan(self, arrival: Arrival, source: Source) -> Intake | None:
        status = intakes.known_status(self._files, arrival)
        if self._stopping and status != "reading":
            return None
        self._seen.add(_as_seen(arrival))
        if status in ("committed", "removed"):
            return None
        try:
            planned = intakes.plan(arrival, source, self._files, self._planned_contents)
        except FileUnreadable as problem:
            intakes.register_unreadable(arrival, str(problem), self._files, self._files.run_id)
            self._report(source, LeftAlone(mask(arrival.name), str(problem), True))
            return None
        except FileChanged:  # it comes again, as another file
            self._seen.discard(_as_seen(arrival))
            return None
        if planned.file_no in self._ahead:
            self._ahead[planned.file_no] = planned.bytes
            return None
        return planned

    # -- what is handed on ------------------------------------------------------------------------------------------

    def _take(self, files: list[Intake]) -> None:
        files = intakes.register(files, self._files, self._files.run_id, self._sharding)
        point("block-registered")
        filled = sorted((planned for planned in files if planned.blocks), key=_cut)
        for (sharding, now_ms), alike in groupby(filled, key=_cut):
            self._hand_on(list(alike), now_ms, sharding)
        self._ahead |= {planned.file_no: planned.bytes for planned in files}

    def _hand_on(self, planned: list[Intake], now_ms: int, sharding: str) -> None:
        """Queue files of a block or less together, each whole, larger ones block by block. So works of two attempts may
        have other files together, but never other blocks of a file."""
        block = int(self._settings.waves.block_mebibytes * (1 << 20))
        for intake in planned:
            self._look_up_checked(intake)
        together = [intake for intake in planned if intake.blocks and intake.bytes <= block]
        for intake in planned:
            if intake.bytes > block:
                self._hand_on_large(intake, now_ms, sharding)
        for chunk in intakes.chunks(together, self._files):
            self._add(intakes.work(chunk, together, now_ms, sharding))

    def _look_up_checked(self, intake: Intake) -> None:
        """Mark a file as touched when what is suspended of a block is committed: it was checked then."""
        suspended = {(intake.file_no, b.number, SUSPENDED) for b in intake.blocks}
        with database.reading(self._settings) as connection:
            intake.touched |= bool(ledger.committed_slices(connection, suspended))

    def _hand_on_large(self, intake: Intake, now_ms: int, sharding: str) -> None:
        if intake.by_content:  # its records are distinguished by their place in the file
            self._add(intakes.work(intakes.whole_chunk(intake), [intake], now_ms, sharding))
            return
        if intake.unchecked:
            self._check(intake, now_ms, sharding)
        for block in intake.blocks:
            self._add(intakes.work(intakes.whole_chunk(replace(intake, blocks=[block])), [], now_ms, sharding))

    def _add(self, work: pa.Table) -> None:
        """Queue a work. A file counts as handed on when the last work with a block of it is."""
        self._ready.append((work, frozenset(work["file_no"].to_pylist())))

    def _check(self, intake: Intake, now_ms: int, sharding: str) -> None:
        """Read a file that is handed on in parts once before, for its error rate."""
        works = (intakes.work(chunk, [], now_ms, sharding) for chunk in intakes.chunks([intake], self._files))
        facts = Changes.merge(count_faults(work, self._files) for work in works)
        if over_limit(facts, {intake.file_no: error_limit(self._settings, intake.source)}):
            intakes.condemn([intake], self._files)


def _as_seen(arrival: Arrival) -> Seen:
    return arrival.path, arrival.size, arrival.modified_ns


def _cut(planned: Intake) -> tuple[str, int]:
    """Return how and when a file's blocks were registered: all at once."""
    return planned.blocks[0].sharding, planned.blocks[0].now_ms
