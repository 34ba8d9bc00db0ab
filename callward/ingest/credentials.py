"""Secrets that settings name and never hold: in an environment variable, or in a file."""

import os
import stat
from pathlib import Path
from typing import Final

from callward.errors import UsageProblem
from callward.settings import Settings

_LIMIT: Final = 4096


def secret(settings: Settings, key: str, place: str) -> str:
    """What `place` (env:NAME or file:PATH) holds; `key` is its name in the settings. Raises UsageProblem."""
    kind, _, name = place.partition(":")
    found = os.environ.get(name, "") if kind == "env" else _read(settings, key, settings.below(name))
    if not found:
        where = f"the environment variable {name}" if kind == "env" else f"the file {settings.below(name)}"
        raise UsageProblem(f"{settings.path.name}: {key}: {where} is empty or not there")
    return found


def _read(settings: Settings, key: str, path: Path) -> str:
    """The first line of a file that not everyone may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LIMIT)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageProblem(f"{settings.path.name}: {key}: {path}: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        seen = f"{path} has mode {stat.S_IMODE(mode):04o}: everyone may read it"
        raise UsageProblem(f"{settings.path.name}: {key}: {seen}")
    return text.partition(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
