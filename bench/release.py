"""What a release costs: a day of calls counted by day, area and direction, and by hour and region, noise included.

The lake is made: data files of the billing view with real rows (lines with a home area that call unevenly, as people
do), keys and companions, in the manifest as nights would leave them. Each release is a process of its own.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.measure import Cost, measure
from bench.night import CALLWARD, ROOT, NightError, make_workspace
from bench.purge import _column, _inputs, _rate
from callward import database, settings
from callward.columns import few_of
from callward.keys import tokens
from callward.keys.register import KeyName
from callward.lake import ledger
from callward.lake.data_files import DataFiles, open_files
from callward.lake.ledger import DataFile
from callward.release import bounding, domains
from callward.settings import Settings
from schemas.cdr import TIMESTAMP
from schemas.views import BILLING

DAY = date(2026, 3, 5)
_TENANT = "default"
_FILE_ROWS = 700_000  # as a night's groups are
_CALLS_A_LINE = 10
_LINES_AN_ACCOUNT = 3
_PEAK_HOUR, _SPREAD_HOURS = 14.0, 4.5
Result = dict[str, Any]

_DECLARED = """
format_version = 1
name = "{name}"
title = "bench"
kind = "dp"
audience = "external"
view = "billing"
unit = "subscriber"
grain = "day"
lateness_days = 2
{dimensions}
[[measures]]
name = "calls"
[[measures]]
name = "talk_s"
[[measures]]
name = "subscribers"
[bounding]
method = "{method}"
[budget]
rho = "0.003"
"""
_AREA = '[[dimensions]]\nname = "area"\ncolumn = "calling_prefix"\ndomain = "{domain}"\n'
_DIRECTION = '[[dimensions]]\nname = "direction"\ncolumn = "direction"\ndomain = "directions"\n'
_HOUR = '[[dimensions]]\nname = "hour"\ncolumn = "start"\ndomain = "hours"\n'
TABLES = {
    "area_direction": (_AREA.format(domain="nanp_areas") + _DIRECTION, "l0"),
    "hour_region": (_HOUR + _AREA.format(domain="census_divisions"), "l2"),
}


def _declared(name: str) -> str:
    """A declaration of the bench."""
    dimensions, method = TABLES[name]
    return _DECLARED.format(name=name, dimensions=dimensions, method=method)


# -- a day of calls ----------------------------------------------------------------------------------------------------


def make_lake(folder: Path, rows: int) -> Settings:
    """A workspace whose billing view has so many rows on DAY."""
    made = settings.load(make_workspace(folder))
    files = open_files(made, "billing-run", "bench", "bench")
    areas = [label for label in _areas() if label != "elsewhere"]
    secret = files.workspace.keyring.key(KeyName("billing-numbers", _TENANT, f"{DAY:%Y-%m}", "token")).secret
    known = []
    for first in range(0, rows, _FILE_ROWS):
        table = _calls(min(_FILE_ROWS, rows - first), rows // _CALLS_A_LINE, areas, secret, first)
        known.append(_written(files, table))
    with database.writing(made) as connection:
        ledger.add_files(connection, "bench", known, database.now())
    return made


def _written(files: DataFiles, table: pa.Table) -> DataFile:
    return files.write_view("billing", _TENANT, DAY.isoformat(), table, _inputs(table.num_rows, 8), received_on=DAY)


def _areas() -> tuple[str, ...]:
    return domains.load("nanp_areas").labels


def _calls(rows: int, lines: int, areas: list[str], secret: bytes, seed: int) -> pa.Table:
    """Billing rows: a line's calls are as uneven as people's, and its number says where it is at home."""
    rng = np.random.default_rng(seed)
    line = np.minimum(rng.pareto(1.2, rows) * lines / 40, rng.integers(0, lines, rows)).astype(np.int64)
    area = _zipf(np.random.default_rng(1), lines, len(areas))[line]
    number = np.array(areas, np.int64)[area] * 10**7 + 2_000_000 + line % 7_999_999
    start = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp() * 1000)
    hour = rng.normal(_PEAK_HOUR, _SPREAD_HOURS, rows) % 24
    calling = _e164(number)
    called = _e164(rng.integers(2_000_000_000, 9_999_999_999, rows))
    accounts = [f"acct-{n:07d}" for n in range(lines // _LINES_AN_ACCOUNT + 1)]
    known = {
        "account": few_of(line // _LINES_AN_ACCOUNT, accounts).cast(pa.string()),
        "direction": few_of(rng.choice(3, rows, p=[0.3, 0.6, 0.1]), ["inbound", "outbound", "internal"]),
        "start": pa.array(start + (hour * 3_600_000).astype(np.int64)).view(TIMESTAMP),
        "talk_ms": pa.array(rng.exponential(180_000, rows).astype(np.int64)),
        "calling_number": calling,
        "called_number": called,
        "calling_token": tokens.number_token(calling, secret),
        "called_token": tokens.number_token(called, secret),
    }
    made = {f.name: known[f.name] if f.name in known else _column(f, rows, start, rng) for f in BILLING}
    return pa.table({name: column.cast(BILLING.field(name).type) for name, column in made.items()}, schema=BILLING)


def _zipf(rng: np.random.Generator, size: int, values: int) -> np.ndarray:
    weights = 1 / np.arange(1, values + 1)
    return rng.choice(values, size, p=weights / weights.sum())


def _e164(national: np.ndarray) -> pa.Array:
    return pa.array(np.char.add("+1", national.astype("U10")))


# -- measured ----------------------------------------------------------------------------------------------------------


def both(folder: Path, rows: int) -> Result:
    """`callward release run` of both tables over the day, one after the other; raises NightError."""
    with ProcessPoolExecutor(1, get_context("spawn")) as maker:  # its memory is not to be counted as theirs
        made = maker.submit(make_lake, folder, rows).result()
    made.releases_path.mkdir(exist_ok=True)
    for name in TABLES:
        (made.releases_path / f"{name}.toml").write_text(_declared(name))
    costs = {name: _released(made, name) for name in TABLES}
    return {
        "rows": rows,
        "wall_s": round(sum(cost.wall_s for cost in costs.values()), 2),
        **{name: _figures(cost) for name, cost in costs.items()},
    }


def _released(made: Settings, name: str) -> Cost:
    command = [*CALLWARD, "release", "run", name, "--period", DAY.isoformat(), "--json", "--config", str(made.path)]
    cost = measure(command, folder=ROOT, environment={"PYTHONPATH": str(ROOT)})
    if cost.code or json.loads(cost.out)["status"] != "published":
        raise NightError(f"callward release run: {(cost.err.strip().splitlines() or ['no message'])[-1]}")
    return cost


def _figures(cost: Cost) -> Result:
    return {
        "wall_s": round(cost.wall_s, 2),
        "cpu_s": round(cost.cpu_s, 2),
        "peak_mib": round(cost.peak_mib),
        "cells": json.loads(cost.out)["cells"],
    }


def bounding_rate(rows: int) -> Result:
    """Rows per second of one worker, of a day's units over the cells of area and direction; the best of three."""
    rng = np.random.default_rng(7)
    lines = rows // _CALLS_A_LINE
    words = rng.integers(0, 1 << 63, lines, np.uint64)
    unit = words[np.minimum(rng.pareto(1.2, rows) * lines / 40, rng.integers(0, lines, rows)).astype(np.int64)]
    cell = rng.integers(0, 2_000, rows).astype(np.uint64)
    counts = np.stack([np.ones(rows, np.int64), rng.integers(0, 3_600, rows)], axis=1)
    caps = np.array([20, 3_600])
    ways = {
        "bottom_l0": lambda: bounding.bound_l0(unit, cell, counts, 16, caps, b"bench"),
        "clip_l2": lambda: bounding.clip_l2(unit, cell, counts, (4.0, 2_400.0), bounding.SCALE),
    }
    return {name: _rate(rows, work) for name, work in ways.items()}


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="calls of the day")
    parser.add_argument("--bounded-rows", type=int, default=2_000_000, help="rows whose bounding is measured alone")
    parser.add_argument("--folder", type=Path, help="where the lake is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callward-bench-", dir=options.folder) as name:
        rates = bounding_rate(options.bounded_rows)
        print(json.dumps({**both(Path(name) / "lake", options.rows), "bounding": rates}, indent=1))


if __name__ == "__main__":
    main()
