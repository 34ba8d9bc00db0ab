"""Data files written anew: the same rows without what is due, held rows copied with why, the ledger told once."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward import database
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.retention.holds import Hold
from callward.retention.policy.register import in_force
from callward.retention.purge.due_files import DELETE, KEEP, REWRITE, Governance, PlanItem
from callward.retention.purge.due_rows import Judge, Judged, looked
from callward.runs import new_id
from callward.workspace import Workspace, WorkspaceRef
from schemas.cdr import plain
from schemas.suspense import PENDING
from schemas.views import BILLING_NUMBERS
from tests.retention import DAY, NUMBERS_KEPT, OTHER, WINDOWS, call, feed, files, night
from transforms.combine import CLOSED
from transforms.expire import Outcome, _note, _outcome, expire, prepared, without_numbers

AS_OF = NUMBERS_KEPT + timedelta(1)


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    """Twelve calls, every third by another caller, every fourth of an account."""
    made = workspace("generic", retention=WINDOWS)
    rows = [call(n, caller=OTHER if n % 3 == 0 else "+13035550101", account="ac-0007" if n % 4 == 0 else "")
            for n in range(12)]  # fmt: skip
    night(made, feed(*rows))
    return made


def judge(site: Any, *orders: Hold, as_of: date = AS_OF) -> Judge:
    workspace = Workspace(WorkspaceRef(str(site.settings.path), "retention-run", "test"), site.settings)
    with database.reading(site.settings) as connection:
        law = Governance(in_force(site.settings, connection))
    return Judge(DataFiles(workspace, new_id()), law, orders, as_of, date.today())


def order(hold_id: str = "a" * 16, **selectors: Any) -> Hold:
    return Hold(hold_id, "default", "litigation", "a court", "a case", **selectors)


def test_a_file_without_its_numbers_is_otherwise_the_same(site: Any) -> None:
    by, (old,) = judge(site).files, files(site, "billing")
    new = without_numbers(old, by)
    rows = by.rows(old)
    assert by.rows(new).equals(rows.drop_columns(BILLING_NUMBERS))
    assert (new.received_on, new.first_start, new.rows, new.numbers) == (old.received_on, old.first_start, 12, False)
    assert set(new.key_ids.split()) < set(old.key_ids.split())


@pytest.mark.parametrize(
    ("selectors", "wanted"),
    [
        ({"numbers": (OTHER,)}, {0, 3, 6, 9}),
        ({"accounts": ("acct-0007",)}, {0, 4, 8}),
        ({"numbers": (OTHER,), "accounts": ("acct-0007",)}, {0, 3, 4, 6, 8, 9}),
        ({}, set(range(12))),
        ({"trunks": ("northwind-1",)}, set()),
        ({"numbers": ("+13035550199",)}, set()),
        ({"first": DAY + timedelta(1)}, set()),
    ],
)
def test_the_rows_that_a_hold_keeps_are_copied_with_all_they_have(
    site: Any, selectors: dict[str, Any], wanted: set[int]
) -> None:
    by, (old,) = judge(site, order(**selectors)), files(site, "billing")
    item = looked(PlanItem(old, "call_detail", REWRITE, look=True), by)
    assert item is not None and (item.rows, item.held) == (12, len(wanted))
    made = expire(item, by, "purgepurgepurg")
    *copies, rest = made.files
    assert by.files.rows(rest).num_rows == 12 and not rest.numbers
    assert bool(copies) is bool(wanted)
    for copy in copies:
        rows = by.files.rows(copy)
        seconds = pc.second(rows["start"]).to_pylist()
        assert set(seconds) == wanted and len(seconds) == len(wanted)
        assert rows.equals(
            by.files.rows(old).filter(pc.is_in(pc.second(by.files.rows(old)["start"]), pa.array(list(wanted))))
        )
        kept_for = by.files.held_for(copy)
        assert kept_for is not None and set(kept_for["holds"].to_pylist()) == {"a" * 16}
        assert sum(copy.inputs.values()) == len(wanted)
        assert not set(copy.key_ids.split()) & set(old.key_ids.split())


def test_numbers_of_single_accounts_become_null(site: Any) -> None:
    by, (old,) = judge(site), files(site, "billing")
    item = looked(PlanItem(old, "call_detail", REWRITE, look=True, accounts=("acct-0007",)), by)
    assert item is not None and item.rows == 3
    (new,) = expire(item, by, "purgepurgepurg").files
    rows, before = by.files.rows(new), by.files.rows(old)
    mine = pc.equal(before["account"], "acct-0007")
    assert all(rows.filter(mine)[name].null_count == 3 for name in BILLING_NUMBERS)
    assert rows.filter(pc.invert(mine)).equals(before.filter(pc.invert(mine)))
    assert rows.drop_columns(BILLING_NUMBERS).equals(before.drop_columns(BILLING_NUMBERS))
    assert looked(PlanItem(new, "call_detail", REWRITE, look=True, accounts=("acct-0007",)), by) is None


def test_what_may_be_named_of_a_hold_is_named(site: Any) -> None:
    (old,) = files(site, "billing")
    item = PlanItem(old, "call_detail", REWRITE, look=True)
    orders = order("a" * 16, numbers=(OTHER,)), order("b" * 16, accounts=("acct-0007",), confidential_until=date.max)
    found = looked(item, judge(site, *orders))
    assert found is not None and (found.held, dict(found.why)) == (6, {"a" * 16: 4, "": 2})
    (assurance,) = files(site, "assurance")
    found = looked(PlanItem(assurance, "assurance_metrics", DELETE, look=True), judge(site, orders[0]))
    assert found is not None and (found.held, dict(found.why)) == (4, {"a" * 16: 4})


masks = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=11)
)


@given(masks, st.data())
def test_each_held_row_names_the_holds_that_match_it(given_masks: list[list[bool]], data: st.DataObject) -> None:
    orders = [order(f"{n:016x}") for n in range(len(given_masks))]
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(given_masks[0]), max_size=len(given_masks[0]))))
    judged = Judged(rows, [(o, np.array(mask)) for o, mask in zip(orders, given_masks, strict=True)])
    if not rows.any():
        return
    told, asked = judged.names(rows)
    wanted = [
        " ".join(o.hold_id for o, mask in zip(orders, given_masks, strict=True) if mask[place])
        for place in np.flatnonzero(rows)
    ]
    assert told.to_pylist() == wanted
    assert set(asked.to_pylist()) == {" ".join(o.hold_id for o in orders)}
    assert judged.held.tolist() == [any(column) for column in zip(*given_masks, strict=True)]


# -- pending: a piece in several logs ----------------------------------------------------------------------------------


def piece(number: int, state: int | np.int8, day: date = DAY) -> dict[str, Any]:
    noon = datetime(day.year, day.month, day.day, 12)
    return {
        "source": "generic",
        "tenant": "default",
        "record_id": bytes([number]) * 16,
        "call_id": bytes([number]) * 16,
        "content": bytes([number]) * 16,
        "call_date": day,
        "start_time": noon,
        "piece": "open",
        "file_no": 1,
        "block": 0,
        "line": number,
        "carried_ms": 1000,
        "was": "pending",
        "was_ms": 1000,
        "state": state,
        "seen": noon + timedelta(1),
        "turn": int(state),
    }


def test_a_piece_that_was_closed_since_is_not_written_off(workspace: Callable[..., Any]) -> None:
    """A night that was killed leaves a piece in two logs, waiting and closed: the ledger counts it as merged."""
    site = workspace("generic", retention=WINDOWS)
    by = judge(site)
    logs = [[piece(1, 0), piece(2, 0), piece(3, 0, DAY + timedelta(90))], [piece(2, CLOSED)]]
    tables = [pa.Table.from_pylist(rows, schema=plain(PENDING)) for rows in logs]
    made = [by.files.write_log("pending", "default", table) for table in tables]
    with database.writing(site.settings) as connection:
        ledger.add_files(connection, "run", made, database.now())
    first, second = (looked(PlanItem(file, "call_detail", DELETE, look=True), by) for file in made)
    assert first is not None and (first.action, first.rows) == (REWRITE, 2)
    assert second is not None and (second.action, second.rows) == (DELETE, 1)
    one, two = (expire(item, by, "purgepurgepurg") for item in (first, second))
    moves = {(row["bucket"], row["code"]): row["rows"] for row in one.entries if row["bucket"] != "in"}
    assert moves == {("filtered", "EXPIRED"): 1, ("pending", ""): -1} and two.entries == []
    assert [by.files.read_log(file)["line"].to_pylist() for file in one.files] == [[3]] and two.files == []


def test_a_log_that_a_hold_keeps_stays_where_it_lies(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=WINDOWS)
    by = judge(site, order(first=DAY, last=DAY, numbers=(OTHER,)))
    rows = pa.Table.from_pylist([piece(1, 0), piece(2, 0, DAY - timedelta(1))], schema=plain(PENDING))
    made = by.files.write_log("pending", "default", rows)
    found = looked(PlanItem(made, "call_detail", DELETE, look=True), by)
    assert found is not None and (found.action, found.rows, found.held, dict(found.why)) == (REWRITE, 2, 1, {"": 1})
    kept = by.files.write_log("pending", "default", rows.slice(0, 1))
    found = looked(PlanItem(kept, "call_detail", DELETE, look=True), by)
    assert found is not None and (found.action, found.held) == (KEEP, 1)


# -- handed back through the database ----------------------------------------------------------------------------------


def test_what_a_batch_made_comes_back_as_it_was(site: Any) -> None:
    moment = datetime(2026, 3, 5, 1, 2, 3)
    file = DataFile(
        "id", "billing", "default", "2026-03-05", "p", 1, 2, "x", moment, moment, received_on=DAY, inputs={7: 1}
    )
    entry = {"file_no": 1, "bucket": "in", "code": "", "rows": 1, "talk_ms": 5}
    every = [
        Outcome("one", [file], [entry], [{"view": "late", "file_no": 1, "end": "purged", "rows": 1}]),
        Outcome("two"),
    ]
    run_id = new_id()
    assert prepared(site.settings, run_id) == {}
    _note(site.settings, run_id, 1, [Outcome("before")])
    _note(site.settings, run_id, 2, every)
    found = prepared(site.settings, run_id)
    assert found == {"one": every[0], "two": every[1]}
    assert found["one"].files[0].inputs == {7: 1}
    assert _outcome({"file_id": "x", "files": [], "entries": [], "ends": []}) == Outcome("x")
