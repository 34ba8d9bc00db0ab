"""The calendar and "expired but present" against an oracle over the same files, and with holds of either kind."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from callward import database, query
from callward.retention import holds
from callward.retention.purge import calendar as purge_calendar
from callward.settings import Settings, load
from callward.template import render
from pipelines.results import to_document
from schemas.retention import requests
from schemas.retention_classes import CLASSES
from schemas.tables import keys, lake_files
from schemas.views import PARTS, VIEW_PARTS
from tests import retention
from tests.examples import tries

TODAY = date(2026, 11, 22)
WINDOWS = ("1 month", "18 months", "1 year", "7 years", "92 days", "30 days")
GOVERNED = ("call_detail", "billing_transaction", "assurance_metrics", "suspense", "archive")


@dataclass(frozen=True)
class File:
    """A data file as the register names it."""

    view: str
    day: date  # its call date, or the day that it came in
    rows: int = 10
    numbers: bool = False
    tenant: str = "default"

    def row(self, number: int) -> dict[str, Any]:
        log = self.view in ("suspense", "pending", "late")
        seen = datetime.combine(self.day, datetime.min.time())
        return {
            "file_id": f"aaaaaaaaaaaaaa-{number}",
            "view": self.view,
            "tenant": self.tenant,
            "part": self.view if log else self.day.isoformat(),
            "path": f"{self.view}/{number}",
            "rows": 0 if self.view == "archive" else self.rows,
            "bytes": 1,
            "sha256": "0" * 64,
            "first_start": seen,
            "last_start": seen,
            "shard_bits": 0,
            "shard": 0,
            "format_version": 1,
            "received_on": self.day,
            "key_ids": "",
            "numbers": self.numbers,
            "run_id": "test",
            "committed_at": seen,
        }


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("asterisk")


def register(site_settings: Settings, files: list[File]) -> None:
    """Make these the only files of the lake."""
    with database.writing(site_settings) as connection:
        connection.execute(delete(lake_files))
        if files:
            connection.execute(insert(lake_files), [file.row(number) for number, file in enumerate(files)])


def windows(site: Any, chosen: dict[str, str]) -> Settings:
    """Settings in which the one tenant has these windows, and 99 years for all else."""
    now: Settings = site.settings
    retention = dict.fromkeys(CLASSES, "99 years") | chosen
    tenants = {"default": now.tenants["default"].model_copy(update={"retention": retention})}
    now.path.write_text(render(now.model_copy(update={"tenants": tenants})), encoding="utf-8")
    return load(now.path)


def kept_through(start: date, window: str) -> date:
    count, unit = window.split()
    return (pd.Timestamp(start) + pd.DateOffset(**{unit.rstrip("s") + "s": int(count)})).date()


def expected(file: File, chosen: dict[str, str]) -> dict[str, date]:
    """Class → the first day on which the file is due: the oracle."""
    ended = file.day + timedelta(31)
    row = max(kept_through(ended, chosen["billing_transaction"]), file.day + timedelta(92))
    attempt = {"assurance_metrics": kept_through(ended, chosen["assurance_metrics"])}
    last = {
        **{part: {"billing_transaction": row} for part in PARTS["billing"]},
        **{part: dict(attempt) for part in PARTS["assurance"]},
        "suspense": {"suspense": kept_through(file.day, chosen["suspense"])},
        "archive": {"archive": kept_through(file.day, chosen["archive"])},
        "pending": {"call_detail": kept_through(ended, chosen["call_detail"])},
    }[file.view]
    if file.view in PARTS["billing"] and file.numbers:
        last["call_detail"] = min(row, kept_through(ended, chosen["call_detail"]))
    return {cls: day + timedelta(1) for cls, day in last.items()}


files_of_any_kind = st.lists(
    st.builds(
        File,
        st.sampled_from([*VIEW_PARTS, "suspense", "archive", "pending"]),
        st.dates(date(2018, 1, 1), TODAY) | st.sampled_from([date(2024, 2, 29), date(2024, 1, 31), date(2023, 12, 31)]),
        st.integers(1, 1000),
        st.booleans(),
    ),
    max_size=12,
)


def expired_but_present(now: Settings, as_of: date, today: date) -> list[dict[str, Any]]:
    """Return what the calendar counts as past its window, by tenant and class."""
    with database.reading(now) as connection:
        governed = purge_calendar._governed(now, connection, as_of, today)
        return purge_calendar._expired(purge_calendar.stock(connection, governed), as_of)


@tries(60)
@given(files_of_any_kind, st.fixed_dictionaries({cls: st.sampled_from(WINDOWS) for cls in GOVERNED}), st.data())
def test_what_is_due_is_what_dates_and_windows_say(
    site: Any, files: list[File], chosen: dict[str, str], data: st.DataObject
) -> None:
    now = windows(site, chosen)
    register(now, files)
    days = [(cls, day, 1 if f.view == "archive" else f.rows) for f in files for cls, day in expected(f, chosen).items()]
    around = [day + timedelta(n) for _, day, _ in days for n in (-1, 0)]
    any_day = st.dates(date(2018, 1, 1), date(2035, 1, 1))
    as_of = data.draw(st.sampled_from(around) | any_day if around else any_day)
    found = {row["class"]: row for row in expired_but_present(now, as_of, TODAY)}
    lines = {line.class_: line for line in purge_calendar.calendar(now, TODAY, as_of) if line.tenant == "default"}
    for cls in GOVERNED:
        past = sum(rows for of, day, rows in days if of == cls and as_of >= day)
        assert found.get(cls, {}).get("due", 0) == found.get(cls, {}).get("overdue", 0) == past == lines[cls].overdue
        ahead = [(day, rows) for of, day, rows in days if of == cls and day > as_of]
        assert lines[cls].next_expiry == min((day for day, _ in ahead), default=None)
        for n in (30, 90):
            assert getattr(lines[cls], f"due_{n}_days") == sum(
                rows for day, rows in ahead if day <= as_of + timedelta(n)
            )
        assert lines[cls].rows == sum(rows for of, _, rows in days if of == cls)


def test_every_class_is_in_the_calendar_and_one_without_a_store_shows_0(site: Any) -> None:
    now = windows(site, {})
    register(now, [])
    found = purge_calendar.calendar(now, TODAY)
    lines = {line.class_: line for line in found}
    assert sorted(line.class_ for line in found) == sorted(CLASSES)  # once each, by tenant or for all together
    assert {line.tenant for line in found} == {"default", purge_calendar.EVERYBODY}
    for cls in ("consent", "disclosure_log", "breach_record", "aggregates", "transcripts", "requests"):
        assert (lines[cls].rows, lines[cls].overdue, lines[cls].oldest) == (0, 0, None)


def test_the_audit_log_and_certificates_are_listed_and_never_overdue(site: Any) -> None:
    now = windows(site, {"audit": "1 day", "keys": "1 day"})
    register(now, [])
    found = {row["class"]: row for row in expired_but_present(now, TODAY + timedelta(400), TODAY)}
    assert found["audit"]["due"] == found["audit"]["kept"] > 0 == found["audit"]["overdue"]
    assert found["keys"]["due"] == found["keys"]["kept"] > 0 == found["keys"]["overdue"]


def test_an_archive_of_several_tenants_goes_with_the_shortest_window(site: Any) -> None:
    now = windows(site, {"archive": "92 days"})
    register(now, [File("archive", TODAY - timedelta(93), tenant="_shared")])
    (row,) = expired_but_present(now, TODAY, TODAY)
    assert (row["tenant"], row["class"], row["overdue"]) == ("_shared", "archive", 1)
    assert expired_but_present(now, TODAY - timedelta(1), TODAY) == []


def test_requests_and_transit_keys_fall_due_too(site: Any) -> None:
    now = windows(site, {"requests": "24 months", "temp": "7 days"})
    register(now, [])
    answered = datetime(2024, 11, 21, 15)
    common = {"tenant": "default", "kind": "access", "received_at": answered, "due_at": answered, "body": b""}
    key = {"tenant": "_all", "purpose": "shuffle", "state": "active", "fingerprint": "", "root_id": ""}
    with database.writing(now) as connection:
        rows = [
            {**common, "request_id": "one", "status": "answered", "answered_at": answered},
            {**common, "request_id": "two", "status": "answered", "answered_at": answered + timedelta(1)},
            {**common, "request_id": "three", "status": "open", "answered_at": None},
        ]
        connection.execute(insert(requests), rows)
        values = {**key, "key_id": "f" * 32, "domain": "transit", "month": "2026-10", "format_version": 1}
        connection.execute(insert(keys).values(**values, created_at=answered))
    found = {row["class"]: row for row in expired_but_present(now, date(2026, 11, 22), TODAY)}
    assert found["requests"]["overdue"] == 1
    assert found["temp"]["overdue"] == 1
    assert "temp" not in {row["class"] for row in expired_but_present(now, date(2026, 11, 7), TODAY)}


# -- holds ------------------------------------------------------------------------------------------------------------

OLD = date(2026, 3, 5)
PAST = {"call_detail": "1 month", "assurance_metrics": "1 month", "suspense": "1 month", "archive": "1 month"}


@pytest.fixture
def held_site(workspace: Callable[..., Any]) -> tuple[Any, Settings]:
    """What a purge leaves where holds cover everything: held copies, and logs that it could not look into."""
    site = workspace("asterisk")
    now = windows(site, PAST)
    register(
        now,
        [
            File("billing", OLD, 10),
            File("held-billing", OLD, 2, numbers=True),
            File("held-failed", OLD, 1),
            File("held-answered", OLD, 2),
            File("suspense", OLD, 4),
            File("archive", OLD),
        ],
    )
    return site, now


def placed(now: Settings, **changes: Any) -> holds.Hold:
    usual: dict[str, Any] = {
        "hold_id": "",
        "tenant": "default",
        "kind": "litigation",
        "authority": "court",
        "case": "1",
    }
    return holds.place(now, holds.Hold(**(usual | changes)), datetime.now(UTC).date())


def states(now: Settings, as_of: date = TODAY) -> dict[str, tuple[int, int, int]]:
    rows = expired_but_present(now, as_of, datetime.now(UTC).date())
    return {row["class"]: (row["held"], row["kept"], row["overdue"]) for row in rows}


def test_held_rows_are_told_from_overdue_ones(held_site: tuple[Any, Settings]) -> None:
    _, now = held_site
    placed(now, accounts=("acct-0001",), first=OLD)
    found = states(now)
    assert found["call_detail"] == (2, 0, 0) and found["assurance_metrics"] == (3, 0, 0)
    assert found["suspense"] == (0, 4, 0) and found["archive"] == (0, 1, 0)  # nothing can be matched there
    lines = {line.class_: line for line in purge_calendar.calendar(now, datetime.now(UTC).date())}
    assert lines["call_detail"].open_holds == 1 and lines["call_detail"].oldest_hold_days == 0


def test_without_a_hold_they_are_overdue(held_site: tuple[Any, Settings]) -> None:
    _, now = held_site
    assert {state[:2] for state in states(now).values()} == {(0, 0)}
    placed(now, accounts=("acct-0001",), first=OLD + timedelta(1))  # after all of them
    found = states(now)
    assert found["call_detail"] == (0, 0, 2) and found["suspense"] == (0, 0, 4) and found["archive"] == (0, 0, 1)


def test_a_confidential_hold_is_told_by_nothing_but_other_reasons(held_site: tuple[Any, Settings]) -> None:
    _, now = held_site
    today = datetime.now(UTC).date()
    secret = placed(now, accounts=("acct-0001",), first=OLD, confidential_until=today + timedelta(30))
    assert states(now)["call_detail"] == (0, 2, 0) and states(now)["assurance_metrics"] == (0, 3, 0)
    for as_of in (today, today + timedelta(60)):  # asking about a later day does not lift the veil
        lines = purge_calendar.calendar(now, today, as_of)
        assert secret.hold_id not in repr(lines)
        assert {line.open_holds for line in lines} == {0} and {line.oldest_hold_days for line in lines} == {None}
        assert {line.held for line in lines} == {0}


def test_nothing_is_said_while_holds_cannot_be_read(held_site: tuple[Any, Settings]) -> None:
    site, now = held_site
    placed(now, accounts=("acct-0001",), first=OLD)
    (site.folder / "keys" / "hold.root").unlink()
    with pytest.raises(holds.HoldUnreadable):
        purge_calendar.calendar(now, TODAY)


def test_the_calendar_is_a_table_of_compliance(workspace: Callable[..., Any]) -> None:
    site = workspace("generic", retention=retention.WINDOWS)
    retention.night(site)
    told = query.query(site.settings, "compliance", "SELECT * FROM retention_due").to_pylist()
    shown = purge_calendar.calendar(site.settings, date.today())
    named = ("tenant", "class", "oldest", "held", "overdue")
    rows = [to_document(line) for line in shown]
    lines = [[row[name] for name in named] for row in rows if row["class"] != "audit"]  # the query itself is in it
    assert [[row[name] for name in named] for row in told if row["class"] != "audit"] == lines
    assert sum(row["overdue"] for row in told) > 0
