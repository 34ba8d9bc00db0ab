"""What a worker tells of an error: where and of what type, never a value."""

import logging
import traceback

import pytest
from apache_beam.runners.worker import sdk_worker
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from pipelines.engine import safe_errors

NUMBER = "3035550123"


@pytest.fixture(autouse=True)
def _as_it_was():
    before, level = sdk_worker.traceback, logging.getLogger("apache_beam").level
    yield
    sdk_worker.traceback = before
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
