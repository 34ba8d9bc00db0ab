"""Durable writes: a file or a name that is there after a power cut, whole or not at all."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

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


def view_of(data: Bytes) -> memoryview:
    """Return the bytes of a buffer, without a copy."""
    return memoryview(data).cast("B")


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, to last through a power cut too."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


@contextmanager
def replacing(path: str | Path, mode: int = 0o640, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Yield a file that takes the name `path` at once and whole, on disk, when the block ends without an error.

    Until then it has a hidden temporary name in the same folder, which is made when it is missing; after an error
    no file is left. Without `lasting` it is still whole or absent to who reads it, and a power cut may lose it.
    """
    path = Path(path)
    _make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    with _new(draft, mode, lasting=lasting) as file:
        yield file
    try:
        promote(draft, path, lasting=lasting)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def promote(draft: Path, path: Path, *, lasting: bool = True) -> None:
    """Give a file that is whole the name of another in its folder, which it takes the place of."""
    os.replace(draft, path)
    if lasting:
        sync_folder(path.absolute().parent)


def create(path: str | Path, data: Bytes, mode: int = 0o600) -> Path:
    """Write a new file, which its owner alone may read unless `mode` says more, on disk when this returns.

    Raises FileExistsError rather than touch one that is there.
    """
    path = Path(path)
    with _new(path, mode) as file:
        file.write(view_of(data))
    sync_folder(path.absolute().parent)
    return path


@contextmanager
def _new(path: Path, mode: int, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file; its bytes are on disk when the block ends. After an error it is not there."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def create_folder(folder: Path, files: Mapping[str, Bytes], mode: int = 0o666) -> None:
    """Write a new folder of files, on disk when this returns; it has its name only when it is whole.

    Until then it is called `folder`.tmp; one that was left by a killed run is replaced. Raises OSError where `folder`
    is there and not empty.
    """
    _make_folder(folder.parent)
    draft = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, data in files.items():
        create(draft / name, data, mode)
    draft.rename(folder)
    sync_folder(folder.parent)


def overwrite(path: Path) -> None:
    """Put random bytes over those of a file, where they lie. It stays as long as it was."""
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, os.urandom(os.fstat(handle).st_size))
        os.fsync(handle)
    finally:
        os.close(handle)


def write_sealed(path: str | Path, data: Bytes, filesystem: pafs.FileSystem | None = None) -> None:
    """Write bytes that are sealed already as one file, whole or not at all.

    On the local file system by `replacing`; elsewhere (an object store) in one upload, which shows when it is complete.
    """
    if filesystem is None or isinstance(filesystem, pafs.LocalFileSystem):
        with replacing(path) as file:
            file.write(view_of(data))
    else:
        with filesystem.open_output_stream(str(path)) as file:
            file.write(data)
