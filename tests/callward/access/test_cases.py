"""Cases: support sees one account of a case that is open, for its purpose; who asked is in the audit log."""

import pytest
from sqlalchemy import select

from callward import database, query
from callward.access import cases
from callward.access.cases import Case
from callward.errors import Problem, UsageProblem
from callward.initiate import root_file
from callward.retention.requests.register import Selector
from pipelines import request as requests
from schemas.tables import audit_log
from tests.retention import call, feed, night, person

TICKET = {"case": "T-42", "purpose": "quality_complaint"}
CASE = Case("T-42", "default", "acct-0007", "quality_complaint", "dropped calls")
ALL = "SELECT account, sum(attempts) AS n FROM sla_account_daily GROUP BY ALL"


@pytest.fixture(scope="module")
def taken(workspace):
    made = workspace("generic")
    night(made, feed(*(call(n, account=f"ac-000{7 + n % 2}", answered=n > 1) for n in range(5))))
    return made


@pytest.fixture
def site(taken):
    """A site after a night, in which no case was opened."""
    with database.writing(taken.settings) as connection:
        connection.execute(cases.cases.delete())
    return taken


def ask(site, sql=ALL, **case):
    return [tuple(row.values()) for row in query.query(site.settings, "support", sql, **case).to_pylist()]


def noted(site, event):
    with database.reading(site.settings) as connection:
        rows = connection.execute(select(audit_log).where(audit_log.c.event == event).order_by(audit_log.c.seq)).all()
    return [(row.role, row.subject, row.reason) for row in rows]


def test_support_sees_the_account_of_its_case_and_no_other(site):
    cases.open_case(site.settings, CASE)
    assert ask(site, **TICKET) == [("acct-0007", 3)]
    assert [row[1].split()[0] for row in noted(site, "case-open")][-1:] == ["case"]
    assert noted(site, "sql")[-1][::2] == ("support", "quality_complaint T-42")
    assert any(role == "support" and "sla/default/2026-03/sums" in name for role, name, _ in noted(site, "open"))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "give both --purpose and --case"),
        ({"case": "T-42"}, "give both"),
        ({"case": "T-43", "purpose": "quality_complaint"}, "no case T-43 is open"),
        ({"case": "T-42", "purpose": "marketing"}, "open for another purpose"),
    ],
)
def test_support_is_refused_without_an_open_case_for_its_purpose(site, asked, words):
    cases.open_case(site.settings, CASE)
    with pytest.raises((Problem, UsageProblem), match=words):
        ask(site, **asked)
    if len(asked) == 2:
        assert noted(site, "refused")[-1][:2] == ("support", f"case {asked['case']}")


def test_a_closed_case_shows_nothing_more(site):
    cases.open_case(site.settings, CASE)
    cases.close(site.settings, "T-42")
    with pytest.raises(Problem, match="no case T-42 is open"):
        ask(site, **TICKET)
    assert [one.case_id for one in cases.listed(site.settings)] == []
    assert [one.case_id for one in cases.listed(site.settings, closed=True)] == ["T-42"]
    with pytest.raises(UsageProblem, match="no case T-42 is open"):
        cases.close(site.settings, "T-42")
    with pytest.raises(UsageProblem, match="used once"):
        cases.open_case(site.settings, CASE)


@pytest.mark.parametrize("name", ["acct-0008", "acct-0007' OR account = 'acct-0008"])
def test_a_question_for_another_account_is_refused_and_noted(site, name):
    cases.open_case(site.settings, CASE)
    with pytest.raises(Problem, match="of another account"):
        ask(site, f"SELECT sum(attempts) FROM sla_account_daily WHERE account = '{name}'", **TICKET)
    assert noted(site, "refused")[-1][1:] == ("case T-42", "case T-42 is of another account than the question names")


@pytest.mark.parametrize("table", ["sla_sums", "cases", "billing_usage_daily", "billing", "failed", "keys"])
def test_support_has_no_other_table(site, table):
    cases.open_case(site.settings, CASE)
    with pytest.raises(UsageProblem, match="this role's tables: sla_account_daily"):
        ask(site, f"SELECT * FROM {table}", **TICKET)


def test_the_name_of_the_role_opens_nothing_without_its_root(site):
    cases.open_case(site.settings, CASE)
    root = root_file(site.settings, "sla")
    away = root.rename(root.with_suffix(".away"))
    try:
        with pytest.raises(Problem, match="a role is what its key roots open"):
            ask(site, **TICKET)
    finally:
        away.rename(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"account": "acct-9999"}, "no account of default"),
        ({"tenant": "other"}, "no tenant"),
        ({"reason": ""}, "a reason of 1 to 255"),
        ({"reason": "caller +13035550101"}, "--reason"),
        ({"case_id": "+13035550101"}, "number"),
    ],
)
def test_a_case_that_is_wrong_is_not_opened(site, change, words):
    with pytest.raises(UsageProblem, match=words):
        cases.open_case(site.settings, Case(**{**vars(CASE), **change}))
    assert cases.listed(site.settings, closed=True) == []


def test_an_account_that_left_the_settings_may_still_have_a_case(site):
    gone = Case(**{**vars(CASE), "account": "acct-gone"})
    assert cases.open_case(site.settings, gone, unlisted=True, dry_run=True).opened_by
    assert cases.listed(site.settings) == []


def test_a_restricted_account_is_not_shown(workspace, tmp_path):
    site = workspace("generic")
    night(site, feed(*(call(n, account=f"ac-000{7 + n % 2}") for n in range(4))))
    hand = requests.Handler("ada", person(site), tmp_path / "answer.json")
    asked = requests.NewRequest("default", "restrict", regime="gdpr", identity="passport shown")
    requests.ask(site.settings, asked, Selector("account", "acct-0007"), hand, database.now().date(), dry_run=False)
    cases.open_case(site.settings, CASE)
    cases.open_case(site.settings, Case(**{**vars(CASE), "case_id": "T-43", "account": "acct-0008"}))
    with pytest.raises(Problem, match="is restricted"):
        ask(site, **TICKET)
    assert ask(site, case="T-43", purpose="quality_complaint") == [("acct-0008", 2)]
