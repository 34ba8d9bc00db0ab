"""Heads of the stream: what Beam reads without end. One element is a partition of a topic, or all watched folders.

A mark says where reading goes on after what was handed on; the engine keeps it with its state, so both are of one
moment. Watermarks decide nothing here.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders
from apache_beam.io.unbounded_source import (
    CheckpointMark,
    UnboundedReader,
    UnboundedSource,
    _ReadFromUnboundedSourceDoFn,
)
from apache_beam.utils.timestamp import Timestamp

from callward.files import Files
from callward.streaming.patience import telling
from callward.workspace import Reference, open_transit, open_workspace
from pipelines.landing_reader import LandingReader
from pipelines.topic_reader import TopicReader
from transforms.sealed import use_transit

_POLL_S: Final = 0.2
_BLOCKS_A_BUNDLE: Final = 4
_BUNDLE_S: Final = 2.0


@dataclass(frozen=True)
class Mark(CheckpointMark):  # type: ignore[misc]
    """Where a reader goes on: an offset, or the files that it handed on and that are not committed yet."""

    offset: int | None = None
    ahead: tuple[int, ...] = ()

    def finalize_checkpoint(self) -> None:
        """Nothing: the ledger says what is committed."""


class MarkCoder(coders.Coder):  # type: ignore[misc]
    """Marks as JSON: small, and readable by another version."""

    def encode(self, value: Mark) -> bytes:
        return json.dumps([value.offset, value.ahead]).encode()

    def decode(self, encoded: bytes) -> Mark:
        offset, ahead = json.loads(encoded)
        return Mark(offset, tuple(ahead))

    def is_deterministic(self) -> bool:
        return True


class _Reader(UnboundedReader):  # type: ignore[misc]
    """A reader of blocks as Beam drives it."""

    def __init__(self, source: "_Head", blocks: TopicReader | LandingReader, files: Files) -> None:
        self._source, self._blocks, self._files = source, blocks, files
        self._current: pa.Table | None = None

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        with telling(self._files.workspace.settings, self._files.run_id):
            self._current = self._blocks.next()
        return self._current is not None

    def get_current(self) -> pa.Table:
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp.now()

    def get_watermark(self) -> Timestamp:
        return Timestamp.now()

    def get_checkpoint_mark(self) -> Mark:
        if isinstance(self._blocks, TopicReader):
            return Mark(offset=self._blocks.mark)
        return Mark(ahead=tuple(self._blocks.ahead))

    def get_current_source(self) -> UnboundedSource:
        return self._source

    def close(self) -> None:
        self._blocks.close()


@dataclass(frozen=True)
class _Head(UnboundedSource):  # type: ignore[misc]
    reference: Reference
    run_id: str
    sharding: str

    def _files(self) -> Files:
        use_transit(str(self.reference), open_transit)
        return Files(open_workspace(self.reference), self.run_id)

    def split(self, desired_num_splits: int, options: Any = None) -> list[UnboundedSource]:
        return [self]

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return MarkCoder()


@dataclass(frozen=True)
class Partition(_Head):
    """A partition of a topic of the settings. `start`: an offset instead of where the ledger says."""

    topic: str = ""
    number: int = 0
    start: int | None = None

    def create_reader(self, options: Any, checkpoint_mark: Mark | None) -> _Reader:
        files = self._files()
        start = self.start if checkpoint_mark is None else checkpoint_mark.offset
        topic = files.workspace.settings.kafka.topic(self.topic)
        return _Reader(self, TopicReader(files, topic, self.number, start, self.sharding), files)


@dataclass(frozen=True)
class Landing(_Head):
    """The landing folders of some sources."""

    sources: tuple[str, ...] = ()

    def create_reader(self, options: Any, checkpoint_mark: Mark | None) -> _Reader:
        files = self._files()
        sources = [files.workspace.settings.source(name) for name in self.sources]
        ahead = checkpoint_mark.ahead if checkpoint_mark else ()
        return _Reader(self, LandingReader(files, sources, ahead, self.sharding), files)


@dataclass(eq=False)
class ReadBlocks(beam.PTransform):  # type: ignore[misc]
    """Heads → PCollection[work table]: one element per head, as all splits of one would stay on one worker."""

    heads: Iterable[_Head]

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        # The name of Beam's own wrapper is private; setup.py pins the version that has it.
        reading = _ReadFromUnboundedSourceDoFn(
            poll_interval=_POLL_S, max_records_per_bundle=_BLOCKS_A_BUNDLE, max_read_time_seconds=_BUNDLE_S
        )
        return (
            pipeline
            | "Heads" >> beam.Create(list(self.heads))
            | "SpreadHeads" >> beam.Reshuffle()
            | "ReadHeads" >> beam.ParDo(reading).with_output_types(pa.Table)
        )
