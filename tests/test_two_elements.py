"""Two network elements write records of one call: it is charged once, whichever record comes first."""

import itertools
import signal
from collections.abc import Callable
from typing import Any

import pytest

from callward.settings import Billing, Tenant
from pipelines.network_elements import second_records
from schemas.retention_classes import CLASSES
from tests.commands import run
from tests.examples import some
from tests.test_legs import fs

_NOON = 1_772_712_000  # 2026-03-05 12:00 UTC
_MIDNIGHT = 1_772_755_200  # 2026-03-06 00:00 UTC
_A, _B, _C = "+13035550110", "+12125550160", "+12125550161"
MORNING = (_NOON + 86_400) * 1000


def usage(name: str, answer: float, talk: float, calling: str = _A, called: str = _B, rev: str = "") -> str:
    start = answer - 5
    times = f"{int(start * 1000)},{int(answer * 1000)},{int((answer + talk) * 1000)}"
    return f"{name},{calling},{called},{times},{int(talk * 1000)},ac-0001,{rev}\n"


def feed(*lines: str) -> bytes:
    return "".join(["id,calling,called,start,answer,end,talk_ms,account,rev\n", *lines]).encode()


def element(feed_source: Any, name: str, rank: int | None) -> Any:
    """A source of `usage` lines, of that billing rank."""
    times = {name: {"column": name.partition("_")[0], "time": "epoch_ms"} for name in ("start_time", "answer_time")}
    declare = {"fields": {**times, "end_time": {"column": "end", "time": "epoch_ms"}, "version": "rev"}}
    return feed_source(name, format="generic_csv", declare=declare, **({"billing_rank": rank} if rank else {}))


@pytest.fixture
def elements(workspace: Callable[..., Any], feed_source: Any) -> Callable[..., Any]:
    """elements(core=1, edge=2, …) → a workspace with a source for each, of that billing rank (None for none)."""

    def make(second_elements: str = "hold", **ranks: int | None) -> Any:
        sources = [element(feed_source, name, rank) for name, rank in ranks.items()]
        tenant = Tenant(retention=dict.fromkeys(CLASSES, "99 years"), billing=Billing(second_elements=second_elements))
        return workspace(*sources, tenants={"default": tenant})

    return make


def charged(site: Any) -> list[str]:
    return site.view("billing")["source"].to_pylist()


def is_sound(site: Any) -> bool:
    return site.differing() == 0 and not site.unbalanced()


# What the record of the other element says, as far as it differs, and whether both are of one call.
_AT_THE_EDGE: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"late": 2, "talk": 61}, True),
    ({"late": -2, "talk": 59}, True),
    ({"late": 2.001}, False),
    ({"talk": 61.001}, False),
    ({"called": _C}, False),
    ({"calling": _C}, False),
    ({"calling": "anonymous"}, False),
]


def test_records_of_one_call_agree_in_parties_answer_and_talk(elements: Any) -> None:
    site, core, edge = elements(core=1, edge=2), [], []
    for hour, (differs, _) in enumerate(_AT_THE_EDGE):
        answer = _NOON + 3600 * hour
        core.append(usage(f"c{hour}", answer, 60))
        says = {"answer": answer + differs.get("late", 0), "talk": 60, **differs}
        edge.append(usage(f"e{hour}", **{name: value for name, value in says.items() if name != "late"}))
    site.land("core", "c.csv", feed(*core))
    site.land("edge", "e.csv", feed(*edge))
    night = site.night(now_ms=MORNING)
    rows = site.view("billing").to_pylist()
    apart = {row["answer"].hour - 12 for row in rows if row["source"] == "edge"}
    assert apart == {hour for hour, (_, held) in enumerate(_AT_THE_EDGE) if not held}
    assert charged(site).count("core") == len(core) and night.second == {"edge": 3}
    assert is_sound(site)


@pytest.mark.parametrize("order", some(([*order] for order in itertools.permutations(("far", "edge", "core"))), of=2))
def test_the_record_of_the_highest_rank_is_charged_in_any_order(elements: Any, order: list[str]) -> None:
    site = elements(core=1, edge=2, far=3)
    own = {"core": _NOON + 3600, "edge": _NOON + 3660, "far": _NOON + 3720}
    for name in order:
        site.land(name, f"{name}.csv", feed(usage(name, _NOON, 60), usage(f"{name}-own", own[name], 30)))
        site.night(now_ms=MORNING)
    assert sorted(charged(site)) == ["core", "core", "edge", "far"]
    assert sorted(site.view("assurance")["source"].to_pylist()) == ["core", "core", "edge", "edge", "far", "far"]
    assert site.entries() == {("in", ""): (6, 270_000), ("accepted", ""): (6, 270_000)}
    assert sum(sums[0] for sums in site.derived()["billing_usage_daily"].values()) == 4
    listed = {(of.source, of.records, of.talk_ms, of.held) for of in second_records(site.settings)}
    assert listed == {("edge", 1, 60_000, True), ("far", 1, 60_000, True)}
    assert is_sound(site)


_AGENT = {"cc_member_session_uuid": "e", "cc_side": "agent", "sip_gateway_name": "northwind"}
# Legs of calls at a switch: an attempt that was answered, and what says that it is none of its own.
_ATTEMPTS = [
    fs("b", "a", at=_NOON + 1, ring=4, to=60),
    fs("f", "q", at=_NOON + 1209, talk=20, to=60, **_AGENT),
    fs("h", "g", at=_NOON + 2410, ring=20, talk=50, to=60),  # its caller was answered before
]
_OTHERS = [fs("a", at=_NOON, to=60), fs("e", at=_NOON + 1200, to=61), fs("g", at=_NOON + 2400, ring=1, talk=79, to=60)]
_AT_EDGE = [
    usage(f"e{answer}", _NOON + answer, talk, "+13035550101", "+13035550160")
    for answer, talk in ((5, 30), (1214, 20), (2430, 50))
]


@pytest.mark.parametrize(("rank", "late"), some([(1, "edge"), (2, "others"), (1, "others"), (2, "edge")], of=2))
def test_legs_are_charged_beside_another_element_as_their_call(
    workspace: Callable[..., Any], feed_source: Any, rank: int, late: str
) -> None:
    switch = feed_source("freeswitch_json", zone="UTC", billing_rank=rank)
    site = workspace(switch, element(feed_source, "edge", 3 - rank))
    site.land("freeswitch_json", "attempts", "".join(_ATTEMPTS).encode())
    for night in range(2):
        if night == (late == "edge"):
            site.land("edge", "e.csv", feed(*_AT_EDGE))
        if night == (late == "others"):
            site.land("freeswitch_json", "others", "".join(_OTHERS).encode())
        site.night(now_ms=MORNING)
    of_queue = ["freeswitch_json"]  # what its caller pays is told by the switch alone
    assert sorted(charged(site)) == sorted(of_queue + [switch.name if rank == 1 else "edge"] * 3)
    assert is_sound(site)


def test_what_is_held_stays_so_when_it_comes_again(elements: Any) -> None:
    site = elements(core=1, edge=2)
    site.land("core", "c.csv", feed(usage("c", _NOON, 60)))
    site.land("edge", "e.csv", feed(usage("e", _NOON, 60)))
    site.night(now_ms=MORNING)
    site.land("edge", "again.csv", feed(usage("e", _NOON, 60), usage("f", _NOON + 600, 60)))
    assert site.night(now_ms=MORNING).second == {}
    assert charged(site) == ["core", "edge"]
    assert site.balances()["edge/again.csv"]["duplicate"] == (1, 60_000) and is_sound(site)


@pytest.mark.parametrize("at", [_NOON, _MIDNIGHT + 5])
@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1), (0, 1, 2)])
@pytest.mark.parametrize("talk", [(60, 90), (90, 60)])
def test_what_is_held_hangs_on_what_the_other_record_says_now(
    elements: Any, at: int, order: tuple[int, ...], talk: tuple[int, int]
) -> None:
    """Of a call whose records start on two dates, too."""
    site = elements(core=1, edge=2)
    first, second = (("core", usage("c", at, of, rev=str(rev))) for rev, of in enumerate(talk, 1))
    for number in order:
        name, line = (first, second, ("edge", usage("e", at - 1, 60)))[number]
        site.land(name, f"{number}.csv", feed(line))
        site.night(now_ms=MORNING)
    assert sorted(charged(site)) == (["core"] if talk[1] == 60 else ["core", "edge"])
    assert site.view("uncharged").num_rows == (talk[1] == 60) and is_sound(site)


def test_a_call_whose_records_start_on_two_dates_is_charged_once(elements: Any) -> None:
    site = elements(core=1, edge=2)
    site.land("edge", "e.csv", feed(usage("e", _MIDNIGHT + 4, 60)))
    site.night(now_ms=MORNING)
    site.land("core", "c.csv", feed(usage("c", _MIDNIGHT + 5, 60)))
    site.night(now_ms=MORNING)
    assert charged(site) == ["core"] and is_sound(site)


@pytest.mark.parametrize("first", ["core", "edge"])
@pytest.mark.parametrize(("before", "after"), [("core", "edge"), ("edge", "core")])
def test_a_call_whose_records_start_in_two_months_is_charged_once(
    elements: Any, first: str, before: str, after: str
) -> None:
    """Numbers have other tokens in each month."""
    site = elements(core=1, edge=2)
    end = _MIDNIGHT + 26 * 86_400  # of March
    lines = {  # the first two are of one call each, the caller of one withheld; others' numbers or answers differ
        before: [usage(f"m{n}", end + 4, 60, *who) for n, who in enumerate([(_A, _B), ("anonymous", _C), (_A, _C)])],
        after: [usage(f"n{n}", end + 5, 60, *who) for n, who in enumerate([(_A, _B), ("anonymous", _C), (_C, _C)])],
    }
    lines[after].append(usage("n3", end + 8, 60, _A, _C))
    for name in (first, *({before, after} - {first})):
        site.land(name, f"{name}.csv", feed(*lines[name]))
        site.night(now_ms=(end + 86_400) * 1000)
    assert sorted(charged(site)) == sorted(["core"] * len(lines["core"]) + ["edge"] * (len(lines["edge"]) - 2))
    assert len({file.part for file in site.data_files("index")}) == 2 and is_sound(site)


@pytest.mark.parametrize("ranks", [{"core": 1, "edge": None}, {"core": 1, "edge": 1}])
def test_sources_without_ranks_or_of_one_rank_are_not_compared(elements: Any, ranks: dict[str, Any]) -> None:
    site = elements(**ranks)
    for name in ranks:
        site.land(name, "a.csv", feed(usage(name, _NOON, 60)))
    site.night(now_ms=MORNING)
    assert sorted(charged(site)) == ["core", "edge"]


def test_second_records_are_listed_alone_where_the_tenant_says_so(elements: Any) -> None:
    site = elements("list", core=1, edge=2)
    for name in ("core", "edge"):
        site.land(name, "a.csv", feed(usage(name, _NOON, 60)))
    night = site.night(now_ms=MORNING)
    assert sorted(charged(site)) == ["core", "edge"] and night.second == {"edge": 1}
    assert [(of.source, of.records, of.held) for of in second_records(site.settings)] == [("edge", 1, False)]
    assert is_sound(site)


def test_records_in_shards_of_their_own_meet(elements: Any) -> None:
    site = elements(core=1, edge=2)
    site.set(waves={"bucket_records": 8})
    for name in ("core", "edge"):
        site.land(name, "a.csv", feed(*(usage(f"{name}-{n}", _NOON + 100 * n, 60) for n in range(24))))
    assert site.night(now_ms=MORNING).second == {"edge": 24}
    assert len({file.shard for file in site.data_files("index")}) > 1
    assert charged(site) == ["core"] * 24 and is_sound(site)


def test_a_night_killed_once_a_date_is_matched_ends_as_one_that_was_not(elements: Any) -> None:
    site = elements(core=1, edge=2)
    site.land("core", "c.csv", feed(usage("c", _NOON, 60)))
    site.land("edge", "e.csv", feed(usage("e", _NOON, 60), usage("f", _NOON, 60, called=_C)))
    killed = run("nightly", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": "elements-matched"})
    assert killed.code == -signal.SIGKILL, killed.err[-300:]
    run("nightly", "--config", str(site.folder)).check_clean()
    assert sorted(charged(site)) == ["core", "edge"]
    assert [(found.source, found.records) for found in second_records(site.settings)] == [("edge", 1)]
    assert is_sound(site)
