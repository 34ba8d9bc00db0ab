"""A workspace with the keys of another gives equal ids to equal records, in the months that were asked for."""

from pathlib import Path

from callward import initiate
from callward.keys import rotation
from callward.keys.register import KeyName, Keyring
from callward.settings import Settings, Source, Tenant
from tests.shared_keys import init_with_keys_of, like, shared_keys

NAME = KeyName("billing", "default", "2030-01", "id")


def _settings(folder: Path) -> Settings:
    return Settings(
        path=folder / "callward.toml", tenants={"default": Tenant()}, sources=[Source(name="a", format="asterisk")]
    )


def test_copied_keys_are_equal_keys_also_after_a_rotation(tmp_path: Path) -> None:
    first = initiate.init(tmp_path / "a", _settings(tmp_path / "a"))
    key = Keyring(first, "custodian", "test").key(NAME)
    rotation.rotate(first, "billing", role="custodian", reason="test")
    second = init_with_keys_of(first, tmp_path / "b", _settings(tmp_path / "b"))
    assert Keyring(second, "custodian", "test").key(NAME) == key


def test_months_that_both_are_to_have_get_their_keys_before_the_copy(tmp_path: Path) -> None:
    first = initiate.init(tmp_path / "a", _settings(tmp_path / "a"))
    second = init_with_keys_of(first, tmp_path / "b", _settings(tmp_path / "b"), ["2031-05"])
    names = shared_keys("default", ["2031-05"])
    keyrings = [Keyring(settings, "custodian", "test") for settings in (first, second)]
    assert keyrings[0].keys(names) == keyrings[1].keys(names)
    late = KeyName("billing", "default", "2031-06", "id")
    assert keyrings[0].key(late) != keyrings[1].key(late)


def test_a_workspace_like_another_has_its_tenants_and_sources(tmp_path: Path) -> None:
    own = Source(name="own", format="formats/own.toml")
    other = _settings(tmp_path / "a").model_copy(update={"sources": [Source(name="a", format="asterisk"), own]})
    made = like(tmp_path / "b", other)
    assert [source.format for source in made.sources] == ["asterisk", str(tmp_path / "a" / "formats" / "own.toml")]
    assert (made.tenants, made.accounts, made.lake, made.database) == (
        other.tenants,
        other.accounts,
        Settings(path=made.path).lake,
        Settings(path=made.path).database,
    )
