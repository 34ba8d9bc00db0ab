"""The one retry after a commit conflict: another run changed a partition between our reading it and our commit.

Tries are bounded, and before each further one there is a pause: twice as long each time, and not the same for two runs
that met, so that they do not meet again.
"""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from callward.errors import Problem
from callward.lake.ledger import CommitConflict

TRIES: Final = 12
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
AGAIN_AND_AGAIN: Final = "other runs committed to the same days again and again; run it again"

Result = TypeVar("Result")


class ConflictsPersist(Problem):
    """Every try met a conflict; nothing of the work was committed."""


def retry_on_conflict(
    work: Callable[[int], Result],
    *,
    sentence: str = AGAIN_AND_AGAIN,
    tries: int | None = None,
    also: tuple[type[Exception], ...] = (),
    on_conflict: Callable[[], object] = lambda: None,
) -> Result:
    """Return what `work` returns, called with the number of the try (from 1) until one meets no conflict.

    A conflict is a CommitConflict or, for work that reads files which others may replace, an exception of `also`
    (FileNotFoundError). `on_conflict` is called after each try that met one, the last included, and before the pause:
    it removes what the try left behind. Any other exception of the work is raised as it is. Raises ConflictsPersist
    with `sentence` after `tries` (TRIES) tries.
    """
    most = TRIES if tries is None else tries
    conflicts: tuple[type[Exception], ...] = (CommitConflict, *also)
    for attempt in range(1, most + 1):
        try:
            return work(attempt)
        except conflicts:
            on_conflict()
        if attempt < most:
            time.sleep(pause_s(attempt))
    raise ConflictsPersist(sentence)


def pause_s(attempt: int) -> float:
    """Return the seconds to wait after a try that met a conflict: between half and all of a bound that doubles."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 60))
    return random.uniform(longest / 2, longest)
