"""A new workspace: nothing is overwritten, nothing is open to others, and a copy of keys gives equal keys."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from callward import database, initiate
from callward.errors import UsageProblem
from callward.keys import signing
from callward.keys.keys import open_source
from callward.keys.register import KeyName, Keyring
from callward.settings import KEY_DOMAINS, SIGNERS, Settings, Source, Tenant
from schemas.retention import roots


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


def test_a_minimal_workspace_has_the_same_settings_in_few_lines(tmp_path: Path) -> None:
    whole, few = (
        initiate.init(tmp_path / name, _settings(tmp_path / name), minimal=name == "few") for name in ("whole", "few")
    )
    same = {"path": tmp_path, "digest": "", "workspace_id": ""}
    assert whole.model_copy(update=same) == few.model_copy(update=same)
    lines = few.path.read_text().splitlines()
    assert len(lines) < 10 and not any(line.startswith("#") for line in lines)
