"""The write-once ledger: paid before anything is drawn, never more than the cap, never two of one table and period."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from callward import audit, database, runs
from callward.errors import Problem, UsageProblem
from callward.release import budget
from callward.release.budget import Published, Reservation, Spent
from callward.release.declaration import Period, Release
from callward.settings import ReleaseCaps
from callward.template import render
from schemas.release import LOST, NANO, PUBLISHED, releases
from schemas.tables import partitions
from tests.examples import tries
from tests.releases import HOUR, charged, made, register

DAY = Period.parse("day", "2026-03-05")
Site = Any


@pytest.fixture
def site(workspace: Callable[..., Any]) -> Any:
    return workspace("generic")


@pytest.fixture
def run_id(site: Site) -> Iterator[str]:
    with runs.running(site.settings, "release", ["release/test"]) as run_id:
        yield run_id


def cap(site: Site, month: float, ever: float = 10.0) -> None:
    now = site.settings
    tenant = now.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_month=month, rho_all=ever)})
    now.path.write_text(render(now.model_copy(update={"tenants": {"default": tenant}})), encoding="utf-8")


def reserve(site: Site, run_id: str, release: Release, period: Period = DAY, **options: Any) -> Any:
    with database.writing(site.settings) as connection:
        return budget.reserve(site.settings, connection, run_id, release, period, **options)


def publish(site: Site, run_id: str, reserved: Any) -> None:
    assert isinstance(reserved, Reservation)
    with database.writing(site.settings) as connection:
        budget.publish(connection, run_id, reserved, {}, "{}", [])


def late(site: Site, version: int = 2) -> None:
    with database.writing(site.settings) as connection:
        connection.execute(insert(partitions).values(tenant="default", part="2026-03-05", version=version))


def test_what_is_published_is_given_back_and_costs_nothing(site: Site, run_id: str) -> None:
    publish(site, run_id, reserve(site, run_id, made()))
    again = reserve(site, run_id, made())
    assert isinstance(again, Published) and charged(site) == made().rho
    assert again.release_id == register(site)[0].release_id


@pytest.mark.parametrize(
    "change", [{"rho": "0.0005"}, {"dimensions": HOUR}, {"suppress_below": "11"}, {"measures": ("calls",)}]
)
def test_a_second_declaration_over_a_period_that_is_out_is_refused(site: Site, run_id: str, change: Any) -> None:
    publish(site, run_id, reserve(site, run_id, made()))
    for correct in (False, True):
        with pytest.raises(UsageProblem, match="another declaration"):
            reserve(site, run_id, made(**change), correct=correct)
    next_day = Period.parse("day", "2026-03-06")
    assert isinstance(reserve(site, run_id, made(**change), next_day), Reservation)


def test_a_charge_whose_reservation_was_forgotten_stays_paid_and_is_never_charged_for_again(
    site: Site, run_id: str
) -> None:
    """As after a restore: only the charge of a reservation is put back."""
    forgotten = reserve(site, run_id, made())
    with database.writing(site.settings) as connection:
        connection.execute(delete(releases))
    anew = reserve(site, run_id, made())
    assert anew.release_id != forgotten.release_id and charged(site) == 2 * made().rho
    with database.reading(site.settings) as connection:
        (ever,) = [row for row in budget.balances(site.settings, connection) if row.window == "all"]
    assert (ever.spent, ever.lost) == (2 * made().rho, made().rho)


def test_a_grain_that_covers_a_day_that_is_out_is_another_declaration(site: Site, run_id: str) -> None:
    publish(site, run_id, reserve(site, run_id, made()))
    with pytest.raises(UsageProblem, match="another declaration"):
        reserve(site, run_id, made(grain='"month"'), Period.parse("month", "2026-03"))


def test_a_period_is_not_published_before_it_is_over_and_its_lateness_has_passed(site: Site, run_id: str) -> None:
    today = database.now()
    for days, early in ((0, True), (3, True), (4, False)):
        period = Period.holding("day", (today - timedelta(days=days)).date())
        if early:
            with pytest.raises(UsageProblem, match="may be released from"):
                reserve(site, run_id, made(), period)
        else:
            assert isinstance(reserve(site, run_id, made(), period), Reservation)


def test_a_clock_behind_the_registers_releases_nothing(site: Site, run_id: str) -> None:
    audit.record(site.settings, [audit.Entry("test", "test", "test", "an entry of today")])
    yesterday = database.now() - timedelta(days=1)
    with pytest.raises(Problem, match="the clock says"):
        reserve(site, run_id, made(), now=yesterday)
    ahead = database.now() + timedelta(days=2)
    assert isinstance(reserve(site, run_id, made(), now=ahead), Reservation)
    with pytest.raises(Problem, match="the clock says"):  # it was ahead, and is right again: a person must look
        reserve(site, run_id, made(), Period.parse("day", "2026-03-06"))
    assert len(register(site)) == 1


def test_a_reservation_of_a_dead_run_is_lost_and_stays_paid(site: Site) -> None:
    with runs.running(site.settings, "release", ["release/test"]) as first:
        reserve(site, first, made())
        with runs.running(site.settings, "release", ["release/other"]) as second, pytest.raises(Problem, match="wait"):
            reserve(site, second, made())
        runs.finish(site.settings, first, "done")
    with runs.running(site.settings, "release", ["release/test"]) as third:
        publish(site, third, reserve(site, third, made()))
    assert [(row.status, row.attempt) for row in register(site)] == [(LOST, 1), (PUBLISHED, 2)]
    assert charged(site) == 2 * made().rho
    assert len({row.release_id for row in register(site)}) == 2


def test_a_lost_reservation_publishes_nothing(site: Site, run_id: str) -> None:
    reserved = reserve(site, run_id, made())
    with database.writing(site.settings) as connection:
        connection.execute(update(releases).values(status=LOST))
    with pytest.raises(Problem, match="was lost"):
        publish(site, run_id, reserved)
    assert register(site)[0].status == LOST


def test_nothing_is_charged_beyond_the_cap(site: Site, run_id: str) -> None:
    cap(site, 0.0025)
    days = [Period.parse("day", f"2026-03-0{n}") for n in range(1, 5)]
    for day in days[:2]:
        reserve(site, run_id, made(), day)
    for day in days[2:]:
        with pytest.raises(Spent, match=r"0\.0005 of 0\.0025 are left"):
            reserve(site, run_id, made(), day)
    assert isinstance(
        reserve(site, run_id, made(name='"small"', rho="0.0005"), days[2]), Reservation
    )  # to the last bit
    assert isinstance(reserve(site, run_id, made(), Period.parse("day", "2026-04-01")), Reservation)  # another month
    assert charged(site, "2026-03") == int(0.0025 * NANO) and charged(site) == int(0.0035 * NANO)


def test_the_cap_over_all_months_counts_too(site: Site, run_id: str) -> None:
    cap(site, 1.0, 0.0015)
    reserve(site, run_id, made())
    with pytest.raises(Spent, match="default/subscriber/all"):
        reserve(site, run_id, made(), Period.parse("day", "2026-04-01"))


def test_what_protects_an_account_is_charged_to_its_subscribers_too(site: Site, run_id: str) -> None:
    cap(site, 0.0015)
    account = made(name='"accounts"', unit='"account"', measures=("calls",))
    reserve(site, run_id, account)
    assert charged(site, unit="subscriber") == charged(site, unit="account") == account.rho
    with pytest.raises(Spent):
        reserve(site, run_id, made())
    assert charged(site, unit="account") == account.rho


def test_a_threshold_table_costs_no_budget_and_two_over_the_same_calls_are_refused(site: Site, run_id: str) -> None:
    cap(site, 0)
    inside = made(name='"inside"', rho=None)
    publish(site, run_id, reserve(site, run_id, inside))
    assert charged(site) == 0
    for other in (made(name='"other"', rho=None), made(name='"other"', rho=None, grain='"month"')):
        with pytest.raises(UsageProblem, match="over the same calls"):
            reserve(site, run_id, other, Period.holding(other.grain, DAY.start))
    coarser = made(name='"outside"', rho=None, more='[suppression]\ncoarsens = "inside"\nk = 15\n')
    with pytest.raises(UsageProblem, match="not released for 2026-03-06"):
        reserve(site, run_id, coarser, Period.parse("day", "2026-03-06"))
    assert isinstance(reserve(site, run_id, coarser), Reservation)


def test_no_threshold_table_joins_cells_of_one_with_other_calls(site: Site, run_id: str) -> None:
    publish(site, run_id, reserve(site, run_id, made(name='"inside"', rho=None)))
    late(site)
    with pytest.raises(UsageProblem, match="came in since"):
        reserve(site, run_id, made(name='"outside"', rho=None, more='[suppression]\ncoarsens = "inside"\nk = 15\n'))


def test_a_correction_is_paid_again_and_only_where_something_changed(site: Site, run_id: str) -> None:
    with pytest.raises(UsageProblem, match="nothing to correct"):
        reserve(site, run_id, made(), correct=True)
    publish(site, run_id, reserve(site, run_id, made()))
    with pytest.raises(UsageProblem, match="nothing has changed"):
        reserve(site, run_id, made(), correct=True)
    late(site)
    publish(site, run_id, reserve(site, run_id, made(), correct=True))
    assert charged(site) == 2 * made().rho and [row.correction_no for row in register(site)] == [0, 1]
    again = reserve(site, run_id, made())
    assert isinstance(again, Published) and again.row.correction_no == 1
    with pytest.raises(UsageProblem, match="nothing has changed"):
        reserve(site, run_id, made(), correct=True)


def test_a_threshold_table_is_never_corrected(site: Site, run_id: str) -> None:
    inside = made(rho=None)
    publish(site, run_id, reserve(site, run_id, inside))
    late(site)
    with pytest.raises(UsageProblem, match="never corrected"):
        reserve(site, run_id, inside, correct=True)


def test_a_changed_cap_is_in_the_audit_log(site: Site, run_id: str) -> None:
    reserve(site, run_id, made())
    cap(site, 0.5)
    reserve(site, run_id, made(), Period.parse("day", "2026-03-06"))
    said = [entry.reason for entry in audit.newest(site.settings, 50) if entry.event == "release-cap"]
    assert any("0.21 to 0.5 rho" in reason for reason in said)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 30))
@tries(6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_for_no_scope_passes_its_cap(workspace: Any, asked: list[int], most: int) -> None:
    fresh = workspace("generic")
    cap(fresh, most / 1000)
    granted = 0
    with runs.running(fresh.settings, "release", ["release/test"]) as run_id:
        for number, milli in enumerate(asked):
            release = made(name=f'"t{chr(97 + number)}"', rho=f"{milli / 1000}")
            if granted + milli <= most:
                reserve(fresh, run_id, release)
                granted += milli
            else:
                with pytest.raises(Spent):
                    reserve(fresh, run_id, release)
        runs.finish(fresh.settings, run_id, "done")
    with database.reading(fresh.settings) as connection:
        found = {row.window: row for row in budget.balances(fresh.settings, connection)}
    assert not granted or found["2026-03"].spent == granted * NANO // 1000 <= found["2026-03"].cap


def test_an_id_has_no_digit_and_tells_attempts_apart(site: Site, run_id: str) -> None:
    reserved = reserve(site, run_id, made())
    assert reserved.release_id.isalpha() and len(reserved.release_id) == 32
