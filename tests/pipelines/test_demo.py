"""The demo as a person runs it: every command ends as it must, and every figure is what the generator made."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from callward.errors import Problem, UsageProblem
from callward.feeds.generate import SOURCE_NAMES
from callward.settings import load
from pipelines import demo as demos
from pipelines.cli.command import run_words
from pipelines.cli.main import app
from pipelines.reports.demo import SamplesReport
from schemas.declaration import available
from schemas.retention_classes import REQUIRED

_ENTIRE_NUMBER = re.compile(r"\+?1?\d{3}55501\d{2}\b")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo") / "workspace"


@pytest.fixture(scope="module")
def steps(workspace) -> list[demos.Step]:
    """A small demo; it raises where the ledger is not what the generator knows to be true."""
    return list(demos.demo(workspace, partial(run_words, app), calls=2000, as_json=True))


def test_every_command_ends_as_it_must(steps):
    assert [f"{step.command.typed}: {step.code}\n{step.output}" for step in steps if not step.good] == []


def test_each_person_is_there(steps):
    assert {"ops", "billing", "assurance", "analytics", "compliance"} == {step.command.who for step in steps}


def test_numbers_are_shown_for_a_case_and_nowhere_else(steps):
    shown = {step.command.typed for step in steps if _ENTIRE_NUMBER.search(step.output)}
    assert shown and all("--case" in typed for typed in shown)


def test_the_derived_tables_are_what_the_lake_says(steps):
    (rebuilt,) = [json.loads(step.output) for step in steps if step.command.arguments[0] == "rebuild"]
    assert sum(table["rows"] for table in rebuilt) > 0
    assert all(table["differ"] == 0 for table in rebuilt)


def test_the_sweep_reads_the_workspace_and_finds_nothing(steps, workspace):
    (swept,) = [json.loads(step.output) for step in steps if step.command.arguments[0] == "sweep"]
    lake = sum(path.stat().st_size for path in workspace.joinpath("lake").rglob("*") if path.is_file())
    assert swept["hits"] == []
    assert swept["bytes"] > lake > 0


def test_an_analyst_gets_released_cells_that_were_paid_for(steps):
    (done, balances) = [json.loads(step.output) for step in steps if step.command.arguments[0] == "release"]
    (cells,) = [json.loads(step.output) for step in steps if "sql --role analytics" in step.command.typed]
    assert done["status"] == "published" and len(cells) == done["cells"]["number"] > 1
    assert all(cell["calls_error"] > 0 for cell in cells)
    assert {row["spent"] for row in balances} == {done["rho"] / 1e9}


def test_once_more_takes_nothing_in(steps):
    nights = [json.loads(step.output) for step in steps if step.command.arguments[0] == "nightly"]
    assert [night["rows"] > 0 for night in nights] == [True, True, False]


def test_the_landing_folder_is_empty_and_nothing_stays_aside(steps, workspace):
    assert [path for path in workspace.joinpath("landing").rglob("*") if path.is_file()] == []


def test_a_folder_that_is_not_empty_is_refused(steps, workspace):
    with pytest.raises(UsageProblem, match="not an empty folder"):
        next(demos.demo(workspace, partial(run_words, app), calls=100))


def test_what_the_generator_did_not_make_is_noticed(steps, workspace):
    from callward.feeds.truth import BUCKETS, Count, Truth

    wrong = Truth({"generic/usage-0.csv.gz": Count(rows=1, buckets=dict.fromkeys(BUCKETS, 0))})
    with pytest.raises(Problem, match="the demo's generic came to"):
        demos.check_truth(load(workspace), wrong)


def test_demo_settings_name_every_feed_and_every_window(tmp_path):
    settings = demos.demo_settings(tmp_path)
    assert {source.name for source in settings.sources} == set(SOURCE_NAMES)
    assert {source.format for source in settings.sources} <= set(available())
    assert all(set(tenant.retention) == set(REQUIRED) for tenant in settings.tenants.values())
    assert settings.missing_windows() == []


# -- samples: ours here, of the same form as the published ones --------------------------------------------------------


def _opensips_samples(folder: Path) -> None:
    """Four calls and three that failed, as SOURCES.md of the published samples describes them."""
    site, bye = "*postpaid|1001|1002||7:7", "||||7:7"
    calls = [(0, 2), (100, 104), (200, 204), (300, 302)]
    lines = []
    for n, (start, end) in enumerate(calls):
        dialog = f"a{n}|b{n}|call-{n}@192.0.2.1|200|OK"
        lines += [f"INVITE|{dialog}|{1_436_454_000 + start}|{site}", f"BYE|{dialog}|{1_436_454_000 + end}|{bye}"]
    missed = [
        f"INVITE|c{n}|{tag}|missed-{n}@192.0.2.1|{code}|x|{1_436_454_500 + n}|{site}"
        for n, (tag, code) in enumerate([("d", 487), ("", 404), ("e", 486)])
    ]
    folder.mkdir(parents=True)
    folder.joinpath("fullSuccessfull.psv").write_text("\n".join(lines) + "\n")
    folder.joinpath("fullMissed.psv").write_text("\n".join(missed) + "\n")


def test_samples_come_to_what_is_stated(tmp_path):
    _opensips_samples(tmp_path / "samples" / "opensips_flatstore")
    rows = demos.samples(tmp_path / "workspace", tmp_path / "samples")
    assert [(row.source, row.as_stated, row.buckets["merged"]) for row in rows] == [("opensips", True, 4)]
    report = SamplesReport(rows)
    assert report.exit_code == 0 and any("opensips" in str(part) for part in report.render())


def test_samples_that_differ_from_what_is_stated_are_said_to(tmp_path):
    _opensips_samples(tmp_path / "samples" / "opensips_flatstore")
    missed = tmp_path / "samples" / "opensips_flatstore" / "fullMissed.psv"
    missed.write_text("".join(missed.read_text().splitlines(keepends=True)[:2]))
    rows = demos.samples(tmp_path / "workspace", tmp_path / "samples")
    assert [row.as_stated for row in rows] == [False]
    assert SamplesReport(rows).exit_code == 1


def test_a_folder_without_samples_is_said_to_be_one(tmp_path):
    with pytest.raises(Problem, match="holds none of the samples"):
        demos.samples(tmp_path / "workspace", tmp_path)
