"""stream status: what scripts get as an exit code, and what a person reads."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import insert, update

from callward import database, runs
from pipelines import terminal
from pipelines.reports.stream import StatusReport
from pipelines.stream import status as stream_status
from schemas.streaming import kafka_inputs, streams
from schemas.tables import blocks, input_files, leases

HELD = ["kafka/cdr-east", "source/asterisk"]


@pytest.fixture
def site(workspace):
    return workspace("asterisk")


def begin(site, held=HELD, **more):
    run_id = runs.start(site.settings, "stream", held)
    row = {"sources": json.dumps(held), "engine": "[local]", "started_at": database.now() - timedelta(minutes=10)}
    counters = {"commits": 90, "retries": 0, "rows": 40, "suspended": 3}
    with database.writing(site.settings) as connection:
        connection.execute(insert(streams).values(run_id=run_id, **{**row, **counters, **more}))
    return run_id


def wait(site, run_id, seconds):
    """A block that is not committed, whose oldest record came so long ago."""
    now = database.now()
    file = {"source": "asterisk", "name": "x", "name_sealed": b"", "name_id": "x", "size": 0, "modified_ns": 0}
    file |= {"status": "reading", "path_form": "kafka", "run_id": run_id, "seen_at": now}
    with database.writing(site.settings) as connection:
        file_no = connection.execute(insert(input_files).values(**file)).inserted_primary_key[0]
        connection.execute(insert(kafka_inputs).values(file_no=file_no, topic="cdr-east", partition=0))
        times = {"registered_at": now, "oldest_at": now - timedelta(seconds=seconds)}
        row = {
            "file_no": file_no,
            "block": 0,
            "first": 0,
            "last": 70,
            "run_id": run_id,
            "generation": 1,
            "bytes": 3 << 20,
        }
        connection.execute(insert(blocks).values(**row, **times))


def change(site, table, run_id, **values):
    with database.writing(site.settings) as connection:
        connection.execute(update(table).where(table.c.run_id == run_id).values(**values))


def seen(site, ask_broker=None):
    """(exit code, what a person must look at, what a person reads); the document is JSON, and in it nothing is lost."""
    report = StatusReport(stream_status.status(site.settings, ask_broker))
    document = json.loads(json.dumps(report.to_dict(), default=terminal.plain))
    text = "\n".join(map(str, report.render()))
    looks = [sentence for stream in document["streams"] for sentence in stream["look"]]
    assert all(sentence in text for sentence in looks)
    return report.exit_code, looks, text


def test_where_no_stream_has_run(site):
    code, looks, text = seen(site)
    assert (code, looks) == (1, []) and "no stream has run" in text


def test_a_stream_that_runs_and_is_fresh(site):
    wait(site, begin(site), site.settings.stream.fresh_seconds / 2)
    code, looks, text = seen(site, lambda: {("cdr-east", 0): (0, 100)})
    assert (code, looks) == (0, [])
    assert "running" in text and "asterisk" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("cdr-east")]
    assert row == ["cdr-east", "0", "70", "0", "100"]


def test_a_stream_that_is_behind(site):
    wait(site, begin(site), 2 * site.settings.stream.fresh_seconds)
    code, looks, _ = seen(site)
    assert code == 3 and "asterisk is behind" in looks[0] and "6 min" in looks[0]


@pytest.mark.parametrize(("commits", "retries", "code"), [(90, 9, 0), (90, 30, 3), (3, 3, 0), (1000, 100, 0)])
def test_many_retries_and_not_a_few_want_a_look(site, commits, retries, code):
    begin(site, commits=commits, retries=retries)
    assert seen(site)[0] == code


def test_a_stop_that_is_asked_for(site):
    begin(site, stop_requested_at=database.now())
    code, (look,), _ = seen(site)
    assert code == 3 and "a stop was asked for" in look


def test_a_supervisor_that_died(site):
    run_id = begin(site)
    wait(site, run_id, 1)
    change(site, leases, run_id, process_start="another process of this number")
    code, (died, left), _ = seen(site)
    assert code == 3 and "died" in died and "1 block read and not committed" in left


@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_stream_that_is_over_does_not_run(site, status):
    run_id = begin(site)
    change(site, streams, run_id, stopped_at=database.now(), reason="SIGTERM")
    runs.finish(site.settings, run_id, status)
    code, looks, text = seen(site)
    assert (code, looks) == (1, []) and "(SIGTERM)" in text


def test_of_two_streams_the_one_in_trouble_decides(site):
    begin(site, ["source/asterisk"])
    wait(site, begin(site, ["kafka/cdr-east"]), 2 * site.settings.stream.fresh_seconds)
    report = StatusReport(stream_status.status(site.settings))
    assert sorted(bool(stream.look) for stream in report.streams) == [False, True]
    assert report.exit_code == 3


def test_a_broker_that_is_away_is_said_and_its_lags_are_dashes(site):
    wait(site, begin(site), 1)
    code, looks, text = seen(site, lambda: 1 / 0)
    assert code == 3 and looks == ["the broker did not answer: lags are not known"]
    (row,) = [line.split() for line in text.splitlines() if line.startswith("cdr-east")]
    assert row == ["cdr-east", "0", "70", "0", "-"]


def test_messages_that_were_never_read_are_said(site):
    wait(site, begin(site), 1)
    code, (look,), _ = seen(site, lambda: {("cdr-east", 0): (95, 100)})
    assert code == 3 and "25 messages" in look and "before they were read" in look
