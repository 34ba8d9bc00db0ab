"""Sources: another name, zone or declaration makes no second record of one that is in the lake."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import UsageProblem
from callward.template import render
from pipelines import sources
from pipelines.suspense.recycle import recycle
from schemas.tables import blocks, source_generations
from tests.commands import run
from tests.examples import tries

Site = Callable[..., Any]

_HEADER = "id,other_id,calling_number,called_number,start,answer,end,talk_s\n"
# Local evening in Denver: the next UTC day there, the same one in UTC.
_EVENING = "2026-03-04"


def _line(number: int, talk: int = 60, hour: int = 19) -> str:
    stamps = [f"{_EVENING} {hour}:{number % 60:02d}:{second:02d}" for second in (0, 5)]
    end = f"{_EVENING} {hour + 1}:{number % 60:02d}:{talk % 60:02d}"
    return f"id-{number},x{number}y,+13035550101,+13035550102,{stamps[0]},{stamps[1]},{end},{talk}\n"


def _file(*numbers: int, **how: Any) -> bytes:
    return (_HEADER + "".join(_line(number, **how) for number in numbers)).encode()


@pytest.fixture
def site(workspace: Site, feed_source: Site) -> Any:
    """A workspace with one source, whose stamps are local."""
    return workspace(feed_source("denver", format="generic_csv", zone="UTC"))


def _change(site: Any, **changes: Any) -> None:
    """Change the site's one source in its settings."""
    settings = site.settings
    source = settings.sources[0].model_copy(update=changes)
    settings.path.write_text(render(settings.model_copy(update={"sources": [source]})), encoding="utf-8")


def _starts(site: Any) -> list[str]:
    return [f"{start:%d %H:%M}" for start in site.view("billing")["start"].to_pylist()]


def test_a_changed_zone_is_refused_until_it_is_accepted_and_then_doubles_nothing(site: Any) -> None:
    site.land("denver", "a.csv", _file(1, 2, 3))
    site.night()
    _change(site, zone="America/Denver")
    site.land("denver", "again.csv", _file(3, 2, 1))
    site.land("denver", "new.csv", _file(1, 4))
    refused = run("nightly", "--config", str(site.settings.path)).check_clean()
    assert refused.code == 2 and "its zone changed" in refused.err and "accept denver --from-now" in refused.err
    assert _starts(site) == ["04 19:01", "04 19:02", "04 19:03"]
    accepted = run("sources", "accept", "denver", "--from-now", "--config", str(site.settings.path)).check_clean()
    assert accepted.code == 0
    site.night()
    assert _starts(site) == ["04 19:01", "04 19:02", "04 19:03", "05 02:04"]
    assert site.entries()["duplicate", ""][0] == 4 and not site.unbalanced() and site.differing() == 0
    assert {row.generation for row in site._rows(blocks)} == {1, 2}


def test_a_zone_put_back_is_the_generation_that_it_was(site: Any) -> None:
    site.land("denver", "a.csv", _file(1))
    site.night()
    _change(site, zone="America/Denver")
    assert "its zone changed" in run("nightly", "--config", str(site.settings.path)).err
    _change(site, zone="UTC")
    site.night()
    assert len(site._rows(source_generations)) == 1


def test_a_zone_may_change_freely_while_no_record_is_there(site: Any) -> None:
    site.night()
    _change(site, zone="America/Denver")
    site.land("denver", "a.csv", _file(1))
    site.night()
    assert _starts(site) == ["05 02:01"]


def test_a_format_without_local_times_has_no_zone_to_change(workspace: Site, feed_source: Site) -> None:
    site = workspace(feed_source("cucm", zone="UTC"))
    site.land("cucm", "a.csv", b"")
    site.night()
    _change(site, zone="America/Denver")
    site.night()
    assert len(site._rows(source_generations)) == 1


@tries(4)
@given(order=st.permutations([1, 2, 3]), fields=st.sampled_from(["identity", "zone", "start", "both"]))
def test_records_sent_again_after_any_accepted_change_count_once(
    workspace: Site, feed_source: Site, order: list[int], fields: str
) -> None:
    site = workspace(feed_source("denver", format="generic_csv", zone="Asia/Tokyo"))
    site.land("denver", "a.csv", _file(*order))
    site.night()
    before = site.view("billing").to_pylist()
    if fields in ("identity", "both"):
        _change(site, declare={"identity": {"any_of": [["other_id"]]}, "call": {"any_of": [["other_id"]]}})
    if fields in ("zone", "both"):
        _change(site, zone="America/Denver")
    if fields == "start":
        _change(site, declare={"fields": {"start_time": {"column": "answer", "time": "any"}}})
    sources.accept(site.settings, "denver")
    site.land("denver", "b.csv", _file(3, 1))
    site.land("denver", "c.csv", _file(2, 4, 3))
    site.night()
    rows = site.view("billing").to_pylist()
    assert [row for row in rows if row in before] == before and len(rows) == len(before) + 1
    assert site.entries()["duplicate", ""][0] == 4 and not site.unbalanced()


def test_content_that_names_records_is_found_under_an_earlier_zone(workspace: Site, feed_source: Site) -> None:
    nameless = {"identity": {"content": True, "any_of": []}, "call": {"any_of": []}}
    site = workspace(feed_source("denver", format="generic_csv", zone="UTC", declare=nameless))
    data = _file(1, 1, 2)  # two equal records are two calls
    site.land("denver", "a.csv", data)
    site.night()
    _change(site, zone="America/Denver")
    sources.accept(site.settings, "denver")
    site.land("denver", "b.csv", data)
    site.land("denver", "c.csv", _file(1, 1, 1))
    site.night()
    assert _starts(site) == ["04 19:01", "04 19:01", "04 19:02", "05 02:01"]
    assert site.entries()["duplicate", ""][0] == 5


def test_a_version_with_other_talk_is_a_conflict_also_under_an_earlier_zone(site: Any) -> None:
    site.land("denver", "a.csv", _file(1))
    site.night()
    _change(site, zone="America/Denver")
    sources.accept(site.settings, "denver")
    site.land("denver", "b.csv", _file(1, talk=90))
    site.night()
    assert _starts(site) == ["04 19:01"]
    assert site.entries()["suspended", "CONFLICT"][0] == 1


def test_a_change_is_accepted_only_once_all_that_was_begun_is_read(site: Any) -> None:
    with pytest.raises(UsageProblem, match="no source 'denver' is registered"):
        sources.accept(site.settings, "denver")
    site.night()
    with pytest.raises(UsageProblem, match="nothing that decides"):
        sources.accept(site.settings, "denver")


def test_a_dry_run_accepts_nothing(site: Any) -> None:
    site.land("denver", "a.csv", _file(1))
    site.night()
    _change(site, zone="America/Denver")
    planned = run("sources", "accept", "denver", "--from-now", "--dry-run", "--config", str(site.settings.path))
    assert planned.code == 0 and len(site._rows(source_generations)) == 1


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_renamed_source_knows_what_it_sent_under_its_old_name(site: Any) -> None:
    site.land("denver", "a.csv", _file(1, 2) + b"id-9,x,+1303,+1303,never,,,9\n")
    site.night()
    assert run("sources", "rename", "denver", "boulder", "--config", str(site.settings.path)).check_clean().code == 0
    assert "called boulder now" in run("nightly", "--config", str(site.settings.path)).err
    _change(site, name="boulder")
    site.land("boulder", "b.csv", _file(2, 1, 3))
    site.night()
    assert len(_starts(site)) == 3 and site.entries()["duplicate", ""][0] == 2
    assert recycle(site.settings, [], []).taken == 1
    listed = run("sources", "list", "--json", "--config", str(site.settings.path)).check_clean().document
    assert [(row["source"], row["uid"], row["former_names"]) for row in listed] == [("boulder", "denver", "denver")]


def test_calls_that_wait_are_closed_under_a_new_name(workspace: Site, feed_source: Site) -> None:
    site = workspace(feed_source("opensips", zone="UTC"))
    invite = b"INVITE|f1|t1|c1@192.0.2.30|200|OK|1772712000|*postpaid|13035550101|13035550102||1:1\n"
    bye = b"BYE|t1|f1|c1@192.0.2.30|200|OK|1772712060|||||1:1\n"
    site.land("opensips", "a", invite)
    site.night(1_772_720_000_000)
    sources.rename(site.settings, "opensips", "proxy")
    _change(site, name="proxy")
    site.land("proxy", "b", bye)
    site.night(1_772_720_000_000)
    assert site.view("billing")["talk_ms"].to_pylist() == [60_000]


def test_a_source_renamed_by_hand_is_refused_until_someone_says_which_it_is(site: Any) -> None:
    site.land("denver", "a.csv", _file(1, 2))
    site.night()
    _change(site, name="boulder")
    refused = run("nightly", "--config", str(site.settings.path)).check_clean()
    assert refused.code == 2 and "callward sources rename denver boulder" in refused.err
    sources.add(site.settings, "boulder")
    site.land("boulder", "b.csv", _file(3))
    site.night()
    assert len(_starts(site)) == 3


def test_a_name_that_a_source_had_is_no_other_sources_name(site: Any) -> None:
    site.land("denver", "a.csv", _file(1))
    site.night()
    sources.rename(site.settings, "denver", "boulder")
    with pytest.raises(UsageProblem, match="was called denver"):
        sources.add(site.settings, "denver")
    _change(site, name="boulder")
    site.night()


def test_a_source_is_not_renamed_while_its_files_wait(site: Any) -> None:
    site.land("denver", "a.csv", _file(1))
    site.night()
    site.land("denver", "b.csv", _file(2))
    ended = run("sources", "rename", "denver", "boulder", "--config", str(site.settings.path)).check_clean()
    assert ended.code == 1 and "still holds files" in ended.err


# -- zones -----------------------------------------------------------------------------------------------------------


def test_local_times_need_a_zone(workspace: Site, feed_source: Site) -> None:
    site = workspace(feed_source("denver", format="generic_csv", zone=None))
    site.land("denver", "a.csv", _file(1))
    ended = run("nightly", "--config", str(site.settings.path)).check_clean()
    assert ended.code == 2 and 'zone = "America/Denver"' in ended.err
    assert "name no zone" in run("doctor", "--config", str(site.settings.path)).out


def test_times_that_need_no_zone_ask_for_none(workspace: Site, feed_source: Site) -> None:
    site = workspace(feed_source("cucm", zone=None))
    site.night()


# -- content under another source --------------------------------------------------------------------------------------


@pytest.fixture
def two_sources(workspace: Site, feed_source: Site) -> Any:
    return workspace(*(feed_source(name, format="generic_csv", zone="UTC") for name in ("denver", "boulder")))


def _refused(night: Any) -> list[str]:
    """Why files of known sources were left alone, without the next step."""
    return [item.reason.partition(":")[0] for item in night.left_alone if "/" in item.name]


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_came_in_under_another_source_is_refused(two_sources: Any, packed: bool) -> None:
    two_sources.land("denver", "a.csv", _file(1, 2))
    two_sources.night()
    name, data = ("b.csv.gz", gzip.compress(_file(1, 2))) if packed else ("b.csv", _file(1, 2))
    two_sources.land("boulder", name, data)
    dry = run("nightly", "--dry-run", "--files", "--config", str(two_sources.settings.path)).check_clean()
    assert "came in under source denver" in " ".join(dry.out.split())
    night = two_sources.night()
    assert night.must_look and _refused(night) == ["its records came in under source denver"]
    assert len(_starts(two_sources)) == 2


def test_a_file_in_two_folders_the_same_night_counts_once(two_sources: Any) -> None:
    for name in ("denver", "boulder"):
        two_sources.land(name, "a.csv", _file(1, 2))
    night = two_sources.night()
    assert _refused(night) == ["its records came in under source denver"] and len(_starts(two_sources)) == 2


def test_rows_of_names_alone_are_no_content(two_sources: Any) -> None:
    for name in ("denver", "boulder"):
        two_sources.land(name, "a.csv", _file())
    assert _refused(two_sources.night()) == []


def test_a_file_of_which_nothing_could_be_read_may_come_under_its_right_source(
    workspace: Site, feed_source: Site
) -> None:
    wrong = {"fields": {"start_time": {"column": "start", "time": "epoch_s"}}}
    sources_ = feed_source("denver", format="generic_csv", zone="UTC", declare=wrong), feed_source("generic")
    site = workspace(*sources_)
    for name in ("denver", "generic"):
        site.land(name, "a.csv", _file(1, 2))
        site.night()
    assert len(_starts(site)) == 2
