"""The one retry after a commit conflict: bounded, with a pause before each further try, and a sentence at the end."""

from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from callward.lake import conflicts
from callward.lake.conflicts import ConflictsPersist, pause_s, retry_on_conflict
from callward.lake.ledger import CommitConflict
from tests.meanwhile import without_pauses


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were asked for."""
    return without_pauses(monkeypatch)


def refused(times: int, error: type[Exception] = CommitConflict) -> tuple[Callable[[int], str], list[int]]:
    """Return work that meets a conflict the first `times` times, and the tries that it has been called for."""
    attempts: list[int] = []

    def work(attempt: int) -> str:
        attempts.append(attempt)
        if attempt <= times:
            raise error
        return f"committed at try {attempt}"

    return work, attempts


def test_work_without_a_conflict_is_done_once_and_waits_for_nothing(pauses: list[float]) -> None:
    work, attempts = refused(0)
    assert retry_on_conflict(work) == "committed at try 1"
    assert (attempts, pauses) == ([1], [])


def test_work_that_met_conflicts_is_tried_again_after_a_pause_each(pauses: list[float]) -> None:
    work, attempts = refused(3)
    assert retry_on_conflict(work) == "committed at try 4"
    assert attempts == [1, 2, 3, 4]
    assert len(pauses) == 3 and min(pauses) > 0


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_tries_are_bounded_and_the_caller_words_the_end(tries: int, pauses: list[float]) -> None:
    work, attempts = refused(1000)
    swept: list[int] = []
    with pytest.raises(ConflictsPersist) as problem:
        retry_on_conflict(
            work, sentence="nothing was merged", tries=tries, on_conflict=lambda: swept.append(len(swept))
        )
    assert isinstance(problem.value, Problem) and str(problem.value) == "nothing was merged"
    assert attempts == list(range(1, tries + 1))
    assert len(swept) == tries, "what a try left behind is removed after each, the last included"
    assert len(pauses) == tries - 1, "nobody waits for a try that does not come"


def test_without_a_bound_of_its_own_work_has_the_common_one(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflicts, "TRIES", 4)
    work, attempts = refused(1000)
    with pytest.raises(ConflictsPersist, match="again and again"):
        retry_on_conflict(work)
    assert len(attempts) == 4


def test_files_replaced_meanwhile_are_a_conflict_only_for_who_says_so(pauses: list[float]) -> None:
    work, attempts = refused(1, FileNotFoundError)
    assert retry_on_conflict(work, also=(FileNotFoundError,)) == "committed at try 2"
    work, attempts = refused(1, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        retry_on_conflict(work)
    assert attempts == [1]


def test_what_is_no_conflict_ends_the_work_at_once(pauses: list[float]) -> None:
    def work(attempt: int) -> NoReturn:
        raise Problem("no space left on the device")

    with pytest.raises(Problem, match="no space left"):
        retry_on_conflict(work, on_conflict=lambda: pytest.fail("there was no conflict"))
    assert pauses == []


@given(st.integers(1, 10_000))
def test_pauses_grow_up_to_a_bound_and_differ_between_runs(attempt: int) -> None:
    longest = min(conflicts.LONGEST_PAUSE_S, conflicts.FIRST_PAUSE_S * 2 ** (min(attempt, 60) - 1))
    seconds = {pause_s(attempt) for _ in range(20)}
    assert longest / 2 <= min(seconds) < max(seconds) <= longest
