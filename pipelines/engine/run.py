"""The engine: how a pipeline is run, and what its errors become before a person sees them."""

import gc
import itertools
from collections.abc import Callable
from contextlib import suppress

import apache_beam as beam
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from callward.error_text import error_text
from callward.errors import Problem
from callward.settings import EMBEDDED, FLINK, Settings
from callward.workspace import WorkspaceRef, open_transit
from pipelines.engine import flink, process
from pipelines.engine.options import Options
from pipelines.engine.signatures import remember_signatures
from transforms import safe_errors
from transforms.coders import use_transit

_RUNS = itertools.count()  # of pipelines of this process
_AGAIN = "nothing of this wave was committed, and running again goes on from there"


def options(settings: Settings) -> Options:
    """Return Beam options of a batch for the settings' engine; where that is Flink, its job server is started."""
    engine = settings.engine
    if engine.runner == FLINK:
        endpoint = flink.lasting_job_server(settings)
        return Options(flink.flags(settings, streaming=False, endpoint=endpoint))
    return Options([f"--direct_num_workers={engine.workers}", *engine.options])


def runner(settings: Settings) -> FnApiRunner | None:
    """Return the embedded runner, each worker a thread; None where the options name Flink.

    Made by hand and not by `--direct_running_mode=multi_threading`: that one carries every batch through a gRPC socket
    of this same process, which cost a quarter of a night; and it flushes a worker's output once a second from another
    thread, also in the middle of an element whose coder has let go of the interpreter's lock (ours does, to seal), so
    that the reader fails with "Invalid PaneInfoEncoding".
    """
    return FnApiRunner() if settings.engine.runner == EMBEDDED else None


def run(settings: Settings, reference: WorkspaceRef, build: Callable[[beam.Pipeline], None]) -> None:
    """Build and run one pipeline to its end. Raises Problem with one clear sentence."""
    process.prepare()
    pa.set_memory_pool(pa.system_memory_pool())  # where Arrow was imported before
    if next(_RUNS):
        gc.collect()  # what the last pipeline left
    gc.freeze()  # what there is stays: no collection need look at it again
    gc.disable()  # a batch makes many objects and no cycles
    safe_errors.make_beam_safe()
    remember_signatures()
    use_transit(str(reference), open_transit)
    try:
        pipeline = beam.Pipeline(runner=runner(settings), options=options(settings))
        build(pipeline)
        _finish(pipeline)
    except Problem as problem:
        problem.args = (error_text(problem).sentence, *problem.args[1:])  # without the step that Beam adds
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
    """Return the error of a batch in one sentence."""
    engine = flink.failure(settings, str(error)) if settings.engine.runner == FLINK else None
    if engine is not None:
        return Problem(f"{engine}; {_AGAIN}")
    text = error_text(error)
    if text.no_space:
        return Problem(f"no space left on the device; {_AGAIN}")
    if text.sentence:
        return Problem(text.sentence)
    if text.system:
        return Problem(f"{text.system}; {_AGAIN}")
    return Problem(f"a worker failed: {text.at} (a defect: please report it; nothing of this wave was committed)")
