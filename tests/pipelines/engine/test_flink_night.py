"""A night and a purge on Flink, embedded and on a cluster of two TaskManagers, are those of the embedded runner."""

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from callward.errors import Problem
from callward.feeds.generate import generate
from callward.settings import Settings
from pipelines.engine import flink
from pipelines.readiness import engine as needs
from pipelines.readiness.finding import OK, WRONG
from tests import servers
from tests.commands import all_that_is, strays
from tests.object_stores import ObjectStore
from tests.postgresql import on_loopback, take_keys
from tests.retention import BILLING_KEPT, FEED, WINDOWS, purged
from tests.retention import night as retention_night

SOURCES = ("asterisk", "opensips", "cucm")
DAY = date(2026, 3, 5)
FLINK = {"runner": "FlinkRunner", "parallelism": 2, "workers": 1}


@pytest.fixture(autouse=True)
def _no_server_left() -> Iterator[None]:
    yield
    flink.end_lasting()


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls in whole records, in pieces and with quality records, some of them dirt."""
    folder = tmp_path_factory.mktemp("feed")
    generate(folder, seed=5, day=DAY, calls=300, dirt=0.02, sources=SOURCES)
    return folder


@pytest.fixture(scope="module")
def landed(feed: Path, workspace: Callable[..., Any]) -> Callable[..., Any]:
    """landed(**engine) → a workspace whose files wait for the night; all of them have the same keys."""

    def make(more: Mapping[str, Any] = MappingProxyType({}), **engine: Any) -> Any:
        site = workspace(*SOURCES, engine=engine, **more)
        site.deliver(path for path in sorted(feed.rglob("*")) if path.is_file())
        return site

    return make


@pytest.fixture(scope="module")
def expected(landed: Callable[..., Any]) -> dict[str, Any]:
    """What a night of the embedded runner leaves."""
    site = landed()
    site.night()
    return all_that_is(site)


@pytest.mark.endurance
def test_a_night_on_embedded_flink_is_the_same(landed: Any, expected: Any, flink_jar: Path) -> None:
    site = landed(**FLINK)
    site.night()
    assert all_that_is(site) == expected
    assert not site.unbalanced() and not strays(site)


@pytest.mark.endurance
def test_a_night_on_a_cluster_with_a_bucket_and_postgresql_is_the_same(
    landed: Any, expected: Any, flink_cluster: Any, object_store: ObjectStore, fresh_url: str
) -> None:
    """What those have who outgrow one machine."""
    shared = {"database": on_loopback(fresh_url), "lake": object_store.lake()}
    site = landed(**FLINK | {"flink_master": flink_cluster.address}, more=shared)
    take_keys(site, landed())
    site.night()
    assert all_that_is(site) == expected
    assert not site.unbalanced() and not strays(site)


def test_a_worker_that_is_killed_ends_the_night_with_a_sentence_and_the_next_one_mends_it(
    landed: Any, expected: Any, flink_jar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does anybody beyond this machine reach the servers that it starts."""
    site = landed(**FLINK)
    with monkeypatch.context() as patched:
        patched.setenv("CALLWARD_CRASH_AT", "view-written")  # the job server's workers inherit it
        with pytest.raises(Problem, match=r"^a worker process was lost; nothing of this wave was committed"):
            site.night()
    flink.end_lasting()
    site.night()
    assert all_that_is(site) == expected
    seen = listening_while_working(site.settings)
    assert len(seen) > 8, "job service, artifacts, Flink, and what each worker talks to"
    beyond = {port for port, loopback in seen.items() if not loopback}
    assert beyond == set(), "its ports run what they are given; Beam and Flink would listen on every interface"


@pytest.mark.endurance
def test_an_error_of_a_worker_is_one_sentence_without_a_value(landed: Any, flink_jar: Path) -> None:
    site = landed(**FLINK)
    lake = site.settings.lake_path
    lake.mkdir(exist_ok=True)
    (lake / "transit").write_text("a file where a folder has to be", encoding="utf-8")
    with pytest.raises(Problem) as caught:
        site.night()
    assert re.fullmatch(r"[^\n]+", str(caught.value)) and not re.search(r"\d{7}", str(caught.value))
    (log,) = (site.folder / "engine").glob("*.log")
    assert not re.search(rb"\+1\d{10}|\b1?303555\d{4}", log.read_bytes()), "nor is one in Flink's log"


def listening(port: int) -> dict[int, bool]:
    """Ports that the job server at `port` and its Flink listen on, and whether each is on loopback only."""
    found = subprocess.run(["pgrep", "-f", "--", f"--job-port={port}"], capture_output=True, text=True)
    process = Path("/proc", found.stdout.split()[0])
    held = set()
    for handle in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(os.readlink(handle))
    ports = {}
    for line in [*(process / "net/tcp").read_text().splitlines(), *(process / "net/tcp6").read_text().splitlines()]:
        _, local, _, state, *rest = line.split()
        if state == "0A" and f"socket:[{rest[5]}]" in held:
            address, _, hexadecimal = local.partition(":")
            ports[int(hexadecimal, 16)] = address.endswith("0100007F") or address == "0" * 24 + "01000000"
    return ports


def listening_while_working(settings: Settings) -> dict[int, bool]:
    """Ports that this process's job server and its Flink listen on while they run a job, as `listening`."""
    endpoint, seen = flink.lasting_job_server(settings), dict[int, bool]()
    options = PipelineOptions(flink.flags(settings, streaming=False, endpoint=endpoint))
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | beam.Create([None]) | "Work" >> beam.Map(lambda _: __import__("time").sleep(2))
    result = pipeline.run()
    while result.state not in ("DONE", "FAILED", "CANCELLED"):
        seen |= listening(int(endpoint.rpartition(":")[2]))
    return seen


@pytest.mark.endurance
def test_a_purge_on_flink_is_the_same(workspace: Callable[..., Any], flink_jar: Path, flink_cluster: Any) -> None:
    left = []
    for engine in ({}, FLINK, FLINK | {"flink_master": flink_cluster.address}):
        site = workspace("generic", retention=WINDOWS)
        retention_night(site)
        site.set(engine=engine)
        done = purged(site, BILLING_KEPT)
        left.append(
            (site.view("billing").to_pylist(), site.view("assurance").to_pylist(), site.derived(), counted(done))
        )
        flink.end_lasting()
    assert left[0] == left[1] == left[2]
    assert FEED


def counted(done: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What a purge says that it did, class by class."""
    return [(row["class"], row["due"], row["held"], row["deleted"], row["keys_destroyed"]) for row in done["classes"]]


def test_doctor_says_what_a_cluster_has(workspace: Callable[..., Any], flink_jar: Path) -> None:
    with servers.flink_cluster(taskmanagers=1) as cluster:
        settings = workspace("asterisk", engine={**FLINK, "flink_master": cluster.address}).settings
        found = {finding.what: finding for finding in needs.engine(settings, needed=True)}
        many = settings.model_copy(update={"engine": settings.engine.model_copy(update={"parallelism": 999})})
        (short,) = [finding for finding in needs.engine(many, needed=True) if finding.what == "flink"]
    assert found["flink"].state == OK and "1 TaskManager, 2 task slots" in found["flink"].seen
    assert found["beam in flink"].state == OK
    assert short.state == WRONG and "999" in short.fix


def test_a_cluster_that_is_not_there_is_one_sentence(workspace: Callable[..., Any]) -> None:
    settings = workspace("asterisk", engine={**FLINK, "flink_master": "localhost:1"}).settings
    (said,) = [finding for finding in needs.engine(settings, needed=True) if finding.what == "flink"]
    assert said.state == WRONG and "localhost:1 does not answer" in said.seen
