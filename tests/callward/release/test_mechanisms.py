"""Noise against closed formulas and distributions; no draw is another's; thresholds cost what they say."""

import math
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callward.release import mechanisms
from callward.release.mechanisms import epsilon_of, gaussian, rho_of, sigma_of, thresholded

ZEROS = np.zeros(20_000, np.int64)


def closed_delta(rho: float, epsilon: float) -> float:
    """δ of ρ-zCDP at ε by Canonne, Kamath and Steinke 2020 (proposition 7), minimised over a grid of α."""
    alpha = 1 + np.exp(np.linspace(math.log(1e-4), math.log(1e5), 400_000))
    exponent = (alpha - 1) * (alpha * rho - epsilon) + alpha * np.log1p(-1 / alpha) - np.log(alpha - 1)
    return float(np.exp(exponent.min()))


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-4, 5), st.sampled_from([1e-5, 1e-7, 1e-9]))
def test_epsilon_is_that_of_the_closed_formula_and_never_below_it(rho: float, delta: float) -> None:
    epsilon = epsilon_of(rho, delta)
    assert epsilon <= rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun and Steinke 2016, proposition 1.3
    assert closed_delta(rho, epsilon) <= delta * (1 + 1e-6)
    assert closed_delta(rho, epsilon * (1 - 1e-4)) > delta


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 8), st.sampled_from([1e-6, 1e-9]))
def test_rho_is_the_largest_that_stays_within_epsilon(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)
    assert epsilon_of(rho, delta) <= epsilon < epsilon_of(rho * 1.0001, delta)


@settings(max_examples=100, deadline=None)
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


# -- open domains ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.3, 0.05, 0.01])
def test_a_key_of_one_unit_shows_no_more_often_than_delta_says(delta: float) -> None:
    draws = 60_000
    shown, *_ = thresholded(np.arange(draws, dtype=np.uint64), np.ones(draws, np.int64), 1, 0.5, delta)
    assert len(shown) / draws <= delta + 5 * math.sqrt(delta / draws)


def test_without_the_correction_a_key_would_show_more_often() -> None:
    """OpenDP shows a value that equals its threshold, which its own δ leaves out: why one is added."""
    sigma, draws = sigma_of(1.0, 0.5), 60_000
    naive = mechanisms._above(sigma, mechanisms._threshold(1, sigma, 0.01))
    delta = naive.map((1, 1.0, 1.0))[1]
    shown = naive(dict.fromkeys(range(draws), 1))
    assert len(shown) / draws > delta + 5 * math.sqrt(delta / draws)


def test_large_keys_show_with_noise_and_small_ones_do_not() -> None:
    keys = np.array([9, 3, 5], np.uint64)
    shown, counts, sigma, least = thresholded(keys, np.array([10_000, 2, 20_000]), 8, 0.015, 1e-9)
    assert shown.tolist() == [5, 9]
    assert np.abs(counts - [20_000, 10_000]).max() < 8 * sigma
    assert counts.min() >= least
    assert sigma == pytest.approx(math.sqrt(8 / 0.03), rel=1e-9)


def test_a_key_of_fewer_than_least_never_shows() -> None:
    keys = np.arange(3_000, dtype=np.uint64)
    shown, _, _, least = thresholded(keys, np.full(3_000, 14), 1, 0.5, 0.4, least=15)
    assert len(shown) == 0
    assert least >= 16


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError):
        thresholded(np.array([1, 1], np.uint64), np.array([3, 4]), 1, 0.5, 1e-6)


def test_no_keys_are_no_table() -> None:
    shown, counts, *_ = thresholded(np.zeros(0, np.uint64), np.zeros(0, np.int64), 1, 0.5, 1e-6)
    assert (len(shown), len(counts)) == (0, 0)
