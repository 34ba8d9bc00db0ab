"""An account directory of many numbers: how long a worker loads it, and what both sides of a CDR cost to look up."""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.night import make_workspace
from callward.accounts import sealed
from callward.accounts.directory import Directory
from callward.accounts.entries import ALWAYS, FOREVER, Entries, Holdings
from callward.keys import tokens
from callward.keys.register import Keyring, keyring
from callward.settings import load
from callward.storage.durable import replacing

_FIRST = 12_000_000_000  # of twenty thousand millions, of which one side in two is in the directory
_BATCH = 1 << 16
_BATCHES = 16
_DAY = 20_500


def figures(folder: Path, numbers: int, ranges: int) -> dict[str, float]:
    """Seconds to load a sealed directory, its size, and processor microseconds per CDR of both sides."""
    keys = keyring(load(make_workspace(folder / "workspace")), "billing-run", "bench")
    path = folder / "directory.seal"
    with replacing(path) as file:
        file.write(sealed.seal(_holdings(numbers, ranges, keys), keys, "default", 1))
    start = time.perf_counter()
    holdings, singles = sealed.open_sealed(path.read_bytes(), keys, "default", 1)
    directory = Directory.of("default", [], [], holdings.without_numbers(), singles)
    load_s = time.perf_counter() - start
    return {
        "numbers": numbers,
        "ranges": ranges,
        "load_s": round(load_s, 2),
        "mebibytes": round(path.stat().st_size / (1 << 20), 1),
        "cpu_us_per_cdr": round(_look_up(directory, numbers), 3),
    }


def _holdings(numbers: int, ranges: int, keys: Keyring) -> Holdings:
    generator = np.random.default_rng(1)
    accounts = max(1, numbers // 10)
    has = _FIRST + 3 * np.arange(numbers)
    low = _FIRST + 3 * numbers + 1000 * np.arange(ranges)
    words = tokens.integer_token(has, sealed.secret(keys, "default"))
    singles = Entries.of(*words.T, *_held(generator, accounts, numbers))
    return Holdings(
        *(pa.array(np.arange(accounts)).cast(pa.string()), pa.nulls(accounts, pa.string()), pa.array([], pa.string())),
        *(singles.ordered(), Entries.of(low, low + 999, *_held(generator, accounts, ranges)), Entries.of()),
    )


def _held(generator: np.random.Generator, accounts: int, rows: int) -> tuple[np.ndarray, ...]:
    since = np.where(generator.random(rows) < 0.5, ALWAYS, _DAY - generator.integers(0, 900, rows))
    return generator.integers(0, accounts, rows), since, np.full(rows, FOREVER)


def _look_up(directory: Directory, numbers: int) -> float:
    generator = np.random.default_rng(2)
    sides = [[_side(generator, numbers) for _ in range(2)] for _ in range(_BATCHES)]
    days = np.full(_BATCH, _DAY)
    start = time.process_time()
    for both in sides:
        for side in both:
            directory.numbers.owners(side, days)
    return (time.process_time() - start) * 1e6 / (_BATCH * _BATCHES)


def _side(generator: np.random.Generator, numbers: int) -> pa.Array:
    ours = _FIRST + 3 * generator.integers(0, numbers, _BATCH)
    others = generator.integers(_FIRST, 19_999_999_999, _BATCH)
    number = np.where(generator.random(_BATCH) < 0.5, ours, others)
    return pa.array([f"+{value}" for value in number.tolist()])


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, default=10_000_000)
    parser.add_argument("--ranges", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(figures(Path(folder), options.numbers, options.ranges)))


if __name__ == "__main__":
    main()
