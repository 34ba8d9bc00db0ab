"""Alarms look at a source, not only at its files: what no file shows by itself ends a night with exit code 3."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from callward.settings import Trunk
from callward.template import render
from pipelines.doctor.checks import examine
from pipelines.terminal import percent

Site = Callable[..., Any]

_NOON = 1_772_712_000
_NAMES = ("id", "calling_number", "called_number", "start", "answer", "talk_s", "account", "direction", "ingress_trunk")


def _calls(count: int, first: int = 0, lines: int = 1, **columns: str) -> bytes:
    """Return calls of the generic format; a column given as "" is empty, another has that value."""
    rows = [",".join(_NAMES)]
    for n in range(first, first + count):
        usual = dict(
            zip(
                _NAMES,
                (f"c{n}", "+13035550101", "+13035550102", f"{_NOON + n}", f"{_NOON + n + 3}", "60"),
                strict=False,
            )
        )
        usual |= {"account": "ac-0001", "direction": "outbound", "ingress_trunk": "desk"}
        rows.append(",".join((usual | columns)[name] for name in _NAMES))
    return "\n".join([*rows, ""]).encode()


@pytest.fixture
def site(workspace: Site) -> Any:
    return workspace("generic", trunks=[Trunk(name="desk")])  # of no side: nothing else tells the direction


def _night(site: Any, name: str, *parts: bytes) -> Any:
    for number, part in enumerate(parts):
        site.land("generic", f"{name}-{number}.csv", part)
    return site.night()


def test_a_night_like_the_others_raises_no_alarm(site: Any) -> None:
    for name, first in (("a", 0), ("b", 100)):
        night = _night(site, name, _calls(40, first), _calls(4, first + 50, account="", direction=""))
        assert night.alarms == []
    assert night.shares == "shares: unknown direction 9.1 %, unassigned 9.1 %, other trunk 0.0 %, suspended 0.0 %"


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("account", "", "unassigned"),
        ("account", "nobodys", "unassigned"),
        ("direction", "", "unknown direction"),
        ("ingress_trunk", "unlisted", "other trunk"),
        ("ingress_trunk", "", "no trunk"),
    ],
)
def test_a_share_that_rises_over_the_last_nights_calls_a_person(site: Any, column: str, value: str, what: str) -> None:
    assert _night(site, "a", _calls(40)).alarms == []
    night = _night(site, "b", _calls(30, 100, **{column: value}))
    assert night.must_look and [what in alarm for alarm in night.alarms] == [True]
    assert "0 % in its last nights" in night.alarms[0]


@pytest.mark.parametrize(
    ("columns", "what"), [({"called_number": ""}, "no called number"), ({"answer": "", "talk_s": ""}, "no answer")]
)
def test_calls_to_nobody_and_of_no_known_length_call_a_person_the_first_night(
    site: Any, columns: dict[str, str], what: str
) -> None:
    night = _night(site, "a", _calls(2), _calls(30, 100, **columns))
    assert night.must_look and what in night.alarms[0] and "more than 90 %" in night.alarms[0]


def test_calls_that_nobody_answered_are_no_alarm(site: Any) -> None:
    assert _night(site, "a", _calls(30, answer="", talk_s="0")).alarms == []


def test_a_limit_of_the_settings_is_kept_also_the_first_night(workspace: Site) -> None:
    site = workspace("generic", thresholds={"unassigned_pct": 5.0})
    night = _night(site, "a", _calls(40), _calls(10, 100, account=""))
    assert "unassigned: 20.0 % of its attempts, more than 5 %" in night.alarms[0]


def test_errors_spread_over_many_files_call_a_person(site: Any) -> None:
    wrong = [f"x{n},,+13035550102,never,,,,,\n".encode() for n in range(30)]
    files = [_calls(6, 10 * n) + wrong[n] + wrong[n + 15] for n in range(15)]
    night = _night(site, "a", *files)
    assert not any(file.set_aside for file in night.files)
    assert night.must_look and "25.0 % of its records were suspended, over all its files" in night.alarms[0]


def _asterisk(count: int, zone: str, first: int = 0) -> bytes:
    """Return lines of Master.csv whose stamps are in a zone, and whose ids hold the epoch."""
    lines = []
    for n in range(first, first + count):
        start = datetime.fromtimestamp(_NOON + 60 * n, UTC).astimezone(ZoneInfo(zone))
        stamps = f'"{start:%F %T}","{start:%F %T}","{start:%F %T}",0,0,"ANSWERED","3","{_NOON + 60 * n}.{n}",""'
        lines.append(
            f'"ac-0001","13035550101","13035550102","ctx","x","SIP/desk-01","SIP/northwind-1-02","Dial","",{stamps}\n'
        )
    return "".join(lines).encode()


@pytest.mark.parametrize(
    ("declared", "real", "off"),
    [
        ("UTC", "America/Denver", "7 hours early"),
        ("America/Denver", "UTC", "7 hours late"),
        ("UTC", "Asia/Kolkata", "5.5 hours late"),
    ],
)
def test_a_clock_that_is_off_by_the_same_hours_calls_a_person(
    workspace: Site, feed_source: Site, declared: str, real: str, off: str
) -> None:
    site = workspace(feed_source("asterisk", zone=declared))
    site.land("asterisk", "a.csv", _asterisk(5, real))
    night = site.night()
    assert night.must_look and off in night.alarms[0] and "correct its zone" in night.alarms[0]
    assert any(off in finding.seen for finding in examine(str(site.folder)))


def test_a_clock_that_agrees_calls_nobody(workspace: Site, feed_source: Site) -> None:
    site = workspace(feed_source("asterisk", zone="America/Denver"))
    site.land("asterisk", "a.csv", _asterisk(5, "America/Denver"))
    assert site.night().alarms == []
    assert not any("by the epochs" in finding.seen for finding in examine(str(site.folder)))


def test_a_renamed_source_keeps_what_its_nights_were_like(site: Any) -> None:
    from pipelines import sources

    _night(site, "a", _calls(40))
    sources.rename(site.settings, "generic", "plain")
    settings = site.settings
    renamed = settings.sources[0].model_copy(update={"name": "plain"})
    settings.path.write_text(render(settings.model_copy(update={"sources": [renamed]})), encoding="utf-8")
    site.land("plain", "b.csv", _calls(30, 100, account=""))
    assert "unassigned" in site.night().alarms[0]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "-"), (0, 9, "0.0 %"), (1, 9999, "< 0.1 %"), (9999, 10_000, "> 99.9 %"), (9, 9, "100.0 %")],
)
def test_what_is_there_is_never_shown_as_nothing(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text
