"""Secrets that settings name and never hold: in an environment variable, or in a file."""

import os
import stat
from pathlib import Path
from typing import Final

from callward.errors import UsageProblem
from callward.settings import Settings

_LIMIT: Final = 4096


def secret(settings: Settings, key: str, place: str) -> str:
    """Return what `place` (env:NAME or file:PATH) holds; `key` is its name in the settings.

    Raises UsageProblem when nothing is there, or when everyone may read the file.
    """
    kind, _, name = place.partition(":")
    text = os.environ.get(name, "") if kind == "env" else _read(settings, key, settings.below(name))
    if not text:
        where = f"the environment variable {name}" if kind == "env" else f"the file {settings.below(name)}"
        raise UsageProblem(f"{settings.path.name}: {key}: {where} is empty or not there")
    return text


def _read(settings: Settings, key: str, path: Path) -> str:
    """Return the first line of a file that not everyone may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LIMIT)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageProblem(f"{settings.path.name}: {key}: {path}: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        seen = f"{path} has mode {stat.S_IMODE(mode):04o}: everyone may read it"
        raise UsageProblem(f"{settings.path.name}: {key}: {seen}")
    return content.partition(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
