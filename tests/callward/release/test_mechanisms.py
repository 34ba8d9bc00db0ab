"""Noise against closed formulas and distributions; no draw is another's; thresholds cost what they say."""

import math
import multiprocessing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.release.mechanisms import epsilon_of, gaussian, rho_of, sigma_of
from tests.examples import tries

ZEROS = np.zeros(20_000, np.int64)


def closed_delta(rho: float, epsilon: float) -> float:
    """δ of ρ-zCDP at ε by Canonne, Kamath and Steinke 2020 (proposition 7), minimised over a grid of α."""
    alpha = 1 + np.exp(np.linspace(math.log(1e-4), math.log(1e5), 400_000))
    exponent = (alpha - 1) * (alpha * rho - epsilon) + alpha * np.log1p(-1 / alpha) - np.log(alpha - 1)
    return float(np.exp(exponent.min()))


@tries(30)
@given(st.floats(1e-4, 5), st.sampled_from([1e-5, 1e-7, 1e-9]))
def test_epsilon_is_that_of_the_closed_formula_and_never_below_it(rho: float, delta: float) -> None:
    epsilon = epsilon_of(rho, delta)
    assert epsilon <= rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun and Steinke 2016, proposition 1.3
    assert closed_delta(rho, epsilon) <= delta * (1 + 1e-6)
    assert closed_delta(rho, epsilon * (1 - 1e-4)) > delta


@tries(15)
@given(st.floats(0.05, 8), st.sampled_from([1e-6, 1e-9]))
def test_rho_is_the_largest_that_stays_within_epsilon(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon < epsilon_of(rho * 1.0001, delta)


@tries(100)
@given(st.floats(1e-3, 1e7), st.floats(1e-6, 100))
def test_sigma_is_that_of_the_formula_and_costs_no_more_than_was_paid(sensitivity: float, rho: float) -> None:
    noisy, sigma = gaussian(np.zeros(1, np.int64), sensitivity, rho)
    assert sigma == pytest.approx(sensitivity / math.sqrt(2 * rho), rel=1e-9)
    assert sigma >= sigma_of(sensitivity, rho)
    assert noisy.dtype == np.int64


def test_noise_is_of_the_gaussian_distribution() -> None:
    """Kolmogorov–Smirnov: D of 20 000 draws passes 0.02 once in ten million honest runs."""
    drawn, sigma = gaussian(ZEROS, 400.0, 0.5)
    values, counts = np.unique(drawn, return_counts=True)
    normal = np.array([0.5 * math.erfc(-(value + 0.5) / sigma / math.sqrt(2)) for value in values.tolist()])
    assert np.abs(np.cumsum(counts) / len(drawn) - normal).max() < 0.02
    assert abs(drawn.std() / sigma - 1) < 0.04


def test_noise_is_added_to_the_true_value_on_both_sides_and_not_clamped() -> None:
    exact = np.tile(np.array([0, 5, 10**12]), 2_000)
    drawn, sigma = gaussian(exact, 10.0, 0.5)
    moved = drawn - exact
    assert abs(moved.mean()) < 6 * sigma / math.sqrt(len(exact))
    assert (drawn[0::3] < 0).any()
    assert np.isin([-1, 1], np.sign(moved)).all()


def test_cells_of_nobody_get_noise_like_all_others() -> None:
    drawn, _ = gaussian(np.zeros(200, np.int64), 100.0, 0.01)
    assert np.count_nonzero(drawn) > 190


def _draw(_: int) -> bytes:
    return gaussian(np.zeros(50, np.int64), 1e6, 0.5)[0].tobytes()


def test_no_two_draws_are_the_same_in_this_process_or_in_forked_ones() -> None:
    here = [_draw(n) for n in range(6)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        there = pool.map(_draw, range(9), chunksize=1)
    assert len({*here, *there}) == 15


def test_an_empty_table_is_drawn_as_an_empty_table() -> None:
    assert gaussian(np.zeros(0, np.int64), 1.0, 1.0)[0].tolist() == []


@pytest.mark.parametrize(
    ("sensitivity", "rho"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (math.inf, 1.0), (1.0, math.nan)]
)
def test_noise_that_cannot_be_priced_is_refused(sensitivity: float, rho: float) -> None:
    with pytest.raises(ValueError):
        gaussian(np.zeros(1, np.int64), sensitivity, rho)


@pytest.mark.parametrize("counts", [np.zeros(3), np.zeros((2, 2), np.int64), np.zeros(2, np.uint64)])
def test_what_is_no_list_of_whole_numbers_is_refused(counts: np.ndarray) -> None:
    with pytest.raises(ValueError):
        gaussian(counts, 1.0, 1.0)


@pytest.mark.parametrize(("rho", "delta"), [(0.0, 1e-9), (1.0, 0.0), (1.0, 1.0), (math.inf, 1e-9)])
def test_a_price_that_is_none_is_refused(rho: float, delta: float) -> None:
    with pytest.raises(ValueError):
        epsilon_of(rho, delta)
    with pytest.raises(ValueError):
        rho_of(rho, delta)
