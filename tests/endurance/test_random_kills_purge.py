"""Promise 5, at length: fifty kills of purges at random moments, between nights, and nothing is lost or left.

The seed is printed; CALLWARD_SEED=<seed> runs the same campaign again (as far as the machine's own timing allows).
"""

import os
import random
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from callward import audit, database
from callward.evidence import certificates
from callward.lake.data_files import DataFiles
from callward.sweep.scanner import sweep
from schemas.retention import row_ends
from tests.commands import killed_after, run
from tests.retention import CALLED, CALLER, DAY, OTHER, WINDOWS, call, feed, hold, night, person

KILLS = 50
# Days on which something new is due: of the first night's dates, then of the later ones; the last takes everything.
DAYS = [date(2026, 4, 25), date(2026, 5, 20), date(2026, 6, 15), date(2026, 9, 2), date(2026, 11, 1)]

pytestmark = pytest.mark.endurance


def test_fifty_random_kills_of_purges_end_as_undisturbed_ones(workspace: Callable[..., Any], tmp_path: Path) -> None:
    seed = int(os.environ.get("CALLWARD_SEED") or random.randrange(1 << 32))
    print(f"CALLWARD_SEED={seed}")
    chance = random.Random(seed)
    clean = workspace("generic", retention={**WINDOWS, "suspense": "60 days"}, thresholds={"file_errors_pct": 100.0})
    _fill(clean, chance)
    broken = type(clean)(tmp_path / "broken" / "workspace")
    database.engine(clean.settings).dispose()
    shutil.copytree(clean.folder, broken.folder)
    shutil.copy2(person(clean), broken.folder.parent)
    killed = 0
    for number, as_of in enumerate(DAYS, 1):
        _purge(clean, as_of)
        arguments = ("purge", "--as-of", as_of.isoformat(), "--config", str(broken.folder))
        approval = _approval(broken, as_of)
        while killed < KILLS * number // len(DAYS):
            longest = 0.6 if _done(broken, as_of) else 2.0
            ended = killed_after(chance.uniform(0.05, longest), *arguments, *approval).check_clean([CALLER, OTHER])
            killed += ended.code < 0
            approval = _approval(broken, as_of)
        _purge(broken, as_of)
        assert _left(broken) == _left(clean), f"as of {as_of}"
        assert sweep([broken.folder], [CALLER, OTHER, CALLED]).hits == []
    assert killed == KILLS


def _fill(site: Any, chance: random.Random) -> None:
    """Two nights: calls of many days in no order, some of a number that is held, spoilt records."""
    days = [DAY + timedelta(n) for n in (0, 1, 5, 20, 26, 40, 60)]
    calls = [call(n, chance.choice(days), chance.choice([CALLER, OTHER])) for n in range(200)]
    spoilt = [f"id-{900 + n},{CALLER},{CALLED},not a time,,2026-03-05T12:00:00Z,0,\n" for n in range(5)]
    early = [line for line in calls if "2026-03" in line]
    night(site, feed(*early[::2], *spoilt[:2]), date(2026, 4, 1), "a.csv")
    night(
        site,
        feed(*early[1::2], *(line for line in calls if "2026-03" not in line), *spoilt[2:]),
        date(2026, 5, 5),
        "b.csv",
    )
    hold(site, numbers=(OTHER,), first=DAY + timedelta(5), last=DAY + timedelta(40))
    person(site)


def _run(site: Any, as_of: date, *more: str) -> Any:
    return run("purge", "--as-of", as_of.isoformat(), "--json", "--config", str(site.folder), *more).check_clean()


def _approval(site: Any, as_of: date) -> tuple[str, ...]:
    """What ada adds to the command while a plan waits."""
    dry = _run(site, as_of, "--dry-run")
    if not dry.document["classes"] or not any(row["files"] for row in dry.document["classes"]):
        return ()
    with database.reading(site.settings) as connection:
        from schemas.retention import disposals

        rows = connection.execute(disposals.select().where(disposals.c.status == "planned")).all()
    listed = [row.disposal_id for row in rows if row.plan_digest == dry.document["plan_digest"]]
    return ("--approve", listed[0], "--person", "ada", "--key", str(site.folder.parent / "ada.sign")) if listed else ()


def _done(site: Any, as_of: date) -> bool:
    return not any(row["files"] for row in _run(site, as_of, "--dry-run").document["classes"])


def _purge(site: Any, as_of: date) -> None:
    ended = _run(site, as_of)
    if ended.code == 3:
        ended = _run(site, as_of, *_approval(site, as_of))
    assert ended.code == 0, ended.err


def _left(site: Any) -> dict[str, Any]:
    files = DataFiles(site.opened, "test")
    views = ("billing", "assurance", "held-billing", "held-assurance")
    rows = {v: sorted(repr(row) for f in site.data_files(v) for row in files.rows(f).to_pylist()) for v in views}
    sums: dict[tuple[str, str, int], int] = {}
    for row in site._rows(row_ends):
        sums[row.view, row.end, row.file_no] = sums.get((row.view, row.end, row.file_no), 0) + row.rows
    for made in certificates.list_certificates(site.settings)[-1:]:
        assert [c.sentence for c in certificates.verify(site.settings, made.certificate_id) if not c.ok] == []
    with database.reading(site.settings) as connection:
        audit.verify(connection)
    return {**rows, "ends": sums, "entries": site.entries(), "derived": site.derived(), "unbalanced": site.unbalanced()}
