"""A release that is killed anywhere and run again is out once; what died is paid, and nothing of it is left to read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callward import database
from callward.keys import exports
from callward.release import budget
from callward.settings import ReleaseCaps
from callward.template import render
from schemas.release import LOST, PUBLISHED
from tests.commands import run, start
from tests.releases import cells, charged, declare, register, text
from tests.retention import DAY, call, copied, feed, night

RHO = 1_000_000
# Where a kill leaves a reservation that is lost: what its noise was may lie on the disk.
BEFORE = ["release-reserved", "release-summed", "release-drawn", "release-written", "release-cells"]


@pytest.fixture(scope="module")
def taken_in(workspace: Callable[..., Any]) -> Any:
    """A workspace with calls and a declared table. It is only copied."""
    made = workspace("generic")
    now = made.settings
    tenant = now.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_month=0.05, rho_all=0.5)})
    now.path.write_text(render(now.model_copy(update={"tenants": {"default": tenant}})), encoding="utf-8")
    night(made, feed(*(call(n, caller=f"+130355501{n % 40:02d}") for n in range(80))))
    declare(made, text(rho="0.001"))
    return made


@pytest.fixture
def site(taken_in: Any, tmp_path: Path) -> Any:
    return copied(taken_in, tmp_path / "own")


def release(site: Any, *words: str, crash: str = "", name: str = "calls") -> Any:
    where = ["--period", DAY.isoformat(), "--config", str(site.settings.path), "--json", *words]
    return run("release", "run", name, *where, environment={"CALLWARD_CRASH_AT": crash} if crash else {})


def files(site: Any) -> set[str]:
    root: Path = site.settings.released_path
    return {path.parent.name for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("crash", BEFORE)
def test_a_killed_release_is_out_once_and_its_reservation_stays_paid(site: Any, crash: str) -> None:
    assert release(site, crash=crash).code < 0
    done = release(site).check_clean()
    assert done.code == 0
    assert [(row.status, row.rho) for row in register(site)] == [(LOST, RHO), (PUBLISHED, RHO)]
    assert charged(site) == 2 * RHO
    assert files(site) == {done.document["release_id"]}  # nothing of the first draw
    assert len(cells(site, "calls")) == 5
    again = release(site).check_clean()
    assert again.document == done.document and charged(site) == 2 * RHO


@pytest.mark.parametrize("crash", ["release-published", "epoch-export-written"])
def test_a_release_that_is_killed_after_it_is_out_is_given_back_and_exported(site: Any, crash: str) -> None:
    assert release(site, crash=crash).code < 0
    assert not exports.has_release(site.settings, register(site)[0].release_id)
    done = release(site).check_clean()
    assert done.code == 0 and [row.status for row in register(site)] == [PUBLISHED]
    assert charged(site) == RHO and files(site) == {done.document["release_id"]}
    assert exports.has_release(site.settings, done.document["release_id"])


def test_kills_end_where_the_budget_does(site: Any) -> None:
    declare(site, text(rho="0.001"))
    now = site.settings
    tenant = now.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_month=0.05, rho_all=0.002)})
    now.path.write_text(render(now.model_copy(update={"tenants": {"default": tenant}})), encoding="utf-8")
    for _ in range(2):
        assert release(site, crash="release-written").code < 0
    refused = release(site).check_clean()
    assert refused.code == 2 and "privacy budget" in refused.err
    assert charged(site) == 2 * RHO and files(site) == set()
    with database.reading(site.settings) as connection:
        assert all(row.left == 0 for row in budget.balances(site.settings, connection) if row.window == "all")


def test_two_releases_of_one_table_at_once_are_one(site: Any) -> None:
    where = ["--period", DAY.isoformat(), "--config", str(site.settings.path), "--json"]
    both = [start("release", "run", "calls", *where) for _ in range(2)]
    ended = [one.wait().check_clean() for one in both]
    out = [one.document for one in ended if one.code == 0]
    assert out and len({json.dumps(one, sort_keys=True) for one in out}) == 1
    assert all("being worked on" in one.err or "being released" in one.err for one in ended if one.code)
    assert [row.status for row in register(site)] == [PUBLISHED] and charged(site) == RHO


def test_releases_at_once_never_pass_the_cap_together(site: Any) -> None:
    names = ["one", "two", "three"]
    for name in names:
        declare(site, text(name=f'"{name}"', rho="0.0004"), name)
    (site.settings.releases_path / "calls.toml").unlink()
    now = site.settings
    tenant = now.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_month=0.05, rho_all=0.001)})
    now.path.write_text(render(now.model_copy(update={"tenants": {"default": tenant}})), encoding="utf-8")
    where = ["--period", DAY.isoformat(), "--config", str(site.settings.path), "--json"]
    ended = [one.wait().check_clean() for one in [start("release", "run", name, *where) for name in names]]
    assert sorted(one.code for one in ended) == [0, 0, 2]
    assert charged(site) == 800_000
