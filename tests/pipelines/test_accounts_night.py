"""A night looks up whom the directory names on the day of each call, and bills by that account's own days."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from callward import database
from callward.access.cases import Case, open_case
from callward.accounts.register import known
from callward.errors import UsageProblem
from callward.settings import Tenant, Trunk
from pipelines import accounts, assigning
from schemas.retention_classes import CLASSES
from schemas.tables import billing_usage_daily
from tests.commands import run

Make = Callable[..., Any]

_HEAD = "id,calling_number,called_number,start,answer,end,talk_s,ingress_trunk,egress_trunk,account_code\n"
_KEPT = dict.fromkeys(CLASSES, "99 years")


def call(number: int, day: int, hour: int, called: str = "", code: str = "") -> str:
    """A call of a minute on a day of March 2026 (UTC): inbound where a number is called, else outbound by a trunk."""
    minute = f"2026-03-{day:02d} {hour:02d}:{number:02d}"
    parties, trunks = ["+12125550160", called or "+12125550161"], ["carrier", ""] if called else ["pbx", "carrier"]
    return (
        ",".join([f"id-{number}", *parties, f"{minute}:00", f"{minute}:10", f"{minute}:59", "49", *trunks, code]) + "\n"
    )


@pytest.fixture
def site(workspace: Make) -> Any:
    trunks = [Trunk(name="pbx", side="customer"), Trunk(name="carrier", carrier="north")]
    return workspace("generic", accounts=[], trunks=trunks, tenants={"default": Tenant(retention=_KEPT)})


def _import(site: Any, text: str, **how: Any) -> None:
    path: Path = site.folder / "accounts.csv"
    path.write_text(text)
    accounts.import_file(site.settings, path, **how)


def _night(site: Any, name: str, *calls: str) -> None:
    site.land("generic", name, (_HEAD + "".join(calls)).encode())
    site.night()


def _billed(site: Any) -> list[tuple[str, str]]:
    rows = site.view("billing").select(["account", "start"]).to_pylist()
    return sorted((row["account"], f"{row['start']:%d %H}") for row in rows)


def _usage(site: Any) -> list[tuple[str, int, int]]:
    u = billing_usage_daily.c
    with database.reading(site.settings) as connection:
        rows = connection.execute(select(u.account, u.billing_date, u.calls)).all()
    calls = Counter[tuple[str, int]]()
    for row in rows:
        calls[row.account, row.billing_date.day] += row.calls
    return sorted((*key, count) for key, count in calls.items() if count)


def test_calls_are_those_of_who_had_the_number_on_their_day(site: Any) -> None:
    _import(
        site, "account,number,last,code,until\na,+13035550110,+13035550119,,\nb,+13035550112,,,2026-03-05\nc,,,ac-c,\n"
    )
    calls = [call(1, 5, 12, "+13035550110"), call(2, 5, 12, "+13035550112"), call(3, 6, 12, "+13035550112")]
    _night(site, "a.csv", *calls, call(4, 5, 12), call(5, 5, 12, code="ac-c"))
    assert _billed(site) == [("a", "05 12"), ("a", "06 12"), ("b", "05 12"), ("c", "05 12"), ("unassigned", "05 12")]


def test_an_import_counts_from_the_next_block_on_and_what_was_billed_stays(site: Any) -> None:
    _import(site, "account,number\na,+13035550110\n")
    _night(site, "a.csv", call(1, 5, 12, "+13035550110"))
    _import(site, "account,number,trunk\nb,+13035550110,\nb,,pbx\n", start=date(2026, 3, 6))
    _night(
        site, "b.csv", call(2, 5, 13, "+13035550110"), call(3, 6, 13, "+13035550110"), call(4, 6, 14), call(5, 5, 14)
    )
    assert _billed(site) == [("a", "05 12"), ("a", "05 13"), ("b", "06 13"), ("b", "06 14"), ("unassigned", "05 14")]
    assert site.differing() == 0


def test_usage_is_summed_by_the_days_of_the_accounts_zone(site: Any) -> None:
    _import(site, "account,number,zone\nfar,+13035550110,America/Denver\nnear,+13035550111,\n")
    _night(site, "a.csv", *(call(n, 6, 3, f"+1303555011{n}") for n in (0, 1)))
    assert _usage(site) == [("far", 5, 1), ("near", 6, 1)]
    assert site.differing() == 0


def test_a_zone_that_would_move_usage_is_refused(site: Any) -> None:
    _import(site, "account,number,zone\nfar,+13035550110,America/Denver\nnear,+13035550111,\n")
    _night(site, "a.csv", call(0, 6, 3, "+13035550110"))
    for text in (
        "account,number,zone\nfar,+13035550110,UTC\n",
        "account,number,zone\nnear,+13035550111,\n",
    ):
        with pytest.raises(UsageProblem, match="account 'far' would have another billing zone"):
            _import(site, text)
    _import(site, "account,number\nfar,+13035550112\n")  # without a column of zones they stay
    _import(site, "account,number,zone\nnear,+13035550111,America/Chicago\nfar,+13035550110,\n", add=True)  # no usage
    assert [a.zone for a in accounts.listed(site.settings, None, None, 9)] == ["America/Denver", "America/Chicago"]


# -- calls of no account -----------------------------------------------------------------------------------------------


@pytest.fixture
def forgotten(site: Any) -> Any:
    """A site whose directory named nobody when its calls came in, and names their accounts now."""
    inbound = [call(n, 5, 12, f"+1303555011{n}") for n in (0, 1, 2)]
    _night(site, "a.csv", *inbound, call(3, 6, 12, "+13035550110"), call(4, 6, 12))
    _import(
        site,
        "account,number,trunk,zone,since\na,+13035550110,,America/Denver,\nb,+13035550111,,,2026-03-06\nc,,pbx,,\n",
    )
    return site


def test_an_imported_account_with_usage_is_one_that_a_hold_and_a_case_may_name(site: Any) -> None:
    _import(site, "account,number\na,+13035550110\nb,+13035550111\n")
    _night(site, "a.csv", call(1, 5, 12, "+13035550110"), call(2, 5, 12))
    assert known(site.settings, "default") == {"a"}  # neither b, which has no usage, nor "unassigned"
    case = Case("T-1", "default", "a", "quality_complaint", "dropped calls")
    assert open_case(site.settings, case).account == "a"
    with pytest.raises(UsageProblem, match="no account of default is called 'aa'"):
        open_case(site.settings, replace(case, case_id="T-2", account="aa"))


def test_unassigned_calls_are_listed_by_trunk_and_masked_shape(forgotten: Any) -> None:
    listed = assigning.listed(forgotten.settings, None, None, None)
    assert [(one.direction, one.trunk, one.number, one.calls, one.first, one.last) for one in listed] == [
        ("inbound", "carrier", "+###########", 4, "2026-03-05", "2026-03-06"),
        ("outbound", "pbx", "+###########", 1, "2026-03-06", "2026-03-06"),
    ]
    assert [one.calls for one in assigning.listed(forgotten.settings, None, date(2026, 3, 6), None)] == [1, 1]


def test_assigned_calls_are_as_if_the_directory_had_been_there(forgotten: Any) -> None:
    dry = assigning.assign(forgotten.settings, dry_run=True)
    assert {(one.account, one.calls) for one in dry.accounts} == {("a", 2), ("c", 1), ("unassigned", 2)}
    assert _usage(forgotten) == [("unassigned", 5, 3), ("unassigned", 6, 2)]
    assert assigning.assign(forgotten.settings).accounts == dry.accounts
    assert _billed(forgotten) == [("a", "05 12"), ("a", "06 12"), ("c", "06 12"), *[("unassigned", "05 12")] * 2]
    assert _usage(forgotten) == [("a", 5, 1), ("a", 6, 1), ("c", 6, 1), ("unassigned", 5, 2)]
    assert forgotten.differing() == 0
    assert {one.account for one in assigning.assign(forgotten.settings).accounts} == {"unassigned"}


@pytest.mark.parametrize("where", ["view-written", "assign-ready", "assign-committed"])
def test_an_assignment_that_is_killed_is_gone_on_with(forgotten: Any, where: str) -> None:
    command = ["accounts", "assign", "--config", str(forgotten.settings.path)]
    assert run(*command, environment={"CALLWARD_CRASH_AT": where}).code < 0
    assert run(*command).check_clean().code == 0
    assert _usage(forgotten) == [("a", 5, 1), ("a", 6, 1), ("c", 6, 1), ("unassigned", 5, 2)]
    assert forgotten.differing() == 0
