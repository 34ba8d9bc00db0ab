"""`callward status`: the whole workspace at a glance, and exit code 3 with the next step where a person must look."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from callward import database, standing
from callward.errors import Problem
from callward.initiate import root_file
from callward.settings import Tenant
from callward.standing import Alarm
from pipelines import status as states
from pipelines.reports.status import StatusReport
from pipelines.terminal import plain
from schemas.release import release_charges
from schemas.retention_classes import CLASSES
from schemas.tables import input_files, runs, standing_alarms
from tests import retention

DAY = timedelta(1)


@pytest.fixture(scope="module")
def made(workspace: Callable[..., Any], feed_source: Callable[..., Any]) -> Any:
    """A workspace of two tenants after one night, with records in suspense."""
    windows = dict.fromkeys(CLASSES, "99 years") | {"suspense": "90 days"}
    tenants = {"default": Tenant(retention=windows), "second": Tenant(retention=windows | {"suspense": "30 days"})}
    sources = [feed_source("east", format="generic_csv"), feed_source("west", format="generic_csv", tenant="second")]
    site = workspace(*sources, tenants=tenants)
    (site.settings.landing_path / "asterisk").rmdir()
    for name in ("east", "west"):
        calls = [retention.call(n, caller="+13035550101", account="") for n in range(4)]
        site.land(name, "a.csv", retention.feed(*calls, *[f"{name}-torn,{n}\n" for n in range(len(name) - 2)]))
    site.night(now_ms())
    return site


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


@pytest.fixture
def site(made: Any) -> Iterator[Any]:
    yield made
    with database.writing(made.settings) as connection:
        connection.execute(delete(runs).where(runs.c.run_id.like("test%")))
        connection.execute(delete(standing_alarms))
        connection.execute(delete(release_charges))
        connection.execute(update(input_files).values(seen_at=database.now()))


def seen(site: Any, now: datetime | None = None) -> StatusReport:
    return StatusReport(states.status(site.settings, now or database.now()))


def text(report: StatusReport) -> str:
    return "\n".join(str(part) for part in report.render())


def add_run(site: Any, ago: timedelta, status: str) -> None:
    row = {"kind": "nightly", "started_by": "x", "host": "x", "pid": 1, "code_version": "x", "settings_digest": "x"}
    began = database.now() - ago
    with database.writing(site.settings) as connection:
        row |= {"run_id": f"test{status}", "status": status, "started_at": began, "finished_at": None}
        connection.execute(insert(runs).values(**row))


def test_a_workspace_in_order_has_nothing_to_look_at(site: Any) -> None:
    report = seen(site)
    assert (report.exit_code, report.status.look) == (0, []) and "nothing to look at" in text(report)
    document = json.loads(json.dumps(report.to_dict(), default=plain))
    (night,) = document["runs"]
    assert (night["kind"], night["status"], night["records"]) == ("nightly", "done", 12)
    suspense = {(item["source"], item["what"]): item["records"] for item in document["waiting"]}
    assert suspense == {("east", "COLUMNS"): 2, ("west", "COLUMNS"): 2}
    views = {(item["tenant"], item["view"]): item["oldest"] for item in document["oldest"]}
    assert views == {
        (tenant, view): "2026-03-05" for tenant in ("default", "second") for view in ("assurance", "billing")
    }
    assert {of["source"]: of["shares"]["unassigned"] for of in document["unknown"]} == {"east": 1.0, "west": 1.0}
    assert {"billing", "suspense"} <= {of["domain"] for of in document["keys"]}
    assert "3035550" not in json.dumps(document)


def test_what_stands_is_a_thing_to_look_at_with_its_sentence(site: Any) -> None:
    now = database.now()
    alarms = [Alarm("east", "silent", "east: nothing came"), Alarm("west", "repeat", "west: again", must_look=False)]
    with database.writing(site.settings) as connection:
        standing.put(connection, ["east", "west"], alarms, now - 3 * DAY)
    report = seen(site, now)
    assert report.exit_code == 3 and report.status.look == ["east: nothing came"]
    shown = text(report)
    assert "look: east: nothing came" in shown and "3 days" in shown and "repeat" in shown


def test_suspense_that_goes_within_14_days_is_named_by_each_tenants_window(site: Any) -> None:
    came = database.now()
    assert not any("suspense" in line for line in seen(site, came + 16 * DAY).status.look)
    report = seen(site, came + 17 * DAY)
    (sentence,) = [line for line in report.status.look if "suspense" in line]
    assert sentence.startswith("2 records in suspense of west go within 14 days") and "callward recycle" in sentence
    waits = {item.source: item for item in report.status.waiting}
    assert (waits["west"].expiring, waits["east"].expiring) == (2, 0)
    assert waits["west"].expires == came.date() + 31 * DAY and waits["west"].oldest == came.date()


@pytest.mark.parametrize(("status", "said"), [("failed", "failed"), ("dead", "was killed"), ("running", "was killed")])
def test_a_night_that_did_not_end_is_named_until_one_does(site: Any, status: str, said: str) -> None:
    add_run(site, -timedelta(minutes=1), status)
    report = seen(site)
    assert report.exit_code == 3 and said in report.status.look[0] and "callward nightly" in report.status.look[0]
    add_run(site, -timedelta(minutes=2), "done")
    assert seen(site).status.look == []


def test_no_night_for_a_day_and_a_half_is_named(site: Any) -> None:
    now = database.now()
    assert seen(site, now + timedelta(hours=35)).status.look == []
    assert "no night has ended since" in seen(site, now + timedelta(hours=37)).status.look[0]


def test_rows_past_their_window_are_named_with_the_purge(site: Any) -> None:
    report = seen(site, database.now() + 40 * DAY)
    assert any("rows are past their window (suspense): run 'callward purge" in line for line in report.status.look)
    assert any(line.tenant == "second" and line.overdue == 2 for line in report.status.calendar or ())


def test_a_spent_budget_is_named(site: Any) -> None:
    charge = {"release_id": "x", "tenant": "second", "unit": "customer", "window": "2026-03", "rho": 10**18}
    with database.writing(site.settings) as connection:
        names = [column.name for column in release_charges.columns]
        connection.execute(insert(release_charges).values(**{k: v for k, v in charge.items() if k in names}))
    assert "the privacy budget of second (customer, 2026-03) is spent" in seen(site).status.look[0]


def test_holds_that_do_not_open_are_said_and_the_rest_is_shown(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any) -> None:
        raise Problem("root hold is not here")

    monkeypatch.setattr("callward.retention.purge.calendar.calendar", closed)
    report = seen(site)
    assert report.status.calendar is None and "not known here: root hold is not here" in text(report)
    assert root_file(site.settings, "hold") is not None


def test_a_nights_report_says_what_goes_soon_and_since_when(site: Any) -> None:
    with database.writing(site.settings) as connection:
        connection.execute(update(input_files).values(seen_at=database.now() - 20 * DAY))
    night = site.night(now_ms())
    assert len(night.warnings) == 1 and night.warnings[0].startswith("west: 2 records in suspense (COLUMNS 2)")
    assert not night.must_look
    (of_west,) = [item for item in night.to_dict()["suspense"] if item["source"] == "west"]
    assert of_west["expiring"] == 2 and of_west["oldest"] == (database.now() - 20 * DAY).date().isoformat()
