"""What a worker writes after its run is over is removed, too."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from callward import database, runs
from callward.lake.data_files import DataFiles
from pipelines.vacuum import remove_orphans
from schemas.tables import runs as runs_table
from tests.commands import strays


def _late(site: Any, run_id: str) -> None:
    DataFiles(site.opened, run_id).write_archive("default", b"x")


def _over_for(site: Any, run_id: str, hours: float) -> None:
    ended = database.now() - timedelta(hours=hours)
    with database.writing(site.settings) as connection:
        connection.execute(update(runs_table).where(runs_table.c.run_id == run_id).values(finished_at=ended))


@pytest.mark.parametrize("status", ["done", "failed"])
def test_what_is_written_late_on_a_cluster_is_removed_for_an_hour(workspace: Callable[..., Any], status: str) -> None:
    site = workspace("generic", engine={"flink_master": "localhost:8081"})
    run_id = runs.start(site.settings, "nightly", ["source/generic"])
    _late(site, run_id)
    assert remove_orphans(site.settings) == 0, "it is at work"
    runs.finish(site.settings, run_id, status)
    for _ in range(2):
        assert remove_orphans(site.settings) == 1
        assert strays(site) == []
        _late(site, run_id)
    _over_for(site, run_id, 1.1)
    assert remove_orphans(site.settings) == 1
    assert remove_orphans(site.settings) == 0


def test_a_compaction_that_ended_well_on_a_cluster_is_not_looked_at(workspace: Callable[..., Any]) -> None:
    """A stream has one every few minutes: the whole lake would be listed each time."""
    site = workspace("generic", engine={"flink_master": "localhost:8081"})
    run_id = runs.start(site.settings, "compact", ["compact"])
    _late(site, run_id)
    runs.finish(site.settings, run_id, "done")
    assert remove_orphans(site.settings) == 0


def test_where_workers_end_with_their_run_it_is_looked_at_once(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    for status in ("done", "failed"):
        run_id = runs.start(site.settings, "nightly", ["source/generic"])
        _late(site, run_id)
        runs.finish(site.settings, run_id, status)
        assert remove_orphans(site.settings) == (status == "failed")
    swept = {row.status: row.swept_at for row in site._rows(runs_table)}
    assert swept["done"] is None and swept["failed"] is not None
