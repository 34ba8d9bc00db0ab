"""Settings from the environment: over the file, named in errors, and the same for every process of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callward.errors import UsageProblem
from callward.settings import Settings, load
from callward.workspace import WorkspaceRef, open_workspace
from pipelines.doctor.checks import examine
from tests import commands


def _load(tmp_path: Path, variables: dict[str, str], text: str = "") -> Settings:
    path = tmp_path / "callward.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, variables)


def test_the_environment_stands_over_the_file_key_by_key(tmp_path: Path) -> None:
    text = "[engine]\nworkers = 3\nparallelism = 7\n[tenants.default]\nzone = 'UTC'\n[tenants.b]"
    given = {
        "CALLWARD_ENGINE__WORKERS": "4",
        "CALLWARD_STREAM__FLUSH_SECONDS": "2.5",
        "CALLWARD_LAKE__VIRTUAL_HOSTS": "true",
        "CALLWARD_LAKE__URI": "file:other",
        "CALLWARD_LANDING__TEMPORARY_SUFFIXES": '[".one", ".two"]',
        "CALLWARD_TENANTS__DEFAULT__RETENTION__CALL_DETAIL": "18 months",
        "CALLWARD_KEYS__ROOTS": '{"billing-numbers": "local:/srv/n"}',
    }
    found = _load(tmp_path, given, text)
    assert (found.engine.workers, found.engine.parallelism) == (4, 7)
    assert (found.stream.flush_seconds, found.lake.virtual_hosts) == (2.5, True)
    assert found.lake_path == tmp_path / "other"
    assert found.landing.temporary_suffixes == [".one", ".two"]
    assert found.tenants["default"].retention == {"call_detail": "18 months"} and set(found.tenants) == {"default", "b"}
    assert found.root_uri("billing-numbers") == "local:///srv/n"
    assert found.variables == given


def test_other_variables_of_ours_are_no_settings(tmp_path: Path) -> None:
    other = {"CALLWARD_CONFIG": "x", "CALLWARD_SEED": "1", "CALLWARD_CRASH_AT": "a", "PATH": "/bin", "X__Y": "1"}
    assert _load(tmp_path, other).variables == {}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("CALLWARD_LAK__URI", "x", "did you mean 'lake'?"),
        ("CALLWARD_LAKE__URL", "x", "unknown key lake.url; did you mean 'uri'?"),
        ("CALLWARD_CONFIG__X", "x", "no variable sets anything in 'config'"),
        ("CALLWARD_SOURCES__0__NAME", "x", "no variable sets anything in 'sources'"),
        ("CALLWARD_FORMAT_VERSION__X", "1", "no variable sets anything in 'format_version'"),
        ("CALLWARD_ENGINE__WORKERS", "four", "engine.workers: write a whole number"),
        ("CALLWARD_ENGINE__WORKERS", "", "engine.workers: write a whole number"),
        ("CALLWARD_ENGINE__RUNNER", "FlnkRunner", "did you mean 'FlinkRunner'?"),
        ("CALLWARD_LANDING__TEMPORARY_SUFFIXES", ".tmp", "write JSON, such as"),
        ("CALLWARD_LAKE__URI__X", "x", "lake.uri: write a text"),
        ("CALLWARD_TENANTS__DEFAULT", "hush", "write"),
        ("CALLWARD_KAFKA__PASSWORD", "hush", "a secret is never written here"),
        ("CALLWARD_DATABASE__URL", "postgresql://me:hush@h/n", ""),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(UsageProblem) as wrong:
        _load(tmp_path, {name: text})
    assert str(wrong.value).startswith(f"{name}: ") and told in str(wrong.value)
    assert "hush" not in str(wrong.value) and "\n" not in str(wrong.value)


def test_what_stands_over_the_file_changes_the_digest(tmp_path: Path) -> None:
    plain, other = (_load(tmp_path, given) for given in ({}, {"CALLWARD_LAKE__URI": "file:other"}))
    assert plain.digest != other.digest


def test_a_worker_elsewhere_sees_what_the_command_saw(
    workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference that is pickled into a pipeline carries them: a TaskManager has an environment of its own."""
    site = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_WAVES__RECORDS", "1234")
    text = str(WorkspaceRef.of(load(site.folder), "billing-run", "test"))
    monkeypatch.delenv("CALLWARD_WAVES__RECORDS")
    assert open_workspace(WorkspaceRef.parse(text)).settings.waves.records == 1234
    monkeypatch.setenv("CALLWARD_WAVES__RECORDS", "99")
    plain = WorkspaceRef.of(site.settings.model_copy(update={"variables": {}}), "billing-run", "test")
    assert open_workspace(WorkspaceRef.parse(str(plain))).settings.waves.records != 99


def test_doctor_names_them_and_commands_obey(workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    site = workspace("asterisk")
    monkeypatch.setenv("CALLWARD_LANDING__FOLDER", "elsewhere")
    found = [finding for finding in examine(str(site.folder)) if finding.what == "settings"]
    assert any("CALLWARD_LANDING__FOLDER" in finding.seen for finding in found)
    ended = commands.run("nightly", "--config", str(site.folder), environment={"CALLWARD_LANDING__FOLDER": "elsewhere"})
    assert ended.check_clean().code == 3 and "elsewhere/asterisk" in ended.out
