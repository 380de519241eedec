"""What customers did, as features at a moment: nothing of later, nothing of others."""

import numpy as np
import pytest

from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.propensity.days import BuyingDays, summarize
from recsys.propensity.features import FEATURES, Usual, compute, usual_before

NOTHING_USUAL = Usual(np.log1p(10.0), np.zeros(3), np.zeros(2))


def days_of(rows, users=2):
    """rows: user, item, days ago (1: the last day), value; None as the value: an event that is no purchase."""
    who, what, ago, value = (np.array(column) for column in zip(*rows, strict=True))
    is_purchase = np.array([one is not None for one in value])
    return summarize(
        who.astype(np.int64),
        what.astype(np.int64),
        -ago.astype(np.int64) * MICROSECONDS_PER_DAY + 5,
        np.array([0.0 if one is None else one for one in value], np.float64),
        is_purchase=is_purchase,
        category_of=np.array([0, 0, 1]),
        user_count=users,
        as_of=0,
    )


def feature(days: BuyingDays, name: str, at: int = 0, user: int = 0) -> float:
    found = compute(days, np.array([user]), np.array([at]), NOTHING_USUAL, 90)
    return float(found[0, FEATURES.index(name)])


def test_purchases_of_a_day_are_one_order():
    days = days_of([(0, 0, 3, 2.0), (0, 1, 3, 5.0), (0, 0, 13, 4.0)])
    assert days.amounts.tolist() == [4.0, 7.0]
    assert np.expm1(feature(days, "orders")) == pytest.approx(2)
    assert np.expm1(feature(days, "purchases")) == pytest.approx(3)
    assert np.expm1(feature(days, "items")) == pytest.approx(2)
    assert np.expm1(feature(days, "categories")) == pytest.approx(1)
    assert np.expm1(feature(days, "recency")) == pytest.approx(3)
    assert np.expm1(feature(days, "age")) == pytest.approx(13)
    assert np.expm1(feature(days, "last_amount")) == pytest.approx(7)


def test_features_of_a_moment_know_nothing_of_later():
    early = [(0, 0, 40, 2.0), (0, 1, 60, 5.0), (1, 2, 50, 1.0), (0, 2, 45, None)]
    later = [(0, 2, 30, 100.0), (0, 2, 10, None), (1, 0, 5, 9.0)]
    users, at = np.array([0, 1]), np.array([-30, -30])
    alone, both = (compute(days_of(rows), users, at, NOTHING_USUAL, 20) for rows in (early, early + later))
    np.testing.assert_allclose(alone, both)


def test_an_event_that_is_no_purchase_counts_as_activity_alone():
    days = days_of([(0, 0, 20, 2.0), (0, 1, 2, None)])
    assert np.expm1(feature(days, "recency")) == pytest.approx(20)
    assert np.expm1(feature(days, "days_since_event")) == pytest.approx(2)
    assert np.expm1(feature(days, "orders")) == pytest.approx(1)


def test_a_return_of_later_does_not_count_before_the_window_has_ended():
    rows = [(0, 0, 50, 1.0), (0, 1, 45, 1.0), (1, 2, 50, 1.0), (1, 2, 12, 1.0)]
    known = usual_before(days_of(rows), 0, 10, 3, 2)
    assert known.item_return[0] > 0  # its buyer came back within ten days
    assert known.item_return[2] < 0  # this one took longer
    at_once = usual_before(days_of(rows), -44, 10, 3, 2)
    np.testing.assert_allclose(at_once.item_return, 0)  # nobody's ten days had passed by then


def test_taste_is_that_of_the_items_bought():
    usual = Usual(1.0, np.array([1.0, 3.0, -7.0]), np.array([0.5, -0.5]))
    days = days_of([(0, 0, 9, 1.0), (0, 1, 8, 1.0), (1, 2, 9, 1.0)])
    found = compute(days, np.array([0, 1]), np.zeros(2, np.int64), usual, 30)
    assert found[:, FEATURES.index("taste")].tolist() == [2.0, -7.0]
    assert found[:, FEATURES.index("category_taste")].tolist() == [0.5, -0.5]
