"""Another commit in between: what another run does after a piece of work has read, and before it commits.

A failpoint that a work passes between the two is where the other comes, in the same thread: the order
of both is the same each time, and no test waits for the right moment.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from callward import database, failpoints
from callward.lake import ledger

ALWAYS = 10_000


def comes_between(monkeypatch: pytest.MonkeyPatch, at: str, other: Callable[[], object], times: int = 1) -> list[str]:
    """Call `other` when the point `at` is passed, the first `times` times; returns every point passed since, also those
    that it did not come at. What `other` itself passes is not counted."""
    passed: list[str] = []
    left, at_work = times, False

    def point(name: str) -> None:
        nonlocal left, at_work
        if at_work:
            return
        passed.append(name)
        if name == at and left:
            left, at_work = left - 1, True
            try:
                other()
            finally:
                at_work = False

    for module in [module for module in sys.modules.values() if vars(module).get("point") is failpoints.point]:
        monkeypatch.setattr(module, "point", point)
    return passed


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Wait a millisecond wherever more is asked for; returns the seconds that were asked for."""
    asked, sleep = [], time.sleep

    def brief(seconds: float) -> None:
        asked.append(seconds)
        sleep(min(seconds, 0.001))

    monkeypatch.setattr(time, "sleep", brief)
    return asked


def commit_another(site: Any, part: str) -> None:
    """Let a partition of the default tenant be another than anyone has read: what each commit to it does."""
    with database.writing(site.settings) as connection:
        ledger.raise_versions(connection, [("default", part)])
