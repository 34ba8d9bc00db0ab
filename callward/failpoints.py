"""Named points at which a test may kill a run: each is a place where a crash must change nothing.

`CALLWARD_CRASH_AT=name` or `name:3` (the third time it is passed) ends the process there as SIGKILL would.
"""

import os
import signal
from collections import Counter

_PASSED: Counter[str] = Counter()


def point(name: str) -> None:
    """Die here when asked to; otherwise nothing."""
    wanted = os.environ.get("CALLWARD_CRASH_AT")
    if not wanted:
        return
    _PASSED[name] += 1
    where, _, time = wanted.partition(":")
    if where == name and _PASSED[name] == int(time or 1):
        os.kill(os.getpid(), signal.SIGKILL)
