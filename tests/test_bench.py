"""The bench measures a night that takes its files in, and says so when one does not."""

from pathlib import Path
from unittest.mock import ANY

import pytest

from bench.bench import Bench, disk, ratios
from bench.linkage import curve
from bench.night import ROOT, NightError, run_night
from tests.conftest import Site


def test_a_night_of_the_bench_takes_in_all_that_it_is_given_and_its_bytes_are_counted_until_dates_are_closed(
    tmp_path: Path,
) -> None:
    found = disk(Bench(tmp_path / "data", tmp_path), 300)
    site = Site(tmp_path / "workspace-1")
    assert site.entries() == {("in", ""): (300, ANY), ("accepted", ""): (300, ANY)}
    assert {"billing", "failed", "answered", "index", "archive", "database"} <= found["night"].keys()
    assert found["closed"].keys() == found["night"].keys() and min(found["night"].values()) > 0
    billing = next((site.folder / "lake" / "billing").rglob("*.parquet"))
    assert found["night"]["billing"] == round(billing.stat().st_size / 300, 2)
    assert (ratios({"disk": found})["bytes per call on disk, lake / floor"] or 0) > 1
    with pytest.raises(NightError, match="took nothing in"):
        run_night(site.folder, [])


@pytest.mark.parametrize("size", [5_000, 67_000])
def test_the_curve_in_the_threat_model_is_what_the_bench_measures(size: int) -> None:
    told = "".join(f" {100 * verdict.rows:.1f} % |" for verdict in curve(size).values())
    assert f"\n| {size:,} |{told}\n" in (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
