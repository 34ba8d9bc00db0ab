"""What a worker's error says: where it happened and of what type it was; never its message, which may quote a value.

Only the sentence of an error that is ours, and what the operating system says, is passed on as it is.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from apache_beam.runners.worker import sdk_worker

NO_SPACE = ("No space left on device", "database or disk is full", "Disk quota exceeded")
_STEP = re.compile(r" \[while running '[^']*'\]$")  # what Beam adds to a message


def hush() -> None:
    """Make Beam's worker in this process discreet: its log, what it prints, and what it sends to the runner."""
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it would log elements and tracebacks
    # It prints the traceback of a failed bundle, and sends it to the runner.
    vars(sdk_worker).update(print=_say_nothing, traceback=_Discreet)


def sentence(error: BaseException) -> str:
    """An error in one line."""
    return _STEP.sub("", f"{_named(error)}{_where(error.__traceback__)}")


class _Discreet:
    """Stands where Beam's worker calls the module traceback."""

    @staticmethod
    def format_exc() -> str:
        return "".join(_told(sys.exception()))

    @staticmethod
    def format_exception(error: BaseException, *_: Any) -> list[str]:
        return list(_told(error))

    format_stack = staticmethod(traceback.format_stack)


def _told(error: BaseException | None) -> Iterator[str]:
    """A traceback as Python prints it, the cause first, without lines of source and without messages."""
    if error is None:
        return
    yield from _told(error.__cause__ or (None if error.__suppress_context__ else error.__context__))
    yield "Traceback (most recent call last):\n"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n'
    yield f"{_named(error)}\n"


def _named(error: BaseException) -> str:
    """The error's type, with its message where that is safe."""
    kind = type(error)
    if kind.__module__.partition(".")[0] == "callward":
        return f"{kind.__module__}.{kind.__qualname__}: {' '.join(str(error).split())}"
    if isinstance(error, OSError) and error.errno:
        return f"{kind.__qualname__}: [Errno {error.errno}] {os.strerror(error.errno)}"
    full = [sign for sign in NO_SPACE if sign in str(error)]
    return f"{kind.__qualname__}: {full[0]}" if full else kind.__qualname__


def _where(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _say_nothing(*_: object, **__: object) -> None:
    """Stands where Beam's worker calls print."""
