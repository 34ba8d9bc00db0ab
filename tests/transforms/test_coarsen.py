"""Coarsen: whatever order the attempts of a call come in, those of one that was answered are told by the hour."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from sqlalchemy import update

from callward import database
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from schemas.retention import lake_file_inputs
from schemas.tables import lake_files
from schemas.views import ANSWERED, ROW_INDEX
from transforms.split import by_the_hour

NOON = datetime(2026, 3, 5, 12, 10, 20, tzinfo=UTC)
HEADER = "id,call,calling_number,called_number,start_time,answer_time,end_time,talk_ms,disposition,leg,mos,pdd_ms\n"
ENDINGS = {"first": "network_failure", "second": "busy", "third": "answered", "alone": "busy", "lost": "no_answer"}
CALLS = {"first": "a", "second": "a", "third": "a", "alone": "b", "lost": "c"}


def attempt(name: str, start: datetime = NOON, talk: int = 60, call: str = "", ending: str = "") -> str:
    """A line of one attempt; those of ENDINGS say by themselves what became of them."""
    ending, leg = ending or ENDINGS[name], "" if name not in ENDINGS else list(ENDINGS).index(name)
    start += timedelta(minutes=list(ENDINGS).index(name) if name in ENDINGS else 0)
    answer, end = (f"{start:%FT%TZ}", start + timedelta(seconds=talk)) if ending == "answered" else ("", start)
    ended = ending if ending != "answered" else ""
    times = f"{start:%FT%TZ},{answer},{end:%FT%TZ},{talk * 1000 if answer else 0}"
    return f"{name},{call or CALLS[name]},+13035550101,+13035550102,{times},{ended},{leg},3.5,1234\n"


@pytest.fixture(scope="module")
def make(workspace, feed_source):
    """make() → a workspace with a source that names the call of each attempt."""
    declared = {"call": {"any_of": [["call"]]}}
    return lambda **settings: workspace(feed_source("generic", declare=declared), **settings)


def take_in(site, *nights):
    """Take in a file a night, and check that nothing else is moved by it."""
    for number, lines in enumerate(nights):
        site.land("generic", f"n{number}.csv", (HEADER + "".join(lines)).encode())
        site.night()
        assert site.differing() == 0 and not site.unbalanced()
    with database.reading(site.settings) as connection:
        total = Counter(row.file_id for row in connection.execute(lake_file_inputs.select()) for _ in range(row.rows))
    for part in ("failed", "answered"):
        assert all(total[file.file_id] == file.rows for file in site.data_files(part))
    return site


def told(site):
    """{part: (start, disposition, mos) of each row}: moments of failed to the minute, of answered to the hour."""
    found = {}
    for part in ("failed", "answered"):
        rows = site.view(part).to_pylist()
        found[part] = Counter((f"{row['start']:%H:%M:%S}", row["disposition"], row.get("mos")) for row in rows)
    return found


@pytest.fixture(scope="module")
def together(make):
    """A workspace that all attempts came to in one night. It is only read."""
    return take_in(make(), [attempt(name) for name in ENDINGS])


def test_attempts_of_an_answered_call_count_as_rescued_and_as_no_failure(make):
    site = take_in(make(), [attempt("first")])
    assert sum(site.derived()["assurance_failed_5min"].values(), ()) == (1,)
    take_in(site, *([attempt(name)] for name in ("third", "alone")))
    ((attempts, *_, rescued, _, _, _),) = site.derived()["assurance_trunk_hourly"].values()
    assert (attempts, rescued) == (1, 1), "the caller's call is the first attempt"
    assert not site.derived()["assurance_failed_5min"]
    assert not site.derived()["assurance_failed_destination_hourly"]


RESCUED = {
    "failed": Counter({("12:13:00", "busy", None): 1, ("12:14:00", "no_answer", None): 1}),
    "answered": Counter({("12:00:00", ending, 3.5): 1 for ending in ("network_failure", "busy", "answered")}),
}


@pytest.mark.parametrize("order", [("first", "third", "second"), ("third", "first", "second")])
def test_in_any_order_of_nights_attempts_of_an_answered_call_are_told_by_the_hour(make, together, order):
    site = take_in(make(), *([attempt(name)] for name in order[:2]), [attempt(n) for n in (order[2], "alone", "lost")])
    assert told(site) == told(together) == RESCUED
    for part in ("billing", "failed", "answered"):
        assert site.view(part).equals(together.view(part)), part
    assert site.derived() == together.derived()


def test_attempts_of_the_days_before_and_after_go_over_with_their_call(make):
    midnight = datetime(2026, 3, 5, 23, 59, 30, tzinfo=UTC) - timedelta(minutes=1)
    site = take_in(
        make(), *([attempt(n, midnight) for n in some] for some in (("first", "second", "alone"), ("third",)))
    )
    parts = {part: [(f.part, f.rows) for f in site.data_files(part)] for part in ("failed", "answered")}
    assert parts["failed"] == [("2026-03-06", 1)]
    assert sorted(parts["answered"]) == [("2026-03-05", 2), ("2026-03-06", 1)]


def test_a_call_whose_answer_is_held_was_answered(make):
    """Two versions that would be charged differently: whichever came first, and whenever the attempt came."""
    versions = attempt("third"), attempt("third", talk=90)
    for nights in ([*versions, attempt("first")], [attempt("first") + versions[1], versions[0]]):
        site = take_in(make(), *([line] for line in nights))
        assert site.entries()["suspended", "HELD"][0] == 2
        assert told(site) == {"failed": Counter(), "answered": Counter({("12:00:00", "network_failure", 3.5): 1})}


def test_a_tenant_that_bills_attempts_has_no_failed_rows(make):
    site = take_in(make(billing_rows="attempts"), [attempt("first"), attempt("alone")], [attempt("third")])
    assert site.data_files("failed") == []
    assert site.view("billing").num_rows == site.view("answered").num_rows == 3


def test_what_goes_over_keeps_the_day_that_it_came_in_on(make):
    site = take_in(make(), [attempt("first")])
    (before,) = site.data_files("failed")
    earlier = before.received_on - timedelta(days=9)
    with database.writing(site.settings) as connection:
        connection.execute(update(lake_files).values(received_on=earlier))
    site.land("generic", "more.csv", (HEADER + attempt("third")).encode())
    site.night()
    assert {file.received_on for file in site.data_files("answered")} == {earlier, before.received_on}


def test_a_row_that_goes_over_is_as_if_it_had_come_with_its_call(together):
    """The index has all that the part tells, in the same grain."""
    site = together
    files = DataFiles(site.opened, "test")
    (file,) = site.data_files("answered")
    index = row_index.rows(files, "default", file.part, [n for n in ROW_INDEX.names if not n.endswith("_token")])
    at = row_index.places(files, file, index["record_id"])
    secret = files.workspace.keyring.key(row_index.id_key("answered", "default", file.part[:7])).secret
    rows = by_the_hour(index.take(pa.array(at)), secret, {})
    assert rows.equals(files.rows(file).cast(ANSWERED))
