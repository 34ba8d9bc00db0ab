"""Promise 8 without servers: whatever an engine does to a stream, the end is that of one night over the same records.

The same readers, taking in and flushes as on Flink, under an engine of the test's own (tests/streams.py) that loses
what it did not checkpoint, delivers twice, keeps given-up workers going and dies at named points.
"""

import gzip
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import callward.ledger
import pipelines.house
import pipelines.landing_reader
import transforms.flush
from callward.feeds import generate
from callward.streaming import blocks
from pipelines.orphans import sweep_orphans
from pipelines.verify import verify
from schemas.tables import runs
from tests.commands import strays, waiting
from tests.streams import Crash, Engine, inline, next_of
from tests.test_night_order import call_of, cut

EXAMPLES = int(os.environ.get("CALLWARD_EXAMPLES") or 12)
SOURCES = ("asterisk", "opensips", "generic", "plain")
NOW = int(time.time() * 1000)
LONG = 10_000_000.0  # hours: nothing waits past its horizon
BLOCK = {"block_mebibytes": 0.001}
# Names of calls to callward.crash.point that a flush, a reader and house-keeping pass.
POINTS = ("block-registered", "flushed", "commit-begun", "commit-half", "commit-ready", "rows-written", "before-remove")

File = tuple[str, str, bytes]  # source, name, content

PLAIN = b"calling_number,called_number,start_time,answer_time,end_time,disposition\n"


def plain(second: int) -> bytes:
    start = f"2026-03-05T10:{second // 60 % 60:02d}:{second % 60:02d}Z"
    end = f"2026-03-05T11:{second // 60 % 60:02d}:{second % 60:02d}Z"
    return f"+13035550101,+12125550102,{start},{start},{end},answered\n".encode()


def _feed(folder: Path) -> Iterator[File]:
    """Dirty feeds with late files in pieces, in small files and large ones."""
    lines: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for source, calls in (("asterisk", 50), ("opensips", 160), ("generic", 160)):
        made = generate(
            folder / "n", seed=4, day=date(2026, 3, 5), calls=calls, dirt=0.05, late=folder / "l", sources=[source]
        )
        for path in (*made.files, *made.late):
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            header, found = cut(source, data.splitlines(keepends=True))
            lines[source, header] += [line.rstrip(b"\n") + b"\n" for line in found]
    for number, ((source, header), found) in enumerate(sorted(lines.items())):
        found.sort(key=lambda line: (call_of(source, line), line))  # an Asterisk call's attempts stay in one file
        size = 7 if source == "asterisk" else 11
        for part, some in enumerate(_parts(source, found, size)):
            yield source, f"{number}-{part}", header + b"".join(some)


def _parts(source: str, lines: list[bytes], size: int) -> Iterator[list[bytes]]:
    """Small files, but for the last, which is larger than a block where the source allows it."""
    last = 0 if source == "asterisk" else len(lines) // 3
    left = iter(lines[last:])
    while part := list(islice(left, size)):
        if source == "asterisk":
            while (more := next(left, None)) is not None and call_of(source, more) == call_of(source, part[-1]):
                part.append(more)
            if more is not None:
                yield [*part]
                part = [more]
        yield part
    if last:
        yield lines[:last]


def _odd_files() -> Iterator[File]:
    """What is not lines of a feed: packed ones without a last line end, ids by content, an empty one, one of errors."""
    names = "call_id,calling_number,called_number,start_time,answer_time,end_time,disposition\n"

    def calls(first: int, count: int) -> bytes:
        return b"".join(f"c-{n},".encode() + plain(n) for n in range(first, first + count))

    for number in range(6):
        data = names.encode() + calls(1000 + 7 * number, 7)
        yield "generic", f"packed-{number}.csv.gz", gzip.compress(data[:-1], mtime=0)
    yield "generic", "packed-large.csv.gz", gzip.compress(names.encode() + calls(2000, 60), mtime=0)
    yield "generic", "empty.csv", b""
    yield "generic", "header-only.csv", names.encode()
    wrong = [f"no call at all {n}\n".encode() for n in range(60)]
    yield "generic", "wrong-small.csv", names.encode() + b"".join(wrong[:20]) + calls(3000, 1)
    yield "generic", "wrong-large.csv", names.encode() + b"".join(wrong[20:]) + calls(3100, 40)
    yield "plain", "by-content-small.csv", PLAIN + plain(1) * 3 + plain(2)
    repeated = [plain(1) if n % 4 == 0 else plain(100 + n) for n in range(60)]
    yield "plain", "by-content-large.csv", PLAIN + b"".join(repeated)
    yield "plain", "by-content-again.csv", PLAIN + b"".join(repeated[:40])


class Files(tuple[File, ...]):
    """Files to land; a test that fails does not print them."""

    def __repr__(self) -> str:
        return f"<{len(self)} files>"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files([*_feed(tmp_path_factory.mktemp("feeds")), *_odd_files()])


@pytest.fixture(scope="module")
def make(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Callable[..., Any]:
    """make() → a workspace whose landing folders are empty; all of them have the same keys."""

    def made(**changes: Any) -> Any:
        named = [feed_source(name, horizon_hours=LONG) for name in SOURCES[:3]]
        named.append(feed_source("plain", format="generic_csv", horizon_hours=LONG))
        thresholds = {"file_errors_pct": 25.0, "file_errors_min": 8}
        return workspace(*named, waves=BLOCK, thresholds=thresholds, **changes)

    return made


@pytest.fixture(scope="module")
def night(make: Callable[..., Any], files: Files) -> Any:
    """A workspace after one night over all of it."""
    site = make()
    for source, name, data in files:
        site.land(source, name, data)
    done = site.night(NOW)
    aside = sorted(f["file"] for f in done.files if f["set_aside"])
    assert aside == ["generic/wrong-large.csv", "generic/wrong-small.csv"]
    return site


def check(site: Any, night: Any) -> None:
    """The end of a stream is that of the night, and nothing is left over."""
    done = verify(night.settings, site.settings)
    assert done.equal, "\n".join(map(str, done.comparison.first))
    assert site.unbalanced() == {}
    assert site.differing() == 0
    assert waiting(site) == []
    sweep_orphans(site.settings, over={row.run_id for row in site._rows(runs)})  # what the given-up wrote after the end
    assert strays(site) == []


# -- any history -------------------------------------------------------------------------------------------------------

_N = st.integers(0, 7)
STEPS = st.one_of(
    st.tuples(st.just("land"), st.integers(1, 25)),
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("flush"), _N),
    st.tuples(st.just("flush"), _N),
    st.tuples(st.just("checkpoint"), st.just(0)),
    st.tuples(st.sampled_from(["fail", "haunt", "haunt", "read_again", "deliver_twice", "kill", "stop", "close"]), _N),
    st.tuples(st.just("crash"), st.integers(0, 4 * len(POINTS) - 1)),
)


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Yields the points at which to die, and the how manieth time."""
    armed: dict[str, int] = {}

    def point(name: str) -> None:
        if name in armed:
            armed[name] -= 1
            if armed[name] <= 0:
                armed.clear()
                raise Crash

    with monkeypatch.context() as patched:
        for module in (callward.ledger, transforms.flush, pipelines.landing_reader, pipelines.house, callward.files):
            patched.setattr(module, "point", point)
        yield armed


class History:
    """One history of a stream."""

    def __init__(self, site: Any, files: Files, armed: dict[str, int]) -> None:
        self.site, self._left, self._armed = site, list(files), armed
        self.engine = Engine(site.settings, SOURCES)

    def land(self, count: int) -> None:
        for source, name, data in self._left[:count]:
            self.site.land(source, name, data)
        del self._left[:count]

    def step(self, what: str, number: int) -> None:
        engine = self.engine
        if what == "land":
            self.land(number)
        elif what == "read":
            any(not engine.read() for _ in range(number))
        elif what in ("fail", "checkpoint"):
            getattr(engine, what)()
        elif what == "close":
            engine.close_files()
        elif what in ("kill", "stop"):
            if what == "stop":
                engine.stop()
            self.site.set(stream={"buckets": (1, 2, 4, 8)[number % 4]})
            engine.kill(self.site.settings) if what == "kill" else engine.begin(self.site.settings)
        elif what == "crash":
            self._armed[POINTS[number % len(POINTS)]] = 1 + number // len(POINTS)
        else:
            getattr(engine, what)(number)

    def play(self, steps: list[tuple[str, int]]) -> None:
        for what, number in steps:
            try:
                self.step(what, number)
            except Crash:
                self.engine.fail()
        self._armed.clear()
        self.land(len(self._left))
        self.engine.finish()


@examples(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="CALLWARD_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate],
)
@given(steps=st.lists(STEPS, min_size=20, max_size=60), order=st.randoms(use_true_random=False))
def test_whatever_an_engine_does_the_end_is_that_of_one_night(
    steps: list[tuple[str, int]],
    order: Any,
    make: Callable[..., Any],
    files: Files,
    night: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shuffled = Files(order.sample(files, len(files)))
    site = make(stream={"buckets": 4})
    with dying(monkeypatch) as armed:
        History(site, shuffled, armed).play(steps)
    check(site, night)
