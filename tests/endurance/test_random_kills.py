"""Promise 2, at length: fifty kills at random moments, then the night is done. Run by `make endurance`.

The seed is printed; CALLWARD_SEED=<seed> runs the same campaign again (as far as the machine's own timing allows).
"""

import os
import random
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from callward import audit, database
from callward.feeds import generate
from callward.feeds.generate import SOURCE_NAMES
from callward.sweep.scanner import sweep
from tests.commands import all_that_is, killed_after, run, strays, waiting
from tests.conftest import AS_INSTALLED
from tests.raw_search import a_few, search

KILLS = 50
DAY = date(2026, 3, 5)
WAVES = {"records": 600, "bucket_records": 300, "block_mebibytes": 0.05}

pytestmark = pytest.mark.endurance


def _night(site: Any) -> None:
    ended = run("nightly", "--config", str(site.folder)).check_clean()
    assert ended.code in (0, 3), ended.err  # 3: dirt may leave versions of a call of which a person must choose one


def test_fifty_random_kills_end_as_one_clean_run(workspace: Callable[..., Any], tmp_path: Path) -> None:
    seed = int(os.environ.get("CALLWARD_SEED") or random.randrange(1 << 32))
    print(f"CALLWARD_SEED={seed}")
    chance = random.Random(seed)
    # Three deliveries a campaign: a kill may fall into the first night's, a late one's, or into nights without files.
    deliveries = [tmp_path / f"delivery-{n}" for n in range(3)]
    numbers: set[str] = set()
    for n, folder in enumerate(deliveries):
        feeds = generate(folder, seed=seed % 1000 + n, day=DAY, calls=6000, dirt=0.01, sources=SOURCE_NAMES)
        numbers |= set(feeds.numbers.to_pylist())
    clean, broken = (
        workspace(*SOURCE_NAMES, waves=WAVES, engine=AS_INSTALLED, thresholds={"file_errors_pct": 100.0})
        for _ in range(2)
    )
    killed, again = 0, ("nightly", "--config", str(broken.folder))
    for n, folder in enumerate(deliveries):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for site in (clean, broken):
            site.deliver(files, prefix=f"{n}-")
        _night(clean)
        while killed < KILLS * (n + 1) // 3:
            longest = 5 if waiting(broken) else 0.4  # a night without files is soon over
            killed += killed_after(chance.uniform(0.1, longest), *again).check_clean().code < 0
        left = waiting(broken)
        assert sweep([broken.folder], numbers, leave_out=left).hits == []
        assert search([broken.folder], a_few(numbers), leave_out=left) == []
        _night(broken)
        assert (strays(broken), waiting(broken), broken.unbalanced(), broken.differing()) == ([], [], {}, 0)
    assert killed == KILLS
    found, expected = all_that_is(broken), all_that_is(clean)
    assert [what for what in expected if found[what] != expected[what]] == []
    with database.reading(broken.settings) as connection:
        assert audit.verify(connection) > 0
