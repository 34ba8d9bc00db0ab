"""The register of requests: clocks of three laws, extensions, appeals, and what lies in the clear."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward import audit, database
from callward.errors import Problem, UsageProblem
from callward.keys import approvers, signing
from callward.retention.requests import register as request_register
from callward.retention.requests.register import REGIMES, Selector
from schemas.retention import approvals, requests
from tests.examples import tries

DAYS = st.dates(date(2020, 1, 1), date(2040, 12, 31))
TODAY = date(2026, 3, 31)
WHOM = Selector("number", "+13035550101")


@pytest.fixture(scope="module")
def site(workspace: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    made = workspace("asterisk")
    key = tmp_path_factory.mktemp("persons") / "first.person"
    approvers.register(made.settings, "first.person", signing.create(key).hex())
    return made, key


def made(site: tuple[Any, Path], kind: str = "access", on: date = TODAY, **said: Any) -> request_register.Request:
    fields = {"regime": "gdpr", "identity": "passport", "wants": {}, "today": TODAY, **said}
    request = request_register.received(site[0].settings, "default", kind, WHOM, on=on, **fields)
    return request_register.record(site[0].settings, request, "first.person", site[1])


@given(DAYS)
@tries(200)
def test_each_law_has_its_clock_and_its_one_extension(day):
    month = pd.Timestamp(day) + pd.DateOffset(months=1), pd.Timestamp(day) + pd.DateOffset(months=3)
    wanted = {
        "pipeda": (day + timedelta(30), None),
        "us": (day + timedelta(45), day + timedelta(90)),
        "gdpr": tuple(at.date() for at in month),
    }
    for name, law in REGIMES.items():
        assert (law.first.last_day(day), law.extended and law.extended.last_day(day)) == wanted[name]


@given(DAYS)
def test_us_law_looks_back_twelve_months(day):
    request = request_register.Request("a", "t", "access", "open", day, day, WHOM, "us", pd.Timestamp(day))
    assert request.since == (pd.Timestamp(day) - pd.DateOffset(months=12)).date()


def test_an_extension_is_given_once_and_in_time(site):
    config, key = site[0].settings, site[1]
    request = made(site)
    longer = request_register.extend(config, request.request_id, "first.person", key, TODAY, "many calls")
    assert (longer.due, longer.last_day) == (date(2026, 4, 30), date(2026, 6, 30))
    with pytest.raises(UsageProblem, match="extended already"):
        request_register.extend(config, request.request_id, "first.person", key, TODAY, "again")
    late = made(site, on=date(2026, 2, 1))
    with pytest.raises(UsageProblem, match="no longer be extended"):
        request_register.extend(config, late.request_id, "first.person", key, TODAY, "late")
    with pytest.raises(UsageProblem, match="not extended"):
        request_register.extend(config, made(site, regime="pipeda").request_id, "first.person", key, TODAY, "never")


def test_a_dry_run_of_an_extension_or_an_appeal_changes_nothing(site):
    config, who = site[0].settings, ("first.person", site[1], TODAY)
    request = made(site)
    would = request_register.extend(config, request.request_id, *who, "many calls", dry_run=True)
    assert would.last_day == date(2026, 6, 30)
    assert request_register.find(config, request.request_id).last_day == date(2026, 4, 30)
    with pytest.raises(UsageProblem, match="no answer to appeal against"):
        request_register.appeal(config, request.request_id, *who, "", dry_run=True)


def test_requests_that_are_due_first_are_listed_first(site):
    overdue, soon = made(site, on=date(2026, 1, 5)), made(site, on=date(2026, 3, 2))
    listed = [r.request_id for r in request_register.list_requests(site[0].settings)]
    assert listed.index(overdue.request_id) < listed.index(soon.request_id)
    assert overdue.summary(TODAY).days_left == -54 and soon.summary(TODAY).days_left == 2


def test_an_appeal_is_due_sixty_days_after_it_came(site):
    config, key = site[0].settings, site[1]
    request = made(site)
    with pytest.raises(UsageProblem, match="no answer"):
        request_register.appeal(config, request.request_id, "first.person", key, TODAY, "too early")
    refused = request_register.refused(request, request_register.Refusal.IDENTITY)
    request_register.change(config, request, refused, "refused", "first.person", key)
    appealed = request_register.appeal(config, request.request_id, "first.person", key, date(2026, 5, 1), "papers")
    assert (appealed.status, appealed.due, appealed.answered_at) == ("appealed", date(2026, 6, 30), None)


def test_a_request_reads_back_as_it_was_recorded(site):
    request = made(site, "correct", wants={"account": "acct-0007", "from": "2026-03-01"})
    assert request_register.find(site[0].settings, request.request_id) == request
    assert "+1303" not in repr(request) and "+1303" not in repr(request.selector)


def test_every_change_is_signed_and_in_the_audit_log(site):
    request = made(site)
    entries = audit.newest(site[0].settings, 4)
    subject = next(e.subject for e in entries if e.event == "request-access")
    assert subject.startswith(request.request_id)
    digest = subject.split()[1]
    with database.reading(site[0].settings) as connection:
        assert approvers.approved_by(connection, request_register.APPROVAL, digest) == {"first.person"}
    assert site[0]._rows(approvals)


def test_two_who_change_a_request_at_once_do_not_both_succeed(site):
    config, key = site[0].settings, site[1]
    request = made(site)
    request_register.change(config, request, request, "verified", "first.person", key)
    with pytest.raises(Problem, match="somebody else"):
        request_register.change(config, request, request, "verified", "first.person", key)


def test_a_body_moved_to_another_request_does_not_open(site):
    config = site[0].settings
    one, two = made(site), made(site)
    with database.writing(config) as connection:
        body = connection.execute(requests.select().where(requests.c.request_id == one.request_id)).one().body
        connection.execute(requests.update().where(requests.c.request_id == two.request_id).values(body=body))
    with pytest.raises(Problem):
        request_register.find(config, two.request_id)
    with database.writing(config) as connection:
        connection.execute(requests.delete().where(requests.c.request_id == two.request_id))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"kind": "forget"}, "one of"),
        ({"on": TODAY + timedelta(1)}, "future"),
        ({"regime": "hipaa"}, "--regime"),
        ({"regime": None}, "under which law"),
    ],
)
def test_a_request_that_cannot_be_is_refused(site, said, words):
    with pytest.raises(UsageProblem, match=words):
        made(site, **said)
