"""What is published is made from published figures alone, the same bytes each time, and says what it is."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.errors import Problem
from callward.release import publication
from callward.release.budget import Reservation
from callward.release.declaration import Period
from callward.storage.durable import create_folder
from schemas.release import analytics_cells
from tests.releases import DIRECTION, HOUR, made

DAY = Period.parse("day", "2026-03-05")


def reserved(release: Any) -> Reservation:
    return Reservation("a" * 32, release, DAY, 0, "snapshot", "default/calls/2026-03-05/x")


def noisy(release: Any, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-50, 500, (release.grid().size, len(release.measures)))


def published(release: Any, figures: np.ndarray) -> tuple[publication.Cells, dict[str, Any], dict[str, bytes]]:
    sigmas = release.sigmas()
    cells = publication.of_noise(release, figures, sigmas)
    document = publication.document(reserved(release), cells, sigmas, 0.5, "2026-03-09")
    return cells, document, publication.contents(release, cells, document)


def test_the_same_figures_give_the_same_bytes() -> None:
    release = made()
    assert published(release, noisy(release))[2] == published(release, noisy(release))[2]


@given(st.integers(0, 1000), st.sampled_from([0, 11, 200]))
def test_the_file_of_a_table_gives_its_cells_back(seed: int, least: int) -> None:
    release = made(dimensions=DIRECTION + HOUR, suppress_below=str(least), rho="0.05")
    cells, _, files = published(release, noisy(release, seed))
    again = publication.of_file(release, files["cells.parquet"])
    assert list(publication.rows(reserved(release), again)) == list(publication.rows(reserved(release), cells))


@given(st.data())
def test_the_file_of_a_threshold_table_gives_its_cells_back(data: st.DataObject) -> None:
    within = data.draw(st.sampled_from([(), ("direction",), ("hour",)]))
    release = made(dimensions=DIRECTION + HOUR, rho=None, more=f"[suppression]\nwithin = {json.dumps(within)}\n")
    grid = release.grid()
    cell = np.array(data.draw(st.lists(st.integers(0, grid.size - 1), max_size=8, unique=True)), np.int64)
    every = grid.parents(np.arange(grid.size), within).astype(np.int64)
    others = np.array(data.draw(st.lists(st.sampled_from(sorted(set(every.tolist()))), max_size=3, unique=True)), int)
    parents = np.concatenate([every[cell], others])
    figures = np.arange(2 * len(parents)).reshape(-1, 2)
    cells = publication.of_groups(release, parents, np.concatenate([cell, np.full(len(others), -1)]), figures)
    again = publication.of_file(release, publication.contents(release, cells, {})["cells.parquet"])
    assert list(publication.rows(reserved(release), again)) == list(publication.rows(reserved(release), cells))


@given(st.integers(0, 1000), st.sampled_from([0, 11, 200]))
def test_suppression_looks_at_the_noisy_count_alone(seed: int, least: int) -> None:
    release = made(suppress_below=str(least), rho="0.05")
    figures = noisy(release, seed)
    cells = publication.of_noise(release, figures, release.sigmas())
    people = figures[:, 1]  # distinct subscribers
    expected = people >= least + 3 * release.sigmas()[1] if least else np.ones(len(people), bool)
    assert cells.shown.tolist() == expected.tolist()
    shown = pq.read_table(io.BytesIO(publication.contents(release, cells, {})["cells.parquet"]))
    for at, column in enumerate(("calls", "subscribers")):
        values = shown[column].to_pylist()
        assert [value is None for value in values] == (~cells.shown).tolist()
        assert set(zip(values, figures[:, at].tolist(), strict=True)) <= {
            pair for figure in figures[:, at].tolist() for pair in ((None, figure), (figure, figure))
        }


def test_signs_stay_as_sums_of_small_cells_would_be_biased() -> None:
    release = made()
    figures = noisy(release)
    assert (figures < 0).any()
    found = pq.read_table(io.BytesIO(published(release, figures)[2]["cells.parquet"]))
    assert sum(found["calls"].to_pylist()) == figures[:, 0].sum()


def test_csv_and_parquet_and_the_database_say_the_same() -> None:
    release = made(dimensions=DIRECTION + HOUR)
    figures = noisy(release)
    cells, _, files = published(release, figures)
    parquet = pq.read_table(io.BytesIO(files["cells.parquet"]))
    csv = pa.csv.read_csv(
        io.BytesIO(files["cells.csv"]),
        convert_options=pa.csv.ConvertOptions(column_types={"hour": pa.string(), "direction": pa.string()}),
    )
    assert csv.to_pylist() == parquet.to_pylist()
    rows = list(publication.rows(reserved(release), cells))
    assert {name for row in rows for name in row} <= {column.name for column in analytics_cells.columns}
    stored = {(row["d1"], row["d2"]): row["value"] for row in rows if row["measure"] == "calls"}
    told = zip(parquet["direction"].to_pylist(), parquet["hour"].to_pylist(), strict=True)
    assert stored == dict(zip(told, parquet["calls"].to_pylist(), strict=True))


def test_the_sheet_says_what_it_is_and_nothing_exact() -> None:
    release = made()
    _, document, files = published(release, noisy(release))
    assert json.loads(files["sheet.json"]) == document
    assert (
        document["kind"] == "dp" and "differentially private" in document["claim"] and "anonymous" not in str(document)
    )
    assert document["epsilon"] and document["delta"] and document["rho"] == pytest.approx(0.001)
    for one, sigma in zip(document["measures"], release.sigmas(), strict=True):
        assert one["sigma"] == sigma and one["error_95"] >= 1.96 * sigma
    assert {"suppressed", "suppressed_share", "number"} == document["cells"].keys()


def test_a_threshold_table_is_called_suppressed_and_not_anonymous() -> None:
    release = made(rho=None, dimensions=DIRECTION + HOUR, more='[suppression]\nwithin = ["hour"]\n')
    size = release.grid().size
    cells = publication.of_groups(release, np.array([0, 3]), np.array([5, -1]), np.array([[20, 12], [30, 15]]))
    document = publication.document(reserved(release), cells, (), None, "2026-03-09")
    assert "suppressed" in document["claim"] and "not anonymous" in document["claim"] and "epsilon" not in document
    assert [label.to_pylist() for label in cells.labels] == [["inbound", "(other)"], ["05", "03"]]
    assert cells.number.tolist() == [5, size + 3]


def test_files_are_there_whole_or_not_at_all_and_a_change_is_noticed(tmp_path: Path) -> None:
    release = made()
    files = published(release, noisy(release))[2]
    folder = tmp_path / "default" / "calls" / "x"
    create_folder(folder, files)
    assert publication.read(folder, publication.digests(files)) == files
    assert sorted(path.name for path in folder.parent.iterdir()) == ["x"]
    (folder / "cells.csv").write_bytes(files["cells.csv"] + b"\n")
    with pytest.raises(Problem, match="altered"):
        publication.read(folder, publication.digests(files))
    (folder / "cells.csv").unlink()
    with pytest.raises(Problem, match="analytics_cells"):
        publication.read(folder, publication.digests(files))
