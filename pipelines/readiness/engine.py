"""The engine that a run needs: Java, the job server, a cluster."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Final

from callward.errors import Problem
from callward.settings import Settings
from pipelines import terminal
from pipelines.engine import flink
from pipelines.readiness.finding import MISSING, NOTE, OK, WARNING, WRONG, Finding

_JAVA: Final = "17"
_FLINK: Final = "1.19"


def engine(settings: Settings, *, needed: bool) -> Iterator[Finding]:
    """Check Java, the job server and the cluster where they are needed; else only that they are not there."""
    absent = MISSING if needed else NOTE
    why = "" if needed else "; only the stream, and nights on Flink, need it"
    yield _java(absent, why)
    try:
        yield Finding("job server", OK, str(flink.jar(settings)))
    except Problem as problem:
        sentence, _, fix = str(problem).partition("; ")
        yield Finding("job server", absent, f"{sentence}{why}", fix)
        if shutil.which("mvn") is None:
            yield Finding("maven", NOTE, "not found; it builds the job server", "install maven")
    if needed and not flink.is_local(settings):
        yield from _cluster(settings)


def _java(absent: str, why: str) -> Finding:
    try:
        program = flink.java()
    except Problem as problem:
        sentence, _, fix = str(problem).partition(": ")
        return Finding("java", absent, f"{sentence}{why}", fix)
    asked = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "([\d._]+)"', asked.stderr + asked.stdout)
    version = match[1] if match else "of an unknown version"
    if version.split(".")[0] == _JAVA:
        return Finding("java", OK, version)
    return Finding("java", WARNING, version, f"Flink {_FLINK} was tested with Java {_JAVA}")


def _cluster(settings: Settings) -> Iterator[Finding]:
    """Check a Flink cluster by its own report. Workers compare versions when they start, and report differences."""
    master = settings.engine.flink_master
    try:
        seen, config = (flink.ask(settings, path) for path in ("/overview", "/jobmanager/config"))
        environment = flink.ask(settings, "/jobmanager/environment")
    except Problem as problem:
        yield Finding("flink", WRONG, str(problem), "start it, or fix engine.flink_master")
        return
    slots, wanted = seen["slots-total"], settings.engine.parallelism or settings.engine.workers
    cluster = f"{master}: Flink {seen['flink-version']}, {terminal.count(seen['taskmanagers'], 'TaskManager')}"
    if slots < wanted:
        fix = f"start TaskManagers: engine.parallelism asks for {wanted}"
        yield Finding("flink", WRONG, f"{cluster}, {terminal.count(slots, 'task slot')}", fix)
    elif not seen["flink-version"].startswith(f"{settings.engine.flink_version}."):
        yield Finding("flink", WARNING, cluster, f"the job server is made for Flink {settings.engine.flink_version}")
    else:
        yield Finding("flink", OK, f"{cluster}, {terminal.count(slots, 'task slot')}")
    yield _beam_of_cluster(config, environment)


def _beam_of_cluster(config: Any, environment: Any) -> Finding:
    """Check where Beam's classes lie: those that each job brings anew are never freed, and fill the memory."""
    orders = [item["value"] for item in config if item["key"] == "classloader.resolve-order"]
    there = any("job-server-cluster" in jar for jar in environment["classpath"])
    if there and orders == ["parent-first"]:
        return Finding("beam in flink", OK, "in the cluster's lib folder")
    fix = "put job-server-cluster.jar into the cluster's lib, and set classloader.resolve-order: parent-first"
    return Finding("beam in flink", WARNING, "each job brings it anew, and TaskManagers do not let go of it", fix)
