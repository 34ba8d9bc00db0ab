"""Linkage of the views: what is compared links more, what is coarser links less, and mistakes are counted as such."""

import numpy as np
import pyarrow as pa
import pytest

from callward.release.attack import population
from callward.release.attack.linkage import Views, linkages
from pipelines.attack.run import made_up_views
from schemas.cdr import TIMESTAMP

CARRIERS = {"north-1": "north", "north-2": "north", "south-1": "south"}


def views(start_ms, talk_ms, trunks, truth=None, ring_s=7):
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
            "account_token": pa.nulls(count, pa.string()),
            "trunk_in": trunks,
            "trunk_out": pa.nulls(count, pa.string()),
            "start": pa.array(start // 60_000 * 60_000).view(TIMESTAMP),
            "ring_s": ring,
            "talk_s": (talk + 5999) // 6000 * 6,
            "pdd_ms": pa.array([2_400] * count),
            "disposition": ["answered"] * count,
        }
    )
    return Views.of(billing, assurance, CARRIERS, (here, here if truth is None else np.array(truth)))


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


@pytest.mark.parametrize("seed", [1, 2])
def test_made_up_traffic_links_less_where_assurance_is_coarser(seed):
    found = [one.linked for one in linkages(made_up_views(population.scene(seed, 50_000).traffic))]
    assert found[:4] == sorted(found[:4]) and found[3] > 0.9
    assert found[4:] == sorted(found[4:], reverse=True) and found[-1] < 0.05
