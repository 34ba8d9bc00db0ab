"""The landing folder: which files are complete, how they are packed, and what is left alone and why.

A file's name may hold a subscriber's number (Asterisk writes <accountcode>.csv), so names are shown masked; in the
database they lie sealed.
"""

import gzip
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from callward.failpoints import point
from callward.ingest.segments import is_segment
from callward.redaction import mask
from callward.settings import Settings, Source

MARKER = ".done"


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
        """Return plain, gzip, zstd or sealed (callward/ingest/segments.py), by the file's name."""
        return {".gz": "gzip", ".zst": "zstd", ".seal": "sealed"}.get(self.path.suffix.lower(), "plain")


@dataclass(frozen=True)
class LeftAlone:
    """A file that is not taken, and why; `wrong` when a person must look."""

    name: str
    reason: str
    wrong: bool


def arrivals(settings: Settings, source: Source) -> Iterator[Arrival | LeftAlone]:
    """Yield files of a source in order of their names; those that are not complete or not allowed say why."""
    root = settings.landing_path / source.name
    for folder, folders, names in os.walk(root):
        folders.sort()
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(folder, name)
            shown = mask(_printable(str(path.relative_to(settings.landing_path))))
            yield _look(settings, source, path, shown, names)


def _printable(name: str) -> str:
    """Return a name whose bytes are not UTF-8 with those bytes escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _look(settings: Settings, source: Source, path: Path, shown: str, siblings: list[str]) -> Arrival | LeftAlone:
    if path.name.startswith(".") or path.name.endswith(tuple(settings.landing.temporary_suffixes)):
        return LeftAlone(shown, "still being written", False)
    if source.complete == "marker" and path.name.endswith(MARKER):
        return LeftAlone(shown, "a marker", False)
    if path.is_symlink():
        return LeftAlone(shown, "a symbolic link: only files are taken", True)
    if _printable(str(path)) != str(path):
        return LeftAlone(shown, "its name is not UTF-8", True)
    try:
        stat = path.stat()
    except OSError as error:
        return LeftAlone(shown, error.strerror or "unreadable", True)
    if not path.is_file():
        return LeftAlone(shown, "not a file", True)
    if not os.access(path, os.R_OK):
        return LeftAlone(shown, "no permission to read it", True)
    complete = "rename" if is_segment(path.name) else source.complete
    if complete == "marker" and path.name + MARKER not in siblings:
        return LeftAlone(shown, f"waits for its {MARKER} marker", False)
    if complete == "stable" and time.time() - max(stat.st_mtime, stat.st_ctime) < settings.landing.stable_seconds:
        return LeftAlone(shown, f"changed less than {settings.landing.stable_seconds:g} s ago", False)
    name = str(path.relative_to(settings.landing_path))
    return Arrival(source.name, path, name, stat.st_size, stat.st_mtime_ns)


def strangers(settings: Settings) -> list[LeftAlone]:
    """Return what lies in the landing folder and belongs to no source."""
    known = {source.name for source in settings.sources}
    if not settings.landing_path.is_dir():
        return []
    entries = (entry for entry in sorted(os.listdir(settings.landing_path)) if not entry.startswith("."))
    return [
        LeftAlone(mask(_printable(entry)), "no source of that name is in the settings", True)
        for entry in entries
        if entry not in known
    ]


def open_plain(path: Path, form: str) -> BinaryIO:
    """Return the decompressed bytes of a file that is not sealed, as a stream."""
    if form == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if form == "zstd":
        # Not the zstandard library's reader: it takes a frame that is cut short for one that ended.
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd"), 1 << 16))
    return path.open("rb")


def unchanged(arrival: Arrival) -> bool:
    """Return whether a file is still as it was when it was listed; True too when it is gone."""
    try:
        stat = arrival.path.lstat()
    except FileNotFoundError:
        return True
    return (stat.st_size, stat.st_mtime_ns) == (arrival.size, arrival.modified_ns)


def remove(arrival: Arrival, complete: str) -> bool:
    """Take a committed file out of landing, with its marker; False when it has changed since, and it stays."""
    if not unchanged(arrival):
        return False
    arrival.path.unlink(missing_ok=True)
    point("landing-removed")
    if complete == "marker":
        arrival.path.with_name(arrival.path.name + MARKER).unlink(missing_ok=True)
    return True
