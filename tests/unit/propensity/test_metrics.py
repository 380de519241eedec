"""Metrics beside values counted by hand."""

import numpy as np
import pytest

from recsys.propensity import metrics
from recsys.propensity.correction import correct_by_isotonic, correct_by_platt, correct_level
from recsys.propensity.past_cuts import Totals

BOUGHT = np.array([True, False, True, False])


def test_auc_counts_ties_as_half():
    assert metrics.auc(BOUGHT, np.array([0.9, 0.1, 0.8, 0.2])) == 1.0
    assert metrics.auc(BOUGHT, np.array([0.5, 0.5, 0.8, 0.2])) == pytest.approx(3.5 / 4)
    assert np.isnan(metrics.auc(np.ones(4, np.bool_), np.arange(4.0)))


def test_average_precision_does_not_reward_the_order_of_equal_scores():
    assert metrics.average_precision(BOUGHT, np.array([0.9, 0.1, 0.2, 0.8])) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(BOUGHT, np.full(4, 0.5)) == pytest.approx(0.5)


def test_value_in_the_best_order_has_a_gini_of_1_and_the_reverse_less_than_0():
    value = np.array([0.0, 1.0, 5.0, 20.0])
    assert metrics.gini(value, value) == pytest.approx(1.0)
    assert metrics.gini(value, -value) < 0
    assert np.isnan(metrics.gini(np.zeros(4), value))


def test_lift_is_of_tenths_best_first():
    value = np.arange(20.0)
    assert metrics.lifts(value, value)[0] == pytest.approx(18.5 / 9.5)
    assert metrics.lifts(value, value)[-1] == pytest.approx(0.5 / 9.5)


@pytest.mark.parametrize("learn", [correct_level, correct_by_platt, correct_by_isotonic])
def test_a_correction_brings_a_level_that_is_off_near_the_truth(learn):
    random = np.random.default_rng(0)
    truth = random.uniform(0.1, 0.9, 5000)
    bought = random.random(5000) < truth
    told = truth * 0.5
    correction = learn(told, bought)
    assert correction.apply(told).sum() == pytest.approx(bought.sum(), rel=0.02)
    assert metrics.log_losses(bought, correction.apply(told)).mean() < metrics.log_losses(bought, told).mean()
    order = np.argsort(told)
    assert (np.diff(correction.apply(told[order])) >= -1e-9).all()


def test_an_interval_of_totals_is_as_wide_as_past_cuts_were_off():
    exact = Totals.of([100.0, 50.0], [100.0, 50.0], 2.0)
    off = Totals.of([100.0, 50.0], [150.0, 30.0], 2.0)
    assert exact.interval(80.0) == (80.0, 80.0)
    low, high = off.interval(80.0)
    assert low < 80 / 1.5 < 80 * 1.5 < high
    assert Totals.of([1.0], [0.0], 1.0).interval(5.0) == (0.0, float("inf"))
