"""A purge reaches what a stream leaves in flight: spooled batches, and batches in an engine's state and checkpoints."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from callward import database
from callward.keys.keys import KeyGone
from callward.lake.data_files import DataFiles
from callward.workspace import open_workspace
from schemas.tables import keys
from tests.retention import WINDOWS, activate, feed, policy_text, purged
from tests.retention import call as line
from tests.streams import Inline, inline
from transforms.cut_slices import BucketBatch

PAST = "2026-03"  # a month whose keys may go


def _interrupted(site: Any, month: str) -> tuple[list[bytes], dict[str, bytes], Inline]:
    """A stream that dies with all that it read in flight: the batches as a checkpoint holds them, the spooled files."""
    site.land("generic", "a.csv", feed(*(line(n) for n in range(50)), "nothing of a record\n"))
    with pytest.raises(RuntimeError), inline(site.settings, ["generic"]) as work:
        reference = replace(work.reference, transit_month=month)
        work.files = DataFiles(open_workspace(reference), work.run_id)
        for block in work.works(work.reader()):
            work.take(block)
        raise RuntimeError
    batches = [blob for bag in work.waiting.values() for blob in bag]
    names = work.spilled(work.waiting)
    folder = site.settings.lake_path / "transit"
    return batches, {name: (folder / name).read_bytes() for name in names}, work


def test_what_a_dead_stream_left_opens_nothing_once_its_month_is_purged(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", thresholds={"file_errors_pct": 100.0})
    activate(site, policy_text({**WINDOWS, "temp": "7 days"}))
    batches, spooled, work = _interrupted(site, PAST)
    assert batches and spooled
    folder = site.settings.lake_path / "transit"
    for name in spooled:
        long_ago = time.time() - 30 * 86_400
        os.utime(folder / name, (long_ago, long_ago))
    purged(site, date.today())
    assert not any((folder / name).exists() for name in spooled)
    assert _transit_states(site)[PAST] == "destroyed"
    for name, blob in spooled.items():  # an old copy of the spool, and of a checkpoint
        (folder / name).write_bytes(blob)
    fresh = DataFiles(open_workspace(replace(work.reference, reason="looking back")), work.run_id)
    for blob in batches:
        with pytest.raises(KeyGone):
            BucketBatch.open(blob, fresh.workspace)
    for name in spooled:
        with pytest.raises(KeyGone):
            fresh.fetch(name)


def test_the_next_stream_takes_up_what_a_dead_one_left(workspace: Callable[..., Any]) -> None:
    """Nothing of it depends on the spool or on a checkpoint: the ledger says what was read and not committed."""
    site = workspace("generic", thresholds={"file_errors_pct": 100.0})
    _, spooled, _ = _interrupted(site, PAST)
    for name in spooled:
        (site.settings.lake_path / "transit" / name).unlink()
    with database.writing(site.settings) as connection:
        connection.execute(update(keys).where(keys.c.domain == "transit").values(state="destroyed", blob=None))
    with inline(site.settings, ["generic"]) as work:
        for block in work.works(work.reader()):
            work.take(block)
        work.flush_all()
    assert site.view("assurance").num_rows == 50 and not site.unbalanced()
    assert list(Path(site.settings.lake_path / "transit").iterdir()) == []


def _transit_states(site: Any) -> dict[str, str]:
    with database.reading(site.settings) as connection:
        rows = connection.execute(select(keys.c.month, keys.c.state).where(keys.c.domain == "transit"))
        return {row.month: row.state for row in rows}
