"""A process that never outlives the one it serves: `python child_process.py PARENT PROGRAM ARGUMENT ...`.

Run as a program (by its path, so that nothing else is imported) it asks the kernel to kill it when PARENT dies, and
becomes PROGRAM. Linux keeps that wish across exec; where there is none, PROGRAM just runs.
"""

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` until this process ends.

    The kernel minds the thread that starts it: start it from one that lives as long as the process.
    """
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command]


def follow_parent() -> None:
    """End this process as soon as its parent has ended.

    It watches the parent's process and not, as `die_with_parent` does, the thread that forked: a Java parent starts
    workers from threads that come and go.
    """
    parent = os.getppid()
    try:
        handle = os.pidfd_open(parent)
    except (AttributeError, OSError):
        handle = -1  # no such call here, or the parent is gone
    if os.getppid() != parent:
        os._exit(0)
    if handle >= 0:
        threading.Thread(target=_end_with, args=(handle,), name="parent", daemon=True).start()


def _end_with(handle: int) -> None:
    select.select([handle], [], [])  # readable once the process has ended
    os.kill(os.getpid(), signal.SIGKILL)


def _become(parent: int, command: Sequence[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before it could be minded
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
