"""Durable writes: a file or a name that is there after a power cut, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import pyarrow as pa
import pyarrow.fs as pafs


def sync_folder(folder: str | Path) -> None:
    """Make a new, renamed or removed name in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


Bytes: TypeAlias = bytes | bytearray | memoryview | pa.Buffer


def _bytes(data: Bytes) -> memoryview:
    return memoryview(data).cast("B")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, to last through a power cut too."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` at once and whole, on disk, when the block ends without an error.

    Until then it has a hidden temporary name in the same folder, which is made when it is missing; after an error
    no file is left.
    """
    path = Path(path)
    _make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(draft, path)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
    sync_folder(path.parent)


def write_sealed(path: str | Path, data: Bytes, filesystem: pafs.FileSystem | None = None) -> None:
    """Write bytes that are sealed already as one file, whole or not at all.

    On the local file system by `replacing`; elsewhere (an object store) in one upload, which shows when it is complete.
    """
    if filesystem is None or isinstance(filesystem, pafs.LocalFileSystem):
        with replacing(path) as file:
            file.write(_bytes(data))
    else:
        with filesystem.open_output_stream(str(path)) as file:
            file.write(data)


def write_private(path: Path, text: str) -> Path:
    """A new file that its owner alone may read, on disk when this returns."""
    with _private(path) as file:
        file.write(text)
    sync_folder(path.absolute().parent)
    return path


class _private:
    """A new text file of mode 0600."""

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "w", encoding="utf-8", newline="")

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
