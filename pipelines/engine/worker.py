"""The worker's boot program, `callward-worker`: what Flink starts on each machine to do the Python work of a job.

It keeps Beam's contract for worker containers (options --id, --provision_endpoint and others) without a container: it
asks the runner what there is to do and works until the runner lets go. It never prints, as nobody may be reading what
it prints: what went wrong is one sentence in the runner's log and on standard error.
"""

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from pipelines.engine import child_process, process

process.prepare()  # before the large libraries are imported
logging.getLogger().addHandler(logging.NullHandler())  # else what Beam logs while imported makes one that prints

import grpc  # noqa: E402
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc, endpoints_pb2  # noqa: E402
from apache_beam.runners.worker import sdk_worker_main  # noqa: E402
from apache_beam.runners.worker.log_handler import FnApiLogRecordHandler  # noqa: E402
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor  # noqa: E402
from google.protobuf import json_format, text_format  # noqa: E402

from callward.error_text import error_text  # noqa: E402
from callward.errors import Problem  # noqa: E402
from pipelines.engine import flink  # noqa: E402
from pipelines.engine import log as stream_log  # noqa: E402
from transforms import safe_errors  # noqa: E402

_PATIENCE_S: Final = 60
_ENDPOINTS: Final = ("logging", "control", "status")


def main() -> None:
    """Work for the runner that started this process, and end with it. Exits with 1 after a sentence on why."""
    asked = _arguments(sys.argv[1:])
    child_process.follow_parent()
    safe_errors.make_beam_safe()
    stream_log.prepare(stream_log.WORKER)
    try:
        info = _provided(asked)
        asked.logging_endpoint = info.logging_endpoint.url or asked.logging_endpoint
        environment = _environment(asked, info)
        _check(environment["PIPELINE_OPTIONS"])
        os.environ.update(environment)
        _work(environment)
    except Exception as error:
        _give_up(asked, error_text(error).line)


def _arguments(given: list[str]) -> argparse.Namespace:
    """Return the runner's arguments; options of newer runners are let pass."""
    parser = argparse.ArgumentParser(prog="callward-worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    for name in _ENDPOINTS:
        parser.add_argument(f"--{name}_endpoint", default="")
    return parser.parse_known_args(given)[0]


def _provided(asked: argparse.Namespace) -> Any:
    """Return ProvisionInfo: the job's options and the runner's endpoints."""
    with grpc.insecure_channel(asked.provision_endpoint) as plain:
        channel = grpc.intercept_channel(plain, WorkerIdInterceptor(asked.id))
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        return stub.GetProvisionInfo(request, timeout=_PATIENCE_S, wait_for_ready=True).info


def _check(options: str) -> None:
    """Raise Problem where the command that made the job is of other versions than this installation."""
    experiments = json.loads(options).get("beam:option:experiments:v1") or []
    made_by = [item.removeprefix(flink.MADE_BY) for item in experiments if item.startswith(flink.MADE_BY)]
    if made_by and made_by[0] != flink.versions():
        raise Problem(f"the job was made by {made_by[0]}, and this worker is {flink.versions()}: install the same")


def _environment(asked: argparse.Namespace, info: Any) -> dict[str, str]:
    """Return the variables that configure Beam's worker."""
    variables = {
        "WORKER_ID": asked.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    for name in _ENDPOINTS:
        url = getattr(info, f"{name}_endpoint").url or getattr(asked, f"{name}_endpoint")
        if url:
            variables[f"{name.upper()}_API_SERVICE_DESCRIPTOR"] = _descriptor(url)
    return variables


def _descriptor(url: str) -> str:
    return str(text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url)))


def _work(environment: Mapping[str, str]) -> None:
    log, harness, _ = sdk_worker_main.create_harness(environment)
    safe_errors.make_beam_safe()  # the options that it read have set log levels
    gc.freeze()  # what there is stays: no collection need look at it again
    try:
        harness.run()
    finally:
        if log is not None:
            log.close()


def _give_up(asked: argparse.Namespace, sentence: str) -> None:
    """Report why, where somebody may read it, and exit with 1."""
    line = f"callward-worker {asked.id}: {sentence}"
    sys.stderr.write(line + "\n")
    if url := asked.logging_endpoint:
        handler = FnApiLogRecordHandler(endpoints_pb2.ApiServiceDescriptor(url=url))
        handler.emit(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": line}))
        handler.close()
    sys.exit(1)


if __name__ == "__main__":
    main()
