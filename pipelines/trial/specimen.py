"""Specimens: files that are tried where they lie, in a workspace or anywhere else."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from callward.ingest.contents import FileUnreadable, head_of, require_packed
from callward.ingest.landing import MARKER, decompressed, form_of
from callward.ingest.segments import is_segment
from callward.parsing.text import TextForm, rewritten
from callward.redaction import mask
from schemas.declaration import Declaration

_HIDDEN: Final = "."


@dataclass(frozen=True)
class Specimen:
    """A file to try; `name` is as people see it, masked."""

    path: Path
    name: str
    modified_s: float  # since 1970

    @property
    def form(self) -> str:
        """Return plain, gzip, zstd or sealed, by the file's name."""
        return form_of(self.path)

    @property
    def is_plain(self) -> bool:
        return self.form == "plain"

    def unpacked(self) -> BinaryIO:
        """Open the file's bytes, unpacked. Raises OSError."""
        return decompressed(open(self.path, "rb"), self.form)

    def text(self, form: TextForm) -> BinaryIO:
        """Open the file's text as it is read. Raises OSError."""
        return rewritten(self.unpacked(), form) if form else self.unpacked()

    def head(self, declaration: Declaration) -> tuple[bytes, TextForm]:
        """Return the first bytes of its text, and how that is written. Raises FileUnreadable and OSError."""
        if self.form == "sealed":
            raise FileUnreadable("it was sealed by the receiver: a night opens it")
        with open(self.path, "rb") as file:
            require_packed(file, self.form)
        return head_of(self.unpacked, declaration)


@dataclass(frozen=True)
class Unread:
    """A file that was not read, and why."""

    file: str  # masked
    why: str


def specimens(path: Path, temporary: tuple[str, ...]) -> Iterator[Specimen | Unread]:
    """Yield a file, or every file of a folder in order of their names; those that cannot be read say why.

    `temporary`: ends of the names of files that are still being written: those, hidden ones and markers are left out.
    """
    if path.is_dir():
        closed: list[OSError] = []
        for folder, folders, names in os.walk(path, onerror=closed.append):
            folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
            for name in sorted(names):
                marks = name.endswith(MARKER) and name.removesuffix(MARKER) in names
                if not marks and not name.startswith(_HIDDEN) and not name.endswith(temporary):
                    yield _specimen(Path(folder, name), str(Path(folder, name).relative_to(path)))
        for error in closed:
            yield Unread(_shown(os.path.relpath(error.filename, path)), _reason(error))
    else:
        yield _specimen(path, path.name)


def _specimen(path: Path, name: str) -> Specimen | Unread:
    shown = _shown(name)
    try:
        found = path.stat()
    except OSError as error:
        return Unread(shown, _reason(error))
    if not stat.S_ISREG(found.st_mode):
        return Unread(shown, "it is no file")
    if not found.st_size:
        return Unread(shown, "it is empty")
    if is_segment(path.name):
        return Unread(shown, "it was sealed by the receiver: a night opens it")
    return Specimen(path, shown, found.st_mtime)


def _shown(name: str) -> str:
    """Return a name as it may be printed: bytes that are no UTF-8 escaped, numbers masked."""
    return mask(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _reason(error: OSError) -> str:
    return (error.strerror or "unreadable").lower()
