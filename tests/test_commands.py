"""Commands that tests start see the environment of the test that starts them, not of the one that was first."""

from pathlib import Path

import pytest

from tests.commands import run


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_command_sees_the_environment_of_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CALLWARD_CONFIG", str(tmp_path / name))
    assert str(tmp_path / name) in run("doctor").out
