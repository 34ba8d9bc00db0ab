"""A new workspace: nothing is overwritten, nothing is open to others, and a copy of keys gives equal keys."""

import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from callward import database, initiate
from callward.errors import UsageProblem
from callward.keys import rotation, signing
from callward.keys.keys import open_source
from callward.keys.register import KeyName, Keyring
from callward.settings import KEY_DOMAINS, SIGNERS, Settings, Source, Tenant
from schemas.retention import roots
from schemas.tables import audit_log


def _settings(folder: Path) -> Settings:
    return Settings(
        path=folder / "callward.toml", tenants={"default": Tenant()}, sources=[Source(name="a", format="asterisk")]
    )


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The most careless umask that a user may have."""
    old = os.umask(0)
    yield
    os.umask(old)


def test_nobody_else_may_look_into_a_new_workspace(tmp_path: Path, open_umask: None) -> None:
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    assert (made.landing_path / "a").is_dir()
    for path in [tmp_path / "w", *(tmp_path / "w").rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    files = [initiate.root_file(made, domain) for domain in KEY_DOMAINS]
    for file in [*files, *(signing.signer_file(made, signer) for signer in SIGNERS)]:
        assert file is not None
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    database.check_version(made)


def test_every_key_domain_gets_another_root(tmp_path: Path) -> None:
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    assert len({open_source(made.root_uri(name)).root_id for name in KEY_DOMAINS}) == len(KEY_DOMAINS)


@pytest.mark.parametrize("there", ["file", "folder", "hidden"])
def test_a_folder_that_holds_anything_is_left_as_it_was(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "w"
    if there == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / (".mine" if there == "hidden" else "mine")).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageProblem, match="not an empty folder"):
        initiate.init(folder, _settings(folder))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    initiate.init(tmp_path / "w", _settings(tmp_path / "w"), dry_run=True)
    assert not list(tmp_path.iterdir())


def test_copied_keys_are_equal_keys(tmp_path: Path) -> None:
    name = KeyName("billing", "default", "2030-01", "id")
    first = initiate.init(tmp_path / "a", _settings(tmp_path / "a"))
    key = Keyring(first, "custodian", "test").key(name)
    second = initiate.init(tmp_path / "b", _settings(tmp_path / "b"), first)
    assert Keyring(second, "custodian", "test").key(name) == key


def test_upgrade_makes_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    key = Keyring(made, "custodian", "test").key(KeyName("billing", "default", "2030-01", "id"))
    (made.landing_path / "a").rmdir()
    initiate.upgrade(made)
    assert (made.landing_path / "a").is_dir()
    assert Keyring(made, "custodian", "again").key(KeyName("billing", "default", "2030-01", "id")) == key


def _registered(settings: Settings) -> dict[tuple[str, int], str]:
    with database.reading(settings) as connection:
        return {(row.domain, row.epoch): row.root_id for row in connection.execute(select(roots))}


def test_every_root_and_signing_key_of_a_new_workspace_is_registered(tmp_path: Path) -> None:
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    wanted: dict[tuple[str, int], str] = {(name, 1): open_source(made.root_uri(name)).root_id for name in KEY_DOMAINS}
    for signer in SIGNERS:
        wanted[signer, 1] = signing.key_id(signing.SigningKey(signing.signer_file(made, signer)).public)
    assert _registered(made) == wanted
    initiate.upgrade(made)
    assert _registered(made) == wanted


@pytest.mark.parametrize("name", ["billing", "retention"])
def test_upgrade_makes_no_other_key_for_one_that_was_lost(tmp_path: Path, name: str) -> None:
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    before = _registered(made)
    (file,) = (made.folder / "keys").glob(f"{name}.*")
    file.unlink()
    initiate.upgrade(made)
    assert not file.exists()
    assert _registered(made) == before


def test_upgrade_registers_the_roots_of_an_older_workspace(tmp_path: Path) -> None:
    """One from before roots were registered, and before there were all of them; one root is not the right one."""
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    for domain in ("billing", "assurance"):
        Keyring(made, "custodian", "test").key(KeyName(domain, "default", "2030-01", "id"))
    with database.writing(made) as connection:
        connection.execute(delete(roots))
    for name in ("late.root", "retention.sign", "assurance.root"):
        (made.folder / "keys" / name).unlink()
    shutil.copyfile(made.folder / "keys" / "billing.root", made.folder / "keys" / "assurance.root")
    (made.folder / "keys" / "assurance.root").chmod(0o600)
    initiate.upgrade(made)
    assert {name for name, _ in _registered(made)} == {*KEY_DOMAINS, *SIGNERS} - {"assurance"}


def test_a_copy_has_the_epochs_of_the_keys_that_it_copied(tmp_path: Path) -> None:
    name = KeyName("billing", "default", "2030-01", "id")
    first = initiate.init(tmp_path / "a", _settings(tmp_path / "a"))
    key = Keyring(first, "custodian", "test").key(name)
    rotation.rotate(first, "billing", role="custodian", reason="test")
    second = initiate.init(tmp_path / "b", _settings(tmp_path / "b"), first)
    assert Keyring(second, "custodian", "test").key(name) == key
    own = {(signer, 1) for signer in SIGNERS}
    theirs, ours = _registered(first), _registered(second)
    assert {name for name in ours if ours[name] != theirs[name]} == own
    assert ours.keys() == theirs.keys()


def _audited(settings: Settings) -> list[tuple[str, str]]:
    with database.reading(settings) as connection:
        return [(row.event, row.subject) for row in connection.execute(select(audit_log).order_by(audit_log.c.seq))]


def test_months_that_both_are_to_have_get_their_keys_before_the_copy(tmp_path: Path) -> None:
    first = initiate.init(tmp_path / "a", _settings(tmp_path / "a"))
    second = initiate.init(tmp_path / "b", _settings(tmp_path / "b"), first, months=["2031-05"])
    names = initiate.shared_keys("default", ["2031-05"])
    keyrings = [Keyring(settings, "custodian", "test") for settings in (first, second)]
    assert keyrings[0].keys(names) == keyrings[1].keys(names)
    late = KeyName("billing", "default", "2031-06", "id")
    assert keyrings[0].key(late) != keyrings[1].key(late)


def test_without_a_month_those_around_today_are_meant() -> None:
    now = database.now()
    months = initiate.checked_months([], None)
    assert months[1] == now.strftime("%Y-%m")
    assert [(int(b[:4]) * 12 + int(b[5:])) - (int(a[:4]) * 12 + int(a[5:])) for a, b in itertools.pairwise(months)] == [
        1,
        1,
    ]


@pytest.mark.parametrize("month", ["2031-13", "2031", "2031-5", "May"])
def test_a_month_that_is_none_is_refused(tmp_path: Path, month: str) -> None:
    with pytest.raises(UsageProblem, match="YYYY-MM"):
        initiate.checked_months([month], _settings(tmp_path))
    with pytest.raises(UsageProblem, match="--keys-of"):
        initiate.checked_months(["2031-05"], None)


def test_a_copy_of_keys_is_recorded_where_they_come_from_and_where_they_go(tmp_path: Path) -> None:
    """What the first workspace destroys opens in the second: its certificates must name these copies."""
    first = initiate.init(tmp_path / "a", _settings(tmp_path / "a"))
    initiate.init(tmp_path / "b", _settings(tmp_path / "b"), first)
    with database.reading(first) as connection:
        copies = rotation.copies(connection, list(_registered(first).values()))
    assert {copy.domain for copy in copies} == set(KEY_DOMAINS)
    assert not any(copy.destroyed for copy in copies)
    assert [event for event, _ in _audited(first)].count("root-copy") == len(KEY_DOMAINS)
    assert [event for event, _ in _audited(initiate.load(tmp_path / "b"))].count("keys-of") == 1


def test_a_workspace_like_another_has_its_tenants_and_sources(tmp_path: Path) -> None:
    own = Source(name="own", format="formats/own.toml")
    other = _settings(tmp_path / "a").model_copy(update={"sources": [Source(name="a", format="asterisk"), own]})
    made = initiate.like(tmp_path / "b", other)
    assert [source.format for source in made.sources] == ["asterisk", str(tmp_path / "a" / "formats" / "own.toml")]
    assert (made.tenants, made.accounts, made.lake, made.database) == (
        other.tenants,
        other.accounts,
        Settings(path=made.path).lake,
        Settings(path=made.path).database,
    )
