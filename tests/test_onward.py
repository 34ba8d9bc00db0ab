"""A call that was forwarded out to the network in one record is two charges: the leg that came in, and that which went
on. Whole nights, over what switches write."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from callward.lake.data_files import DataFiles
from callward.settings import Account, NumberRange, Trunk
from pipelines.suspense.choose import choose
from schemas.cdr import ROLES
from schemas.views import INDEX
from tests import test_legs as legs
from tests.conftest import source

HERS, HIS, ABROAD, STRANGER, ELSEWHERE = (
    *("+13035550110", "+13035550120", "+442079460123", "+12125550160", "+12125550170"),
)
IN, OUT, PBX = "PJSIP/northwind-0000000a", "PJSIP/eastern-0000000b", "PJSIP/pbx-0000000c"
_TRUNKS = [
    Trunk(name="northwind", side="network"),
    Trunk(name="eastern", side="network"),
    Trunk(name="pbx", side="customer", account="his"),
    Trunk(name="desk", side="customer", account="hers"),
]
_ACCOUNTS = [
    Account(id="hers", codes=["ac-hers"], numbers=[NumberRange(first=HERS)]),
    Account(id="his", codes=["ac-his"], numbers=[NumberRange(first=HIS)]),
]
_FORWARDED = [
    ("inbound", "hers", "called", STRANGER, HERS),
    ("outbound", "hers", "calling", HERS, ABROAD),
]


def ast(n: int, channel: str, to: str, caller: str, called: str, sent: str, code: str = "", talk: int = 30) -> str:
    stamps = [f"2026-03-05 12:00:{s:02}" for s in (n, n + 1, n + 1 + talk)]
    stamps[1] = stamps[1] if talk else ""
    values = [code, caller, called, "default", "", channel, to, "Dial", f"PJSIP/{sent}@eastern,30", *stamps, talk + 1]
    values += [talk, "ANSWERED" if talk else "NO ANSWER", "DOCUMENTATION", f"{1772712000 + n}.{n}", "", ""]
    return ",".join(f'"{value}"' for value in [*values, f"{1772712000 + n}.{n}", n]) + "\n"


# What Asterisk writes, and the rows of the bill: direction, account, charged side, caller, called.
STORIES = {
    "the number called is ours": (ast(1, IN, OUT, STRANGER, HERS, ABROAD), _FORWARDED),
    "an account code says who forwarded": (
        ast(2, IN, OUT, STRANGER, ELSEWHERE, ABROAD, code="ac-hers"),
        [("inbound", "hers", "called", STRANGER, ELSEWHERE), ("outbound", "hers", "calling", ELSEWHERE, ABROAD)],
    ),
    "a customer calls another, who forwards": (
        ast(3, PBX, OUT, HIS, HERS, ABROAD),
        [("internal", "his", "calling", HIS, HERS), ("outbound", "hers", "calling", HERS, ABROAD)],
    ),
    "a customer calls out": (ast(4, PBX, OUT, HIS, ABROAD, ABROAD), [("outbound", "his", "calling", HIS, ABROAD)]),
    "a customer calls another by way of the network": (
        ast(5, PBX, OUT, HIS, HERS, HERS),
        [("outbound", "his", "calling", HIS, HERS)],
    ),
    "from carrier to carrier, nobody of ours": (
        ast(6, IN, OUT, STRANGER, ELSEWHERE, ELSEWHERE),
        [("transit", "unassigned", "calling", STRANGER, ELSEWHERE)],
    ),
    "from carrier to carrier, for a customer by his code": (
        ast(9, IN, OUT, STRANGER, ELSEWHERE, ELSEWHERE, code="ac-his"),
        [("transit", "his", "calling", STRANGER, ELSEWHERE)],
    ),
    "a number of ours that is served elsewhere": (
        ast(10, IN, OUT, STRANGER, HIS, HIS),
        [("transit", "unassigned", "calling", STRANGER, HIS)],
    ),
    "inbound to a phone that is no extension": (
        ast(7, IN, "PJSIP/desk-0000000d", STRANGER, HERS, "desk"),
        [("inbound", "hers", "called", STRANGER, HERS)],
    ),
    "forwarded, not answered": (ast(8, IN, OUT, STRANGER, HERS, ABROAD, talk=0), []),
}


def cm(n: int, device: str, to: str, called: str, reached: str, by: str = "") -> str:
    begin = legs.NOON + n
    values = [1, 1, n, 10 * n, begin, STRANGER, 16, 10 * n + 1, called, reached, 0, begin + 1, begin + 31, f"p{n}", 30]
    return ",".join(map(str, [*values, device, to, "C1", by, 15 if by else 0])) + "\n"


HEAD = ",".join([*legs.NAMES, "lastRedirectDn", "lastRedirectRedirectReason"]) + "\n"
CUCM = {
    "forwarded abroad": (cm(1, "northwind", "eastern", HERS, ABROAD, by=HERS), _FORWARDED),
    "a phone of ours is reached": (
        cm(2, "northwind", "SEP000000000001", HERS, HERS),
        [("inbound", "hers", "called", STRANGER, HERS)],
    ),
}


def night(workspace: Callable[..., Any], feed: str, *files: str) -> Any:
    """A workspace after a night for each file."""
    site = workspace(source(feed, zone="UTC"), trunks=_TRUNKS, accounts=_ACCOUNTS)
    for number, text in enumerate(files):
        site.land(feed, f"{number}.csv", text.encode())
        site.night(legs.MORNING)
        legs.check(site)
    return site


def billed(site: Any) -> Counter[tuple[Any, ...]]:
    names = ("direction", "account", "charged_side", "calling_number", "called_number")
    return Counter(tuple(row[name] for name in names) for row in site.view("billing").to_pylist())


def of_each(*stories: dict[str, tuple[str, list[tuple[str, ...]]]]) -> Counter[tuple[Any, ...]]:
    return Counter(row for story in stories for _, rows in story.values() for row in rows)


@pytest.fixture(scope="module")
def asterisk(workspace: Callable[..., Any]) -> Any:
    return night(workspace, "asterisk", "".join(line for line, _ in STORIES.values()))


def test_who_forwarded_pays_for_the_leg_that_goes_on(asterisk: Any) -> None:
    assert billed(asterisk) == of_each(STORIES)
    abroad = [row for row in asterisk.view("billing").to_pylist() if row["called_number"] == ABROAD]
    assert {(row["jurisdiction"], row["destination"], row["billable_s"]) for row in abroad} == {
        ("international", "GB", 30)
    }


def test_a_customer_who_called_is_not_told_where_it_went(asterisk: Any) -> None:
    his = [
        row for row in asterisk.view("billing").to_pylist() if row["account"] == "his" and row["called_number"] == HERS
    ]
    assert len(his) == 2 and not any(row["rated_number"] for row in his)


def test_ledger_and_assurance_count_what_the_switch_wrote(asterisk: Any) -> None:
    assert asterisk.entries()["accepted", ""][0] == len(STORIES) == asterisk.view("assurance").num_rows
    files = DataFiles(asterisk.opened, "test")
    index = [row for file in asterisk.data_files(INDEX) for row in files.rows(file).to_pylist()]
    onward = [row for row in index if row["role"] == ROLES.index("onward")]
    assert len(index) == len(STORIES) + 4 and sorted(row["parts"] for row in onward) == [0, 1, 1, 1]


def test_cucm_names_who_forwarded(workspace: Callable[..., Any]) -> None:
    site = night(workspace, "cucm", HEAD + "".join(line for line, _ in CUCM.values()))
    assert billed(site) == of_each(CUCM)


def test_it_comes_once_however_often_it_is_sent(workspace: Callable[..., Any]) -> None:
    line = STORIES["the number called is ours"][0]
    site = night(workspace, "asterisk", line, line + line, line)
    assert billed(site) == Counter(_FORWARDED)
    assert site.entries()["duplicate", ""][0] == 3


def test_versions_of_it_are_held_together(workspace: Callable[..., Any]) -> None:
    lines = [ast(1, IN, OUT, STRANGER, HERS, ABROAD, talk=talk) for talk in (30, 31)]
    for files in (lines, lines[::-1], ["".join(lines)]):
        site = night(workspace, "asterisk", *files)
        assert not billed(site)
        assert site.entries()["suspended", "HELD"][0] == 2 and ("accepted", "") not in site.entries()


def test_a_version_that_is_chosen_brings_both_charges(workspace: Callable[..., Any]) -> None:
    lines = [ast(1, IN, OUT, STRANGER, HERS, ABROAD, talk=talk) for talk in (30, 31)]
    site = night(workspace, "asterisk", *lines)
    assert choose(site.settings, 1).chosen == 1
    legs.check(site)
    assert billed(site) == Counter(_FORWARDED)
    assert {row["talk_ms"] for row in site.view("billing").to_pylist()} == {30_000}


def test_a_version_that_was_answered_brings_both_charges(workspace: Callable[..., Any]) -> None:
    lines = [ast(1, IN, OUT, STRANGER, HERS, ABROAD, talk=talk) for talk in (0, 30)]
    for files in (lines, lines[::-1], ["".join(lines)]):
        assert billed(night(workspace, "asterisk", *files)) == Counter(_FORWARDED)
