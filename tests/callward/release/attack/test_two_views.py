"""Linkage of today's two views: what is compared links more, what is coarser links less, and mistakes are counted."""

import numpy as np
import pyarrow as pa
import pytest

from callward.release.attack import population
from callward.release.attack.two_views import Views, linkages, measured
from pipelines.attack.run import made_up_views
from schemas.cdr import TIMESTAMP

CARRIERS = {"north-1": "north", "north-2": "north", "south-1": "south"}


def views(start_ms, talk_ms, trunks, truth=None, ring_s=7, tokens=None, commit=None):
    """Calls as both views hold them."""
    count = len(start_ms)
    start, talk = np.array(start_ms), np.array(talk_ms)
    here, ring = np.arange(count), np.full(count, ring_s)
    billing = pa.table(
        {
            "source": ["s"] * count,
            "account": [f"a{n}" for n in here],
            "carrier_in": [CARRIERS[trunk] for trunk in trunks],
            "carrier_out": pa.nulls(count, pa.string()),
            "start": pa.array(start).view(TIMESTAMP),
            "answer": pa.array(start + 2_400 + 1000 * ring + 300).view(TIMESTAMP),
            "talk_ms": talk,
        }
    )
    assurance = pa.table(
        {
            "source": ["s"] * count,
            "account_token": pa.array(tokens or [None] * count, pa.string()),
            "trunk_in": trunks,
            "trunk_out": pa.nulls(count, pa.string()),
            "start": pa.array(start // 60_000 * 60_000).view(TIMESTAMP),
            "ring_s": ring,
            "talk_s": (talk + 5999) // 6000 * 6,
            "pdd_ms": pa.array([2_400] * count),
            "disposition": ["answered"] * count,
        }
    )
    return Views.of(billing, assurance, CARRIERS, (here, here if truth is None else np.array(truth)), commit)


def shares(found):
    return [round(one.linked, 3) for one in linkages(found)][:4]


def test_each_thing_compared_links_more():
    """Two calls of a minute and as long, on two carriers; two told apart by their talk; one alone in its minute."""
    start = [60_000, 61_000, 120_000, 121_000, 600_000]
    talk = [6_000, 5_000, 6_000, 90_000, 6_000]
    trunks = ["north-1", "south-1", "north-1", "north-2", "north-1"]
    assert shares(views(start, talk, trunks)) == [0.2, 0.6, 1.0, 1.0]


def test_ringing_tells_apart_what_nothing_else_does():
    start, talk, trunks = [60_000, 61_000], [6_000, 6_000], ["north-1", "north-2"]
    assert shares(views(start, talk, trunks, ring_s=[7, 3]))[2:] == [0, 1]
    assert shares(views(start, talk, trunks, ring_s=[7, 7]))[2:] == [0, 0]


def test_a_row_that_fits_alone_and_is_anothers_is_a_mistake():
    found = linkages(views([60_000, 600_000], [6_000, 6_000], ["north-1", "north-1"], truth=[0, 9]))
    assert (found[0].linked, found[0].mistaken, found[0].accounts) == (0.5, 0.5, 0.5)


def test_trunks_that_other_tables_teach_link_what_carriers_do_not():
    """Two calls that are alike but for the trunk, of one carrier."""
    found = measured(views([60_000, 61_000], [6_000, 6_000], ["north-1", "north-2"]))
    assert [tables[0].linked for tables in (found.alone, found.jointly)] == [0, 1]
    assert [(one.role, one.rows, one.holds) for one in found.verdicts] == [("assurance", 1, False)]


def test_files_of_one_commit_link_calls_that_are_alike():
    alike = ([60_000, 60_000], [6_000, 6_000], ["north-1", "north-1"])
    commits = np.array([5, 8])
    found = measured(views(*alike, commit=(commits, commits)))
    assert [one.linked for one in found.alone[:2]] == [0, 1]
    assert found.alone[1].compared == "… and files of one commit"


def test_files_that_were_made_anew_tell_no_commit():
    alike = ([60_000, 60_000], [6_000, 6_000], ["north-1", "north-1"])
    found = measured(views(*alike, commit=(np.array([5, 8]), np.array([9, 9]))))
    assert all("commit" not in one.compared for one in found.alone)


def test_an_account_is_known_by_hours_that_are_its_own():
    """Three accounts with a call each, two of them in one hour, under tokens."""
    found = measured(views([0, 0, 3_600_000], [6_000] * 3, ["north-1"] * 3, tokens=["x", "y", "z"]))
    accounts = {one.compared: one.accounts for one in found.alone}
    assert accounts["accounts: answered in an hour"] == pytest.approx(1 / 3)
    assert accounts["accounts: answered in a day"] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_made_up_traffic_links_less_where_assurance_is_coarser(seed):
    found = [one.linked for one in linkages(made_up_views(population.scene(seed, 50_000).traffic))]
    assert found[:4] == sorted(found[:4]) and found[3] > 0.9
    assert found[4:] == sorted(found[4:], reverse=True) and found[-1] < 0.05
