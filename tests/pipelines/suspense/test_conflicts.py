"""Another run commits to the same partition after a piece of work has read it, and before the work commits.

Once, the work ends as if the other had not been there; each time, it says so in one sentence and has changed nothing.
Streams are in tests/pipelines/stream/test_inline.py, merges, rebuilding and requests in the files of their own.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from callward import runs
from callward.errors import Problem
from callward.feeds import generate
from pipelines.pending import expire_pending
from pipelines.suspense.close import close
from pipelines.suspense.recycle import recycle
from pipelines.vacuum import remove_orphans, remove_superseded
from schemas.tables import lake_files
from tests.commands import strays
from tests.comparison import verify
from tests.conftest import HOUR_MS, MORNING
from tests.meanwhile import ALWAYS, comes_between, commit_another, without_pauses
from tests.retention import DAY, FEED, NUMBERS_KEPT, WINDOWS, call, copied, feed, night, purged
from transforms.combine import WAITING

SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"
MORE = feed(*(call(n, talk=90) for n in range(2)), *(call(n) for n in range(2, 9)), SPOILT.format(91))


@dataclass(frozen=True)
class Work:
    """A piece of work, the point that it passes between reading a partition and its commit, and its last sentence."""

    do: Callable[[Any], object]
    at: str
    part: str
    tries: str  # where it stands how often it is tried
    sentence: str = "other runs committed to the same days again and again; run it again"


TRIES = "callward.lake.conflicts.TRIES"
WORKS = {
    "night": Work(lambda site: night(site, MORE, name="b.csv"), "view-written", f"{DAY}", TRIES),
    "night-suspense": Work(lambda site: night(site, MORE, name="b.csv"), "suspense-written", "suspense", TRIES),
    "recycle": Work(lambda site: recycle(site.settings, [], []), "suspense-written", "suspense", TRIES),
    "close": Work(lambda site: close(site.settings, "torn", ["TIME"]), "suspense-written", "suspense", TRIES),
    "purge": Work(
        lambda site: purged(site, NUMBERS_KEPT + timedelta(1)),
        "purge-prepared",
        f"{DAY}",
        TRIES,
        "nights or holds changed what was planned again and again; nothing more was purged, run it again",
    ),
}
each_work = pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)


@pytest.fixture(scope="module")
def taken_in(workspace: Callable[..., Any]) -> Any:
    """A workspace with some calls and records in suspense. It is only copied."""
    windows = {**WINDOWS, "suspense": "2 years"}
    site = workspace("generic", retention=windows, thresholds={"file_errors_pct": 100.0})
    night(site, FEED + SPOILT.format(90).encode())
    return site


@pytest.fixture
def make(taken_in: Any, tmp_path: Path) -> Callable[[], Any]:
    """make() → a copy of that workspace."""
    numbers = itertools.count()
    return lambda: copied(taken_in, tmp_path / f"own-{next(numbers)}")


def state(site: Any) -> dict[str, Any]:
    """All that counts: rows, figures, entries, and which data files hold them."""
    views = {view: site.view(view).to_pylist() for view in ("billing", "assurance")}
    counting = sorted(row.file_id for row in site._rows(lake_files) if row.superseded_at is None)
    return {**views, "derived": site.derived(), "entries": site.entries(), "files": counting}


def check_whole(site: Any) -> None:
    """Nothing counts twice, and neither refused tries nor replaced files are left when the next run has looked."""
    remove_orphans(site.settings)
    remove_superseded(site.settings, "")
    assert (site.unbalanced(), site.differing(), strays(site)) == ({}, 0, [])


@each_work
def test_work_that_another_commit_came_before_is_done_again_and_once(
    work: Work, make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, site = make(), make()
    with monkeypatch.context() as patched:
        undisturbed = comes_between(patched, work.at, lambda: None, 0)
        work.do(alone)
    with monkeypatch.context() as patched:
        passed = comes_between(patched, work.at, lambda: commit_another(site, work.part))
        work.do(site)
    assert passed.count(work.at) == 2 * undisturbed.count(work.at) > 0, "it was tried again"
    assert verify(alone.settings, site.settings).equal
    assert site.entries() == alone.entries() and site.derived() == alone.derived()
    check_whole(site)


@pytest.mark.parametrize(
    "work",
    [pytest.param(work, marks=() if name == "night" else pytest.mark.endurance) for name, work in WORKS.items()],
    ids=WORKS,
)
def test_work_that_another_commit_always_comes_before_says_so_and_changes_nothing(
    work: Work, make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, site = make(), make()
    before = state(site)
    with monkeypatch.context() as patched:
        without_pauses(patched)
        patched.setattr(work.tries, 2)
        comes_between(patched, work.at, lambda: commit_another(site, work.part), ALWAYS)
        with pytest.raises(Problem) as said:
            work.do(site)
    assert str(said.value) == work.sentence
    assert state(site) == before
    for done in (alone, site):
        work.do(done)
    assert verify(alone.settings, site.settings).equal
    check_whole(site)


# -- the pending log, which waits for the next time ------------------------------------------------------------------


@pytest.fixture
def waiting(workspace: Callable[..., Any], tmp_path: Path) -> Any:
    """A workspace whose pending log has pieces of calls, in more than one file."""
    site = workspace("opensips")
    generate(tmp_path, seed=3, day=DAY, calls=40, dirt=0.0, sources=("opensips",))
    for lost in sorted((tmp_path / "opensips").glob("*bye*")):
        lost.unlink()
    site.deliver(sorted(path for path in tmp_path.rglob("*") if path.is_file()))
    site.night()
    assert site.pending().num_rows > 0
    return site


def tidied(site: Any, now_ms: int) -> int:
    """Tidy the pending log as of a moment; how many tries were refused."""
    with runs.running(site.settings, "nightly", ["source/opensips"]) as run_id:
        refused = expire_pending(site.settings, site.opened, run_id, now_ms)
        remove_orphans(site.settings, over={run_id})
        runs.finish(site.settings, run_id, "done")
    return refused


@pytest.mark.parametrize("times", [1, ALWAYS])
def test_a_pending_log_that_others_pair_from_is_tidied_once_or_the_next_time(
    times: int, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = waiting.pending()["state"].to_pylist().count(WAITING)
    before, later = state(waiting), MORNING + 1000 * HOUR_MS
    with monkeypatch.context() as patched:
        comes_between(patched, "pending-written", lambda: commit_another(waiting, "pending"), times)
        assert (tidied(waiting, later) == 1) == (times == 1)
    assert (state(waiting) == before) == (times == ALWAYS)
    tidied(waiting, later)
    assert {key: rows for key, (rows, _) in waiting.entries().items() if key[0] in ("pending", "suspended")} == {
        ("suspended", "PARTIAL"): pieces
    }
    check_whole(waiting)
