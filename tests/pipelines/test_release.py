"""Releases through their own entry point: what is out stays as it is, whatever is asked, is killed, or comes late."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from callward import audit, database, query
from callward.errors import Problem, UsageProblem
from callward.keys import exports
from callward.keys.roots import root_file
from callward.release.budget import Spent
from callward.settings import KEY_DOMAINS, ReleaseCaps
from callward.template import render
from pipelines import release as releasing
from pipelines.nightly import nightly
from schemas.release import NANO, analytics_cells, release_charges, releases
from schemas.tables import lake_files, runs
from tests.releases import DIRECTION, HOUR, cells, charged, declare, register, text
from tests.retention import DAY, call, feed, night

QUIET = "0.2"  # rho of a table whose noise is a few: its figures can be told apart in tests
PERIOD = DAY.isoformat()
ACCOUNTS = 40
# How calls are spread over the hours of a day: some hours have next to none.
_HOURS = np.array([1, 0, 0, 0, 0, 1, 2, 4, 8, 12, 14, 12, 10, 9, 8, 6, 5, 3, 2, 1, 1, 0.5, 0.3, 0.2])
_HOURS /= _HOURS.sum()


def many(calls: int = 600, first: int = 0, day: date = DAY) -> list[str]:
    """Calls of as many lines as there are accounts."""
    lines = []
    for number in range(first, first + calls):
        who = number % ACCOUNTS
        lines.append(call(number, day, f"+130355501{who:02d}", f"ac-{who:04d}"))
    return lines


@pytest.fixture(scope="module")
def filled(workspace: Callable[..., Any]) -> Callable[..., Any]:
    """filled(lines) → a workspace after one night over them; its budget is more than large."""

    def make(lines: list[str] | None = None, **caps: float) -> Any:
        site = workspace("generic")
        cap(site, **({"rho_month": 100.0, "rho_all": 1000.0} | caps))
        night(site, feed(*(many() if lines is None else lines)))
        return site

    return make


@pytest.fixture(scope="module")
def shared(filled: Callable[..., Any]) -> Any:
    """A workspace with calls for tests that each declare a table of a name of their own, over days of their own."""
    return filled()


def cap(site: Any, **caps: float) -> None:
    now = site.settings
    tenant = now.tenants["default"].model_copy(update={"release": ReleaseCaps(**caps)})
    now.path.write_text(render(now.model_copy(update={"tenants": {"default": tenant}})), encoding="utf-8")


def bytes_of(done: releasing.Released) -> dict[str, bytes]:
    return {name: (Path(done.folder) / name).read_bytes() for name in done.files}


# -- what is out -------------------------------------------------------------------------------------------------------


def test_a_rerun_returns_the_same_bytes_and_costs_nothing(shared: Any) -> None:
    declare(shared, text(name='"again"', rho=QUIET), "again")
    first = releasing.run(shared.settings, "again", PERIOD)
    spent, before = charged(shared), bytes_of(first)
    for _ in range(2):
        again = releasing.run(shared.settings, "again", PERIOD)
        assert (again.release_id, bytes_of(again)) == (first.release_id, before)
    assert charged(shared) == spent
    assert first.status == "published" and first.rho == int(float(QUIET) * NANO)


def test_what_is_out_is_given_back_whatever_is_declared_beside_it_since(shared: Any) -> None:
    declare(shared, text(name='"kept"', rho="0.001"), "kept")
    first = releasing.run(shared.settings, "kept", PERIOD)
    declare(shared, text(name='"greedy"', rho="9"), "greedy")
    try:
        assert releasing.run(shared.settings, "kept", PERIOD) == first
        with pytest.raises(UsageProblem, match="together with"):
            releasing.run(shared.settings, "kept", "2026-03-08")
    finally:
        (shared.settings.releases_path / "greedy.toml").unlink()


def test_figures_are_near_the_truth_and_hold_what_the_sheet_says(shared: Any) -> None:
    more = "[bounding]\nmethod = 'l0'\ncells = 2\n"
    body = text(name='"near"', rho=QUIET, measures=("calls", "subscribers"), more=more)
    declare(shared, body.replace('name = "calls"\n[[', 'name = "calls"\ncap = 15\n[['), "near")
    done = releasing.run(shared.settings, "near", PERIOD)
    sheet = json.loads((Path(done.folder) / "sheet.json").read_text())
    sigmas = {one["name"]: one["sigma"] for one in sheet["measures"]}
    rows = shared.view("billing")
    truth = {"calls": rows.num_rows, "subscribers": ACCOUNTS}
    for measure, exact in truth.items():
        found = cells(shared, measure, "near")
        assert abs(sum(v for v in found.values() if v) - exact) <= 6 * sigmas[measure] * np.sqrt(len(found))
        assert len(found) == 5  # every direction, those of nobody too


def test_no_exact_figure_leaves_the_run(shared: Any) -> None:
    declare(shared, text(name='"secret"', rho="0.001"), "secret")
    done = releasing.run(shared.settings, "secret", PERIOD)
    sheet = (Path(done.folder) / "sheet.json").read_text()
    assert str(shared.view("billing").num_rows) not in sheet
    with database.reading(shared.settings) as connection:
        summary = connection.execute(select(runs.c.summary).where(runs.c.kind == "release")).scalars().all()[-1]
    assert json.loads(summary)["rows"]["rows"] == shared.view("billing").num_rows  # for those who run it


def test_released_files_and_cells_hold_no_number_and_no_account(shared: Any) -> None:
    declare(shared, text(name='"clean"', rho=None, measures=("calls",)), "clean")
    done = releasing.run(shared.settings, "clean", PERIOD)
    for data in bytes_of(done).values():
        assert b"3035550" not in data and b"acct-" not in data and b"ac-0" not in data


def test_a_second_declaration_over_a_period_is_refused(shared: Any) -> None:
    declare(shared, text(name='"twice"', rho="0.001"), "twice")
    releasing.run(shared.settings, "twice", PERIOD)
    declare(shared, text(name='"twice"', rho="0.002"), "twice")
    with pytest.raises(UsageProblem, match="another declaration"):
        releasing.run(shared.settings, "twice", PERIOD)
    declare(shared, text(name='"twice"', rho="0.001"), "twice")
    assert releasing.run(shared.settings, "twice", PERIOD).correction_no == 0


def test_a_changed_domain_file_leaves_what_is_out_as_it_is(shared: Any) -> None:
    own = (
        'format_version = 1\nname = "own"\nversion = "1"\nsource = "a list"\ncolumns = ["direction"]\nother = "other"\n'
    )
    folder = shared.settings.releases_path
    folder.mkdir(exist_ok=True)
    (folder / "domains").mkdir()
    (folder / "domains" / "own.toml").write_text(f'{own}[cells]\nin = ["inbound"]\n')
    body = text(name='"own"', rho="0.001", dimensions=DIRECTION.replace("directions", "domains/own.toml"))
    declare(shared, body, "own")
    done = releasing.run(shared.settings, "own", PERIOD)
    before = bytes_of(done)
    (folder / "domains" / "own.toml").write_text(f'{own}[cells]\nin = ["inbound", "internal"]\n')
    with pytest.raises(UsageProblem, match="domain file"):
        releasing.run(shared.settings, "own", PERIOD)
    assert bytes_of(done) == before
    assert releasing.run(shared.settings, "own", "2026-03-07").status == "published"  # the next period goes by it


def test_a_released_file_that_was_altered_is_noticed(shared: Any) -> None:
    declare(shared, text(name='"altered"', rho="0.001"), "altered")
    done = releasing.run(shared.settings, "altered", PERIOD)
    (Path(done.folder) / "cells.csv").write_bytes(b"direction,calls\n")
    with pytest.raises(Problem, match="altered"):
        releasing.run(shared.settings, "altered", PERIOD)


def test_a_dry_run_changes_and_costs_nothing(shared: Any) -> None:
    declare(shared, text(name='"dry"', rho="0.001"), "dry")
    before = len(register(shared)), charged(shared)
    told = releasing.plan(shared.settings, "dry", PERIOD)
    assert (len(register(shared)), charged(shared)) == before
    assert told.status == "not released" and told.rho == 1_000_000


def test_an_older_database_does_not_draw_again_what_is_out(filled: Callable[..., Any]) -> None:
    """A restored database forgets what was released since: the files remember."""
    site = filled(many(50))
    declare(site, text(rho="0.001"))
    done = releasing.run(site.settings, "calls", PERIOD)
    before = bytes_of(done)
    with database.writing(site.settings) as connection:
        for table in (analytics_cells, releases, release_charges):
            connection.execute(delete(table))
    with pytest.raises(Problem, match="the database is older"):
        releasing.run(site.settings, "calls", PERIOD)
    assert register(site) == [] and bytes_of(done) == before


def test_a_restored_database_knows_what_is_out_and_what_was_paid(filled: Callable[..., Any], tmp_path: Path) -> None:
    """The older database with the newest export gives back the same bytes, cells and balance, and draws nothing."""
    site = filled(many(50))
    declare(site, text(rho="0.001"))
    declare(site, text(name='"inside"', rho=None), "inside")
    database.engine(site.settings).dispose()
    old = Path(shutil.copyfile(site.settings.folder / "callward.db", tmp_path / "old.db"))
    done = [releasing.run(site.settings, name, PERIOD) for name in ("calls", "inside")]
    paid, out, seen = charged(site), [bytes_of(one) for one in done], all_cells(site)
    put_back(site, old)
    assert register(site) == [] and all_cells(site) == []
    restored = exports.restore(site.settings, exports.list_exports(site.settings.register_path)[0])
    assert restored.releases_put_back == 2 and charged(site) == paid
    again = [releasing.run(site.settings, name, PERIOD) for name in ("calls", "inside")]
    assert again == done and [bytes_of(one) for one in again] == out
    assert all_cells(site) == seen and charged(site) == paid


def all_cells(site: Any) -> list[Any]:
    with database.reading(site.settings) as connection:
        return [
            tuple(row) for row in connection.execute(select(analytics_cells).order_by(*analytics_cells.primary_key))
        ]


def put_back(site: Any, copy: Path) -> None:
    """The old database in the place of the one that was lost."""
    database.engine(site.settings).dispose()
    for file in site.settings.folder.glob("callward.db*"):
        file.unlink()
    shutil.copyfile(copy, site.settings.folder / "callward.db")


# -- odd data ----------------------------------------------------------------------------------------------------------


def test_an_empty_period_is_noise_alone_and_paid(shared: Any) -> None:
    declare(shared, text(name='"empty"', rho="0.001"), "empty")
    before = charged(shared)
    done = releasing.run(shared.settings, "empty", "2025-01-01")
    assert done.cells["number"] == 5 and charged(shared) == before + 1_000_000
    found = cells(shared, "calls", "empty")
    assert any(found.values())  # noise: a table of zeros would say that there was nobody


def test_an_empty_threshold_table_has_no_cell(shared: Any) -> None:
    declare(shared, text(name='"clean"', rho=None, measures=("calls",)), "clean")
    assert releasing.run(shared.settings, "clean", "2025-01-01").cells["number"] == 0


def test_one_subscriber_in_all_is_as_hidden_as_nobody(filled: Callable[..., Any]) -> None:
    """A threshold table shows nothing of a lone one; a private one shows what noise would have shown without it."""
    site = filled([call(n) for n in range(20)])
    declare(site, text(name='"inside"', rho=None, measures=("calls",)), "inside")
    assert releasing.run(site.settings, "inside", PERIOD).cells["number"] == 0
    declare(site, text(name='"lone"', rho="0.001", measures=("subscribers",)), "lone")
    releasing.run(site.settings, "lone", PERIOD)
    sigma = 4 / np.sqrt(2 * 0.001)
    assert all(abs(value or 0) < 7 * sigma for value in cells(site, "subscribers", "lone").values())


def test_an_account_with_a_quarter_of_all_calls_weighs_no_more_than_declared(filled: Callable[..., Any]) -> None:
    whale = [call(10_000 + n, account="ac-0100") for n in range(200)]
    site = filled(many() + whale)
    more = "[bounding]\nmethod = 'l0'\ncells = 1\n"
    body = text(name='"whale"', unit='"account"', measures=("calls",), rho="0.9", more=more)
    declare(site, body.replace('name = "calls"\n[b', 'name = "calls"\ncap = 1\n[b'), "whale")
    releasing.run(site.settings, "whale", PERIOD)
    total = sum(value or 0 for value in cells(site, "calls", "whale").values())
    assert abs(total - (ACCOUNTS + 1)) < 12  # one call of each account, the large one too
    declare(site, text(name='"dominated"', rho=None, measures=("calls",)), "dominated")
    assert releasing.run(site.settings, "dominated", PERIOD).cells["number"] == 1  # under half of them: it is shown


def test_one_account_with_most_calls_is_not_shown_by_thresholds(filled: Callable[..., Any]) -> None:
    site = filled(many(120) + [call(10_000 + n, account="ac-0100") for n in range(130)])
    declare(site, text(name='"dominated"', rho=None, measures=("calls",)), "dominated")
    assert releasing.run(site.settings, "dominated", PERIOD).cells["number"] == 0


def test_one_account_with_most_of_the_talk_alone_is_not_shown_by_thresholds(filled: Callable[..., Any]) -> None:
    """By calls alone the first day would be shown as well: the account has three of them on either day."""
    next_day = DAY + timedelta(1)
    longest = [call(10_000 + n, DAY, account="ac-0100", talk=7200) for n in range(3)]
    usual = [call(10_000 + n, next_day, account="ac-0100") for n in range(3)]
    site = filled([*many(120), *longest, *many(120, 1200, next_day), *usual])
    declare(site, text(name='"talk"', rho=None, measures=("calls", "talk_s")), "talk")
    shown = {day: releasing.run(site.settings, "talk", day.isoformat()).cells["number"] for day in (DAY, next_day)}
    assert shown == {DAY: 0, next_day: 1}


def test_a_period_whose_numbers_are_gone_is_refused_before_it_costs(shared: Any) -> None:
    with database.writing(shared.settings) as connection:
        connection.execute(update(lake_files).where(lake_files.c.view == "billing").values(numbers=False))
    try:
        declare(shared, text(name='"late"', rho="0.001"), "late")
        with pytest.raises(UsageProblem, match="past their window"):
            releasing.run(shared.settings, "late", PERIOD)
    finally:
        with database.writing(shared.settings) as connection:
            connection.execute(update(lake_files).where(lake_files.c.view == "billing").values(numbers=True))
    assert not [row for row in register(shared) if row.name == "late"]


# -- what comes late ---------------------------------------------------------------------------------------------------


def test_late_calls_become_a_correction_with_fresh_noise_at_its_own_price(filled: Callable[..., Any]) -> None:
    site = filled()
    declare(site, text(rho="0.05"))
    releasing.run(site.settings, "calls", PERIOD)
    first = cells(site, "calls")
    night(site, feed(call(9_999)), name="late.csv")
    assert releasing.run(site.settings, "calls", PERIOD).correction_no == 0
    assert cells(site, "calls") == first
    corrected = releasing.run(site.settings, "calls", PERIOD, correct=True)
    assert corrected.correction_no == 1 and charged(site) == 2 * 50_000_000
    moved = [abs((value or 0) - (first[label] or 0)) for label, value in cells(site, "calls").items()]
    assert sum(change > 1 for change in moved) >= 4  # other noise in (nearly) every cell: no difference is one call
    with pytest.raises(UsageProblem, match="nothing has changed"):
        releasing.run(site.settings, "calls", PERIOD, correct=True)


def test_a_budget_nearly_spent_allows_what_fits_and_no_more(filled: Callable[..., Any]) -> None:
    site = filled(rho_month=0.031, rho_all=0.0015)
    declare(site, text(rho="0.001"))
    releasing.run(site.settings, "calls", PERIOD)
    with pytest.raises(Spent, match=r"0\.0005 of 0\.0015 are left"):
        releasing.run(site.settings, "calls", "2026-03-06")
    assert len(register(site)) == 1 and charged(site) == 1_000_000
    assert not [path for path in site.settings.released_path.rglob("*") if "2026-03-06" in path.name]


# -- a threshold table for outside -------------------------------------------------------------------------------------


def test_a_table_for_outside_only_joins_cells_of_the_one_inside(filled: Callable[..., Any]) -> None:
    """No difference of the two tells a figure that neither shows: each cell outside is a sum of cells inside."""
    rng = np.random.default_rng(7)
    lines = []
    for number in range(900):  # hours of very different sizes, so that some are joined
        who, hour = int(rng.integers(0, ACCOUNTS)), int(rng.choice(24, p=_HOURS))
        moment = datetime(DAY.year, DAY.month, DAY.day, hour, 10, tzinfo=UTC) + timedelta(seconds=number)
        at = f"{moment:%FT%TZ}"
        end = f"{moment + timedelta(seconds=60):%FT%TZ}"
        lines.append(f"id-{number},+130355501{who:02d},+13035550102,{at},{at},{end},60000,ac-{who:04d}\n")
    site = filled(lines, threshold_outside=True)
    usual = {"rho": None, "dimensions": HOUR, "measures": ("calls", "subscribers")}
    declare(site, text(name='"inside"', **usual), "inside")
    outside = text(
        name='"outside"', audience='"external"', more='[suppression]\nk = 20\ncoarsens = "inside"\n', **usual
    )
    declare(site, outside, "outside")
    with pytest.raises(UsageProblem, match="not released"):
        releasing.run(site.settings, "outside", PERIOD)
    for name in ("inside", "outside"):
        releasing.run(site.settings, name, PERIOD)
    fine, coarse = (cells(site, "calls", name) for name in ("inside", "outside"))
    people = cells(site, "subscribers", "outside")
    assert coarse and all(count is not None and count >= 20 for count in people.values())
    alone = {label: value for label, value in coarse.items() if label != ("(other)",)}
    assert alone.items() <= fine.items() and len(alone) < len(fine)
    joined = sum(value or 0 for label, value in fine.items() if label not in alone)
    assert coarse.get(("(other)",), 0) in (joined, 0)


# -- roots and roles ---------------------------------------------------------------------------------------------------


def test_analytics_sees_released_cells_and_nothing_else(filled: Callable[..., Any]) -> None:
    site = filled()
    with pytest.raises(Problem, match="nothing has been released"):
        query.query(site.settings, "analytics", "SELECT 1")
    declare(site, text(rho="0.05", dimensions=DIRECTION))
    releasing.run(site.settings, "calls", PERIOD)
    names = query.query(site.settings, "analytics", "SHOW TABLES")["name"].to_pylist()
    assert sorted(names) == ["analytics_cells", "calls"]
    for table in ("billing", "assurance", "releases", "release_charges", "audit_log", "keys", "billing_usage_daily"):
        with pytest.raises(UsageProblem):
            query.query(site.settings, "analytics", f"SELECT * FROM {table}")
    for other in ("billing", "assurance"):
        with pytest.raises(UsageProblem):
            query.query(site.settings, other, "SELECT * FROM analytics_cells")
    wide = query.query(site.settings, "analytics", "SELECT direction, calls, calls_error FROM calls").to_pylist()
    assert {(row["direction"],): row["calls"] for row in wide} == cells(site, "calls")


def test_the_view_of_a_table_has_the_newest_correction_of_each_period(filled: Callable[..., Any]) -> None:
    site = filled()
    declare(site, text(rho="0.05"))
    releasing.run(site.settings, "calls", PERIOD)
    night(site, feed(call(9_999)), name="late.csv")
    releasing.run(site.settings, "calls", PERIOD, correct=True)
    rows = query.query(site.settings, "analytics", "SELECT correction_no, count(*) AS n FROM calls GROUP BY ALL")
    assert rows.to_pylist() == [{"correction_no": 1, "n": 5}]
    every = query.query(site.settings, "analytics", "SELECT count(DISTINCT correction_no) AS n FROM analytics_cells")
    assert every["n"].to_pylist() == [2]


@pytest.mark.parametrize("domain", ["release", "billing-numbers"])
def test_without_its_roots_nothing_is_released_and_nothing_charged(filled: Callable[..., Any], domain: str) -> None:
    site = filled(many(50))
    declare(site, text())
    root = root_file(site.settings, domain)
    assert root is not None
    root.rename(root.with_suffix(".away"))
    with pytest.raises(Problem):
        releasing.run(site.settings, "calls", PERIOD)
    assert register(site) == []


ATTEMPTS = {"view": '"assurance"', "unit": '"account"'}
QUALITY = '[[dimensions]]\nname = "region"\ncolumn = "called_prefix"\ndomain = "census_divisions"\n'
OF_RELEASES = {"release", "transit"}


@pytest.mark.parametrize(
    ("needs", "body"),
    [
        # Also of what sums by account hold: these cannot leave out the attempts of one restricted person.
        ({"index"}, text(dimensions=QUALITY, measures=("seizures", "answered", "pdd_ms"), rho="0.05", **ATTEMPTS)),
        ({"billing", "billing-numbers"}, text(rho="0.05")),
        ({"billing"}, text(measures=("calls", "accounts"), rho="0.05", unit='"account"')),
    ],
)
def test_a_release_opens_no_root_but_those_of_what_it_reads(
    filled: Callable[..., Any], needs: set[str], body: str
) -> None:
    site = filled(many(50))
    declare(site, body)
    for domain in KEY_DOMAINS:
        root = root_file(site.settings, domain)
        if domain not in needs | OF_RELEASES and root is not None:
            root.rename(root.with_suffix(".away"))
    assert releasing.run(site.settings, "calls", PERIOD).status == "published"
    assert len(register(site)) == 1


def test_openings_of_keys_are_audited_as_the_release_service(shared: Any) -> None:
    declare(shared, text(name='"seen"', rho="0.001"), "seen")
    releasing.run(shared.settings, "seen", PERIOD)
    entries = [entry for entry in audit.newest(shared.settings, 200) if entry.role == "release-run"]
    events = {entry.event for entry in entries}
    assert {"release-reserve", "release-publish"} <= events and events & {"open", "mint"}


# -- nights ------------------------------------------------------------------------------------------------------------


def test_a_night_releases_what_is_due_once_and_says_so(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in (2, 6)]
    declare(site, text(rho="0.001"))
    lines = [line for n, day in enumerate(days) for line in many(80, 100 * n, day)]
    site.land("generic", "a.csv", feed(*lines))
    done = nightly(site.settings)
    assert [(one.name, one.period, one.status) for one in done.releases] == [
        ("calls", days[1].isoformat(), "published")  # the other day's late records may still come
    ]
    assert done.to_dict()["releases"] == [vars(one) for one in done.releases]
    assert nightly(site.settings).releases == []
    assert len(register(site)) == 1


def test_a_night_goes_on_where_a_release_cannot(workspace: Callable[..., Any]) -> None:
    site = workspace("generic")
    day = datetime.now(UTC).date() - timedelta(days=5)
    cap(site, rho_month=1.0, rho_all=0.0)
    declare(site, text(rho="0.001"))
    site.land("generic", "a.csv", feed(*many(50, day=day)))
    done = nightly(site.settings)
    assert done.rows == 50 and done.must_look
    assert [one.status for one in done.releases] == ["no budget"]
    declare(site, "nonsense", "other")
    assert [one.status for one in nightly(site.settings).releases] == ["failed"]


def test_the_register_keeps_its_own_history(shared: Any) -> None:
    with database.reading(shared.settings) as connection:
        out = connection.execute(select(releases)).all()
        stored = set(connection.execute(select(analytics_cells.c.release_id)).scalars())
    published = {row.release_id for row in out if row.status == "published"}
    assert stored <= published
    assert all(row.published_at >= row.reserved_at for row in out if row.status == "published")
