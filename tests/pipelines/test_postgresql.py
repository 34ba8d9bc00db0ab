"""A night on a real PostgreSQL server, which the test starts for itself on loopback and stops again."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from callward import audit, database, initiate, query
from callward.errors import Problem
from callward.evidence import certificates
from callward.feeds import generate
from callward.keys import exports, rotation
from callward.keys.keys import KeyGone
from callward.keys.register import KeyName, Keyring, keyring
from callward.settings import ReleaseCaps
from callward.template import render
from pipelines.compact import compact, fold_entries
from schemas import tables
from schemas.tables import keys
from tests import commands, releases, retention
from tests.comparison import verify
from tests.postgresql import on_loopback


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small day of Asterisk and Kamailio-like records, with duplicates, conflicts and dirt."""
    folder = tmp_path_factory.mktemp("feed")
    generate(folder, seed=11, day=date(2026, 3, 5), calls=600, dirt=0.01, sources=("asterisk", "opensips"))
    return folder


def _land(site: Any, feed: Path) -> None:
    site.deliver(sorted(path for path in feed.rglob("*") if path.is_file()))


def test_night_on_postgresql_equals_night_on_sqlite(workspace: Any, server_url: str, feed: Path) -> None:
    ours, theirs = (
        workspace("asterisk", "opensips", database=on_loopback(server_url)),
        workspace("asterisk", "opensips"),
    )
    initiate.upgrade(ours.settings)
    _copy_keys(theirs, ours)
    for site in (ours, theirs):
        _land(site, feed)
        site.night()
    assert not ours.unbalanced()
    assert ours.balances() == theirs.balances()
    assert ours.derived() == theirs.derived()
    for view in ("billing", "assurance"):
        assert ours.view(view).num_rows > 100
        assert ours.view(view).equals(theirs.view(view))
    assert ours.differing() == 0
    _asks_and_verifies(ours)
    _changes_nothing_twice(ours, feed)


def _copy_keys(source: Any, target: Any) -> None:
    """The register of one workspace into another: with the same roots it gives the same ids."""
    with database.reading(source.settings) as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(keys))]
    with database.writing(target.settings) as connection:
        connection.execute(insert(keys), rows)


def _asks_and_verifies(site: Any) -> None:
    answer = query.query(
        site.settings, "assurance", "SELECT sum(attempts)::BIGINT AS n FROM trunk_kpi WHERE side = 'ingress'"
    )
    callers = [leg for leg in site.view("assurance")["leg"].to_pylist() if leg == 0]
    assert answer["n"].to_pylist() == [len(callers)]
    length, head = audit.checked(site.settings)
    assert length > 10 and len(head) == 64


def _changes_nothing_twice(site: Any, feed: Path) -> None:
    before = site.derived(), site.view("billing")
    site.deliver(sorted(path for path in feed.rglob("*") if path.is_file()), prefix="again-")
    again = site.night()
    # Dirt is suspended again (the record did not come in), all that came in is a duplicate.
    assert sum(item.buckets["accepted"] for item in again.files) == 0
    assert site.derived() == before[0]
    assert site.view("billing").equals(before[1])


def test_small_files_are_merged_on_postgresql_and_all_is_as_on_sqlite(workspace: Any, fresh_url: str) -> None:
    """Merged under a query that is held open; what a purge then comes to stays what it is on SQLite."""
    waves, lake = {"records": 5, "block_mebibytes": 0.0005}, {"compact_files": 3, "grace_minutes": 0.0}
    ours = workspace("generic", waves=waves, lake=lake, database=on_loopback(fresh_url), retention=retention.WINDOWS)
    theirs = workspace("generic", retention=retention.WINDOWS)
    initiate.upgrade(ours.settings)
    _copy_keys(theirs, ours)
    retention.night(theirs, retention.feed(*map(retention.call, range(16))))
    ours.set(lake={"compact_files": 1000})
    retention.night(ours, retention.feed(*map(retention.call, range(16))))
    ours.set(lake=lake)
    assert len(ours.data_files("assurance")) >= 3
    with query.asking(ours.settings, "assurance", "SELECT count(*) AS n FROM assurance") as answer:
        assert {row.view for row in compact(ours.settings).merged} == {"billing", "answered", "index", "archive"}
        assert answer.read_all().to_pylist() == [{"n": 16}]
    assert len(ours.data_files("assurance")) == 1
    assert list(map(str, verify(theirs.settings, ours.settings).first)) == []
    _fold(ours)
    done = [retention.purged(site, date(2026, 9, 2)) for site in (theirs, ours)]
    assert [one["failed_checks"] for one in done] == [[], []]
    sums = [[(row["class"], row["deleted"]) for row in one["classes"] if row["class"] != "archive"] for one in done]
    assert sums[0] == sums[1]


def _fold(site: Any) -> None:
    """As if the nights had been a stream."""
    before = site.balances()
    with database.writing(site.settings) as connection:
        connection.execute(update(tables.runs).values(kind="stream"))
    assert fold_entries(site.settings) > 0  # the waves of one file
    assert site.balances() == before


def test_two_roles_mint_one_key_on_postgresql(workspace: Any, fresh_url: str) -> None:
    site = workspace("asterisk", database=on_loopback(fresh_url))
    initiate.upgrade(site.settings)
    name = KeyName("assurance", "default", "2031-01", "meta")
    assert keyring(site.settings, "billing-run", "one").key(name) == keyring(site.settings, "billing-run", "two").key(
        name
    )


def test_a_destroyed_key_is_dead_on_postgresql_and_an_export_restores_the_others(
    workspace: Any, fresh_url: str, tmp_path: Path
) -> None:
    site = workspace("asterisk", database=on_loopback(fresh_url))
    settings = site.settings
    initiate.upgrade(settings)
    names = [KeyName("late", "default", f"2040-{month:02d}", "records") for month in range(1, 4)]
    minted = keyring(settings, "retention-run", "test").keys(names)
    before = exports.write(settings, "before")
    kept_aside = before.rename(tmp_path / before.name)
    for _ in range(2):
        rotation.destroy(settings, [minted[0].key_id], role="retention-run", reason="test")
    assert [rotation.dead(settings, key.key_id) for key in minted] == [True, False, False]
    fresh = Keyring(settings, "retention-run", "fresh")
    assert fresh.keys(names[1:]) == minted[1:]
    with pytest.raises(KeyGone):
        fresh.key(names[0])
    with pytest.raises(Problem, match="newest export"):
        exports.restore(settings, kept_aside)
    done = exports.restore(settings, exports.list_exports(settings.register_path)[0])
    assert (done.keys.destroyed, done.keys.closed) == (0, 0)
    assert rotation.add_copy(settings, "late", "safe 2").copy_no == 1
    assert rotation.confirm_copy(settings, 1).destroyed


def test_releases_on_postgresql(workspace: Any, fresh_url: str) -> None:
    """Run, run again for the same bytes, two tables at once that only fit the budget one by one, and the balance."""
    site = workspace("generic", database=on_loopback(fresh_url))
    initiate.upgrade(site.settings)
    retention.night(site, retention.feed(*(retention.call(n) for n in range(60))))
    for name in ("calls", "other"):
        releases.declare(site, releases.text(name=f'"{name}"', rho="0.002", lateness_days="0"), name)
    capped = {"default": site.settings.tenants["default"].model_copy(update={"release": ReleaseCaps(rho_all=0.004)})}
    site.settings.path.write_text(render(site.settings.model_copy(update={"tenants": capped})), encoding="utf-8")
    where = ["--period", retention.DAY.isoformat(), "--config", str(site.settings.path), "--json"]
    at_once = [commands.start("release", "run", name, *where) for name in ("calls", "calls", "other")]
    ended = [one.wait().check_clean() for one in at_once]
    assert [one.err for one in ended if one.code and not re.search("being (worked on|released)", one.err)] == []
    names = {one.document["name"]: one.document for one in ended if one.code == 0}
    assert names
    again = [commands.run("release", "run", name, *where).check_clean() for name in ("calls", "other")]
    assert [one.code for one in again] == [0, 0]
    assert all(names.get(one.document["name"], one.document) == one.document for one in again)
    balance = commands.run("release", "budget", "--json", "--config", str(site.settings.path)).document
    assert {(row["window"], row["spent"], row["left"]) for row in balance} >= {("all", 0.004, 0.0)}
    releases.declare(site, releases.text(name='"third"', rho="0.001", lateness_days="0"), "third")
    assert commands.run("release", "run", "third", *where).code == 2
    cells = query.query(site.settings, "analytics", "SELECT count(*) AS n, count(calls) AS shown FROM calls")
    assert cells.to_pylist() == [{"n": 5, "shown": 5}]
    assert exports.has_release(site.settings, again[0].document["release_id"])


def test_retention_on_postgresql(workspace: Any, fresh_url: str) -> None:
    """A policy of two people, a hold, a purge that keeps what is held, its release, and the purge that completes it."""
    site = workspace("generic", database=on_loopback(fresh_url))
    initiate.upgrade(site.settings)
    retention.activate(site, retention.policy_text(retention.WINDOWS))
    retention.night(site)
    placed = retention.hold(site, numbers=(retention.OTHER,))
    first = retention.purged(site, date(2026, 9, 2))
    assert (site.view("billing").num_rows, site.view("assurance").num_rows) == (0, 0)
    assert [row["calling_number"] for row in retention.held(site, "held-billing")] == [retention.OTHER]
    retention.release(site, placed)
    second = retention.purged(site, date(2026, 9, 2))
    assert (first["status"], second["status"]) == ("partial", "done")
    assert retention.files(site, "held-billing") == []
    for done in (first, second):
        assert [c.sentence for c in certificates.verify(site.settings, done["certificate"]) if not c.ok] == []
    assert not site.unbalanced() and site.differing() == 0
    overdue = query.query(site.settings, "compliance", "SELECT sum(overdue)::BIGINT AS n FROM retention_due")
    assert overdue["n"].to_pylist() == [0]
    assert exports.list_exports(site.settings.register_path)
