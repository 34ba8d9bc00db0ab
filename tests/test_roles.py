"""Numbers by role over real nights: kept where numbers are kept, found by any of them, gone when numbers go."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from callward import database
from callward.keys import approvers, signing
from callward.retention.requests.register import Selector
from pipelines import request as requests
from schemas.cdr import BY_ROLE, NUMBERS
from schemas.views import INDEX
from tests import retention as scenes
from tests.raw_search import search

HEADER = (
    "id,calling_number,called_number,start_time,answer_time,end_time,talk_ms,account,direction,rated_number,"
    "redirecting_number,asserted_number,charge_number,lrn,oli,carrier_id\n"
)
CALLER, DIALLED = "+13035550101", "70"
IN_ROLES = {"rated_number": "+17205550110", "redirecting_number": "+17205550111", "asserted_number": "+17205550112"}
IN_ROLES |= {"charge_number": "+17205550113", "lrn": "+12125550114", "oli": "62", "carrier_id": "0288"}
KEPT = {"calling_number": CALLER, "called_number": DIALLED, **IN_ROLES}
BARE = scenes.call(2, caller="+13035550120").strip() + ",,,,,,,,\n"
_SIDES = ({"asserted_number", "charge_number"}, {"rated_number", "redirecting_number"})  # of an answer
TODAY = database.now().date()


def _feed() -> bytes:
    line = scenes.call(1, caller=CALLER, called=DIALLED).strip() + "," + "outbound," + ",".join(IN_ROLES.values())
    return (HEADER + line + "\n" + BARE).encode()


@pytest.fixture(scope="module")
def taken(workspace: Any, feed_source: Any) -> Any:
    """A site after a night; it is only read, or copied."""
    site = workspace(feed_source("generic", country="US"))
    scenes.night(site, _feed())
    return site


def _roles(site: Any) -> list[dict[str, Any]]:
    rows = site.view("billing").sort_by("start")
    return [{name: row.get(name) for name in NUMBERS} for row in rows.to_pylist()]


def test_a_call_keeps_each_number_in_its_role_and_the_dialled_one_as_dialled(taken: Any) -> None:
    first, second = _roles(taken)
    assert first == KEPT
    assert {name: number for name, number in second.items() if number} == {
        "calling_number": "+13035550120",
        "called_number": scenes.CALLED,
    }
    row = taken.view("billing").sort_by("start").to_pylist()[0]
    assert (row["destination"], row["jurisdiction"]) == ("US", "interstate")


def test_no_number_of_any_role_lies_in_the_clear(taken: Any) -> None:
    database.engine(taken.settings).dispose()
    assert search([taken.folder], [IN_ROLES[name] for name in BY_ROLE]) == []


def test_the_same_file_again_changes_nothing(taken: Any, tmp_path: Path) -> None:
    site = scenes.copied(taken, tmp_path / "again")
    before = site.view("billing")
    scenes.night(site, _feed(), name="again.csv")
    assert site.view("billing").equals(before)
    assert site.entries()["duplicate", ""][0] == 2


def test_all_numbers_leave_with_the_call_detail(taken: Any, tmp_path: Path) -> None:
    site = scenes.copied(taken, tmp_path / "purged")
    scenes.activate(site, scenes.policy_text({"call_detail": "30 days", "billing_transaction": "99 years"}))
    scenes.purged(site, scenes.clock(scenes.DAY) + timedelta(40))
    assert _roles(site) == [dict.fromkeys(NUMBERS)] * 2
    assert [file.numbers for file in site.data_files(INDEX)] == [False]


def _office(site: Any, tmp_path: Path) -> requests.Handler:
    key = tmp_path / "first.person"
    approvers.register(site.settings, "first.person", signing.create(key).hex())
    return requests.Handler("first.person", key, tmp_path / "answer.json")


def _ask(site: Any, hand: requests.Handler, kind: str, number: str) -> None:
    asked = requests.NewRequest("default", kind, regime="gdpr", identity="passport shown")
    requests.ask(site.settings, asked, Selector("number", number), hand, TODAY, dry_run=False)


@pytest.mark.parametrize("role", [name for name in BY_ROLE if name != "lrn"])
def test_a_request_finds_a_call_by_its_number_in_any_role(taken: Any, tmp_path: Path, role: str) -> None:
    site = scenes.copied(taken, tmp_path / "asked")
    hand = _office(site, tmp_path)
    _ask(site, hand, "access", IN_ROLES[role])
    (call,) = json.loads((tmp_path / "answer.json").read_text())["calls"]
    assert call[role] == IN_ROLES[role]
    (shown,) = [side for side in _SIDES if role in side]
    assert {name for side in _SIDES for name in side if call[name]} == shown


def test_an_erased_person_leaves_every_role_and_nobody_else_does(taken: Any, tmp_path: Path) -> None:
    site = scenes.copied(taken, tmp_path / "asked")
    text = scenes.policy_text({"billing_transaction": "99 years", "call_detail": "99 years"})
    heading = "[classes.billing_transaction]\n"
    text = text.replace('role = "processor"', 'role = "controller"').replace(heading, heading + 'floor = "6 years"\n')
    scenes.activate(site, text)
    hand = _office(site, tmp_path)
    _ask(site, hand, "erase", IN_ROLES["redirecting_number"])
    assert _roles(site)[0] == KEPT | {"redirecting_number": None}
    found = {number for row in _roles(site) for number in row.values()}
    _ask(site, hand, "erase", CALLER)
    assert _roles(site)[0] == KEPT | dict.fromkeys(["redirecting_number", "calling_number", "oli"])
    assert {number for row in _roles(site) for number in row.values()} == found - {CALLER, "62"}


def test_a_hold_by_a_number_in_any_role_keeps_the_call(taken: Any, tmp_path: Path) -> None:
    site = scenes.copied(taken, tmp_path / "held")
    for role in ("rated_number", "redirecting_number", "asserted_number", "charge_number"):
        scenes.hold(site, numbers=(IN_ROLES[role],))
    scenes.activate(site, scenes.policy_text({"call_detail": "30 days", "billing_transaction": "99 years"}))
    scenes.purged(site, scenes.clock(scenes.DAY) + timedelta(40))
    held = scenes.held(site, "held-billing")
    assert [{name: row[name] for name in NUMBERS} for row in held] == [KEPT]
