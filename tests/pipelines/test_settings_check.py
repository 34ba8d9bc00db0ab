"""settings check: every fault with its file and line, and what the settings name, without a night."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callward.settings.lines import line_of
from tests.typed import Run, typing

WRONG = """\
format_version = 1
[engine]
workers = 0
wrokers = 2
[waves]
records = "many"

[tenants.default]
zone = "Nowhere/Land"

[[sources]]
name = "one"
format = "asterisk"

[[sources]]
name = "two"
format = "asterisk"
zone = "Mars/Base"
"""
APART = """\
[[sources]]
name = "one"
format = "asterisk"
tenant = "wset"

[[sources]]
name = "one"
format = "asterisk"

[[trunks]]
name = "pbx"
account = "acct-0002"

[tenants.west]
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    with typing(capsys, monkeypatch, "settings", "check", columns=200) as typed:
        yield typed


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("asterisk")


def test_every_fault_of_a_file_is_said_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(WRONG, encoding="utf-8")
    ran = run(tmp_path / "new.toml", "--json")
    assert ran.code == 2
    said = [(row["what"], row["seen"].partition(":")[0]) for row in ran.json]
    assert said == [
        ("new.toml, line 3", "engine.workers"),
        ("new.toml, line 4", "unknown key engine.wrokers; did you mean 'workers'?"),
        ("new.toml, line 6", "waves.records"),
        ("new.toml, line 9", "tenants.default.zone"),
        ("new.toml, line 18", "[[sources]] no. 2, zone"),
    ]


def test_what_does_not_fit_together_is_said_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(APART, encoding="utf-8")
    ran = run(tmp_path / "new.toml", "--json")
    assert ran.code == 2 and len(ran.json) == 4, ran.json
    for words in ("two sources are called 'one'", "no account has the id", "'wset'; did you mean 'west'", "'default'"):
        assert any(words in row["seen"] for row in ran.json), words


def test_settings_that_are_right_are_said_to_be(run: Run, site: Any) -> None:
    ran = run("--config", site.settings.path)
    assert ran.code == 0 and ran.out.endswith("nothing is wrong\n"), ran


def test_what_the_settings_name_is_looked_at(run: Run, site: Any) -> None:
    (site.folder / "keys" / "ids.root").unlink()
    shutil.rmtree(site.settings.landing_path / "asterisk")
    ran = run("--config", site.settings.path, "--json")
    bad = {row["what"] for row in ran.json if row["state"] in ("missing", "wrong")}
    assert ran.code == 3 and {"root ids", "landing asterisk"} <= bad


def test_a_declaration_that_is_wrong_is_a_wrong_setting(run: Run, site: Any) -> None:
    text = site.settings.path.read_text(encoding="utf-8")
    new = site.settings.path.with_name("new.toml")
    new.write_text(text.replace('format = "asterisk"', 'format = "astersik"'), encoding="utf-8")
    ran = run(new, "--json")
    assert ran.code == 2 and any(row["what"] == "source asterisk" and row["state"] == "wrong" for row in ran.json)


def test_a_text_that_is_no_toml_and_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text("[engine\n", encoding="utf-8")
    assert run(tmp_path / "new.toml").code == 2
    assert run(tmp_path / "none.toml").code == 2


def test_lines_of_tables_within_lists_and_of_keys_in_quotes() -> None:
    text = '[[accounts]]\nid = "a"\n[[accounts.numbers]]\nfirst = "x"\n[[accounts]]\n[[accounts.numbers]]\n"last" = 1\n'
    assert line_of(text, ("accounts", 1, "numbers", 0, "last")) == 7
    assert line_of(text, ("accounts", 0, "numbers", 0, "first")) == 4
    assert line_of(text, ("accounts", 1, "numbers", 0, "first")) == 6
    assert line_of(text, ("waves", "records")) is None
