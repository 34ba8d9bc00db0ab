"""Two workspaces over the same records are equal; every kind of difference between them is found, and tells nothing."""

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy import delete, update

from callward import database, runs
from callward.columns import set_column
from callward.feeds import generate
from callward.initiate import init
from callward.lake import account_sums, ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import Changes
from schemas.tables import (
    billing_usage_daily,
    lake_files,
    ledger_entries,
    sla_account_daily,
)
from schemas.views import BILLING_NUMBERS, INDEX, PARTS, STORED, UNCHARGED, VIEW_PARTS
from tests.comparison import Comparison, verify
from tests.conftest import MORNING
from tests.retention import CALLED, CALLER, DAY, OTHER, call, feed, night
from tests.shared_keys import init_with_keys_of, like

SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"
NEXT = DAY + timedelta(1)
NUMBERS = [CALLER, OTHER, CALLED]

# A tool of the tests, which changes seldom.
pytestmark = pytest.mark.endurance


def _lines() -> list[str]:
    """Calls of two days, two versions of one that are held, repetitions, and records that are set aside."""
    calls = [call(n, account="ac-0007" if n % 3 else "", caller=OTHER if n % 4 else CALLER) for n in range(30)]
    later = [call(40 + n, NEXT, answered=n % 2 == 0) for n in range(6)]
    return [*calls, *later, call(5, talk=90), calls[6], later[1], SPOILT.format(90), SPOILT.format(91)]


@pytest.fixture(scope="module")
def pair(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Any, Any]]:
    """Two workspaces with the same keys after the same records: in one file, and in several of another order."""
    made = [_site(workspace) for _ in range(2)]
    lines = _lines()
    night(made[0], feed(*lines), date(2026, 3, 9))
    for number, part in enumerate((lines[20:][::-1], lines[:20][::-1])):
        night(made[1], feed(*part), date(2026, 3, 9), f"part-{number}.csv")
    for site in made:
        database.engine(site.settings).dispose()

    def copies() -> tuple[Any, Any]:
        folder = tmp_path_factory.mktemp("pair")
        for number, site in enumerate(made):
            shutil.copytree(site.folder, folder / str(number))
        return type(made[0])(folder / "0"), type(made[0])(folder / "1")

    return copies


def _site(workspace: Callable[..., Any]) -> Any:
    return workspace("generic", thresholds={"file_errors_pct": 100.0})


def _verified(one: Any, other: Any) -> Comparison:
    """Compare two workspaces, and check that what is told of a difference holds no number."""
    comparison = verify(one.settings, other.settings)
    assert not [number for number in NUMBERS if number[-10:] in comparison.report]
    assert comparison.equal == (not comparison.first)
    return comparison


def test_the_same_records_in_other_files_and_another_order_are_equal(pair: Callable[[], tuple[Any, Any]]) -> None:
    found = _verified(*pair())
    assert found.equal
    for where in (
        *(set(VIEW_PARTS) - {UNCHARGED}),
        INDEX,
        "suspense",
        "ledger",
        "billing_usage_daily",
    ):
        assert found.rows[where]["batch"] == found.rows[where]["stream"] > 0


def test_pieces_of_calls_and_quality_that_came_apart_are_equal(workspace: Callable[..., Any], tmp_path: Path) -> None:
    """In one night, and the closing records in a later one: what is remembered of closed calls is the same, too."""
    sources = ("opensips", "cucm")
    feeds = generate(tmp_path, seed=3, day=DAY, calls=300, dirt=0.02, sources=sources)
    one, other = (workspace(*sources, thresholds={"file_errors_pct": 100.0}) for _ in range(2))
    files = sorted(feeds.files)
    one.deliver(files)
    one.night(MORNING)
    for part in (files[1::2], files[::2]):
        other.deliver(part)
        other.night(MORNING)
    done = verify(one.settings, other.settings)
    assert list(map(str, done.first)) == []
    assert done.equal and done.rows["pending"]["batch"] > 0


# -- planted differences -----------------------------------------------------------------------------------------------


def _change_rows(site: Any, view: str, change: Callable[[pa.Table], pa.Table]) -> Any:
    """Write a data file of a view or the index anew after a change; returns the id of its first row before."""
    with runs.running(site.settings, "plant", ["plant"]) as run_id:
        files = DataFiles(site.opened, run_id)
        old = site.data_files(view)[0]
        rows = files.rows(old)
        made = files.write_view(view, old.tenant, old.part, change(rows), {}, received_on=old.received_on)
        outcome = Changes(files=[made], superseded={old.file_id: (old.tenant, old.part)})
        with database.writing(site.settings) as connection:
            ledger.commit(connection, run_id, 0, outcome)
        runs.finish(site.settings, run_id, "done")
    return rows[0][0].as_py(), old.part


def _other(value: Any, kind: pa.DataType) -> Any:
    """Another value of a column's type."""
    if pa.types.is_fixed_size_binary(kind):
        return bytes(16)
    if pa.types.is_string(kind):
        return f"{value or ''}x"
    if pa.types.is_timestamp(kind):
        return 0
    if pa.types.is_boolean(kind):
        return not value
    return 7 if value != 7 else 8


def _with_first(table: pa.Table, name: str) -> pa.Table:
    """The table with another value in the first row of a column."""
    kind = table.schema.field(name).type
    changed = pa.array([_other(table[name][0].as_py(), kind)], kind)
    return set_column(table, name, pa.concat_arrays([changed, table[name].combine_chunks()[1:]]))


_NOT_COMPARED = ("state", "file_no", "block", "line")  # of the index: where a record came from may differ


@pytest.mark.parametrize("view", [view for view in STORED if view != UNCHARGED])  # which has billing's columns
def test_every_column_of_a_row_is_compared(pair: Callable[[], tuple[Any, Any]], view: str) -> None:
    one, other = pair()
    names = [name for name in STORED[view].names[1:] if name not in _NOT_COMPARED]

    def change(rows: pa.Table) -> pa.Table:
        for name in names:
            rows = _with_first(rows, name)
        return rows

    row_id, part = _change_rows(other, view, change)
    found = _verified(one, other)
    assert found.differing == 1
    (told,) = found.first
    assert (told.where, told.part, told.id) == (view, part, row_id.hex())
    assert list(told.columns) == names


@pytest.mark.parametrize("view", ["billing", *PARTS["assurance"]])
@pytest.mark.parametrize("kind", ["missing", "twice"])
def test_rows_that_one_side_lacks_are_found(pair: Callable[[], tuple[Any, Any]], view: str, kind: str) -> None:
    one, other = pair()

    def change(rows: pa.Table) -> pa.Table:
        return rows[1:] if kind == "missing" else pa.concat_tables([rows, rows[:1]])

    row_id, part = _change_rows(other, view, change)
    found = _verified(one, other)
    assert not found.equal
    told = found.first[0]
    assert (told.where, told.part) == (view, part)
    assert (told.id, told.only_in) == (row_id.hex(), "batch" if kind == "missing" else "stream")


def test_rows_without_their_numbers_are_found(pair: Callable[[], tuple[Any, Any]]) -> None:
    one, other = pair()
    rows = one.view("billing")
    told = [name for name in BILLING_NUMBERS if rows[name].null_count < rows.num_rows]
    _change_rows(other, "billing", lambda rows: rows.drop_columns(BILLING_NUMBERS))
    assert list(_verified(one, other).first[0].columns) == told and "called_number" in told


def test_a_partition_that_one_side_lacks_is_found(pair: Callable[[], tuple[Any, Any]]) -> None:
    one, other = pair()
    with database.writing(other.settings) as connection:
        gone = (lake_files.c.view == "answered") & (lake_files.c.part == NEXT.isoformat())
        connection.execute(update(lake_files).where(gone).values(superseded_at=database.now()))
    found = _verified(one, other)
    assert {(d.where, d.part, d.only_in) for d in found.first} == {("answered", NEXT.isoformat(), "batch")}


@pytest.mark.parametrize("table", [billing_usage_daily, sla_account_daily], ids=str)
@pytest.mark.parametrize("kind", ["sum", "row"])
def test_a_derived_sum_or_row_that_differs_is_found(pair: Callable[[], tuple[Any, Any]], table: Any, kind: str) -> None:
    one, other = pair()
    name = "talk_ms" if "talk_ms" in table.c else "talk_s"
    if table is sla_account_daily:
        _change_sums(other, name, kind)
    else:
        with database.writing(other.settings) as connection:
            more = update(table).values({name: table.c[name] + 1})
            connection.execute(more if kind == "sum" else delete(table))
    found = _verified(one, other)
    assert {d.where for d in found.first} == {table.name}
    for told in found.first:
        assert told.part == "2026-03"
        assert (told.only_in, told.columns) == (("", (name,)) if kind == "sum" else ("batch", ()))


def _change_sums(site: Any, name: str, kind: str) -> None:
    keyring = site.opened.keyring
    sums = account_sums.read(site.settings, keyring)
    changed = set_column(sums, name, pc.add(sums[name], 1)) if kind == "sum" else sums[:0]
    with database.writing(site.settings) as connection:
        account_sums.replace_all(connection, account_sums.whole(keyring, changed), [])


@pytest.mark.parametrize("column", ["rows", "talk_ms"])
def test_a_ledger_that_differs_is_found(pair: Callable[[], tuple[Any, Any]], column: str) -> None:
    one, other = pair()
    with database.writing(other.settings) as connection:
        e = ledger_entries.c
        connection.execute(update(ledger_entries).where(e.bucket == "duplicate").values({column: e[column] + 1}))
    (told,) = _verified(one, other).first
    assert (told.where, told.id, told.columns) == ("ledger", "generic duplicate", (column,))


@pytest.mark.parametrize("kind", ["missing", "code", "open"])
def test_suspense_that_differs_is_found(pair: Callable[[], tuple[Any, Any]], kind: str) -> None:
    one, other = pair()
    _change_log(other, "suspense", kind)
    found = _verified(one, other)
    assert {d.where for d in found.first} == {"suspense"}
    assert found.first[0].columns == (() if kind == "missing" else (kind,))


def _change_log(site: Any, kind: str, what: str) -> None:
    with runs.running(site.settings, "plant", ["plant"]) as run_id:
        files = DataFiles(site.opened, run_id)
        logs = site.data_files(kind)
        log = pa.concat_tables([files.read_log(file) for file in logs])
        if what == "missing":
            log = log[1:]
        elif what == "open":
            log = set_column(log, "open", pc.invert(log["open"]))
        else:
            log = _with_first(log, what)
        superseded = {file.file_id: (file.tenant, file.part) for file in logs}
        with database.writing(site.settings) as connection:
            made = files.write_log(kind, "default", log)
            ledger.commit(connection, run_id, 0, Changes(files=[made], superseded=superseded))
        runs.finish(site.settings, run_id, "done")


@pytest.mark.parametrize("what", ["missing", "state", "start_time", "talk_ms"])
def test_pending_that_differs_is_found(workspace: Callable[..., Any], tmp_path: Path, what: str) -> None:
    feeds = generate(tmp_path, seed=4, day=DAY, calls=40, sources=["opensips"])
    one = workspace("opensips")
    one.deliver(feeds.files)
    one.night(MORNING)
    database.engine(one.settings).dispose()
    shutil.copytree(one.folder, tmp_path / "other")
    other = type(one)(tmp_path / "other")
    _change_log(other, "pending", what)
    found = _verified(one, other)
    assert {d.where for d in found.first} == {"pending"}
    assert found.first[0].columns == (() if what == "missing" else (what,))


# -- what cannot be compared -------------------------------------------------------------------------------------------


def test_workspaces_with_other_keys_are_not_compared(pair: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    one, _ = pair()
    other = type(one)(tmp_path / "w")
    init(other.folder, like(other.folder, one.settings))
    night(other, feed(*_lines()), date(2026, 3, 9))
    with pytest.raises(ValueError, match="different keys"):
        verify(one.settings, other.settings)


def test_a_workspace_made_with_the_keys_of_another_is_equal_after_the_same_night(
    tmp_path: Path, workspace: Callable[..., Any]
) -> None:
    """Both are new: the keys of the months to come are made before they are copied."""
    template = _site(workspace)
    one, other = (type(template)(tmp_path / name) for name in ("one", "other"))
    init(one.folder, like(one.folder, template.settings))
    init_with_keys_of(one.settings, other.folder, like(other.folder, one.settings), ["2026-03"])
    for site in (one, other):
        night(site, feed(*_lines()), date(2026, 3, 9))
    found = _verified(one, other)
    assert found.equal, found.report
    assert (
        sum(found.rows[part]["batch"] for part in PARTS["assurance"]) == 35
    )  # two versions of the sixth call are held
