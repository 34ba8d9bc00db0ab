"""Files of a folder that others may write into, opened such that no link on the way below it is followed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a pipe does not make it wait


class NotRegular(OSError):
    """What lies there is no regular file."""


@contextmanager
def folder_beneath(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the folder that `name`, a path below `root`, lies in, and the last part of `name`.

    Raises OSError where a folder is missing or is a link; `root` itself may be one.
    """
    *folders, last = Path(name).parts
    handle = os.open(root, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle, last
    finally:
        os.close(handle)


def open_beneath(root: Path, name: str) -> BinaryIO:
    """Open the regular file `name` below `root` to be read. Raises OSError: NotRegular for anything but a file."""
    with folder_beneath(root, name) as (folder, last):
        handle = os.open(last, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegular("not a regular file")
    return open(handle, "rb")
