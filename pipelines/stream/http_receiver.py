"""receive: records that switches post over HTTP, sealed and on disk before they are acknowledged.

What is posted to /<source> within some milliseconds becomes one segment (callward/ingest/segments.py) in the landing
folder of that source; every request of it is answered 200 when the segment is there to last, and not before. From
there on it is a landing file: nights and streams take it in. All else is refused and counted. Nothing of a request is
ever logged or repeated in an answer.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from callward import workspace_id
from callward.error_text import error_text
from callward.errors import Problem, UsageProblem
from callward.ingest import segments
from callward.ingest.http_bodies import Damaged, TooLarge, is_packing, is_type, line_of, record_in, unpacked
from callward.ingest.senders import Failures, Gate
from callward.settings import Settings, Source, host_port
from callward.workspace import WorkspaceRef, open_workspace
from pipelines import terminal
from pipelines.results import Part, Result

ROLE: Final = "receiver"
_SEGMENT_BYTES: Final = 16 << 20
_IDLE_S: Final = 30.0  # of a connection that has sent no whole request; switches connect anew for each call
_LINGER_S: Final = 2.0
_HANDSHAKE_S: Final = 10.0
_BACKLOG: Final = 512  # connections that the kernel keeps until they are accepted
_NO_ROOM_S: Final = 1.0  # of a pause after a connection could not be accepted
_WRITERS: Final = 4
_QUIET_S: Final = 60.0  # between two sentences about the same trouble
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # such as ::1 where there is no IPv6
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUIET: Final = logging.getLogger("callward.receive.http")

Progress = Callable[[str], None]


class Refusal(Exception):
    """A request that is not taken: its status, and why, in one word for the figures."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def _later(status: int, reason: str) -> Refusal:
    return Refusal(status, reason, Retry_After="5")


@dataclass(frozen=True)
class Received(Result):
    """Records taken by source, requests refused by source and reason."""

    taken: Mapping[str, int]
    refused: Mapping[str, int]

    def render(self) -> Iterator[Part]:
        taken, refused = sum(self.taken.values()), sum(self.refused.values())
        yield f"{terminal.count(taken, 'record')} taken, {terminal.count(refused, 'request')} refused"


@dataclass(frozen=True)
class ReceivePlan(Result):
    """Where records would be received, and of which sources."""

    dry_run: bool
    listen: str
    sources: Sequence[str]

    def render(self) -> Iterator[Part]:
        yield f"would receive {', '.join(self.sources)} at {self.listen}"


def receive(
    settings: Settings, progress: Progress = lambda line: None, *, dry_run: bool = False
) -> Received | ReceivePlan:
    """Receive until SIGTERM or SIGINT, then finish what was begun; return what was taken and refused.

    Raises UsageProblem where the settings name no sender, or one whose source cannot be pushed.
    """
    workspace_id.check(settings)
    if dry_run:
        receiver = _Receiver(settings, progress)
        return ReceivePlan(True, settings.receive.listen, receiver.sources)
    _QUIET.disabled = True  # aiohttp logs parts of what it could not read
    return asyncio.run(_Receiver(settings, progress).run())


# -- figures -----------------------------------------------------------------------------------------------------------


class ReceiverMetrics:
    """What is counted, for Prometheus and for the end. Labels are sources and reasons, nothing from outside."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: dict[str, Any] = {"namespace": "callward", "subsystem": "receive", "registry": self.registry}
        self.taken = Counter("records", "Records acknowledged.", ["source"], **common)
        self.refused = Counter("refused", "Requests refused.", ["source", "reason"], **common)
        self.bytes = Counter("bytes", "Bytes of records acknowledged.", ["source"], **common)
        self.segments = Counter("segments", "Segments written.", ["source"], **common)
        self.requests = Gauge("requests_under_way", "Requests under way.", **common)
        self.waiting = Gauge("waiting_bytes", "Bytes that wait to be written.", **common)
        self.writing = Histogram("write_seconds", "Seconds to write a segment.", **common)

    def summary(self) -> Received:
        """Return what was counted by source, and by reason."""
        taken, refused = {}, {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                if sample.name == "callward_receive_records_total":
                    taken[sample.labels["source"]] = int(sample.value)
                if sample.name == "callward_receive_refused_total":
                    refused[f"{sample.labels['source'] or '-'}: {sample.labels['reason']}"] = int(sample.value)
        return Received(taken, refused)


# -- writing -----------------------------------------------------------------------------------------------------------


class _Group:
    """Records of one source that wait, and the task that writes them, one segment at a time."""

    def __init__(self, write: Callable[[bytes], object], seconds: float, pool: ThreadPoolExecutor) -> None:
        self._write, self._seconds, self._pool = write, seconds, pool
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._any = asyncio.Event()

    async def add(self, line: bytes) -> None:
        """Wait until a record is on disk. Raises what kept it from there."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        self._any.set()
        await written

    async def run(self) -> None:
        """Write whatever comes, for ever."""
        while True:
            await self._any.wait()
            await asyncio.sleep(self._seconds)
            await self._write_together(self._taken())
            if not self._waiting:
                self._any.clear()

    def _taken(self) -> list[tuple[bytes, "asyncio.Future[None]"]]:
        count = size = 0
        for line, _ in self._waiting:
            count, size = count + 1, size + len(line)
            if size >= _SEGMENT_BYTES:
                break
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    async def _write_together(self, taken: list[tuple[bytes, "asyncio.Future[None]"]]) -> None:
        trouble = await self._trouble(b"".join(line for line, _ in taken))
        for _, written in taken:
            if written.done():  # whoever waited was sent away by a stop
                continue
            if trouble is not None:
                written.set_exception(trouble)
            else:
                written.set_result(None)

    async def _trouble(self, data: bytes) -> Exception | None:
        """Write a segment; return what kept it from the disk, if anything did."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._write, data)
        except Exception as error:
            return error
        return None


class _Room:
    """What one request takes of the memory for all."""

    def __init__(self, reserve: Callable[[int], None]) -> None:
        self._reserve, self._size = reserve, 0

    def grow(self, size: int) -> None:
        """Reserve room for so many bytes in all. Raises Refusal where there is none."""
        if size > self._size:
            self._reserve(size - self._size)
            self._size = size

    def free(self) -> None:
        self._reserve(-self._size)
        self._size = 0


# -- requests ----------------------------------------------------------------------------------------------------------


class _Receiver:
    """The service: its limits, its senders, and what it has counted."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings, self._limits, self._progress = settings, settings.receive, progress
        self._workspace = open_workspace(WorkspaceRef.of(settings, ROLE, "receive"))
        self._sources = {sender.source: settings.source(sender.source) for sender in settings.receive.senders}
        self._documents = _pushable(self._sources, self._workspace)
        self._gate = Gate(settings)
        self._failures = Failures(settings.receive.failures_per_minute)
        self._figures = ReceiverMetrics()
        self._largest = int(settings.receive.body_mebibytes * (1 << 20))
        self._room = max(int(settings.receive.waiting_mebibytes * (1 << 20)), self._largest)
        self._requests = self._reserved = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._reported_at: dict[str, float] = {}
        self._groups: dict[str, _Group] = {}

    @property
    def sources(self) -> list[str]:
        """Return the names of the sources that are received."""
        return list(self._sources)

    async def run(self) -> Received:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        tls = _tls(self._settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload, tls)
        for source in self._sources.values():  # a key that cannot be opened is known before anything is taken
            self._workspace.keyring.sealer(segments.sealing_key(source))
            segments.remove_drafts(self._settings, source)
        with ThreadPoolExecutor(_WRITERS, "segments") as pool, self._shown():
            writers = self._start_writers(pool)
            async with self._listening(tls):
                await stop.wait()
            for writer in writers:
                writer.cancel()
        return self._figures.summary()

    def _start_writers(self, pool: ThreadPoolExecutor) -> list["asyncio.Task[None]"]:
        for name, source in self._sources.items():
            self._groups[name] = _Group(self._writer(source), self._limits.group_milliseconds / 1000, pool)
        return [asyncio.create_task(group.run()) for group in self._groups.values()]

    def _writer(self, source: Source) -> Callable[[bytes], object]:
        def write(data: bytes) -> None:
            with self._figures.writing.time():
                segments.write(self._settings, source, self._workspace.keyring, data)
            self._figures.segments.labels(source.name).inc()

        return write

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Serve the figures at a port of their own, on this machine alone."""
        if not self._limits.metrics_port:
            yield
            return
        server, thread = start_http_server(self._limits.metrics_port, "127.0.0.1", self._figures.registry)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()

    @asynccontextmanager
    async def _listening(self, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        """Listen while the body runs; afterwards requests under way are finished, and new ones find nobody."""
        server = _Server(self)
        runner = web.ServerRunner(server, shutdown_timeout=self._limits.stop_seconds)
        await runner.setup()
        listeners = _listeners(*host_port(self._limits.listen))
        accepting = [asyncio.create_task(self._accept(listener, server, tls)) for listener in listeners]
        self._progress(
            f"receiving at {'https' if tls else 'http'}://{self._limits.listen}/ for {', '.join(self._sources)}"
        )
        try:
            yield
        finally:
            for task, listener in zip(accepting, listeners, strict=True):
                task.cancel()
                listener.close()
            await runner.cleanup()
            for connection in self._connections:  # those that had sent no request yet
                connection.cancel()

    async def _accept(self, listener: socket.socket, server: "_Server", tls: ssl.SSLContext | None) -> None:
        """Take connections for ever, at no time more than allowed: those whose handshake is not done count as well."""
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._say("accept", f"no connection can be taken: {error.strerror}")
                    await asyncio.sleep(_NO_ROOM_S)
                continue
            if len(self._connections) < self._limits.connections:
                task = asyncio.create_task(self._speak(accepted, server, tls))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
            else:
                self._figures.refused.labels("", "connections").inc()
                accepted.close()
            await asyncio.sleep(0)  # requests go on, however many connect

    async def _speak(self, accepted: socket.socket, server: "_Server", tls: ssl.SSLContext | None) -> None:
        """Serve one connection to its end."""
        patience = _HANDSHAKE_S if tls else None
        connect = asyncio.get_running_loop().connect_accepted_socket
        try:
            _, connection = await connect(server.connection, accepted, ssl=tls, ssl_handshake_timeout=patience)
        except OSError:
            self._figures.refused.labels("", "handshake").inc()
            accepted.close()
        else:
            await connection.over.wait()

    def _reload(self, tls: ssl.SSLContext | None) -> None:
        """Read certificate and passwords anew on SIGHUP; what is wrong with them is reported, and changes nothing."""
        try:
            gate = Gate(self._settings)
            if tls is not None:
                _load_certificate(self._settings, tls)
        except Problem as problem:
            self._say("reload", str(problem))
        else:
            self._gate = gate
            self._progress("certificate and passwords were read anew")

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count what no request is to be blamed for, such as a handshake that failed, without what it says."""
        if isinstance(context.get("exception"), ssl.SSLError | ConnectionError):
            self._figures.refused.labels("", "handshake").inc()
        else:
            self._figures.refused.labels("", "defect").inc()

    # -- one request --------------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Take the record of a request: 200 when it is on disk to last, otherwise why not."""
        name = request.path.removeprefix("/")
        source = name if self._gate.knows(name) else ""
        try:
            size = await self._take(source, request)
        except Refusal as refusal:
            return self.refuse(source, refusal)
        except Exception as error:
            self._say("defect", f"a defect ({error_text(error).at}); please report it")
            return self.refuse(source, Refusal(500, "defect"))
        self._figures.taken.labels(source).inc()
        self._figures.bytes.labels(source).inc(size)
        return _answer(200, "taken", {})

    def refuse(self, source: str, refusal: Refusal) -> web.Response:
        """Count a request that is not taken, and return its answer."""
        self._figures.refused.labels(source, refusal.reason).inc()
        return _answer(refusal.status, refusal.reason, refusal.headers)

    async def _take(self, source: str, request: web.BaseRequest) -> int:
        gate, address = self._gate, _address(request)
        self._check_allowed(gate, source, address, request)
        await self._authorize(gate, source, address, request.headers.get("Authorization", ""))
        packing = request.headers.get("Content-Encoding", "")
        if not is_type(request.headers.get("Content-Type", "")) or not is_packing(packing):
            raise Refusal(415, "kind")
        with self._under_way() as room:
            record = self._record(await self._body(request, room), packing)
            room.grow(len(record))
            await self._keep(source, line_of(record, self._documents[source]))
        return len(record)

    def _record(self, body: bytes, packing: str) -> bytes:
        try:
            record = record_in(unpacked(body, packing, self._largest))
        except TooLarge:
            raise Refusal(413, "size") from None
        except Damaged:
            raise Refusal(400, "damaged") from None
        if not record:
            raise Refusal(400, "empty")
        return record

    def _check_allowed(self, gate: Gate, source: str, address: str, request: web.BaseRequest) -> None:
        if not source:
            raise Refusal(404, "source")
        if not address or not gate.allows(source, address):
            raise Refusal(403, "address")
        if request.method != "POST":
            raise Refusal(405, "method", Allow="POST")

    async def _authorize(self, gate: Gate, source: str, address: str, authorization: str) -> None:
        if not gate.needs_credentials(source) or gate.remembers(source, authorization):
            return
        if self._failures.too_many(address):
            raise Refusal(429, "failures", Retry_After="60")
        right = bool(authorization) and await asyncio.to_thread(gate.accepts, source, authorization)
        if not right:
            if authorization:
                self._failures.add(address)
            raise Refusal(401, "credentials", WWW_Authenticate='Basic realm="callward"')

    @contextmanager
    def _under_way(self) -> Iterator["_Room"]:
        """Yield the room in memory of a request under way. Raises Refusal where too many are."""
        if self._requests >= self._limits.requests:
            raise _later(503, "behind")
        room = _Room(self._reserve)
        self._count(1)
        try:
            yield room
        finally:
            room.free()
            self._count(-1)

    def _count(self, requests: int) -> None:
        self._requests += requests
        self._figures.requests.set(self._requests)

    def _reserve(self, size: int) -> None:
        """Reserve bytes of memory, or give some back. Raises Refusal where there is no room."""
        if size > 0 and self._reserved + size > self._room:
            raise _later(503, "behind")
        self._reserved += size
        self._figures.waiting.set(self._reserved)

    async def _body(self, request: web.BaseRequest, room: "_Room") -> bytes:
        """Return the body as it was sent; its announced length is reserved before any of it is asked for."""
        if (request.content_length or 0) > self._largest:
            raise Refusal(413, "size")
        room.grow(request.content_length or 0)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._parts(request, room)
        except TimeoutError:
            raise Refusal(408, "slow", Connection="close") from None
        except (web.RequestPayloadError, ConnectionError):
            raise Refusal(400, "broken", Connection="close") from None

    async def _parts(self, request: web.BaseRequest, room: "_Room") -> bytes:
        parts, size = [], 0
        async for part in request.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > self._largest:
                raise Refusal(413, "size")
            room.grow(size)
        return b"".join(parts)

    async def _keep(self, source: str, line: bytes) -> None:
        try:
            await self._groups[source].add(line)
        except OSError as error:
            full = error.errno in _FULL
            self._say(f"{source} storage", f"{source}: nothing is taken: {error.strerror or 'it cannot be written'}")
            raise _later(507 if full else 503, "full" if full else "storage") from None
        except Problem as problem:
            self._say(f"{source} keys", f"{source}: nothing is taken: {problem}")
            raise _later(503, "keys") from None

    def _say(self, what: str, sentence: str) -> None:
        """Report a sentence for a person, once a minute for each kind of trouble."""
        now = time.monotonic()
        if now - self._reported_at.get(what, -_QUIET_S) >= _QUIET_S:
            self._reported_at[what] = now
            self._progress(f"callward: {sentence}")


def _pushable(sources: dict[str, Source], workspace: Any) -> dict[str, bool]:
    """Return source → whether its format is of whole documents. Raises UsageProblem where one cannot be pushed."""
    if not sources:
        raise UsageProblem("there is no [[receive.senders]] yet: name the sources that may be pushed, and by whom")
    whole = {}
    for name, source in sources.items():
        file = workspace.declaration(source).file
        if file.kind != "json":
            raise UsageProblem(f"receive: the format of {name} is not JSON, and a request holds one JSON record")
        whole[name] = file.records == "file"
    return whole


def _answer(status: int, word: str, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, text=f"{word}\n", headers={"Server": "callward", **headers})


def _address(request: web.BaseRequest) -> str:
    """Return who sends: the other end of the connection, whatever headers say."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(peer[0]) if peer else ""


# -- connections -------------------------------------------------------------------------------------------------------


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.receive.certificate_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(settings, context)
    return context


def _load_certificate(settings: Settings, context: ssl.SSLContext) -> None:
    named = (settings.receive.certificate_file, settings.receive.key_file)
    certificate, key = (settings.below(str(name)) for name in named)
    try:
        if key.stat().st_mode & stat.S_IRWXO:
            raise UsageProblem(f"{settings.path.name}: receive.key_file: everyone may read {key}: chmod 0600 {key}")
        context.load_cert_chain(certificate, key, password="")  # a key that asks for one is refused, and asks nobody
    except (OSError, ssl.SSLError) as error:
        why = "they are no certificate and its key" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageProblem(f"{settings.path.name}: receive: {certificate}, {key}: {why}") from None


def _listeners(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at every address of a host that this machine has. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            listeners.append(socket.create_server(address, family=family, backlog=_BACKLOG))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
    if not listeners:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for listener in listeners:
        listener.setblocking(False)
    return listeners


class _Server(web.Server):
    """aiohttp's server, which answers what is no HTTP in one word, and says when a connection is over."""

    def __init__(self, receiver: _Receiver) -> None:
        super().__init__(
            receiver.handle,
            access_log=None,
            logger=_QUIET,
            keepalive_timeout=_IDLE_S,
            lingering_time=_LINGER_S,
            auto_decompress=False,
            max_line_size=2048,  # what a connection may send before its request is looked at is little
            max_field_size=4096,
            max_headers=64,
            read_bufsize=16 << 10,
        )
        self.receiver = receiver

    def connection(self) -> "_Connection":
        """Return the protocol of a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_server", "over")

    def __init__(self, server: _Server, **given: Any) -> None:
        super().__init__(server, **given)
        self._server, self.over = server, asyncio.Event()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.over.set()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer in one word: aiohttp's own answer repeats what was sent."""
        answer = self._server.receiver.refuse("", Refusal(status, "malformed" if status < 500 else "defect"))
        answer.force_close()
        return answer
