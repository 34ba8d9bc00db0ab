"""The landing folder: which files are complete, how they are packed, and what is left alone and why.

A file's name may hold a subscriber's number (Asterisk writes <accountcode>.csv), so names are shown masked; in the
database they lie sealed.
"""

import gzip
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from callward.settings import Settings, Source

MARKER = ".done"
_DIGITS = re.compile(r"\d{7,}")
_DATE_FORMS = ("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H", "%Y%m%d")


@dataclass(frozen=True)
class Arrival:
    """A complete file: its source, path, and how it looked when it was listed."""

    source: str
    path: Path
    name: str  # below landing/
    size: int
    modified_ns: int

    @property
    def form(self) -> str:
        """plain, gzip or zstd, by the file's name."""
        return {".gz": "gzip", ".zst": "zstd"}.get(self.path.suffix.lower(), "plain")


@dataclass(frozen=True)
class LeftAlone:
    """A file that is not taken, and why; `wrong` when a person must look."""

    name: str
    reason: str
    wrong: bool


def mask(name: str) -> str:
    """A file's name with every run of seven or more digits masked, unless the run is a date (and time)."""
    return _DIGITS.sub(lambda match: match[0] if _is_date(match[0]) else "#" * len(match[0]), name)


def _is_date(digits: str) -> bool:
    for form in _DATE_FORMS:
        try:
            if 1990 <= datetime.strptime(digits, form).year < 2100:
                return True
        except ValueError:
            continue
    return False


def arrivals(settings: Settings, source: Source) -> Iterator[Arrival | LeftAlone]:
    """Files of a source in order of their names; those that are not complete or not allowed say why."""
    root = settings.landing_path / source.name
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            shown = mask(str(path.relative_to(settings.landing_path)))
            yield _look(settings, source, path, shown, names)


def _look(settings: Settings, source: Source, path: Path, shown: str, siblings: list[str]) -> Arrival | LeftAlone:
    if path.name.startswith(".") or path.name.endswith(tuple(settings.landing.temporary_suffixes)):
        return LeftAlone(shown, "still being written", False)
    if source.complete == "marker" and path.name.endswith(MARKER):
        return LeftAlone(shown, "a marker", False)
    if path.is_symlink():
        return LeftAlone(shown, "a symbolic link: only files are taken", True)
    try:
        stat = path.stat()
    except OSError as error:
        return LeftAlone(shown, error.strerror or "unreadable", True)
    if not path.is_file():
        return LeftAlone(shown, "not a file", True)
    if not os.access(path, os.R_OK):
        return LeftAlone(shown, "no permission to read it", True)
    if source.complete == "marker" and path.name + MARKER not in siblings:
        return LeftAlone(shown, f"waits for its {MARKER} marker", False)
    if source.complete == "stable" and time.time() - max(stat.st_mtime, stat.st_ctime) < settings.landing.stable_seconds:
        return LeftAlone(shown, f"changed less than {settings.landing.stable_seconds:g} s ago", False)
    name = str(path.relative_to(settings.landing_path))
    return Arrival(source.name, path, name, stat.st_size, stat.st_mtime_ns)


def strangers(settings: Settings) -> list[LeftAlone]:
    """What lies in the landing folder and belongs to no source."""
    known = {source.name for source in settings.sources}
    if not settings.landing_path.is_dir():
        return []
    found = (entry for entry in sorted(os.listdir(settings.landing_path)) if not entry.startswith("."))
    return [LeftAlone(mask(entry), "no source of that name is in the settings", True) for entry in found if entry not in known]


def open_plain(path: Path, form: str) -> BinaryIO:
    """The file's decompressed bytes, as a stream."""
    if form == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if form == "zstd":
        return cast(BinaryIO, zstandard.open(path, "rb"))
    return path.open("rb")


def remove(settings: Settings, path: Path, complete: str) -> None:
    """Take a committed file out of landing, with its marker."""
    path.unlink(missing_ok=True)
    if complete == "marker":
        path.with_name(path.name + MARKER).unlink(missing_ok=True)
