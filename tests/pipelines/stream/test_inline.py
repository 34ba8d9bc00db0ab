"""Promise 8 without servers: whatever an engine does to a stream, the end is that of one night over the same records.

The same readers, taking in and flushes as on Flink, under an engine of the test's own (tests/streams.py) that loses
what it did not checkpoint, delivers twice, keeps given-up workers going and dies at named points.
"""

import gzip
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from sqlalchemy import update

import callward.lake.ledger
import pipelines.intake
import pipelines.stream.landing_reader
import pipelines.stream.maintenance
import transforms.flush
from callward import database, runs
from callward.errors import Problem
from callward.feeds import generate
from callward.lake import conflicts
from callward.lake.data_files import DataFiles as LakeFiles
from callward.streaming import blocks, register
from pipelines.intake import naming
from pipelines.nightly import _Nightly
from pipelines.vacuum import remove_orphans
from schemas.streaming import block_slices
from schemas.tables import blocks as block_rows
from schemas.tables import input_files, lake_files
from schemas.tables import runs as runs_table
from tests.commands import strays, waiting
from tests.comparison import verify
from tests.examples import tries
from tests.meanwhile import ALWAYS, comes_between, without_pauses
from tests.streams import Bags, Crash, Engine, inline
from tests.test_night_order import call_of, cut

EXAMPLES = 2 * int(os.environ.get("CALLWARD_EXAMPLES") or 1)
SOURCES = ("asterisk", "opensips", "generic", "plain")
NOW = int(time.time() * 1000)
LONG = 10_000_000.0  # hours: nothing waits past its horizon
BLOCK = {"block_mebibytes": 0.001}
# Names of calls to callward.failpoints.point that a flush, a reader and maintenance pass.
POINTS = ("block-registered", "flushed", "commit-begun", "commit-half", "commit-ready", "view-written", "before-remove")

File = tuple[str, str, bytes]  # source, name, content

PLAIN = b"calling_number,called_number,start_time,answer_time,end_time,disposition\n"


def plain(second: int) -> bytes:
    start = f"2026-03-05T10:{second // 60 % 60:02d}:{second % 60:02d}Z"
    end = f"2026-03-05T11:{second // 60 % 60:02d}:{second % 60:02d}Z"
    return f"+13035550101,+12125550102,{start},{start},{end},answered\n".encode()


CALLS = b"call_id," + PLAIN


def calls(first: int, count: int) -> bytes:
    """So many calls with ids."""
    return b"".join(f"c-{n},".encode() + plain(n) for n in range(first, first + count))


def _feed(folder: Path) -> Iterator[File]:
    """Dirty feeds with late files in pieces, in small files and large ones."""
    lines: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for source, calls in (("asterisk", 30), ("opensips", 90), ("generic", 90)):
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
    for number in range(6):
        data = CALLS + calls(1000 + 7 * number, 7)
        yield "generic", f"packed-{number}.csv.gz", gzip.compress(data[:-1], mtime=0)
    yield "generic", "packed-large.csv.gz", gzip.compress(CALLS + calls(2000, 60), mtime=0)
    yield "generic", "empty.csv", b""
    yield "generic", "header-only.csv", CALLS
    wrong = [f"no call at all {n}\n".encode() for n in range(60)]
    yield "generic", "wrong-small.csv", CALLS + b"".join(wrong[:20]) + calls(3000, 1)
    yield "generic", "wrong-large.csv", CALLS + b"".join(wrong[20:]) + calls(3100, 40)
    yield "plain", "by-content-small.csv", PLAIN + plain(1) * 3 + plain(2)
    repeated = [plain(1) if n % 4 == 0 else plain(100 + n) for n in range(60)]
    yield "plain", "by-content-large.csv", PLAIN + b"".join(repeated)
    yield "plain", "by-content-again.csv", PLAIN + b"".join(repeated[:40])


LONGER = calls(4, 2).replace(b"T11:", b"T12:")  # of calls that end an hour earlier elsewhere


class DataFiles(tuple[File, ...]):
    """Files to land; a test that fails does not print them."""

    def __repr__(self) -> str:
        return f"<{len(self)} files>"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DataFiles:
    return DataFiles([*_feed(tmp_path_factory.mktemp("feeds")), *_odd_files()])


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
def night(make: Callable[..., Any], files: DataFiles) -> Any:
    """A workspace after one night over all of it."""
    site = make()
    for source, name, data in files:
        site.land(source, name, data)
    done = site.night(NOW)
    aside = sorted(f.file for f in done.files if f.set_aside)
    assert aside == ["generic/wrong-large.csv", "generic/wrong-small.csv"]
    return site


def check(site: Any, night: Any) -> None:
    """The end of a stream is that of the night, and nothing is left over."""
    check_records(site, night)
    gone = {row.run_id for row in site._rows(runs_table)}
    remove_orphans(site.settings, over=gone)  # what the given-up wrote after the end
    assert strays(site) == []


def check_records(site: Any, night: Any) -> None:
    """The end of a stream is that of the night."""
    done = verify(night.settings, site.settings)
    assert done.equal, done.report
    assert site.unbalanced() == {}
    assert site.differing() == 0
    assert waiting(site) == []


# -- any history -------------------------------------------------------------------------------------------------------

_N = st.integers(0, 7)
STEPS = st.one_of(
    st.tuples(st.just("land"), st.integers(1, 25)),
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("flush"), _N),
    st.tuples(st.just("flush"), _N),
    st.tuples(st.sampled_from(["checkpoint", "forget"]), st.just(0)),
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
        for module in (
            callward.lake.ledger,
            transforms.flush,
            pipelines.stream.landing_reader,
            pipelines.intake,
            callward.lake.data_files,
        ):
            patched.setattr(module, "point", point)
        yield armed


def forget(site: Any) -> int:
    """What maintenance does after a day: the slices of complete blocks are not kept."""
    with database.writing(site.settings) as connection:
        return callward.lake.ledger.forget_slices(connection, database.now() + timedelta(1))


class History:
    """One history of a stream."""

    def __init__(self, site: Any, files: DataFiles, armed: dict[str, int]) -> None:
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
        elif what == "forget":
            forget(self.site)
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


@tries(
    EXAMPLES,
    derandomize="CALLWARD_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate],
)
@given(steps=st.lists(STEPS, min_size=15, max_size=40), order=st.randoms(use_true_random=False))
def test_whatever_an_engine_does_the_end_is_that_of_one_night(
    steps: list[tuple[str, int]],
    order: Any,
    make: Callable[..., Any],
    files: DataFiles,
    night: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shuffled = DataFiles(order.sample(files, len(files)))
    site = make(stream={"buckets": 4})
    with dying(monkeypatch) as armed:
        History(site, shuffled, armed).play(steps)
    check(site, night)


# -- what a history by chance hardly meets -----------------------------------------------------------------------------


def test_nothing_at_all_is_a_stream_too(make: Callable[..., Any]) -> None:
    site = make()
    Engine(site.settings, SOURCES).finish()
    assert site.balances() == {}


def test_what_is_delivered_again_changes_nothing_but_the_count_of_duplicates(
    make: Callable[..., Any], files: DataFiles
) -> None:
    """The same files under other names, by a night and by a stream."""
    again, site = make(), make()
    some = files[::6]  # small and large ones
    for target, run in ((again, lambda: again.night(NOW)), (site, lambda: Engine(site.settings, SOURCES).finish())):
        for source, name, data in some:
            target.land(source, name, data)
        run()
        once = target.view("billing").num_rows
        for source, name, data in some:
            if not name.startswith("wrong-"):
                target.land(source, f"again-{name}", data)
        run()
        assert target.view("billing").num_rows == once > 0
        assert target.entries()["duplicate", ""][0] > once
    check(site, again)


def test_what_comes_again_when_its_slices_are_forgotten_is_known_by_its_blocks(make: Callable[..., Any]) -> None:
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 60))
    engine = Engine(site.settings, SOURCES)
    while engine.read():
        pass
    bags = {bucket: list(bag) for bucket, bag in engine.waiting.items()}
    first, *others = sorted(bags)
    engine.work.flush(first)
    assert forget(site) == 0, "none of its blocks is complete"
    for bucket in others:
        engine.work.flush(bucket)
    before = site.balances()
    assert forget(site) > 0 and site._rows(block_slices) == []
    for bucket, bag in bags.items():
        assert transforms.flush.flush(bucket, bag, engine.work.files) == 0
    assert site.balances() == before
    engine.finish()
    assert site.view("billing").num_rows == 60


def test_small_files_that_cannot_be_merged_now_are_said_and_merged_the_next_time(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make(lake={"compact_files": 2, "grace_minutes": 0.0})
    for number in range(2):
        site.land("generic", f"{number}.csv", CALLS + calls(100 * number, 30))
    engine = Engine(site.settings, SOURCES)
    while engine.read():
        engine.work.flush_all()
    before, said = len(_counting(site)), []
    log = pipelines.stream.maintenance.stream_log
    monkeypatch.setattr(log, "failed", lambda event, problem, *_, **__: said.append(str(problem)))
    with runs.running(site.settings, "compact", ["compact"]) as other:
        engine.work.maintenance.tick(last=True)
        runs.finish(site.settings, other, "done")
    assert len(_counting(site)) == before
    assert len(said) == 1 and said[0].startswith("small files were not merged: ") and other in said[0]
    engine.finish()
    assert len(_counting(site)) < before and len(said) == 1
    assert site.view("billing").num_rows == 60


def _counting(site: Any) -> list[Any]:
    return [file for file in site._rows(lake_files) if file.superseded_at is None]


def test_a_stop_ends_what_was_begun_also_where_a_worker_died_just_before(make: Callable[..., Any]) -> None:
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 60))
    engine = Engine(site.settings, SOURCES)
    assert engine.read()  # its blocks are registered
    engine.fail()
    site.land("generic", "two.csv", CALLS + calls(100, 5))
    engine.stop()
    assert [path.name for path in waiting(site)] == ["two.csv"], "and it begins nothing new"
    assert site.balances()["generic/one.csv"]["in"][0] == 60


def test_a_stop_that_is_asked_for_while_files_are_looked_at_registers_none_of_them(make: Callable[..., Any]) -> None:
    """Otherwise the supervisor could see that nothing waits, end, and leave blocks behind."""
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 5))
    engine = Engine(site.settings, SOURCES)
    planned = list(engine.reader._planned())
    with database.writing(site.settings) as connection:
        register.mark_stop(connection, [engine.work.run_id])
    engine.reader._take(planned)
    engine.stop()
    assert site.balances() == {}


def test_a_flush_of_a_given_up_worker_may_commit_while_another_reads_its_batches(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both hold the same batches; the first to commit discards the tables that they name."""
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 6))
    engine = Engine(site.settings, SOURCES)
    assert engine.read()
    bags, fetch = {bucket: list(bag) for bucket, bag in engine.waiting.items()}, LakeFiles.fetch

    def late(self: LakeFiles, name: str) -> pa.Table:
        while bags:
            transforms.flush.flush(*bags.popitem(), engine.work.files)
        return fetch(self, name)

    monkeypatch.setattr(LakeFiles, "fetch", late)
    engine.work.flush_all()
    engine.finish()
    assert site.balances()["generic/one.csv"]["accepted"][0] == 6


def _flush_bags(engine: Engine, bags: Bags) -> int:
    """Flush what some buckets hold; how many records were new."""
    return sum(transforms.flush.flush(bucket, bag, engine.work.files) for bucket, bag in sorted(bags.items()))


def _taken_in(engine: Engine, site: Any, name: str, data: bytes) -> Bags:
    """Land a file and take it in: what its buckets hold, not yet flushed."""
    site.land("generic", name, data)
    assert engine.read()
    bags, engine.work.waiting = engine.work.waiting, {}
    return bags


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param("one.csv", LONGER, id="one.csv-longer"),
        pytest.param("two.csv", calls(4, 2), id="two.csv-equal"),
        pytest.param("one.csv", calls(4, 2), id="one.csv-equal", marks=pytest.mark.endurance),
        pytest.param("two.csv", LONGER, id="two.csv-longer", marks=pytest.mark.endurance),
    ],
)
def test_of_two_flushes_that_read_before_the_other_commits_each_record_ends_once(
    first: str, again: bytes, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files with the same two calls, which are longer in one of them: either may be the first to commit."""
    data = {"one.csv": CALLS + calls(0, 6), "two.csv": CALLS + again + calls(6, 4)}
    site, night = make(stream={"buckets": 1}), make()
    for name, content in data.items():
        night.land("generic", name, content)
    night.night(NOW)
    engine = Engine(site.settings, SOURCES)
    bags = {name: _taken_in(engine, site, name, content) for name, content in data.items()}
    (second,) = bags.keys() - {first}
    passed = comes_between(monkeypatch, "view-written", lambda: _flush_bags(engine, bags[first]))
    _flush_bags(engine, bags[second])
    assert "view-written" in passed
    engine.finish()
    check(site, night)
    ends = {bucket: rows for (bucket, _), (rows, _) in site.entries().items() if bucket != "in"}
    # Versions of different length are held, whichever flush was the first.
    assert ends == ({"accepted": 10, "duplicate": 2} if again == calls(4, 2) else {"accepted": 8, "suspended": 4})
    assert site.view("billing").num_rows == ends["accepted"]


def test_a_flush_stands_where_the_other_that_came_between_shares_no_record_with_it(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of other shards cannot be the same: nothing is written anew."""
    site, night = make(stream={"buckets": 2}), make()
    for target in (site, night):
        target.land("generic", "one.csv", CALLS + calls(0, 40))
    night.night(NOW)
    engine = Engine(site.settings, SOURCES)
    assert engine.read()
    first, second = sorted(bucket for bucket in engine.waiting if bucket >= 0)
    passed = comes_between(monkeypatch, "view-written", lambda: engine.work.flush(first))
    engine.work.flush(second)
    assert passed.count("view-written") == 3, "one data file of each view, and one of the index"
    assert register.counters(site.settings, engine.work.run_id)["retries"] == 1
    engine.finish()
    check(site, night)


@pytest.mark.parametrize("first", ["one.csv", "two.csv"])
def test_of_two_flushes_of_late_records_each_record_is_billed_once(
    first: str, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the assurance window there is only the billing view to compare with, also when a commit came between."""
    site = make(stream={"buckets": 1}, retention={"assurance_metrics": "10 days"})
    data = {"one.csv": CALLS + calls(0, 6), "two.csv": CALLS + calls(4, 6)}
    engine = Engine(site.settings, SOURCES)
    bags = {name: _taken_in(engine, site, name, content) for name, content in data.items()}
    (second,) = bags.keys() - {first}
    comes_between(monkeypatch, "view-written", lambda: _flush_bags(engine, bags[first]))
    _flush_bags(engine, bags[second])
    engine.finish()
    assert (site.view("assurance").num_rows, site.view("billing").num_rows) == (0, 10)
    assert {bucket: rows for (bucket, _), (rows, _) in site.entries().items()} == {
        "in": 12,
        "accepted": 10,
        "duplicate": 2,
    }
    assert site.unbalanced() == {} and site.differing() == 0


def test_a_flush_that_another_always_comes_before_says_so_and_is_done_when_it_comes_again(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make(stream={"buckets": 1})
    engine = Engine(site.settings, SOURCES)
    bags = _taken_in(engine, site, "one.csv", CALLS + calls(0, 6))
    others = [_taken_in(engine, site, f"{n}.csv", CALLS + calls(100 + n, 1)) for n in range(9)]
    asked = without_pauses(monkeypatch)
    monkeypatch.setattr(conflicts, "TRIES", 3)
    with monkeypatch.context() as patched, pytest.raises(Problem, match="committed to the same days again and again"):
        comes_between(patched, "view-written", lambda: _flush_bags(engine, others.pop()), ALWAYS)
        _flush_bags(engine, bags)
    assert len(asked) > 0 and site.entries()["accepted", ""][0] == 9 - len(others)
    for left in (bags, *others):
        _flush_bags(engine, left)
    engine.finish()
    assert {bucket: rows for (bucket, _), (rows, _) in site.entries().items()} == {"in": 15, "accepted": 15}
    assert site.unbalanced() == {} and site.differing() == 0 and site.view("billing").num_rows == 15


def test_a_filtered_record_of_a_file_set_aside_whole_stays_filtered_both_ways(make: Callable[..., Any]) -> None:
    lines = (Path(__file__).parents[2] / "golden" / "asterisk" / "Master.csv").read_bytes().splitlines(keepends=True)
    (local_leg,) = [line for line in lines if b'";2"' in line or b';2"' in line]
    by_night, by_stream = make(), make()
    for site in (by_night, by_stream):
        site.land("asterisk", "wrong.csv", lines[0] + local_leg + b"no call at all\n" * 20)
    by_night.night(NOW)
    Engine(by_stream.settings, SOURCES).finish()
    assert by_night.entries()["filtered", "LOCAL_LEG"][0] == 1 and by_night.entries()["suspended", "FILE"][0] == 1
    check(by_stream, by_night)


def test_works_of_two_attempts_may_overlap(make: Callable[..., Any]) -> None:
    """A given-up worker commits what is set aside of two files, of which the next attempt read one with a third."""
    site = make()
    wrong = b"no call at all\n"
    site.land("generic", "a.csv", CALLS + calls(0, 2) + wrong)
    site.land("generic", "b.csv", CALLS + calls(10, 2) + b"nor this\n")
    engine = Engine(site.settings, SOURCES)
    assert engine.read()
    engine.fail()
    site.land("generic", "c.csv", CALLS + calls(20, 2) + b"nor that\n")
    assert engine.read()
    for bucket in list(engine.waiting):
        engine.haunt(bucket)
    while engine._ghosts:
        engine.haunt(0)
    engine.finish()
    assert {name: kept["in"][0] for name, kept in site.balances().items()} == dict.fromkeys(
        ("generic/a.csv", "generic/b.csv", "generic/c.csv"), 3
    )
    assert sum(rows for (bucket, _), (rows, _) in site.entries().items() if bucket == "suspended") == 3


@pytest.mark.parametrize(
    ("restart", "how"),
    [
        ("fail", "longer"),
        ("kill", "gone"),
        pytest.param("fail", "gone", marks=pytest.mark.endurance),
        pytest.param("kill", "longer", marks=pytest.mark.endurance),
    ],
)
def test_a_file_that_changes_before_it_is_read_on_is_taken_as_it_is_then(
    how: str, restart: str, make: Callable[..., Any]
) -> None:
    """What of it was not committed is forgotten; as another file it comes again, and nothing counts twice."""
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 60))
    engine = Engine(site.settings, SOURCES)
    assert engine.read()
    engine.work.flush_all()
    path = site.settings.landing_path / "generic" / "one.csv"
    if how == "gone":
        path.unlink()
    else:
        site.land("generic", "one.csv", CALLS + calls(0, 70))
    engine.fail() if restart == "fail" else engine.kill(site.settings)
    engine.finish()
    assert site.unbalanced() == {}
    assert waiting(site) == []
    rows = site.view("billing").num_rows
    assert rows == 70 if how == "longer" else 0 < rows < 60


def test_a_file_that_changes_while_it_is_read_is_taken_as_it_is_then(make: Callable[..., Any]) -> None:
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 60))
    engine = Engine(site.settings, SOURCES)
    assert engine.read()
    site.land("generic", "one.csv", CALLS + calls(0, 70))
    engine.finish()
    assert site.unbalanced() == {}
    assert (waiting(site), site.view("billing").num_rows) == ([], 70)


def test_a_night_leaves_what_a_stream_has_begun_and_the_stream_ends_it(make: Callable[..., Any]) -> None:
    site = make()
    site.land("generic", "one.csv", CALLS + calls(0, 60))
    engine = Engine(site.settings, SOURCES)
    assert engine.read()
    engine.work.flush_all()
    engine.let_go()
    (left,) = site.night(NOW).left_alone
    assert "a stream has begun it" in left.reason
    engine.begin(site.settings)
    engine.finish()
    assert site.balances()["generic/one.csv"]["accepted"][0] == 60


def test_a_stream_goes_on_with_what_a_night_that_was_killed_has_begun(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make()
    site.set(waves={"records": 20})
    site.land("generic", "one.csv", CALLS + calls(0, 60))
    done = iter([None])
    monkeypatch.setattr(_Nightly, "_close_files", lambda self, numbers: next(done))  # dies with the second wave
    with pytest.raises(StopIteration):
        site.night(NOW)
    monkeypatch.undo()
    begun = site.entries()["in", ""][0]
    assert 0 < begun < 60
    Engine(site.settings, SOURCES).finish()
    assert site.balances()["generic/one.csv"]["accepted"][0] == 60


def test_a_reader_waits_for_the_commits_and_then_goes_on(make: Callable[..., Any]) -> None:
    site = make(stream={"blocks_ahead": 2, "block_mebibytes": 0.001})
    for number in range(8):
        site.land("generic", f"{number}.csv", CALLS + calls(10 * number, 8))
    engine = Engine(site.settings, SOURCES)
    while engine.read():
        pass
    ahead = len(engine.reader.ahead)
    assert 1 < ahead < 8
    engine.finish()
    assert site.entries()["accepted", ""][0] == 64


@pytest.mark.endurance
def test_a_clock_that_steps_changes_nothing(
    make: Callable[..., Any], files: DataFiles, night: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back and forth by hours, with every look at it: what it says is when, and never which record counts."""
    site, chance, now = make(stream={"buckets": 2}), random.Random(5), database.now
    for source, name, data in files:
        site.land(source, name, data)
    engine = Engine(site.settings, SOURCES)
    monkeypatch.setattr(database, "now", lambda: now() + timedelta(hours=chance.uniform(-6, 6)))
    while engine.read():
        if chance.random() < 0.5:
            engine.flush(chance.randrange(8))
    engine.work.flush_all()
    engine.finish()
    check_records(site, night)  # what is replaced leaves the disk when its time has come, by the clock


def test_maintenance_closes_topic_files_of_days_that_are_over_and_leaves_todays_open(
    workspace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = workspace("asterisk")
    yesterday, noon = datetime(2026, 3, 31, 23, 59), datetime(2026, 4, 1, 12)

    class Noon(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return noon.replace(tzinfo=tz)

    with inline(site.settings, ["asterisk"]) as work:
        named = naming(work.files)  # opens its key: not within a transaction
        for first, at in enumerate((yesterday, noon)):
            with monkeypatch.context() as patch, database.writing(site.settings) as connection:
                patch.setattr(database, "now", lambda at=at: at)
                part, span = blocks.Part("asterisk", 100, at), (first, first + 1)
                blocks.register(connection, work.run_id, "cdr-east", 0, span, [part], "", named)
                connection.execute(update(block_rows).values(committed_by=work.run_id))
        monkeypatch.setattr(pipelines.stream.maintenance, "datetime", Noon)
        work.maintenance.tick(last=True)
        statuses = {row.name: row.status for row in site._rows(input_files)}
        assert statuses == {"cdr-east/0/2026-03-31": "committed", "cdr-east/0/2026-04-01": "reading"}
