"""Records that come after a window of theirs is past: written where they still may be, counted where they may not.

A date's clock starts with the longest call that is admitted (31 days), so the windows here run from 2026-04-05.
"""

from datetime import UTC, date, datetime, timedelta

import pyarrow.compute as pc
import pytest
from sqlalchemy import select

from callward import database
from schemas.cdr import LONGEST_CALL_DAYS
from schemas.retention import row_ends
from schemas.tables import keys
from schemas.views import BILLING_NUMBERS
from tests import retention
from tests.examples import some

DAY = date(2026, 3, 5)
CLOCK = DAY + timedelta(days=LONGEST_CALL_DAYS)
WINDOWS = {"assurance_metrics": "10 days", "call_detail": "1 month", "billing_transaction": "4 months"}
OPEN = CLOCK + timedelta(days=10)  # the last day of the assurance window
WITHOUT_ASSURANCE = OPEN + timedelta(days=1)
WITHOUT_NUMBERS = date(2026, 5, 6)
EXPIRED = date(2026, 8, 6)

HEADER = "id,calling_number,called_number,start_time,answer_time,end_time,talk_ms\n"


def line(number: int, talk: int = 60, answered: bool = True) -> str:
    start = datetime(2026, 3, 5, 12, tzinfo=UTC) + timedelta(seconds=number)
    end = start + timedelta(seconds=talk if answered else 20)
    stamps = f"{start:%FT%TZ},{f'{start:%FT%TZ}' if answered else ''},{end:%FT%TZ}"
    return f"id-{number},+13035550101,+13035550102,{stamps},{talk * 1000 if answered else 0}\n"


FEED = (HEADER + "".join(line(n) for n in range(4)) + line(4, answered=False)).encode()


@pytest.fixture
def site(workspace):
    return workspace("generic", retention=WINDOWS)


def night(site, on: date, name: str = "a.csv", data: bytes = FEED):
    site.land("generic", name, data)
    done = site.night(int(datetime(on.year, on.month, on.day, 6, tzinfo=UTC).timestamp() * 1000))
    assert not site.unbalanced()
    assert site.differing() == 0
    return done


def bucket(site, name: str, code: str = "") -> int:
    return site.entries().get((name, code), (0, 0))[0]


def states(site) -> dict[tuple[str, str, str], str]:
    with database.reading(site.settings) as connection:
        return {(k.domain, k.month, k.purpose): k.state for k in connection.execute(select(keys))}


def test_on_the_last_day_of_its_window_a_record_is_taken_whole(site):
    night(site, OPEN)
    assert (site.view("assurance").num_rows, site.view("billing").num_rows) == (5, 4)
    assert site.view("billing")["called_number"].null_count == 0


def test_after_the_assurance_window_only_what_is_billed_is_kept(site):
    night(site, WITHOUT_ASSURANCE)
    assert (site.view("assurance").num_rows, site.view("billing").num_rows) == (0, 4)
    assert site.view("billing")["called_number"].null_count == 0
    assert (bucket(site, "accepted"), bucket(site, "filtered", "EXPIRED")) == (4, 1)
    with database.reading(site.settings) as connection:
        never = [(row.view, row.end, row.rows) for row in connection.execute(select(row_ends))]
    assert never == [("assurance", "expired", 4)]


def test_after_the_call_detail_window_the_amounts_are_kept_without_numbers(site):
    night(site, WITHOUT_NUMBERS)
    billing = site.view("billing")
    assert billing.num_rows == 4
    assert all(billing[name].null_count == 4 for name in BILLING_NUMBERS)
    assert pc.sum(billing["talk_ms"]).as_py() == 240_000
    assert [file.numbers for file in site.data_files("billing")] == [False]


def test_after_every_window_nothing_is_written_and_no_key_made(site):
    before = states(site)
    night(site, EXPIRED)
    assert (site.view("assurance").num_rows, site.view("billing").num_rows) == (0, 0)
    assert bucket(site, "filtered", "EXPIRED") == 5
    made = {name for name in states(site) if name not in before and name[1] == "2026-03"}
    assert made == set()


@pytest.mark.parametrize("on", [WITHOUT_ASSURANCE, WITHOUT_NUMBERS])
def test_a_redelivery_after_the_assurance_window_is_known_by_the_billing_row(site, on):
    night(site, on)
    rows = site.view("billing")
    night(site, on, "b.csv")
    assert site.view("billing").equals(rows)
    assert (bucket(site, "accepted"), bucket(site, "duplicate"), bucket(site, "filtered", "EXPIRED")) == (4, 4, 2)


@pytest.mark.parametrize(
    ("on", "order"),
    some(
        [
            (WITHOUT_NUMBERS, [90, 60]),
            (WITHOUT_ASSURANCE, [60, 90]),
            (WITHOUT_NUMBERS, [60, 90]),
            (WITHOUT_ASSURANCE, [90, 60]),
        ],
        of=2,
    ),
)
def test_two_versions_of_different_charge_are_held_in_any_order(site, on, order):
    for name, talk in zip(("a.csv", "b.csv"), order, strict=True):
        night(site, on, name, (HEADER + line(1, talk)).encode())
    assert site.view("billing").num_rows == 0
    assert (bucket(site, "accepted"), bucket(site, "suspended", "HELD")) == (0, 2)


def test_a_night_over_open_and_closed_days_takes_each_as_it_may(site):
    later = line(9).replace("2026-03-05", "2026-03-20")
    night(site, WITHOUT_ASSURANCE, data=FEED + later.encode())
    assert (site.view("assurance").num_rows, site.view("billing").num_rows) == (1, 5)


def test_an_account_with_a_shorter_window_of_its_own_comes_late_without_numbers(site):
    windows = {**WINDOWS, "assurance_metrics": "3 months"}
    retention.activate(site, retention.policy_text(windows, subscribers={"acct-0007": "10 days"}))
    night(site, WITHOUT_ASSURANCE, data=retention.FEED)
    rows = [(row["account"], row["calling_number"]) for row in site.view("billing").to_pylist()]
    assert {number for account, number in rows if account == "acct-0007"} == {None}
    assert {number for account, number in rows if account != "acct-0007"} == {retention.CALLER}
    token = site.view("billing").filter(pc.equal(site.view("billing")["account"], "acct-0007"))["calling_token"]
    assert token.null_count == len(token) == 1
