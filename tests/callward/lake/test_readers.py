"""Readers: what a long reading began with is kept for it; a short one writes nothing, a dead one holds nothing back."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from callward import database, runs
from callward.lake import readers
from pipelines.vacuum import remove_superseded
from schemas.tables import lake_files, leases
from schemas.tables import runs as runs_table


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("generic")


def _oldest(site: Any) -> Any:
    with database.reading(site.settings) as connection:
        return readers.oldest(connection)


def _replaced(site: Any, minutes: float) -> Any:
    """A file of the lake that was replaced so many minutes ago."""
    path = site.settings.lake_path / "billing" / f"{runs.new_id()}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"sealed")
    row = {
        "file_id": path.stem, "view": "billing", "tenant": "default", "part": "2026-03-05", "rows": 1, "bytes": 6,
        "path": f"billing/{path.name}", "sha256": "", "shard_bits": 0, "shard": 0, "format_version": 1, "key_ids": "",
        "received_on": database.now().date(), "numbers": False, "run_id": "run", "committed_at": database.now(),
        "superseded_at": database.now() - timedelta(minutes=minutes),
    }  # fmt: skip
    with database.writing(site.settings) as connection:
        connection.execute(insert(lake_files).values(**row))
    return path


def test_a_reading_that_takes_long_is_known_by_when_it_began(site: Any) -> None:
    before = database.now()
    with readers.reading(site.settings):
        began = _oldest(site)
        assert before <= began <= database.now()
        with readers.reading(site.settings):
            assert _oldest(site) == began
    assert _oldest(site) is None


def test_a_reading_ends_also_by_an_error(site: Any) -> None:
    with pytest.raises(ValueError, match="stop"), readers.reading(site.settings):
        raise ValueError("stop")
    assert _oldest(site) is None
    assert site._rows(leases) == []


def test_a_short_reading_writes_nothing(site: Any) -> None:
    site.set(lake={"grace_minutes": 60.0})
    with readers.reading(site.settings):
        assert site._rows(leases) == []
    assert site._rows(leases) == []


def test_a_reading_that_becomes_long_is_known_while_it_goes_on(site: Any) -> None:
    site.set(lake={"grace_minutes": 0.01})
    began = database.now()
    with readers.reading(site.settings):
        while not site._rows(leases):
            time.sleep(0.01)
        assert _oldest(site) - began < timedelta(seconds=0.15)


def test_what_was_replaced_since_a_reading_began_stays_until_it_ends(site: Any) -> None:
    earlier = _replaced(site, 1)
    with readers.reading(site.settings):
        later = _replaced(site, 0)
        remove_superseded(site.settings, "run")
        assert (earlier.exists(), later.exists()) == (False, True)
    remove_superseded(site.settings, "run")
    assert not later.exists()


def test_what_was_replaced_stays_for_the_grace(site: Any) -> None:
    site.set(lake={"grace_minutes": 5.0})
    earlier, later = _replaced(site, 6), _replaced(site, 4)
    remove_superseded(site.settings, "run")
    assert (earlier.exists(), later.exists()) == (False, True)


@pytest.mark.parametrize(("kind", "waits"), [("nightly", True), ("stream", False)])
def test_a_run_is_waited_for_and_a_stream_is_not(site: Any, kind: str, waits: bool) -> None:
    """A stream lives for weeks, and asks anew which files count at each flush."""
    with runs.running(site.settings, kind, ["source/generic"]) as run_id:
        path = _replaced(site, 0)
        remove_superseded(site.settings, "other")
        assert path.exists() == waits
        runs.finish(site.settings, run_id, "done")
    remove_superseded(site.settings, "other")
    assert not path.exists()


def test_a_reader_that_was_killed_holds_nothing_back(site: Any) -> None:
    code = f"""
import os
from callward.lake import readers
from callward.settings import load
with readers.reading(load({str(site.folder)!r})):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 9
    assert len(site._rows(leases)) == 1
    assert _oldest(site) is None
    path = _replaced(site, 0)
    remove_superseded(site.settings, "run")
    assert not path.exists()
    assert site._rows(leases) == []


def test_a_reader_is_no_run(site: Any) -> None:
    with readers.reading(site.settings), database.reading(site.settings) as connection:
        assert connection.execute(select(runs_table)).all() == []
