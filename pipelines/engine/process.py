"""How this process uses memory and threads: set before the large libraries are imported, for they look once."""

import contextlib
import ctypes
import gc
import os

from callward import core_dumps

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # malloc.h
_FEW = 200_000  # new objects between two collections; importing makes many and no garbage: the default took 0.4 s


def prepare() -> None:
    """Let the process keep freed memory for the next batch instead of giving each large array back to the kernel.

    Columns of many MiB come and go with every batch, and fetching their pages anew took a third of the processor time.
    Arrow's own pool always gives large ones back, so glibc's is used for both Arrow and NumPy. A crash writes no memory
    to a disk. Safe to call again.
    """
    core_dumps.forbid()
    gc.set_threshold(_FEW, 20, 20)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here is linear algebra
    with contextlib.suppress(OSError, AttributeError):  # another C library: then it stays as it is
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in (
            (_MMAP_THRESHOLD, 1 << 30),
            (_TRIM_THRESHOLD, (1 << 31) - 1),
            (_TOP_PAD, 1 << 28),
            (_ARENA_MAX, 1),
        ):
            mallopt(parameter, value)
