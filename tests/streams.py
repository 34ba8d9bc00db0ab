"""A stream without an engine, for tests: the same readers, taking in and flushes, driven by hand in this process.

What an engine may do (deliver again, lose what was not checkpointed, flush at any moment, keep a worker that it has
given up going for a while) is done here by chance, so that a property test can try hundreds of histories;
tests/pipelines/stream/test_stream.py does the same on real Flink and Kafka.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from confluent_kafka import Producer
from sqlalchemy import update

from callward import database, runs
from callward.errors import Problem
from callward.lake.data_files import DataFiles
from callward.settings import Settings
from callward.streaming import blocks, register
from callward.workspace import WorkspaceRef, open_transit, open_workspace
from pipelines.stream.landing_reader import LandingReader
from pipelines.stream.maintenance import Maintenance
from pipelines.stream.supervisor import sharding_of
from pipelines.stream.topic_reader import TopicReader
from pipelines.vacuum import remove_orphans
from schemas.tables import leases
from transforms.coders import use_transit
from transforms.cut_slices import BucketBatch, slices_of
from transforms.flush import flush
from transforms.take_in import FLUSH, take_in

Bags = dict[int, list[bytes]]


class Crash(BaseException):
    """A worker dies at a named point (callward/failpoints.py), as far as one process can play that."""


class Inline:
    """One stream at work over the landing folders of some sources."""

    def __init__(self, settings: Settings, run_id: str, sources: Sequence[str]) -> None:
        self.settings, self.run_id = settings, run_id
        self.reference = WorkspaceRef(str(settings.path), "billing-run", "stream")
        use_transit(str(self.reference), open_transit)
        self.files = DataFiles(open_workspace(self.reference), run_id)
        self.sources = [settings.source(name) for name in sources]
        self.waiting: Bags = {}
        self.maintenance = Maintenance(settings, self.reference, run_id, list(sources), {})

    def reader(self, ahead: Sequence[int] = ()) -> LandingReader:
        return LandingReader(self.files, self.sources, ahead, sharding_of(self.settings).to_json())

    def topic_reader(self, topic: str, partition: int = 0, start: int | None = None) -> TopicReader:
        sharding = sharding_of(self.settings).to_json()
        return TopicReader(self.files, self.settings.kafka.topic(topic), partition, start, sharding)

    def works(self, reader: LandingReader) -> Iterator[pa.Table]:
        """What a reader hands on until it has nothing more."""
        while (work := next_of(reader)) is not None:
            if FLUSH not in work.schema.metadata:
                yield work

    def take(self, work: pa.Table) -> None:
        """Take a work in; what comes of it waits for its buckets' flushes."""
        for bucket, sealed in self.taken(work):
            self.waiting.setdefault(bucket, []).append(sealed)

    def taken(self, work: pa.Table) -> list[tuple[int, bytes]]:
        """(bucket, sealed batch) of a work."""
        return slices_of(take_in(work, self.files, True), self.files)

    def flush(self, bucket: int) -> int:
        return flush(bucket, self.waiting.pop(bucket, []), self.files)

    def flush_all(self) -> None:
        for bucket in sorted(self.waiting):
            self.flush(bucket)

    def spilled(self, bags: Bags) -> list[str]:
        """Names of the batches in flight that some bucket batches name."""
        return [
            name for bag in bags.values() for blob in bag for name in BucketBatch.open(blob, self.files.workspace).names
        ]


def begin(settings: Settings, resources: Sequence[str]) -> str:
    """A stream's run, as `callward stream start` begins one."""
    run_id = runs.start(settings, register.KIND, resources)
    register.begin(settings, run_id, resources, "by hand")
    return run_id


def let_go(settings: Settings, run_id: str) -> None:
    """The supervisor of a run is not there any more: whoever wants its leases may have them."""
    with database.writing(settings) as connection:
        connection.execute(update(leases).where(leases.c.run_id == run_id).values(process_start="another time"))


def next_of(reader: LandingReader) -> pa.Table | None:
    """A reader's next block; it looks into the folders at once."""
    reader._polled = -1e9
    return reader.next()


@contextmanager
def inline(settings: Settings, sources: Sequence[str]) -> Iterator[Inline]:
    """A stream of landing folders that this process drives; closed as stopped at the end."""
    with runs.running(settings, register.KIND, [f"source/{name}" for name in sources]) as run_id:
        register.begin(settings, run_id, [f"source/{name}" for name in sources], "by hand")
        work = Inline(settings, run_id, sources)
        yield work
        work.maintenance.tick(last=True)
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


# -- an engine that goes wrong -----------------------------------------------------------------------------------------


class Engine:
    """A stream of landing folders as an engine might run it, step by step, with all that may go wrong in one.

    Its state (a reader's mark, and the batches of each bucket) goes back to the last checkpoint when it fails; what
    workers did in the world meanwhile (ledger, lake, spilled batches) does not.
    """

    def __init__(self, settings: Settings, sources: Sequence[str]) -> None:
        self._sources = list(sources)
        self._old: list[tuple[Inline, LandingReader]] = []  # readers and works of attempts that were given up,
        self._ghosts: list[tuple[Inline, int, list[bytes]]] = []  # and flushes of theirs that are still on their way
        self.begin(settings)

    @property
    def waiting(self) -> Bags:
        return self.work.waiting

    def begin(self, settings: Settings) -> None:
        """A new run, as `callward stream start` begins one."""
        run_id = begin(settings, [f"source/{name}" for name in self._sources])
        remove_orphans(settings)
        self.work = Inline(settings, run_id, self._sources)
        self.reader = self.work.reader()
        self.checkpoint()

    # -- what goes well ---------------------------------------------------------------------------------------------

    def read(self) -> bool:
        """Take in the next block, if there is one."""
        work = next_of(self.reader)
        if work is None or FLUSH in work.schema.metadata:
            return False
        self.work.take(work)
        return True

    def flush(self, which: int) -> None:
        """Flush one of the buckets that hold something."""
        if self.waiting:
            self.work.flush(sorted(self.waiting)[which % len(self.waiting)])

    def checkpoint(self) -> None:
        self._kept = list(self.reader.ahead), {bucket: list(bag) for bucket, bag in self.waiting.items()}

    def close_files(self) -> None:
        self.work.maintenance._close_files()

    def stop(self, *, last: bool = False) -> None:
        """Stop in order: all that was read is committed. With `last` all that a supervisor does then is done."""
        with database.writing(self.work.settings) as connection:
            register.mark_stop(connection, [self.work.run_id])
        while self.read():
            pass
        self.work.flush_all()
        with database.reading(self.work.settings) as connection:
            assert blocks.waiting(connection, self._sources, []) == 0
        self.work.maintenance.tick(last=True) if last else self.close_files()
        remove_orphans(self.work.settings, over={self.work.run_id})
        register.end(self.work.settings, self.work.run_id, "stopped")
        runs.finish(self.work.settings, self.work.run_id, "done", {})

    # -- and what does not ------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """A worker died: back to the checkpoint. What others did just then may still come to its end."""
        self._ghosts += [(self.work, bucket, list(bag)) for bucket, bag in self.waiting.items()]
        self._old.append((self.work, self.reader))
        ahead, bags = self._kept
        self.work.waiting = {bucket: list(bag) for bucket, bag in bags.items()}
        self.reader = self.work.reader(ahead)

    def haunt(self, which: int) -> None:
        """A flush of an attempt that was given up comes to its end only now."""
        if self._ghosts:
            work, bucket, bag = self._ghosts.pop(which % len(self._ghosts))
            self._as_it_may(work, lambda: flush(bucket, bag, work.files))

    def read_again(self, which: int) -> None:
        """A reader that was given up goes on for a block; nobody gets what comes of it."""
        if self._old:
            work, reader = self._old[which % len(self._old)]

            def read() -> None:
                found = next_of(reader)
                if found is not None and FLUSH not in found.schema.metadata:
                    work.taken(found)

            self._as_it_may(work, read)

    def _as_it_may(self, work: Inline, step) -> None:  # type: ignore[no-untyped-def]
        """What a run that is over tries is refused, and its batches may be gone."""
        try:
            step()
        except (Problem, FileNotFoundError):
            if work.run_id == self.work.run_id:
                raise

    def deliver_twice(self, which: int) -> None:
        """A bucket gets again what it holds."""
        if self.waiting:
            bag = self.waiting[sorted(self.waiting)[which % len(self.waiting)]]
            bag += bag

    def let_go(self) -> None:
        """The supervisor is not there any more."""
        let_go(self.work.settings, self.work.run_id)

    def kill(self, settings: Settings) -> None:
        """The supervisor is killed, and the stream started anew: all state is gone."""
        self.let_go()
        self._ghosts += [(self.work, bucket, list(bag)) for bucket, bag in self.waiting.items()]
        self._old.append((self.work, self.reader))
        self.begin(settings)

    def finish(self) -> None:
        """Take in all that is left, and stop for good, with all that a supervisor does then."""
        with database.reading(self.work.settings) as connection:
            asked = register.stopping(connection, self.work.run_id)
        if asked:  # it reads nothing more: a worker died while it stopped, and what landed since is for the next one
            self.stop()
            self.begin(self.work.settings)
        while self.read() or self.waiting:
            self.work.flush_all()
        self.stop(last=True)


def send(bootstrap: str, topic: str, values: Sequence[tuple[bytes, list[tuple[str, bytes]]]]) -> None:
    """Send (value, headers) to a topic, each to any of its partitions."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "random", "sticky.partitioning.linger.ms": 0})
    for value, headers in values:
        producer.produce(topic, value, headers=headers)
    assert producer.flush(120) == 0
