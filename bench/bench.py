"""`make bench`: floor, night and rival in one run, as ratios; JSON under bench/results/. Nothing here asserts a time.

Every figure is of a whole process (bench.measure). Ratios compare neighbours: a floor runs right beside each night.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Cost, measure
from bench.night import ROOT, NightError, bytes_on_disk, close, make_workspace, run_night

Result = dict[str, Any]

_DAY = date(2026, 3, 5)
_SMALL = 1000
_MILLION = 1_000_000
_PAIRS_OF_A_MONTH = 5  # a night of this size takes three seconds, of which the machine gives or takes one in ten


@dataclass
class Bench:
    """One run of the bench: where data and workspaces lie, what was measured so far."""

    data: Path
    scratch: Path
    results: Result = field(default_factory=dict)
    _workspaces: int = 0

    def files(self, rows: int, day: date = _DAY) -> list[Path]:
        """Files of `rows` clean Asterisk records, made once per data folder."""
        folder = self.data / f"{day:%Y%m%d}-{rows}"
        if not (folder / "complete").exists():
            made = self.script("data", str(folder), str(rows), day.isoformat())
            if made.code:
                raise NightError(f"no data: {_last_line(made)}")
        return sorted(folder.glob("*.csv"))

    def workspace(self) -> Path:
        """A new workspace."""
        self._workspaces += 1
        return make_workspace(self.scratch / f"workspace-{self._workspaces}")

    def script(self, name: str, *arguments: str) -> Cost:
        """A module of this folder as a process of its own."""
        command = [sys.executable, "-m", f"bench.{name}", *arguments]
        return measure(command, folder=ROOT, environment={"PYTHONPATH": str(ROOT)})


def _last_line(cost: Cost) -> str:
    return (cost.err.strip().splitlines() or ["no message"])[-1]


def _figures(rows: int, cost: Cost) -> Result:
    return {
        "rows": rows,
        "wall_s": round(cost.wall_s, 3),
        "cpu_s": round(cost.cpu_s, 3),
        "peak_mib": round(cost.peak_mib),
        "rows_per_second": round(rows / cost.wall_s),
        "cpu_us_per_row": round(cost.cpu_s / rows * _MILLION, 3),
    }


def _script(bench: Bench, rows: int, name: str, *arguments: str) -> Result:
    cost = bench.script(name, *arguments)
    if cost.code:
        return {"failed": _last_line(cost)}
    return _figures(rows, cost)


def _floor(bench: Bench, rows: int, *options: str) -> Result:
    target = bench.scratch / "floor.parquet"
    return _script(bench, rows, "floor", *options, str(target), *map(str, bench.files(rows)))


def _night(bench: Bench, rows: int, workspace: Path | None = None, day: date = _DAY) -> Result:
    try:
        night = run_night(workspace or bench.workspace(), bench.files(rows, day))
    except NightError as error:
        return {"failed": str(error)}
    if night.report["rows"] != rows:
        return {"failed": f"the night read {night.report['rows']} records of {rows}"}
    return _figures(rows, night.cost) | {"inner_s": night.report.get("seconds")}


def pairs(bench: Bench, rows: int, count: int) -> Result:
    """A floor and a night side by side, `count` times; their ratio is the median over the pairs."""
    runs = [{"floor": _floor(bench, rows), "night": _night(bench, rows)} for _ in range(count)]
    ratios = [run["floor"]["wall_s"] / run["night"]["wall_s"] for run in runs if _fine(run["floor"], run["night"])]
    return {"runs": runs, "night_to_floor": round(statistics.median(ratios), 3) if ratios else None}


def disk(bench: Bench, rows: int) -> Result:
    """Bytes per call on disk, by what they are: of the floor's file, of a night's lake, and of it once it is closed."""
    floor, workspace = _floor(bench, rows), bench.workspace()
    night = _night(bench, rows, workspace)
    if not _fine(floor, night):
        return next(result for result in (floor, night) if "failed" in result)
    sizes = [bytes_on_disk(workspace)]
    close(workspace)
    sizes.append(bytes_on_disk(workspace))
    each = [{part: round(size / rows, 2) for part, size in of.items()} for of in sizes]
    floor_bytes = (bench.scratch / "floor.parquet").stat().st_size
    return {"rows": rows, "floor": round(floor_bytes / rows, 2), "night": each[0], "closed": each[1]}


def flatness(bench: Bench, sizes: list[int]) -> Result:
    """Nights of several sizes, each into an empty lake: does a record's cost, or the peak of memory, grow?"""
    return {str(rows): _night(bench, rows) for rows in sizes}


def rival(bench: Bench, rows: int, of: int) -> Result:
    """The per-record pipeline over the first `rows` records."""
    target = bench.scratch / "per_record"
    return _script(bench, rows, "per_record", str(target), *map(str, bench.files(of)), "--rows", str(rows))


def start_up(bench: Bench) -> Result:
    """A night of a thousand records: everything but them is start-up."""
    return _night(bench, _SMALL)


def month(bench: Bench, rows: int, days: int = 30) -> Result:
    """Nights into an empty lake, and beside each into one that holds the month before; the median of the pairs."""
    full = bench.workspace()
    for back in range(days, 0, -1):
        before = _night(bench, rows, full, _DAY - timedelta(days=back))
        if "failed" in before:
            return before
    pairs = [
        (_night(bench, rows, None, day), _night(bench, rows, full, day))
        for day in (_DAY + timedelta(days=ahead) for ahead in range(_PAIRS_OF_A_MONTH))
    ]
    grown = [full["wall_s"] / empty["wall_s"] for empty, full in pairs if _fine(empty, full)]
    return {
        "empty": pairs[0][0],
        "full": pairs[0][1],
        "nights_before": days,
        "full_to_empty_each": [round(ratio, 3) for ratio in grown],
        "full_to_empty": round(statistics.median(grown), 3) if grown else None,
    }


def _document(bench: Bench, name: str, *arguments: str) -> Result:
    """What a script of this folder prints, or why it failed."""
    cost = bench.script(name, *arguments)
    found: Result = json.loads(cost.out) if cost.code == 0 else {}
    return found or {"failed": _last_line(cost)}


def parse_rates(bench: Bench, rows: int) -> Result:
    """Records per second of one thread, by format."""
    return _document(bench, "parse_rates", "--rows", str(rows))


def directory(bench: Bench) -> Result:
    """An account directory of ten million numbers: seconds to load it, and its cost for both sides of a CDR."""
    return _document(bench, "accounts")


def purging(bench: Bench) -> Result:
    """One month of a 24-month lake, small and ten times larger; rewriting, in rows per second of one worker."""
    return _document(bench, "purge", "--folder", str(bench.scratch))


def releasing(bench: Bench, rows: int) -> Result:
    """Two tables of anonymized aggregates over a day of so many calls; contribution bounding, of one worker."""
    return _document(bench, "release", "--rows", str(rows), "--folder", str(bench.scratch))


def streaming(bench: Bench) -> Result:
    """A stream from a real broker on an embedded Flink: from a full topic, and at a steady 20,000 records a second."""
    return _document(bench, "stream", "--folder", str(bench.scratch))


def _fine(*results: Result) -> bool:
    return not any("failed" in result for result in results)


def _steps(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Result]]]:
    sizes = [options.rows // 4, options.rows, *([40 * _MILLION] if options.large else [])]
    yield "start_up", lambda: start_up(bench)
    yield "pairs", lambda: pairs(bench, options.rows, options.pairs)
    yield "disk", lambda: disk(bench, options.disk_rows)
    yield "narrow_floor", lambda: _floor(bench, options.rows, "--narrow")
    yield "flatness", lambda: flatness(bench, sizes)
    yield "per_record", lambda: rival(bench, options.rival_rows, options.rows)
    yield "parse_rates", lambda: parse_rates(bench, options.parse_rows)
    yield "accounts", lambda: directory(bench)
    yield "purge", lambda: purging(bench)
    if options.large:
        yield "release", lambda: releasing(bench, 10 * _MILLION)
    if options.stream:
        yield "stream", lambda: streaming(bench)
    if options.month:
        yield "month", lambda: month(bench, options.month_rows)


def _tried(step: Callable[[], Result]) -> Result:
    try:
        return step()
    except NightError as error:
        return {"failed": str(error)}


def ratios(results: Result) -> Result:
    """What the promises are about, from what was measured; None where something is missing."""
    nights = [run["night"] for run in results.get("pairs", {}).get("runs", []) if _fine(run["night"])]
    speed = statistics.median(night["rows_per_second"] for night in nights) if nights else None
    slow = results.get("per_record", {}).get("rows_per_second")
    flat = [night for night in results.get("flatness", {}).values() if _fine(night)]
    small, purge, release = (results.get(name, {}) for name in ("start_up", "purge", "release"))
    on_disk = results.get("disk", {})
    fast, fresh = (results.get("stream", {}).get(name, {}) for name in ("fast", "fresh"))
    return {
        "night / floor (rate)": results.get("pairs", {}).get("night_to_floor"),
        "night / per-record (rate)": round(speed / slow, 1) if speed and slow else None,
        "cost per record, largest / smallest": _spread(flat, "cpu_us_per_row"),
        "peak memory, largest / smallest": _spread(flat, "peak_mib"),
        "peak memory (MiB)": max((night["peak_mib"] for night in [*flat, *nights]), default=None),
        "bytes per call on disk, lake / floor": _of_floor(on_disk, "night"),
        "bytes per call on disk, lake / floor, dates closed": _of_floor(on_disk, "closed"),
        "small night (s)": small.get("wall_s"),
        "full lake / empty lake (time)": results.get("month", {}).get("full_to_empty"),
        "purge of a month, large lake (s)": purge.get("large", {}).get("wall_s"),
        "purge of a month, large lake / small (time)": purge.get("large_to_small"),
        "numbers dropped (rows/s of a worker)": purge.get("rewriting", {})
        .get("numbers_dropped", {})
        .get("rows_per_second"),
        "two releases of a day of 10 million calls (s)": release.get("wall_s"),
        "stream from a full topic (records/s)": fast.get("records_per_second"),
        "stream, age of a record at its commit, p99 (s)": fresh.get("age_s", {}).get("p99"),
        "contribution bounding (rows/s of a worker)": release.get("bounding", {})
        .get("bottom_l0", {})
        .get("rows_per_second"),
    }


def _of_floor(on_disk: Result, when: str) -> float | None:
    """Return the bytes of a lake, without its database, in those of the floor's file."""
    if "floor" not in on_disk:
        return None
    lake: float = sum(size for part, size in on_disk[when].items() if part != "database")
    return round(lake / on_disk["floor"], 2)


def _spread(nights: list[Result], figure: str) -> float | None:
    return round(nights[-1][figure] / nights[0][figure], 3) if len(nights) > 1 else None


def _rows(results: Result) -> Iterator[tuple[str, Result]]:
    """Every measured process, named."""
    for number, run in enumerate(results.get("pairs", {}).get("runs", []), 1):
        yield f"floor {number}", run["floor"]
        yield f"night {number}", run["night"]
    for rows, night in results.get("flatness", {}).items():
        yield f"night of {int(rows):,}", night
    for name in ("narrow_floor", "per_record", "start_up"):
        if name in results:
            yield name.replace("_", "-"), results[name]
    for name in ("empty", "full"):
        if name in results.get("month", {}):
            yield f"night, {name} lake", results["month"][name]


def show(console: Console, results: Result) -> None:
    """Prints the processes, the parse rates and the ratios as tables."""
    processes = Table("process", "records", "wall s", "cpu s", "peak MiB", "records/s", "cpu µs/record")
    for name, run in _rows(results):
        figures = ("rows", "wall_s", "cpu_s", "peak_mib", "rows_per_second", "cpu_us_per_row")
        processes.add_row(name, *(["failed"] if "failed" in run else [f"{run[figure]:,}" for figure in figures]))
    formats = Table("format", "records/s parsed, one thread")
    for name, rate in results.get("parse_rates", {}).items():
        formats.add_row(name, f"{rate:,.0f}" if isinstance(rate, float) else str(rate))
    accounts = Table("account directory", "measured")
    for name, value in results.get("accounts", {}).items():
        accounts.add_row(name, str(value))
    stored = Table("bytes per call on disk", "after the night", "dates closed")
    on_disk = results.get("disk", {})
    if "floor" in on_disk:
        stored.add_row("floor", str(on_disk["floor"]), "")
        for part, size in on_disk["night"].items():
            stored.add_row(part, str(size), str(on_disk["closed"].get(part, 0)))
    promises = Table("ratio", "measured")
    for name, value in results["ratios"].items():
        promises.add_row(name, "not measured" if value is None else str(value))
    console.print(processes, stored, formats, accounts, promises)
    for name, run in _rows(results):
        if "failed" in run:
            console.print(f"{name}: {run['failed']}", markup=False)


def _machine() -> Result:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)
    return {
        "cores": os.cpu_count(),
        "memory_mib": memory,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4 * _MILLION, help="records of the main night")
    parser.add_argument("--pairs", type=int, default=3, help="how often floor and night run beside each other")
    parser.add_argument("--disk-rows", type=int, default=1_000_000, help="records of the lake whose bytes are counted")
    parser.add_argument("--rival-rows", type=int, default=200_000, help="records of the per-record pipeline")
    parser.add_argument("--parse-rows", type=int, default=200_000, help="records per format for the parse rates")
    parser.add_argument(
        "--large",
        action="store_true",
        help="also a night of 40 million records (12 GB of disk), and releases of a day of 10 million calls",
    )
    parser.add_argument("--stream", action="store_true", help="also a stream (Java, and `make engine` before)")
    parser.add_argument("--month", action="store_true", help="also a night into a lake that holds a month")
    parser.add_argument("--month-rows", type=int, default=200_000, help="records of each night of the month")
    parser.add_argument("--data", type=Path, help="folder for generated data, kept and used again")
    parser.add_argument("--only", action="append", help="only these steps (repeatable)")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the JSON")
    return parser.parse_args()


@contextmanager
def _opened(data: Path | None) -> Iterator[Bench]:
    """A bench whose scratch folder goes at the end; it lies in the data folder, so that landing files can be links."""
    if data:
        data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="callward-bench-", dir=data) as name:
        yield Bench(data or Path(name) / "data", Path(name))


def main() -> None:
    """Runs the steps, prints tables, writes one JSON document; ends with 0 whatever was slow or failed."""
    options = _options()
    console = Console()
    started = datetime.now(UTC)
    with _opened(options.data) as bench:
        for name, step in _steps(bench, options):
            if options.only is None or name in options.only:
                console.print(f"{name} …")
                bench.results[name] = _tried(step)
        results = {"started": started.isoformat(timespec="seconds"), "machine": _machine(), **bench.results}
    results["ratios"] = ratios(results)
    show(console, results)
    options.results.mkdir(parents=True, exist_ok=True)
    target = options.results / f"{started:%Y%m%dT%H%M%SZ}.json"
    target.write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"written: {target}")


if __name__ == "__main__":
    main()
