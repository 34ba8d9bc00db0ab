"""Sources of the stream: what Beam reads without end. One element is a partition of a topic, or all watched folders.

A mark says where reading goes on after what was handed on; the engine keeps it with its state, so both are of one
moment. Watermarks decide nothing here.
"""

import json
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders
from apache_beam.io.unbounded_source import (
    CheckpointMark,
    UnboundedReader,
    UnboundedSource,
    _ReadFromUnboundedSourceDoFn,
)
from apache_beam.pvalue import PCollection
from apache_beam.utils.timestamp import Timestamp

from callward.lake.data_files import DataFiles
from callward.streaming.retry import reporting_failure
from callward.workspace import WorkspaceRef, open_transit, open_workspace
from pipelines.stream.landing_reader import LandingReader
from pipelines.stream.topic_reader import TopicReader
from transforms.coders import use_transit
from transforms.safe_errors import make_beam_safe

_POLL_S: Final = 0.2
_BLOCKS_A_BUNDLE: Final = 4
_BUNDLE_S: Final = 2.0


@dataclass(frozen=True)
class Mark(CheckpointMark):
    """Where a reader goes on: an offset, or the files that it handed on and that are not committed yet.

    `cursor` says what of a range or a file was handed on already: by which reader, and how many works of it.
    """

    offset: int | None = None
    ahead: tuple[int, ...] = ()
    cursor: str = ""

    def finalize_checkpoint(self) -> None:
        """Do nothing: the ledger knows what is committed."""


class MarkCoder(coders.Coder):
    """Marks as JSON: small, and readable by another version."""

    def encode(self, value: Mark) -> bytes:
        return json.dumps([value.offset, value.ahead, value.cursor]).encode()

    def decode(self, encoded: bytes) -> Mark:
        offset, ahead, cursor = json.loads(encoded)
        return Mark(offset, tuple(ahead), cursor)

    def is_deterministic(self) -> bool:
        return True


Blocks: TypeAlias = TopicReader | LandingReader


class _Open:
    """The readers that are open in this process, one for each source.

    Beam parks a reader with the worker thread that it paused on, and goes on with the source on any: a consumer would
    be opened anew each time. So what Beam drives only says where it stands, and the reader that stands there goes on.
    """

    def __init__(self) -> None:
        self._readers: dict[_BlockSource, _CountedReader] = {}
        self._lock = threading.Lock()

    def at(self, source: "_BlockSource", mark: Mark | None) -> "_CountedReader":
        """Return the source's reader if it stands at `mark`; else a new one: the engine went back to a checkpoint."""
        with self._lock:
            known = self._readers.get(source)
            if known is not None and mark is not None and known.cursor == mark.cursor:
                return known
            if known is not None:
                known.close()
                del self._readers[source]
            self._readers[source] = _CountedReader(source.open(mark))
            return self._readers[source]


_OPEN: Final = _Open()


class _CountedReader:
    """A reader, and how many works it has handed on."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self._name, self._count = secrets.token_hex(4), 0
        self._lock, self._closed = threading.Lock(), False

    @property
    def cursor(self) -> str:
        return f"{self._name}/{self._count}"

    def next(self) -> pa.Table | None:
        """Return the next work table. A thread that the engine gave up may still ask a closed reader: it gets None."""
        with self._lock:
            work = None if self._closed else self.blocks.next()
            self._count += work is not None
            return work

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self.blocks.close()

    @property
    def mark(self) -> Mark:
        """Return where the reader goes on."""
        blocks = self.blocks
        if isinstance(blocks, TopicReader):
            return Mark(offset=blocks.mark, cursor=self.cursor)
        return Mark(ahead=tuple(blocks.ahead), cursor=self.cursor)


class _Reader(UnboundedReader):
    """A reader of blocks as Beam drives it."""

    def __init__(self, source: "_BlockSource", mark: Mark | None) -> None:
        self._source, self._mark = source, mark
        self._current: pa.Table | None = None

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        with reporting_failure(open_workspace(self._source.reference).settings, self._source.run_id):
            reader = _OPEN.at(self._source, self._mark)
            self._current = reader.next()
            self._mark = reader.mark
        return self._current is not None

    def get_current(self) -> pa.Table:
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp.now()

    def get_watermark(self) -> Timestamp:
        return Timestamp.now()

    def get_checkpoint_mark(self) -> Mark:
        assert self._mark is not None, "Beam asks only after a read"
        return self._mark

    def get_current_source(self) -> UnboundedSource:
        return self._source

    def close(self) -> None:
        """Do nothing: the source goes on, and with it what is open for it."""


@dataclass(frozen=True)
class _BlockSource(UnboundedSource):
    reference: WorkspaceRef
    run_id: str
    sharding: str

    def open(self, mark: Mark | None) -> Blocks:
        """Return a reader that goes on at `mark`. Raises Problem."""
        raise NotImplementedError

    def create_reader(self, options: Any, checkpoint_mark: CheckpointMark | None) -> _Reader:
        make_beam_safe()  # the DoFn that reads is Beam's
        return _Reader(self, cast("Mark | None", checkpoint_mark))  # MarkCoder decodes no other

    def _files(self) -> DataFiles:
        use_transit(str(self.reference), open_transit)
        return DataFiles(open_workspace(self.reference), self.run_id)

    def split(self, desired_num_splits: int, options: Any = None) -> list[UnboundedSource]:
        return [self]

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return MarkCoder()


@dataclass(frozen=True)
class PartitionSource(_BlockSource):
    """A partition of a topic of the settings. `start`: an offset instead of where the ledger says."""

    topic: str = ""
    number: int = 0
    start: int | None = None

    def open(self, mark: Mark | None) -> Blocks:
        files = self._files()
        start = self.start if mark is None else mark.offset
        return TopicReader(files, files.workspace.settings.kafka.topic(self.topic), self.number, start, self.sharding)


@dataclass(frozen=True)
class LandingSource(_BlockSource):
    """The landing folders of some sources."""

    sources: tuple[str, ...] = ()

    def open(self, mark: Mark | None) -> Blocks:
        files = self._files()
        sources = [files.workspace.settings.source(name) for name in self.sources]
        return LandingReader(files, sources, mark.ahead if mark else (), self.sharding)


@dataclass(eq=False)
class ReadBlocks(beam.PTransform[beam.Pipeline, PCollection[pa.Table]]):
    """Sources → PCollection[work table]: one element per source, as all splits of one would stay on one worker."""

    sources: Iterable[_BlockSource]

    def expand(self, pipeline: beam.Pipeline) -> PCollection[pa.Table]:
        # The name of Beam's own wrapper is private; setup.py pins the version that has it.
        reading = _ReadFromUnboundedSourceDoFn(
            poll_interval=_POLL_S, max_records_per_bundle=_BLOCKS_A_BUNDLE, max_read_time_seconds=_BUNDLE_S
        )
        return (
            pipeline
            | "Sources" >> beam.Create(list(self.sources))
            | "SpreadSources" >> beam.Reshuffle()
            | "ReadSources" >> beam.ParDo(reading).with_output_types(pa.Table)
        )
