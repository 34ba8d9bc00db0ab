"""What a worker tells of an error: where and of what type, never a value. Whatever program the worker is."""

import importlib
import inspect
import logging
import sys
import traceback
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.worker import sdk_worker
from apache_beam.runners.worker.bundle_processor import BundleProcessor
from apache_beam.transforms.environments import EmbeddedPythonEnvironment, SubprocessSDKEnvironment
from hypothesis import given
from hypothesis import strategies as st

from callward.error_text import error_text, without_words
from callward.errors import Problem
from transforms import safe_errors
from transforms.safe_errors import SafeDoFn

NUMBER = "3035550123"


@pytest.fixture(autouse=True)
def _as_beam_has_it():
    """Beam as it is before anything of ours has touched it; afterwards as it was."""
    before, level, process = (
        dict(vars(sdk_worker)),
        logging.getLogger("apache_beam").level,
        BundleProcessor.process_bundle,
    )
    vars(sdk_worker).pop("print", None)
    sdk_worker.traceback, BundleProcessor.process_bundle = traceback, safe_errors._PROCESS
    logging.getLogger("apache_beam").setLevel(logging.NOTSET)
    yield
    vars(sdk_worker).update(before)
    BundleProcessor.process_bundle = process
    logging.getLogger("apache_beam").setLevel(level)


def told(error: BaseException) -> str:
    """What Beam's worker sends to the runner when a step raises this."""
    safe_errors.make_beam_safe()
    try:
        raise error
    except BaseException:
        return sdk_worker.traceback.format_exc()


@given(st.text(), st.sampled_from([ValueError, KeyError, RuntimeError, UnicodeDecodeError, AssertionError]))
def test_no_message_of_a_foreign_error_is_told(message, kind):
    made = UnicodeDecodeError("utf-8", message.encode("utf-8", "replace") or b"\xff", 0, 1, message)
    error = made if kind is UnicodeDecodeError else kind(message + NUMBER)
    said = told(error)
    assert NUMBER not in said
    assert said.splitlines()[-1] == kind.__name__


def test_frames_are_told_without_their_source():
    said = told(ValueError(NUMBER))
    assert "test_safe_errors.py" in said
    assert "raise error" not in said


def test_the_sentence_of_a_problem_is_told():
    assert told(Problem("the lake is full")).endswith("callward.errors.Problem: the lake is full\n")


def test_what_the_system_says_is_told_without_the_file():
    assert told(FileNotFoundError(2, "No such file or directory", f"/in/{NUMBER}")).endswith(
        "FileNotFoundError: [Errno 2] No such file or directory\n"
    )


def test_causes_are_told_as_discreetly():
    try:
        try:
            raise KeyError(NUMBER)
        except KeyError as error:
            raise ValueError(NUMBER) from error
    except ValueError as error:
        said = told(error)
    assert "KeyError\n" in said and "ValueError\n" in said and NUMBER not in said


def test_a_full_disk_is_known_whoever_says_it():
    assert "database or disk is full" in told(RuntimeError(f"(13) database or disk is full: {NUMBER}"))


def test_nobody_elses_tracebacks_change():
    safe_errors.make_beam_safe()
    try:
        raise ValueError(NUMBER)
    except ValueError:
        assert NUMBER in traceback.format_exc()


# -- in workers that are not ours --------------------------------------------------------------------------------------

EMBEDDED = EmbeddedPythonEnvironment.default()
STOCK = SubprocessSDKEnvironment.from_command_string(f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main")


class Unsafe(beam.DoFn):
    def process(self, element: str) -> None:
        int(f"{element}x{element}")


class Safe(SafeDoFn):
    def process(self, element: str) -> None:
        int(f"{element}x{element}")


def all_that_is_said(fn: beam.DoFn, environment: object, capfd: pytest.CaptureFixture[str]) -> str:
    """Return the error that a failing pipeline raises, and what it and its workers print and log."""
    with pytest.raises(Exception) as failed, beam.Pipeline(runner=FnApiRunner(environment)) as pipeline:
        pipeline | beam.Create([NUMBER]) | beam.Reshuffle() | beam.ParDo(fn)
    printed = capfd.readouterr()
    return "".join(traceback.format_exception(failed.value)) + printed.out + printed.err


@pytest.mark.parametrize("environment", [EMBEDDED, STOCK], ids=["embedded", "stock"])
def test_a_dofn_of_ours_keeps_values_out_of_what_any_worker_says(environment, capfd, caplog):
    if environment is EMBEDDED:  # as the test would see it
        assert NUMBER in all_that_is_said(Unsafe(), environment, capfd) + caplog.text
        caplog.clear()
    said = all_that_is_said(Safe(), environment, capfd) + caplog.text
    assert NUMBER not in said
    assert "ValueError" in said and "test_safe_errors.py" in said


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(27, "File too large", f"/in/{NUMBER}"), "File too large (OSError)"),
        (RuntimeError(f"OSError: [Errno 27] File too large: {NUMBER}"), "File too large (RuntimeError)"),
        (RuntimeError(f"(13) database or disk is full: {NUMBER}"), "RuntimeError"),
        (Problem("the lake is full"), "the lake is full"),
        (ValueError(NUMBER), "ValueError"),
    ],
)
def test_an_error_without_words_says_what_it_said_of_the_system(error, line):
    before, after = error_text(error), error_text(without_words(error))
    assert before == after
    assert after.line == line and NUMBER not in str(without_words(error))


def of_ours() -> list[type[beam.DoFn]]:
    modules = [
        importlib.import_module(f"transforms.{path.stem}")
        for path in Path(safe_errors.__file__).parent.glob("[a-z]*.py")
    ]
    return [
        item
        for module in modules
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, beam.DoFn) and item.__module__ == module.__name__
    ]


def test_every_dofn_of_ours_is_safe_and_its_setup_begins_so():
    assert len(of_ours()) > 10
    for fn in of_ours():
        assert issubclass(fn, SafeDoFn)
        setup = inspect.getsource(fn.__dict__["setup"]).splitlines() if "setup" in fn.__dict__ else []
        assert fn is SafeDoFn or not setup or setup[1].strip() == "super().setup()", fn
