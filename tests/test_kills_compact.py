"""Promise 2 for a compaction: killed at any moment and run again, all is as before, in fewer files."""

import random
import re
import shutil
import signal
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from callward import database
from callward.feeds import generate
from schemas.views import PARTS, VIEW_PARTS
from tests.commands import Ended, all_that_is, killed_after, run, strays
from tests.conftest import MORNING

DAY = date(2026, 3, 5)
SOURCES = ("asterisk", "opensips")
# In an order in which every one is reached: what was merged before a kill is not merged again.
POINTS = (
    "view-written",
    "compact-begun",
    "orphan-removed",
    "compact-ready",
    "compact-committed",
    "archive-written",
    "compact-committed",
    "suspense-written",
    "commit-begun",
    "commit-half",
    "commit-ready",
    "compact-ready",
    "superseded-removed",
    "superseded-removed:5",
)


@pytest.fixture(scope="module")
def before(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace with many small files of both views, the archive and the suspense."""
    folder = tmp_path_factory.mktemp("feeds")
    generate(folder, seed=21, day=DAY, calls=90, dirt=0.15, sources=SOURCES)
    lake = {"compact_files": 100_000, "grace_minutes": 0.0}
    site = workspace(*SOURCES, waves={"records": 15, "block_mebibytes": 0.004}, lake=lake)
    site.deliver(sorted(path for path in folder.rglob("*") if path.is_file()))
    site.night(MORNING)
    site.set(lake={"compact_files": 3})
    for view in ("billing", *PARTS["assurance"], "archive", "suspense"):
        assert len(site.data_files(view)) >= 3, view
    database.engine(site.settings).dispose()
    return site


@pytest.fixture
def copied(before: Any, tmp_path: Path) -> Any:
    shutil.copytree(before.folder, tmp_path / "workspace")
    return type(before)(tmp_path / "workspace")


@pytest.fixture(scope="module")
def expected(before: Any) -> dict[str, Any]:
    return all_that_is(before)


def _run(site: Any, crash_at: str = "") -> Ended:
    arguments = ("compact", "--json", "--config", str(site.folder))
    return run(*arguments, environment={"CALLWARD_CRASH_AT": crash_at}).check_clean()


def _finish(site: Any, expected: dict[str, Any]) -> None:
    """Run it to its end, and a night that finds the same; both clear up what the killed ones left."""
    assert _run(site).code == 0
    assert _run(site).document["merged"] == []
    site.night(MORNING)
    assert strays(site) == []
    assert site.unbalanced() == {} and site.differing() == 0
    found = all_that_is(site)
    for what in expected:
        assert found[what] == expected[what], f"{what} is not what it was"
    for view in (*VIEW_PARTS, "archive", "suspense"):
        assert len(site.data_files(view)) <= 3, view


def test_every_named_point_of_a_compaction_is_killed_at() -> None:
    """One that is added to it must be added above; that of folding entries is a stream's."""
    text = Path(__file__).parent.parent.joinpath("pipelines", "compact.py").read_text(encoding="utf-8")
    named = set(re.findall(r'\bpoint\("([a-z-]+)"\)', text)) - {"compact-folded"}
    assert named <= {point.partition(":")[0] for point in POINTS}


def test_a_compaction_killed_at_every_named_point_changes_nothing(copied: Any, expected: dict[str, Any]) -> None:
    for where in POINTS:
        ended = _run(copied, where)
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: exit code {ended.code}, {ended.err[-300:]}"
        assert all_that_is(copied) == expected
        assert copied.differing() == 0
    _finish(copied, expected)


def test_a_compaction_killed_at_random_moments_changes_nothing(copied: Any, expected: dict[str, Any]) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(4):
        killed_after(chance.uniform(0.1, 1.5), "compact", "--config", str(copied.folder)).check_clean()
        assert all_that_is(copied) == expected
    _finish(copied, expected)
