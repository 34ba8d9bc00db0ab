"""Beam's worker in this process says of an error what may be shown, and no more: `callward.error_text`."""

import logging
import sys
import traceback
from typing import Any

from apache_beam.runners.worker import sdk_worker

from callward.error_text import traceback_lines


def make_beam_safe() -> None:
    """Keep messages of errors out of all that Beam's worker here logs, prints, and sends to the runner."""
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it would log elements and tracebacks
    # It prints the traceback of a failed bundle, and sends it to the runner.
    vars(sdk_worker).update(print=_print_nothing, traceback=_SafeTraceback)


class _SafeTraceback:
    """Stands where Beam's worker calls the module traceback."""

    @staticmethod
    def format_exc() -> str:
        return "".join(traceback_lines(sys.exception()))

    @staticmethod
    def format_exception(error: BaseException, *_: Any) -> list[str]:
        return list(traceback_lines(error))

    format_stack = staticmethod(traceback.format_stack)


def _print_nothing(*_: object, **__: object) -> None:
    """Do nothing where Beam's worker calls print."""
