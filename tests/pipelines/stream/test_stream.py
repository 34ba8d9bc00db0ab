"""Promise 8 on real servers: a stream from Kafka and watched folders, on Flink, ends as one night over its records.

Through the real commands, each in a process of its own; whatever is killed, stopped or locked meanwhile. What hardly
any server can be made to do on purpose is in test_inline.py beside this file. Long campaigns are run by
`make endurance`.
"""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select, text

from callward import database
from callward.feeds import generate
from callward.runs import new_id
from callward.settings import Topic
from callward.streaming import blocks
from callward.sweep.scanner import sweep
from schemas.streaming import streams
from schemas.tables import ledger_entries
from tests import streams as by_hand
from tests.commands import Ended, Running, run, start, strays, waiting
from tests.comparison import verify
from tests.postgresql import on_loopback
from tests.raw_search import a_few, search
from tests.servers import FlinkCluster, KafkaBroker, kafka_broker, until
from tests.servers import flink_cluster as own_cluster
from tests.shared_keys import init_with_keys_of, like
from tests.test_night_order import call_of, cut

SOURCES = ("asterisk", "opensips", "cucm", "generic")
BY_TOPIC = ("asterisk", "opensips")
LONG = 10_000_000.0  # hours: nothing waits past its horizon
PATIENCE_S = 240
QUICK = {
    "flush_seconds": 1.0,
    "block_seconds": 0.5,
    "poll_seconds": 0.3,
    "maintenance_minutes": 0.1,
    "metrics": "",
    "block_mebibytes": 0.02,
}

Message = tuple[str, bytes]  # the source that sends it, and its value


@dataclass
class Feed:
    """Records for a night and a stream: those that come as messages, those that come as files, and their numbers."""

    messages: list[Message]
    files: list[Path]
    numbers: list[str] = field(repr=False)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory, day: Any) -> Feed:
    """Dirty feeds with late pieces, on both sides of midnight."""
    folder = tmp_path_factory.mktemp("feed")
    made = generate(folder / "n", seed=17, day=day, calls=450, dirt=0.03, late=folder / "l", sources=SOURCES)
    calls: dict[tuple[str, bytes], dict[bytes, None]] = defaultdict(dict)
    files = []
    for path in (*made.files, *made.late):
        if path.parent.name not in BY_TOPIC:
            files.append(path)
            continue
        source = path.parent.name
        for line in cut(source, path.read_bytes().splitlines())[1]:
            calls[source, call_of(source, line + b"\n")][line] = None  # attempts of an Asterisk call come together
    messages = [(source, b"\n".join(lines)) for (source, _), lines in calls.items()]
    return Feed(messages, files, made.numbers.to_pylist())


def _settings(feed_source: Callable[..., Any], only: Collection[str] = SOURCES) -> dict[str, Any]:
    return {
        "sources": [feed_source(name, horizon_hours=LONG) for name in only],
        "thresholds": {"file_errors_pct": 100.0},
    }


def _make(workspace: Callable[..., Any], feed_source: Callable[..., Any], **more: Any) -> Any:
    settings = _settings(feed_source)
    return workspace(*settings.pop("sources"), **settings, **more)


def _land_all(site: Any, feed: Feed, prefix: str = "") -> None:
    """All of a feed as files, the messages of each source in one."""
    site.deliver(feed.files, prefix)
    for source in BY_TOPIC:
        values = [value for name, value in feed.messages if name == source]
        site.land(source, f"{prefix}messages", b"\n".join(values) + b"\n")


@pytest.fixture(scope="module")
def night(feed: Feed, workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Any:
    """A workspace after one night over all of it."""
    site = _make(workspace, feed_source)
    _land_all(site, feed)
    site.night(int(time.time() * 1000))
    assert {"accepted", "merged", "duplicate", "suspended", "filtered", "pending"} <= {b for b, _ in site.entries()}
    return site


@pytest.fixture(scope="module")
def night_twice(feed: Feed, workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Any:
    """The same, with everything delivered again under other names."""
    site = _make(workspace, feed_source)
    for prefix in ("", "again-"):
        _land_all(site, feed, prefix)
        site.night(int(time.time() * 1000))
    return site


@dataclass
class Stream:
    """A workspace that a stream works on, the topic that it reads, and its supervisor's process."""

    site: Any
    broker: KafkaBroker
    topic: str
    temporary: Path
    running: Running | None = None
    only: tuple[str, ...] = ()

    def start(self) -> None:
        """Start it, and wait until the engine has its job."""
        before = self._jobs()
        only = [word for name in self.only for word in ("--source", name)]
        arguments = ("stream", "start", "--json", "--config", str(self.site.folder), *only)
        self.running = start(*arguments, environment={"TMPDIR": str(self.temporary)})
        until(lambda: self._alive() and self._jobs() > before, "the engine takes the job", PATIENCE_S)

    def _jobs(self) -> int:
        return sum(row.job_id is not None for row in self.site._rows(streams))

    def _alive(self) -> bool:
        assert self.running is not None
        if not self.running.alive():
            ended = self.running.wait()
            raise AssertionError(f"the stream ended with {ended.code}: {ended.err[-2000:]}")
        return True

    def send(self, messages: Sequence[Message], partition: int | None = None) -> None:
        by_hand.send(
            self.broker.bootstrap, self.topic, [(value, [("switch", source.encode())]) for source, value in messages]
        )

    def comes_to(self, site: Any, share: float = 1.0) -> None:
        """Wait until as many records were read as lie in another workspace, and all are committed."""
        wanted = int(site.entries()["in", ""][0] * share)

        def done() -> bool:
            self._alive()
            return self.rows() >= wanted and not self.blocks_waiting() and not waiting(self.site)

        until(done, f"{wanted} records are committed", PATIENCE_S)

    def comes_on(self, rows: int = 1, since: int | None = None) -> None:
        """Wait until so many more records are committed than there were (now, unless it is given)."""
        before = self.rows() if since is None else since
        until(lambda: self._alive() and self.rows() >= before + rows, f"{rows} more records", PATIENCE_S)

    def rows(self) -> int:
        read = select(func.sum(ledger_entries.c.rows)).where(ledger_entries.c.bucket == "in")
        with database.reading(self.site.settings) as connection:
            return connection.scalar(read) or 0

    def blocks_waiting(self) -> int:
        with database.reading(self.site.settings) as connection:
            return blocks.waiting(connection, SOURCES, [self.topic])

    def workers(self) -> list[int]:
        """Processes that do the Python work of this stream."""
        assert self.running is not None
        return [pid for pid in _descendants(self.running._process.pid) if b"pipelines.engine.worker" in _command(pid)]

    def stop(self) -> Ended:
        """`callward stream stop`; how the supervisor ended."""
        assert self.running is not None
        stopped = run("stream", "stop", "--json", "--config", str(self.site.folder)).check_clean()
        assert stopped.code == 0, stopped.err
        return self._ended()

    def terminate(self) -> Ended:
        """Stop it as a service manager does."""
        assert self.running is not None
        self.running.signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """SIGKILL of the supervisor."""
        assert self.running is not None
        self.running.signal(signal.SIGKILL)
        assert self.running.wait().code == -signal.SIGKILL
        self.running = None

    def _ended(self) -> Ended:
        assert self.running is not None
        ended = self.running.wait(PATIENCE_S).check_clean()
        self.running = None
        assert ended.code == 0, ended.err[-2000:]
        assert ended.document["reason"] == "stopped"
        assert self.blocks_waiting() == 0
        return ended

    def close(self) -> None:
        if self.running is not None:
            self.running.signal(signal.SIGKILL)
            self.running.wait()


def _descendants(pid: int | None) -> list[int]:
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text(errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found, left = [], [pid]
    while left:
        parent = left.pop()
        mine = [child for child, its in parents.items() if its == parent]
        found, left = found + mine, left + mine
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def streaming(
    workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path: Path, flink_jar: Path
) -> Iterator[Callable[..., Stream]]:
    """streaming(broker, **settings) → a workspace that reads a topic of the broker, and its folders."""
    made: list[Stream] = []

    def make(broker: KafkaBroker, site: Any = None, **more: Any) -> Stream:
        topic = f"cdr-{new_id()}"
        broker.create(topic, 2)
        declared = {"name": topic, "source": "asterisk", "source_header": "switch", "sources": {"opensips": "opensips"}}
        site = site or _make(workspace, feed_source, **more)
        site.set(
            kafka={"bootstrap": [broker.bootstrap], "topics": [Topic(**declared)]},
            stream=QUICK,
            engine={"checkpoint_seconds": 2.0, **more.get("engine", {})},
        )
        (tmp_path / "temporary").mkdir(exist_ok=True)
        made.append(Stream(site, broker, topic, tmp_path / "temporary"))
        return made[-1]

    yield make
    for stream in made:
        stream.close()


def _check(stream: Stream, night: Any) -> None:
    """It ended as the night did, and nothing is left over."""
    done = verify(night.settings, stream.site.settings)
    assert done.equal, done.report
    assert stream.site.unbalanced() == {}
    assert stream.site.differing() == 0
    assert (waiting(stream.site), strays(stream.site)) == ([], [])


def _shuffled(feed: Feed, seed: int) -> tuple[list[Message], list[Path]]:
    print(f"seed {seed}")
    chance = random.Random(seed)
    return chance.sample(feed.messages, len(feed.messages)), chance.sample(feed.files, len(feed.files))


def test_a_stream_whose_supervisor_is_killed_ends_as_a_night_does(
    feed: Feed, night: Any, kafka: KafkaBroker, streaming: Callable[..., Stream]
) -> None:
    """Promises 2, 3 and 8: shuffled, in pieces, with dirt; and no number lies anywhere while it runs.

    Workers are killed by `make endurance`.
    """
    stream = streaming(kafka)
    messages, files = _shuffled(feed, 1)
    half = len(messages) // 2
    stream.send(messages[:half])
    stream.site.deliver(files[: len(files) // 3])
    stream.start()
    stream.comes_on(100, since=0)
    stream.send(messages[half:])
    stream.site.deliver(files[len(files) // 3 :])
    stream.kill()
    stream.start()
    stream.comes_on()
    found = sweep([stream.site.folder, stream.temporary], feed.numbers, leave_out=waiting(stream.site))
    assert found.hits == []
    assert search([stream.site.folder, stream.temporary], a_few(feed.numbers), leave_out=waiting(stream.site)) == []
    assert list((stream.site.folder / "engine").rglob("*")), "Flink's state and logs were looked through"
    stream.comes_to(night)
    stream.stop().check_clean(feed.numbers)
    _check(stream, night)


@pytest.fixture(scope="module")
def own_broker() -> Iterator[KafkaBroker]:
    """A broker that may be stopped and killed."""
    with kafka_broker() as broker:
        yield broker


def _kill_a_worker(stream: Stream, chance: random.Random) -> None:
    os.kill(chance.choice(until(stream.workers, "a worker")), signal.SIGKILL)


def _lock_database(stream: Stream, seconds: float) -> None:
    file = stream.site.settings.database_file
    with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


@pytest.mark.endurance
def test_whatever_is_killed_stopped_or_locked_the_end_is_that_of_the_nights(
    feed: Feed, night_twice: Any, own_broker: KafkaBroker, streaming: Callable[..., Stream]
) -> None:
    """A worker and the supervisor are killed, the broker too, the database is locked, a night runs beside it on the
    same lake, and everything is delivered twice."""
    stream, chance = streaming(own_broker), random.Random(2)
    messages, files = _shuffled(feed, 2)
    parts = [messages[n::4] for n in range(4)]
    by_night = [path for path in files if path.parent.name == "generic"]
    by_stream = [path for path in files if path.parent.name != "generic"]
    stream.only = (*BY_TOPIC, "cucm")
    stream.start()
    stream.send(parts[0])
    stream.comes_on()
    _kill_a_worker(stream, chance)
    stream.send(parts[1])
    stream.site.deliver(by_stream)
    stream.comes_on()
    _lock_database(stream, 4)
    stream.send(parts[2])
    stream.comes_on()
    stream.site.deliver(by_night)
    beside = run("nightly", "--source", "generic", "--config", str(stream.site.folder)).check_clean(feed.numbers)
    assert beside.code == 0, beside.err
    own_broker.kill()
    own_broker.start()
    stream.send(parts[3])
    stream.comes_on()
    stream.kill()
    stream.only = ()
    stream.start()
    stream.send(messages)
    stream.site.deliver(files, "again-")
    stream.comes_to(night_twice)
    stream.terminate().check_clean(feed.numbers)
    _check(stream, night_twice)


@pytest.mark.endurance
def test_a_stream_on_a_cluster_outlives_a_taskmanager_and_its_supervisor(
    feed: Feed, night: Any, kafka: KafkaBroker, flink_cluster: FlinkCluster, streaming: Callable[..., Stream]
) -> None:
    engine = {"runner": "FlinkRunner", "flink_master": flink_cluster.address, "parallelism": 2, "workers": 1}
    stream = streaming(kafka, engine=engine)
    messages, files = _shuffled(feed, 3)
    half = len(messages) // 2
    stream.start()
    stream.send(messages[:half])
    stream.comes_on()
    (number, *_) = (n for n, server in enumerate(flink_cluster.taskmanagers) if server.alive())
    flink_cluster.kill_taskmanager(number)
    stream.send(messages[half:])
    try:
        stream.comes_on()
    finally:
        flink_cluster.add_taskmanager()  # for whoever comes next
    stream.kill()
    stream.start()
    stream.site.deliver(files)
    stream.comes_to(night)
    stream.stop()
    _check(stream, night)
    until(lambda: _running_jobs(flink_cluster) == 0, "no job is left on the cluster")


def _running_jobs(cluster: FlinkCluster) -> int:
    return sum(job["status"] in ("RUNNING", "RESTARTING", "CREATED") for job in cluster.get("/jobs")["jobs"])


def test_a_stream_that_is_stopped_while_nothing_comes_ends_at_once(
    kafka: KafkaBroker, streaming: Callable[..., Stream]
) -> None:
    stream = streaming(kafka)
    stream.start()
    stream.stop()
    assert stream.site.balances() == {}


# -- long campaigns ----------------------------------------------------------------------------------------------------


def _seed() -> int:
    seed = int(os.environ.get("CALLWARD_SEED") or random.randrange(1 << 32))
    print(f"CALLWARD_SEED={seed}")
    return seed


@pytest.mark.endurance
def test_twenty_random_kills_under_load(
    feed: Feed, night: Any, own_broker: KafkaBroker, streaming: Callable[..., Stream]
) -> None:
    chance = random.Random(_seed())
    stream = streaming(own_broker)
    messages = chance.sample(feed.messages, len(feed.messages))
    files = chance.sample(feed.files, len(feed.files))
    stream.start()
    for number in range(20):
        stream.send(messages[number::20])
        stream.site.deliver(files[number::20])
        time.sleep(chance.uniform(0, 6))
        what = chance.choice(["worker", "worker", "supervisor", "broker", "all workers", "database"])
        print(f"{number}: {what}", flush=True)
        if what == "worker":
            _kill_a_worker(stream, chance)
        elif what == "all workers":
            for pid in stream.workers():
                os.kill(pid, signal.SIGKILL)
        elif what == "supervisor":
            stream.kill()
            stream.start()
        elif what == "broker":
            own_broker.kill()
            own_broker.start()
        else:
            _lock_database(stream, chance.uniform(0, 8))
    stream.comes_to(night)
    stream.stop()
    _check(stream, night)


@pytest.mark.endurance
def test_a_broker_that_is_gone_for_two_minutes(
    feed: Feed, night: Any, own_broker: KafkaBroker, streaming: Callable[..., Stream]
) -> None:
    stream = streaming(own_broker)
    half = len(feed.messages) // 2
    stream.start()
    stream.send(feed.messages[:half])
    stream.comes_on()
    own_broker.stop()
    stream.site.deliver(feed.files)  # what lands goes on
    time.sleep(120)
    own_broker.start()
    stream.send(feed.messages[half:])
    stream.comes_to(night)
    stream.stop()
    _check(stream, night)


@pytest.mark.endurance
def test_a_disk_that_is_full_and_then_is_not(
    feed: Feed, night: Any, kafka: KafkaBroker, streaming: Callable[..., Stream], tiny_disk: Path
) -> None:
    stream = streaming(kafka, lake={"uri": f"file:{tiny_disk}/lake", "grace_minutes": 0.0})
    stream.start()
    stream.send(feed.messages)
    filler = tiny_disk / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65_536)
                file.flush()
        except OSError:
            pass
    stream.site.deliver(feed.files)
    time.sleep(30)
    stream._alive()
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=400m", str(tiny_disk)], check=True)
    stream.comes_to(night)
    stream.stop()
    _check(stream, night)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB (a tmpfs; needs the right to mount)."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "callward-test", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small tmpfs here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.endurance
def test_a_database_server_that_is_away_for_a_while(
    feed: Feed, night: Any, kafka: KafkaBroker, streaming: Callable[..., Stream], fresh_url: str, tmp_path: Path
) -> None:
    server, _, name = fresh_url.rpartition("/")
    admin = create_engine(f"{server}/template1", isolation_level="AUTOCOMMIT")

    def ask(statement: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(statement))

    settings = like(tmp_path / "workspace", night.settings)
    settings = settings.model_copy(
        update={
            "database": on_loopback(fresh_url),
            "lake": settings.lake.model_copy(update={"grace_minutes": 0.0}),
        }
    )
    init_with_keys_of(night.settings, tmp_path / "workspace", settings, ["2026-02", "2026-03"])
    stream = streaming(kafka, type(night)(tmp_path / "workspace"))
    half = len(feed.messages) // 2
    stream.start()
    stream.send(feed.messages[:half])
    stream.comes_on()
    ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    stream.send(feed.messages[half:])
    stream.site.deliver(feed.files)
    time.sleep(45)
    ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    stream.comes_to(night)
    stream.stop()
    _check(stream, night)


@pytest.mark.endurance
def test_a_jobmanager_that_is_killed_and_started_again(
    feed: Feed, night: Any, kafka: KafkaBroker, streaming: Callable[..., Stream]
) -> None:
    """Without high availability the job dies with it: the stream says so and ends, and goes on when it is started."""
    with own_cluster(taskmanagers=2) as cluster:
        engine = {"runner": "FlinkRunner", "flink_master": cluster.address, "parallelism": 2, "workers": 1}
        stream = streaming(kafka, engine=engine)
        stream.start()
        half = len(feed.messages) // 2
        stream.send(feed.messages[:half])
        stream.comes_on()
        cluster.jobmanager.end(signal.SIGKILL)
        cluster.jobmanager.start()
        cluster.jobmanager.ready(lambda: cluster.get("/overview"))
        cluster.wait_for(2)
        assert stream.running is not None
        stream.running.join(PATIENCE_S)
        ended = stream.running.wait().check_clean(feed.numbers)
        stream.running = None
        assert ended.code == 1 and "start the stream again" in ended.sentences[-1]
        stream.start()
        stream.send(feed.messages[half:])
        stream.site.deliver(feed.files)
        stream.comes_to(night)
        stream.stop()
        _check(stream, night)
