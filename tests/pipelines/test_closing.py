"""Closing: 48 hours after its end a date's parts are made anew, and nothing of a commit lines them up any more."""

import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from callward import database
from callward.feeds import generate
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from pipelines import closing
from pipelines.compact import compact
from schemas.tables import assurance_durations_daily, assurance_erlangs_hourly, assurance_prefix_daily
from schemas.views import ID_COLUMN, INDEX, PARTS
from tests.commands import run, strays
from tests.conftest import MORNING
from tests.retention import DAY, call, feed, night

SOURCES = ("asterisk", "opensips")
OVER = datetime(DAY.year, DAY.month, DAY.day) + timedelta(days=3)  # 48 hours after the end of the day
WAVES = {"records": 60, "block_mebibytes": 0.004}
LAKE = {"close_after_hours": 48.0, "compact_files": 100_000, "grace_minutes": 0.0}
POINTS = ("view-written", "close-begun", "close-ready", "close-committed", "superseded-removed")


@pytest.fixture(scope="module")
def before(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace with many small files of two days and two sources, in many waves, as on the morning after."""
    folder = tmp_path_factory.mktemp("feeds")
    for at, day in enumerate((DAY - timedelta(1), DAY)):
        generate(folder / str(at), seed=31 + at, day=day, calls=160, dirt=0.05, sources=SOURCES)
    site = workspace(*SOURCES, "generic", waves=WAVES, lake=LAKE)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        site.land(path.parent.name, f"{path.parent.parent.name}-{path.name}", path.read_bytes())
    site.night(MORNING)
    return site


@pytest.fixture
def site(before: Any, tmp_path: Path) -> Any:
    database.engine(before.settings).dispose()
    shutil.copytree(before.folder, tmp_path / "workspace")
    return type(before)(tmp_path / "workspace")


def ids(site: Any) -> dict[str, set[bytes]]:
    """Ids of the rows of each part, over all dates."""
    return {part: set(site.view(part)[ID_COLUMN[part]].to_pylist()) for part in PARTS["assurance"]}


def closed(site: Any, day: date = DAY) -> set[bool]:
    """Whether data files of a date's parts are those that closing made."""
    return {file.closed for file in site.data_files("assurance") if file.part == day.isoformat()}


def test_a_date_closes_48_hours_after_its_end_and_not_before(site: Any) -> None:
    assert not compact(site.settings, now=OVER - timedelta(days=1, seconds=1)).closed
    [early] = compact(site.settings, now=OVER - timedelta(seconds=1)).closed
    assert (early.part, closed(site)) == ((DAY - timedelta(1)).isoformat(), {False})
    [late] = compact(site.settings, now=OVER).closed
    assert (late.tenant, late.part, closed(site)) == ("default", DAY.isoformat(), {True})
    assert not compact(site.settings, now=OVER).closed, "what is closed stays so"


def test_closing_keeps_every_row_under_its_id_and_in_its_part(site: Any) -> None:
    was, billed = ids(site), site.view("billing")
    files = len(site.data_files("assurance"))
    compact(site.settings, now=OVER)
    assert ids(site) == was
    assert site.view("billing").equals(billed)
    assert len(site.data_files("assurance")) < files
    assert site.differing() == 0 and not strays(site)


def test_late_records_close_the_date_again(site: Any) -> None:
    compact(site.settings, now=OVER)
    count = site.view("assurance").num_rows
    night(site, feed(call(1), call(2, answered=False)), on=DAY + timedelta(4), name="late.csv")
    assert closed(site) == {True}, "the night has closed it anew"
    assert site.view("assurance").num_rows == count + 2
    assert site.differing() == 0
    night(site, feed(call(1), call(2, answered=False)), on=DAY + timedelta(5), name="again.csv")
    assert site.balances()["generic/again.csv"]["duplicate"][0] == 2


def test_a_day_with_one_call_closes_and_tells_its_day_alone(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", lake=LAKE)
    night(site, feed(call(1)), on=DAY + timedelta(1))
    [over] = compact(site.settings, now=OVER).closed
    assert (over.part, closed(site)) == (DAY.isoformat(), {True})
    [row] = site.view("answered").to_pylist()
    assert (row["span_h"], row["source"], row["trunk_in"], row["trunk_out"]) == (24, None, None, None)
    assert row["start"] == datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    [prefix] = site._rows(assurance_prefix_daily)
    assert (prefix.attempts, site.view("billing").num_rows, site.differing()) == (1, 1, 0)
    night(site, feed(call(1)), on=DAY + timedelta(4), name="again.csv")
    assert site.balances()["generic/again.csv"]["duplicate"][0] == 1


def test_closed_tables_count_every_call_of_the_date(site: Any) -> None:
    compact(site.settings, now=OVER)
    files = DataFiles(site.opened, "test")
    for day in (DAY - timedelta(1), DAY):
        read = [files.rows(file) for file in site.data_files(INDEX) if file.part == day.isoformat()]
        rows = [row for table in read for row in table.filter(pc.equal(table["state"], "accepted")).to_pylist()]
        talked = [row["talk_ms"] for row in rows if row["disposition"] == "answered" and row["talk_ms"] is not None]
        lengths = [row for row in site._rows(assurance_durations_daily) if row.call_date == day]
        assert (sum(r.calls for r in lengths), sum(r.talk_ms for r in lengths)) == (len(talked), sum(talked))
        assert sum(r.attempts for r in site._rows(assurance_prefix_daily) if r.call_date == day) == len(rows)
        came_in = sum(row["talk_ms"] or 0 for row in rows if row["disposition"] == "answered" and not row["leg"])
        hours = [row for row in site._rows(assurance_erlangs_hourly) if row.call_date == day and row.side == "ingress"]
        assert hours and abs(sum(r.talk_min for r in hours) - came_in / 60_000) <= len(hours) / 2


def test_rebuild_finds_what_was_changed_in_a_closed_table(site: Any) -> None:
    compact(site.settings, now=OVER)
    with database.writing(site.settings) as connection:
        table = assurance_prefix_daily
        connection.execute(table.update().values(attempts=table.c.attempts + 1))
    assert site.differing() > 0


def test_a_dry_run_names_the_dates_and_changes_nothing(site: Any) -> None:
    files = {file.file_id for file in site.data_files("assurance")}
    would = compact(site.settings, now=OVER, dry_run=True)
    assert [date.part for date in would.closed] == [(DAY - timedelta(1)).isoformat(), DAY.isoformat()]
    assert {file.file_id for file in site.data_files("assurance")} == files


def test_a_date_without_an_index_file_is_named_and_the_others_close(site: Any) -> None:
    lost = next(file for file in site.data_files(INDEX) if file.part == DAY.isoformat())
    (site.settings.lake_path / lost.path).unlink()
    done = compact(site.settings, now=OVER)
    assert [date.part for date in done.closed] == [(DAY - timedelta(1)).isoformat()]
    [sentence] = done.not_closed
    assert lost.file_id in sentence and "put it back" in sentence
    assert done.exit_code == 3 and closed(site) == {False}


def test_a_commit_between_reading_and_closing_is_not_lost(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, landed = closing.tables, []

    def tables(calls: Any, tenant: str, part: str, sites: Any) -> Any:
        if part == DAY.isoformat() and not landed:
            landed.append(True)
            site.land("generic", "between.csv", feed(call(1)))
            site.night(MORNING)
        return made(calls, tenant, part, sites)

    monkeypatch.setattr(closing, "tables", tables)
    count = site.view("assurance").num_rows
    first = compact(site.settings, now=OVER)
    assert landed and first.refused == 1 and closed(site) == {False}
    assert [date.part for date in compact(site.settings, now=OVER).closed] == [DAY.isoformat()]
    assert site.view("assurance").num_rows == count + 1
    assert site.differing() == 0 and not strays(site)


def test_a_closing_killed_at_every_point_leaves_the_date_as_it_was_or_closed(site: Any) -> None:
    text = Path(closing.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'\bpoint\("([a-z-]+)"\)', text)) <= set(POINTS)
    rows, billed = site.view("assurance").num_rows, site.view("billing").num_rows
    for where in POINTS:
        ended = run("compact", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": where})
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: {ended.err[-300:]}"
        assert (site.view("assurance").num_rows, site.view("billing").num_rows) == (rows, billed)
        assert site.differing() == 0
    run("compact", "--config", str(site.folder)).check_clean()
    assert closed(site) == closed(site, DAY - timedelta(1)) == {True}
    assert site.view("assurance").num_rows == rows and site.differing() == 0 and not strays(site)


def _totals(site: Any) -> dict[str, Any]:
    """What each derived table sums to, by whichever keys (one told in shards is told less finely, and erlangs are
    rounded)."""
    derived = {name: rows for name, rows in site.derived().items() if name != assurance_erlangs_hourly.name}
    return {name: tuple(map(sum, zip(*rows.values(), strict=True))) for name, rows in derived.items()}


def test_a_date_of_many_shards_closes_as_one_of_one_and_reads_each_file_once(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files with rows of several shards are cut, and what waits between is gone afterwards."""
    database.engine(site.settings).dispose()
    shutil.copytree(site.folder, tmp_path / "other")
    other = type(site)(tmp_path / "other")
    compact(site.settings, now=OVER)
    rows, read = DataFiles.rows, Counter[str]()

    def counted(files: DataFiles, file: DataFile, *columns: Any) -> Any:
        read[file.file_id] += 1
        return rows(files, file, *columns)

    monkeypatch.setattr(DataFiles, "rows", counted)
    monkeypatch.setattr(closing, "MOST_ROWS", 40)
    compact(other.settings, now=OVER)
    assert {file.shard_bits for file in other.data_files("assurance")} >= {2}
    assert {read[file.file_id] for file in other.data_files(INDEX)} <= {0, 1}
    assert (ids(other), _totals(other)) == (ids(site), _totals(site))
    assert other.differing() == 0 and not strays(other)
