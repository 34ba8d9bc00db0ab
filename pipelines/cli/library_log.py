"""What libraries log, and what fails in their threads: its level, type and place, never their words.

A library's message may quote a value, and its logger knows nothing of what may be shown.
"""

import logging
import sys
import threading
from pathlib import Path

from callward.error_text import error_text
from pipelines import terminal


def prepare() -> None:
    """Show no word of a library on standard error from now on in this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlaceAlone())
    handler.addFilter(lambda record: "apitools" not in record.getMessage())  # Beam misses what nobody needs here
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.unraisablehook = lambda what: _say(what.exc_value)
    threading.excepthook = lambda what: _say(what.exc_value)


class _PlaceAlone(logging.Formatter):
    """Formats a record as its level, its logger and its place, with an error's type and place."""

    def format(self, record: logging.LogRecord) -> str:
        place = f"{record.levelname.lower()} of {record.name} ({Path(record.pathname).name}:{record.lineno})"
        error = record.exc_info[1] if record.exc_info else None
        return terminal.clean(f"callward: {place}{f': {error_text(error).at}' if error else ''}")


def _say(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        terminal.say(f"callward: something failed beside this command ({error_text(error).at})")
