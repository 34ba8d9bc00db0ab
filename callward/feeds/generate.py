"""Writes the feeds: every source's files into a folder of its name, and the truth about them."""

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.feeds import world as worlds
from callward.feeds.acc import opensips
from callward.feeds.asterisk import asterisk, table
from callward.feeds.calls import answered, draw
from callward.feeds.cucm import cucm
from callward.feeds.delivery import Delivery, write_whole
from callward.feeds.freeswitch import freeswitch, freeswitch_json
from callward.feeds.generic import generic
from callward.feeds.text import csv_bytes
from callward.feeds.truth import Truth
from callward.feeds.world import World
from callward.storage.durable import create

_BLOCK_ROWS: Final = 1 << 17

_Make = Callable[[np.random.Generator, World, int, int, str, float], Delivery]


@dataclass(frozen=True)
class Source:
    """A switch of the feeds: its name (and folder), the zone of its local times, its share of the calls."""

    name: str
    zone: str
    share: float
    make: _Make = field(repr=False)


SOURCES: Final = (
    Source("asterisk", "America/Denver", 0.35, asterisk),
    Source("freeswitch", "America/New_York", 0.20, freeswitch),
    Source("freeswitch_json", "America/New_York", 0.08, freeswitch_json),
    Source("cucm", "UTC", 0.12, cucm),
    Source("opensips", "UTC", 0.15, opensips),
    Source("generic", "UTC", 0.10, generic),
)
SOURCE_NAMES: Final = tuple(source.name for source in SOURCES)


@dataclass(frozen=True)
class Feeds:
    """What was written.

    Attributes:
        files: paths of the night's files, by source and name.
        late: paths of the files that come the night after; empty where no folder was given for them.
        truth: what the night's files must come to.
        truth_with_late: what all files must come to once the late ones were read too.
        zones: the time zone of each source's local times.
        directory: columns account and number: who pays for which number.
        numbers: every number in the files, as E.164. Handle with care: never print it.
    """

    files: tuple[Path, ...]
    late: tuple[Path, ...]
    truth: Truth
    truth_with_late: Truth
    zones: dict[str, str]
    directory: pa.Table = field(repr=False, compare=False)
    numbers: pa.StringArray = field(repr=False, compare=False)


def generate(
    folder: Path,
    *,
    seed: int,
    day: date,
    calls: int,
    subscribers: int = 3000,
    accounts: int = 200,
    dirt: float = 0.002,
    late: Path | None = None,
    numbers_to: Path | None = None,
    sources: Collection[str] = SOURCE_NAMES,
) -> Feeds:
    """Write about `calls` calls of the local `day` as files under `folder/<source>/`.

    Args:
        dirt: share of each source's records that are repeated, contradicted or spoilt, each; 0 for clean feeds.
        late: where the files go that come the night after, as `late/<source>/`; None leaves them out.
        numbers_to: a file (mode 0600) for the numbers used, one to a line, for the sweep; it must not exist.
        sources: which of SOURCES to make; each is the same whatever the others.
    """
    world = worlds.build(np.random.default_rng(seed), subscribers, accounts)
    chosen = [source for source in SOURCES if source.name in sources]
    deliveries = {source.name: _make(source, world, seed, day, calls, dirt) for source in chosen}
    feeds = Feeds(
        _write(folder, deliveries, late=False),
        _write(late, deliveries, late=True) if late else (),
        _truth(deliveries, with_late=False),
        _truth(deliveries, with_late=True),
        {source.name: source.zone for source in chosen},
        world.directory(),
        _numbers(world, deliveries),
    )
    if numbers_to:
        _write_numbers(numbers_to, feeds.numbers)
    return feeds


def asterisk_files(
    folder: Path,
    *,
    seed: int,
    rows: int,
    files: int,
    day: date,
    subscribers: int = 20_000,
    accounts: int = 2000,
    zone: str = "UTC",
) -> list[Path]:
    """Write `rows` clean calls as `files` Master.csv files of equal length, in order of their start: for the bench.

    Memory does not grow with `rows`: a file is made by itself, some at a time.
    """
    world = worlds.build(np.random.default_rng(seed), subscribers, accounts)
    bounds = np.linspace(0, rows, files + 1).astype(np.int64).tolist()

    def write(n: int) -> Path:
        rng = np.random.default_rng([seed, n])
        part, count = (n / files, (n + 1) / files), bounds[n + 1] - bounds[n]
        calls = draw(rng, world, count, _midnight_ms(day, zone), part=part, first=bounds[n])
        calls["talk"] = np.where(answered(calls), (calls["end"] - calls["answer"]) // 1000 * 1000, 0)
        blocks = (csv_bytes(table(world, calls[at : at + _BLOCK_ROWS], zone)) for at in range(0, count, _BLOCK_ROWS))
        return write_whole(folder / f"Master-{day:%Y%m%d}-{n:03d}.csv", blocks)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(write, range(files)))


def _make(source: Source, world: World, seed: int, day: date, calls: int, dirt: float) -> Delivery:
    rng = np.random.default_rng([seed, SOURCES.index(source)])
    return source.make(rng, world, round(calls * source.share), _midnight_ms(day, source.zone), source.zone, dirt)


def _midnight_ms(day: date, zone: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def _write(folder: Path, deliveries: dict[str, Delivery], late: bool) -> tuple[Path, ...]:
    paths = []
    for name, delivery in deliveries.items():
        for file in delivery.files():
            if (file in delivery.late) is late:
                paths.append(folder / name / delivery.names[file])
                write_whole(paths[-1], [delivery.content(file)])
    return tuple(sorted(paths))


def _truth(deliveries: dict[str, Delivery], with_late: bool) -> Truth:
    return Truth(
        {
            f"{name}/{delivery.names[file]}": delivery.count(file, with_late)
            for name, delivery in deliveries.items()
            for file in delivery.files()
            if with_late or file not in delivery.late
        }
    )


def _numbers(world: World, deliveries: dict[str, Delivery]) -> pa.StringArray:
    parties = [delivery.calls[side] for delivery in deliveries.values() for side in ("caller", "called")]
    used = world.e164.take(pa.array(np.unique(np.concatenate([*parties, []])).astype(np.int64)))
    return used.filter(pc.starts_with(used, "+"))


def _write_numbers(path: Path, numbers: pa.StringArray) -> None:
    create(path, "".join(f"{number}\n" for number in numbers.to_pylist()).encode())
