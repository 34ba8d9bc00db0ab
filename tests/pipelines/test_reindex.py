"""rebuild --index: lost data files of the row index are made again as they were, from the archive and the views."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from callward.feeds import generate
from callward.lake.data_files import DataFiles
from callward.settings import Billing, Tenant
from callward.settings.inputs import Source
from pipelines.compact import compact
from pipelines.reindex import RebuiltIndex, rebuild_index
from pipelines.suspense.choose import choose
from schemas.retention_classes import CLASSES
from schemas.views import INDEX, ROW_INDEX, TOKENS, VIEW_BITS
from tests import test_two_elements as two_elements
from tests.pipelines.test_request import BOB, CALLS, CAROL, Call, Office, _with_floor
from tests.pipelines.test_request import night as request_night
from tests.retention import (
    ASSURANCE_KEPT,
    BILLING_KEPT,
    DAY,
    NUMBERS_KEPT,
    WINDOWS,
    call,
    copied,
    feed,
    night,
    purged,
)
from tests.test_held_versions import take_in, talk, version
from tests.test_two_elements import element, usage

GOLDEN = Path(__file__).parents[1] / "golden"
SOURCES = ("asterisk", "freeswitch", "freeswitch_json", "generic", "cucm", "opensips")
LAST = date(2026, 2, 28)  # calls after midnight UTC are of the next month
LATER = datetime(2026, 4, 1)
NOON = 1_772_712_000  # 2026-03-05 12:00 UTC
Index = dict[tuple[str, str], list[str]]


def indexed(site: Any) -> Index:
    """All rows of the index as text, in an order of their own, by tenant and date."""
    files, found = DataFiles(site.opened, "test"), Index()
    for file in site.data_files(INDEX):
        rows = pa.concat_tables([ROW_INDEX.empty_table(), files.rows(file)], promote_options="default")
        assert rows.num_rows == file.rows == sum(files.inputs(file).values())
        found.setdefault((file.tenant, file.part), []).extend(map(repr, rows.to_pylist()))
    return {date: sorted(rows) for date, rows in found.items()}


def lose(site: Any, files: Iterable[Any]) -> None:
    for file in files:
        DataFiles(site.opened, "test").path(file).unlink()


def rebuilt(site: Any, **only: Any) -> RebuiltIndex:
    done = rebuild_index(site.settings, **only)
    assert not [file.why for file in done.files if file.why] and done.exit_code == 0
    return done


def differences(was: Index, now: Index) -> list[str]:
    """Rows that only one of two indexes has."""
    rows = [{row for of_date in index.values() for row in of_date} for index in (was, now)]
    return [f"{sign} {row}" for sign, one, other in (("-", 0, 1), ("+", 1, 0)) for row in rows[one] - rows[other]]


def check_made_again(site: Any) -> None:
    """Lose every data file of the index, and have them again row by row."""
    was, files = indexed(site), site.data_files(INDEX)
    lose(site, files)
    assert {file.file_id for file in rebuilt(site).files} == {file.file_id for file in files}
    now = indexed(site)
    assert differences(was, now) == [] and was == now
    assert site.differing() == 0
    assert described(files) == described(site.data_files(INDEX))


def described(files: Iterable[Any]) -> list[Any]:
    """What the manifest says of data files that does not hang on when they were written."""
    return sorted((f.tenant, f.part, f.rows, f.numbers, f.parts, f.received_on, f.shard_bits, f.shard) for f in files)


# -- as it was -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fed(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Feeds of every switch over a month's end, in many waves: a night, what came late, and all of it once more."""
    folder = tmp_path_factory.mktemp("feeds")
    made = generate(folder / "night", seed=9, day=LAST, calls=500, dirt=0.02, late=folder / "late", sources=SOURCES)
    site = workspace(*SOURCES, waves={"records": 400, "block_mebibytes": 0.01})
    for prefix, paths in (("", made.files), ("", made.late), ("again-", [*made.files, *made.late])):
        site.deliver(paths, prefix)
        site.night()
    return site


def test_every_row_is_made_again_as_it_was(fed: Any, tmp_path: Path) -> None:
    was = [row for rows in indexed(fed).values() for row in rows]
    assert {part[:7] for _, part in indexed(fed)} == {"2026-02", "2026-03"}
    for what in ("'accepted'", "'duplicate'", "'suspended'", "'merged'", "'leg'", "'piece'", "'failed'", "'route'"):
        assert any(what in row for row in was), what
    check_made_again(copied(fed, tmp_path))


def test_files_of_many_commits_that_were_put_together_are_made_again(fed: Any, tmp_path: Path) -> None:
    site = copied(fed, tmp_path)
    site.set(lake={"close_after_hours": 48.0, "compact_files": 2})
    done = compact(site.settings, now=LATER)
    assert done.closed and any(merge.view == INDEX for merge in done.merged) and not done.not_closed
    check_made_again(site)


def test_golden_files_of_every_format_are_made_again(workspace: Callable[..., Any]) -> None:
    sources, paths = [], []
    for folder in sorted(path.parent for path in GOLDEN.glob("*/case.json")):
        case = json.loads((folder / "case.json").read_text())
        form = str(folder / case["declaration"]) if case["declaration"].endswith(".toml") else case["declaration"]
        sources.append(Source(name=folder.name, format=form, zone=case["zone"], complete="rename"))
        expected = folder.glob("*.rows.jsonl")
        paths += [path.with_name(path.name.removesuffix(".rows.jsonl")) for path in sorted(expected)]
    site = workspace(*sources, thresholds={"file_errors_pct": 100.0})
    for prefix in ("", "again-"):
        site.deliver(paths, prefix)
        site.night(int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000))
    check_made_again(site)


def test_only_what_is_asked_for_is_made_again(tenants: Any, tmp_path: Path) -> None:
    site = copied(tenants, tmp_path)
    was, files = indexed(site), site.data_files(INDEX)
    assert {file.tenant for file in files} == {"east", "west"} and len({file.part for file in files}) == 3
    lose(site, files)
    mine = {"tenant": "west", "call_date": DAY.isoformat()}
    tried = rebuilt(site, **mine, dry_run=True)
    assert {(file.tenant, file.call_date) for file in tried.files} == {("west", DAY.isoformat())}
    assert rebuilt(site, **mine).files == tried.files and not rebuilt(site, **mine).files
    rebuilt(site)
    assert indexed(site) == was


@pytest.fixture(scope="module")
def tenants(workspace: Callable[..., Any], feed_source: Any) -> Any:
    """Two tenants in one feed: three dates, each record in two shards' files, and some once more."""
    windows = dict.fromkeys(CLASSES, "99 years")
    both = ("east", "west")
    site = workspace(
        feed_source("generic", tenant="east", tenant_field="account", tenants={name: name for name in both}),
        tenants={name: Tenant(retention=windows) for name in both},
        accounts=[],
        waves={"bucket_records": 4},
    )
    for name, numbers in (("a.csv", range(24)), ("b.csv", range(12, 36))):
        days = [DAY + timedelta(n % 3) for n in numbers]
        lines = [call(n, day, account=both[n % 2]) for n, day in zip(numbers, days, strict=True)]
        night(site, feed(*lines), DAY + timedelta(4), name)
    return site


def test_shards_of_two_tenants_are_made_again(tenants: Any, tmp_path: Path) -> None:
    site = copied(tenants, tmp_path)
    assert len({(file.shard_bits, file.shard) for file in site.data_files(INDEX)}) > 1
    check_made_again(site)


def test_one_lost_file_of_several_is_made_again_beside_the_others(fed: Any, tmp_path: Path) -> None:
    site = copied(fed, tmp_path)
    was = indexed(site)
    for file in site.data_files(INDEX)[:3]:
        lose(site, [file])
        assert [again.file_id for again in rebuilt(site).files] == [file.file_id]
        assert indexed(site) == was


def test_versions_that_are_held_or_were_chosen_stay_so(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    take_in(site, [version(60), version(30), version(45), version(9, name="b") + version(12, name="b")])
    check_made_again(site)
    assert choose(site.settings, 2).chosen == 1 and sorted(talk(site)) == [30_000]
    check_made_again(site)
    assert take_in(site, [version(60), version(30)], "again") == [False, False]
    assert sorted(talk(site)) == [30_000]


@pytest.mark.parametrize("second_elements", ["hold", "list"])
def test_second_records_of_a_call_are_found_again(
    workspace: Callable[..., Any], feed_source: Any, second_elements: str
) -> None:
    keep = Tenant(retention=dict.fromkeys(CLASSES, "99 years"), billing=Billing(second_elements=second_elements))
    site = workspace(element(feed_source, "core", 1), element(feed_source, "edge", 2), tenants={"default": keep})
    for name in ("core", "edge"):
        site.land(name, f"{name}.csv", two_elements.feed(usage(name, NOON, 60), usage(f"{name}2", NOON + 900, 9)))
        site.night(two_elements.MORNING)
    was = indexed(site)
    marked = "'second'" if second_elements == "hold" else "'listed'"
    assert [marked in row for rows in was.values() for row in rows].count(True) == 2
    lose(site, site.data_files(INDEX))
    rebuilt(site)
    assert (indexed(site) == was) == (second_elements == "hold")
    site.night(two_elements.MORNING)
    assert indexed(site) == was and site.differing() == 0


# -- as retention left it --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(workspace: Callable[..., Any]) -> Any:
    """A few calls, each twice, of which nobody answered one; only copied."""
    site = workspace("generic", retention=WINDOWS)
    night(site)
    night(site, name="again.csv")
    return site


@pytest.mark.parametrize("as_of", [ASSURANCE_KEPT, NUMBERS_KEPT])
def test_what_a_purge_took_stays_away(kept: Any, tmp_path: Path, as_of: date) -> None:
    site = copied(kept, tmp_path)
    purged(site, as_of + timedelta(1))
    check_made_again(site)
    done = purged(site, BILLING_KEPT + timedelta(1))
    assert done["status"] == "done" and not site.data_files(INDEX)


@pytest.mark.parametrize("obliged", ["", "billing_transaction", "assurance_metrics"])
def test_what_a_person_had_erased_stays_away(
    workspace: Callable[..., Any], feed_source: Any, tmp_path: Path, obliged: str
) -> None:
    """Rows, or where a law keeps these what names the person in them."""
    office = Office(workspace(feed_source("generic", country="US")), tmp_path)
    request_night(office.site, "again.csv", [*CALLS, Call("g", BOB, CAROL, "ac-0002", minute=7, answered=False)])
    if obliged:
        office.govern(_with_floor(obliged, "6 years"))
    before = indexed(office.site)
    for whom in ({"number": BOB}, {"account": "acct-0003"}):
        office.ask("erase", **whom)
        assert differences(before, indexed(office.site))
        before, was = indexed(office.site), by_place(office.site)
        lose(office.site, office.site.data_files(INDEX))
        rebuilt(office.site)
        now = by_place(office.site)
        assert now.keys() == was.keys() and (obliged or now == was)
        for place, row in now.items():
            differ = {name for name in row if row[name] != was[place][name]}
            # Where billing has no row to tell which number was the person's, none of them stays.
            assert differ <= {"account", *TOKENS} and {row[name] for name in differ} <= {None, "erased"}
            assert not differ or row["parts"] == VIEW_BITS["assurance"] or row["state"] != "accepted"
        before = indexed(office.site)


def by_place(site: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    """All rows of the index, by id and where they came from."""
    files = DataFiles(site.opened, "test")
    rows = [row for file in site.data_files(INDEX) for row in files.rows(file).to_pylist()]
    return {(row["record_id"], row["file_no"], row["block"], row["line"]): row for row in rows}
