"""The bench measures a night that takes its files in, and says so when one does not."""

import sys
from pathlib import Path

import pytest

from bench.measure import measure
from bench.night import ROOT, NightError, make_workspace, run_night


def test_a_night_of_the_bench_takes_in_all_that_it_is_given_and_none_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.data", str(tmp_path / "data"), "300", "2026-03-05"]
    assert measure(command, folder=ROOT, environment={"PYTHONPATH": str(ROOT)}).code == 0
    workspace = make_workspace(tmp_path / "workspace")
    night = run_night(workspace, sorted((tmp_path / "data").glob("*.csv")))
    assert night.report["rows"] == 300 == sum(file["accepted"] for file in night.report["files"])
    with pytest.raises(NightError, match="took nothing in"):
        run_night(workspace, [])
