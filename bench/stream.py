"""A stream on a real broker and an embedded Flink, all on this machine: how fast, how fresh, how steady, and where the
time goes.

Fast: a topic that is full already, from the first block that is registered to the last commit. Fresh: records sent at a
steady rate; the age of each block's oldest record when its last slice was committed, weighted by records. Steady:
memory of all processes while that goes on, and the size of checkpoints when nothing comes. One JSON document on
standard output.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer
from sqlalchemy import func, select

from bench.measure import measure
from bench.night import CALLWARD, ROOT, SOURCE, NightError, make_workspace
from callward import database, template
from callward import settings as settings_module
from callward.settings import Kafka, Settings, Stream, Topic
from schemas.streaming import block_slices, streams
from schemas.tables import blocks
from tests.servers import KafkaBroker, kafka_broker

_PARTITIONS = 4
_TICK_S = 0.1
_KINDS = {  # what a process is, by the first of these that its command line has
    "job-server": "flink",
    "pipelines.engine.worker": "workers",
    "kafka.Kafka": "broker",
    "pipelines.cli.main\0compact": "merging",
    "pipelines.cli.main": "supervisor",
}

Result = dict[str, Any]


class Load:
    """Lines of generated files, sent to a topic."""

    def __init__(self, broker: KafkaBroker, topic: str, files: Sequence[Path]) -> None:
        options = {"linger.ms": 20, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000}
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, **options})
        self._topic, self._files, self.sent = topic, files, 0
        self._turn = cycle(range(_PARTITIONS))

    def lines(self) -> Iterator[bytes]:
        for file in self._files:
            yield from file.read_bytes().splitlines()

    def send(self, line: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._topic, line, partition=next(self._turn))
                self.sent += 1
                return
            except BufferError:
                self._producer.poll(0.1)

    def all_at_once(self, lines: Iterator[bytes], most: int) -> None:
        for _, line in zip(range(most), lines, strict=False):
            self.send(line)
        self._producer.flush()

    def steadily(self, lines: Iterator[bytes], rate: int, seconds: float) -> None:
        """`rate` records a second, each tick's at once."""
        begin, last = time.monotonic(), self.sent
        while (passed := time.monotonic() - begin) < seconds:
            for _, line in zip(range(int(passed * rate) - (self.sent - last)), lines, strict=False):
                self.send(line)
            self._producer.poll(0)
            time.sleep(_TICK_S)
        self._producer.flush()


def _workspace(folder: Path, broker: KafkaBroker, topic: str, changes: Result) -> Settings:
    made = settings_module.load(make_workspace(folder))
    kafka = Kafka(bootstrap=[broker.bootstrap], topics=[Topic(name=topic, source=SOURCE)])
    changed = made.model_copy(update={"kafka": kafka, "stream": Stream(metrics="", **changes)})
    changed.path.write_text(template.render(changed))
    return settings_module.load(folder)


@contextmanager
def _streaming(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`callward stream start`, ended in order."""
    command = [*CALLWARD, "stream", "start", "--config", str(settings.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(settings.folder / "stream.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        yield process
        if process.poll() is not None:
            last = (settings.folder / "stream.log").read_text().strip().splitlines()[-1:]
            raise NightError(f"the stream ended by itself: {''.join(last) or 'no message'}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)


def _counters(settings: Settings) -> tuple[int, int, int]:
    """Records committed, commits, retries."""
    with database.reading(settings) as connection:
        row = connection.execute(select(streams).order_by(streams.c.started_at.desc())).first()
    return (int(row.rows), int(row.commits), int(row.retries)) if row else (0, 0, 0)


def _reach(settings: Settings, rows: int, process: subprocess.Popen[bytes], seconds: float) -> list[tuple[float, int]]:
    """(moment, records committed) until so many are."""
    seen, until = [(time.monotonic(), 0)], time.monotonic() + seconds
    while seen[-1][1] < rows and process.poll() is None and time.monotonic() < until:
        time.sleep(_TICK_S)
        seen.append((time.monotonic(), _counters(settings)[0]))
    return seen


def _processes() -> dict[str, tuple[float, float]]:
    """CPU seconds and MiB (PSS) of each kind of process below this one."""
    found = dict.fromkeys(_KINDS.values(), (0.0, 0.0))
    for folder in _below(os.getpid()):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            memory = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kind = next((kind for mark, kind in _KINDS.items() if mark in command), None)
        if kind is not None:
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            mib = sum(int(line.split()[1]) for line in memory if line.startswith("Pss:")) / 1024
            found[kind] = found[kind][0] + cpu, found[kind][1] + mib
    return found


def _below(pid: int) -> list[Path]:
    """Folders below /proc of the processes that a process started, and of those that they started."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [Path("/proc", str(number)) for number in found - {pid}]


def fast(folder: Path, broker: KafkaBroker, files: Sequence[Path], records: int) -> Result:
    """A topic that is full already."""
    broker.create("full", _PARTITIONS)
    load = Load(broker, "full", files)
    load.all_at_once(load.lines(), records)
    settings = _workspace(folder / "fast", broker, "full", {"flush_seconds": 10.0, "flush_mebibytes": 256.0})
    with _streaming(settings) as process:
        seen = _reach(settings, load.sent, process, 600)
        cost = _processes()
    if seen[-1][1] < load.sent:
        raise NightError((settings.folder / "stream.log").read_text()[-500:])
    begin, end = _span(settings)
    _, commits, retries = _counters(settings)
    spent = {kind: round(cpu / load.sent * 1e6, 2) for kind, (cpu, _) in cost.items()}
    return {
        "records": load.sent,
        "seconds": round(end - begin, 1),
        "records_per_second": round(load.sent / (end - begin)),
        "first_commit_s": round(next(at for at, rows in seen if rows) - seen[0][0], 1),
        "commits": commits,
        "retries": retries,
        "cpu_us_per_record_start_up_included": spent,
        "peak_mib": {kind: round(mib) for kind, (_, mib) in cost.items()},
    }


def _span(settings: Settings) -> tuple[float, float]:
    """When the first block was registered, before any of it was read on, and when the last slice was committed."""
    with database.reading(settings) as connection:
        begin = connection.execute(select(func.min(blocks.c.registered_at))).scalar_one()
        end = connection.execute(select(func.max(block_slices.c.committed_at))).scalar_one()
    return begin.timestamp(), end.timestamp()


def fresh(folder: Path, broker: KafkaBroker, files: Sequence[Path], rate: int, seconds: float) -> Result:
    """Records at a steady rate, with the usual flush of 30 seconds."""
    broker.create("steady", _PARTITIONS)
    settings = _workspace(folder / "fresh", broker, "steady", {"flush_seconds": 30.0})
    load = Load(broker, "steady", files)
    lines = cycle_files(load)
    with _streaming(settings) as process:
        load.all_at_once(lines, 1000)
        _reach(settings, 1000, process, 180)
        memory = _Memory()
        with memory:
            load.steadily(lines, rate, seconds)
        _reach(settings, load.sent, process, 180)
        rows = _counters(settings)[0]
        idle = _idle_checkpoints(settings)
    return {
        "rate": rate,
        "sent": load.sent,
        "committed": rows,
        "age_s": _ages(settings),
        "memory_mib": memory.summary(),
        "checkpoint_bytes_idle": idle,
    }


def cycle_files(load: Load) -> Iterator[bytes]:
    """The lines again and again: from the second time on they are duplicates, which cost the lake a look each."""
    while True:
        yield from load.lines()


def _ages(settings: Settings) -> Result:
    """How old the oldest record of a block was when the block was complete: percentiles over records."""
    done = (
        select(block_slices.c.file_no, block_slices.c.block, func.max(block_slices.c.committed_at).label("at"))
        .group_by(block_slices.c.file_no, block_slices.c.block)
        .subquery()
    )
    same = (done.c.file_no == blocks.c.file_no) & (done.c.block == blocks.c.block)
    with database.reading(settings) as connection:
        rows = connection.execute(select(done.c.at, blocks.c.oldest_at, blocks.c.records).join(blocks, same)).all()
    aged = sorted(((row.at - row.oldest_at).total_seconds(), row.records or 0) for row in rows)[:]
    total, found, passed = sum(count for _, count in aged), {}, 0
    for age, count in aged:
        passed += count
        for share in (50, 90, 99, 100):
            if f"p{share}" not in found and passed >= total * share / 100:
                found[f"p{share}"] = round(age, 1)
    return found


class _Memory:
    """MiB of supervisor, merging, workers and Flink, sampled."""

    def __init__(self) -> None:
        self._seen: list[dict[str, float]] = []
        self._over = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(5):
            self._seen.append({kind: mib for kind, (_, mib) in _processes().items() if kind != "broker"})

    def summary(self) -> Result:
        """The median of each third, together and of each kind: flat when they are alike."""
        kinds = list(self._seen[0]) if self._seen else []
        together = [sum(seen.values()) for seen in self._seen]
        each = {kind: _thirds([seen[kind] for seen in self._seen]) for kind in kinds}
        return {"thirds": _thirds(together), "peak": round(max(together, default=0)), "thirds_of": each}


def _thirds(seen: Sequence[float]) -> list[int]:
    third = max(1, len(seen) // 3)
    return [round(median(part)) for i in (0, third, 2 * third) if (part := seen[i : i + third])]


def _idle_checkpoints(settings: Settings) -> list[int]:
    """Bytes of all checkpoints, three times, while nothing comes."""
    found = []
    for _ in range(3):
        time.sleep(15)
        files = [f for f in (settings.folder / "engine").rglob("*") if "checkpoints" in str(f) and f.is_file()]
        found.append(sum(f.stat().st_size for f in files if f.exists()))
    return found


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=3_000_000, help="in the full topic")
    parser.add_argument("--rate", type=int, default=20_000, help="records a second, sent steadily")
    parser.add_argument("--seconds", type=float, default=120.0, help="for so long")
    parser.add_argument("--only", choices=("fast", "fresh"), help="one of the two")
    parser.add_argument("--folder", type=Path, help="where workspaces and data lie")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callward-stream-", dir=options.folder) as name, kafka_broker() as broker:
        folder = Path(name)
        most = max(options.records, int(options.rate * options.seconds) + 1000)
        measure([sys.executable, "-m", "bench.data", str(folder / "data"), str(most), "2026-03-05"], folder=ROOT)
        files, found = sorted((folder / "data").glob("*.csv")), {}
        if options.only != "fresh":
            found["fast"] = fast(folder, broker, files, options.records)
        if options.only != "fast":
            found["fresh"] = fresh(folder, broker, files, options.rate, options.seconds)
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
