"""What may be shown of an error: its type, its place, and words that cannot quote a record."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.error_text import ErrorText, error_text, traceback_lines
from callward.errors import Problem

PAYLOAD = "SMITH,2025550123,JONES"
KINDS = [ValueError, KeyError, RuntimeError, UnicodeError, OSError]


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return an error as it is after it was raised, from a cause if one is given."""
    try:
        if cause is None:
            raise error
        try:
            raise cause
        except Exception as first:
            raise error from first
    except Exception as caught:
        return caught


def raised_below() -> Exception:
    """Return an error that a library raises in a function of ours."""
    from callward.settings import load

    try:
        load(object())  # type: ignore[arg-type]
    except Exception as error:
        return error
    raise AssertionError


def of_worker(error: Exception) -> RuntimeError:
    """Return the error of an engine that brings a worker's error as text, as Beam words it."""
    frame = '  File "/srv/app/transforms/parse.py", line 88, in process\n'
    library = '  File "/srv/venv/lib/python3.11/site-packages/pyarrow/array.py", line 1, in cast\n'
    *_, last = traceback_lines(error)
    text = f"Error received from SDK harness: Traceback (most recent call last):\n{frame}{library}{last.rstrip()}"
    return RuntimeError(f"{text} [while running 'Parse/ParseBlocks']")


def test_an_error_is_its_type_and_its_innermost_place_of_ours() -> None:
    text = error_text(raised_below())
    assert text.sentence == text.system == ""
    assert re.fullmatch(r"\w+ at callward/settings/loading\.py:\d+", text.at)
    assert text.line == text.at


def test_an_error_of_the_tests_alone_has_no_place() -> None:
    assert error_text(raised(ValueError(PAYLOAD))) == ErrorText("ValueError")


@given(st.text(), st.sampled_from(KINDS))
def test_no_word_of_a_message_is_shown(words: str, kind: type[Exception]) -> None:
    text = error_text(raised(kind(words), ValueError(words)))
    assert text.line == text.kind == kind.__name__


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_looks_like_an_error_is_not_taken_for_one(kind: type[Exception]) -> None:
    lines = [PAYLOAD, f"SmithError: {PAYLOAD}", "2025550123Error", f"callward.errors.Problem: {PAYLOAD}", ""]
    spoof = f"{PAYLOAD}Exception\nTraceback (most recent call last):\n".join(lines)
    assert error_text(raised(kind(spoof), ValueError(spoof))) == ErrorText(kind.__name__)


def test_an_error_of_ours_is_its_sentence() -> None:
    assert error_text(raised(Problem("the lake is full"))).line == "the lake is full"


def test_what_the_system_says_is_shown_without_the_file() -> None:
    text = error_text(raised(FileNotFoundError(2, "No such file or directory", f"/in/{PAYLOAD}")))
    assert text.system == "No such file or directory" and text.line == f"{text.system} ({text.at})"


@pytest.mark.parametrize("words", ["No space left on device", "(13) database or disk is full", "Disk quota exceeded"])
def test_a_full_disk_is_known_whoever_says_it(words: str) -> None:
    error = raised(RuntimeError(f"{words}: {PAYLOAD}"))
    assert error_text(error).no_space and error_text(of_worker(error)).no_space
    assert not error_text(raised(RuntimeError(PAYLOAD))).no_space


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (json.JSONDecodeError(PAYLOAD, PAYLOAD, 1), ErrorText("JSONDecodeError", "transforms/parse.py:88")),
        (Problem("a key is gone"), ErrorText("callward.errors.Problem", "transforms/parse.py:88", "a key is gone")),
        (
            PermissionError(13, "denied", PAYLOAD),
            ErrorText("PermissionError", "transforms/parse.py:88", system="Permission denied"),
        ),
    ],
)
def test_a_workers_error_that_came_as_text_is_told_by_the_workers_frames(error: Exception, text: ErrorText) -> None:
    assert error_text(raised(of_worker(error))) == text
