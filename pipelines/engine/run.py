"""The engine: how a pipeline is run, and what its errors become before a person sees them."""

import gc
import os
import re
from collections.abc import Callable
from contextlib import suppress

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from callward.errors import Problem
from callward.settings import Settings
from callward.workspace import WorkspaceRef, open_transit
from pipelines.engine import flink, process, safe_errors
from transforms.coders import use_transit

EMBEDDED = "FnApiRunner"
# A worker's error reaches us as text with a traceback; of that only the sentence of an error that is ours is shown.
_OURS = re.compile(r"^(?:callward\.[\w.]+): (.+)$", re.MULTILINE)
_ERRNO = re.compile(r"^(?:\w*Error: )*\[Errno (\d+)\]", re.MULTILINE)
_WHERE = re.compile(r" \[while running '[^']*'\]$")  # what Beam adds to it


def options(settings: Settings) -> PipelineOptions:
    """Beam options of a batch for the settings' engine; where that is Flink, its job server is started."""
    engine = settings.engine
    if engine.runner == flink.RUNNER:
        endpoint = flink.lasting_job_server(settings)
        return PipelineOptions(flink.flags(settings, streaming=False, endpoint=endpoint))
    flags = [] if engine.runner == EMBEDDED else [f"--runner={engine.runner}"]
    return PipelineOptions([*flags, f"--direct_num_workers={engine.workers}", *engine.options])


def runner(settings: Settings) -> FnApiRunner | None:
    """The embedded runner, each worker a thread; None where the options name another.

    Made by hand and not by `--direct_running_mode=multi_threading`: that one carries every batch through a gRPC socket
    of this same process, which cost a quarter of a night; and it flushes a worker's output once a second from another
    thread, also in the middle of an element whose coder has let go of the interpreter's lock (ours does, to seal), so
    that the reader fails with "Invalid PaneInfoEncoding".
    """
    return FnApiRunner() if settings.engine.runner == EMBEDDED else None


def run(settings: Settings, reference: WorkspaceRef, build: Callable[[beam.Pipeline], None]) -> None:
    """Build and run one pipeline to its end; raises Problem with one clear sentence."""
    process.prepare()
    pa.set_memory_pool(pa.system_memory_pool())  # where Arrow was imported before
    if gc.get_freeze_count():
        gc.collect()  # what the last pipeline left
    gc.freeze()  # what there is stays: no collection need look at it again
    gc.disable()  # a batch makes many objects and no cycles
    safe_errors.hush()
    use_transit(str(reference), open_transit)
    try:
        pipeline = beam.Pipeline(runner=runner(settings), options=options(settings))
        build(pipeline)
        _finish(pipeline)
    except Problem:
        raise
    except Exception as error:
        raise _problem(settings, error) from None
    finally:
        gc.enable()


def _finish(pipeline: beam.Pipeline) -> None:
    """Run to the end. Whoever interrupts takes the job along: a cluster would go on with it."""
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except BaseException:
        with suppress(Exception):
            result.cancel()
        raise


def _problem(settings: Settings, error: BaseException) -> Problem:
    text = f"{type(error).__name__}: {error}"
    engine = flink.failure(settings, text) if settings.engine.runner == flink.RUNNER else None
    if engine is not None:
        return Problem(f"{engine}; nothing of this wave was committed, and running again goes on from there")
    if any(sign in text for sign in safe_errors.NO_SPACE):
        return Problem(
            "no space left on the device; nothing of this wave was committed, and running again goes on from there"
        )
    ours = _OURS.findall(text)
    if ours:
        return Problem(_WHERE.sub("", ours[-1]))
    refused = _ERRNO.findall(text)
    if refused:
        return Problem(
            f"{os.strerror(int(refused[-1]))}; nothing of this wave was committed, and running again goes on from there"
        )
    return Problem(
        f"a worker failed: {_innermost(text)} (a defect: please report it; nothing of this wave was committed)"
    )


def _innermost(text: str) -> str:
    """Where the innermost frame lies and the error's type: never its message, which may quote a value."""
    frames = re.findall(r'File "[^"]*?((?:callward|transforms|pipelines|schemas)/[\w/]+\.py)", line (\d+)', text)
    kinds = re.findall(r"^([A-Za-z_][\w.]*(?:Error|Exception|Invalid|Problem|Interrupt))\b", text, re.MULTILINE)
    place = f"{frames[-1][0]}:{frames[-1][1]}" if frames else "in the runner"
    return f"{kinds[-1] if kinds else 'an error'} at {place}"
