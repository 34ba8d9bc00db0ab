"""Rows of suspense by the day that they were seen: which of those that are due a hold keeps."""

from datetime import date, datetime, timedelta
from typing import Any, cast

import pyarrow as pa
import pytest

from callward.lake.data_files import DataFiles
from callward.lake.ledger import DataFile
from callward.retention.holds import Hold
from callward.retention.policy.rules import Policies, Policy, Rule
from callward.retention.purge.due_files import Governance
from callward.retention.purge.due_rows import Judge, Judged
from schemas.retention_classes import Window

FIRST, LAST = date(2026, 3, 5), date(2026, 3, 6)
SEEN = [date(2026, 3, day) for day in (4, 5, 6, 7, 30)]
SINCE_FIRST = [False, True, True, True, True]
AS_OF = date(2026, 6, 1)
SELECTORS: list[dict[str, Any]] = [{}, {"numbers": ("+13035550101",)}, {"accounts": ("acct-0007",)}, {"trunks": ("t",)}]


def judged(tenant: str, hold: Hold, as_of: date = AS_OF) -> Judged:
    """Suspense of a tenant with a row of each day, under a window of 20 days."""
    rule = Rule(Window.parse("20 days"), "call_end")
    law = Governance(
        {name: Policies(name, (Policy(name, 1, "test", "controller", "", {"suspense": rule}),)) for name in "ab"}
    )
    file = DataFile("f", "suspense", tenant, "suspense", "suspense/f", len(SEEN), 1, "0" * 64)
    rows = pa.table({"seen": pa.array([datetime(d.year, d.month, d.day, 23) for d in SEEN], pa.timestamp("us"))})
    # No file is opened to decide about rows of a log.
    return Judge(cast(DataFiles, None), law, [hold], as_of, as_of).of_log(file, rows)


@pytest.mark.parametrize("selectors", SELECTORS, ids=str)
@pytest.mark.parametrize("last", [None, FIRST, LAST])
def test_suspense_seen_on_a_holds_first_day_or_later_is_kept_past_its_last(
    last: date | None, selectors: dict[str, Any]
) -> None:
    hold = Hold("1", "a", "litigation", "a court", "case", first=FIRST, last=last, **selectors)
    assert judged("a", hold).held.tolist() == SINCE_FIRST
    assert judged("a", hold).going.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("selectors", SELECTORS, ids=str)
@pytest.mark.parametrize("tenant", ["_unknown", "_shared"])
def test_suspense_that_is_of_no_one_tenant_is_kept_for_a_hold_of_any(tenant: str, selectors: dict[str, Any]) -> None:
    hold = Hold("1", "a", "litigation", "a court", "case", first=FIRST, last=LAST, **selectors)
    assert judged(tenant, hold).held.tolist() == SINCE_FIRST
    assert not judged("b", hold).held.any()


def test_suspense_that_is_not_due_is_not_counted_as_held() -> None:
    some = judged("a", Hold("1", "a", "litigation", "a court", "case"), SEEN[2] + timedelta(21))
    assert some.due.tolist() == some.held.tolist() == [True, True, True, False, False]
