"""Logs of the stream: JSON lines for machines, in which no number of a caller can stand.

A line has a time, a level, an event in letters, and fields of an allow list, each of which takes only values of its
kind: counts, names of sources and topics, codes. Anything else is left out, and its name is logged. What libraries log
is free text that may quote a record, so of it only the level and the place are kept; of an error its type and place.
All this happens where a log record is made, so it holds for every handler, also for those that a library adds later.
"""

import json
import logging
import math
import re
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from callward.error_text import error_text
from callward.errors import Problem
from callward.redaction import looks_like_number, mask
from schemas.codes import Filter, Suspense

SUPERVISOR, WORKER = "supervisor", "worker"
_LOGGER: Final = "callward.stream"
_LARGE: Final = 1_000_000  # a figure from here on is written with four digits
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_WORD: Final = re.compile(r"[a-z][a-z_-]{0,39}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][\w.]{0,99}", re.ASCII)
_PLACE: Final = re.compile(r"[\w./-]{1,99}\.(?:py|pyx|pyi):\d{1,5}", re.ASCII)


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], str | None]:
    """Return what takes text of a pattern that does not look like a number."""

    def check(value: Any) -> str | None:
        named = isinstance(value, str) and pattern.fullmatch(value) and not looks_like_number(value)
        return str(value) if named else None

    return check


def _figure(value: Any) -> int | float | None:
    """Take a count or a measure; one of seven digits or more becomes four significant ones when it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _code(value: Any) -> str | None:
    return str(value) if isinstance(value, str) and value in _CODES else None


def _sentence(value: Any) -> str | None:
    """Take what a Problem says, which is a sentence of ours; what may be a number is masked all the same."""
    words = " ".join(str(value).split())
    return "".join(c if " " <= c <= "~" else "?" for c in mask(words)) or None  # an escape would put digits in line


_CODES: Final = frozenset(map(str, (*Suspense, *Filter)))
_FIGURES: Final = (
    *("attempt", "blocks", "commits", "files", "lag", "mebibytes", "messages", "partition", "partitions"),
    *("retries", "rows", "seconds", "slices", "suspended", "waiting", "workers"),
)
FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(_FIGURES, _figure),
    **dict.fromkeys(("source", "topic"), _matching(_NAME)),
    **dict.fromkeys(("state", "role", "run", "bucket", "signal"), _matching(_WORD)),
    "code": _code,
    "error": _matching(_IDENTIFIER),
    "logger": _matching(_IDENTIFIER),
    "place": _matching(_PLACE),
    "reason": _sentence,
}
_CONTEXT: dict[str, Any] = {}


class _Event:
    """An event with its fields, on its way to a log record."""

    def __init__(self, event: str, fields: Mapping[str, Any]) -> None:
        self.event, self.fields = event, fields


def prepare(role: str, run_id: str = "", stream: TextIO | None = None) -> None:
    """Log so from now on in this process, whatever logs. May be called again, such as when the run is known.

    `role` is supervisor or worker. A supervisor writes its lines to `stream`, if not to standard error; those of a
    worker, which must not print, go where Beam's own handler sends them.
    """
    stream = stream or (sys.stderr if role == SUPERVISOR else None)
    _CONTEXT.update({"role": role} | ({"run": run_id} if run_id else {}))
    logging.setLogRecordFactory(_record)
    logging.captureWarnings(True)
    logging.getLogger(_LOGGER).setLevel(logging.INFO)  # whatever the level of the others
    sys.excepthook = lambda _kind, error, _trace: failed("uncaught", error)
    sys.unraisablehook = lambda what: failed("unraisable", what.exc_value)
    threading.excepthook = lambda what: failed("uncaught", what.exc_value)
    if stream is not None:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logging.getLogger().handlers[:] = [handler]


def say(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event (letters and dashes) with fields of the allow list FIELDS."""
    logging.getLogger(_LOGGER).log(level, _Event(event, fields))


def failed(event: str, error: BaseException | None, level: int = logging.ERROR, **fields: Any) -> None:
    """Log that something failed: the error's type and place, and what it says only if it is a Problem of ours."""
    reason = {"reason": str(error)} if isinstance(error, Problem) else {}
    say(event, level, **fields, **_of_error(error), **reason)


def _of_error(error: BaseException | None) -> dict[str, str]:
    """Return the type of an error and its innermost place of ours, as fields."""
    if error is None:
        return {}
    text = error_text(error)
    return {"error": text.kind} | ({"place": text.place} if text.place else {})


# -- log records -------------------------------------------------------------------------------------------------------


def _record(*args: Any, **more: Any) -> logging.LogRecord:
    """Return a log record whose message is the finished line, and that carries nothing else of the event."""
    record = logging.LogRecord(*args, **more)
    event = record.msg if isinstance(record.msg, _Event) else _of_library(record)
    record.msg, record.args = _line(record, event), ()
    record.exc_info = record.exc_text = record.stack_info = None
    return record


def _of_library(record: logging.LogRecord) -> _Event:
    error = record.exc_info[1] if record.exc_info else None
    place = f"{Path(str(record.pathname)).name}:{record.lineno}"
    return _Event("library", {"logger": record.name, "place": place, **_of_error(error)})


def _line(record: logging.LogRecord, logged: _Event) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = logged.event if _WORD.fullmatch(logged.event) else "unnamed"
    pairs: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "event": event}
    left_out = []
    for name, value in {**_CONTEXT, **logged.fields}.items():
        taken = FIELDS[name](value) if name in FIELDS else None
        if taken is not None:
            pairs[name] = taken
        elif value is not None:
            left_out.append(name if _WORD.fullmatch(name) else "unnamed")
    if left_out:
        pairs["left_out"] = left_out
    return "{" + ", ".join(f"{json.dumps(name)}: {_written(value)}" for name, value in pairs.items()) + "}"


def _written(value: Any) -> str:
    large = isinstance(value, int | float) and abs(value) >= _LARGE
    return f"{value:.3e}" if large else json.dumps(value)
