"""Real servers on loopback for the tests: a Kafka broker and a Flink cluster, each in a folder of its own.

They end with the test process, also when that is killed. Free ports are drawn anew for each server and stay its own
over a restart.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from pipelines.engine import flink
from pipelines.engine.child_process import die_with_parent

ENGINE = Path(__file__).resolve().parent.parent / "engine"
JOB_SERVER = ENGINE / "flink" / "target" / "job-server.jar"
CLUSTER_JAR = JOB_SERVER.with_name("job-server-cluster.jar")
KAFKA_LIBS = ENGINE / "kafka" / "libs"
CLUSTER = ENGINE / "cluster"
_PATIENCE_S = 90
_OPENS = [f"--add-opens={package}=ALL-UNNAMED" for package in flink._OPENED]


def needed(there: bool, reason: str) -> None:
    """Skip the test with the reason where something is not there; in CI fail, as there all must be."""
    if not there:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def needs_java() -> None:
    needed(shutil.which("java") is not None, "Java is missing: apt-get install openjdk-17-jdk-headless")


def free_ports(count: int) -> list[int]:
    """So many ports of loopback that nobody listens on."""
    return flink._free_ports(count)


def until(check: Callable[[], Any], what: str, seconds: float = _PATIENCE_S) -> Any:
    """Wait for `check` to return something true, and return it; an error of the network is a no."""
    late = time.monotonic() + seconds
    while time.monotonic() < late:
        with suppress(OSError):
            found = check()
            if found:
                return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")


@dataclass
class Server:
    """One program that runs until it is stopped or killed, or this process ends; it can be started again."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                die_with_parent(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, and wait for the end."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ready(self, check: Callable[[], Any]) -> None:
        """Wait until it serves; fails with the end of its log where it ended."""

        def serves() -> Any:
            assert self.alive(), f"{self.name} ended: {self.log.read_text(errors='replace')[-2000:]}"
            return check()

        until(serves, f"{self.name} serves")


# -- Kafka -------------------------------------------------------------------------------------------------------------


class KafkaBroker:
    """A broker with a folder of its own: stop and start keep its topics and what lies in them."""

    def __init__(self, folder: Path, properties: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port, self._controller = free_ports(2)
        self._properties = dict(properties or {})
        self._server = Server("kafka", self._java("kafka.Kafka", "server.properties"), folder)
        self._format()

    @property
    def bootstrap(self) -> str:
        return f"localhost:{self.port}"

    @property
    def log(self) -> Path:
        return self._server.log

    def start(self) -> None:
        self._server.start()
        self._server.ready(lambda: self._answers())

    def stop(self) -> None:
        """End it in order."""
        self._server.end()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._server.end(signal.SIGKILL)

    def alive(self) -> bool:
        return self._server.alive()

    def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Make a topic; `config` are its settings with _ for every dot: retention_ms="-1"."""
        named = {name.replace("_", "."): value for name, value in config.items()}
        _done(self._admin.create_topics([NewTopic(topic, partitions, 1, config=named)]))

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        _done(self._admin.create_partitions([NewPartitions(topic, partitions)]))

    def delete(self, topic: str) -> None:
        _done(self._admin.delete_topics([topic]))

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _answers(self) -> bool:
        with socket.create_connection(("localhost", self.port), timeout=1):
            pass
        with suppress(Exception):  # the client's own, while the broker begins
            return bool(self._admin.list_topics(timeout=2).brokers)
        return False

    def _java(self, program: str, *arguments: str) -> list[str]:
        logging = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        return ["java", "-Xmx512m", *logging, "-cp", f"{KAFKA_LIBS}/*", program, *arguments]

    def _format(self) -> None:
        lines = self._usual() | self._properties
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.folder / "server.properties").write_text(text, encoding="utf-8")
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A")
        command = self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", name, "-c", "server.properties")
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

    def _usual(self) -> dict[str, str]:
        listeners = f"PLAINTEXT://{self.bootstrap},CONTROLLER://localhost:{self._controller}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"localhost:{self._controller}",
            "listeners": listeners,
            "advertised.listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }


def _done(futures: Mapping[str, Any]) -> None:
    for future in futures.values():
        future.result(30)


@contextmanager
def kafka_broker(properties: Mapping[str, str] | None = None) -> Iterator[KafkaBroker]:
    """A broker of one's own; `properties` are laid over the usual ones of server.properties."""
    needs_java()
    needed(KAFKA_LIBS.joinpath(".built").exists(), "Kafka's jars are missing: make engine")
    with _folder("kafka-") as folder:
        broker = KafkaBroker(folder, properties)
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()


# -- Flink -------------------------------------------------------------------------------------------------------------

_LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""


class FlinkCluster:
    """A JobManager and TaskManagers, each a process of its own on this machine."""

    def __init__(self, folder: Path, slots: int) -> None:
        self.folder = folder
        self.slots = slots
        self._rpc, self.port = free_ports(2)
        (folder / "config.yaml").write_text(json.dumps(self._config()), encoding="utf-8")
        (folder / "log4j.properties").write_text(_LOG4J, encoding="utf-8")
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self.jobmanager = Server("jobmanager", self._java(["-Xmx600m"], entry), folder)
        self.taskmanagers: list[Server] = []
        self._task_options = self._asked()
        # Of those that come later, too: workers have the credentials that were here when the cluster began.
        self._environment = dict(os.environ)

    @property
    def address(self) -> str:
        """REST HOST:PORT, as engine.flink_master names it."""
        return f"localhost:{self.port}"

    def start(self, taskmanagers: int) -> None:
        self.jobmanager.start()
        self.jobmanager.ready(lambda: self.get("/overview"))
        for _ in range(taskmanagers):
            self.add_taskmanager(wait=False)
        self.wait_for(taskmanagers)

    def stop(self) -> None:
        for server in (*self.taskmanagers, self.jobmanager):
            server.end(signal.SIGKILL)

    def add_taskmanager(self, wait: bool = True) -> None:
        flags, given = self._task_options
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        program = self._java(flags, entry, *given)
        server = Server(f"taskmanager-{len(self.taskmanagers)}", program, self.folder, self._environment)
        self.taskmanagers.append(server)
        server.start()
        if wait:
            self.wait_for(sum(each.alive() for each in self.taskmanagers))

    def kill_taskmanager(self, number: int) -> None:
        self.taskmanagers[number].end(signal.SIGKILL)

    def wait_for(self, taskmanagers: int) -> None:
        """Wait until so many are known, with all their slots."""
        wanted = (taskmanagers, taskmanagers * self.slots)

        def known() -> bool:
            seen = self.get("/overview")
            return (seen["taskmanagers"], seen["slots-total"]) == wanted

        until(known, f"{taskmanagers} TaskManagers")

    def get(self, path: str) -> Any:
        """What the REST interface answers."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
            return json.load(answer)

    def cancel_all(self) -> None:
        """Cancel the jobs that run, and wait until none does."""
        ended = ("FINISHED", "CANCELED", "FAILED")

        def alive() -> list[str]:
            return [job["id"] for job in self.get("/jobs")["jobs"] if job["status"] not in ended]

        for job in alive():
            request = urllib.request.Request(f"http://{self.address}/jobs/{job}", method="PATCH")
            with suppress(OSError):
                urllib.request.urlopen(request, timeout=5).close()
        until(lambda: not alive(), "jobs end")

    def _java(self, flags: Sequence[str], program: str, *arguments: str) -> list[str]:
        """Everything from Flink's lib folder, its log on standard output."""
        logging = f"-Dlog4j.configurationFile=file:{self.folder}/log4j.properties"
        conf = ["--configDir", str(self.folder)]
        return ["java", *_OPENS, *flags, logging, "-cp", f"{CLUSTER}/lib/*:{CLUSTER_JAR}", program, *conf, *arguments]

    def _asked(self) -> tuple[list[str], list[str]]:
        """JVM flags and -D arguments of a TaskManager, as Flink's own scripts ask for them."""
        command = ["java", "-cp", f"{CLUSTER}/bin/bash-java-utils.jar:{CLUSTER}/lib/*"]
        command += ["org.apache.flink.runtime.util.bash.BashJavaUtils", "GET_TM_RESOURCE_PARAMS"]
        command += ["--configDir", str(self.folder), "--bindir", "none"]
        done = subprocess.run(command, capture_output=True, text=True)
        mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
        found = [line.partition(mark)[2].split() for line in done.stdout.splitlines() if mark in line]
        assert len(found) == 2, done.stdout[-2000:] + done.stderr[-2000:]
        return found[0], found[1]

    def _config(self) -> dict[str, Any]:
        return {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": self._rpc,
            "jobmanager.bind-host": "localhost",
            "jobmanager.memory.process.size": "1200m",
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": "localhost",
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.memory.process.size": "1400m",
            "rest.address": "localhost",
            "rest.bind-address": "localhost",
            "rest.port": self.port,
            "io.tmp.dirs": str(self.folder),
            # Beam from the lib folder: with every job loaded anew it stays in the memory of the TaskManagers.
            "classloader.resolve-order": "parent-first",
            "heartbeat.interval": "2000",
            "heartbeat.timeout": "10000",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "1000",
            "restart-strategy.fixed-delay.delay": "2 s",
        }


@contextmanager
def flink_cluster(taskmanagers: int = 2, slots: int = 2) -> Iterator[FlinkCluster]:
    """A cluster of one's own."""
    needs_java()
    needed(CLUSTER.joinpath(".built").exists(), "Flink itself is missing: make engine-cluster")
    with _folder("flink-") as folder:
        cluster = FlinkCluster(folder, slots)
        try:
            cluster.start(taskmanagers)
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def _folder(prefix: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
