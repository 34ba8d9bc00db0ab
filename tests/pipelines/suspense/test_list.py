"""What is in suspense, over time: when its files came, how much talk it is, and where the first of it stands."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from callward.errors import Problem
from pipelines.reports.suspense import SuspenseList
from pipelines.suspense.records import list_open, open_content, with_first
from tests.commands import run
from tests.retention import DAY, call, copied, feed, night

SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"


@pytest.fixture(scope="module")
def delivered(workspace: Callable[..., Any]) -> Any:
    """Deliveries of two days; only copied."""
    site = workspace("generic", thresholds={"file_errors_pct": 100.0})
    night(site, feed(call(0), SPOILT.format(90), call(1), SPOILT.format(91)), name="first.csv")
    night(site, feed(call(2), call(3), SPOILT.format(92)), DAY + timedelta(2), name="second.csv")
    return site


@pytest.fixture
def site(delivered: Any, tmp_path: Path) -> Any:
    return copied(delivered, tmp_path / "copy")


def test_the_first_record_is_the_one_that_show_names(site: Any) -> None:
    listed = {of.file_no: (of.records, of.first) for of in with_first(site.settings, list_open(site.settings))}
    assert listed == {1: (2, 2), 2: (1, 3)}
    for file_no, (_, first) in listed.items():
        assert open_content(site.settings, file_no, "look", 1)[0].record == first


def test_files_are_listed_by_the_days_on_which_they_came(site: Any) -> None:
    records = list_open(site.settings)
    assert [of.came_on for of in records] == sorted(of.came_on for of in records)
    (table,) = SuspenseList(records, days=True).render()
    wide = {"COLUMNS": "200"}  # no cell is broken
    text = run("suspense", "list", "--days", "--first", "--config", str(site.folder), environment=wide).check_clean()
    days = sorted({of.came_on.isoformat() for of in records})
    assert all(day in text.out for day in days) and "1 record 2: generic/first.csv" in text.out
    assert table is not None


def test_talk_is_what_the_ledger_has_of_it(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    night(site, feed(call(3), call(4, talk=60)), name="first.csv")
    night(site, feed(call(4, talk=90)), name="second.csv")
    listed = {(of.file_no, of.code): of.talk_ms for of in list_open(site.settings)}
    assert listed == {(1, "HELD"): 60_000, (2, "HELD"): 90_000}
    suspended = sum(talk for (bucket, _), (_, talk) in site.entries().items() if bucket == "suspended")
    assert sum(listed.values()) == suspended


def test_only_the_files_that_are_named_are_listed(site: Any) -> None:
    for name in ("2", "generic/second.csv", list_open(site.settings)[1].file_id):
        assert [of.file_no for of in list_open(site.settings, named=[name])] == [2]
    with pytest.raises(Problem, match="no file 99 came in"):
        list_open(site.settings, named=["99"])
