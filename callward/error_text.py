"""What may be shown of an exception: its type, where in our code it came up, and words that cannot quote a record.

Such words are the sentence of an error of ours and what the operating system says of an error number. Any other message
may quote a value, so it is never shown, logged or sent on.

A worker's error reaches whoever started the work as text: a traceback made by `traceback_lines`, in the message of an
exception of the engine. What it says is read from there.
"""

import os
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callward.errors import Problem

_ROOT: Final = Path(__file__).resolve().parent.parent
_LAYERS: Final = ("schemas", "callward", "transforms", "pipelines")
_NO_SPACE: Final = ("No space left on device", "database or disk is full", "Disk quota exceeded")
_FRAME: Final = re.compile(rf'File "(?:[^"\n]*?/)?((?:{"|".join(_LAYERS)})/[\w/]+\.py)", line (\d{{1,5}})\b')
_KIND: Final = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Invalid|Problem|Interrupt))\b", re.MULTILINE)
_SENTENCE: Final = re.compile(r"^callward\.[\w.]+: (.+)$", re.MULTILINE)
_ERRNO: Final = re.compile(r"^(?:\w*Error: )*\[Errno (\d+)\]", re.MULTILINE)
_STEP: Final = re.compile(r" \[while running '[^']*'\]$")  # what Beam adds to a message


@dataclass(frozen=True)
class ErrorText:
    """What may be shown of an exception."""

    kind: str  # the name of its type
    place: str = ""  # the innermost frame of ours, as transforms/parse.py:88; empty where none is
    sentence: str = ""  # of an error of ours
    system: str = ""  # what the operating system says of its error number
    no_space: bool = False  # a disk or a quota is full, whoever says so

    @property
    def at(self) -> str:
        """Its type and its place, for a defect."""
        return f"{self.kind} at {self.place}" if self.place else self.kind

    @property
    def line(self) -> str:
        """Its sentence; what the system says, or nothing, with its type and place for an error that is not ours."""
        return self.sentence or (f"{self.system} ({self.at})" if self.system else self.at)


def error_text(error: BaseException) -> ErrorText:
    """Return what may be shown of an exception, or of the worker's error whose text it brings."""
    message = str(error)
    kind, place, sentence = _of_worker(message) or (type(error).__name__, _place(error), "")
    numbers = _ERRNO.findall(f"{type(error).__name__}: {message}")
    return ErrorText(
        kind=kind,
        place=place,
        sentence=_STEP.sub("", message if isinstance(error, Problem) else sentence),
        system=os.strerror(int(numbers[-1])) if numbers else "",
        no_space=any(sign in message for sign in _NO_SPACE),
    )


def _of_worker(message: str) -> tuple[str, str, str] | None:
    """Return the type, place and sentence that a worker's traceback in a message says.

    Without frames of ours nothing in a message is taken for any of them: it may be what a record says.
    """
    frames = _FRAME.findall(message)
    if not frames:
        return None
    last = message[message.rindex("File ") :]
    kinds, sentences = _KIND.findall(last), _SENTENCE.findall(message)
    return kinds[-1] if kinds else "an error", ":".join(frames[-1]), sentences[-1] if sentences else ""


def _place(error: BaseException) -> str:
    places = [place for frame in _frames(error) if (place := _place_of(frame))]
    return places[-1] if places else ""


def _place_of(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    if not path.is_relative_to(_ROOT):
        return ""
    name = path.relative_to(_ROOT)
    return f"{name.as_posix()}:{frame.lineno}" if name.parts[0] in _LAYERS else ""


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an error after those of what it was raised from."""
    cause = _cause(error)
    return [*(_frames(cause) if cause else []), *traceback.extract_tb(error.__traceback__)]


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def traceback_lines(error: BaseException | None) -> Iterator[str]:
    """Yield a traceback as Python prints it, the cause first, without lines of source and without unsafe messages."""
    if error is None:
        return
    yield from traceback_lines(_cause(error))
    yield "Traceback (most recent call last):\n"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n'
    yield f"{_last_line(error)}\n"


def without_words(error: BaseException) -> BaseException:
    """Return an error that says as much as may be shown of one: its type, its frames, a sentence of ours.

    So do the errors that it was raised from.
    """
    kind, cause = type(error), _cause(error)
    safe = error
    if isinstance(error, OSError) and error.errno:
        safe = OSError(error.errno, os.strerror(error.errno))
    elif not _is_ours(kind):
        safe = type(kind.__qualname__, (Exception,), {"__module__": kind.__module__})(*_signs(error))
    safe.__cause__ = without_words(cause) if cause else None
    safe.__context__ = None
    return safe.with_traceback(error.__traceback__)


def _signs(error: BaseException) -> list[str]:
    """Return what may be shown of a foreign message, if anything: a full disk, or words of the system's in it."""
    full = [sign for sign in _NO_SPACE if sign in str(error)]
    numbers = _ERRNO.findall(f"{type(error).__name__}: {error}")
    return full[:1] or [f"[Errno {number}] {os.strerror(int(number))}" for number in numbers[-1:]]


def _is_ours(kind: type[BaseException]) -> bool:
    return kind.__module__.partition(".")[0] == "callward"


def _last_line(error: BaseException) -> str:
    """Return the error's type, with its message where that is safe."""
    kind = type(error)
    if _is_ours(kind):
        return f"{kind.__module__}.{kind.__qualname__}: {' '.join(str(error).split())}"
    if isinstance(error, OSError) and error.errno:
        return f"{kind.__qualname__}: [Errno {error.errno}] {os.strerror(error.errno)}"
    full = [sign for sign in _NO_SPACE if sign in str(error)]
    return f"{kind.__qualname__}: {full[0]}" if full else kind.__qualname__
