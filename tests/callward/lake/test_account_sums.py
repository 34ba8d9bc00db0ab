"""Sums by account: what commits add is what they come to, and a database without the root tells of no account."""

from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from callward import database, initiate
from callward.keys import rotation
from callward.keys.register import Keyring
from callward.keys.seal import SealBroken
from callward.lake import account_sums, ledger
from callward.lake.account_sums import FOLDED_AT, SCHEMA
from callward.lake.additive import sum_derived
from callward.lake.ledger import Changes
from schemas.tables import METADATA, sla_account_daily, sla_sums, sum_columns
from tests.altered import altered
from tests.postgresql import new_database, on_loopback
from tests.retention import night

DAYS = (date(2026, 3, 5), date(2026, 3, 6), date(2026, 4, 1))
SUMS = sum_columns(sla_account_daily)
KEYED = {"tenant": "default", "region": "", "mos_method": ""}
ROWS = st.tuples(st.sampled_from(["acct-1", "acct-2", "acct-3"]), st.sampled_from(DAYS), st.integers(1, 9))


@pytest.fixture(scope="module")
def site(workspace):
    return workspace("generic")


@pytest.fixture
def keyring(site):
    """The service's keys, with nothing added to any day."""
    with database.writing(site.settings) as connection:
        connection.execute(sla_sums.delete())
    return Keyring(site.settings, "billing-run", "test")


def rows(*of, sign=1):
    """Sums of (account, day, attempts)."""
    made = [
        dict.fromkeys(SUMS, 0) | {**KEYED, "account": a, "call_date": day, "attempts": sign * n} for a, day, n in of
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def add(site, keyring, table):
    sealed = account_sums.sealed(site.settings, keyring, sum_derived(sla_account_daily, [table]))
    with database.writing(site.settings) as connection:
        assert account_sums.put(connection, sealed)


def attempts(site, keyring):
    return {
        (r["account"], r["call_date"]): r["attempts"] for r in account_sums.read(site.settings, keyring).to_pylist()
    }


def batches(site):
    with database.reading(site.settings) as connection:
        return list(connection.execute(select(sla_sums)))


@given(st.lists(st.tuples(st.lists(ROWS, min_size=1, max_size=6), st.booleans()), max_size=6))
def test_what_commits_add_and_take_away_is_what_is_there(site, commits):
    with database.writing(site.settings) as connection:
        connection.execute(sla_sums.delete())
    keyring, expected = site.opened.keyring, {}
    for added, taken_again in commits:
        add(site, keyring, rows(*added))
        if taken_again:
            add(site, keyring, rows(*added, sign=-1))
            continue
        for account, day, n in added:
            expected[account, day] = expected.get((account, day), 0) + n
    assert attempts(site, keyring) == expected


def test_an_account_whose_sums_are_taken_away_is_in_no_batch(site, keyring):
    both = [("acct-gone", DAYS[0], 3), ("acct-stays", DAYS[0], 4)]
    add(site, keyring, rows(*both))
    add(site, keyring, rows(("acct-stays", DAYS[0], 1)))
    add(site, keyring, rows(both[0], sign=-1))
    names = [account_sums._opened(keyring, row)["account"].to_pylist() for row in batches(site)]
    assert names == [["acct-stays"]]
    assert attempts(site, keyring) == {("acct-stays", DAYS[0]): 5}


def test_many_commits_of_a_date_become_one_batch(site, keyring):
    for _ in range(FOLDED_AT + 2):
        add(site, keyring, rows(("acct-1", DAYS[0], 1)))
    assert len(batches(site)) == 2
    assert attempts(site, keyring) == {("acct-1", DAYS[0]): FOLDED_AT + 2}


def test_of_two_commits_that_fold_the_same_batches_one_is_refused(site, keyring):
    add(site, keyring, rows(("acct-1", DAYS[0], 5)))
    one, other = (account_sums.sealed(site.settings, keyring, rows(("acct-1", DAYS[0], -1))) for _ in range(2))
    with database.writing(site.settings) as connection:
        assert account_sums.put(connection, one)
    with database.writing(site.settings) as connection:
        assert not account_sums.put(connection, other)


@pytest.mark.parametrize("change", ["sealed", "call_date", "tenant"])
def test_a_batch_that_was_altered_or_moved_is_refused(site, keyring, change):
    add(site, keyring, rows(("acct-1", DAYS[0], 5)))
    (row,) = batches(site)
    other = {"sealed": altered(row.sealed), "call_date": DAYS[1], "tenant": "other"}[change]
    with database.writing(site.settings) as connection:
        connection.execute(update(sla_sums).values({change: other}))
    with pytest.raises(SealBroken):
        account_sums.read(site.settings, keyring)


def test_a_month_whose_key_is_destroyed_gets_nothing_more(workspace):
    site = workspace("generic")
    keyring = site.opened.keyring
    added = rows(("acct-1", DAYS[0], 5))
    late = account_sums.sealed(site.settings, keyring, added)
    rotation.destroy(site.settings, [late.batches[0].key_id], role="test", reason="test")
    with database.writing(site.settings) as connection:
        assert not account_sums.put(connection, late)
    assert account_sums.sealed(site.settings, Keyring(site.settings, "test", "test"), added).batches == []


def test_sums_by_account_are_not_committed_in_the_clear(site, keyring):
    changes = Changes(derived={sla_account_daily.name: [rows(("acct-1", DAYS[0], 5))]})
    with database.writing(site.settings) as connection, pytest.raises(AssertionError, match="in the clear"):
        ledger.commit(connection, "run", 0, changes)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_table_of_the_database_but_billings_names_an_account(workspace, request, kind):
    on = {}
    if kind == "postgresql":
        on["database"] = on_loopback(new_database(request.getfixturevalue("server_url")))
    site = workspace("generic", **on)
    initiate.upgrade(site.settings)
    night(site)
    assert site.account_sums() and site.differing() == 0
    with database.reading(site.settings) as connection:
        naming = {
            t.name for t in METADATA.sorted_tables if any("acct-0007" in str(r) for r in connection.execute(select(t)))
        }
        assert connection.scalar(select(func.count()).select_from(sla_sums)) == 1
    assert naming == {"billing_usage_daily"}
