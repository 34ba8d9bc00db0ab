"""reprocess: afterwards all is as though the settings of today had been there from the start."""

import signal
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from callward import database
from callward.errors import Problem, UsageProblem
from callward.evidence.checks import foots
from callward.settings import Account
from callward.template import render
from pipelines.corrections.run import back_out, reprocess
from schemas.retention import disposals
from schemas.tables import blocks, source_generations
from tests.commands import all_that_is, run, strays
from tests.pipelines.corrections.test_backout import _lose_archive, differing
from tests.pipelines.test_request import BOB, Office, _with_floor
from tests.retention import CALLED, hold, night, purged

HEADER = "id,calling_number,called_number,start_time,answer_time,end_time,talk_ms,account\n"
RIGHT = "America/Denver"  # of the switch's clock; the settings began with UTC
MORNING = 1_772_500_000_000  # 2026-03-03
POINTS = ("correction-begun", "view-written:2", "suspense-written", "correction-ready:2", "correction-committed")


def line(number: int, minute: int = 0, talk: int = 60, caller: str = "+13035550101") -> str:
    """A call of the last evening of February, by a clock that names no zone."""
    start = f"2026-02-28 {18 + number % 6}:{minute:02d}:00"
    end = f"2026-02-28 {18 + number % 6}:{minute + talk // 60:02d}:00"
    return f"id-{number},{caller},{CALLED},{start},{start},{end},{talk * 1000},ac-0007\n"


FIRST = (HEADER + "".join(line(n) for n in range(8)) + line(8, caller="+13035550188") + "torn,record\n").encode()
# A repetition, another version of a record, and the torn one again.
SECOND = (HEADER + line(3) + line(4, talk=120) + line(9) + "torn,record\n").encode()
THIRD = (HEADER + line(10)).encode()


def change(site: Any, **changes: Any) -> None:
    """Change the site's one source in its settings."""
    settings = site.settings
    settings.path.write_text(
        render(settings.model_copy(update={"sources": [settings.sources[0].model_copy(update=changes)]})),
        encoding="utf-8",
    )


def taken_in(site: Any, *files: bytes) -> Any:
    for number, data in enumerate(files):
        site.land("denver", f"{number}.csv", data)
        site.night(MORNING)
    return site


def check_equal(site: Any, clean: Any) -> None:
    assert not site.unbalanced() and site.differing() == 0
    assert differing(all_that_is(site), all_that_is(clean)) == {}


@pytest.fixture
def denver(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Callable[..., Any]:
    def make(**changes: Any) -> Any:
        usual = {"format": "generic_csv", "zone": "UTC", "file_errors_pct": 100.0}
        return workspace(feed_source("denver", **(usual | changes)), waves={"records": 10})

    return make


@pytest.fixture
def right(denver: Callable[..., Any]) -> Any:
    """What the lake is to be: the second generation of the source's was there before its first file."""
    site = denver()
    site.night(MORNING)
    change(site, zone=RIGHT)
    return taken_in(site, FIRST, SECOND, THIRD)


def test_a_wrong_zone_is_undone_in_one_command(denver: Callable[..., Any], right: Any) -> None:
    site = taken_in(denver(), FIRST, SECOND, THIRD)
    change(site, zone=RIGHT)
    config = ("--config", str(site.settings.path))
    refused = run("nightly", *config).check_clean()
    assert refused.code == 2 and "callward reprocess --source denver" in refused.err
    before = all_that_is(site)
    tried = reprocess(site.settings, "denver", dry_run=True)
    assert all_that_is(site) == before and strays(site) == [] and len(site._rows(source_generations)) == 1
    assert tried.corrected.columns["start_time"] == tried.corrected.columns["call_date"] == 10
    with pytest.raises(Problem, match="its zone changed: read all of it again"):
        reprocess(site.settings, named=["1"])
    ended = run("reprocess", "--source", "denver", "--json", *config).check_clean()
    assert ended.code == 0 and len(ended.document["files"]) == 3
    check_equal(site, right)
    assert {row.generation for row in site._rows(blocks)} == {2}
    site.night(MORNING)
    assert strays(site) == []


def test_a_reprocess_killed_at_every_named_point_ends_as_one_clean_run(denver: Callable[..., Any], right: Any) -> None:
    site = taken_in(denver(), FIRST, SECOND, THIRD)
    change(site, zone=RIGHT)
    words = ("reprocess", "--source", "denver", "--config", str(site.folder))
    for where in POINTS:
        ended = run(*words, environment={"CALLWARD_CRASH_AT": where})
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: {ended.err[-300:]}"
    assert run(*words).check_clean().code == 0
    check_equal(site, right)


def test_a_forgotten_account_is_undone_in_one_command(denver: Callable[..., Any]) -> None:
    site, clean = denver(), taken_in(denver(), FIRST, SECOND)
    accounts = site.settings.accounts
    settings = site.settings.model_copy(update={"accounts": [Account(id="acct-0001", codes=["ac-0001"])]})
    settings.path.write_text(render(settings), encoding="utf-8")
    taken_in(site, FIRST, SECOND)
    settings.path.write_text(render(settings.model_copy(update={"accounts": accounts})), encoding="utf-8")
    days = date(2020, 1, 1), date(2100, 1, 1)
    tried, done = (reprocess(site.settings, "denver", *days, dry_run=dry) for dry in (True, False))
    assert tried.corrected.usage == done.corrected.usage
    assert tried.corrected.columns == {"account": 9}  # the record of two versions is held as it was
    assert {usage.account: usage.calls for usage in done.corrected.usage} == {"acct-0007": 9, "unassigned": -9}
    check_equal(site, clean)
    assert not reprocess(site.settings, "denver", date(2100, 1, 1)).corrected.files


def test_records_that_were_cut_wrongly_come_right_and_leave_suspense(denver: Callable[..., Any]) -> None:
    quoted = '"id\n-20"' + line(5).removeprefix("id-5")
    data = (HEADER + line(1) + quoted + line(2)).encode()
    site, clean = denver(), taken_in(denver(declare={"file": {"multiline": True}}), data)
    taken_in(site, data)
    assert site.entries()["in", ""][0] == 4 and any(bucket == "suspended" for bucket, _ in site.entries())
    change(site, declare={"file": {"multiline": True}})
    reprocess(site.settings, named=["denver/0.csv"])
    assert site.entries()["in", ""][0] == site.entries()["accepted", ""][0] == 3
    check_equal(site, clean)


def test_what_cannot_be_read_again_is_refused_and_nothing_changes(denver: Callable[..., Any]) -> None:
    site = taken_in(denver(), FIRST, SECOND)
    back_out(site.settings, ["2"])
    before = all_that_is(site)
    with pytest.raises(Problem, match="file 2 was backed out: deliver it again"):
        reprocess(site.settings, named=["2"])
    with pytest.raises(UsageProblem, match="say which"):
        reprocess(site.settings, "denver", named=["1"])
    placed = hold(site, numbers=("+13035550188",))
    with pytest.raises(Problem, match=f"under hold .{placed.hold_id}"):
        reprocess(site.settings, named=["1"])
    _lose_archive(site)
    with pytest.raises(Problem, match="no longer has it all: file 1: the archive does not have them"):
        reprocess(site.settings, "denver")
    assert all_that_is(site) == before


def test_a_column_that_nobody_had_declared_comes_right(denver: Callable[..., Any]) -> None:
    data = FIRST.replace(b",account\n", b",payer\n", 1)
    declared = {"fields": {"account_code": ["payer"]}}
    site, clean = taken_in(denver(), data), taken_in(denver(declare=declared), data)
    assert set(site.view("billing")["account"].to_pylist()) == {"unassigned"}
    change(site, declare=declared)
    reprocess(site.settings, named=["1"])
    check_equal(site, clean)


def test_what_a_purge_took_stays_gone_and_accounted_for(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention={"assurance_metrics": "10 days"})
    night(site)
    with pytest.raises(Problem, match="rows of 2026-03-05 are past their window and not purged yet"):
        reprocess(site.settings, named=["1"])
    purged(site, date.today())
    before = all_that_is(site)
    assert site.view("assurance").num_rows == 0 and site.view("billing").num_rows
    reprocess(site.settings, named=["1"])
    assert differing(all_that_is(site), before) == {} and site.differing() == 0
    with database.reading(site.settings) as connection:
        for row in site._rows(disposals):
            assert foots(connection, row.disposal_id).ok


def test_what_a_person_had_erased_stays_as_the_erasure_left_it(
    workspace: Callable[..., Any], feed_source: Callable[..., Any], tmp_path: Path
) -> None:
    office = Office(workspace(feed_source("generic", country="US")), tmp_path)
    office.govern(_with_floor("billing_transaction", "6 years"))
    office.ask("erase", number=BOB)
    before = all_that_is(office.site)
    done = reprocess(office.site.settings, "generic")
    assert done.corrected.files and done.corrected.usage == []
    assert differing(all_that_is(office.site), before) == {} and office.site.differing() == 0
