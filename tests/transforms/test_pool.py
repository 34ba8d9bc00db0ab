"""Customers' trunks: assurance shows the site that they are at, in every part and table, and never the trunk."""

from datetime import UTC, datetime

import pytest

from callward.errors import Problem
from callward.settings import Account, Trunk
from pipelines.compact import compact
from pipelines.rebuild import rebuild
from schemas.tables import METADATA, assurance_durations_daily, assurance_erlangs_hourly
from tests import retention
from tests.conftest import MORNING

OWN = ("pbx-1", "pbx-2", "pbx-3")
TRUNKS = [
    Trunk(name="pbx-1", side="customer", site="denver"),
    Trunk(name="pbx-2", account="acct-0001", site="denver"),
    Trunk(name="pbx-3"),  # an account has it
    Trunk(name="vendor-1", carrier="vendor"),
]
ACCOUNTS = [Account(id="acct-0001", codes=[]), Account(id="acct-0002", codes=[], trunks=["pbx-3"])]
SHOWN = {"denver", "customers", "vendor-1"}
HEADER = (
    "record_id,call_id,leg,calling_number,called_number,start_time,answer_time,end_time,talk_ms,"
    "ingress_trunk,egress_trunk,disposition,cause_q850\n"
)
MARCH = datetime(2026, 3, 12, tzinfo=UTC)


def line(call, leg, trunk, out="vendor-1", *, answered, second=0):
    talk = 30 if answered else 0
    start = f"2026-03-05T10:{int(call) % 60:02}:{second:02}Z"
    end = f"2026-03-05T10:{int(call) % 60:02}:{second + talk:02}Z"
    ending = ",16" if answered else "network_failure,34"
    times = f"{start},{start if answered else ''},{end},{talk * 1000}"
    return f"{call}-{leg},{call},{leg},+13035550101,+17205550102,{times},{trunk},{out},{ending}\n"


FIRST = [line(str(n), 0, OWN[n % 3], answered=n % 2 == 0) for n in range(12)]
FIRST += [line("40", 1, "pbx-1", answered=False), line("41", 0, "vendor-1", "pbx-2", answered=True)]
FIRST += [line(str(n), 0, "pbx-1", answered=True) for n in range(100, 160)]  # enough for cells of their own
SECOND = [line("40", 0, "pbx-1", answered=True, second=5)]  # another route answered: that goes to `answered`


@pytest.fixture(scope="module")
def site(workspace, feed_source):
    made = workspace(feed_source("generic", declare={}), trunks=TRUNKS, accounts=ACCOUNTS)
    for name, lines in (("a", FIRST), ("b", SECOND)):
        made.land("generic", f"{name}.csv", (HEADER + "".join(lines)).encode())
        made.night(MORNING)
    assert not made.unbalanced()
    return made


def shown(site):
    """Trunks of the parts of assurance, and all words of the database's derived tables but those of billing."""
    parts = {
        name
        for part in ("failed", "answered")
        for column in ("trunk_in", "trunk_out")
        for name in site.view(part)[column].to_pylist()
    }
    derived = [table for table in METADATA.sorted_tables if table.schema == "assurance"]
    words = {str(value) for table in derived for row in site._rows(table) for value in row}
    return parts - {None}, words


def test_no_part_and_no_counter_names_a_customers_trunk(site):
    parts, words = shown(site)
    assert parts == SHOWN
    assert words >= SHOWN and not words & set(OWN)
    assert site.differing() == 0


def test_what_closing_tells_and_rebuild_makes_are_of_sites_too(site, tmp_path):
    copy = retention.copied(site, tmp_path / "closed")
    copy.set(lake={"close_after_hours": 48.0})
    assert compact(copy.settings, now=MARCH.replace(tzinfo=None)).closed
    parts, words = shown(copy)
    assert parts <= SHOWN and not words & set(OWN)
    before = copy.derived()
    assert {row.trunk_in for row in copy._rows(assurance_durations_daily)} >= {"denver"}
    assert {row.trunk for row in copy._rows(assurance_erlangs_hourly)} >= {"denver"}
    rebuild(copy.settings, write=True)
    assert copy.derived() == before and copy.differing() == 0


def test_a_hold_finds_calls_by_the_customers_own_trunk(site, tmp_path):
    """In the index as long as it is there, and later in nothing: then a copy that another hold keeps stays whole."""
    copy = retention.copied(site, tmp_path / "held")
    windows = {**retention.WINDOWS, "billing_transaction": "9 years", "call_detail": "9 years"}
    retention.activate(copy, retention.policy_text(windows))
    first = retention.hold(copy, trunks=("pbx-3",))
    retention.purged(copy, datetime(2026, 5, 12).date())
    kept = sum(file.rows for file in copy.data_files("held-assurance"))
    assert kept == 4
    retention.hold(copy, trunks=("vendor-2",))  # which the settings do not list: whose it was cannot be told
    retention.release(copy, first)
    retention.purged(copy, datetime(2026, 5, 13).date())
    assert sum(file.rows for file in copy.data_files("held-assurance")) == kept


@pytest.mark.parametrize(
    ("trunks", "words"),
    [
        ([Trunk(name="a", site="b"), Trunk(name="b")], "is a trunk's name"),
        ([Trunk(name="a", side="network", site="c")], "only a customer's trunk"),
    ],
)
def test_a_site_that_would_be_taken_for_a_trunk_is_refused(workspace, trunks, words):
    with pytest.raises((Problem, ValueError), match=words):
        workspace("generic", trunks=trunks)
