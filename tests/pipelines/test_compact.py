"""Compaction: many small files become few, and nobody's answer changes: not a query's, a night's, a purge's."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

import transforms.commit as commits
from callward import database, query, runs
from callward.access.second_person import Consent
from callward.feeds import generate
from callward.lake import ledger, row_index
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from callward.retention.requests.register import Selector
from callward.retention.requests.search import search
from pipelines import request as requests
from pipelines.compact import Compacted, compact, fold_entries
from pipelines.suspense.recycle import recycle
from pipelines.sweep import sweep
from schemas.retention import lake_file_inputs, row_ends
from schemas.tables import blocks, lake_files, ledger_entries, partitions
from schemas.tables import runs as runs_table
from schemas.views import BILLING_NUMBERS, HELD, ID_COLUMN, INDEX, PARTS, STORED, UNCHARGED, VIEW_PARTS
from tests.commands import all_that_is, strays
from tests.comparison import verify
from tests.conftest import MORNING
from tests.examples import tries
from tests.retention import CALLER, DAY, OTHER, WINDOWS, call, feed, hold, night, on_disk, person, purge, purged
from tests.typed import Run, typing

SOURCES = ("asterisk", "opensips", "cucm")
_FEED: dict[str, Any] = {"seed": 6, "day": DAY, "calls": 260, "dirt": 0.08}
WRITTEN = [view for view in STORED if view != UNCHARGED]  # of no call here
WAVES = {"records": 5, "block_mebibytes": 0.0005}  # of about four records each
FEW = {"compact_files": 4}
NEVER = {"compact_files": 100_000}
SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"


@pytest.fixture(scope="module")
def scattered(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """A workspace with many small files: dirty feeds with pieces of calls, in many waves; its copies."""
    folder = tmp_path_factory.mktemp("feeds")
    generate(folder, **_FEED, sources=SOURCES)
    site = workspace(*SOURCES, waves={"records": 30, "bucket_records": 8, "block_mebibytes": 0.004}, lake=NEVER | _NO)
    site.deliver(sorted(path for path in folder.rglob("*") if path.is_file()))
    site.night(MORNING)
    site.set(lake=FEW)
    for view in (*WRITTEN, "archive", "suspense"):
        assert len(site.data_files(view)) >= 4, view
    return _copier(site, tmp_path_factory)


_NO = {"grace_minutes": 0.0}


def _copier(site: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    def copy() -> Any:
        database.engine(site.settings).dispose()
        folder = tmp_path_factory.mktemp("copy") / "workspace"
        shutil.copytree(site.folder, folder)
        return type(site)(folder)

    return copy


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    with typing(capsys, monkeypatch, "compact") as run:
        yield run


def _inputs(site: Any) -> dict[tuple[str, str, int], int]:
    """Rows by view, partition and input file, of the files that count."""
    with database.reading(site.settings) as connection:
        f, i = lake_files.c, lake_file_inputs.c
        query = select(f.view, f.part, i.file_no, i.rows).join(lake_file_inputs, f.file_id == i.file_id)
        rows = connection.execute(query.where(f.superseded_at.is_(None))).all()
    found: Counter[tuple[str, str, int]] = Counter()
    for row in rows:
        found[row.view, row.part, row.file_no] += row.rows
    return dict(found)


def _archived(site: Any) -> dict[tuple[int, int], bytes]:
    """What the archive has of each block."""
    files = DataFiles(site.opened, "test")
    content = {file.file_id: files.read_archive(file) for file in site.data_files("archive")}
    return {
        (b.file_no, b.block): content[b.archive_file][b.archive_first :][: b.last - b.first]
        for b in site._rows(blocks)
        if b.archive_file
    }


def _versions(site: Any) -> dict[tuple[str, str], int]:
    return {(row.tenant, row.part): row.version for row in site._rows(partitions)}


# -- the same as before ------------------------------------------------------------------------------------------------


def test_everything_is_as_it_was_in_fewer_files(scattered: Callable[[], Any]) -> None:
    before, site = scattered(), scattered()
    done = compact(site.settings)
    assert done.refused == 0
    assert {row.view for row in done.merged} == {*WRITTEN, "archive", "suspense"}
    assert verify(before.settings, site.settings).equal
    assert all_that_is(site) == all_that_is(before)
    assert (_inputs(site), _archived(site)) == (_inputs(before), _archived(before))
    assert site.differing() == 0 and site.unbalanced() == {} and strays(site) == []
    for view in (*WRITTEN, "archive", "suspense"):
        assert len(site.data_files(view)) < 0.6 * len(before.data_files(view))
    assert compact(site.settings).merged == []  # done is done


def test_no_version_of_a_view_rises(scattered: Callable[[], Any]) -> None:
    before, site = scattered(), scattered()
    compact(site.settings)
    rises = {part for part, version in _versions(site).items() if version != _versions(before)[part]}
    assert rises == {("default", "suspense")}


def test_a_dry_run_says_so_and_changes_nothing(scattered: Callable[[], Any], typed: Run) -> None:
    site = scattered()
    before, rows = on_disk(site), site._rows(lake_files)
    told = typed("--dry-run", "--json", "--config", site.folder)
    assert (on_disk(site), site._rows(lake_files)) == (before, rows)
    ran = typed("--json", "--config", site.folder)
    assert told.code == ran.code == 0
    assert told.json["merged"] == ran.json["merged"] != []
    plain = typed("--config", site.folder)
    assert (plain.code, plain.out) == (0, "nothing to merge\n")


def test_nothing_lies_in_the_clear_afterwards(scattered: Callable[[], Any], tmp_path: Path) -> None:
    site = scattered()
    numbers = {n for name in ("calling_number", "called_number") for n in site.view("billing")[name].to_pylist()}
    (tmp_path / "numbers").write_text("\n".join(sorted(n for n in numbers if n and len(n) > 9)))
    compact(site.settings)
    assert sweep(site.settings, [site.folder], tmp_path / "numbers", lambda line: None).to_dict()["hits"] == []


def test_the_same_records_again_are_known(scattered: Callable[[], Any], tmp_path: Path) -> None:
    """Ids are found in merged files, by their filters and by themselves; what is set aside is known, too."""
    site = scattered()
    compact(site.settings)
    before = all_that_is(site)
    feeds = generate(tmp_path, **_FEED, sources=SOURCES[:1])
    site.set(waves={"records": 1_000_000})
    site.deliver(feeds.files, prefix="again-")
    site.night(MORNING)
    after = all_that_is(site)
    for what in (*VIEW_PARTS, "derived", "suspense"):
        assert after[what] == before[what]
    fresh = {bucket for file, bucket, _ in after["ledger"] if "/again-" in file}
    assert fresh and fresh <= {"in", "duplicate", "filtered"}


def test_what_was_mended_is_put_through_from_merged_suspense(scattered: Callable[[], Any]) -> None:
    sites = [scattered(), scattered()]
    compact(sites[1].settings)
    done = [recycle(site.settings, [], []) for site in sites]
    assert done[0].taken == done[1].taken > 0 and done[0].buckets == done[1].buckets
    assert verify(sites[0].settings, sites[1].settings).equal


def test_a_night_merges_at_its_end(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", waves=WAVES, lake=FEW | _NO)
    night(site, feed(*(call(n) for n in range(20))))
    assert len(site.data_files("assurance")) == 1 and site.view("assurance").num_rows == 20
    assert len(site.data_files("archive")) == 1
    assert site.differing() == 0 and strays(site) == []
    assert [row.kind for row in site._rows(runs_table)] == ["nightly", "compact"]


def test_rows_that_came_in_on_other_days_stay_apart(workspace: Callable[..., Any]) -> None:
    """A longer window does not reach rows that came in before it: their day decides."""
    site = workspace("generic", waves=WAVES, lake=NEVER | _NO)
    night(site, feed(*(call(n) for n in range(20))))
    ids = sorted(file.file_id for file in site.data_files("assurance"))
    site.set(lake={"compact_files": 2})
    with database.writing(site.settings) as connection:
        earlier = update(lake_files).where(lake_files.c.file_id.in_(ids[:2]))
        connection.execute(earlier.values(received_on=date(2026, 3, 6)))
    days = Counter()
    for file in site.data_files("assurance"):
        days[file.received_on] += file.rows
    compact(site.settings)
    merged = site.data_files("assurance")
    assert len(merged) == 2
    assert {file.received_on: file.rows for file in merged} == days


# -- any files ---------------------------------------------------------------------------------------------------------


_FILE = st.fixed_dictionaries(
    {
        "rows": st.lists(st.tuples(st.integers(0, 1439), st.integers(0, 2**64 - 1)), min_size=1, max_size=6),
        "shard": st.sampled_from([(0, 0), (1, 0), (1, 1)]),
        "numbers": st.booleans(),
        "received": st.sampled_from([date(2026, 3, 6), date(2026, 3, 7)]),
    }
)


@pytest.fixture(scope="module")
def empty(workspace: Callable[..., Any]) -> Any:
    return workspace("generic", lake={"compact_files": 2} | _NO)


@given(view=st.sampled_from(list(VIEW_PARTS)), made=st.lists(_FILE, min_size=2, max_size=7))
@tries(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_small_files_keep_their_rows_and_inputs(empty: Any, view: str, made: list[dict[str, Any]]) -> None:
    with database.writing(empty.settings) as connection:
        connection.execute(delete(lake_files))
    with runs.running(empty.settings, "test", ["test"]) as run_id:
        files = DataFiles(empty.opened, run_id)
        written = [_write(files, view, one, number) for number, one in enumerate(made)]
        with database.writing(empty.settings) as connection:
            ledger.swap_files(connection, run_id, Changes(files=written))
        runs.finish(empty.settings, run_id, "done")
    before = _paired(empty, view)
    compact(empty.settings)
    left = empty.data_files(view)
    assert _paired(empty, view) == before
    shared = {(one["shard"], one["received"], one["numbers"] and view in PARTS["billing"]) for one in made}
    assert len(left) == len(shared)
    reader = DataFiles(empty.opened, "test")
    for file in left:
        rows = reader.rows(file)
        assert rows.num_rows == file.rows
        assert rows.column_names == [name for name in VIEW_PARTS[view].names if name in rows.column_names]
        starts = rows["start"].cast(pa.int64()).to_pylist()
        ids = [int.from_bytes(row_id[:8], "little") for row_id in rows[ID_COLUMN[view]].to_pylist()]
        order = starts if view in PARTS["billing"] else ids
        assert order == sorted(order) or file.file_id.startswith(run_id)  # one that was alone lies as it did
        assert (file.first_start, file.last_start) == tuple(map(ledger.to_datetime, (min(starts), max(starts))))


def _write(files: DataFiles, view: str, one: dict[str, Any], number: int) -> ledger.DataFile:
    day = int(datetime(2026, 3, 5, tzinfo=UTC).timestamp() * 1000)
    rows = [
        {"start": day + 60_000 * minute, ID_COLUMN[view]: bits.to_bytes(8, "little") * 2, "source": f"s{bits % 3}"}
        for minute, bits in one["rows"]
    ]
    table = pa.Table.from_pylist(rows, schema=VIEW_PARTS[view])
    if view in PARTS["billing"] and not one["numbers"]:
        table = table.drop_columns(list(BILLING_NUMBERS))
    inputs = {number: len(rows)}
    return files.write_view(view, "default", "2026-03-05", table, inputs, *one["shard"], one["received"])


def _paired(site: Any, view: str) -> Counter[str]:
    """Rows, and what the manifest says of them, without which file they lie in; and how many came from which file."""
    files, found = DataFiles(site.opened, "test"), Counter()
    for file in site.data_files(view):
        about = file.received_on, file.numbers, file.shard_bits, file.shard, file.key_ids
        found.update(repr((row, about)) for row in files.rows(file).to_pylist())
        found.update({f"input {file_no}": rows for file_no, rows in files.inputs(file).items()})
    return found


# -- while others are at work ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """Twenty calls of one day, and seven attempts that failed, in a few files of each part; its copies."""
    windows = {**WINDOWS, "suspense": "170 days"}
    site = workspace(
        "generic",
        retention=windows,
        waves=WAVES,
        lake=NEVER | _NO,
        thresholds={"file_errors_pct": 100.0},
    )
    others = {n: (call(60 + n, answered=False), SPOILT.format(90 + n)) for n in range(0, 20, 3)}
    night(site, feed(*(line for n in range(20) for line in (_line(n), *others.get(n, ())))))
    assert min(len(site.data_files(view)) for view in (*WRITTEN, "suspense")) >= 4
    site.set(lake=FEW, waves={"records": 1000})
    return _copier(site, tmp_path_factory)


def _line(number: int) -> str:
    """One of the calls of `small`, or one like them."""
    return call(number, caller=OTHER if number % 3 == 0 else CALLER, account="ac-0007" if number % 2 else "")


def _compact_once_before(monkeypatch: pytest.MonkeyPatch, site: Any) -> list[Compacted]:
    """Compact when the next wave has settled and is about to commit."""
    done: list[Compacted] = []
    real = commits._commit

    def first_compact(*arguments: Any) -> Any:
        if not done:
            done.append(Compacted(False))
            done[0] = compact(site.settings)
        return real(*arguments)

    monkeypatch.setattr(commits, "_commit", first_compact)
    return done


def test_a_night_that_adds_rows_is_not_refused_by_a_compaction(
    small: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, site = small(), small()
    more = feed(*(_line(n) for n in range(10, 30)))
    night(before, more, name="b.csv")
    done = _compact_once_before(monkeypatch, site)
    ended = night(site, more, name="b.csv")
    assert {row.view for row in done[0].merged} >= set(WRITTEN)
    assert ended.refused == 0
    assert verify(before.settings, site.settings).equal
    assert site.differing() == 0 and strays(site) == []


def test_a_night_that_writes_a_merged_file_anew_is_refused_and_does_it_again(
    small: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other versions of committed records: their rows leave files that are merged meanwhile, as they are held."""
    before, site = small(), small()
    later = feed(*(call(n, talk=90) for n in range(5)), call(40))
    night(before, later, name="b.csv")
    done = _compact_once_before(monkeypatch, site)
    ended = night(site, later, name="b.csv")
    assert done[0].merged and ended.refused == 1
    assert verify(before.settings, site.settings).equal
    assert site.view("assurance").num_rows == 23
    assert site.differing() == 0 and strays(site) == []


@pytest.mark.parametrize("view", [*WRITTEN, "archive", "suspense"])
def test_a_merge_that_another_commit_came_before_is_left_for_the_next_time(
    view: str, small: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, real = small(), ledger.swap_files
    doing = iter([True])

    def first_another(connection: Any, run_id: str, outcome: Changes) -> None:
        if outcome.files[0].view == view and next(doing, False):
            gone = lake_files.c.file_id == next(iter(outcome.superseded))
            connection.execute(update(lake_files).where(gone).values(superseded_at=database.now()))
        real(connection, run_id, outcome)

    monkeypatch.setattr(ledger, "swap_files", first_another)
    done = compact(site.settings)
    assert done.refused == 1 and done.merged
    assert strays(site) == []
    assert compact(site.settings).refused == 0
    assert [len(site.data_files(part)) for part in ("billing", *PARTS["assurance"])] == [1, 1, 1]


def test_a_query_that_began_before_goes_on_over_what_it_began_with(small: Callable[[], Any]) -> None:
    site = small()
    settings_ = site.settings
    with query.asking(settings_, "assurance", "SELECT assurance_id, start FROM assurance ORDER BY 1") as answer:
        first = on_disk(site)
        compact(settings_)
        assert first <= on_disk(site)  # nothing that it may read has gone
        rows = answer.read_all()
    assert rows.num_rows == 27
    compact(settings_)
    with query.asking(settings_, "assurance", "SELECT count(*) AS n FROM assurance") as answer:
        assert answer.read_all().to_pylist() == [{"n": 27}]


def test_replaced_files_leave_when_the_last_query_over_them_has_ended(small: Callable[[], Any]) -> None:
    site = small()
    old = {file.path for file in site.data_files("billing")}
    with query.asking(site.settings, "billing", "SELECT count(*) FROM billing") as answer:
        compact(site.settings)
        answer.read_all()
        assert old <= on_disk(site)
    night(site, feed(call(70)), name="c.csv")
    assert not old & on_disk(site)
    assert strays(site) == []


def test_two_compactions_do_not_meet(small: Callable[[], Any], typed: Run) -> None:
    site = small()
    with runs.running(site.settings, "compact", ["compact"]) as run_id:
        ran = typed("--config", site.folder)
        assert ran.code == 1 and "compact is being worked on" in ran.err
        night(site, feed(call(71)), name="c.csv")  # a night is not troubled by it
        runs.finish(site.settings, run_id, "done")
    assert site.view("assurance").num_rows == 28


def test_suspense_that_is_being_recycled_is_left_for_the_next_time(small: Callable[[], Any]) -> None:
    site = small()
    with runs.running(site.settings, "recycle", ["suspense"]) as run_id:
        merged = {row.view for row in compact(site.settings).merged}
        runs.finish(site.settings, run_id, "done")
    assert merged == {*WRITTEN, "archive"}
    assert {row.view for row in compact(site.settings).merged} == {"suspense"}


# -- retention ---------------------------------------------------------------------------------------------------------

_SUMS = ("class", "due", "held", "deleted", "keys_destroyed")


def _told(site: Any, done: dict[str, Any]) -> dict[str, Any]:
    """What a purge came to, without what depends on how many files there were."""
    files = DataFiles(site.opened, "test")
    rows = {
        view: Counter(repr(row) for file in site.data_files(view) for row in files.rows(file).to_pylist())
        for view in (*VIEW_PARTS, *(f"{HELD}{part}" for part in VIEW_PARTS))
    }
    return {
        "classes": [{name: row[name] for name in _SUMS} for row in done["classes"]],
        "ends": Counter({(r.view, r.end, r.file_no): r.rows for r in site._rows(row_ends)}),
        "entries": site.entries(),
        "derived": site.derived(),
        "held": [{**row, "hold": bool(row["hold"])} for row in done["held"]],
        "checks": (done["failed_checks"], done["overdue"]),
        "rows": rows,
    }


@pytest.mark.parametrize(
    "as_of",
    [
        date(2026, 6, 2),
        *(pytest.param(day, marks=pytest.mark.endurance) for day in (date(2026, 5, 12), date(2026, 9, 2))),
    ],
)
@pytest.mark.parametrize("selectors", [{}, {"numbers": (OTHER,)}])
def test_a_purge_of_merged_files_comes_to_the_same(
    small: Callable[[], Any], as_of: date, selectors: dict[str, Any]
) -> None:
    """Rows, numbers, held copies, archive and suspense; the certificates' sums and checks."""
    told = []
    for merge in (False, True):
        site = small()
        person(site)
        if merge:
            assert {row.view for row in compact(site.settings).merged} == {*WRITTEN, "archive", "suspense"}
        if selectors:
            hold(site, **selectors)
        site.set(lake=NEVER)
        told.append(_told(site, purged(site, as_of)))
        assert site.differing() == 0 and not site.unbalanced()
    assert told[0] == told[1]
    assert told[0]["checks"] == ([], 0)


def test_a_purge_takes_what_a_compaction_replaced(small: Callable[[], Any]) -> None:
    """Readers of rows past their window are not waited for."""
    site = small()
    person(site)
    site.set(lake={"grace_minutes": 600.0})
    compact(site.settings)
    purged(site, date(2026, 9, 2))
    with database.reading(site.settings) as connection:
        left = connection.execute(select(lake_files.c.path).where(lake_files.c.removed_at.is_(None))).scalars().all()
    assert not [path for path in on_disk(site) if path.split("/")[0] in VIEW_PARTS]
    assert {path.split(".")[0] for path in on_disk(site)} == {path.split(".")[0] for path in left}


def test_files_of_a_plan_that_waits_for_a_person_are_left_alone(small: Callable[[], Any]) -> None:
    site = small()
    waiting = purge(site.settings, date(2026, 6, 2))
    assert waiting["status"] == "planned"
    assert not {*PARTS["assurance"]} & {row.view for row in compact(site.settings).merged}
    approved = purge(site.settings, date(2026, 6, 2), consent=Consent(waiting["plan_id"], "ada", person(site)))
    assert (approved["status"], approved["plan_digest"]) == ("done", waiting["plan_digest"])


def _ask(site: Any, kind: str, number: str) -> Any:
    """A person's request about a number, answered at once."""
    asked = requests.NewRequest("default", kind, regime="gdpr", identity="seen")
    hand = requests.Handler("ada", person(site), None)
    return requests.ask(site.settings, asked, Selector("number", number), hand, database.now().date(), dry_run=False)


def test_an_erased_person_is_in_no_file_that_a_compaction_left(small: Callable[[], Any]) -> None:
    site = small()
    site.set(lake={"grace_minutes": 600.0})
    compact(site.settings)
    before = _files_of(site, OTHER)
    assert {path.split("/")[0] for path in before} == {"billing", "answered", INDEX}
    _ask(site, "erase", OTHER)
    assert OTHER not in site.view("billing")["calling_number"].to_pylist()
    assert not before & on_disk(site)


def _files_of(site: Any, number: str) -> set[str]:
    """Paths of data files that have, or had until they were merged, a row of whoever has the number."""
    files, paths = DataFiles(site.opened, "test"), set()
    with database.reading(site.settings) as connection:
        known = [ledger.data_file(row) for row in connection.execute(select(lake_files))]
    found = search(files, "default", DAY.isoformat(), Selector("number", number)).record_ids
    for file in (file for file in known if file.part == DAY.isoformat() and file.view in STORED):
        if file.view == INDEX:
            rows = pc.is_in(files.columns(file, ["record_id"])["record_id"], found).to_numpy()
        else:
            rows = row_index.places(files, file, found) >= 0
        paths |= {file.path} if rows.any() else set()
    return paths & on_disk(site)


def test_restricted_rows_stay_hidden_and_the_others_stay_seen(small: Callable[[], Any]) -> None:
    site = small()
    _ask(site, "restrict", OTHER)
    sql = "SELECT count(*) AS n FROM billing"
    seen = query.query(site.settings, "billing", sql).to_pylist()
    compact(site.settings)
    assert query.query(site.settings, "billing", sql).to_pylist() == seen == [{"n": 13}]


# -- ledger entries ----------------------------------------------------------------------------------------------------


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from(["stream-1", "stream-2", "night-1"]),
            st.integers(1, 4),
            st.sampled_from(["in", "accepted"]),
            st.sampled_from(["", "X"]),
            st.integers(-2, 2),
            st.integers(-5, 5),
        ),
        max_size=40,
    )
)
@tries(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entries_of_a_stream_are_folded_and_say_the_same(empty: Any, entries: list[Any]) -> None:
    names = ("run_id", "file_no", "bucket", "code", "rows", "talk_ms")
    rows = [dict(zip(names, entry, strict=True)) | {"wave": n} for n, entry in enumerate(entries)]
    with database.writing(empty.settings) as connection:
        for table in (ledger_entries, runs_table):
            connection.execute(delete(table))
        for run_id in ("stream-1", "stream-2", "night-1"):
            about = {"host": "h", "pid": 1, "code_version": "", "settings_digest": "", "started_by": "test"}
            kind = run_id.partition("-")[0].replace("night", "nightly")
            times = {"started_at": database.now()}
            connection.execute(insert(runs_table).values(run_id=run_id, kind=kind, status="done", **times, **about))
        if rows:
            connection.execute(insert(ledger_entries), rows)
    folded = fold_entries(empty.settings)
    found = empty._rows(ledger_entries)
    assert len(found) == len(rows) - folded
    sums = [Counter(), Counter()]
    for row in [tuple(getattr(row, name) for name in names) for row in found]:
        sums[0][row[:4]] += row[4] * 1000 + row[5]
    for entry in entries:
        sums[1][entry[:4]] += entry[4] * 1000 + entry[5]
    assert {k: v for k, v in sums[0].items() if v} == {k: v for k, v in sums[1].items() if v}
    streamed = [(row.run_id, row.file_no, row.bucket, row.code) for row in found if row.run_id != "night-1"]
    assert len(streamed) == len(set(streamed))
    assert sum(row.run_id == "night-1" for row in found) == sum(entry[0] == "night-1" for entry in entries)
