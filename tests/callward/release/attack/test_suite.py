"""The suite over planted victims: every attack is real on raw figures, bounded on ours, and catches what is broken."""

from dataclasses import replace

import numpy as np
import pytest

from callward.release.attack import broken_controls, mechanisms_under_test, population, suite, unicity
from callward.release.attack.mechanisms_under_test import Privacy
from callward.release.attack.suite import DP, RAW, THRESHOLD, AttackSuite, Effort

EFFORT = Effort(trials=3000, draws=4, days=(1, 7), days_draws=15_000)


@pytest.fixture(scope="module")
def scene():
    return population.scene(3, 100_000)


@pytest.fixture(scope="module")
def attack_suite(scene):
    return AttackSuite(scene, effort=EFFORT)


@pytest.fixture(scope="module")
def attacks(attack_suite):
    return {one.name: one for one in attack_suite.attacks()}


ATTACKS = ("correction", "two_grains", "totals", "repeats", "presence", "many_days")


# -- victims -----------------------------------------------------------------------------------------------------------


def test_victims_are_what_they_are_planted_as(scene):
    traffic, planted = scene
    people, late = (
        mechanisms_under_test.subscribers(traffic),
        mechanisms_under_test.subscribers(traffic.where(traffic.late)),
    )
    assert (people[planted.lone_cells] == 1).all()
    assert (late[planted.late_cells] == 1).all() and (people[planted.late_cells] > 1).all()
    assert people[planted.edge_cell] == broken_controls.K
    assert (mechanisms_under_test.calls(traffic.where(traffic.unit == planted.whale)) > 0).sum() >= population.AREAS


def test_traffic_is_as_skewed_as_real_traffic(scene):
    calls = np.sort(np.bincount(scene.traffic.area))[::-1]
    of_each = np.sort(np.unique(scene.traffic.unit, return_counts=True)[1])[::-1]
    by_hour = np.bincount(scene.traffic.hour, minlength=24)
    assert calls[0] > 20 * np.median(calls)
    assert of_each[: len(of_each) // 100].sum() > 0.1 * of_each.sum()
    assert by_hour[10] > 5 * by_hour[3]


def test_the_same_seed_makes_the_same_calls(scene):
    again, other = population.scene(3, 100_000).traffic, population.scene(4, 100_000).traffic
    assert (again.start_ms == scene.traffic.start_ms).all()
    assert (other.start_ms[:1000] != scene.traffic.start_ms[:1000]).any()


# -- attacks -----------------------------------------------------------------------------------------------------------


def test_every_attack_is_there(attacks):
    assert tuple(attacks) == ATTACKS


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_real_on_raw_figures(attacks, name):
    assert attacks[name].figure(RAW).value > 0.95


@pytest.mark.parametrize("name", ATTACKS)
def test_a_private_table_keeps_its_bound(attacks, name):
    figure = attacks[name].figure(DP)
    assert figure.most is not None and figure.value <= figure.most + 0.05
    assert figure.most < 1


@pytest.mark.parametrize("name", ["two_grains", "totals"])
def test_a_threshold_table_keeps_its_hidden_cells(attacks, name):
    assert attacks[name].figure(THRESHOLD).value == 0


def test_a_hidden_cell_of_a_threshold_table_could_be_many_things(attacks):
    assert min(attacks["totals"].plot["widths"]) >= broken_controls.K


@pytest.mark.parametrize("name", ["correction", "presence"])
def test_a_threshold_table_is_no_anonymity(attacks, name):
    """Why it is called suppression: it exposes late persons and tells who is in."""
    assert attacks[name].figure(THRESHOLD).value > 0.8


def test_the_threshold_table_really_changes_with_a_person(scene):
    """What the membership figure of a threshold table counts, on a few persons whose rows are in shown figures."""
    partition = mechanisms_under_test.suppressed(scene.traffic, broken_controls.K)
    inside = np.unique(scene.traffic.unit[partition.group[scene.traffic.day_cell] >= 0])
    before = mechanisms_under_test.leaves(partition)
    for unit in inside[:: len(inside) // 5]:
        after = mechanisms_under_test.suppressed(scene.traffic.where(scene.traffic.unit != unit), broken_controls.K)
        same = np.array_equal(after.group, partition.group) and np.array_equal(
            after.stats.counts, partition.stats.counts
        )
        assert not same, "a person left, and the table is the same"
    assert before.shown.any()


def test_days_add_up_below_their_bound(attacks):
    plot = attacks["many_days"].plot
    assert plot["measured"][1] > plot["measured"][0] - 0.03
    assert all(found <= most + 0.05 for found, most in zip(plot["measured"], plot["most"], strict=True))


def test_less_privacy_gives_the_attacker_more(scene):
    """The suite measures something: with epsilon 8 the same attacker does better than with 1, within a wider bound."""
    strict, lax = (AttackSuite(scene, Privacy(epsilon=epsilon), EFFORT).presence().figure(DP) for epsilon in (1, 8))
    assert strict.value + 0.2 < lax.value <= lax.most + 0.05


# -- what is broken is caught ------------------------------------------------------------------------------------------


def test_every_broken_mechanism_is_caught(attack_suite):
    found = list(attack_suite.controls())
    assert [one.mechanism for one in found if not one.caught] == []
    assert len(found) == 9


def test_a_ledger_that_draws_anew_is_caught(attack_suite):
    """The same attack on repeats, against a ledger that forgets."""

    def forgetful(draw, runs):
        some = np.array([draw() for _ in range(runs // 7)])
        return np.resize(some, (runs, some.shape[1]))

    assert not attack_suite.repeats(forgetful).figure(DP).holds
    assert attack_suite.repeats(suite.once).figure(DP).holds


@pytest.mark.parametrize("broken", ["no noise", "too little noise"])
def test_noise_that_is_missing_is_caught(scene, broken, monkeypatch):
    sound = Privacy()
    weak = broken_controls.exact if broken == "no noise" else broken_controls.noisy(1, sound.rho * 2)
    monkeypatch.setattr(Privacy, "noise", property(lambda self: weak))
    assert not AttackSuite(scene, sound, replace(EFFORT, draws=3)).presence().figure(DP).holds


def test_a_table_without_complementary_suppression_is_caught(scene, monkeypatch):
    """Cells hidden one by one, and every area's total beside them."""

    def each_alone(self):
        sums_of = mechanisms_under_test.areas()
        return self._recovered(
            mechanisms_under_test.cell_by_cell(self._traffic, broken_controls.K), sums_of, sums_of @ self._counts
        )

    monkeypatch.setattr(AttackSuite, "_recovered_from_both", each_alone)
    assert not AttackSuite(scene, effort=EFFORT).two_grains().figure(THRESHOLD).holds


# -- unicity -----------------------------------------------------------------------------------------------------------


def test_rows_are_unique_and_coarser_rows_less(scene):
    found = {one.what: one.shares for one in unicity.unicities(scene.traffic, 300, np.random.default_rng(1))}
    assert found["billing view: millisecond"][-1] > 0.99
    assert found["failed attempts: minute and area"][-1] > 0.95
    assert found["hour × area"][-1] > 0.5 > found["4 hours × region"][-1]
