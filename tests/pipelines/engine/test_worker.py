"""The worker's boot program: what it is told becomes what Beam's worker reads, and what fails is one sentence."""

import json
import os
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)
from google.protobuf import struct_pb2

from pipelines.engine import flink

ROOT = Path(__file__).resolve().parents[3]


class Runner(
    beam_provision_api_pb2_grpc.ProvisionServiceServicer,
    beam_fn_api_pb2_grpc.BeamFnLoggingServicer,
    beam_fn_api_pb2_grpc.BeamFnControlServicer,
):
    """As much of a runner as a worker's start needs."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options, self.logged, self.worked = options, [], threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(self, self.server)
        beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(self, self.server)
        beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(self, self.server)
        self.url = f"localhost:{self.server.add_insecure_port('localhost:0')}"
        self.server.start()

    def GetProvisionInfo(self, request, context):
        self.worker = dict(context.invocation_metadata()).get("worker_id")
        options = struct_pb2.Struct()
        options.update({f"beam:option:{name}:v1": value for name, value in self.options.items()})
        info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=options)
        info.logging_endpoint.url = info.control_endpoint.url = self.url
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)

    def Logging(self, entries, context):
        for batch in entries:
            self.logged += [entry.message for entry in batch.log_entries]
        yield from ()

    def Control(self, answers, context):
        yield beam_fn_api_pb2.InstructionRequest(
            instruction_id="1", harness_monitoring_infos=beam_fn_api_pb2.HarnessMonitoringInfosRequest()
        )
        if next(answers).instruction_id == "1":
            self.worked.set()


@pytest.fixture
def runner():
    made = []

    def make(**options: object) -> Runner:
        made.append(Runner(options))
        return made[-1]

    yield make
    for each in made:
        each.server.stop(0)


def boot(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "pipelines.engine.worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_worker_works_until_the_runner_lets_go(runner):
    served = runner(experiments=[flink.MADE_BY + flink.versions()])
    done = boot("--id=7-1", f"--provision_endpoint={served.url}", "--some_newer_option=x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert served.worker == "7-1" and served.worked.is_set()


def test_a_worker_of_other_versions_says_so_and_does_not_begin(runner):
    served = runner(experiments=[f"{flink.MADE_BY}python-2.7-callward-0"])
    done = boot("--id=7-1", f"--provision_endpoint={served.url}")
    sentence = f"the job was made by python-2.7-callward-0, and this worker is {flink.versions()}: install the same"
    assert done.returncode == 1 and not served.worked.is_set()
    assert done.stderr.splitlines() == [f"callward-worker 7-1: {sentence}"] and done.stdout == ""
    assert any(sentence in line for line in served.logged), "the runner's log has it too"


def test_what_is_called_without_a_runner_says_what_it_needs():
    done = boot()
    assert done.returncode == 2 and "--provision_endpoint" in done.stderr


def test_experiments_carry_the_versions(workspace):
    settings = workspace("asterisk", engine={"runner": "FlinkRunner"}).settings
    given = flink.flags(settings, streaming=True, endpoint="localhost:1")
    assert f"--experiments={flink.MADE_BY}{flink.versions()}" in given
    assert json.dumps(flink.versions())
