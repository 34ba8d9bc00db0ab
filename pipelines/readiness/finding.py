"""What was seen of one thing: how it is, and how to fix it."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from callward.errors import Problem

Subject = TypeVar("Subject")
OK, MISSING, WRONG, WARNING, NOTE = "ok", "missing", "wrong", "warning", "note"
_BAD: Final = (MISSING, WRONG)


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was seen, and how to fix it ("" where nothing is to be done)."""

    what: str
    state: str
    seen: str
    fix: str = ""

    @property
    def bad(self) -> bool:
        return self.state in _BAD


def guarded(check: Callable[[Subject], Iterator[Finding]], subject: Subject) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails is a finding, too."""
    try:
        yield from check(subject)
    except Problem as problem:
        yield Finding(_name(check), WRONG, str(problem), problem.hint or "")
    except OSError as error:
        yield Finding(_name(check), WRONG, f"{error.filename or ''}: {error.strerror}".lstrip(": "))


def _name(check: Callable[[Subject], Iterator[Finding]]) -> str:
    return check.__name__.strip("_").replace("_", " ")


def folder_finding(what: str, path: Path, absent: str, refused: str, *, writes: bool = True) -> Finding:
    """Return how a folder that a setting names is: there, a folder, and open to who runs this.

    Args:
        absent: how to fix it where it is not there.
        refused: what cannot be done with it where it is closed.
        writes: into it, and does not only read it.
    """
    access = os.R_OK | os.X_OK | (os.W_OK if writes else 0)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if (link := _dangling(path)) is not None:
            return Finding(what, MISSING, f"{link} is a link to what is not there", absent)
        return Finding(what, MISSING, f"there is no folder {path}", absent)
    except NotADirectoryError:
        return Finding(what, WRONG, f"{path} lies below a file", absent)
    except OSError as error:
        return Finding(what, WRONG, f"{path}: {error.strerror}", f"chmod u+rwx {path.parent}, as its owner")
    if not stat.S_ISDIR(mode):
        return Finding(what, WRONG, f"{path} is not a folder", "take it away, or name another")
    if not os.access(path, access, effective_ids=True):
        return Finding(what, WRONG, f"{path} {refused}", f"chmod u+rwx {path}, as its owner")
    return Finding(what, OK, str(path))


def _dangling(path: Path) -> Path | None:
    """Return the link on the way to a path that leads nowhere; None where there is none."""
    return next((place for place in (path, *path.parents) if place.is_symlink() and not place.exists()), None)
