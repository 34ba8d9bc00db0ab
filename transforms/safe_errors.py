"""A worker of Beam's says of an error what may be shown, and no more: `callward.error_text`.

Every DoFn of ours sees to it where it is set up, whatever program its worker is: ours, Beam's own, or a test.
"""

import logging
import sys
import traceback
from typing import Any, Final

import apache_beam as beam
from apache_beam.runners.worker import sdk_worker
from apache_beam.runners.worker.bundle_processor import BundleProcessor

from callward.error_text import traceback_lines, without_words

_PROCESS: Final = BundleProcessor.process_bundle


class SafeDoFn(beam.DoFn):
    """A DoFn whose worker shows no value of an element: the base of all of ours, which begin their setup with its."""

    def setup(self) -> None:
        make_beam_safe()


def make_beam_safe() -> None:
    """Keep messages of errors out of all that Beam's worker here logs, prints, and sends to the runner."""
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it would log elements and tracebacks
    # It prints the traceback of a failed bundle, and sends it to the runner.
    vars(sdk_worker).update(print=_print_nothing, traceback=_SafeTraceback)
    # An embedded worker raises the error itself into the program around it.
    BundleProcessor.process_bundle = _process  # type: ignore[method-assign]


def _process(self: BundleProcessor, *given: Any, **named: Any) -> Any:
    """Process a bundle as Beam does; what it raises comes without its words."""
    try:
        return _PROCESS(self, *given, **named)
    except Exception as error:
        safe = without_words(error)
    raise safe


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
