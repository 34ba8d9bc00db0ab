"""Feeds that fall silent or come strangely are named, each by its figure, at each night until it is fixed."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from callward import database, standing
from callward.lake.data_files import DataFiles
from callward.settings import Tenant
from pipelines import intake as intakes
from pipelines.monitoring import feeds
from pipelines.reports.night import NightReport
from pipelines.stream.maintenance import Maintenance
from schemas.retention_classes import CLASSES
from schemas.tables import feed_states, input_files, runs, source_shares, sources
from tests import retention
from tests.modes import modes_hold

Site = Callable[..., Any]

NOW = datetime(2026, 3, 31, 6)  # a Tuesday, the last of its month
TUESDAYS = [date(2026, 3, day) for day in (24, 17, 10, 3)] + [date(2026, 2, day) for day in (24, 17, 10, 3)]


@pytest.fixture(scope="module")
def made(workspace: Site, feed_source: Site) -> Any:
    east = feed_source("east", format="generic_csv", expect_every="26 hours", sequence=r"cdr-(\d+)\.csv")
    return workspace(east, feed_source("west", format="generic_csv", tenant="second"), tenants=_tenants())


def _tenants() -> dict[str, Tenant]:
    windows = dict.fromkeys(CLASSES, "99 years")
    return {name: Tenant(retention=windows) for name in ("default", "second")}


@pytest.fixture
def site(made: Any) -> Iterator[Any]:
    """A workspace of two sources, whose history each test writes itself."""
    rows = [{"uid": name, "name": name, "registered_at": NOW - timedelta(1)} for name in ("east", "west")]
    with database.writing(made.settings) as connection:
        for table in (sources, input_files, feed_states, source_shares, runs):
            connection.execute(delete(table))
        connection.execute(insert(sources), rows)
    yield made
    made.set(thresholds={"exit_3_for": ["folder", "silent", "gap", "shrank"], "empty_days": 7.0})


def came(site: Any, name: str, ago: timedelta, size: int = 9, status: str = "removed", source: str = "east") -> None:
    """Enter a file into the ledger: written, and taken in an hour later, so long before NOW."""
    files = DataFiles(site.opened, "test")
    path = f"{source}/{name}"
    row = {"source": source, "name": path, "name_sealed": intakes.names_key(files).seal(path.encode(), b"name")}
    row |= {"name_id": intakes.name_id(files, path), "size": size, "status": status, "path_form": "plain"}
    written = (NOW - ago).replace(tzinfo=UTC)
    row |= {"modified_ns": int(written.timestamp() * 1e9), "seen_at": NOW - ago + timedelta(hours=1), "run_id": "test"}
    with database.writing(site.settings) as connection:
        connection.execute(insert(input_files).values(**row))


def look(site: Any, now: datetime = NOW, **more: Any) -> dict[tuple[str, str], str]:
    """Return what is strange, by source and kind."""
    found = feeds.look(DataFiles(site.opened, "test"), site.settings.sources, now, **more)
    assert len(found) == len({(alarm.source, alarm.kind) for alarm in found})
    return {(alarm.source, alarm.kind): alarm.sentence for alarm in found}


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_source_is_silent_when_no_file_came_for_longer_than_one_is_expected(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(days=3))
    came(site, "cdr-2.csv", timedelta(hours=26))
    assert look(site) == {}
    said = look(site, NOW + timedelta(seconds=1))
    assert list(said) == [("east", "silent")]
    assert "nothing came for 26 hours; one is expected every 26 hours; its folder is empty" in said["east", "silent"]
    assert "4 days" in look(site, NOW + timedelta(days=3))["east", "silent"]  # and says so until one comes
    came(site, "cdr-3.csv", timedelta(days=-3))
    assert look(site, NOW + timedelta(days=3)) == {}


def test_what_came_of_another_source_does_not_end_a_silence(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(hours=27))
    came(site, "cdr-1.csv", timedelta(hours=1), source="west")
    assert list(look(site)) == [("east", "silent")]


def test_a_source_that_never_sent_anything_is_silent_from_when_it_was_set_up(site: Any) -> None:
    assert look(site) == {}
    assert "nothing ever came, in 27 hours" in look(site, NOW + timedelta(hours=3))["east", "silent"]


def test_a_file_with_a_time_that_is_to_come_counts_from_when_it_was_seen(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(hours=28))
    with database.writing(site.settings) as connection:
        connection.execute(input_files.update().values(modified_ns=int(4e18)))
    assert list(look(site)) == [("east", "silent")]


def test_a_source_that_says_nothing_of_itself_is_named_when_nothing_came_for_a_week(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(days=7), source="west")
    came(site, "cdr-1.csv", timedelta(hours=1))
    assert look(site) == {}
    said = look(site, NOW + timedelta(minutes=1))
    assert list(said) == [("west", "empty")] and "nothing came for 7 days" in said["west", "empty"]
    site.land("west", "waits.csv", b"")
    assert "its landing folder holds 1 file that wait" in look(site, NOW + timedelta(1))["west", "empty"]
    (site.settings.landing_path / "west" / "waits.csv").unlink()


# -- volume ------------------------------------------------------------------------------------------------------------


def night(site: Any, day: date, *rows: int, source: str = "east", kind: str = "nightly") -> str:
    """Enter nights of a day, with the records that each took in of a source; return the last's id.

    What is entered of another source is of the same nights.
    """
    row = {"kind": kind, "status": "done", "started_by": "x", "host": "x", "pid": 1, "code_version": "x"}
    with database.writing(site.settings) as connection:
        for number, count in enumerate(rows):
            run_id = f"{kind}{day:%m%d}{number}"
            begun = datetime.combine(day, datetime.min.time()) + timedelta(hours=number + 1)
            if not connection.execute(select(runs).where(runs.c.run_id == run_id)).first():
                connection.execute(insert(runs).values(run_id=run_id, started_at=begun, settings_digest="x", **row))
            share = {"run_id": run_id, "day": day, "source": source, "measure": "records", "rows": count}
            connection.execute(insert(source_shares).values(**share))
    return run_id


def strange(site: Any, run_id: str | None, source: str = "east") -> str:
    """Return what is said of the volume of a source."""
    came(site, "cdr-1.csv", timedelta(0), source=source)
    return look(site, night=run_id).get((source, "volume"), "")


def test_a_night_is_compared_with_the_same_weekdays_of_eight_weeks(site: Any) -> None:
    for day, rows in zip(TUESDAYS, (900, 1000, 1000, 1100, 1000, 1000, 20, 9000), strict=True):
        night(site, day, rows)
        night(site, day - timedelta(1), 10)  # Mondays are another matter
        night(site, day, 3, source="west")  # and so is another source
    night(site, date(2026, 1, 27), 5)  # nine weeks ago
    said = strange(site, night(site, NOW.date(), 333))
    assert "333 records came on Tuesday, 2026-03-31: less than one in 3 of the 1,000 that are usual" in said
    assert "by its last 8 Tuesdays" in said


@pytest.mark.parametrize(("rows", "is_said"), [(334, False), (333, True), (3000, False), (3001, True), (0, True)])
def test_the_band_ends_at_the_factor(site: Any, rows: int, is_said: bool) -> None:
    for day in TUESDAYS[:4]:
        night(site, day, 1000)
    assert bool(strange(site, night(site, NOW.date(), rows))) == is_said


def test_three_weeks_are_no_history_and_a_few_records_no_volume(site: Any) -> None:
    for day in TUESDAYS[:3]:
        night(site, day, 1000)
    for day in TUESDAYS[:4]:
        night(site, day, 99, source="west")
    assert strange(site, night(site, NOW.date(), 1)) == ""
    assert strange(site, night(site, NOW.date(), 0, source="west"), "west") == ""


def test_a_day_that_is_not_over_is_compared_with_as_many_nights(site: Any) -> None:
    for day in TUESDAYS[:4]:
        night(site, day, 0, 500, 2000)
    assert strange(site, night(site, NOW.date(), 0, 400)) == ""  # by now 500 are usual, not 2,500


def test_a_night_that_found_nothing_counts_as_one_of_its_day(site: Any) -> None:
    for day in TUESDAYS[:4]:
        night(site, day, 0, 500, 2000)
    assert "0 records came" in strange(site, night(site, NOW.date(), 0, 0))


def test_of_a_stream_the_last_day_that_is_over_is_compared(site: Any) -> None:
    yesterday = NOW.date() - timedelta(1)
    for week in range(1, 5):
        night(site, yesterday - timedelta(weeks=week), 1000, kind="stream")
    night(site, NOW.date(), 1, kind="stream")
    assert strange(site, None) == ""  # nothing is known of yesterday
    night(site, yesterday, 300, kind="stream")
    assert "300 records came on Monday, 2026-03-30" in strange(site, None)


# -- numbers of files --------------------------------------------------------------------------------------------------


def test_a_missing_number_is_named_each_night_until_its_file_comes(site: Any) -> None:
    for number in (7, 8, 11, 14):
        came(site, f"cdr-{number:04d}.csv", timedelta(hours=2))
    assert (
        look(site)["east", "gap"]
        == "east: 4 files are missing by their numbers: 9 to 10, 12 to 13; have them sent again"
    )
    assert ("east", "gap") in look(site, NOW + timedelta(hours=20))
    for number in (9, 10, 13):
        came(site, f"cdr-{number:04d}.csv", timedelta(hours=1))
    assert "1 file is missing by their numbers: 12" in look(site)["east", "gap"]
    came(site, "cdr-0012.csv", timedelta(hours=1))
    assert look(site) == {}


def test_a_file_that_never_comes_is_named_for_thirty_days(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(hours=2))
    came(site, "cdr-3.csv", timedelta(hours=2))
    look(site)
    assert ("east", "gap") in look(site, NOW + timedelta(days=29))
    assert ("east", "gap") not in look(site, NOW + timedelta(days=30))


def test_a_number_that_comes_again_is_named_that_day(site: Any) -> None:
    came(site, "a-cdr-1.csv", timedelta(hours=3))
    came(site, "a-cdr-2.csv", timedelta(hours=3))
    look(site)
    came(site, "b-cdr-2.csv", timedelta(hours=2))
    came(site, "cdr-3.csv", timedelta(hours=2))
    assert "1 file came with a number that was there before: 2" in look(site)["east", "repeat"]
    assert ("east", "repeat") in look(site, NOW + timedelta(hours=23))  # a night that was killed said it to nobody
    assert look(site, NOW + timedelta(hours=24)) == {}


def test_a_growing_file_is_no_repeat_and_one_that_shrank_is_named(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(hours=3), size=100, status="committed")
    came(site, "cdr-1.csv", timedelta(hours=2), size=150, status="committed")
    assert look(site) == {}
    came(site, "cdr-1.csv", timedelta(hours=1), size=60, status="reading")
    said = look(site)
    assert list(said) == [("east", "shrank")] and "cdr-1.csv shrank from 150 to 60 bytes" in said["east", "shrank"]


def test_a_file_that_begins_anew_after_it_was_taken_did_not_shrink(site: Any) -> None:
    came(site, "cdr-1.csv", timedelta(hours=3), size=100, status="removed")
    came(site, "cdr-1.csv", timedelta(hours=2), size=60, status="removed")
    assert list(look(site)) == [("east", "repeat")]


# -- nights and streams ------------------------------------------------------------------------------------------------


def test_a_lost_folder_stops_no_other_source_and_is_named_until_it_is_there(workspace: Site, feed_source: Site) -> None:
    west = feed_source("west", format="generic_csv", tenant="second")
    site = workspace(feed_source("east", format="generic_csv"), west, tenants=_tenants())
    (site.settings.landing_path / "asterisk").rmdir()  # of no source
    folder = site.settings.landing_path / "east"
    folder.chmod(0o500)  # what is taken in could not be taken out
    site.land("west", "a.csv", retention.feed(*(retention.call(n, caller="+13035550101") for n in range(3))))
    now = int(datetime.now(UTC).timestamp() * 1000)
    with modes_hold():
        lost = site.night(now)
    assert (lost.rows, lost.must_look, NightReport(site.settings, lost).exit_code) == (3, True, 3)
    (sentence,) = lost.alarms
    assert sentence.startswith("east: nothing of its landing folder is read") and "read and emptied" in sentence
    assert sentence in list(NightReport(site.settings, lost).render())
    site.set(thresholds={"exit_3_for": []})
    with modes_hold():
        again = site.night(now + 86_400_000)
    assert (again.must_look, again.warnings, again.to_dict()["warnings"]) == (False, [sentence], [sentence])
    with database.reading(site.settings) as connection:
        (stands,) = standing.every(connection)
    assert stands.since == datetime.fromtimestamp(now / 1000, UTC).replace(tzinfo=None)
    folder.chmod(0o700)
    assert site.night(now + 2 * 86_400_000).warnings == []
    with database.reading(site.settings) as connection:
        assert standing.every(connection) == []


def test_an_empty_night_speaks_of_a_silent_feed(workspace: Site, feed_source: Site) -> None:
    site = workspace(feed_source("east", format="generic_csv", expect_every="1 day"))
    now = int(datetime.now(UTC).timestamp() * 1000)
    assert site.night(now).alarms == []
    night = site.night(now + 3 * 86_400_000)
    assert night.rows == 0 and night.must_look and "nothing ever came, in 3 days" in night.alarms[0]
    assert night.to_dict()["alarms"] == night.alarms


def test_the_maintenance_of_a_stream_looks_as_a_night_does(site: Any) -> None:
    came(site, "cdr-1.csv", database_age(site) + timedelta(hours=27))
    settings = site.settings
    Maintenance(settings, site.opened.reference, "test", ["east"], {}).tick(last=True)
    with database.reading(settings) as connection:
        stands = [(item.alarm.source, item.alarm.kind) for item in standing.every(connection)]
    assert stands == [("east", "silent")]


def database_age(site: Any) -> timedelta:
    """Return how long before today's clock NOW is, as what is negative ago is to come."""
    return NOW - database.now()
