"""What content links in a lake of two million calls and 5,000 accounts: within the bound, live and closed. By
`make endurance`.

CALLWARD_LINKAGE_CALLS makes it smaller or larger; all figures are printed (docs/threat-model.md has them). It takes
some four minutes of one processor core.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from callward.feeds import asterisk_files
from callward.release.attack.linkage import ACCOUNTS_BOUND, ROWS_BOUND
from callward.settings import Account
from pipelines import compact
from pipelines.attack.views import attack_views

CALLS = int(os.environ.get("CALLWARD_LINKAGE_CALLS", "2000000"))
ACCOUNTS, SUBSCRIBERS, DAYS = 5_000, 20_000, 30
FIRST = date(2026, 3, 1)

pytestmark = pytest.mark.endurance


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A lake of a month: each day's calls in a file of their own, taken in by one night."""
    accounts = [Account(id=f"acct-{n:04d}", codes=[f"ac-{n:04d}"]) for n in range(ACCOUNTS)]
    made, feed = workspace("asterisk", accounts=accounts), tmp_path_factory.mktemp("feed") / "asterisk"
    crowd = {"subscribers": SUBSCRIBERS, "accounts": ACCOUNTS}
    for n in range(DAYS):
        day = FIRST + timedelta(n)
        made.deliver(asterisk_files(feed, seed=n, rows=CALLS // DAYS, files=1, day=day, **crowd))
    month_end = datetime(2026, 4, 1, 6, tzinfo=UTC)
    assert made.night(int(month_end.timestamp() * 1000)).rows == CALLS // DAYS * DAYS
    return made


def measured(site: Any) -> dict[str, Any]:
    """Return what billing and assurance link: of the month's rows, and of rows and accounts on the worst day."""
    days = [
        attack_views(site.settings, "default", FIRST + timedelta(n), 1, np.random.default_rng(n)) for n in range(DAYS)
    ]
    verdicts = [verdict for found in days for verdict in found["links"]["verdicts"]]
    rows = np.array([found["rows"]["billing"] for found in days])
    linked = np.array([verdict["rows"] for verdict in verdicts])
    named = {name: max(found["named"][name] for found in days) for name in days[0]["named"]}
    assert len(verdicts) == DAYS, "a role more is measured"
    return {
        "billing_rows": int(rows.sum()),
        "rows_linked": float((rows * linked).sum() / rows.sum()),
        "rows_linked_on_the_worst_day": float(linked.max()),
        "accounts_linked_on_the_worst_day": max(verdict["accounts"] for verdict in verdicts),
        "accounts_named_by_derived_tables": named,
        "by_table": {
            table["compared"]: round(max(_of(found, table["compared"]) for found in days), 6)
            for table in days[0]["links"]["jointly"]
        },
    }


def _of(found: dict[str, Any], name: str) -> float:
    return next((table["linked"] for table in found["links"]["jointly"] if table["compared"] == name), 0.0)


def check(found: dict[str, Any]) -> None:
    print(json.dumps(found))
    assert found["rows_linked_on_the_worst_day"] <= ROWS_BOUND
    assert found["accounts_linked_on_the_worst_day"] <= ACCOUNTS_BOUND
    # Usage is by account: who reads it is who bills. No other schema of the database names one.
    assert found["accounts_named_by_derived_tables"] == {"billing": 1.0, "assurance": 0.0, "sla": 0.0}


def test_a_month_of_two_million_calls_is_within_the_bound_as_its_nights_leave_it(site: Any) -> None:
    check(measured(site))


def test_and_once_its_dates_are_closed(site: Any) -> None:
    site.set(lake={"close_after_hours": 48.0})
    compact.compact(site.settings)
    assert all(file.closed for part in ("failed", "answered") for file in site.data_files(part))
    check(measured(site))
