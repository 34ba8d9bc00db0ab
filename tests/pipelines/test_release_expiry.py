"""Anonymize at expiry: what is past its window becomes released cells first; then rows go and their keys die."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from callward import database, query
from callward.settings import ReleaseCaps
from callward.template import render
from pipelines import release as releasing
from schemas.release import LOST, PUBLISHED
from tests.commands import run
from tests.releases import HOUR, cells, charged, declare, register, text
from tests.retention import (
    ASSURANCE_KEPT,
    DAY,
    WINDOWS,
    activate,
    call,
    copied,
    feed,
    files,
    night,
    person,
    policy_text,
    purge,
    purged,
    states,
)

DUE = ASSURANCE_KEPT + timedelta(1)
MONTH_GONE = date(2026, 5, 12)  # the last day on which anything of March stands open in the assurance view
QUALITY = text(
    name='"quality"', view='"assurance"', unit='"account"', measures=("attempts",), dimensions=HOUR, rho="0.002"
)


@pytest.fixture(scope="module")
def taken_in(workspace: Callable[..., Any]) -> Any:
    """A workspace with calls and a declared table. It is only copied."""
    made = workspace("generic", retention=WINDOWS)
    night(made, feed(*(call(n, account=f"ac-{n % 40:04d}") for n in range(80))))
    declare(made, QUALITY, "quality")
    return made


@pytest.fixture
def site(taken_in: Any, tmp_path: Path) -> Any:
    return copied(taken_in, tmp_path / "own")


def test_due_rows_are_released_before_they_go_and_their_keys_die(site: Any) -> None:
    done = purged(site, DUE)
    assert done["warnings"] == []
    assert [(row.name, row.status, row.view) for row in register(site)] == [("quality", PUBLISHED, "assurance")]
    assert files(site, "assurance") == []
    purged(site, MONTH_GONE)
    assert states(site)["assurance/meta"] == "destroyed" and len(register(site)) == 1
    assert len(cells(site, "attempts", "quality")) == 24
    shown = query.query(site.settings, "analytics", "SELECT hour, attempts FROM quality").num_rows
    assert shown == 24


def test_what_is_out_already_is_not_released_again(site: Any) -> None:
    releasing.run(site.settings, "quality", DAY.isoformat())
    before = cells(site, "attempts", "quality")
    purged(site, DUE)
    assert charged(site) == 2_000_000 and cells(site, "attempts", "quality") == before


def test_a_purge_waits_for_no_release(site: Any) -> None:
    """Retention is the law; a table is only useful. What could not be released is said."""
    now = site.settings
    tenant = now.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_month=0.5, rho_all=0.001)})
    now.path.write_text(render(now.model_copy(update={"tenants": {"default": tenant}})), encoding="utf-8")
    done = purged(site, DUE)
    assert files(site, "assurance") == [] and register(site) == []
    assert any("went without quality" in sentence and "budget" in sentence for sentence in done["warnings"])


def test_a_broken_declaration_does_not_keep_rows(site: Any) -> None:
    declare(site, "nonsense", "quality")
    done = purged(site, DUE)
    assert files(site, "assurance") == [] and any("no table was released" in one for one in done["warnings"])


def test_rows_that_the_policy_deletes_become_no_cells(site: Any) -> None:
    activate(site, policy_text(WINDOWS, at_expiry="purge"))
    purged(site, DUE)
    assert files(site, "assurance") == [] and register(site) == []


def test_a_dry_run_releases_nothing(site: Any) -> None:
    purge(site.settings, DUE, dry_run=True)
    assert register(site) == [] and files(site, "assurance")


def test_a_table_over_another_view_is_not_released_for_it(site: Any) -> None:
    declare(site, text(name='"traffic"'), "traffic")
    purged(site, DUE)
    assert [row.name for row in register(site)] == ["quality"]


CRASHES = [("release-written", [LOST, PUBLISHED]), ("release-published", [PUBLISHED])]


@pytest.mark.parametrize(("crash", "expected"), CRASHES)
def test_a_purge_that_is_killed_at_its_release_goes_on(site: Any, crash: str, expected: list[str]) -> None:
    plan = purge(site.settings, DUE)["plan_id"]
    database.engine(site.settings).dispose()
    words = ["purge", "--approve", plan, "--person", "ada", "--key", str(person(site)), "--config"]
    words += [str(site.settings.path), "--json"]
    assert run(*words, environment={"CALLWARD_CRASH_AT": crash}).code < 0
    assert files(site, "assurance")  # nothing went yet
    purged(site, DUE)
    assert files(site, "assurance") == [] and [row.status for row in register(site)] == expected


def test_a_period_of_which_rows_went_is_never_released(site: Any) -> None:
    purged(site, DUE)
    declare(site, QUALITY.replace('"quality"', '"after"'), "after")
    with pytest.raises(Exception, match="past their window and gone"):
        releasing.run(site.settings, "after", DAY.isoformat())
    assert [row.name for row in register(site)] == ["quality"]
