"""Assign: direction by the sides of ingress and egress, and who pays: a clause a row."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from callward.accounts.entries import UNASSIGNED
from callward.numbering import plan
from callward.settings import Account, NumberRange, Tenant, Trunk
from schemas.cdr import PARSED, ROLES
from schemas.retention_classes import CLASSES
from transforms.assign import assign
from transforms.normalize import normalize
from transforms.rate import rate

START = 1_772_712_000_000  # 2026-03-05 12:00 UTC
MINE, OTHERS, ABROAD = "+13035550110", "+12125550160", "+442079460123"
HERS, FREE_OURS, FREE_OTHERS, PREMIUM = "+13035550120", "+18005550110", "+18885550160", "+19005550110"
OFFICE, LOBBY = "+13035550140", "+13035550141"
FORMER = "+13035550130"  # mine until the day before, hers since

TRUNKS = [
    Trunk(name="pbx", side="customer", account="acct-mine"),
    Trunk(name="shared", side="customer", account="acct-mine"),
    Trunk(name="hers", side="customer"),
    Trunk(name="wholesale", side="network", account="acct-carrier"),
    Trunk(name="carrier", carrier="northwind"),
    Trunk(name="odd"),
]
ACCOUNTS = [
    Account(
        id="acct-mine",
        codes=["ac-mine"],
        numbers=[NumberRange(first=MINE), NumberRange(first=FORMER, until=date(2026, 3, 4))],
    ),
    Account(
        id="acct-hers",
        codes=["ac-hers"],
        trunks=["shared", "hers"],
        numbers=[
            NumberRange(first=HERS),
            NumberRange(first=FORMER, since=date(2026, 3, 5)),
            NumberRange(first=FREE_OURS),
            NumberRange(first=PREMIUM),
        ],
    ),
    Account(id="acct-carrier"),
    Account(id="acct-office", contexts=["office", "floor"], numbers=[NumberRange(first=OFFICE)]),
    Account(id="acct-lobby", contexts=["floor"], numbers=[NumberRange(first=LOBBY)]),
]
OUT, IN = {"ingress_trunk": "pbx", "egress_trunk": "carrier"}, {"ingress_trunk": "carrier"}


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("generic", trunks=TRUNKS, accounts=ACCOUNTS)


def assigned(site: Any, *rows: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return direction, account and charged side of records of a US source; of a call from OTHERS to OTHERS, unless
    said."""
    usual = {"start_time": START, "calling_raw": OTHERS, "called_raw": "+12125550161", "piece": "whole"}
    table = normalize(pa.Table.from_pylist([{**usual, **row} for row in rows], schema=PARSED), plan("US"))
    *payers, _ = (column.to_pylist() for column in assign(table, "default", site.opened))
    return list(zip(*payers, strict=True))


@pytest.mark.parametrize(
    ("row", "direction"),
    [
        ({"ingress_trunk": "pbx", "egress_trunk": "carrier"}, "outbound"),
        ({"ingress_trunk": "carrier", "egress_trunk": "pbx"}, "inbound"),
        ({"ingress_trunk": "pbx", "egress_trunk": "hers"}, "internal"),
        ({"ingress_trunk": "carrier", "egress_trunk": "wholesale"}, "transit"),
        # One side alone: what came in ends with us, what left began with us.
        ({"ingress_trunk": "carrier"}, "inbound"),
        ({"ingress_trunk": "pbx"}, "outbound"),
        ({"egress_trunk": "carrier"}, "outbound"),
        ({"egress_trunk": "pbx"}, "inbound"),
        # The record says it, but for the word unknown.
        ({"ingress_trunk": "carrier", "direction": "outbound"}, "outbound"),
        ({"ingress_trunk": "carrier", "direction": "unknown"}, "inbound"),
        # A context says who calls where the trunk has no side; the trunk's own side comes first.
        ({"ingress_trunk": "odd", "ingress_side": "network"}, "inbound"),
        ({"ingress_trunk": "unlisted", "ingress_side": "customer"}, "outbound"),
        ({"ingress_trunk": "carrier", "ingress_side": "customer"}, "inbound"),
        ({"ingress_side": "customer", "egress_side": "customer"}, "internal"),
        ({"ingress_side": "customer", "egress_side": "unknown"}, "outbound"),
        # Kinds of numbers.
        ({"calling_raw": "1001", "called_raw": "1002"}, "internal"),
        ({"calling_raw": "1001"}, "outbound"),
        ({"called_raw": "1002"}, "inbound"),
        ({"called_raw": "*98"}, "internal"),
        ({"called_raw": "911"}, "outbound"),
        ({"ingress_side": "customer", "called_raw": None}, "internal"),
        # Ranges of numbers.
        ({"calling_raw": MINE}, "outbound"),
        ({"called_raw": HERS}, "inbound"),
        ({"calling_raw": MINE, "called_raw": HERS}, "internal"),
        ({"ingress_trunk": "odd", "egress_trunk": "unlisted"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_direction_follows_from_the_sides(site: Any, row: dict[str, Any], direction: str) -> None:
    assert assigned(site, row)[0][0] == direction


@pytest.mark.parametrize(
    ("row", "role", "becomes"),
    [
        ({"ingress_trunk": "pbx"}, "caller", "outward"),
        ({}, "caller", "outward"),  # direction not known
        ({"ingress_trunk": "carrier"}, "caller", "caller"),
        ({"ingress_trunk": "carrier", "egress_trunk": "wholesale"}, "caller", "caller"),
        ({"ingress_trunk": "pbx", "egress_trunk": "hers"}, "caller", "caller"),
        ({"ingress_trunk": "pbx", "event": "an edge leg"}, "caller", "caller"),
        ({}, "egress", "egress"),
        ({"called_raw": "911"}, "egress", "egress"),
        ({"called_raw": "1002"}, "egress", "attempt"),
        ({"called_raw": HERS}, "egress", "attempt"),
        ({"called_raw": None}, "egress", "attempt"),
        ({"ingress_trunk": "pbx"}, "attempt", "attempt"),
        ({"ingress_trunk": "pbx"}, "internal", "internal"),
    ],
)
def test_a_role_follows_from_where_the_call_went(site: Any, row: dict[str, Any], role: str, becomes: str) -> None:
    usual = {"start_time": START, "calling_raw": OTHERS, "called_raw": "+12125550161", "piece": "whole"}
    rows = [{**usual, **row, "role": ROLES.index(role)}, usual]
    table = normalize(pa.Table.from_pylist(rows, schema=PARSED), plan("US"))
    assert assign(table, "default", site.opened).role.to_pylist() == [ROLES.index(becomes), None]


@pytest.mark.parametrize(
    ("row", "account", "side"),
    [
        # Outbound: the code that the switch wrote, then the trunk.
        (OUT | {"account_code": "ac-hers"}, "acct-hers", "calling"),
        (OUT, "acct-mine", "calling"),
        (OUT | {"account_code": "nobodys"}, "acct-mine", "calling"),
        # The caller's number chooses among accounts of the trunk, and never beyond them.
        ({"ingress_trunk": "shared", "calling_raw": HERS}, "acct-hers", "calling"),
        ({"ingress_trunk": "shared", "calling_raw": OTHERS}, "acct-mine", "calling"),
        ({"ingress_trunk": "shared", "calling_raw": FORMER}, "acct-hers", "calling"),
        (OUT | {"calling_raw": HERS}, "acct-mine", "calling"),
        ({"egress_trunk": "carrier", "calling_raw": HERS}, UNASSIGNED, "calling"),
        ({"ingress_trunk": "odd", "egress_trunk": "carrier", "calling_raw": HERS}, UNASSIGNED, "calling"),
        # The context where neither code nor trunk says it; accounts that share one are told by the caller's number.
        ({"ingress_trunk": "odd", "egress_trunk": "carrier", "context": "office"}, "acct-office", "calling"),
        (OUT | {"context": "office"}, "acct-mine", "calling"),
        (OUT | {"context": "office", "account_code": "ac-hers"}, "acct-hers", "calling"),
        ({"egress_trunk": "carrier", "context": "floor", "calling_raw": LOBBY}, "acct-lobby", "calling"),
        ({"egress_trunk": "carrier", "context": "floor", "calling_raw": HERS}, UNASSIGNED, "calling"),
        # Inbound: whose number it was on that day; else what the switch wrote, or where it was sent.
        (IN | {"called_raw": MINE}, "acct-mine", "called"),
        (IN | {"called_raw": MINE, "account_code": "ac-hers"}, "acct-mine", "called"),
        (IN | {"called_raw": FORMER}, "acct-hers", "called"),
        (IN | {"called_raw": FORMER, "start_time": START - 86_400_000}, "acct-mine", "called"),
        (IN | {"calling_raw": HERS, "called_raw": MINE}, "acct-mine", "called"),
        (IN | {"account_code": "ac-hers"}, "acct-hers", "called"),
        (IN | {"egress_trunk": "hers"}, "acct-hers", "called"),
        (IN | {"calling_raw": HERS}, UNASSIGNED, "called"),
        ({"ingress_trunk": "wholesale", "egress_trunk": "hers", "called_raw": MINE}, "acct-mine", "called"),
        # Transit: the trunk that it came in by.
        ({"ingress_trunk": "wholesale", "egress_trunk": "carrier"}, "acct-carrier", "calling"),
        ({"ingress_trunk": "carrier", "egress_trunk": "wholesale"}, UNASSIGNED, "calling"),
        # Internal: the caller.
        ({"ingress_trunk": "pbx", "egress_trunk": "hers", "called_raw": HERS}, "acct-mine", "calling"),
        # Toll-free: our customer's number pays, another's does not charge the caller.
        (IN | {"called_raw": FREE_OURS}, "acct-hers", "called"),
        ({"ingress_trunk": "pbx", "called_raw": FREE_OURS}, "acct-hers", "called"),
        ({"ingress_trunk": "pbx", "called_raw": FREE_OURS, "account_code": "ac-mine"}, "acct-hers", "called"),
        (OUT | {"called_raw": FREE_OTHERS}, "acct-mine", "called"),
        # Emergency: nobody pays. Premium: the caller.
        (OUT | {"called_raw": "911"}, "acct-mine", "none"),
        (OUT | {"called_raw": "+19005550160"}, "acct-mine", "calling"),
        (IN | {"called_raw": PREMIUM}, "acct-hers", "calling"),
    ],
)
def test_who_pays(site: Any, row: dict[str, Any], account: str, side: str) -> None:
    assert assigned(site, row)[0][1:] == (account, side, None)


def test_days_are_those_of_the_tenants_zone(workspace: Callable[..., Any]) -> None:
    tenant = Tenant(zone="America/Denver", retention=dict.fromkeys(CLASSES, "99 years"))
    denver = workspace("generic", trunks=TRUNKS, accounts=ACCOUNTS, tenants={"default": tenant})
    morning = IN | {"called_raw": FORMER, "start_time": START - 6 * 3_600_000}  # 06:00 UTC is 23:00 the day before
    assert [assigned(where, morning)[0][1] for where in (denver,)] == ["acct-mine"]


def test_records_do_not_depend_on_their_neighbours(site: Any) -> None:
    rows = [OUT, IN | {"called_raw": MINE}, {}, {"calling_raw": None, "called_raw": None, "start_time": None}, OUT]
    assert assigned(site, *rows) == [assigned(site, row)[0] for row in rows]


@pytest.mark.parametrize(
    ("direction", "side", "seconds"),
    [
        ("outbound", "calling", 3),
        ("inbound", "called", 3),
        ("internal", "called", 3),
        ("outbound", "called", 0),  # another's toll-free number
        ("unknown", "called", 0),
        ("outbound", "none", 0),  # an emergency
        ("inbound", "calling", 0),  # a premium number of ours
    ],
)
def test_what_our_account_does_not_pay_for_has_no_billable_seconds(
    cdr_table: Callable[..., pa.Table], direction: str, side: str, seconds: int
) -> None:
    calls = cdr_table(
        [{"record_id": 1, "start_time": START, "talk_ms": 2500, "direction": direction, "charged_side": side}]
    )
    assert rate(calls)["billable_s"].to_pylist() == [seconds]


def test_the_asserted_caller_chooses_first_among_a_trunks_own_accounts(site: Any) -> None:
    shared = {"ingress_trunk": "shared", "egress_trunk": "carrier"}
    rows = [{"calling_raw": MINE, "asserted_raw": HERS}, {"calling_raw": HERS, "asserted_raw": OTHERS}]
    assert [row[1] for row in assigned(site, *(shared | row for row in rows))] == ["acct-hers", "acct-hers"]
    assert assigned(site, OUT | {"asserted_raw": HERS})[0][1] == "acct-mine"  # her account has no share in that trunk
