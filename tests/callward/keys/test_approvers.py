"""Persons and approvals: only a registered person's own key approves, and each signature is about one thing."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from callward import audit, database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers, signing
from callward.keys.keys import KeyDenied, KeyGone, KeyProblem
from callward.keys.signing import SigningKey
from callward.settings import Settings
from schemas.retention import approvals
from schemas.retention import approvers as register
from schemas.tables import audit_log

PLAN, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


@pytest.fixture
def person(settings: Settings, tmp_path: Path) -> Callable[[str], Path]:
    """person("ada") → the key file of a person who is registered now."""

    def made(name: str) -> Path:
        path = tmp_path / f"{name}.sign"
        approvers.register(settings, name, signing.create(path).hex())
        return path

    return made


def who(settings: Settings, kind: str = "purge", digest: str = PLAN, **at: Any) -> set[str]:
    with database.reading(settings) as connection:
        return approvers.approved_by(connection, kind, digest, **at)


def test_an_approval_is_of_one_person_one_kind_and_one_digest(
    settings: Settings, person: Callable[[str], Path]
) -> None:
    ada, ben = person("ada"), person("ben")
    assert who(settings) == set()
    for _ in range(2):
        approvers.approve(settings, "purge", PLAN, "ada", ada)
        assert who(settings) == {"ada"}
    approvers.approve(settings, "purge", PLAN, "ben", ben)
    assert who(settings) == {"ada", "ben"}
    assert who(settings, "policy") == who(settings, digest=OTHER) == set()
    with database.reading(settings) as connection:
        audit.verify(connection)
        events = connection.execute(select(audit_log.c.event).where(audit_log.c.role != "billing-run")).scalars().all()
    assert events.count("approver-add") == events.count("approve") == 2


def test_nobody_approves_with_another_ones_key(settings: Settings, person: Callable[[str], Path]) -> None:
    ada, _ = person("ada"), person("ben")
    with pytest.raises(KeyDenied, match="not the one that is registered for ben"):
        approvers.approve(settings, "purge", PLAN, "ben", ada)
    with pytest.raises(UsageProblem, match="no person is called 'eve'"):
        approvers.approve(settings, "purge", PLAN, "eve", ada)
    with pytest.raises(KeyGone):
        approvers.approve(settings, "purge", PLAN, "ada", ada.with_name("none"))
    assert who(settings) == set()


def test_one_key_cannot_be_two_people(settings: Settings, person: Callable[[str], Path]) -> None:
    public = SigningKey(person("ada")).public.hex()
    approvers.register(settings, "ada", public.upper())
    with pytest.raises(Problem, match="with this very key"):
        approvers.register(settings, "ben", public)
    with pytest.raises(Problem, match="with another key"):
        approvers.register(settings, "ada", "00" * 32)
    assert [row.name for row in approvers.list_approvers(settings)] == ["ada"]


def test_whoever_was_revoked_approves_no_more_and_never_returns(
    settings: Settings, person: Callable[[str], Path]
) -> None:
    ada = person("ada")
    approvers.approve(settings, "purge", PLAN, "ada", ada)
    then = database.now()
    approvers.revoke(settings, "ada")
    approvers.revoke(settings, "ada")
    assert who(settings) == set()
    with pytest.raises(KeyDenied, match="revoked"):
        approvers.approve(settings, "purge", OTHER, "ada", ada)
    for name, public in (("ada", "11" * 32), ("ada2", SigningKey(ada).public.hex())):
        with pytest.raises(Problem, match="revoked"):
            approvers.register(settings, name, public)
    assert who(settings, at=then) == {"ada"}, "what was decided then stays decided"
    assert who(settings, at=then - timedelta(days=1)) == who(settings, at=database.now()) == set()


def test_rows_that_the_custodian_did_not_sign_count_for_nothing(settings: Settings, tmp_path: Path) -> None:
    eve = tmp_path / "eve.sign"
    row = {"name": "eve", "public_key": signing.create(eve).hex(), "registered_at": database.now()}
    forged = SigningKey(eve).sign(b"callward/person/1|eve|" + row["public_key"].encode()).hex()  # type: ignore[union-attr]
    for signature in (forged, "00" * 64, "no hex"):
        with database.writing(settings) as connection:
            connection.execute(register.delete())
            connection.execute(insert(register).values(**row, registered_by="eve", signature=signature))
            connection.execute(approvals.delete())
            own = SigningKey(eve).sign(f"callward/approve/1|purge|{PLAN}".encode()).hex()
            connection.execute(
                insert(approvals).values(kind="purge", digest=PLAN, person="eve", signature=own, at=database.now())
            )
        assert who(settings) == set()
        assert [item.valid for item in approvers.list_approvers(settings)] == [False]
        with pytest.raises(KeyDenied, match="not registered by the custodian"):
            approvers.approve(settings, "purge", OTHER, "eve", eve)


@pytest.mark.parametrize("column", ["signature", "kind", "digest"])
def test_an_approval_that_was_altered_is_none(settings: Settings, person: Callable[[str], Path], column: str) -> None:
    approvers.approve(settings, "policy", OTHER, "ada", person("ada"))
    changed = {"signature": "ff" * 64, "kind": "purge", "digest": PLAN}
    with database.writing(settings) as connection:
        connection.execute(update(approvals).values({column: changed[column]}))
    assert (
        who(settings, changed["kind"] if column == "kind" else "policy", PLAN if column == "digest" else OTHER) == set()
    )


@pytest.mark.parametrize("name", ["", "Ada", "ada b", "5550100", "a-303-555-0100", "ada|x", "a" * 65])
def test_a_name_is_a_name(settings: Settings, name: str) -> None:
    with pytest.raises(UsageProblem, match="lower-case"):
        approvers.register(settings, name, "11" * 32)


@pytest.mark.parametrize("public", ["", "11" * 31, "zz" * 32, "11" * 33])
def test_a_public_key_is_32_bytes(settings: Settings, public: str) -> None:
    with pytest.raises(UsageProblem, match="64 hex"):
        approvers.register(settings, "ada", public)


@pytest.mark.parametrize(("kind", "digest"), [("purge|x", PLAN), ("purge", "AB" * 32), ("purge", "ab"), ("", PLAN)])
def test_what_is_approved_is_named_exactly(
    settings: Settings, person: Callable[[str], Path], kind: str, digest: str
) -> None:
    with pytest.raises(UsageProblem, match="SHA-256"):
        approvers.approve(settings, kind, digest, "ada", person("ada"))


def test_without_the_custodians_key_nobody_is_registered_or_revoked(
    settings: Settings, person: Callable[[str], Path]
) -> None:
    person("ada")
    signing.signer_file(settings, "custodian").unlink()
    with pytest.raises(KeyProblem):
        approvers.register(settings, "ben", "11" * 32)
    with pytest.raises(KeyProblem):
        approvers.revoke(settings, "ada")
    assert [(row.name, row.valid) for row in approvers.list_approvers(settings)] == [("ada", True)]
