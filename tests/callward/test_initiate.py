"""A new workspace: nothing is overwritten, nothing is open to others, and a copy of keys gives equal keys."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from callward import database, initiate
from callward.errors import UsageProblem
from callward.keys import open_source
from callward.register import KeyName, Keyring
from callward.settings import CAPABILITIES, Settings, Source, Tenant


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
    for capability in CAPABILITIES:
        file = initiate.root_file(made, capability)
        assert file is not None
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    database.check_version(made)


def test_every_capability_gets_another_root(tmp_path: Path) -> None:
    made = initiate.init(tmp_path / "w", _settings(tmp_path / "w"))
    assert len({open_source(made.root_uri(name)).root_id for name in CAPABILITIES}) == len(CAPABILITIES)


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
