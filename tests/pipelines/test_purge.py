"""The purge: what is past its window goes with its keys, what is held stays, and nothing else changes."""

import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from callward import database, runs
from callward.access.second_person import Consent
from callward.disposal import derived
from callward.disposal import purge as purge_disposal
from callward.errors import Problem, UsageProblem
from callward.evidence import certificates
from callward.keys import rotation
from callward.keys.register import KeyName, keyring
from callward.keys.seal import Sealer
from callward.lake import ledger
from callward.lake.data_files import DataFiles
from callward.retention import holds
from callward.retention.holds import sealed
from callward.retention.policy import register as policy_register
from callward.retention.policy.register import parse
from callward.retention.purge import safety_check
from callward.settings import Settings, Tenant
from pipelines import purge as purges
from pipelines.rebuild import rebuild
from pipelines.reports import policy as policy_report
from schemas.retention import certificates as certificates_table
from schemas.retention import disposal_items, disposals, frozen_derived, purge_forecasts, requests, row_ends
from schemas.retention_classes import CLASSES
from schemas.tables import audit_log, keys, lake_files, ledger_entries, sla_sums
from schemas.views import BILLING_NUMBERS, HELD, HOLDS_SUFFIX, ID_COLUMN, PARTS, UNCHARGED, VIEW_PARTS
from tests import test_legs as legs
from tests.retention import (
    ASSURANCE_KEPT,
    BILLING_KEPT,
    CALLED,
    CALLER,
    DAY,
    FEED,
    NUMBERS_KEPT,
    OTHER,
    WINDOWS,
    activate,
    call,
    copied,
    feed,
    files,
    held,
    hold,
    night,
    on_disk,
    paths,
    person,
    place,
    policy_text,
    purge,
    purged,
    purged_report,
    release,
    states,
)

NEXT = timedelta(days=1)
SPOILT = "id-{},+13035550101,+13035550102,not a time,,2026-03-05T12:00:00Z,0,\n"
ASSURANCE_FOLDERS = tuple(f"{part}/" for part in PARTS["assurance"])
# The last days on which anything of March stands open: 31 March, its clock a month later, then the window.
ALL_ASSURANCE, ALL_NUMBERS, ALL_BILLING = date(2026, 5, 12), date(2026, 6, 2), date(2026, 9, 2)


@pytest.fixture(scope="module")
def taken_in(workspace: Callable[..., Any]) -> Any:
    """A site after a night over FEED. It is only copied."""
    made = workspace("generic", retention=WINDOWS)
    night(made)
    return made


@pytest.fixture
def site(taken_in: Any, tmp_path: Path) -> Any:
    return copied(taken_in, tmp_path / "own")


def numbers(site: Any) -> list[Any]:
    return list(site.view("billing")["calling_number"].to_pylist())


def ends(site: Any) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for row in site._rows(row_ends):
        found[row.view, row.end] = found.get((row.view, row.end), 0) + row.rows
    return found


def of_class(done: dict[str, Any], name: str) -> dict[str, Any]:
    return next((row for row in done["classes"] if row["class"] == name), {})


def checks(site: Any, done: dict[str, Any]) -> list[str]:
    """Sentences of the certificate's checks that do not hold now."""
    return [c.sentence for c in certificates.verify(site.settings, done["certificate"]) if not c.ok]


def named(site: Any) -> set[str]:
    """Paths of all that the manifest says is in the lake."""
    live = [row for row in paths(site).values() if row.superseded_at is None]
    copies = {row.path + HOLDS_SUFFIX for row in live if row.view in {HELD + part for part in VIEW_PARTS}}
    return copies | {row.path for row in live}


# -- when --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [ASSURANCE_KEPT, NUMBERS_KEPT, BILLING_KEPT])
def test_nothing_goes_on_the_last_day_and_everything_on_the_next(site: Any, last: date) -> None:
    before = purged(site, last)
    left = purge(site.settings, last, dry_run=True)
    assert left["classes"] == [] and before["overdue"] == 0
    after = purge(site.settings, last + NEXT, dry_run=True)
    assert sum(row["due"] for row in after["classes"]) > 0


def test_a_day_to_come_is_refused(site: Any) -> None:
    with pytest.raises(UsageProblem, match="future"):
        purge(site.settings, date.today() + NEXT)


def test_a_clock_behind_the_audit_log_is_refused(site: Any) -> None:
    with pytest.raises(Problem, match="the clock says 2026-02-01"):
        purge(site.settings, date(2026, 2, 1), today=date(2026, 2, 1))


def test_what_was_purged_stays_so_when_a_purge_is_of_an_earlier_day(site: Any) -> None:
    purged(site, NUMBERS_KEPT + NEXT)
    before = on_disk(site)
    assert purged(site, DAY)["classes"] == []
    assert on_disk(site) == before


# -- dry run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_of", [ALL_ASSURANCE, ALL_NUMBERS, ALL_BILLING])
@pytest.mark.parametrize("selectors", [{}, {"numbers": (OTHER,)}])
def test_dry_run_and_run_agree_exactly(site: Any, as_of: date, selectors: dict[str, Any]) -> None:
    if selectors:
        hold(site, **selectors)
    before, disk = site.derived(), on_disk(site)
    dry = purge(site.settings, as_of, dry_run=True)
    assert (site.derived(), on_disk(site), site._rows(disposals)) == (before, disk, [])
    done = purged(site, as_of)
    assert done["classes"] == dry["classes"] and done["plan_digest"] == dry["plan_digest"]
    assert of_class(done, "assurance_metrics")["due"] == 6
    assert (done["failed_checks"], done["overdue"]) == ([], 0)


def test_a_policy_is_tried_before_it_is_in_force(site: Any) -> None:
    longer = parse(policy_text({**WINDOWS, "assurance_metrics": "1 year"}), "default")
    tried = purge(site.settings, ALL_NUMBERS, dry_run=True, candidates={"default": longer})
    effect = {row["class"]: row for row in tried["effect"]}
    # Rows that came in before are under the version that they came in under, here the first one itself.
    assert effect["assurance_metrics"] == {
        "tenant": "default", "class": "assurance_metrics", "goes": 0, "newly_goes": 0, "stays": 6,
    }  # fmt: skip
    with pytest.raises(UsageProblem, match="--dry-run"):
        purge(site.settings, ALL_NUMBERS, candidates={"default": longer})


# -- what goes ---------------------------------------------------------------------------------------------------------


def test_a_row_that_nobody_is_charged_for_goes_as_those_of_the_bill(
    workspace: Callable[..., Any], tmp_path: Path
) -> None:
    made = workspace("freeswitch_json", retention=WINDOWS)
    legs.take_in(made, [legs.fs("a", ring=1, talk=80), legs.fs("b", "a", at=legs.NOON + 2, talk=0)])
    assert made.view(UNCHARGED)["calling_number"].to_pylist() == [CALLER] and not numbers(made)
    site, kept = copied(made, tmp_path / "gone"), copied(made, tmp_path / "kept")
    assert purged(site, ALL_NUMBERS)["failed_checks"] == []
    assert site.view(UNCHARGED)["calling_number"].to_pylist() == [None]
    assert states(site)["billing-numbers/numbers"] == "destroyed"
    assert purged(site, ALL_BILLING)["failed_checks"] == []
    assert site.view(UNCHARGED).num_rows == 0 and states(site)["billing/meta"] == "destroyed"
    hold(kept, numbers=(CALLER,))
    purged(kept, ALL_BILLING)
    assert [row["calling_number"] for row in held(kept, HELD + UNCHARGED)] == [CALLER]


def test_of_a_view_that_goes_whole_no_row_is_read(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, read = [file.path for file in files(site, "assurance")], DataFiles.rows

    def rows_of_the_index(self: DataFiles, file: Any, *arguments: Any) -> Any:
        return read(self, file, *arguments) if file.view == "index" else pytest.fail("a row was read")

    monkeypatch.setattr(DataFiles, "rows", rows_of_the_index)
    for name in ("columns", "read_log"):
        monkeypatch.setattr(DataFiles, name, lambda *_, **__: pytest.fail("a row was read"))
    done = purged(site, ASSURANCE_KEPT + NEXT)
    monkeypatch.undo()
    assert done["status"] == "done" and of_class(done, "assurance_metrics")["deleted"] == 6
    assert not set(gone) & on_disk(site)
    assert site.view("assurance").num_rows == 0 and site.view("billing").num_rows == 5
    assert ends(site) == {("failed", "purged"): 1, ("answered", "purged"): 5}
    assert checks(site, done) == []


def test_numbers_go_first_and_the_row_still_adds_up(site: Any) -> None:
    before, usage = site.view("billing"), site.derived()["billing_usage_daily"]
    assert sorted(numbers(site)) == [CALLER] * 4 + [OTHER]
    done = purged(site, NUMBERS_KEPT + NEXT)
    after = site.view("billing")
    assert all(after[name].null_count == 5 for name in BILLING_NUMBERS)
    kept = [name for name in before.column_names if name not in BILLING_NUMBERS]
    assert after.select(kept).equals(before.select(kept))
    assert site.derived()["billing_usage_daily"] == usage
    (file,) = files(site, "billing")
    assert not file.numbers and file.rows == 5
    assert ends(site)["billing", "numbers"] == 5
    assert checks(site, done) == []


def test_keys_die_when_the_last_date_of_their_month_is_past(site: Any) -> None:
    purged(site, NUMBERS_KEPT + NEXT)
    assert set(states(site).values()) == {"active"}
    purged(site, ALL_NUMBERS)
    dead = {name for name, state in states(site).items() if state == "destroyed"}
    numbers = {"billing-numbers/numbers", "billing-numbers/token"}
    numbers |= {"index/numbers", "index/token"}
    assert dead == numbers | {"assurance/meta", "sla/sums"}
    purged(site, ALL_BILLING)
    dead = {name for name, state in states(site).items() if state == "destroyed"}
    index = {"index/meta", *(f"index/{name.replace('_', '-')}" for name in ID_COLUMN.values())}
    assert dead == numbers | {"assurance/meta", "sla/sums", "billing/meta"} | index
    with pytest.raises(Problem, match="was destroyed"):
        keyring(site.settings, "test", "test").key(KeyName("billing", "default", "2026-03", "meta"))
    keyring(site.settings, "test", "test").key(KeyName("ids", "default", "all", "record"))


def test_an_earlier_copy_of_a_file_opens_with_nothing_after_the_purge(site: Any) -> None:
    before = files(site, "assurance")
    blobs = [DataFiles(site.opened, "test").path(file).read_bytes() for file in before]
    purged(site, ALL_ASSURANCE)
    for file, blob in zip(before, blobs, strict=True):
        path = site.settings.lake_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    from callward.workspace import Workspace, WorkspaceRef

    fresh = DataFiles(
        Workspace(WorkspaceRef(str(site.settings.path), "billing-run", "a look back"), site.settings), "test"
    )
    assert {file.view for file in before} == {"failed", "answered"}
    for file in before:
        with pytest.raises(Problem, match="was destroyed"):
            fresh.rows(file)
        assert all(rotation.dead(site.settings, key_id) for key_id in file.key_ids.split())


def test_a_purge_leaves_what_is_not_due_alone(site: Any) -> None:
    night(site, feed(*(call(n, DAY + timedelta(40)) for n in range(20, 25))), DAY + timedelta(41), "late.csv")
    later = site.view("billing").filter(site.view("billing")["start"].cast("date32").to_numpy() > DAY)
    assert later.num_rows == 5
    purged(site, ALL_BILLING - timedelta(3))
    rows = site.view("billing")
    assert rows.num_rows == 5 and set(rows["called_number"].to_pylist()) == {None}
    assert set(rows["billing_id"].to_pylist()) == set(later["billing_id"].to_pylist())


def test_counts_foot_to_the_ledger_at_every_step(site: Any) -> None:
    for as_of in (ASSURANCE_KEPT + NEXT, ALL_NUMBERS, ALL_BILLING):
        assert checks(site, purged(site, as_of)) == []
        assert not site.unbalanced() and site.differing() == 0
    found = ends(site)
    assert found["failed", "purged"] + found["answered", "purged"] == site.entries()["accepted", ""][0] == 6
    assert found["billing", "purged"] == found["billing", "numbers"] == 5


# -- derived rows ------------------------------------------------------------------------------------------------------


def test_hourly_rows_by_trunk_stay_frozen_and_the_others_go(site: Any) -> None:
    hourly = site.derived()["assurance_trunk_hourly"]
    purged(site, ALL_ASSURANCE)
    after = site.derived()
    assert hourly and after["assurance_trunk_hourly"] == hourly and after["sla_account_daily"] == {}
    frozen = {row.table_name: row for row in site._rows(frozen_derived) if row.sha256}
    assert frozen["assurance_trunk_hourly"].rows == len(hourly)
    with database.reading(site.settings) as connection:
        table = derived.TABLES["assurance_trunk_hourly"]
        rows = derived.derived_of(connection, table, "default", DAY, DAY)[DAY]
    assert derived.rows_digest(rows) == frozen["assurance_trunk_hourly"].sha256


def test_rows_by_five_minutes_go_after_14_days_and_do_not_come_back(site: Any) -> None:
    before = site.derived()
    assert before["assurance_failed_5min"]
    purged(site, DAY + timedelta(14))
    assert site.derived() == before
    done = purged(site, DAY + timedelta(15))
    assert done["status"] == "done" and site.differing() == 0
    after = site.derived()
    assert not after["assurance_failed_5min"]
    assert {name for name in before if after[name] != before[name]} == {"assurance_failed_5min"}
    rebuild(site.settings, write=True)
    assert site.derived() == after


def test_with_the_action_purge_the_hourly_rows_go_too(site: Any) -> None:
    activate(site, policy_text({**WINDOWS, "billing_transaction": "7 years"}, at_expiry="purge"))
    done = purged(site, ALL_ASSURANCE)
    assert done["status"] == "done", done
    assert all(not rows for name, rows in site.derived().items() if name.startswith(("assurance", "sla")))


def test_sums_by_account_of_a_held_day_stay_with_their_key_and_go_with_the_hold(site: Any) -> None:
    sums = site.account_sums()
    placed = hold(site, accounts=("acct-0007",))
    purged(site, ALL_ASSURANCE)
    assert sums and site.account_sums() == sums and site.differing() == 0
    assert states(site)["sla/sums"] == "active"
    frozen = {row.table_name: row.sha256 for row in site._rows(frozen_derived)}
    assert frozen["sla_sums"]
    with database.writing(site.settings) as connection:
        connection.execute(update(sla_sums).values(sealed=b"another"))
    with pytest.raises(Problem):
        site.differing()
    with database.writing(site.settings) as connection:
        connection.execute(delete(sla_sums))
    assert site.differing() == 1
    release(site, placed)
    purged(site, ALL_ASSURANCE + NEXT)
    assert site.account_sums() == {} and states(site)["sla/sums"] == "destroyed"
    assert site.differing() == 0


def test_usage_goes_when_no_call_date_can_add_to_it(site: Any) -> None:
    usage = site.derived()["billing_usage_daily"]
    purged(site, BILLING_KEPT + NEXT)
    assert site.view("billing").num_rows == 0
    assert site.derived()["billing_usage_daily"] == usage
    assert {row.sha256 for row in site._rows(frozen_derived) if row.table_name == "billing_usage_daily"} == {""}
    purged(site, BILLING_KEPT + 2 * NEXT)
    assert site.derived()["billing_usage_daily"] == {}


# -- sealed logs, archive, database rows, batches in flight ------------------------------------------------------------


def later(days: int) -> date:
    return date.today() - timedelta(days=days)


def test_suspended_records_expire_by_the_day_they_were_seen(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention={**WINDOWS, "suspense": "20 days"}, thresholds={"file_errors_pct": 100.0})
    night(site, feed(call(1), SPOILT.format(2)), DAY + NEXT)
    night(site, feed(call(3), SPOILT.format(4)), DAY + 11 * NEXT, "b.csv")
    assert site.entries()["suspended", "TIME"][0] == 2
    done = purged(site, DAY + 22 * NEXT)
    assert of_class(done, "suspense") | {"keys_destroyed": 0} == {
        "class": "suspense", "due": 1, "held": 0, "deleted": 1, "files": 1, "keys_destroyed": 0,
    }  # fmt: skip
    assert site.log("suspense").num_rows == 1
    assert site.entries()["suspended", "TIME"][0] == 1 and site.entries()["filtered", "EXPIRED"][0] == 1
    assert not site.unbalanced()
    purged(site, DAY + 32 * NEXT)
    assert files(site, "suspense") == [] and ("suspended", "TIME") not in site.entries()
    assert not site.unbalanced()


def test_a_hold_keeps_all_suspense_and_archive_of_its_tenant_from_its_first_day(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention={**WINDOWS, "suspense": "20 days", "archive": "1 day"})
    night(site, feed(SPOILT.format(2)), DAY + NEXT)
    placed = hold(site, numbers=(OTHER,), first=DAY - NEXT)
    archived = files(site, "archive")
    assert archived and files(site, "suspense")
    today = date.today() + timedelta(5)  # the archive is by the day it came in, which is today
    done = purged(site, today, today=today)
    assert of_class(done, "archive") | {"keys_destroyed": 0} == {
        "class": "archive", "due": 1, "held": 1, "deleted": 0, "files": 0, "keys_destroyed": 0,
    }  # fmt: skip
    assert of_class(done, "suspense")["held"] == 1
    assert {row["hold"] for row in done["held"]} == {""}  # nothing could be matched: no hold is named
    assert files(site, "archive") == archived and files(site, "suspense")
    release(site, placed)
    done = purged(site, today, today=today)
    assert files(site, "archive") == files(site, "suspense") == []
    assert not any((site.settings.lake_path / file.path).exists() for file in archived)


@pytest.fixture
def suspended(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Any:
    """A site of two tenants with suspense of 8 March: a record of a known tenant, one of another, one of nobody."""
    windows = dict.fromkeys(CLASSES, "99 years") | {"suspense": "20 days"}
    tenants = {name: Tenant(retention=windows) for name in ("default", "west")}
    source = feed_source("generic", tenant_field="account", tenants={"ac-0001": "default", "ac-0002": "west"})
    site = workspace(source, tenants=tenants, thresholds={"file_errors_pct": 100.0})
    spoilt = (SPOILT.format(n).replace(",\n", f",ac-000{n}\n") for n in (1, 2))
    night(site, feed(*spoilt, "no field can be told apart here\n"), DAY + 3 * NEXT)
    assert of_tenants(site) == {"default", "west", "_unknown"}
    return site


def of_tenants(site: Any) -> set[str]:
    """Whose suspense is there."""
    return {file.tenant for file in files(site, "suspense")}


def test_suspense_that_came_after_a_holds_last_day_may_be_of_a_call_before_it(suspended: Any) -> None:
    placed = hold(suspended, first=DAY, last=DAY + 2 * NEXT, numbers=(OTHER,))
    done = purged(suspended, DAY + 60 * NEXT)
    assert "default" in of_tenants(suspended) and of_class(done, "suspense")["held"] == 2
    release(suspended, placed)
    purged(suspended, DAY + 60 * NEXT)
    assert of_tenants(suspended) == set() and not suspended.unbalanced()


def test_suspense_of_nobody_knows_whom_is_kept_for_a_hold_of_any_tenant(suspended: Any) -> None:
    hold(suspended, tenant="west", last=DAY, accounts=("acct-0007",))
    done = purged(suspended, DAY + 60 * NEXT)
    assert of_tenants(suspended) == {"west", "_unknown"}
    assert of_class(done, "suspense")["deleted"] == 1 and not suspended.unbalanced()


def test_pieces_of_calls_expire_with_call_detail(workspace: Callable[..., Any]) -> None:
    from callward.feeds import generate

    site = workspace("opensips", retention=WINDOWS)
    folder = Path(site.folder.parent, "feed")
    generate(folder, seed=3, day=DAY, calls=60, dirt=0.0, sources=("opensips",))
    for lost in sorted((folder / "opensips").glob("*bye*")):  # their calls wait for them
        lost.unlink()
    site.deliver(sorted(path for path in folder.rglob("*") if path.is_file()))
    site.night()
    waiting = site.entries()["pending", ""][0]
    assert waiting > 0
    assert purge(site.settings, NUMBERS_KEPT, dry_run=True)["held"] == []
    done = purged(site, NUMBERS_KEPT + 2 * NEXT)
    assert ("pending", "") not in site.entries() and site.entries()["filtered", "EXPIRED"][0] == waiting
    assert site.pending().num_rows == 0 and not site.unbalanced()
    assert checks(site, done) == []


def test_requests_answered_long_ago_go(site: Any) -> None:
    activate(site, policy_text({**WINDOWS, "billing_transaction": "7 years", "requests": "24 months"}))
    common = {"tenant": "default", "kind": "access", "status": "answered", "body": b""}
    with database.writing(site.settings) as connection:
        for name, days in (("old", 800), ("new", 600)):
            at = database.now() - timedelta(days=days)
            row = {"request_id": name, "received_at": at, "due_at": at, "answered_at": at, **common}
            connection.execute(insert(requests).values(**row))
    done = purged(site, date.today())
    assert [row.request_id for row in site._rows(requests)] == ["new"]
    assert of_class(done, "requests")["deleted"] == 1


def test_batches_in_flight_of_runs_that_are_over_go_after_their_window(site: Any) -> None:
    activate(site, policy_text({**WINDOWS, "billing_transaction": "7 years", "temp": "7 days"}))
    folder = site.settings.lake_path / "transit"
    folder.mkdir(exist_ok=True)
    for name, days in (("gone-old.seal", 12), ("gone-new.seal", 2)):
        (folder / name).write_bytes(b"sealed")
        import os

        at = (datetime.now() - timedelta(days=days)).timestamp()
        os.utime(folder / name, (at, at))
    purged(site, date.today())
    assert [path.name for path in folder.iterdir()] == ["gone-new.seal"]


# -- holds -------------------------------------------------------------------------------------------------------------


def test_rows_that_a_hold_matches_outlive_their_month_key(site: Any) -> None:
    placed = hold(site, numbers=(OTHER,))
    done = purged(site, ALL_NUMBERS)
    assert done["status"] == "partial"
    (row,) = held(site, "held-billing")
    assert (row["calling_number"], row["called_number"], row["account"]) == (OTHER, CALLED, "acct-0007")
    assert states(site)["billing-numbers/numbers"] == "destroyed"
    assert {r["hold"]: r["rows"] for r in done["held"] if r["class"] == "call_detail"} == {placed.hold_id: 1}
    assert len(held(site, "held-assurance")) == 1
    again = purged(site, ALL_BILLING)
    assert again["overdue"] == 0
    assert [r["calling_number"] for r in held(site, "held-billing")] == [OTHER]
    assert site.view("billing").num_rows == 0
    release(site, placed)
    last = purged(site, ALL_BILLING)
    assert last["status"] == "done" and not [path for path in on_disk(site) if path.startswith("held-")]
    certificate = certificates.read(site.settings, last["certificate"])
    assert done["certificate"] in certificate.body["completes"]
    assert checks(site, last) == []
    assert all(state == "destroyed" for name, state in states(site).items())


def test_a_hold_by_account_keeps_its_rows_in_both_views(site: Any) -> None:
    hold(site, accounts=("acct-0007",))
    purged(site, ALL_NUMBERS)
    assert [row["account"] for row in held(site, "held-billing")] == ["acct-0007"]
    assert len(held(site, "held-assurance")) == 1
    purged(site, ALL_BILLING)
    assert [row["calling_number"] for row in held(site, "held-billing")] == [OTHER]


def test_two_holds_and_the_release_of_one(site: Any) -> None:
    first, second = hold(site, numbers=(OTHER,), accounts=("acct-0007",)), hold(site, numbers=(CALLER,))
    purged(site, ALL_NUMBERS)
    assert sorted(row["calling_number"] for row in held(site, "held-billing")) == [CALLER] * 4 + [OTHER]
    release(site, second)
    done = purged(site, ALL_NUMBERS)
    assert [row["calling_number"] for row in held(site, "held-billing")] == [OTHER]
    assert of_class(done, "billing_transaction")["deleted"] == 4
    assert checks(site, done) == []
    assert first.hold_id in {row["hold"] for row in done["held"]}


def test_a_hold_of_later_finds_its_rows_among_those_that_another_kept(site: Any) -> None:
    first = hold(site)
    purged(site, ALL_NUMBERS)
    assert len(held(site, "held-billing")) == 5
    hold(site, numbers=(OTHER,))
    release(site, first)
    purged(site, ALL_NUMBERS)
    assert [row["calling_number"] for row in held(site, "held-billing")] == [OTHER]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """clock(moment): the time stands still there."""
    return lambda moment: monkeypatch.setattr(database, "now", lambda: moment)


@pytest.fixture(scope="module")
def two_days(workspace: Callable[..., Any]) -> Any:
    """A site with the calls of FEED, one more by an account of its own, one of the next day, and older suspense.

    It is only copied.
    """
    windows = {**WINDOWS, "suspense": "20 days"}
    made = workspace("generic", retention=windows, thresholds={"file_errors_pct": 100.0})
    night(made, feed(SPOILT.format(8)), DAY - NEXT, "spoilt.csv")
    night(made, FEED + (call(6, account="ac-0003") + call(7, DAY + NEXT)).encode(), DAY + 2 * NEXT)
    return made


@pytest.fixture(scope="module")
def numberless(two_days: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same once a purge has taken the numbers; only copied."""
    made = copied(two_days, tmp_path_factory.mktemp("numberless") / "site")
    purged(made, ALL_NUMBERS)
    return made


def numbers_went(site: Any) -> datetime:
    """When the purge took the numbers out of the rows of DAY."""
    (file,) = (file for file in paths(site).values() if file.view == "billing" and not file.numbers and file.rows > 1)
    return file.committed_at


BOTH: dict[str, Any] = {"numbers": (OTHER,), "accounts": ("acct-0003",), "last": DAY}
MATCHING, OF_THE_DAY = [5, 6], [0, 1, 2, 3, 5, 6]


def billed_and_held(site: Any) -> list[int]:
    """The calls (by their second) whose billing rows are held, each as often as it is."""
    return sorted(row["start"].second for row in held(site, "held-billing"))


@pytest.mark.parametrize(("gap_us", "kept"), [(1_000_000, MATCHING), (999_999, OF_THE_DAY)])
def test_a_hold_keeps_what_matched_unless_it_is_of_the_second_in_which_the_numbers_went(
    two_days: Any, clock: Callable[[datetime], None], tmp_path: Path, gap_us: int, kept: list[int]
) -> None:
    """When a hold was placed is known to the second: in the same one nobody can say whether the purge knew it."""
    site, second = copied(two_days, tmp_path / "site"), database.now().replace(microsecond=0)
    clock(second)
    place(site, **BOTH)
    clock(second + timedelta(microseconds=gap_us))
    purged(site, ALL_NUMBERS)
    assert billed_and_held(site) == MATCHING
    purged(site, ALL_BILLING)
    assert billed_and_held(site) == kept


def test_a_hold_keeps_all_of_its_dates_if_the_numbers_go_while_it_is_being_placed(
    two_days: Any, clock: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A purge between the opening of the register's key and the hold's commit did not know the hold."""
    site, second = copied(two_days, tmp_path / "site"), database.now().replace(microsecond=0)
    sealer_of, purges_between = sealed.sealer_of, [purged]

    def purge_before_the_commit(settings: Settings, role: str) -> Sealer:
        sealer = sealer_of(settings, role)
        if purges_between:
            clock(second + timedelta(seconds=5))
            purges_between.pop()(site, ALL_NUMBERS)
        return sealer

    monkeypatch.setattr(sealed, "sealer_of", purge_before_the_commit)
    clock(second)
    placed = place(site, **BOTH)
    assert placed.placed_at == second + timedelta(seconds=5) and billed_and_held(site) == []
    purged(site, ALL_BILLING)
    assert billed_and_held(site) == OF_THE_DAY


@pytest.mark.parametrize(
    "later",
    [lambda went: went, lambda went: went.replace(microsecond=999_999), lambda went: went + NEXT],
    ids=["in the same instant", "in the same second", "a day later"],
)
def test_a_hold_that_comes_once_the_numbers_are_gone_keeps_all_of_its_dates(
    numberless: Any, clock: Callable[[datetime], None], tmp_path: Path, later: Callable[[datetime], datetime]
) -> None:
    site = copied(numberless, tmp_path / "site")
    clock(later(numbers_went(site)))
    placed = place(site, **BOTH)
    with database.reading(site.settings) as connection:
        gone = {row.class_: (row.state, row.rows) for row in holds.removed(connection, placed)}
    assert gone == {"assurance_metrics": ("removed", 7), "call_detail": ("removed", 6), "suspense": ("removed", 1)}
    done = purged(site, ALL_BILLING)
    assert billed_and_held(site) == OF_THE_DAY
    assert of_class(done, "billing_transaction")["deleted"] == 1 and checks(site, done) == []


def test_a_hold_whose_placing_began_before_the_numbers_went_keeps_what_its_account_matches(
    numberless: Any, clock: Callable[[datetime], None], tmp_path: Path
) -> None:
    """Its time is of when its placing began: the purge that took the numbers did not know it."""
    site = copied(numberless, tmp_path / "site")
    clock(numbers_went(site) - timedelta(seconds=2))
    place(site, **BOTH)
    purged(site, ALL_BILLING)
    assert 6 in billed_and_held(site) and 7 not in billed_and_held(site)


def test_a_hold_for_other_dates_holds_nothing(site: Any) -> None:
    hold(site, numbers=(OTHER,), first=DAY + NEXT)
    done = purged(site, ALL_BILLING)
    assert files(site, "held-billing") == files(site, "held-assurance") == []
    assert of_class(done, "billing_transaction")["held"] == 0


def test_a_confidential_hold_is_in_no_figure_of_its_own(site: Any) -> None:
    placed = hold(site, accounts=("acct-0007",), confidential_until=date.today() + timedelta(400))
    report = purged_report(site, ALL_NUMBERS)
    done = report.to_dict()
    told = json.dumps(done) + "".join(map(str, report.render()))
    told += certificates.read(site.settings, done["certificate"]).document
    told += "".join(row.plan for row in site._rows(disposals))
    assert placed.hold_id not in told
    assert {row["hold"] for row in done["held"]} == {""}
    assert [row["account"] for row in held(site, "held-billing")] == ["acct-0007"]


def test_late_records_that_match_a_hold_are_held_and_the_others_are_not(site: Any) -> None:
    hold(site, numbers=(OTHER,))
    purged(site, ALL_BILLING)
    night(site, feed(call(30, caller=OTHER), call(31), call(32)), ALL_BILLING + NEXT, "late.csv")
    assert site.entries()["filtered", "EXPIRED"][0] == 3 and len(files(site, "late")) == 1
    done = purged(site, date.today())
    assert files(site, "late") == []
    (copy,) = files(site, "held-late")
    rows = DataFiles(site.opened, "test").read_log(copy).to_pylist()
    assert [row["calling_number"] for row in rows] == [OTHER]
    assert done["overdue"] == 0 and checks(site, done) == []


def test_the_numbers_of_a_late_record_that_is_still_billed_are_held_too(site: Any) -> None:
    hold(site, numbers=(OTHER,))
    purged(site, ALL_NUMBERS)
    night(site, feed(call(30, caller=OTHER), call(31)), ALL_NUMBERS + NEXT, "late.csv")
    assert site.view("billing").num_rows == 7 and set(numbers(site)) == {None}
    done = purged(site, ALL_NUMBERS + 2 * NEXT)
    (copy,) = files(site, "held-late")
    assert DataFiles(site.opened, "test").read_log(copy)["calling_number"].to_pylist() == [OTHER]
    assert site.view("billing").num_rows == 7
    assert done["overdue"] == 0 and checks(site, done) == []


def test_nothing_is_purged_while_the_holds_cannot_be_read(site: Any) -> None:
    hold(site, numbers=(OTHER,))
    (site.folder / "keys" / "hold.root").unlink()
    before = on_disk(site)
    for dry_run in (True, False):
        with pytest.raises(Problem, match="hold register"):
            purge(site.settings, ALL_BILLING, dry_run=dry_run)
    assert on_disk(site) == before


def test_a_hold_placed_after_the_plan_is_planned_anew(
    site: Any, clock: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the very second of the plan."""
    clock(database.now())
    tombstone, placed = purge_disposal.tombstone, []

    def place_first(*arguments: Any) -> None:
        if not placed:
            placed.append(place(site, accounts=("acct-0007",)))
        tombstone(*arguments)

    monkeypatch.setattr(purge_disposal, "tombstone", place_first)
    done = purged(site, ASSURANCE_KEPT + NEXT)
    # What was approved is not what would be done now: the new plan waits for a person again.
    assert done["status"] == "planned"
    assert purged(site, ASSURANCE_KEPT + NEXT)["status"] == "partial"
    assert len(held(site, "held-assurance")) == 1


def test_a_hold_placed_between_the_phases_wins(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {view: site.view(view) for view in ("billing", "assurance")}
    entries, derived_rows, versions = site.entries(), site.derived(), len(paths(site))
    begin, placed = purge_disposal.begin_removal, []

    def place_first(*arguments: Any) -> bool:
        if not placed:
            assert site.view("assurance").num_rows == 0  # tombstoned: every read refuses it
            placed.append(hold(site))
        return begin(*arguments)

    monkeypatch.setattr(purge_disposal, "begin_removal", place_first)
    assert purged(site, NUMBERS_KEPT + NEXT)["status"] == "planned"
    assert all(site.view(view).equals(rows) for view, rows in before.items())
    assert (site.entries(), site.derived(), ends(site)) == (entries, derived_rows, {})
    assert len(paths(site)) > versions
    assert purged(site, NUMBERS_KEPT + NEXT)["status"] == "partial"
    assert len(held(site, "held-billing")) == 5 and len(held(site, "held-assurance")) == 6


@pytest.fixture
def much(two_days: Any, tmp_path: Path) -> Any:
    """A site of which a purge of ALL_NUMBERS writes all that one can: entries, rows without numbers, held copies."""
    site = copied(two_days, tmp_path / "site")
    place(site, accounts=("acct-0003",), first=DAY, last=DAY)
    return site


def counted(site: Any) -> dict[str, Any]:
    """All that counts: rows of the registers, derived rows, data files with when and by whom each was replaced."""
    tables = (ledger_entries, row_ends, frozen_derived, certificates_table)
    live = sorted(repr(row) for row in paths(site).values() if row.superseded_at is None)
    return {table.name: sorted(map(repr, site._rows(table))) for table in tables} | site.derived() | {"files": live}


def key_states(site: Any) -> dict[str, str]:
    return {row.key_id: row.state for row in site._rows(keys)}


def under_keys(site: Any) -> set[str]:
    """Keys that data files which count are under."""
    return {key_id for row in paths(site).values() if row.superseded_at is None for key_id in row.key_ids.split()}


def held_keys(site: Any) -> set[str]:
    """Keys that purges minted for held copies."""
    return {row.key_id for row in site._rows(keys) if row.domain == "hold" and row.month != "all"}


def test_a_purge_that_is_undone_leaves_no_entries(
    much: Any, clock: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold that undoes it is of the very second of its phases."""
    clock(database.now().replace(microsecond=0))
    before, known, begin, placed = counted(much), key_states(much), purge_disposal.begin_removal, []

    def place_first(*arguments: Any) -> bool:
        if not placed:
            tombstoned = counted(much)
            assert {name for name in before if tombstoned[name] != before[name]} == {
                "ledger_entries",
                "row_ends",
                "files",
            }
            placed.append(place(much, first=DAY))
        return begin(*arguments)

    monkeypatch.setattr(purge_disposal, "begin_removal", place_first)
    assert purged(much, ALL_NUMBERS)["status"] == "planned"
    assert counted(much) == before
    assert key_states(much) | known == key_states(much)
    undone = held_keys(much)
    much.night()  # what it wrote leaves the disk as anything that was replaced
    assert on_disk(much) == named(much)
    done = purged(much, ALL_NUMBERS)
    assert done["status"] == "partial" and checks(much, done) == [] and not much.unbalanced()
    assert billed_and_held(much) == [0, 1, 2, 3, 5, 6, 7]
    assert undone and {key_states(much)[key_id] for key_id in undone} == {"destroyed"}


def test_a_purge_whose_held_copy_lost_its_key_leaves_no_entries_and_is_done_anew(
    much: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tombstone, lost = purge_disposal.tombstone, set()

    def destroy_first(*arguments: Any) -> None:
        if not lost:
            before = counted(much)
            lost.update(held_keys(much))
            destroy(much, lost)
            with pytest.raises(ledger.CommitConflict):
                tombstone(*arguments)
            assert counted(much) == before
        tombstone(*arguments)

    monkeypatch.setattr(purge_disposal, "tombstone", destroy_first)
    done = purged(much, ALL_NUMBERS)
    assert done["status"] == "partial" and checks(much, done) == [] and not much.unbalanced()
    assert billed_and_held(much) == [6]
    assert lost and not lost & under_keys(much)


def destroy(site: Any, key_ids: Iterable[str]) -> None:
    """Destroy keys behind the back of whoever is at work."""
    with database.writing(site.settings) as connection:
        connection.execute(update(keys).where(keys.c.key_id.in_(key_ids)).values(state="destroyed", blob=None))


# -- windows that differ -----------------------------------------------------------------------------------------------


def test_a_longer_window_is_for_what_comes_in_afterwards(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=WINDOWS)
    short, long = ({**WINDOWS, "assurance_metrics": w, "billing_transaction": "7 years"} for w in ("10 days", "1 year"))
    activate(site, policy_text(short))
    night(site)
    activate(site, policy_text(long))
    night(site, feed(*(call(n) for n in range(50, 53))), name="b.csv")
    with database.writing(site.settings) as connection:  # the second file came in long after the activation
        newest = max(files(site, "assurance"), key=lambda file: file.rows == 3)
        later_day = date.today() + timedelta(3)
        connection.execute(
            update(lake_files).where(lake_files.c.file_id == newest.file_id).values(received_on=later_day)
        )
    purged(site, ASSURANCE_KEPT + NEXT)
    assert site.view("assurance").num_rows == 3
    assert {row.sha256 for row in site._rows(frozen_derived) if row.table_name == "sla_sums"} == {""}


def test_numbers_of_a_subscriber_with_a_shorter_window_go_first(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=WINDOWS)
    activate(site, policy_text({"call_detail": "18 months"}, {"acct-0007": "1 month"}))
    night(site)
    placed = hold(site, numbers=(OTHER,), first=DAY + NEXT)
    done = purged(site, NUMBERS_KEPT + NEXT)
    assert done["status"] in ("done", "partial"), done
    assert sorted(numbers(site), key=str) == [CALLER] * 4 + [None]
    assert ends(site)["billing", "numbers"] == 1
    (file,) = files(site, "billing")
    assert file.numbers
    again = purge(site.settings, NUMBERS_KEPT + NEXT, dry_run=True)
    assert not of_class(again, "call_detail")
    assert placed.hold_id not in {row["hold"] for row in done["held"]}


def test_data_of_a_tenant_nobody_speaks_for_is_not_touched(site: Any) -> None:
    settings = site.settings
    other = settings.model_copy(
        update={"tenants": {"another": Tenant(retention=settings.tenants["default"].retention)}}
    )
    with pytest.raises(Problem, match="whom no policy"):
        purge(other, ALL_BILLING, dry_run=True)


# -- the safety check --------------------------------------------------------------------------------------------------


def test_windows_of_the_settings_never_run_unattended(site: Any) -> None:
    report = purges.purge(site.settings, ASSURANCE_KEPT + NEXT)
    done = report.to_dict()
    assert done["status"] == "planned" and report.exit_code == 3
    assert any("two persons" in reason for reason in done["safety_check"])
    assert purge(site.settings, ASSURANCE_KEPT + NEXT)["plan_id"] == done["plan_id"]
    assert site.view("assurance").num_rows == 6


def test_a_purge_that_was_foreseen_runs_by_itself_under_a_policy_of_two_people(site: Any) -> None:
    activate(site, policy_text({**WINDOWS, "billing_transaction": "7 years"}))
    safety_check.note_forecast(site.settings, date.today())
    night(site, feed(*(call(n) for n in range(70, 73))), name="more.csv")  # rows committed since are known
    done = purge(site.settings, NUMBERS_KEPT + NEXT)
    assert done["status"] == "done", done
    assert of_class(done, "call_detail")["deleted"] == 8


def test_the_safety_check_stops_what_nobody_foresaw(site: Any) -> None:
    activate(site, policy_text({**WINDOWS, "call_detail": "12 months", "billing_transaction": "7 years"}))
    safety_check.note_forecast(site.settings, date.today())
    activate_quietly(site, policy_text({**WINDOWS, "billing_transaction": "7 years"}))
    done = purge(site.settings, NUMBERS_KEPT + NEXT)
    assert done["status"] == "planned"
    assert any(reason.startswith("call_detail: 5 rows are due") for reason in done["safety_check"])
    assert purged(site, NUMBERS_KEPT + NEXT)["status"] == "done"


def activate_quietly(site: Any, text: str) -> None:
    """Activate a policy, and put back the forecast of before."""
    before = site._rows(purge_forecasts)
    activate(site, text)
    with database.writing(site.settings) as connection:
        connection.execute(purge_forecasts.delete())
        connection.execute(insert(purge_forecasts), [dict(row._mapping) for row in before])


def test_what_a_policy_changes_is_foreseen_when_two_people_activate_it(site: Any) -> None:
    text = policy_text({**WINDOWS, "billing_transaction": "7 years"})
    version, _ = policy_register.propose(site.settings, "default", text, "ada", person(site), None)
    policy_report.activate(site.settings, "default", version, "ben", person(site, "ben"), dry_run=False)
    assert purge(site.settings, NUMBERS_KEPT + NEXT)["status"] == "done"


def test_what_was_foreseen_reaches_a_year(site: Any) -> None:
    safety_check.note_forecast(site.settings, DAY)
    with database.reading(site.settings) as connection:
        from callward.retention.policy.register import in_force
        from callward.retention.purge.due_files import Governance

        law = Governance(in_force(site.settings, connection))
        assert safety_check.objections(connection, law, DAY + timedelta(366), 10.0) == []
        assert safety_check.objections(connection, law, DAY + timedelta(367), 10.0) != []


def test_an_approval_is_of_the_plan_that_was_looked_at(site: Any) -> None:
    planned = purge(site.settings, ASSURANCE_KEPT + NEXT)
    night(site, feed(call(90)), name="more.csv")
    with pytest.raises(Problem, match="something has changed since"):
        purge(site.settings, ASSURANCE_KEPT + NEXT, consent=Consent(planned["plan_id"], "ada", person(site)))
    assert site.view("assurance").num_rows == 7
    with pytest.raises(UsageProblem, match="together"):
        purge(site.settings, ASSURANCE_KEPT + NEXT, consent=Consent.of(planned["plan_id"], None, None))
    with pytest.raises(UsageProblem, match="no plan"):
        purges.waiting(site.settings, planned["plan_id"])


def test_both_who_started_and_who_approved_are_on_record(site: Any) -> None:
    done = purged(site, ASSURANCE_KEPT + NEXT)
    (row,) = [row for row in site._rows(disposals) if row.disposal_id == done["purge_id"]]
    assert row.approved_by == "ada" and "@" in row.started_by and row.status == "done"
    events = [row.event for row in site._rows(audit_log)]
    assert [e for e in events if e.startswith("purge-")] == ["purge-planned", "purge-begun", "purge-done"]


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS["assurance"])
def test_a_file_that_is_missing_or_altered_stops_the_purge(site: Any, part: str) -> None:
    (file,) = files(site, part)
    path = site.settings.lake_path / file.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Problem, match=f"{file.file_id}.*altered"):
        purge(site.settings, ALL_BILLING)
    path.unlink()
    with pytest.raises(Problem, match=f"{file.file_id}.*not in the lake"):
        purge(site.settings, ALL_BILLING)
    assert len(files(site, "billing")) == 1 and len(files(site, "assurance")) == 2


def test_a_view_that_is_not_known_stops_the_purge(site: Any) -> None:
    with database.writing(site.settings) as connection:
        connection.execute(update(lake_files).where(lake_files.c.view == "billing").values(view="guests"))
    with pytest.raises(Problem, match="does not know"):
        purge(site.settings, ALL_BILLING)
    assert site.view("assurance").num_rows == 6


@pytest.mark.parametrize("name", ["billing-numbers.root", "assurance.root", "retention.sign"])
def test_a_key_that_cannot_be_reached_stops_the_purge_before_anything_is_changed(site: Any, name: str) -> None:
    planned = purge(site.settings, ALL_NUMBERS)
    file = next(site.folder.glob(f"keys/**/{name}"))
    file.rename(file.with_name("away"))
    before = on_disk(site)
    signs = {"consent": Consent(planned["plan_id"], "ada", person(site))}
    with pytest.raises(Problem):
        purge(site.settings, ALL_NUMBERS, **signs)
    assert on_disk(site) == before and len(files(site, "assurance")) == 2
    file.with_name("away").rename(file)
    done = purge(site.settings, ALL_NUMBERS)  # the approval is on record
    assert done["status"] == "done" and checks(site, done) == []


def test_a_key_that_is_lost_after_the_second_phase_began_is_waited_for(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroy = rotation.destroy

    def refuse(*_: Any, **__: Any) -> Any:
        raise Problem("the root cannot be reached")

    monkeypatch.setattr(rotation, "destroy", refuse)
    with pytest.raises(Problem, match="cannot be reached"):
        purged(site, ALL_NUMBERS)
    assert not [path for path in on_disk(site) if path.startswith(ASSURANCE_FOLDERS)]
    monkeypatch.setattr(rotation, "destroy", destroy)
    purge(site.settings, ALL_NUMBERS)
    (row,) = [row for row in site._rows(disposals) if row.status == "done"]
    assert row.certificate_id and states(site)["billing-numbers/numbers"] == "destroyed"


def test_two_purges_do_not_run_at_once(site: Any) -> None:
    with runs.running(site.settings, "purge", ["purge"]), pytest.raises(Problem, match="being worked on"):
        purge(site.settings, ALL_BILLING)


def test_a_night_that_commits_meanwhile_is_planned_with(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = purge(site.settings, ASSURANCE_KEPT + NEXT)
    tombstone, nights = purge_disposal.tombstone, []

    def night_first(*arguments: Any) -> None:
        if not nights:
            nights.append(night(site, feed(call(91)), name="meanwhile.csv"))
        tombstone(*arguments)

    monkeypatch.setattr(purge_disposal, "tombstone", night_first)
    done = purge(site.settings, ASSURANCE_KEPT + NEXT, consent=Consent(planned["plan_id"], "ada", person(site)))
    assert done["status"] == "planned" and site.view("assurance").num_rows == 7


def test_what_was_replaced_before_goes_at_once_when_it_is_due(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=WINDOWS, lake={"grace_minutes": 60.0})
    night(site)
    (old,) = files(site, "answered")
    night(site, feed(call(0, talk=90)), name="again.csv")  # another version of a call: its file is written anew
    assert old.path in on_disk(site) and old.file_id not in {file.file_id for file in files(site, "assurance")}
    purged(site, ASSURANCE_KEPT + NEXT)
    assert not [path for path in on_disk(site) if path.startswith(ASSURANCE_FOLDERS)]


def test_a_night_after_the_purge_counts_late_records_and_mints_no_dead_key(site: Any) -> None:
    purged(site, ALL_BILLING)
    night(site, feed(call(95)), ALL_BILLING + NEXT, "late.csv")
    assert site.entries()["filtered", "EXPIRED"][0] == 1
    assert set(states(site).values()) == {"destroyed"}


def test_a_night_whose_key_a_purge_destroyed_meanwhile_writes_its_files_anew(
    workspace: Callable[..., Any], clock: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archive and suspense are under their month's keys: when the month ends before the commit, nothing seems to be."""
    site = workspace("generic", thresholds={"file_errors_pct": 100.0})
    person(site)
    today = database.now()
    next_month = datetime(today.year + today.month // 12, today.month % 12 + 1, 1)
    clock(next_month - timedelta(seconds=1))
    merge, lost = ledger.Changes.merge, set()

    def purge_first(*arguments: Any) -> ledger.Changes:
        if not lost:
            clock(next_month)
            purged(site, next_month.date())
            lost.update(key_id for key_id, state in key_states(site).items() if state == "destroyed")
        return merge(*arguments)

    monkeypatch.setattr(ledger.Changes, "merge", purge_first)
    night(site, feed(call(1), SPOILT.format(2)))
    assert {row.domain for row in site._rows(keys) if row.key_id in lost} == {"archive", "suspense"}
    assert files(site, "archive") and not lost & under_keys(site)
    assert site.log("suspense").num_rows == site.view("billing").num_rows == 1


def test_items_say_what_became_of_each_file(site: Any) -> None:
    done = purged(site, ALL_NUMBERS)
    items = {row.view: row for row in site._rows(disposal_items) if row.disposal_id == done["purge_id"]}
    assert {view: (row.action, row.state, row.rows) for view, row in items.items()} == {
        "failed": ("delete", "removed", 1),
        "answered": ("delete", "removed", 5),
        "billing": ("rewrite", "removed", 5),
        "index": ("rewrite", "removed", 0),  # it goes with the views, and no row of it is counted
    }


def test_the_lake_holds_nothing_that_the_manifest_does_not_name(site: Any) -> None:
    hold(site, accounts=("acct-0007",))
    for as_of in (ASSURANCE_KEPT + NEXT, ALL_NUMBERS, ALL_BILLING):
        purged(site, as_of)
        assert on_disk(site) == named(site) and site.differing() == 0


def test_a_warning_of_an_order_that_runs_out_is_in_the_report(site: Any) -> None:
    hold(site, kind="preservation", numbers=(OTHER,), expires_on=date.today() + timedelta(3))
    done = purge(site.settings, ALL_BILLING, dry_run=True)
    assert any("expires on" in sentence for sentence in done["warnings"])
    report = purges.purge(site.settings, ALL_BILLING, dry_run=True)
    assert any("warning" in str(part) for part in report.render())
    assert holds.warnings(site.settings, date.today()) == done["warnings"]
    assert FEED
