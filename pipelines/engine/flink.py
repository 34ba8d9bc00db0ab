"""Flink: the job server that hands it our pipelines, and the Beam options that it needs.

The job server is a Java program of Beam's. With `engine.flink_master = "[local]"` Flink itself runs inside it; else it
passes jobs on to a cluster. Either way it is ours: it starts with the command and never outlives it.
"""

import atexit
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Final

from callward.errors import Problem
from callward.runs import CODE_VERSION
from callward.settings import FLINK, Settings
from callward.storage.durable import replacing
from pipelines.engine.child_process import die_with_parent

LOCAL: Final = "[local]"
MADE_BY: Final = "made_by="  # before `versions()` in the job's experiments
_ROOT: Final = Path(__file__).resolve().parents[2]
_BUILT: Final = _ROOT / "engine" / "flink" / "target" / "job-server.jar"
# What Beam and Flink look into by reflection; Java has kept it shut since 17.
_OPENED: Final = (
    *(f"java.base/java.{name}" for name in ("lang", "util", "util.concurrent", "net", "nio", "io", "time", "text")),
    "java.base/sun.nio.ch",
)
# An embedded Flink asks nobody who it is: it is for this host alone.
_EMBEDDED: Final = {
    "jobmanager.bind-host": "localhost",
    "taskmanager.bind-host": "localhost",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
}
_PATIENCE_S: Final = 90.0
_REST_PATIENCE_S: Final = 10.0
_GRACE_S: Final = 10.0
_ATTEMPTS: Final = 3  # a port may be taken between our look and Java's
_RESTARTS: Final = 1_000_000  # a stream starts again from its checkpoint until a person stops it
_RESTART_DELAY_MS: Final = 2_000
_BUNDLE_MS: Final = 500  # what a reader that has paused waits for before it is asked again (Beam's own is 10 s)
_LOGS_KEPT: Final = 10
# Beam's way of running a batch on Flink 1.19 stands on an interface that Flink gives up, wants hundreds of network
# buffers for each step, and takes its restarts from the cluster's settings. As a stream that ends a batch needs none of
# it: what a night groups are names.
_BATCH: Final = ("--streaming", "--number_of_execution_retries=0")


def versions() -> str:
    """Return what a worker must have as this process has it, for both to understand each other's pickles."""
    packages = "-".join(f"{name}-{metadata.version(name)}" for name in ("apache-beam", "pyarrow"))
    return f"python-{sys.version_info[0]}.{sys.version_info[1]}-{packages}-callward-{CODE_VERSION}"


def jar(settings: Settings) -> Path:
    """Return the job server's jar: `engine.jar`, else the one that `make engine` has built. Raises Problem for none.

    Problem where there is none.
    """
    path = settings.below(settings.engine.jar) if settings.engine.jar else _BUILT
    if not path.is_file():
        raise Problem(
            f"no Flink job server {path}; 'make engine' in a checkout of callward builds it (Java 17 and Maven), and "
            "engine.jar names one that lies elsewhere"
        )
    return path


def java() -> str:
    """Return the java program: JAVA_HOME's, else the first on the PATH. Raises Problem where there is none."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin" if home else None)
    if program is None:
        raise Problem("Java is missing, and Flink needs it: install a Java 17 runtime, such as openjdk-17-jre-headless")
    return program


def is_local(settings: Settings) -> bool:
    """Return whether Flink runs inside the job server, not on a cluster."""
    return settings.engine.flink_master == LOCAL


def ask(settings: Settings, path: str, method: str = "GET") -> Any:
    """Return what a cluster's REST interface answers. Raises Problem where it does not."""
    request = urllib.request.Request(f"http://{settings.engine.flink_master}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=_REST_PATIENCE_S) as answer:
            return json.loads(answer.read() or b"{}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise Problem(f"the Flink cluster {settings.engine.flink_master} does not answer ({reason})") from None


# -- the job server ----------------------------------------------------------------------------------------------------


@contextmanager
def job_server(settings: Settings) -> Iterator[str]:
    """Run a job server of our own; yield its endpoint, "localhost:PORT". Raises Problem where it does not start.

    Call it in a thread that lives as long as the process: the kernel kills the server when that thread ends. Ctrl-C
    does not reach it, so that a pipeline may end in order.
    """
    home = _home(settings)
    _sweep(home)
    for attempt in range(_ATTEMPTS):
        port, artifacts = _free_ports(2)
        with _room(home, port) as room, _log(home, port) as log:
            server = _start(settings, port, artifacts, room, log)
            try:
                if _answers(server, port):
                    yield f"localhost:{port}"
                    return
            finally:
                _stop(server)
            if attempt + 1 == _ATTEMPTS or not _port_was_taken(Path(log.name)):
                raise Problem(f"the Flink job server does not start; its output is in {log.name}")


@dataclass
class _Lasting:
    """A job server that several pipelines of one process use, one after another."""

    settings: Settings
    server: ExitStack
    endpoint: str
    pid: int


_lasting: _Lasting | None = None


def lasting_job_server(settings: Settings) -> str:
    """Return the endpoint of a job server that runs until this process ends: each wave of a night is a job of its own.

    Called with other settings it ends the one before.
    """
    global _lasting
    if (
        _lasting is not None
        and (_lasting.settings, _lasting.pid) == (settings, os.getpid())
        and _listens(_lasting.endpoint)
    ):
        return _lasting.endpoint
    end_lasting()
    server = ExitStack()
    _lasting = _Lasting(settings, server, server.enter_context(job_server(settings)), os.getpid())
    return _lasting.endpoint


@atexit.register
def end_lasting() -> None:
    """End the job server that `lasting_job_server` keeps, if there is one."""
    global _lasting
    ended, _lasting = _lasting, None
    if ended is not None and ended.pid == os.getpid():
        ended.server.close()


def _listens(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def _home(settings: Settings) -> Path:
    home = settings.folder / "engine"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def _start(settings: Settings, port: int, artifacts: int, room: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    staged = room if is_local(settings) else _shared(settings, "artifacts")
    (room / "config.yaml").write_text(json.dumps(_EMBEDDED), encoding="utf-8")
    command = [
        java(),
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
        *settings.engine.java_options,
        f"-Djava.io.tmpdir={room}",  # spilled and local state lies here, and leaves with the server
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-jar",
        str(jar(settings)),
        "--job-host=localhost",
        f"--job-port={port}",
        f"--artifact-port={artifacts}",
        "--expansion-port=-1",  # no transforms of other languages
        f"--artifacts-dir={staged}",
        f"--flink-master={settings.engine.flink_master}",
        *([f"--flink-conf-dir={room}"] if is_local(settings) else ()),
    ]
    return subprocess.Popen(
        die_with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=room, start_new_session=True
    )


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the port answers; False where the server has ended, or says nothing for too long."""
    late = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < late:
        if _listens(f"localhost:{port}"):
            return True
        time.sleep(0.1)
    return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and, with it, an embedded Flink and the workers that it started."""
    with suppress(ProcessLookupError):
        server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _port_was_taken(log: Path) -> bool:
    return b"Failed to bind" in log.read_bytes()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


# -- its folder: <workspace>/engine/ -----------------------------------------------------------------------------------


@contextmanager
def _room(home: Path, port: int) -> Iterator[Path]:
    """Make a server's folder for what is temporary, locked while it lives."""
    room = home / str(port)
    with ExitStack() as stack:
        with _locked(home / "lock"):  # no sweep comes between
            room.mkdir(mode=0o700, exist_ok=True)
            stack.enter_context(_locked(room / "lock"))
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep(home: Path) -> None:
    """Remove the folders of servers that were killed, and all logs but the newest."""
    with _locked(home / "lock"):
        for room in (path for path in home.iterdir() if path.name.isdecimal()):
            with suppress(OSError), open(room / "lock", "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(room, ignore_errors=True)
    for log in sorted(home.glob("job-server-*.log"))[: 1 - _LOGS_KEPT]:
        log.unlink(missing_ok=True)


def _log(home: Path, port: int) -> IO[bytes]:
    """Return where the server's own words go: warnings and errors of Flink, never what a worker works on."""
    name = time.strftime(f"job-server-%Y%m%dT%H%M%SZ-{port}.log", time.gmtime())
    return open(home / name, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))


def _shared(settings: Settings, name: str) -> Path:
    """Return a folder that every TaskManager of a cluster must reach."""
    folder = _home(settings) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


# -- what it says when it fails ----------------------------------------------------------------------------------------

# What stands in the message of a job that failed in Flink itself, and what that means. No message of a worker is here.
_FAILURES: Final = (
    (
        r"error=\d+, (No such file|Permission denied|Exec format)",
        "a worker program is not there or not executable: {it}",
    ),
    (r"Process died with exit code", "a worker program ended as soon as it was started: {it}"),
    (r"NoResourceAvailable|Slot request|not fulfill.*slot", "Flink has too few free task slots for engine.parallelism"),
    (r"Insufficient number of network buffers", "Flink has too few network buffers: see docs/engine.md"),
    (r"OutOfMemoryError|Direct buffer memory", "Flink ran out of memory: see docs/engine.md"),
    (r"ConnectException|UnknownHost|JobSubmission|RestClientException", "the Flink cluster {master} does not answer"),
    (
        r"SDK Harness connection lost|client cancelled|CANCELLED|INTERNAL: |UNAVAILABLE|Socket closed",
        "a worker process was lost",
    ),
    (r"TaskManager|TaskExecutor|RemoteTransport|heartbeat|Connection reset", "a TaskManager was lost"),
)


def failure(settings: Settings, text: str) -> str | None:
    """Return what the message of a failed job means, in words; None where it was a worker's own error."""
    if "Traceback (most recent call last)" in text:
        return None
    command = settings.engine.worker_command or str(_home(settings) / "worker")
    for sign, meaning in _FAILURES:
        if re.search(sign, text):
            return meaning.format(it=command, master=settings.engine.flink_master)
    return None


# -- Beam options ------------------------------------------------------------------------------------------------------


def flags(settings: Settings, *, streaming: bool, endpoint: str) -> list[str]:
    """Return all Beam options of a job on Flink, batch or streaming, through the job server at `endpoint`."""
    engine = settings.engine
    parallelism = engine.parallelism or engine.workers
    return [
        f"--runner={FLINK}",
        f"--job_endpoint={endpoint}",
        f"--flink_version={engine.flink_version}",
        f"--flink_master={engine.flink_master}",
        f"--parallelism={parallelism}",
        f"--max_parallelism={max(parallelism, engine.max_parallelism)}",
        f"--sdk_worker_parallelism={engine.workers}",
        *_environment(settings),
        "--experiments=disable_logging_submission_environment",  # pip freeze, at every start
        f"--experiments={MADE_BY}{versions()}",
        "--default_sdk_harness_log_level=ERROR",  # our own loggers set theirs
        *(_streaming(settings, endpoint) if streaming else _BATCH),
        *engine.options,
    ]


def _environment(settings: Settings) -> list[str]:
    """Return where Python work is done."""
    kind = settings.engine.environment
    if kind == "PROCESS":
        command = settings.engine.worker_command or str(_worker_script(settings))
        return [f"--environment_type={kind}", f"--environment_config={json.dumps({'command': command})}"]
    if kind == "EXTERNAL":
        return [f"--environment_type={kind}", f"--environment_config={settings.engine.worker_pool}"]
    if not is_local(settings):
        raise Problem('engine.environment = "LOOPBACK" is for an embedded Flink: a cluster cannot reach this process')
    return [f"--environment_type={kind}"]


def _streaming(settings: Settings, endpoint: str) -> list[str]:
    """Return the options of a stream.

    A checkpoint that met an open bundle would park its output: without the second option one start in two hangs.
    """
    return [
        "--streaming",
        "--finish_bundle_before_checkpointing",
        f"--max_bundle_time_mills={_BUNDLE_MS}",
        f"--checkpointing_interval={round(settings.engine.checkpoint_seconds * 1000)}",
        "--state_backend=rocksdb",
        f"--state_backend_storage_path={_checkpoints(settings, endpoint)}",
        f"--number_of_execution_retries={_RESTARTS}",
        f"--execution_retry_delay={_RESTART_DELAY_MS}",
    ]


def _checkpoints(settings: Settings, endpoint: str) -> str:
    """Return where checkpoints lie. Those of an embedded Flink end with it: a stream resumes from the ledger."""
    if settings.engine.checkpoint_uri:
        return settings.engine.checkpoint_uri
    if is_local(settings):
        return (_home(settings) / endpoint.rpartition(":")[2] / "checkpoints").as_uri()
    return _shared(settings, "checkpoints").as_uri()


def _worker_script(settings: Settings) -> Path:
    """Write a program that starts a worker of this installation: Flink can run a program, but give it no arguments."""
    script = _home(settings) / "worker"
    path = shlex.quote(str(_ROOT)) + '"${PYTHONPATH:+:$PYTHONPATH}"'
    text = f'#!/bin/sh\nPYTHONPATH={path} exec {shlex.quote(sys.executable)} -P -m pipelines.engine.worker "$@"\n'
    if not script.is_file() or script.read_text(encoding="utf-8") != text:
        with replacing(script, 0o700, lasting=False) as file:
            file.write(text.encode())
    return script
