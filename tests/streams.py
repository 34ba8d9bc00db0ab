"""A stream without an engine, for tests: the same readers, taking in and flushes, driven by hand in this process.

What an engine may do (deliver again, lose what was not checkpointed, flush at any moment) is done here by chance, so
that a property test can try hundreds of histories; tests/test_stream.py does the same on real Flink and Kafka.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from callward import runs
from callward.files import Files
from callward.settings import Settings
from callward.streaming import register
from callward.workspace import Reference, open_transit, open_workspace
from pipelines.house import House
from pipelines.landing_reader import LandingReader, limit_of
from pipelines.stream import sharding_of
from transforms.flush import flush
from transforms.sealed import use_transit
from transforms.take_in import FLUSH, parcels, take_in


class Inline:
    """One stream at work over the landing folders of some sources."""

    def __init__(self, settings: Settings, run_id: str, sources: Sequence[str]) -> None:
        self.settings, self.run_id = settings, run_id
        self.reference = Reference(str(settings.path), "billing-run", "stream")
        use_transit(str(self.reference), open_transit)
        self.files = Files(open_workspace(self.reference), run_id)
        self.sources = [settings.source(name) for name in sources]
        self.limits = {source.name: limit_of(settings, source) for source in settings.sources}
        self.waiting: dict[int, list[bytes]] = {}
        self.house = House(settings, self.reference, run_id, list(sources), {})

    def reader(self, ahead: Sequence[int] = ()) -> LandingReader:
        return LandingReader(self.files, self.sources, ahead, sharding_of(self.settings).to_json())

    def works(self, reader: LandingReader) -> Iterator[pa.Table]:
        """What a reader hands on until it has nothing more."""
        reader._polled = -1e9
        while (work := reader.next()) is not None:
            if FLUSH not in work.schema.metadata:
                yield work
            if not reader._ready:
                reader._polled = -1e9

    def take(self, work: pa.Table) -> None:
        taken = take_in(work, self.limits, self.files, True)
        for bucket, parcel in parcels(work, taken, self.files):
            self.waiting.setdefault(bucket, []).append(parcel.seal(self.files.workspace))

    def flush(self, bucket: int) -> int:
        return flush(bucket, self.waiting.pop(bucket, []), self.files)

    def flush_all(self) -> None:
        for bucket in sorted(self.waiting):
            self.flush(bucket)


@contextmanager
def inline(settings: Settings, sources: Sequence[str]) -> Iterator[Inline]:
    """A stream of landing folders that this process drives; closed as stopped at the end."""
    with runs.running(settings, register.KIND, [f"source/{name}" for name in sources]) as run_id:
        register.begin(settings, run_id, [f"source/{name}" for name in sources], "by hand")
        work = Inline(settings, run_id, sources)
        yield work
        work.house.round(last=True)
        register.end(settings, run_id, "stopped")
        runs.finish(settings, run_id, "done", {})


def stream_once(settings: Settings, sources: Sequence[str], chance: random.Random | None = None) -> None:
    """Take in all that has landed, flushing now and then."""
    with inline(settings, sources) as work:
        for block in work.works(work.reader()):
            work.take(block)
            if chance is not None and chance.random() < 0.3:
                for bucket in list(work.waiting):
                    if chance.random() < 0.5:
                        work.flush(bucket)
        work.flush_all()


