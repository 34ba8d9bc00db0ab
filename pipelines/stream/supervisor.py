"""stream: the supervisor of a stream. It submits the job, does maintenance, and ends it so that nothing is left between
read and committed. A stream that was killed is just started again: the ledger says where it goes on.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from callward import database, in_force, runs
from callward.database import DatabaseAway
from callward.error_text import error_text
from callward.errors import Problem, UsageProblem
from callward.ingest import kafka
from callward.settings import Settings, Source, Topic
from callward.streaming import blocks, register
from callward.workspace import WorkspaceRef, open_transit, open_workspace
from pipelines.engine import flink, flink_jobs, process
from pipelines.engine import log as stream_log
from pipelines.engine.options import Options
from pipelines.readiness.checks import require
from pipelines.results import Part, Result, to_document
from pipelines.stream import metrics_server, offsets
from pipelines.stream.maintenance import Maintenance
from pipelines.stream.sources import LandingSource, PartitionSource, ReadBlocks
from pipelines.vacuum import remove_orphans
from transforms import safe_errors
from transforms.coders import use_transit
from transforms.cut_slices import CutSlices
from transforms.elements import Sharding
from transforms.flush import Flush
from transforms.take_in import TakeIn

ROLE: Final = "billing-run"
Progress = Callable[[str], None]
_TICK_S: Final = 1.0
_OVER: Final = (PipelineState.DONE, PipelineState.FAILED, PipelineState.CANCELLED, PipelineState.UPDATED)


@dataclass(frozen=True)
class Feed:
    """What a stream reads: landing folders of sources, and partitions of topics."""

    sources: tuple[Source, ...]
    topics: tuple[Topic, ...]
    partitions: dict[str, list[int]]

    @property
    def leases(self) -> list[str]:
        return [f"source/{s.name}" for s in self.sources] + [f"kafka/{t.name}" for t in self.topics]

    @property
    def source_count(self) -> int:
        return bool(self.sources) + sum(map(len, self.partitions.values()))


@dataclass(frozen=True)
class StreamPlan(Result):
    """What a stream would read: sources and topics as leases, partitions by topic."""

    dry_run: bool
    reads: Sequence[str]
    partitions: Mapping[str, Sequence[int]]

    def render(self) -> Iterator[Part]:
        yield f"would read {', '.join(self.reads)}"


@dataclass(frozen=True)
class StreamEnd(Result):
    """How a stream ended, and what it did."""

    run_id: str
    reason: str
    commits: int
    retries: int
    rows: int
    suspended: int

    def render(self) -> Iterator[Part]:
        yield f"stream {self.run_id} {self.reason}: {self.rows:,} records in {self.commits:,} commits"


@dataclass(frozen=True)
class StopReport(Result):
    """Streams that were asked to stop, or would be, and why each ended."""

    streams: Sequence[register.StreamStop]
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"dry_run": self.dry_run, "streams": to_document(self.streams)}

    def render(self) -> Iterator[Part]:
        asked = "would be asked to stop" if self.dry_run else "was asked to stop"
        for stream in self.streams:
            yield f"stream {stream.run_id}: {stream.reason or asked}"
        if not self.streams:
            yield "no stream is at work"


def start(
    settings: Settings,
    only: Sequence[str] = (),
    *,
    skip_lost: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda line: None,
) -> StreamPlan | StreamEnd:
    """Run a stream until it is asked to stop, by signal or by `callward stream stop`; return how it ended.

    `only`: names of sources or topics. `skip_lost`: go on behind messages that the broker has not kept.
    Raises Problem with the reason when the stream cannot go on.
    """
    sources, topics = _chosen(settings, only)
    require(settings, sources, streaming=True)
    feed = _feed(settings, sources, topics)
    if dry_run:
        return StreamPlan(True, feed.leases, feed.partitions)
    with runs.running(settings, register.KIND, feed.leases) as run_id:
        stream = _Stream(settings, feed, run_id, skip_lost, progress)
        try:
            reason = stream.run()
        except BaseException as problem:
            register.end(settings, run_id, str(problem) if isinstance(problem, Problem) else "it was interrupted")
            raise
        register.end(settings, run_id, reason)
        ended = StreamEnd(run_id, reason, **register.counters(settings, run_id))
        runs.finish(settings, run_id, "done", vars(ended))
    return ended


def stop(
    settings: Settings, *, wait: bool = True, dry_run: bool = False, progress: Progress = lambda line: None
) -> StopReport:
    """Ask the streams at work to stop and wait until all that they read is committed.

    Raises Problem when one does not end within stream.stop_seconds.
    """
    run_ids = register.at_work(settings) if dry_run else register.request_stop(settings)
    until = time.monotonic() + settings.stream.stop_seconds + 60
    for run_id in run_ids if wait and not dry_run else ():
        progress(f"stream {run_id}: stops when all that was read is committed")
        while not register.is_over(settings, run_id):
            if time.monotonic() > until:
                raise Problem(f"stream {run_id} has not ended yet; 'callward stream status' says what it waits for")
            time.sleep(0.5)
    return StopReport([register.stop_of(settings, run_id) for run_id in run_ids], dry_run)


def _chosen(settings: Settings, only: Sequence[str]) -> tuple[list[Source], list[Topic]]:
    """Return the sources and topics of these names, or all. Raises UsageProblem where there is none."""
    known = {source.name for source in settings.sources} | {topic.name for topic in settings.kafka.topics}
    for name in only:
        if name not in known:
            settings.source(name)  # says the nearest right one
    sources = [s for s in settings.sources if not only or s.name in only]
    topics = [t for t in settings.kafka.topics if not only or t.name in only or set(t.all_sources) & set(only)]
    if not sources and not topics:
        raise UsageProblem(f"{settings.path.name}: there is neither a [[sources]] nor a [[kafka.topics]] yet")
    return sources, topics


def _feed(settings: Settings, sources: Sequence[Source], topics: Sequence[Topic]) -> Feed:
    """Return what is read, with the partitions that the broker has. Raises Problem where it does not answer."""
    if topics:
        kafka.check(settings, open_workspace(_reference(settings)))
    partitions = {topic.name: kafka.topic_partitions(settings, topic.name) for topic in topics}
    return Feed(tuple(sources), tuple(topics), partitions)


def _reference(settings: Settings) -> WorkspaceRef:
    return WorkspaceRef.of(settings, ROLE, register.KIND, time.strftime("%Y-%m", time.gmtime()))


class _Stream:
    """One stream at work, seen from its supervisor."""

    def __init__(self, settings: Settings, feed: Feed, run_id: str, skip_lost: bool, progress: Progress) -> None:
        self._settings, self._feed, self._run_id = settings, feed, run_id
        self._skip_lost, self._progress = skip_lost, progress
        self._reference = _reference(settings)
        self._asked = threading.Event()  # by a signal
        self._maintenance = Maintenance(
            settings, self._reference, run_id, [s.name for s in feed.sources], feed.partitions
        )

    def run(self) -> str:
        """Serve until the end; return why it ended. Raises Problem where the stream cannot go on."""
        stream_log.prepare(stream_log.SUPERVISOR, self._run_id)
        register.begin(self._settings, self._run_id, self._feed.leases, f"flink {self._settings.engine.flink_master}")
        self._end_left_over()
        remove_orphans(self._settings)
        opened = open_workspace(self._reference)
        opened.enter(self._all_sources())
        in_force.record(opened, self._run_id)
        starts = offsets.starts(self._settings, self._feed.partitions, self._run_id, skip_lost=self._skip_lost)
        asked = offsets.watermarks(self._settings, self._feed.partitions) if self._feed.topics else None
        with (
            self._signals(),
            metrics_server.serve(self._settings, self._run_id, asked) as watch,
            self._job(starts) as job,
        ):
            self._progress(f"stream {self._run_id} runs: {', '.join(self._feed.leases)}")
            try:
                reason = self._serve(job, watch)
            finally:
                self._cancel(job)
        self._maintenance.tick(last=True)
        remove_orphans(self._settings, over={self._run_id})
        return reason

    @property
    def _name(self) -> str:
        """Return what the engine knows the job by."""
        return f"callward-stream-{self._run_id}"

    def _serve(self, job: Any, watch: metrics_server.Monitor) -> str:
        since: float | None = None
        while True:
            state = job.state
            watch.heartbeat(job_runs=state not in _OVER)
            stopping, failure, left = self._look()
            if failure:
                raise Problem(failure)
            if state in _OVER:
                raise Problem(f"the engine's job ended by itself ({state}); start the stream again: it goes on")
            self._maintenance.tick(lambda: watch.heartbeat(job_runs=True))
            if stopping:
                since = since or time.monotonic()
                if left == 0:
                    return "stopped"
                if time.monotonic() - since > self._settings.stream.stop_seconds:
                    raise Problem(
                        f"{left} blocks were read and not committed within stream.stop_seconds "
                        f"({self._settings.stream.stop_seconds:g}); the next start takes them up"
                    )
            time.sleep(_TICK_S)

    def _look(self) -> tuple[bool, str | None, int | None]:
        """Return whether to stop, why it failed, and how many blocks wait; unknown while the database is away."""
        try:
            if self._asked.is_set():
                with database.writing(self._settings) as connection:
                    register.mark_stop(connection, [self._run_id])
            with database.reading(self._settings) as connection:
                runs.require(connection, self._run_id)
                stopping = register.stopping(connection, self._run_id)
                sources, names = ([x.name for x in group] for group in (self._feed.sources, self._feed.topics))
                left = blocks.waiting(connection, sources, names)
                return stopping, register.failure(connection, self._run_id), left
        except DatabaseAway:
            return False, None, None

    def _all_sources(self) -> list[Source]:
        """Return every source that records may be of: those of its folders, and those of its topics."""
        named = {name for topic in self._feed.topics for name in topic.all_sources}
        named |= {source.name for source in self._feed.sources}
        return [source for source in self._settings.sources if source.name in named]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGTERM and Ctrl-C stop the stream in order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self._asked.set()

    # -- the job ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _job(self, starts: dict[tuple[str, int], int]) -> Iterator[Any]:
        """Yield the submitted job. Raises Problem where the engine does not take it."""
        process.prepare()
        safe_errors.make_beam_safe()
        use_transit(str(self._reference), open_transit)
        with self._options() as options:
            pipeline = beam.Pipeline(options=options)
            self._build(pipeline, starts)
            try:
                job = pipeline.run()
            except Exception as error:
                raise Problem(f"the engine did not take the job: {error_text(error).line}") from None
            register.note_job(self._settings, self._run_id, self._name)
            yield job

    @contextmanager
    def _options(self) -> Iterator[Options]:
        with flink.job_server(self._settings) as endpoint:
            flags = flink.flags(self._settings, streaming=True, endpoint=endpoint)
            yield Options([*flags, f"--job_name={self._name}"])

    def _build(self, pipeline: beam.Pipeline, starts: dict[tuple[str, int], int]) -> None:
        """Add the steps: blocks → what was taken in → sealed batches by bucket → commits."""
        stream, sharding = self._settings.stream, sharding_of(self._settings)
        archive = self._settings.landing.after_commit == "archive"
        (
            pipeline
            | "Read" >> ReadBlocks(self._sources(starts, sharding.to_json()))
            | "TakeIn" >> TakeIn(self._reference, self._run_id, archive, stream=True)
            | "CutSlices" >> CutSlices(self._reference, self._run_id, sharding.buckets)
            | "Flush" >> Flush(self._reference, self._run_id, stream.flush_seconds, _bytes(stream.flush_mebibytes))
        )

    def _sources(self, starts: dict[tuple[str, int], int], sharding: str) -> list[LandingSource | PartitionSource]:
        common = self._reference, self._run_id, sharding
        sources: list[LandingSource | PartitionSource] = [
            PartitionSource(*common, topic, number, starts.get((topic, number)))
            for topic, numbers in self._feed.partitions.items()
            for number in numbers
        ]
        if self._feed.sources:
            sources.append(LandingSource(*common, tuple(source.name for source in self._feed.sources)))
        return sources

    def _cancel(self, job: Any) -> None:
        with suppress(Exception):  # it is over, or the job server is: the ledger says what counts
            job.cancel()
        if not flink.is_local(self._settings):
            flink_jobs.cancel(self._settings, self._name)

    def _end_left_over(self) -> None:
        """End jobs of streams that died: on a cluster they go on without a supervisor, and cannot commit."""
        with database.reading(self._settings) as connection:
            left = register.unfinished_jobs(connection, self._run_id)
        for run_id, job_id in left:
            if job_id and not flink.is_local(self._settings):
                flink_jobs.cancel(self._settings, job_id)
            register.end(self._settings, run_id, "its supervisor died")


def sharding_of(settings: Settings) -> Sharding:
    """Return how a stream spreads records: large tenants over all buckets, each small one in a bucket."""
    stream = settings.stream
    spread = stream.spread or (list(settings.tenants) if len(settings.tenants) == 1 else [])
    bits = stream.buckets.bit_length() - 1
    return Sharding(stream.buckets, {tenant: bits for tenant in spread if bits})


def _bytes(mebibytes: float) -> int:
    return int(mebibytes * (1 << 20))
