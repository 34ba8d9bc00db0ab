"""rebuild after a purge: frozen days must have their hash, open ones at least what the lake says, and none is lost."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from callward import database
from callward.errors import Problem
from callward.lake import ledger
from pipelines import rebuild as rebuilding
from pipelines.doctor.checks import examine
from pipelines.rebuild import rebuild
from schemas.retention import lake_file_inputs
from schemas.tables import assurance_trunk_hourly, billing_usage_daily, lake_files
from schemas.views import INDEX
from tests.commands import run
from tests.retention import ASSURANCE_KEPT, DAY, WINDOWS, call, feed, night, purged

NEXT = timedelta(days=1)


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    """After a purge of 5 March's assurance rows; those of 6 March are still there."""
    made = workspace("generic", retention=WINDOWS)
    night(made)
    night(made, feed(call(10, DAY + NEXT)), DAY + 2 * NEXT, "b.csv")
    purged(made, ASSURANCE_KEPT + NEXT)
    return made


def add(site: Any, table: Any, column: str, amount: int) -> None:
    with database.writing(site.settings) as connection:
        connection.execute(update(table).values({column: table.c[column] + amount}))


def rows(site: Any, table: Any) -> set[tuple[Any, ...]]:
    with database.reading(site.settings) as connection:
        return {tuple(row) for row in connection.execute(select(table))}


def test_what_a_purge_froze_is_no_difference(site: Any) -> None:
    assert site.differing() == 0
    assert {row.hour.date() for row in site._rows(assurance_trunk_hourly)} == {DAY, DAY + NEXT}


def test_a_frozen_row_that_was_changed_is_found(site: Any) -> None:
    with database.writing(site.settings) as connection:
        hour = min(row.hour for row in connection.execute(select(assurance_trunk_hourly)))
        of_it = update(assurance_trunk_hourly).where(assurance_trunk_hourly.c.hour == hour)
        connection.execute(of_it.values(attempts=assurance_trunk_hourly.c.attempts + 1))
    assert site.differing() > 0


def test_rows_of_a_day_that_the_lake_still_has_are_compared_as_ever(site: Any) -> None:
    add(site, billing_usage_daily, "calls", 1)
    assert site.differing() == len(site._rows(billing_usage_daily))


def test_a_rebuild_leaves_what_it_cannot_compute(site: Any) -> None:
    before = rows(site, assurance_trunk_hourly)
    add(site, billing_usage_daily, "talk_ms", 7)
    rebuild(site.settings, write=True)
    assert site.differing() == 0
    assert rows(site, assurance_trunk_hourly) == before


def test_an_open_day_may_have_more_than_the_lake_but_not_less(site: Any) -> None:
    night(site, feed(call(20, DAY + NEXT)), DAY + 2 * NEXT, "c.csv")
    purged(site, ASSURANCE_KEPT + 100 * NEXT)  # numbers of both days; the rows of usage stay
    assert site.differing() == 0
    add(site, billing_usage_daily, "calls", -1)
    assert site.differing() > 0


# -- while nights commit ---------------------------------------------------------------------------------------------


def _night_meanwhile(site: Any, monkeypatch: pytest.MonkeyPatch, times: int) -> list[Any]:
    """Let a night commit a call when the lake has been listed and its sums are about to be computed."""
    nights: list[Any] = []
    real = rebuilding._replace

    def night_first(*arguments: Any) -> None:
        if len(nights) < times:
            number = 30 + len(nights)
            nights.append(night(site, feed(call(number, DAY + NEXT)), DAY + 2 * NEXT, f"{number}.csv"))
        real(*arguments)

    monkeypatch.setattr(rebuilding, "_replace", night_first)
    return nights


def test_a_rebuild_that_a_night_came_before_has_that_nights_calls_too(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(site, billing_usage_daily, "talk_ms", 7)
    nights = _night_meanwhile(site, monkeypatch, 1)
    rebuild(site.settings, write=True)
    assert len(nights) == 1 and site.differing() == 0


def test_a_rebuild_that_nights_always_come_before_says_so_and_changes_nothing(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(site, billing_usage_daily, "talk_ms", 7)
    wrong = site.differing()
    nights = _night_meanwhile(site, monkeypatch, 100)
    with pytest.raises(Problem, match="nights commit faster than the derived tables can be computed again"):
        rebuild(site.settings, write=True)
    assert len(nights) > 1 and site.differing() == wrong > 0


# -- rows of the manifest that are gone ------------------------------------------------------------------------------


def _drop_from_manifest(site: Any, view: str, day: date, *, inputs: bool) -> str:
    """Delete a data file's row of the manifest from the database, with its counts by input file or without."""
    with database.writing(site.settings) as connection:
        file = ledger.files(connection, view=view, parts=[day.isoformat()])[0]
        connection.execute(delete(lake_files).where(lake_files.c.file_id == file.file_id))
        if inputs:
            connection.execute(delete(lake_file_inputs).where(lake_file_inputs.c.file_id == file.file_id))
    return file.file_id


@pytest.mark.parametrize("view", [INDEX, "billing", "answered"])
def test_a_data_file_whose_row_of_the_manifest_is_gone_is_named(site: Any, view: str) -> None:
    night(site, feed(call(20, DAY + NEXT)), DAY + 2 * NEXT, "c.csv")
    file_id = _drop_from_manifest(site, view, DAY + NEXT, inputs=False)
    before = site.derived()
    for write in (False, True):  # what is left is not taken for everything
        with pytest.raises(Problem, match=rf"manifest does not name data file {file_id}, in which 1 records"):
            rebuild(site.settings, write=write)
    assert site.derived() == before
    ended = run("rebuild", "--check", "--config", str(site.settings.path))
    assert ended.check_clean().code == 1 and file_id in ended.err
    (found,) = (finding for finding in examine(str(site.settings.path)) if finding.what == "manifest")
    assert found.bad and file_id in found.seen
    with pytest.raises(Problem, match=file_id):  # records of that file would be taken in, and billed, once more
        night(site, feed(call(20, DAY + NEXT)), DAY + 3 * NEXT, "again.csv")
    assert site.derived() == before


def test_a_row_of_the_manifest_that_went_with_its_counts_is_found_by_the_ledger_or_by_the_views(site: Any) -> None:
    night(site, feed(call(20, DAY + NEXT)), DAY + 2 * NEXT, "c.csv")
    _drop_from_manifest(site, INDEX, DAY + NEXT, inputs=True)
    with pytest.raises(Problem, match=f"rows that the row index of {DAY + NEXT} does not know"):
        rebuild(site.settings, write=False)
    _drop_from_manifest(site, "answered", DAY + NEXT, inputs=True)
    with pytest.raises(Problem, match=r"input file \d+: 1 rows were accepted, but 0 are present and 0 left"):
        rebuild(site.settings, write=False)
