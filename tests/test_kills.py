"""Promise 2: a night may be killed at any moment and run again; the result equals one clean run."""

import gzip
import random
import re
import signal
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from callward.feeds import asterisk_files, generate
from schemas.views import ID_COLUMN, UNCHARGED, VIEW_PARTS
from tests.commands import all_that_is, killed_after, run, strays, waiting
from tests.conftest import AS_INSTALLED
from tests.shared_keys import init_with_keys_of, like

SOURCES = ("asterisk", "opensips", "cucm", "packed")
# Small waves and blocks: the night has several waves, and files that are larger than one.
DAY = date(2026, 3, 5)
WAVES = {"records": 160, "bucket_records": 100, "block_mebibytes": 0.02}

# Each point, how often it is passed before the kill, in an order in which every one is reached: those at the
# beginning of a restart, then those that end a wave, then those of the night's end.
POINTS = (
    "before-register",
    "registered",
    "archive-written",
    "orphan-removed",
    "suspense-written",
    "pending-written",
    "view-written",
    "view-written:3",
    "commit-begun",
    "commit-half",
    "commit-ready",
    "committed",
    "before-remove",
    "landing-removed",
    "removed",
    "commit-ready:2",
    "before-pending",
    "pending-tidied",
    "superseded-removed",
)


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night's files: calls in whole records, in pieces and with quality records; dirt; packed files; a large one."""
    folder = tmp_path_factory.mktemp("feeds")
    generate(folder, seed=11, day=DAY, calls=300, dirt=0.02, sources=SOURCES[:3])
    for lost in sorted((folder / "opensips").glob("*bye*"))[:3]:  # the calls that they close are pending
        lost.unlink()
    (large,) = asterisk_files(
        folder / "asterisk", seed=12, rows=240, files=1, day=DAY, accounts=200, zone="America/Denver"
    )
    large.rename(large.with_name("large.csv"))
    (other,) = asterisk_files(folder / "packed", seed=13, rows=180, files=1, day=DAY, accounts=200)
    other.with_name("other.csv.gz").write_bytes(gzip.compress(other.read_bytes(), mtime=0))
    other.unlink()
    return folder


@pytest.fixture(scope="module")
def landed(feeds: Path, workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Callable[[], Any]:
    """A fresh workspace with the night's files in its landing folder; all of them have the same keys."""

    def make() -> Any:
        packed = feed_source("packed", format="asterisk", zone="UTC")
        named = [feed_source(name, complete="marker" if name == "cucm" else "rename") for name in SOURCES[:3]]
        site = workspace(*named, packed, waves=WAVES, engine=AS_INSTALLED)
        site.deliver(sorted(path for path in feeds.rglob("*") if path.is_file()))
        for path in list((site.settings.landing_path / "cucm").iterdir()):
            path.with_name(path.name + ".done").touch()
        return site

    return make


@pytest.fixture(scope="module")
def undisturbed(landed: Callable[[], Any]) -> Any:
    """A workspace after one run that nobody disturbed."""
    site = landed()
    ended = run("nightly", "--json", "--config", str(site.folder)).check_clean()
    assert ended.code == 0, ended.err
    assert ended.document["waves"] >= 5
    return site


@pytest.fixture(scope="module")
def clean(undisturbed: Any) -> dict[str, Any]:
    """What that run left."""
    return _checked(undisturbed)


def _checked(site: Any) -> dict[str, Any]:
    assert strays(site) == []
    assert waiting(site) == []
    assert site.unbalanced() == {}
    assert site.differing() == 0
    return all_that_is(site)


def _equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for what in expected:
        assert found[what] == expected[what], f"{what} is not what one clean run leaves"


def _finish(site: Any) -> None:
    ended = run("nightly", "--json", "--config", str(site.folder)).check_clean()
    assert ended.code == 0, ended.err


def test_a_clean_night_has_something_of_everything(clean: dict[str, Any]) -> None:
    """Otherwise the comparisons below would prove little."""
    assert [what for what in clean if not clean[what]] == [UNCHARGED]
    assert {bucket for _, bucket, _ in clean["ledger"]} >= {
        "in",
        "accepted",
        "merged",
        "duplicate",
        "suspended",
        "filtered",
        "pending",
    }


_KILLED_ELSEWHERE = (
    "block-",  # pipelines/stream/test_inline.py
    "close-",  # pipelines/test_closing.py
    "elements-",  # test_two_elements.py
    "certificate-",  # test_kills_purge.py, test_kills_request.py
    "compact-",  # test_kills_compact.py
    "correction-",  # pipelines/corrections/test_backout.py, pipelines/test_reprocess.py
    "disposal-",  # test_kills_purge.py, test_kills_request.py
    "epoch-",  # callward/keys/test_rotation.py
    "flushed",  # pipelines/stream/test_inline.py
    "assign-",  # pipelines/test_accounts_night.py
    "directory-",  # pipelines/test_accounts.py
    "held-",  # test_kills_purge.py
    "index-",  # pipelines/test_reindex_faults.py
    "purge-",  # test_kills_purge.py
    "release-",  # test_kills_release.py
    "return-",  # test_kills_request.py
    "rows-restated",  # test_kills_purge.py
    "segment-",  # pipelines/stream/test_http_receiver.py
    "request-",  # test_kills_request.py
    "tenant-",  # test_kills_request.py
    "write-off-",  # pipelines/suspense/test_close.py
)


def test_every_named_point_is_killed_at() -> None:
    """A point that is added to a night must be added here; other commands' points have kill tests of their own."""
    root = Path(__file__).parent.parent
    texts = [
        p.read_text(encoding="utf-8")
        for top in ("callward", "transforms", "pipelines")
        for p in (root / top).rglob("*.py")
    ]
    named = {name for text in texts for name in re.findall(r'\bpoint\("([a-z-]+)"\)', text)} | {
        "suspense-written",
        "pending-written",
    }
    named = {name for name in named if not name.startswith(_KILLED_ELSEWHERE)}
    assert named == {point.partition(":")[0] for point in POINTS}


def test_a_night_killed_at_every_named_point_ends_as_one_clean_run(
    landed: Callable[[], Any], clean: dict[str, Any]
) -> None:
    site = landed()
    for where in POINTS:
        ended = run("nightly", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": where})
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: exit code {ended.code}, {ended.err[-300:]}"
        ended.check_clean()
    _finish(site)
    _equal(_checked(site), clean)


@pytest.mark.endurance
def test_a_night_killed_at_random_moments_ends_as_one_clean_run(
    landed: Callable[[], Any], clean: dict[str, Any]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, site = random.Random(seed), landed()
    for _ in range(5):
        killed_after(chance.uniform(0.3, 4), "nightly", "--config", str(site.folder)).check_clean()
    _finish(site)
    _equal(_checked(site), clean)


def test_the_same_files_again_change_nothing(feeds: Path, undisturbed: Any, clean: dict[str, Any]) -> None:
    """Under other names: every record is a duplicate (or merged into its call), and no row, sum or code differs."""
    undisturbed.deliver(sorted((feeds / "asterisk").iterdir()), prefix="again-")
    _finish(undisturbed)
    after = _checked(undisturbed)
    for what in (*VIEW_PARTS, "derived", "suspense", "pending"):
        assert after[what] == clean[what], f"{what} changed"
    again = {key: amounts for key, amounts in after["ledger"].items() if "/again-" in key[0]}
    assert {bucket for _, bucket, _ in again} <= {"in", "duplicate", "filtered"}


def test_a_workspace_with_the_keys_of_another_gives_the_same_ids(feeds: Path, undisturbed: Any, tmp_path: Path) -> None:
    """So two runs over the same files can be compared."""
    ours = type(undisturbed)(tmp_path / "ours")
    init_with_keys_of(undisturbed.settings, ours.folder, like(ours.folder, undisturbed.settings))
    (ours.folder / "callward.toml").write_text(undisturbed.settings.path.read_text())
    ours.deliver([feeds / "asterisk" / "large.csv"])
    _finish(ours)
    for part, name in ID_COLUMN.items():
        found = ours.view(part)[name].to_pylist()
        assert found or part == UNCHARGED
        assert set(found) <= set(undisturbed.view(part)[name].to_pylist())
