"""What callward submits speaks only words that its job server knows: Beam for Python is years newer than the server."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner

from callward.errors import Problem
from callward.settings import FLINK
from pipelines import release as releasing
from pipelines.engine import flink
from pipelines.stream import supervisor
from tests import releases
from tests.retention import BILLING_KEPT, DAY, WINDOWS, call, feed, purged
from tests.retention import night as retention_night

# Coders that only workers open: a runner hands on as bytes what it does not know.
_OPAQUE = {"beam:coder:pickled_python:v1", "beam:coder:tuple:v1"}
Pipeline = Any
Submit = Callable[[Callable[[], object]], Pipeline]


@pytest.fixture(scope="module")
def known(flink_jar: Path) -> dict[str, set[str]]:
    """What the job server knows, by kind, as its classes say."""
    command = ["java", "-cp", str(flink_jar), str(Path(__file__).with_name("KnownUrns.java"))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    urns: dict[str, set[str]] = {}
    for line in printed:
        kind, urn = line.split()
        urns.setdefault(kind, set()).add(urn)
    return urns


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Return the first pipeline that an action submits to Flink, as the job server would be given it."""

    def submit(action: Callable[[], object]) -> Pipeline:
        protos = []

        def take(pipeline: beam.Pipeline, *_: object, **__: object) -> None:
            protos.append(PortableRunner.get_proto_pipeline(pipeline, pipeline._options))
            raise Problem("taken")

        with monkeypatch.context() as patched, contextlib.suppress(Problem):
            patched.setattr(beam.Pipeline, "run", take)
            patched.setattr(flink, "lasting_job_server", lambda settings: "localhost:1")
            patched.setattr(flink, "job_server", lambda settings: contextlib.nullcontext("localhost:1"))
            action()
        return protos[0]

    return submit


def urns(pipeline: Pipeline) -> dict[str, set[str]]:
    """Every URN of a pipeline that a runner has to understand, by kind; what only a worker opens is left out."""
    components = pipeline.components
    leaves = [transform for transform in components.transforms.values() if not _is_composite(transform)]
    pardos = [
        beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        for transform in leaves
        if transform.spec.urn == "beam:transform:pardo:v1"
    ]
    coders = {coder.spec.urn for coder in components.coders.values() if coder.spec.urn}
    return {
        "transform": {transform.spec.urn for transform in leaves},
        "coder": coders - _OPAQUE,
        "requirement": set(pipeline.requirements),
        "state": set(_states(pardos)),
        "environment": {environment.urn for environment in components.environments.values()},
        "window": {strategy.window_fn.urn for strategy in components.windowing_strategies.values()},
    }


def _is_composite(transform: Any) -> bool:
    """Return whether a transform is made of others, or of none: then it hands on what it is given."""
    return bool(transform.subtransforms) or set(transform.outputs.values()) <= set(transform.inputs.values())


def _states(pardos: list[Any]) -> Iterator[str]:
    for pardo in pardos:
        for spec in pardo.state_specs.values():
            yield spec.protocol.urn


ENGINE = {"runner": FLINK}


def landed(workspace: Callable[..., Any], **changes: Any) -> Any:
    site = workspace("generic", **changes)
    site.land("generic", "a.csv", feed(*(call(number) for number in range(4))))
    return site


def night(workspace: Callable[..., Any]) -> Callable[[], object]:
    return landed(workspace, engine=ENGINE).night


def stream(workspace: Callable[..., Any]) -> Callable[[], object]:
    settings = landed(workspace, engine=ENGINE).settings
    return lambda: supervisor.start(settings)


def purge(workspace: Callable[..., Any]) -> Callable[[], object]:
    site = workspace("generic", retention=WINDOWS)
    retention_night(site)
    site.set(engine=ENGINE)
    return lambda: purged(site, BILLING_KEPT)


def release(workspace: Callable[..., Any]) -> Callable[[], object]:
    site = workspace("generic")
    retention_night(site, feed(*(call(number) for number in range(4))))
    releases.declare(site, releases.text(rho="0.001"))
    site.set(engine=ENGINE)
    return lambda: releasing.run(site.settings, "calls", DAY.isoformat())


@pytest.mark.parametrize(
    "work",
    [night, stream, *(pytest.param(work, marks=pytest.mark.endurance) for work in (purge, release))],
    ids=lambda work: work.__name__,
)
def test_a_pipeline_names_nothing_that_its_job_server_does_not_know(
    work: Callable[..., Any], workspace: Callable[..., Any], submitted: Submit, known: dict[str, set[str]]
) -> None:
    named = urns(submitted(work(workspace)))
    assert "beam:transform:pardo:v1" in named["transform"] and named["environment"], "this looks at nothing"
    assert {kind: named[kind] - known[kind] for kind in named if named[kind] - known[kind]} == {}


def test_a_word_that_is_too_new_is_seen(known: dict[str, set[str]]) -> None:
    pipeline = beam_runner_api_pb2.Pipeline(requirements=["beam:requirement:pardo:of_tomorrow:v1"])
    pipeline.components.coders["new"].spec.urn = "beam:coder:of_tomorrow:v1"
    named = urns(pipeline)
    assert named["requirement"] - known["requirement"] and named["coder"] - known["coder"]
