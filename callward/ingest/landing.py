"""The landing folder: which files are complete, how they are packed, and what is left alone and why.

A file's name may hold a subscriber's number (Asterisk writes <accountcode>.csv), so names are shown masked; in the
database they lie sealed.
"""

import errno
import gzip
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, cast

import pyarrow as pa

from callward.failpoints import point
from callward.ingest.segments import is_segment
from callward.redaction import mask
from callward.settings import Settings, Source
from callward.storage.beneath import NotRegular, folder_beneath, open_beneath

MARKER = ".done"
FILE_ID: Final = 10  # letters of a file's id that people see, of the 32 that the ledger knows it by
PACKED: Final = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}  # what a packed file of a form begins with
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)  # gone, or a link or socket in its place
_HARD_LINK = "another name leads to the same file (a hard link), so it can be changed from elsewhere: land a copy"


class FileChanged(Exception):
    """A landing file changed or vanished after it was looked at."""


@dataclass(frozen=True)
class Arrival:
    """A complete file: its source, its name below the landing folder, and how it looked when it was listed."""

    source: str
    landing: Path
    name: str
    size: int
    modified_ns: int
    inode: int | None = None  # None where it is known from the ledger alone

    @property
    def path(self) -> Path:
        return self.landing / self.name

    @property
    def form(self) -> str:
        """Return how it is packed, by its name."""
        return form_of(self.path)

    def is_same(self, found: os.stat_result) -> bool:
        """Return whether this is the file that was listed: with no other name, and not changed since."""
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or self.inode not in (None, found.st_ino):
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.modified_ns)


@dataclass(frozen=True)
class LeftAlone:
    """A file that is not taken, and why; `wrong` when a person must look."""

    name: str  # masked
    reason: str
    wrong: bool
    file_id: str = ""

    @property
    def shown(self) -> str:
        return shown_file(self.name, self.file_id)


def form_of(path: Path) -> str:
    """Return plain, gzip, zstd or sealed (callward/ingest/segments.py), by a file's name."""
    return {".gz": "gzip", ".zst": "zstd", ".seal": "sealed"}.get(path.suffix.lower(), "plain")


def shown_file(name: str, file_id: str) -> str:
    """Return a masked name as people see it, with the id by which the file is found again, where that is known."""
    return f"{name} ({file_id})" if file_id else name


def no_id(name: str) -> str:
    """Return no id, where the key of ids is not open."""
    return ""


def arrivals(settings: Settings, source: Source, id_of: Callable[[str], str] = no_id) -> Iterator[Arrival | LeftAlone]:
    """Yield files of a source in order of their names; those that are not complete or not allowed say why.

    `id_of` gives the short id of a name below the landing folder, for those that are left alone.
    """
    root = settings.landing_path / source.name
    if root.is_symlink():
        yield LeftAlone(source.name, "a symbolic link: mount the folder there, links are not followed", True)
        return
    closed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=closed.append):
        folders.sort()
        linked = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(folder, name)
            found = _look(settings, source, path, names)
            name = _printable(str(path.relative_to(settings.landing_path)))
            yield found if isinstance(found, Arrival) else replace(found, name=mask(name), file_id=id_of(name))
    for error in closed:  # what lies in there may never be read, and a night over it must not be quiet
        name = _printable(str(Path(error.filename).relative_to(settings.landing_path)))
        yield LeftAlone(mask(name), error.strerror or "unreadable", True, id_of(name))


def every_name(settings: Settings) -> Iterator[str]:
    """Yield the name below the landing folder of everything that lies there, in the clear."""
    for folder, folders, names in os.walk(settings.landing_path):
        below = Path(folder).relative_to(settings.landing_path)
        yield from (_printable(str(below / name)) for name in [*folders, *names])


def _printable(name: str) -> str:
    """Return a name whose bytes are not UTF-8 with those bytes escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _look(settings: Settings, source: Source, path: Path, siblings: list[str]) -> Arrival | LeftAlone:
    """Return the file at a path, or why it is left alone, without its name."""
    if path.name.startswith(".") or path.name.endswith(tuple(settings.landing.temporary_suffixes)):
        return LeftAlone("", "still being written", False)
    if source.complete == "marker" and path.name.endswith(MARKER):
        return LeftAlone("", "a marker", False)
    if path.is_symlink():
        return LeftAlone("", "a symbolic link: only files are taken", True)
    if _printable(str(path)) != str(path):
        return LeftAlone("", "its name is not UTF-8", True)
    try:
        found = path.lstat()
    except OSError as error:
        return LeftAlone("", error.strerror or "unreadable", True)
    if not stat.S_ISREG(found.st_mode):
        return LeftAlone("", "not a file", True)
    if found.st_nlink > 1:
        return LeftAlone("", _HARD_LINK, True)
    if not os.access(path, os.R_OK):
        return LeftAlone("", "no permission to read it", True)
    complete = "rename" if is_segment(path.name) else source.complete
    if complete == "marker" and path.name + MARKER not in siblings:
        return LeftAlone("", f"waits for its {MARKER} marker", False)
    if complete == "stable" and time.time() - max(found.st_mtime, found.st_ctime) < settings.landing.stable_seconds:
        return LeftAlone("", f"changed less than {settings.landing.stable_seconds:g} s ago", False)
    name = str(path.relative_to(settings.landing_path))
    return Arrival(source.name, settings.landing_path, name, found.st_size, found.st_mtime_ns, found.st_ino)


def strangers(settings: Settings, id_of: Callable[[str], str] = no_id) -> list[LeftAlone]:
    """Return what lies in the landing folder and belongs to no source."""
    known = {source.name for source in settings.sources}
    if not settings.landing_path.is_dir():
        return []
    entries = (entry for entry in sorted(os.listdir(settings.landing_path)) if not entry.startswith("."))
    return [
        LeftAlone(mask(entry), "no source of that name is in the settings", True, id_of(entry))
        for entry in map(_printable, entries)
        if entry not in known
    ]


def open_landed(arrival: Arrival) -> BinaryIO:
    """Open the very file that was listed. Raises FileChanged where it is another one now or is gone, and OSError."""
    try:
        file = open_beneath(arrival.landing, arrival.name)
    except NotRegular:
        raise FileChanged from None
    except OSError as error:
        if error.errno in _REPLACED:
            raise FileChanged from None
        raise
    if not arrival.is_same(os.fstat(file.fileno())):
        file.close()
        raise FileChanged
    return file


def read_range(arrival: Arrival, first: int, last: int) -> bytes:
    """Return bytes [first, last) of a landing file. Raises FileChanged when it is not as it was listed till the end."""
    with open_landed(arrival) as file:
        file.seek(first)
        data = file.read(last - first)
        if not arrival.is_same(os.fstat(file.fileno())) or len(data) != last - first:
            raise FileChanged
    return data


def decompressed(file: BinaryIO, form: str) -> BinaryIO:
    """Return the decompressed bytes of a file that is not sealed, as a stream, which closes the file as well."""
    if form == "gzip":
        return cast(BinaryIO, _Gzip(file))
    if form == "zstd":
        # Not the zstandard library's reader: it takes a frame that is cut short for one that ended.
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"), 1 << 16))
    return file


class _Gzip(gzip.GzipFile):
    """One that closes the file that it reads."""

    def __init__(self, file: BinaryIO) -> None:
        self._beneath = file
        super().__init__(fileobj=file, mode="rb")

    def close(self) -> None:
        super().close()
        self._beneath.close()


def unchanged(arrival: Arrival) -> bool:
    """Return whether a file is still as it was when it was listed; True too when it is gone."""
    try:
        with folder_beneath(arrival.landing, arrival.name) as (folder, name):
            return arrival.is_same(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return True
    except OSError:
        return False


def remove(arrival: Arrival, complete: str) -> bool:
    """Take a committed file out of landing, with its marker; False when it has changed since, and it stays."""
    try:
        with folder_beneath(arrival.landing, arrival.name) as (folder, name):
            return _remove(arrival, folder, name, complete)
    except FileNotFoundError:  # with its folder
        return True
    except OSError as error:
        if error.errno in _REPLACED:
            return False
        raise


def _remove(arrival: Arrival, folder: int, name: str, complete: str) -> bool:
    """Remove a file and its marker from an open folder, so that nothing that takes the folder's place is touched."""
    with suppress(FileNotFoundError):
        if not arrival.is_same(os.stat(name, dir_fd=folder, follow_symlinks=False)):
            return False
        os.unlink(name, dir_fd=folder)
    point("landing-removed")
    if complete == "marker":
        with suppress(FileNotFoundError):
            os.unlink(name + MARKER, dir_fd=folder)
    return True
