"""Learning on a shop whose customers' rates are known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.models.budget import Budget
from recsys.propensity.days import summarize
from recsys.propensity.features import FEATURES
from recsys.propensity.networks import Examples, train_linear, train_network
from recsys.propensity.scorer import standardize
from recsys.propensity.training import learn, missing_for

CUSTOMERS, LENGTH, WINDOW = 600, 80, 28


def shop(customers, length, seed=0):
    """Customers with a rate of their own; a third of them leaves for good in the middle. Rates, who left, events."""
    random = np.random.default_rng(seed)
    rates = random.gamma(1.0, 0.03, customers) + 0.01
    left = np.where(random.random(customers) < 0.3, length // 2, 0)
    bought = random.random((customers, length)) < rates[:, None]
    bought[:, 0] |= random.random(customers) < 0.5
    bought &= np.arange(length)[::-1] >= left[:, None]
    users, days = np.nonzero(bought)
    values = random.lognormal(3.0, 0.5, len(users)) * (1 + users % 3)
    times = (days - length) * MICROSECONDS_PER_DAY + 1
    items = random.integers(0, 20, len(users))
    summed = summarize(
        users, items, times, values,
        is_purchase=np.ones(len(users), np.bool_), category_of=np.arange(20) % 4, user_count=customers, as_of=0,
    )  # fmt: skip
    return rates, left > 0, summed


@pytest.fixture(scope="module")
def learned():
    rates, left, days = shop(CUSTOMERS, LENGTH)
    return rates, left, days, learn(days, WINDOW, item_count=20, category_count=4, seed=3, device="cpu")


def test_thin_data_is_refused_with_the_figures_that_are_missing():
    _, _, days = shop(40, 50)
    found = learn(days, WINDOW, item_count=20, category_count=4, seed=0)
    assert found.scorer is None
    assert len(found.reasons) == 3
    customers = len(np.unique(days.users))
    assert f"{customers} customers with a purchase; 500 are needed" in found.reasons
    assert any(reason.startswith("50 days from the first purchase on") for reason in found.reasons)
    assert missing_for(days, 7) != found.reasons


def test_past_cuts_are_eight_and_every_figure_is_there(learned):
    past = learned[3].facts["past"]
    assert len(past["cuts"]) == 8
    assert past["auc"] > 0.6
    assert past["mean_error_of_buyers"] < 0.15
    assert len(past["calibration"]) == len(past["lift_by_decile"]) == 10
    assert past["lift_by_decile"][0] > 1.5


def test_who_buys_more_often_is_expected_to_buy_and_who_left_is_at_risk(learned):
    rates, left, days, found = learned
    users = np.unique(days.users)
    told = found.scorer.predict(days, users, np.zeros(len(users), np.int64))
    here = ~left[users]
    assert spearmanr(told.probability[here], rates[users][here]).statistic > 0.4
    assert told.churn_risk[left[users]].mean() > told.churn_risk[here].mean() + 0.1
    assert ((told.churn_risk >= 0) & (told.churn_risk <= 1)).all()
    assert (told.value_low <= told.value_high).all()
    expected = np.where(left[users], 0.0, 1 - (1 - rates[users]) ** WINDOW)
    assert told.probability.sum() == pytest.approx(expected.sum(), rel=0.25)


def test_the_same_seed_trains_the_same_network():
    random = np.random.default_rng(0)
    features = random.normal(size=(6000, len(FEATURES)))
    examples = Examples(features, features[:, 0] > 0, np.exp(features[:, 1]))
    columns, device = np.arange(len(FEATURES)), torch.device("cpu")
    one, same, other = (train_network(examples, columns, seed=seed, device=device) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.predict(features)[0], same.predict(features)[0])
    assert not np.array_equal(one.predict(features)[0], other.predict(features)[0])
    assert ((one.predict(features)[0] > 0.5) == examples.bought).mean() > 0.8


def test_one_customer_alone_gets_the_same_scores(learned):
    _, _, days, found = learned
    users = np.unique(days.users)[:20]
    whole = found.scorer.predict(days, users, np.zeros(20, np.int64))
    for at, user in enumerate(users):
        one = found.scorer.predict(days.of_users(np.array([user])), np.zeros(1, np.int64), np.zeros(1, np.int64))
        assert one.probability[0] == pytest.approx(whole.probability[at])
        assert one.value[0] == pytest.approx(whole.value[at])
        assert one.churn_risk[0] == pytest.approx(whole.churn_risk[at])


def test_a_budget_that_has_ended_leaves_the_regressions_judged_on_eight_cuts_and_says_what_was_dropped(learned):
    _, _, days, _ = learned
    budget = Budget(-1.0)
    found = learn(days, WINDOW, item_count=20, category_count=4, seed=3, device="cpu", budget=budget)
    assert found.facts["model"] == "logistic"
    assert len(found.facts["past"]["cuts"]) == 8
    assert list(found.facts["log_losses"]) == ["logistic"]
    assert found.facts["dropped"]["logistic and network"] == f"judged on 0 of 8 cuts: {budget.reason}"


def test_a_linear_member_lies_at_the_optimum_of_its_loss():
    random = np.random.default_rng(0)
    features = random.normal(size=(800, len(FEATURES)))
    examples = Examples(features, random.random(800) < 0.3, np.zeros(800))
    member = train_linear(examples, np.arange(len(FEATURES)), ridge=1.0, device=torch.device("cpu"))
    rows = standardize(features, member.mean, member.scale)
    off = member.predict(features)[0] - examples.bought
    assert np.abs(rows.T @ off + member.output[:, 0]).max() < 1e-2  # the gradient with the ridge
    assert abs(off.sum()) < 1e-2
    assert not member.output[:, 1].any()  # nobody paid: no weights of the amount


def test_the_amount_of_a_linear_member_is_a_regression_of_its_logarithm():
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, len(FEATURES)))
    logs = 2 + 0.5 * features[:, 0] + random.normal(0, 0.3, 4000)
    examples = Examples(features, random.random(4000) < 0.5, np.exp(logs))
    member = train_linear(examples, np.arange(len(FEATURES)), ridge=1.0, device=torch.device("cpu"))
    assert member.output[0, 1] == pytest.approx(0.5, abs=0.03)
    assert member.output_bias[1] == pytest.approx(2.0, abs=0.03)
    assert member.spread == pytest.approx(0.3, abs=0.02)
