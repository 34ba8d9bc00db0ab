"""What others ask a running stream by HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts it.

Figures come from the database when they are asked for, and are kept some seconds. A database or a broker that does not
answer delays nobody: it gets the last figures, and that they are old. Labels are names of sources, topics and codes,
and the ordinals of partitions; nothing that a record says can become one.
"""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any, Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from callward import database
from callward.errors import Problem
from callward.settings import Settings, host_port
from callward.streaming.metrics import STOPPING, StreamMetrics, Watermarks, figures
from pipelines.engine import log as stream_log

PREFIX: Final = "callward_stream_"
_KEEP_S = 5.0  # figures are given so long before they are asked for again
_OLD = 6  # times as old as they may be, they are no answer any more
_PATIENCE_S = 2.0  # a scrape waits so long for the database, then gets the last ones
_BROKER_PATIENCE_S = 0.5
_HEARTBEAT_S = 300.0  # a supervisor without a tick for so long hangs: it also does maintenance, and waits for locks
_SLOW_S = 5.0  # a client that sends or takes nothing for so long is let go
_CLIENTS = 8  # at a time; more are refused

NewRequest = TypeVar("NewRequest")
AskBroker = Callable[[], Watermarks]


@dataclass(frozen=True)
class Answer(Generic[NewRequest]):
    """The last answer (None: there was none yet), how old it is, and whether whoever was asked does answer."""

    value: NewRequest | None
    age_s: float
    current: bool


class Latest(Generic[NewRequest]):
    """The newest answer of something that may fail or hang: asked by a thread of its own, one question at a time."""

    def __init__(self, ask: Callable[[], NewRequest], keep_s: float = _KEEP_S) -> None:
        self._ask, self._keep_s = ask, keep_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._value: NewRequest | None = None
        self._at = -float("inf")  # when the last answer was asked for, by the monotonic clock
        self._failed = False

    def get(self, patience_s: float = _PATIENCE_S) -> Answer[NewRequest]:
        """Return the answer, asked for anew when it is old; waits so long at most."""
        with self._lock:
            if self._age() > self._keep_s and not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._renew, name="figures", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience_s)
        age = self._age()
        return Answer(self._value, age, not self._failed and age <= self._keep_s * _OLD)

    def _age(self) -> float:
        return time.monotonic() - self._at

    def _renew(self) -> None:
        began = time.monotonic()
        try:
            self._value = self._ask()
        except Exception as error:  # whatever it is: the next scrape asks again
            self._failed = True
            stream_log.failed("figures-missing", error)
        else:
            self._at, self._failed = began, False


class Monitor:
    """A stream as its supervisor and its database know it. The supervisor calls heartbeat() with each tick."""

    def __init__(
        self, settings: Settings, run_id: str, ask_broker: AskBroker | None = None, keep_s: float = _KEEP_S
    ) -> None:
        self.address: str | None = None  # host:port where it is served
        self._settings, self._run_id = settings, run_id
        self._broker = Latest(ask_broker, keep_s) if ask_broker else None
        self._figures = Latest(self._ask, keep_s)
        self._job_runs = False
        self._last_heartbeat = time.monotonic()

    def heartbeat(self, *, job_runs: bool) -> None:
        """Note that the supervisor is alive, and has seen that the engine's job runs, or that it does not."""
        self._last_heartbeat, self._job_runs = time.monotonic(), job_runs

    def _ask(self) -> StreamMetrics:
        """Return the stream's figures. The broker is asked apart: its silence makes the lag unknown, no more."""
        answer = self._broker.get(_BROKER_PATIENCE_S) if self._broker else None
        marks = answer.value if answer and answer.current else None
        with database.reading(self._settings) as connection:
            metrics = figures(connection, self._run_id, marks)
        if metrics is None:
            raise Problem("the database does not know this stream")
        return metrics

    # -- health ---------------------------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Return whether the supervisor works: {healthy, heartbeat_seconds}."""
        since = time.monotonic() - self._last_heartbeat
        return {"healthy": since <= _HEARTBEAT_S, "heartbeat_seconds": round(since, 1)}

    def readiness(self) -> dict[str, Any]:
        """Return whether records come through as they should: {ready, reasons}."""
        reasons = list(self._not_ready())
        return {"ready": not reasons, "reasons": reasons}

    def _not_ready(self) -> Iterator[str]:
        if not self.health()["healthy"]:
            yield "the supervisor hangs"
        if not self._job_runs:
            yield "the job does not run"
        answer = self._figures.get()
        if not answer.current:
            yield "the database does not answer"
        if answer.value is None:
            return
        if answer.value.state == STOPPING:
            yield "a stop was asked for"
        if answer.value.freshness_s > self._settings.stream.fresh_seconds:
            yield "records wait longer than fresh_seconds"

    # -- metrics --------------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the stream, for /metrics."""
        answer = self._figures.get()
        yield _gauge("up", "1 while the figures are new, 0 while the database does not answer.", answer.current)
        yield _gauge("job_running", "1 while the supervisor sees that the engine's job runs.", self._job_runs)
        yield _gauge("heartbeat_age_seconds", "Since the supervisor's last tick.", self.health()["heartbeat_seconds"])
        if self._broker is not None:
            there = self._broker.get(0).current
            yield _gauge("broker_up", "1 while the broker says how far its topics reach.", there)
        if answer.value is not None:
            yield _gauge("figures_age_seconds", "How old the figures below are.", answer.age_s)
            yield from _of_stream(answer.value)
            yield from _of_sources(answer.value)
            yield from _of_partitions(answer.value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))


def _of_stream(now: StreamMetrics) -> Iterator[Metric]:
    yield CounterMetricFamily(PREFIX + "commits", "Commits of this stream.", value=now.commits)
    yield CounterMetricFamily(
        PREFIX + "retries", "Commits that were refused, as another came first, and were tried again.", value=now.retries
    )
    yield _gauge("stopping", "1 from when a stop is asked for.", now.state == STOPPING)
    yield _gauge("start_time_seconds", "When the stream began, since 1970.", _since_1970(now.started_at))
    if now.last_commit_at is not None:
        yield _gauge("last_commit_time_seconds", "When it last committed, since 1970.", _since_1970(now.last_commit_at))


def _since_1970(at: datetime) -> float:
    return at.replace(tzinfo=UTC).timestamp()


_OF_SOURCES: Final = (
    ("records_per_second", "Records committed a second, over the last five minutes.", "rows_per_second"),
    ("freshness_seconds", "Age of the oldest record that is registered and not committed; 0: none.", "freshness_s"),
    ("blocks_in_flight", "Blocks that are registered and not committed.", "blocks"),
    ("blocks_unparsed", "Of them, those that are not parsed yet.", "unparsed"),
    ("bytes_in_flight", "Bytes of the blocks in flight, as they arrived.", "bytes"),
    ("slices_waiting", "Slices of parsed blocks that wait for their commit.", "slices"),
)


def _of_sources(now: StreamMetrics) -> Iterator[Metric]:
    records = CounterMetricFamily(PREFIX + "records", "Records committed by this stream.", labels=["source"])
    suspended = CounterMetricFamily(
        PREFIX + "suspended_records", "Records that it put into suspense.", labels=["source", "code"]
    )
    for of in now.sources:
        records.add_metric([of.source], of.rows)
        for code, rows in of.suspended.items():
            suspended.add_metric([of.source, code], rows)
    yield from (records, suspended)
    for name, text, attribute in _OF_SOURCES:
        family = GaugeMetricFamily(PREFIX + name, text, labels=["source"])
        for of in now.sources:
            family.add_metric([of.source], getattr(of, attribute))
        yield family


_OF_PARTITIONS: Final = (
    ("next_offset", "Where reading goes on: the end of the last registered block.", "next_offset"),
    ("committed_offset", "Up to where all is committed.", "committed_offset"),
    ("lag_records", "Messages at the broker that are not committed; absent while it is not known.", "lag"),
    ("missed_records", "Messages that the broker deleted before they were read.", "missed"),
)


def _of_partitions(now: StreamMetrics) -> Iterator[Metric]:
    """Yield the metrics of partitions; what is not known is left out."""
    for name, text, attribute in _OF_PARTITIONS:
        family = GaugeMetricFamily(PREFIX + name, text, labels=["topic", "partition"])
        for of in now.partitions:
            value = getattr(of, attribute)
            if value is not None:
                family.add_metric([of.topic, str(of.partition)], value)
        yield family


# -- serving -----------------------------------------------------------------------------------------------------------


@contextmanager
def serve(
    settings: Settings, run_id: str, ask_broker: AskBroker | None = None, *, keep_s: float = _KEEP_S
) -> Iterator[Monitor]:
    """Serve a stream's figures while the body runs, where [stream] metrics says (nowhere if that is empty).

    `ask_broker` gives the lowest and the next offset of each partition; it may fail, and may hang. Raises Problem when
    the address cannot be had.
    """
    monitor = Monitor(settings, run_id, ask_broker, keep_s)
    if not settings.stream.metrics:
        yield monitor
        return
    server = _listen(settings.stream.metrics, monitor)
    monitor.address = settings.stream.metrics
    threading.Thread(target=server.serve_forever, name="monitor", daemon=True).start()
    try:
        yield monitor
    finally:
        server.shutdown()
        server.server_close()


def _listen(address: str, monitor: Monitor) -> "_Server":
    try:
        return _Server(host_port(address), monitor)
    except OSError as error:
        raise Problem(
            f"[stream] metrics: {address} cannot be had ({error.strerror or type(error).__name__}); "
            "name another HOST:PORT, or none"
        ) from None


class _Server(ThreadingHTTPServer):
    """A few clients at a time; none of them can make it wait, log or grow."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], monitor: Monitor) -> None:
        self.monitor = monitor
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(monitor)
        self._room = threading.BoundedSemaphore(_CLIENTS)
        if ":" in address[0]:
            self.address_family = AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask the name server who we are
        self.server_name, self.server_port = "callward", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: mostly a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOW_S
    server_version, sys_version = "callward", ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, kind, encode(self.server.registry))
        elif path == "/healthz":
            health = self.server.monitor.health()
            self._document(200 if health["healthy"] else 503, health)
        elif path == "/readyz":
            readiness = self.server.monitor.readiness()
            self._document(200 if readiness["ready"] else 503, readiness)
        else:
            self._document(404, {"paths": ["/metrics", "/healthz", "/readyz"]})

    do_HEAD = do_GET

    def _document(self, status: int, value: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(value).encode() + b"\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: what is asked comes from outside."""
