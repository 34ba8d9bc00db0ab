"""Figures of a stream: what the tables say, told again by pandas, whatever was registered and committed."""

import json
import math
from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from callward import database, runs
from callward.lake import ledger
from callward.lake.ledger import Changes
from callward.streaming import metrics as watching
from schemas.streaming import block_slices, kafka_inputs, stream_counts, streams
from schemas.tables import blocks, input_files, leases, ledger_entries
from schemas.tables import runs as runs_table
from tests.examples import tries

NOW = datetime(2026, 3, 5, 12)
LEASES = ["kafka/cdr-east", "source/asterisk"]
LATELY_S = 300
CODES = ["FIELD", "NUMBER", "TIME"]


@pytest.fixture(scope="module")
def site(workspace):
    return workspace("asterisk", "freeswitch", "cucm")


def start(site, held=LEASES, started_at=NOW - timedelta(hours=2), **more):
    """A stream that this process holds, with its row."""
    run_id = runs.start(site.settings, "stream", held)
    row = {"sources": json.dumps(held), "engine": "[local]", "started_at": started_at}
    counters = {"commits": 3, "retries": 1, "rows": 100, "suspended": 4}
    with database.writing(site.settings) as connection:
        connection.execute(insert(streams).values(run_id=run_id, **row, **{**counters, **more}))
    return run_id


@pytest.fixture(scope="module")
def run_id(site):
    return start(site)


@pytest.fixture
def connection(site):
    """A transaction that leaves nothing."""
    with database.engine(site.settings).connect() as made:
        change = made.begin()
        yield made
        change.rollback()


def a_file(connection, run_id, source, topic=None, partition=0, status="reading"):
    row = {"source": source, "name": "x", "name_sealed": b"", "name_id": "x", "size": 0, "modified_ns": 0}
    row |= {"status": status, "path_form": "kafka" if topic else "plain", "run_id": run_id, "seen_at": NOW}
    file_no = connection.execute(insert(input_files).values(**row)).inserted_primary_key[0]
    if topic:
        connection.execute(insert(kafka_inputs).values(file_no=file_no, topic=topic, partition=partition))
    return file_no


def a_block(connection, run_id, file_no, number, first, last, **more):
    row = {"oldest_at": NOW - timedelta(seconds=9), "bytes": 10, "registered_at": NOW - timedelta(seconds=5)}
    row |= {"generation": 1, **more}
    connection.execute(
        insert(blocks).values(file_no=file_no, block=number, first=first, last=last, run_id=run_id, **row)
    )


def a_slice(connection, run_id, file_no, block, number, rows, at):
    row = {"file_no": file_no, "block": block, "slice": number, "rows": rows, "committed_at": at}
    connection.execute(insert(block_slices).values(run_id=run_id, **row))


# -- any state of the tables, told by pandas ---------------------------------------------------------------------------

BLOCK = st.fixed_dictionaries(
    {
        "size": st.integers(1, 50),
        "bytes": st.integers(0, 9999),
        "age": st.integers(-5, 900),  # a clock may have been set back: from the future, too
        "slices": st.one_of(st.none(), st.integers(1, 4)),
        "committed": st.integers(0, 4),  # slices of it, as far as it has so many
        "commit_age": st.integers(0, 900),
        "rows": st.integers(0, 99),
        "night": st.booleans(),  # a block of a night that is at work: of no stream
    }
)
FILE = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["asterisk", "freeswitch", "cucm"]),
        "topic": st.sampled_from([None, "cdr-east", "cdr-west"]),
        "partition": st.integers(0, 1),
        "status": st.sampled_from(["reading", "reading", "reading", "changed", "unreadable"]),
        "blocks": st.lists(BLOCK, max_size=4),
    }
)


def lay(connection, run_id, described):
    """Write files and blocks as described. Offsets of a partition go on from file to file."""
    offsets = {}
    for item in described:
        topic = item["topic"]
        status = "reading" if topic else item["status"]
        file_no = a_file(connection, run_id, item["source"], topic, item["partition"], status)
        place = (topic, item["partition"]) if topic else file_no
        for number, block in enumerate(item["blocks"]):
            first = offsets.get(place, 0)
            offsets[place] = first + block["size"]
            lay_block(connection, run_id, file_no, number, first, block, topic is None and block["night"])


def lay_block(connection, run_id, file_no, number, first, block, of_night):
    slices = block["slices"]
    done = min(block["committed"], slices or 0)
    at = NOW - timedelta(seconds=block["age"])
    more = {"oldest_at": at, "registered_at": at, "bytes": block["bytes"], "slices": slices}
    if of_night:
        more = dict.fromkeys(more)
    more["committed_by"] = run_id if slices and done == slices else None
    a_block(connection, run_id, file_no, number, first, first + block["size"], **more)
    for slice_no in range(0 if of_night else done):
        at = NOW - timedelta(seconds=block["commit_age"])
        a_slice(connection, run_id, file_no, number, slice_no, block["rows"], at)


def told_by_pandas(connection, watermarks):
    """The same figures from whole tables, row by row where that is plainest."""
    tables = {t.name: pd.read_sql(select(t), connection) for t in (blocks, block_slices, input_files, kafka_inputs)}
    files = tables["input_files"].merge(tables["kafka_inputs"], on="file_no", how="left")
    files = files[(files.topic == "cdr-east") | (files.topic.isna() & (files.source == "asterisk"))]
    slices = tables["block_slices"]
    every = tables["blocks"].merge(files, on="file_no")
    waiting = every[every.committed_by.isna() & every.registered_at.notna() & every.status.eq("reading")]
    of_source = {}
    for source, some in waiting.groupby("source"):
        kept = slices.merge(some[some.slices.notna()][["file_no", "block"]], on=["file_no", "block"])
        of_source[source] = {
            "blocks": len(some),
            "unparsed": int(some.slices.isna().sum()),
            "bytes": int(some.bytes.sum()),
            "slices": int(some.slices.fillna(0).sum()) - len(kept),
            "freshness_s": max(0.0, (NOW - some.oldest_at.min()).total_seconds()),
        }
    of_partition = {}
    streamed = every[every.topic.notna()]
    for partition, some in streamed.groupby("partition"):
        left = some[some.committed_by.isna()]
        end = int(some["last"].max())
        committed = end if left.empty else int(left["first"].min())
        low, high = watermarks.get(("cdr-east", partition), (None, None))
        lag = None if high is None else max(0, high - max(low, committed))
        of_partition[partition] = (end, committed, lag, None if low is None else max(0, low - end))
    every_file = tables["input_files"].set_index("file_no").source
    late = slices[slices.committed_at > NOW - timedelta(seconds=LATELY_S)]
    lately = late.rows.groupby(late.file_no.map(every_file)).sum().to_dict()
    return of_source, of_partition, lately


@tries(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    described=st.lists(FILE, max_size=5),
    marks=st.dictionaries(st.integers(0, 2), st.tuples(st.integers(0, 120), st.integers(0, 300))),
)
def test_figures_are_what_pandas_makes_of_the_tables(site, run_id, described, marks):
    watermarks = {("cdr-east", partition): (min(pair), max(pair)) for partition, pair in marks.items()}
    with database.engine(site.settings).connect() as connection:
        change = connection.begin()
        lay(connection, run_id, described)
        found = watching.figures(connection, run_id, watermarks, now=NOW)
        waiting, partitions, lately = told_by_pandas(connection, watermarks)
        change.rollback()
    nothing = {"blocks": 0, "unparsed": 0, "bytes": 0, "slices": 0, "freshness_s": 0.0}
    for of in found.sources:
        assert {name: getattr(of, name) for name in nothing} == waiting.pop(of.source, nothing)
        assert math.isclose(of.rows_per_second * LATELY_S, lately.pop(of.source, 0), abs_tol=1e-6)
    assert waiting == {} and lately == {}
    offsets = {p.partition: (p.next_offset, p.committed_offset, p.lag, p.missed) for p in found.partitions}
    unread = {n: (None, None, max(pair) - min(pair), None) for n, pair in marks.items() if n not in partitions}
    assert offsets == partitions | unread
    assert {p.topic for p in found.partitions} <= {"cdr-east"}


# -- counters of commits -----------------------------------------------------------------------------------------------

ENTRY = st.tuples(
    st.integers(0, 2),
    st.sampled_from([("in", ""), ("accepted", ""), *(("suspended", c) for c in CODES)]),
    st.integers(-9, 9),
)


@tries(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=st.lists(st.lists(ENTRY, max_size=6), max_size=4))
def test_counters_add_up_what_commits_put_into_buckets(site, run_id, commits):
    with database.engine(site.settings).connect() as connection:
        change = connection.begin()
        sources = ["asterisk", "freeswitch", "asterisk"]
        file_nos = [a_file(connection, run_id, source) for source in sources]
        made = []
        for number, entries in enumerate(commits):
            rows = [
                {"file_no": file_nos[f], "bucket": b, "code": c, "rows": n, "talk_ms": 0} for f, (b, c), n in entries
            ]
            summed = ledger.sum_entries([ledger.pa.Table.from_pylist(rows, schema=ledger.ENTRIES)])
            watching.count(connection, run_id, ledger.counted(connection, summed))
            made += [{**row, "commit": number} for row in summed.to_pylist()]
        found = watching.figures(connection, run_id, now=NOW)
        change.rollback()
    frame = pd.DataFrame(made, columns=["file_no", "bucket", "code", "rows", "commit"])
    frame["source"] = frame.file_no.map(dict(zip(file_nos, sources, strict=True)))
    put = frame[frame.rows > 0].groupby(["source", "bucket", "code"]).rows.sum().to_dict()
    assert {of.source: of.rows for of in found.sources if of.rows} == {
        s: n for (s, b, _), n in put.items() if b == "in"
    }
    suspended = {(of.source, code): n for of in found.sources for code, n in of.suspended.items()}
    assert suspended == {(s, c): n for (s, b, c), n in put.items() if b == "suspended"}


def test_a_real_commit_is_counted_with_it_and_not_without(site, run_id):
    """Counted in the transaction of ledger.commit: what a commit wrote and what the counters say go together."""
    with database.writing(site.settings) as connection:
        file_no = a_file(connection, run_id, "asterisk")
    row = {"file_no": file_no, "carried_ms": 5, "was": "", "was_ms": None}
    read = ledger.pa.Table.from_pylist([row] * 3, schema=ledger.pa.schema(ledger_lineage()))
    books = [ledger.read_entries(read), *ledger.entries(read.slice(0, 2), "accepted")]
    books += ledger.entries(read.slice(2), "suspended", ledger.pa.array(["TIME"]))
    with pytest.raises(RuntimeError), database.writing(site.settings) as connection:
        summed = ledger.commit(connection, run_id, 0, Changes(entries=books))
        watching.count(connection, run_id, ledger.counted(connection, summed))
        raise RuntimeError
    with database.writing(site.settings) as connection:
        summed = ledger.commit(connection, run_id, 0, Changes(entries=books))
        watching.count(connection, run_id, ledger.counted(connection, summed))
    with database.reading(site.settings) as connection:
        counted = pd.read_sql(select(stream_counts), connection)
        entries = pd.read_sql(select(ledger_entries), connection)
    key = ["run_id", "bucket", "code"]
    assert counted.groupby(key).rows.sum().to_dict() == entries.groupby(key).rows.sum().to_dict()
    assert counted.rows.sum() == 6
    with database.writing(site.settings) as connection:
        for table in (stream_counts, ledger_entries, input_files):
            connection.execute(delete(table))


def ledger_lineage():
    from schemas.cdr import LINEAGE_FIELDS

    return LINEAGE_FIELDS


# -- promises one by one -----------------------------------------------------------------------------------------------


def test_what_the_broker_does_not_say_is_unknown_and_never_zero(connection, run_id):
    file_no = a_file(connection, run_id, "asterisk", "cdr-east", 3)
    a_block(connection, run_id, file_no, 0, 0, 50, committed_by=run_id, slices=1)
    (away,) = watching.figures(connection, run_id, now=NOW).partitions
    assert (away.next_offset, away.committed_offset, away.lag, away.missed) == (50, 50, None, None)
    (there,) = watching.figures(connection, run_id, {("cdr-east", 3): (0, 50)}, now=NOW).partitions
    assert (there.lag, there.missed) == (0, 0)


def test_messages_that_the_broker_deleted_unread_are_missed_and_do_not_lag(connection, run_id):
    file_no = a_file(connection, run_id, "asterisk", "cdr-east", 3)
    a_block(connection, run_id, file_no, 0, 0, 50, committed_by=run_id, slices=1)
    (of,) = watching.figures(connection, run_id, {("cdr-east", 3): (80, 100)}, now=NOW).partitions
    assert (of.lag, of.missed) == (20, 30)


def test_two_sources_in_one_partition_hold_its_committed_offset_together(connection, run_id):
    east, west = (a_file(connection, run_id, source, "cdr-east", 0) for source in ("asterisk", "cucm"))
    a_block(connection, run_id, east, 0, 0, 50, committed_by=run_id, slices=1)
    a_block(connection, run_id, west, 0, 0, 50)
    a_block(connection, run_id, east, 1, 50, 90, committed_by=run_id, slices=1)
    (of,) = watching.figures(connection, run_id, now=NOW).partitions
    assert (of.next_offset, of.committed_offset) == (90, 0)


def test_yesterdays_file_may_hold_the_last_block(connection, run_id):
    """A clock set back over midnight: the newest file is not the one that was written last."""
    yesterday, today = (a_file(connection, run_id, "asterisk", "cdr-east", 0) for _ in range(2))
    a_block(connection, run_id, today, 0, 0, 50)
    a_block(connection, run_id, yesterday, 0, 50, 70)
    (of,) = watching.figures(connection, run_id, now=NOW).partitions
    assert of.next_offset == 70


def test_a_stream_lists_its_sources_before_they_send_anything(connection, run_id):
    assert [of.source for of in watching.figures(connection, run_id, now=NOW).sources] == ["asterisk"]


def test_states(site):
    """Running while its process lives and holds its leases; dead when not; and what it says of itself at its end."""

    def state():
        with database.reading(site.settings) as connection:
            return watching.figures(connection, run_id, now=NOW).state

    def change(table, **values):
        with database.writing(site.settings) as connection:
            connection.execute(update(table).where(table.c.run_id == run_id).values(**values))

    run_id = start(site, ["source/cucm"])
    assert state() == "running"
    change(streams, stop_requested_at=NOW)
    assert state() == "stopping"
    change(leases, process_start="another process of this number")
    assert state() == "dead"
    change(runs_table, status="dead")  # another run has taken its lease
    assert state() == "dead"
    change(runs_table, status="failed")
    assert state() == "failed"
    change(runs_table, status="done")
    change(streams, stopped_at=NOW)
    assert state() == "stopped"
    with database.writing(site.settings) as connection:
        connection.execute(delete(leases).where(leases.c.run_id == run_id))


def test_those_that_should_run_are_watched_else_the_last(workspace):
    site = workspace("asterisk", "cucm")

    def watched():
        with database.reading(site.settings) as connection:
            return watching.watched(connection)

    assert watched() == []
    first = start(site, ["source/asterisk"], NOW - timedelta(days=2))
    second = start(site, ["source/cucm"], NOW - timedelta(days=1))
    assert watched() == [second, first]
    for run_id in (first, second):
        with database.writing(site.settings) as connection:
            connection.execute(update(streams).where(streams.c.run_id == run_id).values(stopped_at=NOW))
        runs.finish(site.settings, run_id, "done")
    assert watched() == [second]
    with database.reading(site.settings) as connection:
        assert watching.figures(connection, "nosuchrun") is None
