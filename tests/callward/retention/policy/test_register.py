"""Policies in force: two persons put one there, nobody changes it afterwards; until then callward.toml stands in."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from callward import audit, database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers, signing
from callward.keys.keys import KeyDenied
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import Policies
from callward.settings import Settings
from schemas.retention import approvals, policies
from schemas.retention_classes import REQUIRED, Window, example
from schemas.tables import audit_log

CARRIER, VOIP = example("global-carrier"), example("voip-canada")


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


@pytest.fixture
def keys(settings: Settings, tmp_path: Path) -> dict[str, Path]:
    """Two registered persons, and their key files."""
    files = {name: tmp_path / f"{name}.sign" for name in ("first", "second")}
    for name, path in files.items():
        approvers.register(settings, name, signing.create(path).hex())
    return files


Change = Callable[..., policy_register.Policy]


@pytest.fixture
def change(settings: Settings, keys: dict[str, Path]) -> Change:
    """change(text, reference=…) → that policy, proposed by the first and activated by the second person."""

    def made(text: str, reference: str | None = None) -> policy_register.Policy:
        version, _ = policy_register.propose(settings, "default", text, "first", keys["first"], reference)
        return policy_register.activate(settings, "default", version, "second", keys["second"])

    return made


def governed(settings: Settings, **candidates: policy_register.Policy) -> Policies:
    with database.reading(settings) as connection:
        return policy_register.in_force(settings, connection, candidates)["default"]


def tampered(settings: Settings, statement: Any) -> None:
    with database.writing(settings) as connection:
        connection.execute(statement)


def test_without_a_policy_the_settings_govern_and_nobody_stands_behind_them(settings: Settings) -> None:
    found = governed(settings)
    assert (found.current.version, found.current.name, found.two_people) == (0, "from settings", False)
    assert set(found.current.rules) >= set(REQUIRED)
    assert found.last_day("suspense", date(2026, 3, 5), date(2026, 3, 5)) == date(2125, 3, 5)


def test_a_proposal_governs_nothing(settings: Settings, keys: dict[str, Path]) -> None:
    before = governed(settings)
    version, digest = policy_register.propose(settings, "default", CARRIER, "first", keys["first"], None)
    assert version == 1
    assert governed(settings) == before
    assert [(row.state, row.digest) for row in policy_register.list_versions(settings)] == [("proposed", digest)]


def test_two_persons_put_a_policy_in_force(settings: Settings, keys: dict[str, Path], change: Change) -> None:
    first = change(CARRIER)
    found = governed(settings)
    assert found.versions == (first,)
    assert (first.version, first.name, first.two_people, found.two_people) == (1, "global-carrier", True, True)
    second = change(VOIP, "notice of 2026-11")
    again = governed(settings)
    assert [v.digest for v in again.versions] == [first.digest, second.digest]
    assert (again.current.reference, again.two_people) == ("notice of 2026-11", True)
    assert [row.state for row in policy_register.list_versions(settings, "default")] == ["replaced", "active"]
    with database.reading(settings) as connection:
        audit.verify(connection)
        events = connection.execute(select(audit_log.c.event).where(audit_log.c.role == "compliance")).scalars().all()
    assert events == ["policy-propose", "policy-activate"] * 2


def test_the_one_who_proposed_cannot_activate(settings: Settings, keys: dict[str, Path]) -> None:
    policy_register.propose(settings, "default", CARRIER, "first", keys["first"], None)
    with pytest.raises(UsageProblem, match="another person activates it"):
        policy_register.activate(settings, "default", 1, "first", keys["first"])
    with pytest.raises(KeyDenied):
        policy_register.activate(settings, "default", 1, "second", keys["first"])
    with pytest.raises(UsageProblem, match="no person is called"):
        policy_register.activate(settings, "default", 1, "third", keys["first"])
    with pytest.raises(UsageProblem, match="there is no version 2"):
        policy_register.activate(settings, "default", 2, "second", keys["second"])
    assert governed(settings).current.version == 0


def test_what_is_refused_is_not_proposed(settings: Settings, keys: dict[str, Path]) -> None:
    refused: list[tuple[str, str, str | None]] = [
        ("default", CARRIER.replace("[classes.temp]", "[classes.temporary]"), None),
        ("defalt", CARRIER, None),
        ("default", CARRIER, "call 303-555-0123"),
        ("default", CARRIER, "two\nlines"),
        ("default", CARRIER, " "),
    ]
    for tenant, text, reference in refused:
        with pytest.raises(UsageProblem) as raised:
            policy_register.propose(settings, tenant, text, "first", keys["first"], reference)
        assert "555" not in str(raised.value)
    assert policy_register.list_versions(settings) == []


def test_a_version_stays_as_it_is_when_its_activation_is_repeated(
    settings: Settings, keys: dict[str, Path], change: Change
) -> None:
    once = change(CARRIER)
    assert policy_register.activate(settings, "default", 1, "second", keys["second"]) == once
    change(VOIP)
    with pytest.raises(UsageProblem, match="is replaced already"):
        policy_register.activate(settings, "default", 1, "second", keys["second"])


def test_a_proposal_is_activated_only_after_the_version_that_it_was_held_against(
    settings: Settings, keys: dict[str, Path], change: Change
) -> None:
    policy_register.propose(settings, "default", VOIP, "first", keys["first"], None)
    change(CARRIER)
    with pytest.raises(Problem, match="proposed after another version than is in force now"):
        policy_register.activate(settings, "default", 1, "second", keys["second"])
    assert governed(settings).current.name == "global-carrier"


def test_a_proposal_of_a_person_who_was_revoked_is_not_activated(settings: Settings, keys: dict[str, Path]) -> None:
    policy_register.propose(settings, "default", CARRIER, "first", keys["first"], None)
    approvers.revoke(settings, "first")
    with pytest.raises(Problem, match="no valid signature of first"):
        policy_register.activate(settings, "default", 1, "second", keys["second"])


def test_what_two_people_decided_outlasts_them(settings: Settings, change: Change) -> None:
    change(CARRIER)
    approvers.revoke(settings, "first")
    assert governed(settings).two_people


@pytest.mark.parametrize("person", ["first", "second"])
def test_without_both_signatures_two_people_do_not_stand_behind_it(
    settings: Settings, change: Change, person: str
) -> None:
    change(CARRIER)
    tampered(settings, delete(approvals).where(approvals.c.person == person))
    assert not governed(settings).two_people


ONE = policies.c.version == 1


@pytest.mark.parametrize(
    "statement",
    [
        update(policies).where(ONE).values(text=CARRIER.replace('"7 years"', '"6 years"')),
        update(policies).where(ONE).values(reference="a consent"),
        update(policies).where(ONE).values(digest="0" * 64),
        update(policies).where(ONE).values(state="proposed"),
        update(policies).where(ONE).values(activated_at=datetime(2999, 1, 1)),
        update(policies).where(ONE).values(activated_at=None),
        update(policies).where(ONE).values(state="active"),
        update(policies).where(policies.c.version == 2).values(state="replaced"),
        update(policies).where(policies.c.version == 2).values(version=3),
        delete(policies).where(ONE),
    ],
)
def test_a_register_that_was_altered_governs_nothing(settings: Settings, change: Change, statement: Any) -> None:
    change(CARRIER)
    change(VOIP)
    tampered(settings, statement)
    with pytest.raises(policy_register.PolicyProblem):
        governed(settings)


@pytest.mark.parametrize("gone", [policies.c.version == 2, policies.c.version > 0])
def test_a_version_that_was_taken_away_is_missed(settings: Settings, change: Change, gone: Any) -> None:
    change(CARRIER)
    change(VOIP)
    with database.reading(settings) as connection:
        policy_register.check_history(connection)
    tampered(settings, delete(policies).where(gone))
    tampered(settings, update(policies).values(state="active"))
    with database.reading(settings) as connection, pytest.raises(policy_register.PolicyProblem, match="the audit log"):
        policy_register.check_history(connection)


def test_a_policy_of_another_tenant_cannot_be_passed_off(settings: Settings, change: Change) -> None:
    change(CARRIER)
    tampered(settings, update(policies).values(tenant="other"))
    with pytest.raises(policy_register.PolicyProblem):
        governed(settings)


def test_a_clock_that_went_back_activates_nothing(
    settings: Settings, keys: dict[str, Path], change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(CARRIER)
    earlier = database.now() - timedelta(days=1)
    policy_register.propose(settings, "default", VOIP, "first", keys["first"], None)
    monkeypatch.setattr(database, "now", lambda: earlier)
    with pytest.raises(Problem, match="this machine's clock is behind"):
        policy_register.activate(settings, "default", 2, "second", keys["second"])
    assert governed(settings).current.name == "global-carrier"


def test_a_candidate_shows_its_effect_and_leaves_no_trace(settings: Settings, change: Change) -> None:
    change(CARRIER)
    before = governed(settings)
    received, clock = date(2026, 1, 1), date(2026, 1, 1)
    candidate = policy_register.parse(VOIP, "default")
    found = governed(settings, default=candidate)
    assert found.current.version == 2
    assert not found.two_people
    assert found.digest != before.digest
    assert found.last_day("call_detail", clock, received) == Window(12, "month").last_day(clock)
    longer = policy_register.parse(CARRIER.replace('window = "18 months"', 'window = "2 years"'), "default")
    assert governed(settings, default=longer).last_day("call_detail", clock, received) == date(2027, 7, 1)
    allowed = replace(longer, reference="consent of 2026-11")
    assert governed(settings, default=allowed).last_day("call_detail", clock, received) == date(2028, 1, 1)
    assert governed(settings) == before


def test_a_tenant_that_left_the_settings_is_governed_by_its_policy(settings: Settings, change: Change) -> None:
    found = change(CARRIER)
    without = settings.model_copy(update={"tenants": {"other": settings.tenants["default"]}})
    with database.reading(settings) as connection:
        both = policy_register.in_force(without, connection)
    assert (set(both), both["default"].current) == ({"default", "other"}, found)
