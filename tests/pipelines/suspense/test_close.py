"""Closing: what was written off is counted as that, keeps its place, and comes back only where it is read anew."""

import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from callward.errors import Problem, UsageProblem
from callward.feeds import generate
from pipelines.corrections.run import back_out, reprocess
from pipelines.suspense.close import close
from pipelines.suspense.records import list_open, open_content
from pipelines.suspense.recycle import recycle
from schemas.retention_classes import CLASSES
from schemas.tables import audit_log, runs
from tests.commands import all_that_is, run, strays
from tests.comparison import verify
from tests.conftest import HOUR_MS, MORNING
from tests.examples import some
from tests.pipelines.corrections.test_backout import SOURCES, Lines, cut_feed, deliveries
from tests.retention import DAY, call, copied, feed, hold, night, purged
from transforms.combine import ESTIMATED

SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"
NEGATIVE = "id-{},+13035550101,+13035550102,2026-03-05T12:00:00Z,,2026-03-05T12:00:10Z,-6000,\n"
FIRST = feed(*(call(n) for n in range(4)), SPOILT.format(90), SPOILT.format(91), NEGATIVE.format(92))
SECOND = feed(call(5), SPOILT.format(90), SPOILT.format(93))
WHY = "the switch lost power"
POINTS = ("suspense-written", "commit-half", "write-off-ready", "write-off-committed")


@pytest.fixture(scope="module")
def delivered(workspace: Callable[..., Any]) -> Any:
    """Two deliveries, one spoilt record of which is in both; only copied."""
    windows = {**dict.fromkeys(CLASSES, "99 years"), "suspense": "2 months"}
    site = workspace("generic", retention=windows, thresholds={"file_errors_pct": 100.0})
    night(site, FIRST, name="first.csv")
    night(site, SECOND, name="second.csv")
    return site


@pytest.fixture
def site(delivered: Any, tmp_path: Path) -> Any:
    return copied(delivered, tmp_path / "copy")


def check_sound(site: Any) -> None:
    assert not site.unbalanced() and site.differing() == 0


def rows(site: Any) -> dict[tuple[str, str], int]:
    return {key: count for key, (count, _) in site.entries().items()}


def test_what_is_closed_is_written_off_by_whom_and_why(site: Any) -> None:
    before = all_that_is(site)
    tried = close(site.settings, WHY, ["TIME"], dry_run=True)
    assert all_that_is(site) == before and strays(site) == []
    done = close(site.settings, WHY, ["TIME"])
    assert done.records == tried.records and [(of.code, of.records) for of in done.records] == [("TIME", 3)]
    check_sound(site)
    assert {key: count for key, count in rows(site).items() if key[0] in ("suspended", "written_off")} == {
        ("suspended", "DURATION"): 1,
        ("written_off", ""): 3,
    }
    assert [row.code for row in list_open(site.settings)] == ["DURATION"]
    entry = [row for row in site._rows(audit_log) if row.event == "suspense close"][-1]
    assert (entry.reason, "TIME 3 records" in entry.subject) == (WHY, True)
    summary = json.loads(next(row for row in site._rows(runs) if row.run_id == done.run_id).summary)
    assert summary["reason"] == WHY and summary["who"] == entry.who == done.who
    assert close(site.settings, WHY, ["TIME"]).records == []


def test_only_the_files_and_sources_that_are_named_are_closed(site: Any) -> None:
    assert [of.records for of in close(site.settings, WHY, ["TIME"], ["generic"], ["generic/second.csv"]).records] == [
        1
    ]
    left = {(row.file_no, row.code): row.records for row in list_open(site.settings)}
    assert left == {(1, "TIME"): 2, (1, "DURATION"): 1}
    with pytest.raises(UsageProblem, match="say which records"):
        close(site.settings, WHY)
    with pytest.raises(Problem, match="no file 99 came in"):
        close(site.settings, WHY, named=["99"])
    with pytest.raises(Problem, match="HELD is not written off"):
        close(site.settings, WHY, ["HELD"])
    with pytest.raises(UsageProblem, match="telephone number"):
        close(site.settings, "303-555-0142 lost power", ["TIME"])


def test_a_delivery_that_brings_it_again_brings_duplicates(site: Any) -> None:
    close(site.settings, WHY, ["TIME", "DURATION"])
    before = rows(site)
    night(site, FIRST, name="again.csv")
    check_sound(site)
    grown = {key: count - before.get(key, 0) for key, count in rows(site).items() if count != before.get(key, 0)}
    assert grown == {("in", ""): 7, ("duplicate", ""): 7}
    assert recycle(site.settings, [], []).taken == 0


def test_a_correction_asks_again_of_what_was_written_off(site: Any) -> None:
    """Backed out, a write-off goes with its delivery, and what another file has of the record is open again; read
    again, a file's records are what the settings make of them today."""
    back = all_that_is(site)
    close(site.settings, WHY, ["TIME", "DURATION"])
    reprocess(site.settings, named=["1"])
    reprocess(site.settings, named=["2"])
    assert all_that_is(site) == back
    close(site.settings, WHY, ["TIME", "DURATION"])
    done = back_out(site.settings, ["1"])
    assert [file.after for file in done.corrected.files] == [{"in": 7, "withdrawn": 7}]
    check_sound(site)
    left = {bucket: rows for bucket, (rows, _) in site.balances()["generic/second.csv"].items() if rows}
    assert left == {"in": 3, "accepted": 1, "suspended": 1, "written_off": 1}


def test_what_is_under_hold_is_not_written_off(site: Any) -> None:
    before = all_that_is(site)
    placed = hold(site, accounts=("ac-0007",))
    with pytest.raises(Problem, match=rf"under hold \({placed.hold_id}\): nothing was changed"):
        close(site.settings, WHY, ["TIME"])
    assert all_that_is(site) == before


def test_a_purge_takes_the_content_and_leaves_the_write_off(site: Any) -> None:
    close(site.settings, WHY, ["TIME"])
    assert site.log("suspense")["payload"].null_count == 0
    purged(site, DAY + timedelta(70))
    assert site.log("suspense").num_rows == 0
    assert not site.unbalanced()
    gone = {key: count for key, count in rows(site).items() if key[0] in ("suspended", "written_off", "filtered")}
    assert gone == {("filtered", "EXPIRED"): 1, ("written_off", ""): 3}


def test_killed_anywhere_it_is_written_off_whole_or_not_at_all(site: Any, delivered: Any, tmp_path: Path) -> None:
    alone = copied(delivered, tmp_path / "alone")
    close(alone.settings, WHY, ["TIME"])
    words = ("suspense", "close", "--code", "TIME", "--reason", WHY, "--config", str(site.folder))
    for where in POINTS:
        ended = run(*words, environment={"CALLWARD_CRASH_AT": where})
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: {ended.err[-300:]}"
    kept = [json.loads(row.summary) for row in site._rows(runs) if row.kind == "write-off" and row.summary]
    assert [of["reason"] for of in kept] == [WHY], "who and why are there once it counts"
    assert run(*words, "--json").check_clean().document["records"] == []
    site.night()
    check_sound(site)
    assert strays(site) == []
    assert all_that_is(site) == all_that_is(alone)


# -- versions, and pieces of calls -------------------------------------------------------------------------------------


def test_a_version_that_lost_is_written_off_and_asked_again_with_its_record(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    longer = call(4, answered=False).replace("12:00:24Z,0", "12:00:54Z,0")
    night(site, feed(call(3), call(4, answered=False)), name="first.csv")
    night(site, feed(longer), name="second.csv")
    assert rows(site)["suspended", "CONFLICT"] == 1
    close(site.settings, WHY, ["CONFLICT"])
    assert rows(site)["written_off", ""] == 1
    night(site, feed(call(4, answered=False)), name="again.csv")
    check_sound(site)
    assert rows(site)["duplicate", ""] == 1
    back_out(site.settings, ["generic/second.csv"])
    check_sound(site)
    found = {key: count for key, count in rows(site).items() if count}
    assert found == {("in", ""): 4, ("accepted", ""): 2, ("duplicate", ""): 1, ("withdrawn", ""): 1}


@pytest.fixture(scope="module")
def partial(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, bytes]]:
    """Calls of which only the beginnings came, and the files with their ends; only copied."""
    windows = {**dict.fromkeys(CLASSES, "99 years"), "call_detail": "2 months"}
    site, folder = workspace("opensips", retention=windows), tmp_path_factory.mktemp("feed")
    generate(folder, seed=3, day=DAY, calls=40, dirt=0.0, sources=("opensips",))
    ends = {path.name: path.read_bytes() for path in sorted((folder / "opensips").glob("*bye*"))}
    site.deliver(sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ends))
    site.night()
    site.night(MORNING + 1000 * HOUR_MS)
    assert rows(site)["suspended", "PARTIAL"] > 1
    return site, ends


def test_a_piece_that_was_written_off_still_completes_its_call(partial: Any, tmp_path: Path) -> None:
    closed, untouched = (copied(partial[0], tmp_path / name) for name in ("closed", "untouched"))
    count = rows(closed)["suspended", "PARTIAL"]
    assert [of.records for of in close(closed.settings, WHY, ["PARTIAL"]).records] == [count]
    assert rows(closed)["written_off", ""] == count and list_open(closed.settings) == []
    with pytest.raises(Problem, match="no open record"):
        open_content(closed.settings, 1, "look", 5)
    for site in (closed, untouched):
        for name, data in partial[1].items():
            site.land("opensips", name, data)
        site.night(MORNING + 1001 * HOUR_MS)
        check_sound(site)
    assert rows(closed) == rows(untouched)
    assert closed.view("billing").to_pylist() == untouched.view("billing").to_pylist()


def test_a_purge_leaves_pieces_written_off(partial: Any, tmp_path: Path) -> None:
    site = copied(partial[0], tmp_path / "copy")
    before = rows(site)["suspended", "PARTIAL"]
    close(site.settings, WHY, ["PARTIAL"])
    purged(site, DAY + timedelta(200))
    assert site.log("pending").num_rows == 0 and not site.unbalanced()
    assert rows(site)["written_off", ""] == before


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    return cut_feed(tmp_path_factory.mktemp("feed"))


# -- in every order ----------------------------------------------------------------------------------------------------


def counted_once(site: Any) -> None:
    """Every file balances; what the ledger has as suspended and written off is what the logs have, each record once."""
    check_sound(site)
    found = Counter[tuple[str, str]]()
    log, pieces = site.log("suspense"), site.pending()
    if log.num_rows:
        places = [tuple(row.values()) for row in log.select(["kind", "file_no", "block", "line"]).to_pylist()]
        assert len(places) == len(set(places))
        found.update(_bucket(row["was"]) for row in log.to_pylist() if row["open"] or row["was"] == "written_off")
    if pieces.num_rows:
        known = pieces.filter(pc.less(pieces["state"], ESTIMATED))
        found.update(_bucket(row["was"]) for row in known.to_pylist() if row["was"] != "pending")
    counted = {key: count for key, count in rows(site).items() if key[0] in ("suspended", "written_off") and count}
    assert counted == dict(found)


def _bucket(was: str) -> tuple[str, str]:
    return (was, "") if was == "written_off" else ("suspended", was)


def check_any_history(workspace: Callable[..., Any], lines: Lines, seed: int) -> None:
    """After any nights, write-offs, recycling, redeliveries and backouts each record counts once; all files read again,
    the lake is as though nothing had been written off."""
    chance = random.Random(seed)
    made = deliveries(lines, chance)
    order, now = chance.sample(sorted(made), len(made)), MORNING
    site, clean = (workspace(*SOURCES, thresholds={"file_errors_pct": 100.0}) for _ in range(2))
    came: list[tuple[str, str, bytes]] = []
    for at in range(0, len(order), 6):
        part = [(source, name, made[source, name]) for source, name in order[at : at + 6]]
        part += [(source, f"again-{at}-{name}", data) for source, name, data in chance.sample(came, min(2, len(came)))]
        came += part
        now += chance.choice([1, 1000]) * HOUR_MS
        for of in (site, clean):
            for source, name, data in part:
                of.land(source, name, data)
            of.night(now)
        for change in chance.sample(["close", "recycle", "close file", "back out"], 3):
            _change(site, clean, change, came, chance)
            counted_once(site)
    for of in (site, clean):
        for source in SOURCES:
            reprocess(of.settings, source)
    counted_once(site)
    found = verify(site.settings, clean.settings)
    assert [line for line in found.report.splitlines() if not line.startswith("ledger")] == []
    assert "written_off" not in {bucket for bucket, _ in site.entries()} and site.entries() == clean.entries()


def _change(site: Any, clean: Any, change: str, came: list[tuple[str, str, bytes]], chance: random.Random) -> None:
    open_ones = [row for row in list_open(site.settings) if row.code != "HELD"]
    if change == "close" and open_ones:
        close(site.settings, WHY, [chance.choice(open_ones).code])
    elif change == "close file" and open_ones:
        close(site.settings, WHY, named=[str(chance.choice(open_ones).file_no)])
    elif change == "recycle":
        recycle(site.settings, [], [])
    elif change == "back out":
        gone = came.pop(chance.randrange(len(came)))
        for of in (site, clean):
            back_out(of.settings, ["/".join(gone[:2])])


@pytest.mark.parametrize("seed", some([5, 11, 23]))
def test_whatever_happens_each_record_counts_once(workspace: Any, lines: Lines, seed: int) -> None:
    check_any_history(workspace, lines, seed)


@pytest.mark.endurance
def test_many_histories_count_each_record_once(workspace: Any, lines: Lines) -> None:
    for seed in random.sample(range(1 << 32), 30):
        print(f"seed {seed}")
        check_any_history(workspace, lines, seed)
