"""What stops a night stops it before it begins, and doctor says the same: folders, roots, database, options, engine."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from callward import database
from callward.errors import Problem
from callward.initiate import root_file
from callward.settings import KEY_DOMAINS
from callward.storage.store import Store
from callward.template import render
from pipelines.doctor.checks import examine
from pipelines.engine import options
from pipelines.readiness import roots
from pipelines.readiness.finding import folder_finding
from pipelines.reports.night import arrived
from pipelines.stream import supervisor
from schemas.tables import runs
from tests import commands
from tests.modes import modes_hold


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("asterisk")


def run_rows(site: Any) -> int:
    with database.reading(site.settings) as connection:
        return int(connection.execute(select(func.count()).select_from(runs)).scalar_one())


def bad(site: Any) -> dict[str, str]:
    """Return what doctor finds wrong: what it looked at, and what it saw."""
    return {finding.what: finding.seen for finding in examine(str(site.folder)) if finding.bad}


# -- folders -----------------------------------------------------------------------------------------------------------


def take_away(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def make_a_file(folder: Path) -> None:
    take_away(folder)
    folder.touch()


def make_a_dead_link(folder: Path) -> None:
    take_away(folder)
    folder.symlink_to(folder.with_name("nowhere"))


def close(folder: Path) -> None:
    folder.chmod(0)


def make_read_only(folder: Path) -> None:
    folder.chmod(0o500)


HARMS = [take_away, make_a_file, make_a_dead_link, close, make_read_only]
FOLDERS = {
    "landing": lambda site: site.settings.landing_path,
    "landing asterisk": lambda site: site.settings.landing_path / "asterisk",
    "lake": lambda site: site.settings.lake_path,
}


# Nothing is written into the folder of the sources' folders itself.
@pytest.mark.parametrize(
    ("which", "harm"),
    [(which, harm) for which in FOLDERS for harm in HARMS if (which, harm) != ("landing", make_read_only)],
)
def test_a_folder_that_cannot_be_used_stops_what_needs_it_before_it_begins(
    site: Any, which: str, harm: Callable[[Path], None]
) -> None:
    folder = FOLDERS[which](site)
    harm(folder)
    begins: list[Callable[[], object]] = [lambda: supervisor.start(site.settings)]
    if which == "lake":  # over a landing folder a night goes on, and says so (tests/pipelines/monitoring/test_feeds.py)
        begins += [site.night, lambda: arrived(site.settings, [])]
    with modes_hold():
        for begin in begins:
            with pytest.raises(Problem) as problem:
                begin()
            assert str(folder) in str(problem.value) and problem.value.hint
        seen = bad(site)
    assert ("lake" if which == "lake" else "landing asterisk") in seen
    assert run_rows(site) == 0


def test_a_night_over_a_lost_folder_ends_with_3_and_a_sentence(site: Any) -> None:
    shutil.rmtree(site.settings.landing_path)
    ended = commands.run("nightly", "--config", str(site.folder), "--json").check_clean()
    assert (ended.code, len(ended.document["alarms"])) == (3, 1)
    assert "there is no folder" in ended.document["alarms"][0] and "landing.folder" in ended.document["alarms"][0]


def test_a_closed_folder_within_landing_is_seen(site: Any) -> None:
    """Files in it may never be read, and a night that passes them by is not quiet."""
    closed = site.settings.landing_path / "asterisk" / "more"
    closed.mkdir(mode=0)
    with modes_hold():
        found = arrived(site.settings, [])
    assert [(file.file, file.would) for file in found] == [("asterisk/more", "Permission denied")]


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("keys.export_to", "keys.export_to"),
        ("folder of releases", "release.folder"),
        ("folder of released tables", "release.output"),
    ],
)
@pytest.mark.parametrize("harm", HARMS)
def test_doctor_looks_at_the_other_folders_that_settings_name(
    site: Any, name: str, setting: str, harm: Callable[[Path], None]
) -> None:
    folder = site.folder / "named"
    folder.mkdir()
    section, key = setting.split(".")
    site.set(**{section: {key: "named"}})
    assert name not in bad(site)
    harm(folder)
    may_be = {("release.output", take_away), ("release.folder", make_read_only)}
    with modes_hold():
        assert (name in bad(site)) == ((setting, harm) not in may_be)


def test_a_link_on_the_way_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    assert str(link) + " is a link" in folder_finding("x", link / "below" / "it", "", "").seen
    link.unlink()
    link.symlink_to(link)
    assert folder_finding("x", link / "below", "", "").bad


def test_a_lake_that_is_gone_is_not_made_anew_by_a_write(site: Any) -> None:
    """What writes later than a night's beginning does not fill the place where a disk is not mounted."""
    store = Store.of(site.settings)
    shutil.rmtree(site.settings.lake_path)
    for use in (lambda: store.write("a/b.seal", b"x"), lambda: store.read("a/b.seal")):
        with pytest.raises(Problem, match="there is no lake"):
            use()
    assert not site.settings.lake_path.exists()


# -- roots and the database --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", roots.TAKING_IN)
def test_a_root_that_a_night_needs_stops_it_before_it_begins(site: Any, domain: str) -> None:
    path = root_file(site.settings, domain)
    assert path is not None
    path.unlink()
    with pytest.raises(Problem, match=f"root {domain}"):
        site.night()
    assert run_rows(site) == 0 and f"root {domain}" in bad(site)


def test_a_night_needs_no_other_root(site: Any) -> None:
    for domain in set(KEY_DOMAINS) - set(roots.TAKING_IN):
        path = root_file(site.settings, domain)
        assert path is not None
        path.unlink()
    assert site.night().status == "done"


def test_a_lost_database_stops_a_night_with_the_way_out(site: Any) -> None:
    file = site.settings.database_file
    assert file is not None
    file.unlink()
    with pytest.raises(Problem, match="there is no database") as problem:
        site.night()
    assert problem.value.hint and "restore it" in problem.value.hint


# -- what the settings name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["--experiments=a", "--experiments", "b"], None),
        (["--nosuchoption=1"], "Beam has no option --nosuchoption"),
        (["--experimnts=a"], "did you mean '--experiments'"),
        (["--max_num_workers=many"], "--max_num_workers takes another value"),
        (["--max_num_workers"], "--max_num_workers takes another value"),
        (["--runner=DirectRunner"], "--runner is decided by engine.runner"),
        (["--runner", "DataflowRunner"], "--runner is decided by engine.runner"),
        (["--flink_master=x:1"], "decided by engine.flink_master"),
        (["many"], "belongs to no option"),
        (["--help"], "Beam has no option --help"),
        (["-h"], "Beam has no option -h"),
    ],
)
def test_options_are_read_as_beam_reads_them(given: list[str], fault: str | None) -> None:
    found = options.fault(given)
    assert found is None if fault is None else found is not None and fault in found


def test_a_wrong_option_stops_a_night_without_beams_usage(site: Any) -> None:
    site.set(engine={"options": ["--max_num_workers=many"]})
    ended = commands.run("nightly", "--config", str(site.folder)).check_clean()
    assert ended.code == 2 and len(ended.sentences) == 1 and "engine options" in ended.err
    assert "many" not in ended.err and run_rows(site) == 0
    assert "engine options" in bad(site)


@pytest.mark.parametrize("changes", [{"format": "nosuch"}, {"country": "ZZ"}, {"extension_digits": [6, 2]}])
def test_a_source_that_cannot_be_built_stops_a_night(site: Any, changes: dict[str, Any]) -> None:
    wrong = site.settings.sources[0].model_copy(update=changes)
    site.settings.path.write_text(render(site.settings.model_copy(update={"sources": [wrong]})), encoding="utf-8")
    with pytest.raises(Problem, match="source asterisk"):
        site.night()
    assert run_rows(site) == 0 and "source asterisk" in bad(site)


def test_flink_without_its_job_server_stops_a_night(site: Any) -> None:
    site.set(engine={"runner": "FlinkRunner", "jar": "nosuch.jar"})
    with pytest.raises(Problem, match="no Flink job server"):
        site.night()
    assert run_rows(site) == 0 and "job server" in bad(site)


def test_a_night_on_this_machine_starts_no_java(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java, started = tmp_path / "bin" / "java", tmp_path / "started"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\ntouch {started}\n", encoding="utf-8")
    java.chmod(0o700)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    site.night()
    assert not started.exists()
