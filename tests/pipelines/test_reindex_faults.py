"""An index file that is not what was committed is refused by name, and made again; what cannot be is listed."""

import re
import signal
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update

from callward import database
from callward.columns import set_column
from callward.disposal import purge as purge_disposal
from callward.errors import Problem
from callward.lake import row_index
from callward.lake.data_files import DataFiles
from pipelines import reindex as reindexing
from pipelines.rebuild import rebuild
from pipelines.reindex import rebuild_index
from schemas.tables import audit_log, blocks, lake_files
from schemas.views import INDEX
from tests.commands import Ended, all_that_is, run, strays
from tests.pipelines.test_reindex import indexed, lose, rebuilt
from tests.retention import ASSURANCE_KEPT, DAY, OTHER, WINDOWS, call, copied, feed, held, hold, night, purged

NEXT = timedelta(1)
POINTS = ("view-written", "view-written:2", "index-begun", "index-ready", "index-committed")


@pytest.fixture(scope="module")
def first(workspace: Callable[..., Any]) -> Any:
    """Two dates in several shards each, some records once more, and a date of another file; only copied."""
    site = workspace("generic", retention=WINDOWS, waves={"bucket_records": 4})
    numbers = range(16)
    usual = [call(n, DAY + NEXT * (n % 2), OTHER if n == 4 else "+13035550101") for n in numbers]
    night(site, feed(*usual), DAY + 2 * NEXT)
    night(site, feed(*usual[:6]), DAY + 2 * NEXT, "again.csv")
    night(site, feed(call(16, DAY + 2 * NEXT)), DAY + 3 * NEXT, "other.csv")
    return site


@pytest.fixture
def site(first: Any, tmp_path: Path) -> Any:
    return copied(first, tmp_path / "copy")


def path_of(site: Any, file: Any) -> Path:
    return DataFiles(site.opened, "test").path(file)


def of_day(site: Any, day: date = DAY) -> list[Any]:
    return [file for file in site.data_files(INDEX) if file.part == day.isoformat()]


# -- refused by name -------------------------------------------------------------------------------------------------


def _lost(site: Any, file: Any) -> None:
    path_of(site, file).unlink()


def _cut(site: Any, file: Any) -> None:
    path = path_of(site, file)
    path.write_bytes(path.read_bytes()[:-100])


def _changed(site: Any, file: Any) -> None:
    path = path_of(site, file)
    whole = bytearray(path.read_bytes())
    for at in range(40, len(whole) - 40, 50):
        whole[at] ^= 1
    path.write_bytes(whole)


def _of_another_shard(site: Any, file: Any) -> None:
    other = next(f for f in of_day(site) if f.shard != file.shard)
    path_of(site, file).write_bytes(path_of(site, other).read_bytes())


def _of_another_date(site: Any, file: Any) -> None:
    path_of(site, file).write_bytes(path_of(site, of_day(site, DAY + NEXT)[0]).read_bytes())


def _forged(site: Any, file: Any) -> None:
    """The same rows in the clear, as whoever may write the lake and has no key could put them there."""
    path, rows = path_of(site, file), DataFiles(site.opened, "test").rows(file)
    pq.write_table(rows, path)


FAULTS = (_lost, _cut, _changed, _of_another_shard, _of_another_date, _forged)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_is_not_the_file_that_was_committed_is_refused_by_name_and_made_again(site: Any, fault: Any) -> None:
    was = indexed(site)
    file = next(file for file in of_day(site) if file.shard_bits)
    fault(site, file)
    named = f"row index file {file.file_id} of {file.part} (is not in the lake|was altered or cut short)"
    with pytest.raises(Problem, match=named):
        list(_asked(site, file))
    with pytest.raises(Problem, match=named + ".*'callward rebuild --index' makes it again"):
        rebuild(site.settings, write=False)
    assert [again.file_id for again in rebuilt(site).files] == [file.file_id]
    assert indexed(site) == was and site.differing() == 0 and not rebuilt(site).files


def _asked(site: Any, file: Any) -> Any:
    """What deduplicates asks for the ids of its records, and no other column."""
    records = pa.array([bytes(16)], pa.binary(16))
    return row_index.locate(DataFiles(site.opened, "test"), [file], records, pa.array([DAY], pa.date32()))


def test_an_older_file_in_the_place_of_the_newer_one_is_refused_and_made_again(site: Any) -> None:
    before = {file.file_id: path_of(site, file).read_bytes() for file in of_day(site)}
    purged(site, ASSURANCE_KEPT + NEXT)
    was, file = indexed(site), next(file for file in of_day(site) if file.file_id not in before)
    older = next(whole for file_id, whole in before.items() if file_id not in {f.file_id for f in of_day(site)})
    path_of(site, file).write_bytes(older)
    with pytest.raises(Problem, match=f"row index file {file.file_id} of {file.part} was altered"):
        list(_asked(site, file))
    rebuilt(site)
    assert indexed(site) == was


# -- as before, afterwards -------------------------------------------------------------------------------------------


def test_nights_holds_and_purges_find_rows_in_what_was_made_again(site: Any) -> None:
    lose(site, site.data_files(INDEX))
    rebuilt(site)
    duplicates = site.entries()["duplicate", ""][0]
    night(site, feed(*(call(n, DAY + NEXT * (n % 2)) for n in range(16) if n != 4)), DAY + 2 * NEXT, "third.csv")
    assert site.entries()["duplicate", ""][0] == duplicates + 15 and site.view("billing").num_rows == 17
    hold(site, numbers=(OTHER,))
    done = purged(site, ASSURANCE_KEPT + NEXT)
    assert done["status"] == "partial" and len(held(site, "held-assurance")) == 1


# -- what cannot be made again ---------------------------------------------------------------------------------------


def test_what_the_archive_does_not_have_is_listed_and_left_as_it_is(site: Any) -> None:
    """Repetitions of what stays lost are left as well; another date is made again."""
    [gone] = [f for f in site.data_files("archive") if f.file_id in _archived(site, file_no=1)]
    with database.writing(site.settings) as connection:
        of_it = update(lake_files).where(lake_files.c.file_id == gone.file_id)
        connection.execute(of_it.values(superseded_at=database.now()))
    was, files = indexed(site), site.data_files(INDEX)
    lose(site, files)
    ended = _run(site)
    assert ended.code == 3 and {file["file_id"] for file in ended.document["files"]} == {f.file_id for f in files}
    left = {file["file_id"]: file["why"] for file in ended.document["files"] if not file["rebuilt"]}
    assert left.keys() == {file.file_id for file in files if file.part != (DAY + 2 * NEXT).isoformat()}
    assert set(left.values()) == {
        "1 input file (1): the archive does not have them",
        "another file of its shard cannot be made again",
    }
    shown = run("rebuild", "--index", "--dry-run", "--config", str(site.folder)).check_clean()
    lost = f"{len(left)} data files of the row index cannot be made again; put them back from a backup"
    assert shown.code == 3 and lost in shown.err
    mine = ("default", (DAY + 2 * NEXT).isoformat())
    again = [DataFiles(site.opened, "test").rows(file).to_pylist() for file in of_day(site, DAY + 2 * NEXT)]
    assert sorted(repr(row) for rows in again for row in rows) == was[mine]


def _archived(site: Any, file_no: int) -> set[str]:
    return {block.archive_file for block in site._rows(blocks) if block.file_no == file_no}


@pytest.mark.parametrize("left_out", [0, 1])
def test_records_that_are_read_otherwise_by_now_are_not_taken_for_those_that_were(
    site: Any, monkeypatch: pytest.MonkeyPatch, left_out: int
) -> None:
    """As by a declaration that sets a record aside today, or gives it another id."""
    real = reindexing.identify

    def otherwise(*arguments: Any) -> pa.Table:
        records = real(*arguments)
        return records.slice(1) if left_out else set_column(records, "record_id", records["content"])

    monkeypatch.setattr(reindexing, "identify", otherwise)
    lose(site, of_day(site))
    done = rebuild_index(site.settings)
    assert done.exit_code == 3 and 0 < done.left <= len(done.files)
    assert "1 input file (1): their records are read otherwise now" in {file.why for file in done.files}
    assert {file.file_id for file in done.files if not file.rebuilt} <= {
        file.file_id for file in site.data_files(INDEX)
    }


def test_what_files_that_are_there_say_of_a_record_stands(site: Any) -> None:
    """Also where the archive does not have the input file any more that their record was of."""
    gone, again = (_archived(site, file_no) for file_no in (1, 2))
    assert not gone & again
    with database.writing(site.settings) as connection:
        of_it = update(lake_files).where(lake_files.c.file_id.in_(gone))
        connection.execute(of_it.values(superseded_at=database.now()))
    was = indexed(site)
    of_second = [file for file in of_day(site) if 2 in DataFiles(site.opened, "test").inputs(file)]
    lose(site, of_second)
    rebuilt(site)
    assert indexed(site) == was


def test_beside_a_purge_that_is_under_way_nothing_is_made_again(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(purge_disposal, "begin_removal", killed)
        purged(site, ASSURANCE_KEPT + NEXT)
    with pytest.raises(Problem, match="a purge is under way: 'callward purge' brings it to its end"):
        rebuild_index(site.settings)
    purged(site, ASSURANCE_KEPT + NEXT)
    assert rebuild_index(site.settings).files == []


# -- killed at any moment --------------------------------------------------------------------------------------------


def _run(site: Any, *options: str, crash_at: str = "") -> Ended:
    arguments = ("rebuild", "--index", "--json", "--config", str(site.folder), *options)
    return run(*arguments, environment={"CALLWARD_CRASH_AT": crash_at}).check_clean()


def test_every_named_point_is_killed_at() -> None:
    text = Path(reindexing.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'\bpoint\("([a-z-]+)"\)', text)) <= set(POINTS)


def test_killed_at_every_named_point_and_run_again_the_index_is_as_it_was(site: Any) -> None:
    was, everything = indexed(site), all_that_is(site)
    lose(site, of_day(site))
    dry = _run(site, "--dry-run")
    assert dry.code == 0 and len(dry.document["files"]) == len(of_day(site)) > 1
    for where in POINTS:
        ended = _run(site, crash_at=where)
        assert ended.code == -signal.SIGKILL, f"{where} was not reached: {ended.err[-300:]}"
        lost = [path for path in (path_of(site, file) for file in of_day(site)) if not path.exists()]
        assert bool(lost) == (where != "index-committed")
    assert _run(site).document["files"] == []
    assert indexed(site) == was
    site.night()
    assert all_that_is(site) == everything and strays(site) == [] and site.differing() == 0
    assert [row.subject.split()[:2] for row in site._rows(audit_log) if row.event == "index-rebuilt"] == [
        ["default", DAY.isoformat()]
    ]


def test_options_that_do_not_go_together_are_refused(site: Any) -> None:
    assert _run(site, "--check").code == 2
    config = ("--config", str(site.folder))
    assert run("rebuild", "--tenant", "default", *config).code == 2
