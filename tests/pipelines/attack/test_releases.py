"""Releases as they really come out of the lake, attacked: run again, corrected, compared with the exact figures."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from callward.release import declaration
from callward.release.attack.attacks import MARGIN, Published, auc_bound, averaging, bound, differencing
from callward.settings import ReleaseCaps
from callward.template import render
from pipelines import release as releasing
from schemas.nanp import STATE_OF_NPA
from schemas.release import NANO
from tests.releases import AREA, cells, charged, declare, text
from tests.retention import DAY, feed, night
from transforms.aggregate import contributions

RHO = "0.01"
AREAS = sorted(str(area) for area in STATE_OF_NPA)[:300]
BODY = text(dimensions=AREA, measures=("subscribers",), rho=RHO, more="[bounding]\nmethod = 'l0'\ncells = 4\n")


def line(number: int, area: str, caller: int) -> str:
    """A call of a minute from an area, by one of its hundred lines."""
    start = datetime(DAY.year, DAY.month, DAY.day, 8, tzinfo=UTC) + timedelta(seconds=number % 50_000)
    stamps = f"{start:%FT%TZ},{start:%FT%TZ},{start + timedelta(minutes=1):%FT%TZ}"
    return f"id-{number},+1{area}55501{caller:02d},+13035550102,{stamps},60000,\n"


@pytest.fixture(scope="module")
def released(workspace):
    """A release of a day, run five times, and its correction after one late call in each of 60 areas.

    → (site, printed by each run, exact before, printed by the correction, exact after); shape [areas].
    """
    site = workspace("generic")
    caps = {"release": ReleaseCaps(rho_month=1.0, rho_all=1.0)}
    tenant = site.settings.tenants["default"].model_copy(update=caps)
    site.settings.path.write_text(render(site.settings.model_copy(update={"tenants": {"default": tenant}})))
    declare(site, BODY)
    callers = [(area, who) for n, area in enumerate(AREAS) for who in range(1 + n % 7)]
    lines = [line(number, area, who) for number, (area, who) in enumerate(callers)]
    night(site, feed(*lines))
    runs = [printed(site) for _ in range(5)]
    before = exact(site)
    night(site, feed(*(line(90_000 + n, area, 77) for n, area in enumerate(AREAS[::5]))), name="late.csv")
    releasing.run(site.settings, "calls", DAY.isoformat(), correct=True)
    return site, np.array(runs), before, np.array([*cells(site, "subscribers").values()]), exact(site)


def printed(site) -> list[int]:
    releasing.run(site.settings, "calls", DAY.isoformat())
    return [*cells(site, "subscribers").values()]


def exact(site) -> np.ndarray:
    """Subscribers by cell as the lake has them: what no release prints."""
    release = declaration.load(site.settings.releases_path / "calls.toml")
    rows, _ = contributions(release, release.grid(), site.view("billing"), b"test")
    pairs = np.unique(np.column_stack([rows.cell, rows.subscriber]), axis=0)
    return np.bincount(pairs[:, 0].astype(np.int64), minlength=release.grid().size)


def test_running_it_again_tells_nothing_more(released):
    _, runs, before, _, _ = released
    assert (runs == runs[0]).all()
    once, five = averaging(runs, before, [1, 5])
    assert once == five


def test_noise_is_as_wide_as_the_sheet_says(released):
    site, runs, before, _, _ = released
    sheet = json.loads(min(Path(site.settings.released_path).rglob("sheet.json")).read_text())
    sigma = sheet["measures"][0]["sigma"]
    noise = runs[0] - before
    assert abs(noise.std() / sigma - 1) < 6 / np.sqrt(2 * len(noise))
    assert abs(noise.mean()) < 5 * sigma / np.sqrt(len(noise))
    assert sigma == pytest.approx(2 / np.sqrt(2 * float(RHO)), rel=1e-6)


def test_a_correction_exposes_nobody_who_came_late(released):
    _, runs, before, corrected, after = released
    lonely, quiet = after - before == 1, after == before
    assert lonely.sum() == 60
    raw = differencing(Published.all_of(before), Published.all_of(after), lonely, quiet)
    ours = differencing(Published.all_of(runs[0]), Published.all_of(corrected), lonely, quiet)
    assert (raw.exposed, raw.auc) == (1, 1)
    chance = 3 / np.sqrt(12 * lonely.sum())
    assert ours.exposed == 0
    assert ours.auc <= auc_bound(bound(10, 0, 2 * float(RHO))) + max(MARGIN, chance)


def test_a_correction_draws_anew_in_every_cell(released):
    """The noise of both, taken apart by the exact figures: as good as unrelated."""
    _, runs, before, corrected, after = released
    first, second = runs[0] - before, corrected - after
    assert abs(np.corrcoef(first, second)[0, 1]) < 6 / np.sqrt(len(first))
    assert (first != second).mean() > 0.9


def test_what_was_paid_is_what_the_bound_is_computed_with(released):
    site, *_ = released
    assert charged(site) == 2 * round(float(RHO) * NANO)
