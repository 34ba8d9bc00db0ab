"""rebuild after a purge: frozen days must have their hash, open ones at least what the lake says, and none is lost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from callward import database
from callward.errors import Problem
from pipelines import rebuild as rebuilding
from pipelines.rebuild import rebuild
from schemas.tables import assurance_trunk_hourly, billing_usage_daily
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
