"""Each attack succeeds where it must, fails where it must, and its bounds are bounds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.release.attack import attacks, broken_controls
from callward.release.attack.attacks import Published
from tests.examples import tries

RNG = np.random.default_rng(7)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_bounds_rise_with_epsilon_and_end_at_certainty():
    found = [attacks.bound(epsilon, 1e-9) for epsilon in (0.01, 0.1, 1, 5, 800)]
    assert found == sorted(found) and found[0] < 0.01 and found[-1] == pytest.approx(1)


@given(st.floats(0.01, 20), st.floats(0, 0.5))
def test_randomized_response_reaches_the_bound_of_its_epsilon_and_none_passes_it(epsilon, delta):
    """The tight mechanism: the truth for certain with probability delta, else a coin of odds e^epsilon."""
    honest = math.exp(epsilon) / (math.exp(epsilon) + 1)
    reached = delta + (1 - delta) * (2 * honest - 1)
    assert reached == pytest.approx(attacks.bound(epsilon, delta), abs=1e-9)


@given(st.floats(1e-4, 3))
def test_the_gaussian_stays_below_the_bound_of_its_rho(rho):
    distance = math.sqrt(2 * rho)  # between the worlds, in standard deviations
    advantage = math.erf(distance / (2 * math.sqrt(2)))
    assert advantage <= attacks.bound(math.inf if rho > 300 else 300, 0, rho)


@given(st.floats(0, 1))
def test_an_area_under_a_curve_goes_with_its_advantage(advantage):
    curve = [(0, 0), (0, advantage), (1 - advantage, 1), (1, 1)]
    area = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(curve))
    assert attacks.auc_bound(advantage) == pytest.approx(area)


# -- scores ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(rows):
    scores, hit = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[hit] for b in scores[~hit]]
    assert attacks.auc(scores, hit) == pytest.approx(np.mean(pairs) if pairs else 0.5)


def test_advantage_of_equal_worlds_is_none_and_is_not_flattered_by_chance():
    rng = np.random.default_rng(1)
    found = [attacks.advantage(rng.normal(size=400), rng.normal(size=400)) for _ in range(60)]
    assert abs(np.mean(found)) < 0.02  # on the trials that chose the threshold it would be 0.06


def test_advantage_of_worlds_apart_is_all():
    assert attacks.advantage(np.zeros(100), np.ones(100)) == 1


# -- membership --------------------------------------------------------------------------------------------------------


def at_least(k):
    """A threshold on each cell by itself: exact figures from k up."""
    return lambda counts: attacks.Published(counts, counts >= k)


@pytest.mark.parametrize("release", [broken_controls.exact, at_least(15)])
def test_membership_is_certain_where_nothing_is_hidden(release):
    assert attacks.membership(release, np.array([14, 30]), np.array([15, 31]), 100).advantage == 1


def test_a_threshold_hides_who_stays_below_it():
    assert attacks.membership(at_least(15), np.array([3]), np.array([4]), 100).advantage == 0


def test_a_unit_that_changes_nothing_gives_nothing():
    assert attacks.membership(broken_controls.exact, np.arange(5), np.arange(5), 100).advantage == 0


def test_a_mechanism_without_enough_noise_is_told_from_one_with_enough():
    rho = 0.02
    without, with_ = np.zeros(16, np.int64), np.ones(16, np.int64)
    most = attacks.bound(10, 0, rho) + attacks.MARGIN
    assert attacks.membership(broken_controls.noisy(16, rho), without, with_, 4000).advantage <= most
    assert attacks.membership(broken_controls.noise_for_one_cell(rho), without, with_, 4000).advantage > most


def test_a_key_that_shows_too_often_is_found():
    shown = np.arange(10_000) < 80
    assert attacks.lone_key(shown, 0.008)[0] <= attacks.lone_key(shown, 0.008)[1]
    share, most = attacks.lone_key(shown, 0.004)
    assert share > most


# -- differencing and averaging ----------------------------------------------------------------------------------------


def test_exact_tables_expose_every_late_person():
    before = RNG.integers(20, 100, 50)
    lonely = np.arange(50) < 10
    after = before + lonely
    found = attacks.differencing(Published.all_of(before), Published.all_of(after), lonely, ~lonely)
    assert (found.exposed, found.auc) == (1, 1)


def test_noise_on_both_tables_exposes_nobody_and_the_same_noise_everybody():
    exact = np.full(4000, 50)
    lonely = np.arange(4000) < 2000
    noise = broken_controls.noisy(16, 0.015)
    first = noise(exact)
    fresh = attacks.differencing(first, noise(exact + lonely), lonely, ~lonely)
    same = attacks.differencing(first, Published.all_of(first.values + lonely), lonely, ~lonely)
    assert fresh.exposed == 0 and fresh.auc < 0.55
    assert same.exposed == 1 and same.auc == 1


def test_a_cell_that_one_table_hides_tells_nothing():
    table = Published(np.array([5, 9]), np.array([False, True]))
    other = Published(np.array([6, 9]), np.array([True, True]))
    assert attacks.differencing(table, other, np.array([True, False]), np.array([False, True])).exposed == 0


def test_averaging_finds_fresh_noise_out_and_not_what_is_written_once():
    truth = RNG.integers(0, 50, 100)
    fresh = np.round(truth + RNG.normal(0, 10, (2000, 100))).astype(np.int64)
    assert attacks.averaging(fresh, truth, [2000])[0] > 0.9
    assert attacks.averaging(np.tile(fresh[0], (2000, 1)), truth, [1, 2000])[1] < 0.2


# -- unicity -----------------------------------------------------------------------------------------------------------


def test_who_alone_was_at_a_place_is_unique_with_one_point():
    person, point = np.array([1, 2, 3, 3]), np.array([10, 11, 12, 13])
    assert attacks.unicity(person, point, 1, RNG) == 1


def test_twins_are_never_unique():
    person, point = np.array([1, 1, 2, 2]), np.array([10, 11, 10, 11])
    assert [attacks.unicity(person, point, many, RNG) for many in (1, 2)] == [0, 0]


def test_two_points_single_out_whom_one_does_not():
    visits = [(a, b) for a in range(4) for b in (a, (a + 1) % 4)]  # each place has two, each pair of places one
    person, point = np.array(visits).T
    assert [attacks.unicity(person, point, many, RNG) for many in (1, 2)] == [0, 1]


def test_call_centres_hide_nobody():
    centre = np.repeat(9, attacks.ELIGIBLE_CALLS + 1)
    person = np.concatenate([centre, [1]])
    point = np.concatenate([np.arange(len(centre)), [5]])
    assert attacks.unicity(person, point, 1, RNG) == 1


@tries(30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=40), st.integers(1, 3))
def test_unicity_lies_between_what_enumeration_says(rows, points):
    """Against all choices of points: unique whichever, for some persons; unique by one choice at least, for more."""
    person, point = np.array(rows).T
    visited = {who: set(point[person == who].tolist()) for who in set(person.tolist())}
    eligible = [who for who, seen in visited.items() if len(seen) >= points]
    choices = [itertools.combinations(visited[who], points) for who in eligible]
    alone = [[sum(set(one) <= seen for seen in visited.values()) == 1 for one in chosen] for chosen in choices]
    found = attacks.unicity(person, point, points, np.random.default_rng(1))
    if not eligible:
        assert math.isnan(found)
        return
    low, high = (sum(map(test, alone)) / len(eligible) for test in (all, any))
    assert low - 1e-9 <= found <= high + 1e-9
