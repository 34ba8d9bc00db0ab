"""The key register: one key per name whoever asks first, tombstones that hold, and an entry for every opening."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from callward import audit, database
from callward.errors import Problem
from callward.initiate import root_file
from callward.keys import rotation
from callward.keys.keys import KeyDenied, KeyGone, KeyProblem, create_local, fingerprint
from callward.keys.register import KeyName, Keyring
from callward.settings import Settings, load
from schemas.retention import roots
from schemas.tables import audit_log, keys

NAME = KeyName("assurance", "default", "2030-07", "meta")


@pytest.fixture
def settings(workspace: Callable[..., Any]) -> Settings:
    found: Settings = workspace("asterisk").settings
    return found


def ring(settings: Settings, reason: str = "test") -> Keyring:
    """A keyring that has nothing open yet."""
    return Keyring(settings, "billing-run", reason)


def _mint_at_once(config: str, barrier: Any, found: Any) -> None:
    opened = Keyring(load(config), "billing-run", "race")
    barrier.wait()
    found.put(
        [fingerprint(opened.key(KeyName("assurance", "default", f"2030-{month:02d}", "meta"))) for month in range(1, 9)]
    )


def test_two_processes_that_mint_one_key_at_once_get_the_same(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(2), context.Queue()
    both = [context.Process(target=_mint_at_once, args=(str(settings.path), barrier, found)) for _ in range(2)]
    for process in both:
        process.start()
    first, second = found.get(timeout=60), found.get(timeout=60)
    for process in both:
        process.join(60)
    assert first == second
    assert len(set(first)) == 8
    with database.reading(settings) as connection:
        rows = connection.execute(select(keys.c.month, keys.c.fingerprint).where(keys.c.month.like("2030-%"))).all()
        assert len(rows) == 8
        minted = connection.execute(select(audit_log.c.event).where(audit_log.c.reason == "race")).scalars().all()
        audit.verify(connection)
    assert (minted.count("mint"), minted.count("open")) == (8, 8)


def _destroy(settings: Settings) -> None:
    with database.writing(settings) as connection:
        connection.execute(update(keys).where(keys.c.month == NAME.month).values(state="destroyed", blob=None))


def test_destroyed_key_neither_opens_nor_is_minted_again(settings: Settings) -> None:
    key = ring(settings).key(NAME)
    _destroy(settings)
    for again in range(2):
        opened = ring(settings, f"again {again}")
        with pytest.raises(KeyGone):
            opened.key(NAME)
        with pytest.raises(KeyGone):
            opened.by_id(key.key_id)
        with pytest.raises(KeyGone):
            opened.sealer(NAME)
        assert opened.existing([NAME]) == {}
    with database.reading(settings) as connection:
        assert [row.state for row in connection.execute(select(keys).where(keys.c.month == NAME.month))] == [
            "destroyed"
        ]


def test_unknown_key_id_is_gone(settings: Settings) -> None:
    with pytest.raises(KeyGone, match="not in the register"):
        ring(settings).by_id("0" * 32)


def test_existing_mints_nothing(settings: Settings) -> None:
    opened = ring(settings)
    other = KeyName("assurance", "default", "2030-08", "meta")
    opened.key(NAME)
    assert set(opened.existing([NAME, other])) == {NAME}
    with database.reading(settings) as connection:
        assert connection.execute(select(keys).where(keys.c.month == "2030-08")).first() is None


def test_another_root_is_denied_in_words_without_a_secret(settings: Settings) -> None:
    key = ring(settings).key(NAME)
    file = root_file(settings, "assurance")
    assert file is not None
    file.unlink()
    with pytest.raises(KeyGone, match="does not exist"):
        ring(settings).key(NAME)
    create_local(file)
    with pytest.raises(KeyDenied, match="does not open this wrapped key") as denied:
        ring(settings).key(NAME)
    assert key.secret.hex() not in str(denied.value)


def test_nothing_is_minted_under_a_root_that_is_not_the_active_one(settings: Settings) -> None:
    """As where a role keeps a copy of the root of an epoch that is over."""
    file, other = root_file(settings, "assurance"), KeyName("assurance", "default", "2030-08", "meta")
    assert file is not None
    stale = file.read_bytes()
    opened = ring(settings)
    key = opened.key(NAME)
    rotation.rotate(settings, "assurance", role="custodian", reason="test")
    assert ring(settings).key(NAME) == key
    file.write_bytes(stale)
    for attempt in (opened, ring(settings)):
        with pytest.raises(KeyDenied, match="another root's"):
            attempt.key(other)
    with database.reading(settings) as connection:
        assert connection.execute(select(keys).where(keys.c.month == other.month)).first() is None


def test_a_root_that_is_not_registered_opens_but_mints_nothing(settings: Settings) -> None:
    key = ring(settings).key(NAME)
    with database.writing(settings) as connection:
        connection.execute(delete(roots).where(roots.c.domain == "assurance"))
    assert ring(settings).key(NAME) == key
    with pytest.raises(Problem, match="init --upgrade"):
        ring(settings).key(KeyName("assurance", "default", "2030-08", "meta"))


def test_a_blob_moved_to_another_name_does_not_open(settings: Settings) -> None:
    opened = ring(settings)
    mine, other = opened.key(NAME), opened.key(KeyName("assurance", "default", "2030-08", "meta"))
    with database.writing(settings) as connection:
        blob = connection.execute(select(keys.c.blob).where(keys.c.key_id == other.key_id)).scalar()
        connection.execute(update(keys).where(keys.c.key_id == mine.key_id).values(blob=blob))
    with pytest.raises(KeyProblem):
        ring(settings).key(NAME)


def test_every_first_opening_is_audited_and_a_failed_one_leaves_no_key(settings: Settings) -> None:
    opened = ring(settings, "why")
    for _ in range(3):
        opened.key(NAME)
    ring(settings, "why else").key(NAME)
    with database.reading(settings) as connection:
        rows = connection.execute(
            select(audit_log).where(audit_log.c.reason.like("why%")).order_by(audit_log.c.seq)
        ).all()
    assert [(row.event, row.reason, row.role) for row in rows] == [
        ("mint", "why", "billing-run"),
        ("open", "why else", "billing-run"),
    ]
    assert all(str(NAME) in row.subject for row in rows)


def test_the_database_never_holds_a_secret(settings: Settings) -> None:
    key = ring(settings).key(NAME)
    for path in settings.folder.iterdir():
        if path.is_file():
            assert key.secret not in path.read_bytes()
            assert key.secret.hex().encode() not in path.read_bytes()
