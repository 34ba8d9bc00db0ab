"""The bench measures a night that takes its files in, and says so when one does not."""

import sys
from pathlib import Path

import pytest

from bench.bench import Bench, disk, ratios
from bench.linkage import curve
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


def test_the_bench_counts_the_bytes_of_all_that_a_night_leaves_and_of_closed_dates(tmp_path: Path) -> None:
    found = disk(Bench(tmp_path / "data", tmp_path), 300)
    assert {"billing", "failed", "answered", "index", "archive", "database"} <= found["night"].keys()
    assert found["closed"].keys() == found["night"].keys() and min(found["night"].values()) > 0
    billing = next((tmp_path / "workspace-1" / "lake" / "billing").rglob("*.parquet"))
    assert found["night"]["billing"] == round(billing.stat().st_size / 300, 2)
    assert (ratios({"disk": found})["bytes per call on disk, lake / floor"] or 0) > 1


@pytest.mark.parametrize("size", [5_000, 67_000])
def test_the_curve_in_the_threat_model_is_what_the_bench_measures(size: int) -> None:
    told = "".join(f" {100 * verdict.rows:.1f} % |" for verdict in curve(size).values())
    assert f"\n| {size:,} |{told}\n" in (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
