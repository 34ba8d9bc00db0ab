"""Who pays, through a whole night: what a carrier's customers see of it in the billing view."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from callward.settings import Account, NumberRange, Trunk

_MINE, _HERS, _OTHERS = "+13035550110", "+13035550120", "+12125550160"
_FREE_OURS, _FREE_OTHERS = "+18005550110", "+18885550160"
_NAMES = ("id", "account", "calling", "called", "ingress_trunk", "egress_trunk", "start", "answer", "talk_s")
_NOON = 1_772_712_000  # 2026-03-05 12:00 UTC

_TRUNKS = [
    Trunk(name="pbx", side="customer", account="mine"),
    Trunk(name="shared", side="customer", account="mine"),
    Trunk(name="carrier", carrier="northwind"),
]
_ACCOUNTS = [
    Account(id="mine", codes=["ac-mine"], numbers=[NumberRange(first=_MINE, until=date(2026, 3, 5))]),
    Account(
        id="hers",
        codes=["ac-hers"],
        trunks=["shared"],
        numbers=[
            NumberRange(first=_HERS),
            NumberRange(first=_MINE, since=date(2026, 3, 6)),
            NumberRange(first=_FREE_OURS),
        ],
    ),
]

# account code, caller, called, trunks, hours later: direction, account, charged side, billable seconds, jurisdiction
_CALLS = {
    "by code": (("ac-hers", _MINE, _OTHERS, "pbx", "carrier", 0), ("outbound", "hers", "calling", 30, "interstate")),
    "by trunk": (("", "", _OTHERS, "pbx", "carrier", 0), ("outbound", "mine", "calling", 30, "indeterminate")),
    "spoofed": (("", _HERS, _OTHERS, "pbx", "carrier", 0), ("outbound", "mine", "calling", 30, "interstate")),
    "shared": (("", _HERS, _OTHERS, "shared", "carrier", 0), ("outbound", "hers", "calling", 30, "interstate")),
    "no trunk": (("", _HERS, _OTHERS, "", "carrier", 0), ("outbound", "unassigned", "calling", 30, "interstate")),
    "inbound": (("", _OTHERS, _MINE, "carrier", "", 0), ("inbound", "mine", "called", 30, "interstate")),
    "day after": (("", _OTHERS, _MINE, "carrier", "", 13), ("inbound", "hers", "called", 30, "interstate")),
    "foreign": (
        ("", "+442079460123", _MINE, "carrier", "", 0),
        ("inbound", "mine", "called", 30, "indeterminate"),
    ),
    "abroad": (("", _MINE, "+442079460123", "pbx", "", 0), ("outbound", "mine", "calling", 30, "international")),
    "our toll-free": (("", _OTHERS, _FREE_OURS, "carrier", "", 0), ("inbound", "hers", "called", 30, "unknown")),
    "within": (("", _MINE, _FREE_OURS, "pbx", "", 0), ("internal", "hers", "called", 30, "unknown")),
    "another's": (("", _MINE, _FREE_OTHERS, "pbx", "carrier", 0), ("outbound", "mine", "called", 0, "unknown")),
    "emergency": (("", _MINE, "911", "pbx", "carrier", 0), ("outbound", "mine", "none", 0, "unknown")),
    "premium": (("", _MINE, "+19005550160", "pbx", "carrier", 0), ("outbound", "mine", "calling", 30, "unknown")),
    "internal": (("", _MINE, _HERS, "pbx", "shared", 0), ("internal", "mine", "calling", 30, "intrastate")),
    "transit": (
        ("", _OTHERS, _OTHERS, "carrier", "carrier", 0),
        ("transit", "unassigned", "calling", 30, "intrastate"),
    ),
}


@pytest.fixture(scope="module")
def billed(workspace: Callable[..., Any]) -> tuple[Any, dict[int, tuple[Any, ...]]]:
    """A workspace after a night over all calls, and what each was billed as, by the seconds after noon."""
    site = workspace("generic", trunks=_TRUNKS, accounts=_ACCOUNTS)
    lines = [",".join(_NAMES)]
    for n, (call, _) in enumerate(_CALLS.values()):
        code, calling, called, came_by, left_by, hours = call
        start = _NOON + 3600 * hours + n
        lines.append(f"c{n},{code},{calling},{called},{came_by},{left_by},{start},{start},30")
    site.land("generic", "a.csv", "\n".join([*lines, ""]).encode())
    site.night(now_ms=(_NOON + 86_400) * 1000)
    names = ("direction", "account", "charged_side", "billable_s", "jurisdiction")
    rows = site.view("billing").to_pylist()
    return site, {int(row["start"].timestamp()) % 3600: tuple(row[name] for name in names) for row in rows}


@pytest.mark.parametrize("name", _CALLS)
def test_each_call_is_paid_for_by_whom_it_must(billed: Any, name: str) -> None:
    assert billed[1][list(_CALLS).index(name)] == _CALLS[name][1]


def test_usage_is_that_of_the_rows(billed: Any) -> None:
    site, rows = billed
    daily = site.derived()["billing_usage_daily"]
    assert sum(sums[-1] for sums in daily.values()) == sum(row[3] for row in rows.values())
    assert site.differing() == 0 and not site.unbalanced()


_FREESWITCH = '"","{}","{}","{}","2026-03-05 12:00:{:02d}","2026-03-05 12:00:{:02d}","2026-03-05 12:01:30","60","30",'
_FREESWITCH += '"NORMAL_CLEARING","uuid-{}","","","PCMU","PCMU"'
_CONTEXTS = {"default": "outbound", "public": "inbound", "offices": "outbound", "unheard": "unknown"}


def test_a_site_names_its_own_contexts_in_settings(workspace: Callable[..., Any], feed_source: Any) -> None:
    mapped = {"fields": {"ingress_side": {"map": {"offices": "customer"}}}}
    site = workspace(feed_source("freeswitch", zone="UTC", declare=mapped), trunks=[], accounts=[])
    lines = [_FREESWITCH.format(_MINE, _OTHERS, name, n, n, n) for n, name in enumerate(_CONTEXTS)]
    site.land("freeswitch", "a.csv", "\n".join([*lines, ""]).encode())
    site.night()
    assert site.view("billing")["direction"].to_pylist() == list(_CONTEXTS.values())
