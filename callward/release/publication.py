"""What is published: a table of cells as Parquet and CSV, the rows of analytics_cells, and the data sheet beside them.

All of it is made from the published figures alone, so the same figures give the same bytes at any time.
"""

import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from callward import csv_cells
from callward.errors import Problem
from callward.release.budget import Reservation
from callward.release.declaration import Grid, Release
from schemas.release import DIMENSIONS, DISTINCT, NANO

FORMAT_VERSION: Final = 1
CERTAIN: Final = 1.96  # standard deviations that 95 of 100 draws of Gaussian noise stay within
SIGMAS: Final = 3  # what a noisy count must pass its threshold by, so that it is above it in truth, nearly always
OTHER: Final = "(other)"  # the label of a dimension along which a threshold table joined cells
CLAIMS: Final = {
    "dp": "differentially private: what any one {unit} did in the period changes these figures hardly more than the "
    "noise does",
    "threshold": "suppressed: no cell of few customers is shown; this is not anonymous, and differences with other "
    "figures may still tell of one customer",
}
_UNIT_WORDS: Final = {"subscriber": "subscriber's line", "account": "account"}
_LEFT_OUT: Final = (
    "rows that name no {unit} (a withheld or foreign number, an unassigned account)",
    "rows whose {without} are in no listed value",
    "rows of persons who restricted the use of their data",
    "figures of a row that are negative",
)


@dataclass(frozen=True)
class Cells:
    """Published figures: n cells, m measures. `number` int64 [n] names a cell within the table."""

    number: np.ndarray
    labels: Sequence[pa.Array]  # a label per dimension and cell
    values: np.ndarray  # int64 [n, m], signed
    errors: np.ndarray  # int64 [m]: ± of 95 draws of noise in 100
    shown: np.ndarray  # bool [n]


def error_of(sigma: float) -> int:
    """Return the error bar of a figure with noise of that standard deviation."""
    return math.ceil(CERTAIN * sigma)


def of_noise(release: Release, noisy: np.ndarray, sigmas: Sequence[float]) -> Cells:
    """Return all cells of a dense table with noise; int64 [size, m]. Those of too small a noisy count are not shown.

    What decides is noisy itself: asking the exact count would tell of it.
    """
    grid = release.grid()
    number = np.arange(grid.size, dtype=np.int64)
    at = counting(release)
    below = release.suppressed_below
    least = below + SIGMAS * sigmas[at] if below else -math.inf
    errors = np.array([error_of(sigma) for sigma in sigmas], np.int64)
    return Cells(number, grid.labels(number), noisy, errors, np.asarray(noisy[:, at] >= least))


def counting(release: Release) -> int:
    """Return the position of the measure that counts a cell's customers: of distinct ones, else the first."""
    names = [measure.name for measure in release.measures]
    people = DISTINCT[release.unit]
    return names.index(people) if people in names else 0


def of_groups(release: Release, parents: np.ndarray, cell: np.ndarray, figures: np.ndarray) -> Cells:
    """Return the groups of a threshold table: `cell` int64 [n], negative for the `other` of `parents` [n].

    `figures` int64 [n, m]. An `other` keeps its labels in the dimensions that it is within.
    """
    grid = release.grid()
    other = cell < 0
    number = np.where(other, grid.size + parents, cell)
    example = np.where(other, _first_of_parent(grid, release, parents), cell)
    labels = [
        label
        if axis.name in release.suppression.within
        else pc.if_else(pa.array(other), OTHER, label.cast(pa.string()))
        for axis, label in zip(grid.axes, grid.labels(example), strict=True)
    ]
    none = np.zeros(figures.shape[1], np.int64)
    return Cells(number, labels, figures, none, np.ones(len(cell), bool))


def _first_of_parent(grid: Grid, release: Release, parents: np.ndarray) -> np.ndarray:
    """Return a cell within each parent, for its labels."""
    cells = np.arange(grid.size, dtype=np.int64)
    known, first = np.unique(grid.parents(cells, release.suppression.within), return_index=True)
    return np.asarray(first[np.searchsorted(known, parents.astype(np.uint64))])


# -- the files ---------------------------------------------------------------------------------------------------------


def table(release: Release, cells: Cells) -> pa.Table:
    """Return one row per cell: dimensions, each measure with its error, and whether the cell is suppressed."""
    columns: dict[str, Any] = {
        dimension.name: label.cast(pa.string())
        for dimension, label in zip(release.dimensions, cells.labels, strict=True)
    }
    for at, measure in enumerate(release.measures):
        columns[measure.name] = pa.array(cells.values[:, at], mask=~cells.shown)
        columns[f"{measure.name}_error"] = pa.array(np.full(len(cells.number), cells.errors[at], np.int64))
    columns["suppressed"] = pa.array(~cells.shown)
    return pa.table(columns)


def contents(release: Release, cells: Cells, document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a release, by name."""
    cells_table = table(release, cells)
    parquet, text = io.BytesIO(), io.BytesIO()
    pq.write_table(cells_table, parquet, compression="zstd")
    pa.csv.write_csv(csv_cells.safe_table(cells_table), text)
    return {"cells.parquet": parquet.getvalue(), "cells.csv": text.getvalue(), "sheet.json": written(document).encode()}


def of_file(release: Release, parquet: bytes) -> Cells:
    """Return the cells of a file that `contents` made, but for suppressed figures, which are 0."""
    content = pq.read_table(io.BytesIO(parquet))
    labels = [content[item.name].combine_chunks() for item in release.dimensions]
    names = [item.name for item in release.measures]
    figures = [np.asarray(content[name].fill_null(0), np.int64) for name in names]
    errors = [int(content[f"{name}_error"][0].as_py()) if content.num_rows else 0 for name in names]
    shown = ~np.asarray(content["suppressed"], bool)
    return Cells(_numbers(release, labels), labels, np.stack(figures, axis=1), np.array(errors, np.int64), shown)


def _numbers(release: Release, labels: Sequence[pa.Array]) -> np.ndarray:
    """Return what names the cells of these labels: their place in the grid, or beyond it for an `other` of several."""
    grid = release.grid()
    places = [pc.index_in(label, pa.array(axis.domain.labels)) for axis, label in zip(grid.axes, labels, strict=True)]
    other = np.any([np.asarray(place.is_null()) for place in places], axis=0)
    filled = tuple(np.asarray(place.fill_null(0), np.int64) for place in places)
    cell = np.ravel_multi_index(filled, grid.shape)
    parents = grid.parents(cell, release.suppression.within).astype(np.int64)
    return np.asarray(np.where(other, grid.size + parents, cell))


def written(document: Mapping[str, Any]) -> str:
    """Return a data sheet as text."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return SHA-256 of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def read(folder: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files of a release as they were published; raises Problem where one is missing or changed."""
    contents = {}
    for name, digest in files.items():
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise Problem(
                f"released file {folder / name}: {error.strerror}; its cells are in analytics_cells"
            ) from None
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise Problem(f"released file {folder / name} is not what was published: it was altered since")
    return contents


# -- the database ------------------------------------------------------------------------------------------------------


def rows(reserved: Reservation, cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield rows of analytics_cells."""
    release, period = reserved.release, reserved.period
    common = {
        "release_id": reserved.release_id,
        "name": release.name,
        "tenant": release.tenant,
        "period_start": period.start,
        "period_end": period.end,
        "correction_no": reserved.correction_no,
        "kind": release.kind,
        "audience": release.audience,
    }
    labels = [label.to_pylist() for label in cells.labels]
    labels += [[None] * len(cells.number)] * (DIMENSIONS - len(labels))
    numbers, shown = cells.number.tolist(), cells.shown.tolist()
    for at, measure in enumerate(release.measures):
        error = int(cells.errors[at])
        for number, value, seen, *names in zip(numbers, cells.values[:, at].tolist(), shown, *labels, strict=True):
            yield {
                **common,
                "cell": number,
                "measure": measure.name,
                **{f"d{n}": name for n, name in enumerate(names, 1)},
                "value": value if seen else None,
                "error": error,
                "suppressed": not seen,
            }


# -- the data sheet ----------------------------------------------------------------------------------------------------


def document(
    reserved: Reservation, cells: Cells, sigmas: Sequence[float], epsilon: float | None, published_on: str
) -> dict[str, Any]:
    """Return what a reader must know of a release, with no exact figure of the data: each would be a release more."""
    release, period = reserved.release, reserved.period
    return {
        "format_version": FORMAT_VERSION,
        "release_id": reserved.release_id,
        "name": release.name,
        "title": release.title,
        "tenant": release.tenant,
        "period": {"start": period.start.isoformat(), "end": period.end.isoformat(), "zone": "UTC"},
        "correction_no": reserved.correction_no,
        "published_on": published_on,
        "kind": release.kind,
        "claim": CLAIMS[release.kind].format(unit=_UNIT_WORDS[release.unit]),
        "audience": release.audience,
        "view": release.view,
        "unit": _unit(release),
        "lateness_days": release.lateness_days,
        **(_privacy(release, epsilon) if release.kind == "dp" else _thresholds(release)),
        "measures": _measures(release, cells, sigmas),
        "dimensions": _dimensions(release),
        "cells": {"number": len(cells.number), **_suppressed(cells)},
        "left_out": _left_out(release),
        "spec_digest": release.spec_digest,
    }


def _unit(release: Release) -> dict[str, str]:
    return {
        "protected": release.unit,
        "over": f"one {release.grain}; the budget adds up over a calendar month, and over all months",
        "is": {
            "subscriber": "the customer's own line: the called number of an inbound call, else the calling one; "
            "the other party is not a unit",
            "account": "the account that pays",
        }[release.unit],
    }


def _privacy(release: Release, epsilon: float | None) -> dict[str, Any]:
    assert release.budget is not None
    method = release.bounding.method
    bound = {"method": method} | ({"cells_of_a_unit": release.bounding.cells} if method == "l0" else {})
    return {
        "mechanism": "discrete Gaussian noise on every cell of a public grid (OpenDP), drawn once",
        "rho": release.rho / NANO,
        "epsilon": epsilon,
        "delta": release.budget.delta,
        "bounding": bound,
    }


def _thresholds(release: Release) -> dict[str, Any]:
    rule = release.suppression
    return {
        "mechanism": "thresholds: at least k subscribers (where the view knows them) and k accounts in a cell, nobody "
        "with more than the dominance share; other cells are joined or not shown",
        "k": rule.k,
        "dominance": rule.dominance,
        "other_within": list(rule.within),
        "coarsens": rule.coarsens,
    }


def _measures(release: Release, cells: Cells, sigmas: Sequence[float]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for at, measure in enumerate(release.measures):
        line: dict[str, Any] = {"name": measure.name, "what": release.measure(measure.name).what}
        if release.kind == "dp":
            bound = (
                {"clip": release.clips()[at]} if release.bounding.method == "l2" else {"cap": int(release.caps()[at])}
            )
            line |= {**bound, "rho": release.rhos()[at] / NANO, "sigma": sigmas[at], "error_95": int(cells.errors[at])}
        lines.append(line)
    return lines


def _dimensions(release: Release) -> list[dict[str, Any]]:
    return [
        {
            "name": axis.name,
            "column": axis.column,
            "domain": axis.domain.name,
            "version": axis.domain.version,
            "source": axis.domain.source,
            "labels": len(axis.domain.labels),
            "sha256": axis.domain.digest,
        }
        for axis in release.grid().axes
    ]


def _suppressed(cells: Cells) -> dict[str, Any]:
    gone = int(np.count_nonzero(~cells.shown))
    return {"suppressed": gone, "suppressed_share": round(gone / max(len(cells.number), 1), 4)}


def _left_out(release: Release) -> list[str]:
    closed = [axis.name for axis in release.grid().axes if axis.domain.other is None]
    words = {"unit": release.unit, "without": " or ".join(closed)}
    return [text.format(**words) for text in _LEFT_OUT if closed or "{without}" not in text]
