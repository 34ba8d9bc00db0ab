"""Linkage of the two views: what is compared links more, what is coarser links less, and mistakes are counted."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from callward.release.attack import population
from callward.release.attack.two_views import Views, linkages, measured
from pipelines.attack.run import made_up_views
from schemas.cdr import TIMESTAMP

CARRIERS = {"north-1": "north", "north-2": "north", "south-1": "south"}


HOUR = 3_600_000


def views(start_ms, trunks, truth=None, files=None, dispositions=None):
    """Calls as both views hold them."""
    count = len(start_ms)
    start, here = np.array(start_ms), np.arange(count)
    billing = pa.table(
        {
            "source": ["s"] * count,
            "account": [f"a{n}" for n in here],
            "carrier_in": [CARRIERS[trunk] for trunk in trunks],
            "carrier_out": pa.nulls(count, pa.string()),
            "start": pa.array(start).view(TIMESTAMP),
            "answer": pa.array(start + 9_700).view(TIMESTAMP),
        }
    )
    assurance = pa.table(
        {
            "source": ["s"] * count,
            "trunk_in": trunks,
            "trunk_out": pa.nulls(count, pa.string()),
            "start": pa.array(start // HOUR * HOUR).view(TIMESTAMP),
            "span_h": [1] * count,
            "disposition": dispositions or ["answered"] * count,
        }
    )
    return Views.of(billing, assurance, CARRIERS, (here, here if truth is None else np.array(truth)), files)


def shares(found):
    return [round(one.linked, 3) for one in linkages(found)]


def test_carriers_tell_apart_calls_of_an_hour_and_a_day_joins_them_again():
    """Two calls of an hour on two carriers, two of another on one, one alone in its hour; north has four of the day."""
    start = [1, 2, HOUR, HOUR + 1, 9 * HOUR]
    trunks = ["north-1", "south-1", "north-1", "north-2", "north-1"]
    assert shares(views(start, trunks)) == [0.2, 0.6, 0.2]


def test_a_row_that_fits_alone_and_is_anothers_is_a_mistake():
    found = linkages(views([0, HOUR], ["north-1", "north-1"], truth=[0, 9]))
    assert (found[0].linked, found[0].mistaken, found[0].accounts) == (0.5, 0.5, 0.5)


def test_a_route_that_failed_before_another_answered_hides_no_call():
    """The part has all attempts of answered calls; a billing row is looked for among the answered ones."""
    tried = [[0, 1], ["north-1", "north-1"]]
    assert shares(views(*tried))[0] == 0
    assert shares(views(*tried, dispositions=["answered", "network_failure"]))[0] == 0.5


def test_trunks_that_other_tables_teach_link_what_carriers_do_not():
    """Two calls that are alike but for the trunk, of one carrier."""
    found = measured(views([0, 1], ["north-1", "north-2"]))
    assert [tables[0].linked for tables in (found.alone, found.jointly)] == [0, 1]
    assert [(one.role, one.rows, one.holds) for one in found.verdicts] == [("assurance", 1, False)]


def by_files(billing, assurance):
    """What calls that are alike link by the data files that they lie in."""
    count = len(billing)
    found = measured(views([0] * count, ["north-1"] * count, files=(np.array(billing), np.array(assurance))))
    links = {one.compared: one.linked for one in found.jointly}
    return links.get("rows: hour, source, carriers, and files of one commit")


def test_files_of_one_commit_link_calls_that_are_alike():
    assert by_files([5, 8], [1, 0]) == 1
    assert by_files([5, 5, 8], [1, 1, 0]) == pytest.approx(1 / 3)


def test_files_that_are_merged_tell_no_commit():
    assert by_files([5, 8], [1, 1]) is None
    assert by_files([5, 5], [1, 2]) is None


def test_merged_files_hide_the_calls_of_their_own_commits_alone():
    """Two commits are in one file of assurance, the third is by itself."""
    assert by_files([5, 8, 9], [1, 1, 2]) == pytest.approx(1 / 3)


def test_a_row_that_a_later_commit_moved_joins_no_files():
    """Of eight calls of two commits one went over to the file of the other: the rest are told apart as before."""
    calls = views([0] * 8, ["north-1"] * 8, files=(np.repeat([0, 1], 4), np.array([0, 0, 0, 1, 1, 1, 1, 1])))
    assert [len(set(groups)) for groups in calls.files] == [2, 2]


def test_a_counter_of_one_call_links_it():
    """By trunk, ingress, and hour: the second of an hour hides the first."""
    found = measured(views([0, 1, HOUR], ["north-1"] * 3))
    counter = {one.compared: one.linked for one in found.alone}["counters: trunk in × hour"]
    assert counter == pytest.approx(1 / 3)


def test_each_kind_of_rows_of_a_closed_date_is_measured_by_what_it_tells():
    """One row by the hour, two by the day with their trunk (which pair off by chance), one by the day alone."""
    made = views([0, 2 * HOUR, 3 * HOUR, 4 * HOUR], ["north-1", "south-1", "south-1", "north-2"])
    told = {**made.assurance, "span_h": np.array([1, 24, 24, 24]), "is_placed": np.array([1, 1, 1, 0])}
    found = measured(replace(made, assurance=told))
    assert {one.compared: one.linked for one in found.alone if "rows" in one.compared} == {
        "rows: hour, source, carriers": 0.25,
        "rows: day, source, carriers": 0,
        "rows: day alone": 0.25,
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_made_up_traffic_is_within_the_bound(seed):
    made = made_up_views(population.scene(seed, 50_000).traffic)
    hour, places, day = (one.linked for one in linkages(made))
    assert hour <= places < 0.01 and day <= places
    assert all(verdict.holds for verdict in measured(made).verdicts)
