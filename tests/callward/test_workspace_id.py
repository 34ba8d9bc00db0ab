"""One id in settings, database, lake and exports: no empty or foreign register stands beside data that it does not
know."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from callward import database, initiate, workspace_id
from callward.initiate import init
from callward.keys import exports
from callward.settings import Settings, Tenant, load
from callward.storage.store import MARK
from callward.workspace_id import WorkspaceProblem
from schemas.tables import input_files
from tests import commands, retention
from tests.commands import run


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    """A workspace after a night and an export."""
    made = workspace("generic")
    retention.night(made)
    exports.write(made.settings, "test")
    return made


def _said(site: Any, *words: str) -> str:
    """Return the one sentence that a command is refused with."""
    ended = run(*words, "--config", str(site.folder)).check_clean()
    assert ended.code == 1 and len(ended.sentences) == 1, ended.err
    return ended.sentences[0]


def _lose_database(site: Any) -> None:
    database.engine(site.settings).dispose()
    for file in site.folder.glob("callward.db*"):
        file.unlink()


def test_a_new_workspace_has_one_id_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    settings = init(folder, Settings(path=folder / "callward.toml", tenants={"default": Tenant()}))
    exports.write(settings, "test")
    assert settings.workspace_id == workspace_id.check(settings)
    assert (settings.lake_path / MARK).read_text() == f"callward-workspace/1 {settings.workspace_id}\n"
    (export,) = exports.list_exports(settings.register_path)
    assert json.loads(export.read_text())["body"]["workspace_id"] == settings.workspace_id
    initiate.upgrade(settings)
    assert load(folder).workspace_id == workspace_id.check(settings)


def test_an_empty_database_beside_a_lake_is_refused_by_all_that_commit(site: Any) -> None:
    """Also when another callward, or a person, made its tables; what was there before is not taken in again."""
    _lose_database(site)
    for words in (["nightly"], ["purge", "--as-of", "2026-09-02"], ["compact"], ["rebuild"]):
        assert "there is no database" in _said(site, *words)
    ended = run("init", str(site.folder), "--upgrade").check_clean()
    assert ended.code == 1 and "beside it is data of a workspace (the lake and the newest register export)" in ended.err
    assert "restore the database" in ended.err and not site.settings.database_file.exists()
    database.upgrade(site.settings)
    for words in (["nightly"], ["purge", "--as-of", "2026-09-02"], ["stream", "start"], ["compact"], ["rebuild"]):
        assert "restore the database" in _said(site, *words)
    rows = run("doctor", "--json", "--config", str(site.folder)).document
    found = next(row for row in rows if row["what"] == "workspace")
    assert found["state"] == "wrong" and "restore the database" in found["fix"]
    assert not any("init --upgrade" in row["fix"] for row in rows if row["what"] in ("workspace", "database"))
    assert site._rows(input_files) == []


def test_a_database_that_is_lost_for_good_is_begun_anew_only_when_it_is_said_so(site: Any) -> None:
    (export,) = exports.list_exports(site.settings.register_path)
    known = workspace_id.check(site.settings)
    _lose_database(site)
    ended = run("init", str(site.folder), "--upgrade", "--lost-database").check_clean()
    assert ended.code == 0
    assert workspace_id.check(site.settings) == known
    assert run("keys", "restore", "--export", str(export), "--config", str(site.folder)).check_clean().code == 3


def test_another_workspaces_database_is_refused(site: Any, workspace: Callable[..., Any]) -> None:
    with database.writing(site.settings) as connection:
        connection.execute(update(workspace_id.workspace).values(workspace_id="abcdefghijklmn"))
    for words in (["nightly"], ["purge", "--as-of", "2026-09-02"], ["stream", "start"]):
        assert "is of the workspace abcdefghijklmn, and the lake of" in _said(site, *words)
    ended = run("init", str(site.folder), "--upgrade").check_clean()
    assert ended.code == 1 and "is of the workspace abcdefghijklmn" in ended.err
    rows = run("doctor", "--json", "--config", str(site.folder)).document
    assert any(row["what"] == "workspace" and row["state"] == "wrong" for row in rows)


@pytest.mark.parametrize("place", ["settings", "lake", "exports"])
def test_each_place_is_compared(site: Any, place: str) -> None:
    if place == "settings":
        path = site.settings.path
        path.write_text('workspace_id = "abcdefghijklmn"\n' + path.read_text())
    elif place == "lake":
        (site.settings.lake_path / MARK).write_text("callward-workspace/1 abcdefghijklmn\n")
    else:
        (export,) = exports.list_exports(site.settings.register_path)
        export.write_text(export.read_text().replace(workspace_id.check(site.settings), "abcdefghijklmn"))
    with pytest.raises(WorkspaceProblem, match=r"and .* of abcdefghijklmn"):
        workspace_id.check(site.settings)


def test_a_lake_that_is_not_mounted_is_refused(site: Any) -> None:
    shutil.rmtree(site.settings.lake_path)
    site.settings.lake_path.mkdir()
    assert "is empty, and the register names files in it; mount it" in _said(site, "nightly")
    ended = run("init", str(site.folder), "--upgrade").check_clean()
    assert ended.code == 1 and "mount it, or fix lake.uri" in ended.err


def test_a_server_that_is_away_is_never_answered_with_init(site: Any) -> None:
    site.set(database={"url": "postgresql://callward@localhost:1/callward", "tls": "off"})
    for words in (["nightly"], ["init", "--upgrade"], ["audit", "verify"]):
        where = [str(site.folder)] if words[0] == "init" else ["--config", str(site.folder)]
        ended = run(*words, *where).check_clean()
        assert ended.code == 1 and "the server cannot be reached" in ended.err and "init" not in ended.err
    rows = run("doctor", "--json", "--config", str(site.folder)).document
    assert not any("init" in row["fix"] for row in rows)
    assert [row["what"] for row in rows if "cannot be reached" in row["seen"]] == ["database"]


def test_two_upgrades_at_once_make_one_register(workspace: Callable[..., Any], fresh_url: str) -> None:
    from tests.postgresql import on_loopback

    file = workspace("generic")
    _lose_database(file)
    (file.settings.lake_path / MARK).unlink()
    for site in (file, workspace("generic", database=on_loopback(fresh_url))):
        begun = [commands.start("init", str(site.folder), "--upgrade") for _ in range(3)]
        assert [(one.code, one.err) for one in (running.wait().check_clean() for running in begun)] == [(0, "")] * 3
        with database.reading(site.settings) as connection:
            assert len(connection.execute(select(workspace_id.workspace)).all()) == 1


@pytest.mark.parametrize("server", [False, True])
def test_a_newer_database_is_refused_by_every_command(
    server: bool, workspace: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    from tests.postgresql import on_loopback

    changes = {"database": on_loopback(request.getfixturevalue("fresh_url"))} if server else {}
    site = workspace("generic", **changes)
    initiate.upgrade(site.settings)
    with database.writing(site.settings) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for words in (["nightly"], ["audit", "verify"], ["keys", "list"], ["hold", "list"]):
        assert "was made or upgraded by a newer callward" in _said(site, *words)
    ended = run("init", str(site.folder), "--upgrade").check_clean()
    assert ended.code == 1 and "install that version here, too" in ended.err
    rows = run("doctor", "--json", "--config", str(site.folder)).document
    found = next(row for row in rows if row["what"] == "database")
    assert (found["state"], found["fix"]) == ("wrong", "install that version here, too")
