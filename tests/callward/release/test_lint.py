"""The lint refuses what is unsafe, and names a coarser grain that works, with figures that hold."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callward.release import declaration
from callward.release import lint as lints
from callward.release.lint import lint
from callward.release.preview import Volumes, coarser, expected, made_up_rows, preview, true_figures, useful_share
from callward.settings import ReleaseCaps, Settings, Tenant
from schemas.release import example as example_text
from schemas.release import examples
from tests.releases import AREA, DIRECTION, HOUR, made

NETWORK = Volumes(1_000_000, 90_000)


def settings(*tenants: str, **caps: Any) -> Settings:
    named = tenants or ("default",)
    made_of = {name: Tenant(release=ReleaseCaps(**caps)) for name in named}
    return Settings(path=Path("callward.toml"), tenants=made_of)


def codes(*arguments: Any, **options: Any) -> set[str]:
    return {one.code for one in lint(*arguments, **options) if one.refuses}


def test_a_sound_declaration_has_no_finding() -> None:
    assert lint(made(), settings()) == []


def test_a_tenant_that_nobody_knows_is_refused() -> None:
    assert codes(made(tenants='["nobody"]'), settings()) == {"tenant"}


def test_a_processors_customer_is_never_shown_alone() -> None:
    names = ("a", "b", "c")
    roles = dict.fromkeys(names, "processor")
    for size, refused in ((1, {"processor"}), (2, {"processor"}), (3, set())):
        listed = ", ".join(f'"{name}"' for name in names[:size])
        release = made(tenants=f"[{listed}]")
        assert codes(release, settings(*names), roles=roles) == refused
        assert size == 1 or release.tenant == "_pool"
    assert codes(made(tenants='["a"]'), settings(*names), roles=dict.fromkeys(names, "controller")) == set()


@pytest.mark.parametrize(
    ("audience", "k", "dominance", "allowed", "refused"),
    [
        ("internal", 11, 0.5, False, set()),
        ("internal", 10, 0.5, False, {"k"}),
        ("internal", 11, 0.6, False, {"dominance"}),
        ("external", 15, 0.5, False, {"outside"}),
        ("external", 15, 0.5, True, set()),
        ("external", 14, 0.5, True, {"k"}),
    ],
)
def test_thresholds_are_as_strict_as_their_audience(
    audience: str, k: int, dominance: float, allowed: bool, refused: set[str]
) -> None:
    release = made(rho=None, audience=f'"{audience}"', more=f"[suppression]\nk = {k}\ndominance = {dominance}\n")
    assert codes(release, settings(threshold_outside=allowed)) == refused


def test_two_threshold_tables_over_the_same_calls_are_refused_unless_one_joins_cells_of_the_other() -> None:
    inside = made(name='"inside"', rho=None)
    apart = made(name='"apart"', rho=None, dimensions=HOUR)
    joined = made(name='"joined"', rho=None, more='[suppression]\ncoarsens = "inside"\nk = 15\n')
    finer = made(name='"finer"', rho=None, dimensions=HOUR, more='[suppression]\ncoarsens = "inside"\nk = 15\n')
    lost = made(name='"lost"', rho=None, more='[suppression]\ncoarsens = "nothing"\n')
    assert codes(inside, settings(), others=[inside, apart]) == {"partition"}
    assert codes(finer, settings(), others=[inside, finer]) == {"partition"}
    assert (
        codes(inside, settings(), others=[inside, joined])
        == codes(joined, settings(), others=[inside, joined])
        == set()
    )
    assert "coarsens" in codes(lost, settings(), others=[lost, made()])


def test_tables_over_the_same_rows_that_exceed_the_months_budget_are_refused() -> None:
    one, two = made(rho="0.004"), made(name='"two"', rho="0.004")
    account = made(name='"accounts"', unit='"account"', measures=("calls",), rho="0.004")
    assert codes(one, settings(rho_month=0.21), others=[one]) == set()
    for other in (two, account):
        found = lint(one, settings(rho_month=0.21), others=[one, other])
        assert [finding.code for finding in found if finding.refuses] == ["budget"] and other.name in found[0].sentence
    assert codes(account, settings(rho_month=0.21), others=[made(name='"three"', rho="0.001")]) == set()


def test_the_budget_that_the_lint_says_fits_does() -> None:
    one, two = made(rho="0.009"), made(name='"two"', rho="0.002")
    (found,) = lint(one, settings(rho_month=0.21), others=[one, two])
    fits = re.search(r"at most ([\d.]+) rho fit", found.sentence)
    assert fits is not None
    assert codes(made(rho=fits[1]), settings(rho_month=0.21), others=[two]) == set()
    assert codes(made(rho=str(round(float(fits[1]) + 0.0001, 9))), settings(rho_month=0.21), others=[two]) == {"budget"}


def test_a_grain_of_noise_is_refused_with_one_that_works() -> None:
    release = made(dimensions=AREA + HOUR + DIRECTION, measures=("subscribers",), rho="0.006")
    (found,) = lint(release, settings(), NETWORK)
    assert found.refuses and found.code == "grain"
    better = coarser(release, NETWORK, lints.USEFUL_SHARE)
    assert better is not None and better.words in found.sentence and f"{better.cells:,} cells" in found.sentence
    assert better.share >= lints.USEFUL_SHARE > useful_share(release, NETWORK)


@pytest.mark.parametrize("measures", [("calls",), ("subscribers",), ("talk_s",)])
def test_averages_are_those_of_the_traffic_that_is_drawn(measures: tuple[str, ...]) -> None:
    release = made(dimensions=AREA + DIRECTION, measures=measures)
    small = Volumes(300_000, 27_000)  # all of it is drawn, not a part
    drawn, mean = true_figures(release, made_up_rows(release, small))[:, 0], expected(release, small)
    assert drawn.sum() == pytest.approx(mean.sum(), rel=0.1)
    large = mean > mean.max() / 10
    assert np.median(np.abs(drawn[large] - mean[large]) / mean[large]) < 0.15


def test_a_grain_that_no_step_saves_says_so() -> None:
    (found,) = lint(made(rho="0.001"), settings(), Volumes(50, 10))
    assert "no coarser grain" in found.sentence


def test_more_budget_or_more_calls_never_make_a_grain_worse() -> None:
    shares = [useful_share(made(dimensions=AREA, rho=rho), NETWORK) for rho in ("0.0005", "0.002", "0.008")]
    assert shares == sorted(shares)
    sizes = [useful_share(made(dimensions=AREA), Volumes(calls, calls // 11)) for calls in (10**5, 10**6, 10**7)]
    assert sizes == sorted(sizes)


def test_a_preview_says_what_noise_and_bounding_do_by_size_of_cell() -> None:
    found = preview(made(dimensions=AREA, rho="0.006"), NETWORK)
    for measure in found.measures:
        medians = [size.median for size in measure.sizes]
        assert medians[0] > medians[-1] and measure.kept_share is not None and 0 < measure.kept_share <= 1
        assert all(size.median <= size.p95 for size in measure.sizes)
    assert sum(size.cells for size in measure.sizes) <= made(dimensions=AREA).grid().size


def test_the_examples_pass_the_lint_together() -> None:
    every = [declaration.parse(example_text(name)) for name in examples()]
    for release in every:
        expected = release.expected
        volumes = Volumes(expected.calls_per_day, expected.units) if expected else None
        assert lint(release, settings(), volumes, others=every) == []
