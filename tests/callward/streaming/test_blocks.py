"""Blocks of a stream in the ledger: which input file a message counts for, and when that file is closed."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from callward import database, runs
from callward.streaming import blocks as ranges
from callward.streaming.blocks import Part
from schemas.streaming import kafka_inputs
from schemas.tables import blocks, input_files

TOPIC = "cdr-east"
TODAY = date(2026, 4, 1)  # yesterday is in another month
LAST_MS = datetime(2026, 3, 31, 23, 59, 59, 999_000)
MIDNIGHT = datetime(2026, 4, 1)
FileKey = tuple[str, int, str]  # source, partition, name


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("asterisk", "generic")


@pytest.fixture
def connection(site: Any) -> Iterator[Connection]:
    """A transaction that leaves nothing."""
    with database.engine(site.settings).connect() as opened:
        change = opened.begin()
        yield opened
        change.rollback()


@pytest.fixture(scope="module")
def run_id(site: Any) -> str:
    return runs.start(site.settings, "stream", [f"kafka/{TOPIC}"])


@pytest.fixture
def register(connection: Connection, run_id: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """register(at, first, *sources, partition=0): ten offsets that were read at a moment."""

    def enter(at: datetime, first: int, *sources: str, partition: int = 0) -> None:
        monkeypatch.setattr(database, "now", lambda: at)
        parts = [Part(source, 100, at) for source in sources]
        span = first, first + 10
        ranges.register(connection, run_id, TOPIC, partition, span, parts, "", lambda name: (name, name.encode()))

    return enter


def complete(connection: Connection, run_id: str, **which: Any) -> None:
    """Mark blocks as committed: all, or those with these values."""
    change = update(blocks).filter_by(**which) if which else update(blocks)
    connection.execute(change.values(committed_by=run_id))


def statuses(connection: Connection) -> dict[FileKey, str]:
    query = select(input_files, kafka_inputs.c.partition).join(
        kafka_inputs, kafka_inputs.c.file_no == input_files.c.file_no
    )
    return {(row.source, row.partition, row.name): row.status for row in connection.execute(query)}


def test_a_topics_input_file_is_of_one_source_partition_and_utc_day(
    connection: Connection, register: Callable[..., None]
) -> None:
    register(LAST_MS - timedelta(hours=20), 0, "asterisk")
    register(LAST_MS, 10, "asterisk", "generic")
    register(MIDNIGHT, 20, "asterisk")
    register(MIDNIGHT + timedelta(hours=5), 30, "asterisk")
    register(MIDNIGHT, 0, "asterisk", partition=1)
    assert set(statuses(connection)) == {
        ("asterisk", 0, "cdr-east/0/2026-03-31"),
        ("generic", 0, "cdr-east/0/2026-03-31"),
        ("asterisk", 0, "cdr-east/0/2026-04-01"),
        ("asterisk", 1, "cdr-east/1/2026-04-01"),
    }
    held = [(row.source, row.block) for row in ranges.ranges(connection, TOPIC, 0, 0)]
    assert held == [("asterisk", 0), ("asterisk", 1), ("generic", 0), ("asterisk", 0), ("asterisk", 1)]


def test_todays_file_of_a_topic_is_not_closed(
    connection: Connection, register: Callable[..., None], run_id: str
) -> None:
    register(LAST_MS, 0, "asterisk")
    register(MIDNIGHT, 10, "asterisk")
    complete(connection, run_id)
    yesterdays, todays = ("asterisk", 0, "cdr-east/0/2026-03-31"), ("asterisk", 0, "cdr-east/0/2026-04-01")
    ranges.close_days(connection, LAST_MS.date())
    assert statuses(connection) == {yesterdays: "reading", todays: "reading"}
    ranges.close_days(connection, TODAY)
    assert statuses(connection) == {yesterdays: "committed", todays: "reading"}
    ranges.close_days(connection, TODAY + timedelta(1))
    assert statuses(connection) == {yesterdays: "committed", todays: "committed"}


def test_a_file_of_a_day_that_is_over_stays_open_while_a_block_of_it_is_not_complete(
    connection: Connection, register: Callable[..., None], run_id: str
) -> None:
    register(LAST_MS, 0, "asterisk", "generic")
    register(LAST_MS, 10, "asterisk")
    complete(connection, run_id, first=0)
    asterisks, generics = ("asterisk", 0, "cdr-east/0/2026-03-31"), ("generic", 0, "cdr-east/0/2026-03-31")
    ranges.close_days(connection, TODAY)
    assert statuses(connection) == {asterisks: "reading", generics: "committed"}
    complete(connection, run_id)
    ranges.close_days(connection, TODAY)
    assert statuses(connection) == {asterisks: "committed", generics: "committed"}
