"""Counters: what a table that closes tells of single calls, by the cells that the table itself is made of."""

import numpy as np
import pyarrow as pa
import pytest

from callward.lake.cells import LEAST
from callward.release.attack.linkage import Billing, linked
from pipelines.attack import counters
from pipelines.attack.counters import Counted
from schemas.views import ROW_INDEX, VIEW_BITS

T0, HOUR = 1_772_668_800_000, 3_600_000
CARRIERS = {"north-1": "north", "north-2": "north", "south-1": "south"}


def counted(calls):
    """Answered calls of (start in ms after T0, talk_ms, trunk_in) each, all of them billed."""
    rows = [
        {
            **{"kind": "call", "leg": 0, "state": "accepted", "parts": sum(VIEW_BITS.values())},
            **{"disposition": "answered", "trunk_in": trunk, "talk_ms": talk, "called_prefix": "+1303"},
            **{"start_time": T0 + start, "end_time": T0 + start + talk},
        }
        for start, talk, trunk in calls
    ]
    names = ("start_time", "parts", *counters.COLUMNS)
    table = pa.Table.from_pylist(rows, schema=pa.schema([ROW_INDEX.field(name) for name in names]))
    here = np.arange(len(rows))
    billing = Billing(here, np.zeros(len(rows)))
    return Counted.of(table, here, billing, CARRIERS), billing


def shares(made, tables):
    rows, billing = made
    return {
        table.name.removeprefix("counters: "): linked(billing, table, jointly=True).linked for table in tables(rows)
    }


def test_a_live_cell_of_one_answered_call_links_it():
    made = counted([(0, 60_000, "north-1"), (HOUR, 60_000, "north-1"), (HOUR, 60_000, "north-1")])
    found = shares(made, counters.live)
    assert found["trunk in × hour"] == pytest.approx(1 / 3)
    assert {share for what, share in found.items() if "failed" in what} == {0}


def test_cells_of_many_link_nothing_and_one_that_is_left_alone_is_found():
    many = [(0, 60_000, "north-1")] * LEAST
    assert set(shares(counted(many), counters.closed).values()) == {0}
    found = shares(counted([*many, (2 * HOUR, 60_000, "south-1")]), counters.closed)
    assert {what for what, share in found.items() if share} == {
        "lengths, level 4",  # all trunks pooled: the one call that is left
        "erlangs in, first hour of a call, level 2",
    }


def test_the_second_hour_of_a_call_is_looked_for_as_well():
    many = [(0, 60_000, "north-1"), (HOUR, 60_000, "north-1")] * LEAST
    found = shares(counted([*many, (HOUR - 600_000, 1_200_000, "south-1")]), counters.closed)
    assert found["erlangs in, second hour of a call, level 2"] > 0
