"""The ledger: books that balance or do not commit, and commits that count once or not at all."""

from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from callward import database, runs
from callward.errors import Problem
from callward.keys import rotation
from callward.keys.register import KeyName, keyring
from callward.lake import ledger
from callward.lake.ledger import Changes, CommitConflict, DataFile, Unbalanced
from schemas.cdr import LINEAGE_FIELDS
from schemas.codes import Bucket
from schemas.tables import assurance_trunk_hourly_cause as causes
from schemas.tables import billing_usage_daily, lake_files, ledger_entries, partitions

LINEAGE = pa.schema(LINEAGE_FIELDS)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "file_no": st.integers(1, 3),
            "carried_ms": st.one_of(st.none(), st.integers(0, 9999)),
            "was": st.just(""),
            "was_ms": st.none(),
        }
    ),
    max_size=20,
)


def table(rows):
    return pa.Table.from_pylist(rows, schema=LINEAGE)


def file_of(name, view="assurance", part="2026-03-05", **more):
    return DataFile(name, view, "default", part, f"{view}/{name}", 1, 1, "0" * 64, **more)


@pytest.fixture
def site(workspace):
    return workspace("asterisk")


@pytest.fixture
def run_id(site):
    return runs.start(site.settings, "nightly", ["source/asterisk"])


def commit(site, run_id, outcome, wave=0):
    with database.writing(site.settings) as connection:
        return ledger.commit(connection, run_id, wave, outcome)


# -- balance ---------------------------------------------------------------------------------------------------------


@given(rows=RECORDS, data=st.data())
def test_records_put_into_any_buckets_balance_and_one_lost_does_not(rows, data):
    buckets = data.draw(st.lists(st.sampled_from(list(Bucket)), min_size=len(rows), max_size=len(rows)))
    put = [e for row, bucket in zip(rows, buckets, strict=True) for e in ledger.entries(table([row]), bucket)]
    ledger.check_balance(ledger.sum_entries([ledger.read_entries(table(rows)), *put]))
    if rows:
        with pytest.raises(Unbalanced):
            ledger.check_balance(ledger.sum_entries([ledger.read_entries(table(rows)), *put[1:]]))


@given(
    rows=RECORDS.filter(bool), was=st.sampled_from(["pending", "accepted", "TIME", "PARTIAL"]), talk=st.integers(0, 99)
)
def test_what_moves_leaves_its_bucket_and_talk_that_is_new_was_read(rows, was, talk):
    before = [
        {**row, "was": was, "was_ms": row["carried_ms"], "carried_ms": (row["carried_ms"] or 0) + talk} for row in rows
    ]
    moved = ledger.sum_entries(ledger.entries(table(before), Bucket.MERGED))
    ledger.check_balance(moved)
    sums = {}
    for row in moved.to_pylist():
        rows_, talk_ = sums.get((row["bucket"], row["code"]), (0, 0))
        sums[row["bucket"], row["code"]] = (rows_ + row["rows"], talk_ + row["talk_ms"])
    left = (was, "") if was in list(Bucket) else ("suspended", was)
    carried = sum(row["carried_ms"] or 0 for row in rows)
    assert sums[left] == (-len(rows), -carried)
    assert sums["merged", ""] == (len(rows), carried + talk * len(rows))
    assert sums["in", ""] == (0, talk * len(rows))


def test_talk_alone_can_be_out_of_balance_and_paired_talk_is_apart():
    read = pa.Table.from_pylist(
        [{"file_no": 1, "bucket": "in", "code": "", "rows": 1, "talk_ms": 5}], schema=ledger.ENTRIES
    )
    kept = pa.Table.from_pylist(
        [{"file_no": 1, "bucket": "accepted", "code": "", "rows": 1, "talk_ms": 4}], schema=ledger.ENTRIES
    )
    paired = pa.Table.from_pylist(
        [{"file_no": 1, "bucket": "paired", "code": "", "rows": 0, "talk_ms": 99}], schema=ledger.ENTRIES
    )
    with pytest.raises(Unbalanced):
        ledger.check_balance(pa.concat_tables([read, kept]))
    fixed = kept.set_column(4, "talk_ms", pa.array([5], pa.int64()))
    ledger.check_balance(pa.concat_tables([read, fixed, paired]))


def test_files_do_not_cover_for_one_another():
    rows = [("in", 1, 1), ("accepted", 2, 1)]
    made = pa.Table.from_pylist(
        [{"file_no": f, "bucket": b, "code": "", "rows": n, "talk_ms": 0} for b, f, n in rows], schema=ledger.ENTRIES
    )
    with pytest.raises(Unbalanced):
        ledger.check_balance(made)


# -- commits ---------------------------------------------------------------------------------------------------------


def books(rows, bucket="accepted"):
    records = table(rows)
    return [ledger.read_entries(records), *ledger.entries(records, bucket)]


ONE = [{"file_no": 1, "carried_ms": 10, "was": ""}]


def counted(site, what):
    with database.reading(site.settings) as connection:
        return connection.execute(select(func.count()).select_from(what)).scalar()


def test_an_unbalanced_wave_leaves_nothing(site, run_id):
    cause = pa.table(
        {
            "tenant": ["t"],
            "hour": pa.array([0], pa.timestamp("us")),
            "side": ["ingress"],
            "trunk": ["x"],
            "kind": ["sip"],
            "cause": [200],
            "count": [1],
        }
    )
    lost = Changes(files=[file_of("a")], entries=books(ONE)[:1], derived={causes.name: [cause]})
    with pytest.raises(Unbalanced):
        commit(site, run_id, lost)
    assert (counted(site, lake_files), counted(site, ledger_entries), counted(site, causes)) == (0, 0, 0)
    commit(site, run_id, replace(lost, entries=books(ONE)))
    assert (counted(site, lake_files), counted(site, ledger_entries), counted(site, causes)) == (1, 2, 1)


def test_a_commit_that_read_an_older_version_is_refused(site, run_id):
    part = ("default", "2026-03-05")
    first = Changes(files=[file_of("a")], entries=books(ONE), read={part: 0})
    commit(site, run_id, first)
    with pytest.raises(CommitConflict):
        commit(site, run_id, Changes(files=[file_of("b")], entries=books(ONE), read={part: 0}), 1)
    assert counted(site, lake_files) == 1
    commit(site, run_id, Changes(files=[file_of("b")], entries=books(ONE), read={part: 1}), 1)
    with database.reading(site.settings) as connection:
        assert ledger.versions(connection, *("default", [part[1], "2026-03-06"])) == {
            part: 2,
            ("default", "2026-03-06"): 0,
        }
        assert sorted(file.file_id for file in ledger.files(connection, view="assurance")) == ["a", "b"]


def test_a_file_is_superseded_once(site, run_id):
    commit(site, run_id, Changes(files=[file_of("a")], entries=books(ONE)))
    gone = {"a": ("default", "2026-03-05")}
    commit(site, run_id, Changes(files=[file_of("b")], superseded=gone), 1)
    with pytest.raises(CommitConflict):
        commit(site, run_id, Changes(files=[file_of("c")], superseded=gone), 2)
    with database.reading(site.settings) as connection:
        assert [file.file_id for file in ledger.files(connection)] == ["b"]


@pytest.mark.parametrize("view", ["billing", "suspense", "archive", "held-billing"])
def test_a_file_under_a_key_that_was_destroyed_meanwhile_is_refused(site, run_id, view):
    """Nobody could read it ever again: whoever wrote it must do so anew."""
    names = [KeyName("suspense", "default", month, "records") for month in ("2026-01", "2026-02", "2026-03")]
    lost, kept, other = (key.key_id for key in keyring(site.settings, "test", "test").keys(names))
    outcome = Changes(
        files=[file_of("a", key_ids=other), file_of("b", view=view, key_ids=f"{kept} {lost}")], entries=books(ONE)
    )
    rotation.destroy(site.settings, [lost], role="test", reason="test")
    with pytest.raises(CommitConflict):
        commit(site, run_id, outcome)
    assert (counted(site, lake_files), counted(site, ledger_entries), counted(site, partitions)) == (0, 0, 0)
    commit(site, run_id, replace(outcome, files=[file_of("a", key_ids=other), file_of("b", view=view, key_ids=kept)]))
    assert (counted(site, lake_files), counted(site, ledger_entries)) == (2, 2)


def test_a_file_under_a_key_that_the_register_does_not_know_is_refused(site, run_id):
    with pytest.raises(CommitConflict):
        commit(site, run_id, Changes(files=[file_of("a", key_ids="0" * 32)]))
    assert counted(site, lake_files) == 0


def test_the_archive_raises_no_version(site, run_id):
    commit(site, run_id, Changes(files=[file_of("z", view="archive")], entries=books(ONE)))
    with database.reading(site.settings) as connection:
        assert ledger.versions(connection, "default", ["2026-03-05"]) == {("default", "2026-03-05"): 0}


def test_a_run_that_lost_its_lease_commits_nothing(site, run_id):
    runs.finish(site.settings, run_id, "failed")
    with pytest.raises(Problem, match="lease"):
        commit(site, run_id, Changes(files=[file_of("a")], entries=books(ONE)))
    assert counted(site, lake_files) == 0


def test_derived_differences_add_up_in_the_database(site, run_id):
    key = {
        "tenant": "t",
        "account": "a",
        "billing_date": date(2026, 3, 5),
        "direction": "d",
        "destination": "US",
    }

    def difference(calls, talk):
        return pa.Table.from_pylist([{**key, "calls": calls, "answered": calls, "talk_ms": talk, "billable_s": 1}])

    for wave, (calls, talk) in enumerate([(3, 100), (-1, -40)]):
        commit(
            site, run_id, Changes(derived={billing_usage_daily.name: [difference(calls, talk), difference(0, 0)]}), wave
        )
    (sums,) = site.derived()["billing_usage_daily"].values()
    assert sums == (2, 2, 60, 4)


def test_outcomes_that_read_different_versions_do_not_merge():
    part = ("default", "2026-03-05")
    merged = Changes.merge(
        [Changes(read={part: 3}, changed={1}), Changes(read={part: 3}, files=[file_of("a")], changed={2})]
    )
    assert merged.read == {part: 3} and merged.changed == {1, 2} and len(merged.files) == 1
    with pytest.raises(CommitConflict):
        Changes.merge([Changes(read={part: 3}), Changes(read={part: 4})])


@given(bits=st.integers(0, 6), other=st.integers(0, 6), call=st.integers(0, 63), far=st.integers(0, 63))
def test_shards_overlap_exactly_where_one_call_may_lie_in_both(bits, other, call, far):
    """A call of 6 leading bits lies in shard call >> (6 - bits), whatever number of bits a file was written with."""
    mine, theirs = call >> (6 - bits), far >> (6 - other)
    shared = any(c >> (6 - bits) == mine and c >> (6 - other) == theirs for c in range(64))
    assert file_of("a", shard_bits=other, shard=theirs).overlaps(bits, mine) is shared
