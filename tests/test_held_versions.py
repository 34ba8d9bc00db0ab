"""Of several versions of a record that would be charged differently none is billed until a person chooses one."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from callward.errors import Problem
from pipelines.suspense.choose import choose
from tests.commands import run

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
HEADER = "id,calling_number,called_number,start_time,answer_time,end_time,talk_ms,rev\n"


def version(talk: int, called: str = "13035550102", rev: str = "", name: str = "a", end: int = 0) -> str:
    """A line of the generic format: how long was talked, in seconds; 0 was not answered."""
    answer = f"{NOON:%FT%TZ}" if talk else ""
    ends = NOON + timedelta(seconds=end or talk)
    return f"{name},+13035550101,+{called},{NOON:%FT%TZ},{answer},{ends:%FT%TZ},{talk * 1000},{rev}\n"


def take_in(site, lines, name="f"):
    """Take in a file a night, each a version; return whether a person must look at any."""
    held = []
    for number, line in enumerate(lines):
        site.land("generic", f"{name}{number}.csv", (HEADER + line).encode())
        night = site.night()
        held.append(bool(night.held))
        assert night.must_look or not night.held
        assert site.differing() == 0 and not site.unbalanced()
    return held


def talk(site):
    return site.view("billing")["talk_ms"].to_pylist()


@pytest.mark.parametrize("lines", [*permutations([version(30), version(60), version(60, called="13035550103")])][::3])
def test_answered_versions_of_different_charge_are_held_in_any_order(workspace, lines):
    site = workspace("generic")
    assert take_in(site, lines) == [False, True, True]
    assert talk(site) == [] and site.view("assurance").num_rows == 0
    assert site.entries()["suspended", "HELD"] == (3, 150_000)
    take_in(site, lines[:2], "again")
    assert talk(site) == [] and site.entries()["duplicate", ""][0] == 2


def test_versions_of_one_file_are_held_as_those_of_two(workspace):
    site = workspace("generic")
    assert take_in(site, [version(30) + version(60) + version(9, name="b")]) == [True]
    assert talk(site) == [9_000] and site.entries()["suspended", "HELD"] == (2, 90_000)
    with pytest.raises(Problem, match="no file of that number came in"):
        choose(site.settings, 99)
    assert choose(site.settings, 1).several == 1 and talk(site) == [9_000]
    with pytest.raises(Problem, match="no such held record"):
        choose(site.settings, 1, [3])
    assert choose(site.settings, 1, [2]).chosen == 1
    assert sorted(talk(site)) == [9_000, 60_000] and site.entries()["suspended", "CONFLICT"] == (1, 30_000)
    assert site.differing() == 0 and not site.unbalanced()


def test_a_chosen_version_is_billed_and_the_others_stay_known(workspace):
    site = workspace("generic")
    take_in(site, [version(60), version(30), version(9, name="b")])
    assert choose(site.settings, 1, dry_run=True).chosen == 1 and talk(site) == [9_000]
    assert choose(site.settings, 1).chosen == 1
    assert sorted(talk(site)) == [9_000, 60_000] and site.differing() == 0 and not site.unbalanced()
    assert {number for (bucket, code), (number, _) in site.entries().items() if bucket == "suspended"} == {1}
    assert site.entries()["suspended", "CONFLICT"] == (1, 30_000)
    assert take_in(site, [version(30), version(60)], "again") == [False, False]
    assert sorted(talk(site)) == [9_000, 60_000] and site.entries()["duplicate", ""][0] == 2
    assert take_in(site, [version(45)], "third") == [True] and talk(site) == [9_000]
    assert site.entries()["suspended", "HELD"] == (2, 105_000)
    with pytest.raises(Problem):
        choose(site.settings, 2)


def test_versions_of_one_charge_and_those_that_were_not_answered_hold_nothing(workspace):
    site = workspace("generic")
    later_failure = version(0, end=300)
    assert take_in(site, [later_failure, version(60), version(60, end=61), version(0, end=600)]) == [False] * 4
    assert talk(site) == [60_000] and ("suspended", "HELD") not in site.entries()


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_where_a_source_numbers_its_versions_the_highest_is_billed(workspace, feed_source, order):
    site = workspace(feed_source("generic", declare={"fields": {"version": "rev"}}))
    lines = [version(60, rev="1"), version(45, rev="2"), version(30, rev="3")]
    assert take_in(site, [lines[at] for at in order]) == [False] * 3
    assert talk(site) == [30_000] and not [code for bucket, code in site.entries() if bucket == "suspended"]
    assert site.entries()["duplicate", ""] == (2, 105_000)


def test_the_command_names_what_was_chosen(workspace):
    site = workspace("generic")
    take_in(site, [version(60), version(30)])
    ended = run("suspense", "choose", "2", "--json", "--config", str(site.settings.path)).check_clean()
    assert (ended.code, ended.document["chosen"]) == (0, 1) and talk(site) == [30_000]
