"""Promise 2 for a purge: killed at any moment and run again, it ends as one that nobody disturbed."""

import random
import re
import resource
import signal
import sqlite3
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from callward import audit, database
from callward.evidence import certificates
from callward.lake.data_files import DataFiles
from callward.storage.store import Store
from schemas.retention import disposals, frozen_derived, row_ends
from schemas.tables import keys, lake_files
from schemas.views import HOLDS_SUFFIX
from tests import retention
from tests.commands import Ended, killed_after, run
from tests.retention import DAY, OTHER, WINDOWS, call, feed, hold, night

SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"
AS_OF = date(2026, 9, 2)  # everything of March is past every window but that of the billing rows of later dates
# In the order in which a purge passes them. Those of a switch of epochs are killed at in test_epochs.py as well.
POINTS = (
    "purge-approved",
    "rows-restated",
    "held-written",
    "purge-prepared",
    "purge-half-tombstoned",
    "purge-tombstoned",
    "purge-half-begun",
    "purge-begun",
    "disposal-file-removed",
    "disposal-file-removed:2",
    "disposal-files-removed",
    "epoch-root-written",
    "epoch-rewrapped",
    "epoch-switched",
    "epoch-exported",
    "epoch-promoted",
    "epoch-destroyed",
    "epoch-scrubbed",
    "disposal-keys-destroyed",
    "certificate-issued",
    "disposal-certified",
    "disposal-finished",
)


@pytest.fixture(scope="module")
def before(workspace: Callable[..., Any]) -> Any:
    """A workspace with rows past every window, some of them held, spoilt records of two days, and a later month."""
    windows = {**WINDOWS, "suspense": "170 days"}
    site = workspace("generic", retention=windows, thresholds={"file_errors_pct": 100.0})
    rows = [call(n, caller=OTHER if n % 3 == 0 else "+13035550101") for n in range(20)]
    night(site, feed(*rows, SPOILT.format(90)))
    late = [call(60 + n, DAY + timedelta(2), OTHER, answered=answered) for n, answered in enumerate((True, False))]
    night(site, feed(*late), DAY + timedelta(3), "c.csv")
    days = [DAY + timedelta(n) for n in (1, 2, 40, 90)]
    rows = [*(call(30 + n, day) for n, day in enumerate(days)), *(call(40 + n, days[2], OTHER) for n in range(3))]
    night(site, feed(*rows, SPOILT.format(91)), date(2026, 6, 10), "b.csv")
    hold(site, numbers=(OTHER,), first=DAY + timedelta(2))  # what was spoilt before is not held
    return site


@pytest.fixture
def copied(before: Any, tmp_path: Path) -> Callable[[], Any]:
    """A copy of that workspace, with the same ids and keys."""

    return lambda: retention.copied(before, tmp_path / f"copy-{len(list(tmp_path.iterdir()))}")


@pytest.fixture(scope="module")
def clean(before: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a purge that nobody disturbed leaves."""
    site = retention.copied(before, tmp_path_factory.mktemp("clean") / "copy")
    ended = _run(site, *_approval(site))
    assert ended.code == 0, ended.err
    return _left(site)


def _approval(site: Any) -> tuple[str, ...]:
    """What ada adds to the command, after the plan was made."""
    planned = _run(site)
    assert planned.code == 3, planned.err
    return "--approve", planned.document["plan_id"], "--person", "ada", "--key", str(site.folder.parent / "ada.sign")


def _run(site: Any, *more: str, crash_at: str = "") -> Ended:
    arguments = ("purge", "--as-of", AS_OF.isoformat(), "--json", "--config", str(site.folder), *more)
    return run(*arguments, environment={"CALLWARD_CRASH_AT": crash_at}).check_clean([OTHER])


def _left(site: Any) -> dict[str, Any]:
    """All that a purge leaves in a workspace, without ids that are drawn at random; every check of its certificate."""
    files = DataFiles(site.opened, "test")
    rows = {
        view: sorted(repr(row) for file in site.data_files(view) for row in files.rows(file).to_pylist())
        for view in ("billing", "assurance", "index", "held-billing", "held-assurance")
    }
    done = [row for row in site._rows(disposals) if row.status in ("done", "partial")]
    made = certificates.list_certificates(site.settings)
    assert len(made) == len(done) == 1
    assert [c.sentence for c in certificates.verify(site.settings, made[0].certificate_id) if not c.ok] == []
    with database.reading(site.settings) as connection:
        audit.verify(connection)
    named = {row.path for row in site._rows(lake_files) if row.removed_at is None}
    there = {file.path.removesuffix(HOLDS_SUFFIX) for file in Store.of(site.settings).list()}
    assert there == named
    ends = {(r.view, r.end, r.file_no): r.rows for r in site._rows(row_ends)}
    return {
        **rows,
        "suspense": site.log("suspense").num_rows,
        "entries": site.entries(),
        "derived": site.derived(),
        "frozen": sorted((f.table_name, f.part, f.rows, f.sha256) for f in site._rows(frozen_derived)),
        "ends": ends,
        # Hold keys that a killed attempt had minted are destroyed with the others: nothing lies under them.
        "keys": sorted(
            (k.domain, k.month, k.purpose.partition(".")[0], k.state)
            for k in site._rows(keys)
            if (k.domain, k.state) != ("hold", "destroyed")
        ),
        "unbalanced": site.unbalanced(),
    }


def _equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for what in expected:
        assert found[what] == expected[what], f"{what} is not what an undisturbed purge leaves"


def test_the_purge_has_something_of_everything(clean: dict[str, Any]) -> None:
    """Otherwise the comparisons below would prove little."""
    empty = [what for what in clean if not clean[what]]
    assert empty == ["assurance", "unbalanced"]
    assert {(view, end) for view, end, _ in clean["ends"]} >= {
        ("failed", "held"),
        ("answered", "held"),
        ("billing", "held"),
        ("billing", "numbers"),
        ("billing", "purged"),
        ("suspense", "purged"),
    }


def test_every_named_point_of_a_purge_is_killed_at() -> None:
    """A point that is added to the code must be added here."""
    root = Path(__file__).parent.parent
    of_a_purge = (
        "callward/disposal/record.py",
        "callward/disposal/completion.py",
        "callward/disposal/derived.py",
        "callward/disposal/purge.py",
        "pipelines/purge.py",
        "pipelines/purge_batch.py",
        "transforms/expire.py",
    )
    texts = [(root / name).read_text(encoding="utf-8") for name in of_a_purge]
    named = {name for text in texts for name in re.findall(r'\bpoint\("([a-z-]+)"\)', text)}
    assert named <= {point.partition(":")[0] for point in POINTS}


def test_a_purge_killed_at_every_named_point_ends_as_one_that_was_not(
    copied: Callable[[], Any], clean: dict[str, Any]
) -> None:
    site = copied()
    approval = _approval(site)
    for number, where in enumerate(POINTS):
        ended = _run(site, *(approval if number == 0 else ()), crash_at=where)
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: exit code {ended.code}, {ended.err[-300:]}"
    ended = _run(site)
    assert ended.code == 0, ended.err
    _equal(_left(site), clean)


def test_a_purge_killed_at_random_moments_ends_as_one_that_was_not(
    copied: Callable[[], Any], clean: dict[str, Any]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, site = random.Random(seed), copied()
    arguments = ("purge", "--as-of", AS_OF.isoformat(), "--config", str(site.folder))
    killed_after(chance.uniform(0.1, 2.5), *arguments, *_approval(site)).check_clean()
    for _ in range(4):
        killed_after(chance.uniform(0.1, 2.5), *arguments).check_clean()
    ended = _run(site)
    if ended.code == 3:  # it was killed before the approval was on record
        ended = _run(site, *_approval(site))
    assert ended.code == 0, ended.err
    _equal(_left(site), clean)


@pytest.mark.parametrize("where", ["purge-tombstoned", "purge-half-begun"])
def test_a_hold_that_comes_before_the_second_phase_wins_also_over_a_killed_purge(
    copied: Callable[[], Any], where: str
) -> None:
    site = copied()
    rows = site.view("billing")
    assert _run(site, *_approval(site), crash_at=where).code == -signal.SIGKILL
    assert site.view("assurance").num_rows == 0  # tombstoned: no read finds it
    hold(site, case="another")
    ended = _run(site)
    assert ended.code == 3, ended.err
    assert site.view("billing").equals(rows) and not site.unbalanced()
    ended = _run(site, *_approval(site))
    assert ended.code == 0, ended.err
    files = DataFiles(site.opened, "test")
    kept = [row for f in site.data_files("held-billing") for row in files.rows(f).to_pylist()]
    assert len({row["billing_id"] for row in kept}) == len(kept) >= 22


# -- what a machine refuses --------------------------------------------------------------------------------------------


def _resumed(site: Any) -> Ended:
    """Run again, approved again where the first attempt ended before that was on record."""
    ended = _run(site)
    return _run(site, *_approval(site)) if ended.code == 3 else ended


@pytest.mark.parametrize("kib", [4, 32, 200, 600])
def test_a_purge_on_a_full_disk_is_one_sentence_and_goes_on_when_there_is_room(
    copied: Callable[[], Any], clean: dict[str, Any], kib: int
) -> None:
    site = copied()
    arguments = ("purge", "--as-of", AS_OF.isoformat(), "--json", "--config", str(site.folder), *_approval(site))
    ended = run(*arguments, limits={resource.RLIMIT_FSIZE: kib << 10}).check_clean([OTHER])
    if ended.code == 0:  # nothing of it was larger than that
        assert kib > 200
    else:
        assert ended.code == 1 and len(ended.sentences) == 1
        assert _resumed(site).code == 0
    _equal(_left(site), clean)


def test_a_purge_of_a_locked_database_is_one_sentence_and_changes_nothing(
    copied: Callable[[], Any], clean: dict[str, Any]
) -> None:
    site = copied()
    approval = _approval(site)
    site.set(database={"patience_seconds": 1.0})
    holder = sqlite3.connect(site.folder / "callward.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        ended = _run(site, *approval)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert (ended.code, len(ended.sentences)) == (1, 1)
    assert "locked" in ended.sentences[0]
    assert _resumed(site).code == 0
    _equal(_left(site), clean)
