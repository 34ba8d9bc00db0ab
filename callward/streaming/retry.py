"""What passes by itself is waited for in the worker, so that the engine holds back what comes behind; what does not is
told to the supervisor in one sentence, never with a value."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from callward.database import DatabaseAway
from callward.error_text import error_text
from callward.errors import Problem
from callward.settings import Settings
from callward.streaming import register

Value = TypeVar("Value")
_NO_SPACE: Final = (28, 122)  # ENOSPC, EDQUOT
_PATIENCE_S: Final = 3600.0  # then the engine starts anew from its checkpoint
_PAUSE_S: Final = 2.0


def retry_transient(work: Callable[[], Value]) -> Value:
    """Return what `work` returns, called again and again while the database is away or the disk is full.

    Raises its error when that is another one, or when it lasts longer than an hour.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return work()
        except (DatabaseAway, OSError) as problem:
            if not passes(problem) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)


def passes(error: BaseException) -> bool:
    """Return whether an error may pass without us: a lost database, a full disk."""
    return isinstance(error, DatabaseAway) or (isinstance(error, OSError) and error.errno in _NO_SPACE)


@contextmanager
def reporting_failure(settings: Settings, run_id: str) -> Iterator[None]:
    """Report to the supervisor what no second try would fix: it ends the stream so. Raises the error again."""
    try:
        yield
    except Exception as error:
        if not passes(error):
            register.fail(settings, run_id, sentence(error))
        raise


def sentence(error: Exception) -> str:
    """Return a problem in its own words; any other error by its type and place, as its message may quote a value."""
    if isinstance(error, Problem):
        return str(error)
    return f"a worker failed: {error_text(error).at} (a defect: please report it; nothing was lost)"
