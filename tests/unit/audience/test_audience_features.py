import numpy as np
import pytest
from tiny import CART, DAY, PURCHASE, VIEW, events, vectors

from recsys.audience.features import NEVER_DAYS, Affinity, compute_user_features, compute_user_item_features

TARGETS = (PURCHASE,)
ITEMS = np.array([2, 0], np.int32)


def histories(rows, *, users=1, as_of=100.0):
    found = events(rows, users=users, items=4)
    return found.histories(np.arange(users), round(as_of * DAY), 500)


def taste():
    return Affinity.of(vectors(np.eye(4)))


def test_habits_are_counted_in_days_before_the_moment():
    rows = [
        (0, 0, PURCHASE, 5.0),
        (0, 1, PURCHASE, 50.2),
        (0, 1, PURCHASE, 50.4),
        (0, 2, PURCHASE, 90.0),
        (0, 3, VIEW, 98.0),
        (0, 3, VIEW, 98.5),
        (0, 3, CART, 99.0),
    ]
    found = compute_user_features(histories(rows), TARGETS)
    assert found.days_since_event == pytest.approx(1)
    assert found.days_since_purchase == pytest.approx(10)
    assert found.days_since_first_purchase == pytest.approx(95)
    assert found.event_days_28 == 3  # the days that begin 10, 2 and 1 before it
    assert (found.purchases, found.purchase_days, found.purchase_days_28, found.purchase_days_90) == (4, 3, 1, 2)


def test_a_basket_is_what_is_bought_in_a_period_in_which_anything_is_bought():
    rows = [(0, item, PURCHASE, 99.0) for item in (0, 1, 2, 2)] + [(0, 3, PURCHASE, 10.0)]
    assert compute_user_features(histories(rows), TARGETS).basket == 2  # 3 items in one period, 1 in another


def test_who_only_looked_has_a_history_and_never_bought():
    found = compute_user_features(histories([(0, 1, VIEW, 99.0)], users=2), TARGETS)
    assert found.has_history.tolist() == [True, False]
    assert found.purchases.tolist() == [0, 0]
    assert (found.days_since_purchase == NEVER_DAYS).all()
    assert (found.days_since_event[1], found.basket[0]) == (NEVER_DAYS, 0)


def test_dealings_are_of_each_item_by_itself():
    rows = [
        (0, 0, PURCHASE, 60.1),
        (0, 0, PURCHASE, 60.9),
        (0, 0, PURCHASE, 80.0),
        (0, 2, VIEW, 86.0),
        (1, 2, PURCHASE, 95.0),
        (1, 1, PURCHASE, 99.0),
    ]
    found = compute_user_item_features(histories(rows, users=2), ITEMS, taste(), TARGETS)
    assert found.bought_days.tolist() == [[0, 2], [1, 0]]
    np.testing.assert_allclose(found.days_since_bought, [[NEVER_DAYS, 20], [5, NEVER_DAYS]], rtol=1e-6)
    np.testing.assert_allclose(found.looks, [[0.5, 0], [0, 0]], rtol=1e-6)


def test_the_length_of_a_user_vector_is_no_taste():
    item_vectors = np.random.default_rng(0).normal(size=(6, 3))
    history = histories([(0, 1, PURCHASE, 90.0), (0, 3, PURCHASE, 95.0)])
    found = [Affinity.of(vectors(item_vectors, item_vectors * by)).measure(history, ITEMS) for by in (1, 100)]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_taste_says_by_how_many_deviations_an_item_is_above_the_ordinary_one():
    item_vectors = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    history = events([(0, 7, PURCHASE, 99.0)], users=1, items=50).histories(np.array([0]), 100 * DAY, 10)
    found = Affinity.of(vectors(item_vectors)).measure(history, np.arange(50, dtype=np.int32))[0]
    assert found.mean() == pytest.approx(0, abs=1e-6)
    assert found.std() == pytest.approx(1, rel=1e-6)
    assert found.argmax() == 7


def test_the_length_of_an_item_vector_is_no_taste():
    history = histories([(0, 1, PURCHASE, 90.0)])
    plain, stretched = (
        np.array([[1, 0.2], [0.9, 0], [0, 1], [0.3, -1]]),
        np.array([[5, 1.0], [0.9, 0], [0, 9], [3, -10]]),
    )
    found = [Affinity.of(vectors(v, history_vectors=plain)).measure(history, ITEMS) for v in (plain, stretched)]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_closeness_is_the_cosine_with_the_closest_other_item_of_the_history():
    item_vectors = np.array([[1, 0], [3, 4], [0, 2], [0.6, 0.8]])
    rows = [(0, 1, VIEW, 70.0), (0, 0, PURCHASE, 100.0), (2, 2, PURCHASE, 99.0)]
    found = compute_user_item_features(histories(rows, users=3), ITEMS, Affinity.of(vectors(item_vectors)), TARGETS)
    np.testing.assert_allclose(found.closeness, [[0.8, 0.6], [0, 0], [0, 0]], atol=1e-6)  # of item 2 and of item 0
    np.testing.assert_allclose(found.fresh_closeness, [[0.4, 0.3], [0, 0], [0, 0]], atol=1e-6)  # 30 days ago: halved


def test_each_column_of_the_design_is_of_buyers_or_of_the_others():
    item_vectors = np.array([[1, 0], [3, 4], [0, 2], [0.6, 0.8]])
    rows = [(0, 0, PURCHASE, 60.0), (0, 1, PURCHASE, 99.0), (1, 1, VIEW, 99.0)]
    found = histories(rows, users=2)
    dealings = compute_user_item_features(found, ITEMS, Affinity.of(vectors(item_vectors)), TARGETS)
    design = dealings.design(compute_user_features(found, TARGETS), np.array([-3.0, -2.0]))
    assert design.shape == (2, 2, 15)
    assert design[..., 0].tolist() == [[-3, -2], [-3, -2]]
    assert design[..., 1].tolist() == [[0, 1], [0, 0]]
    others, buyers = design[..., 5::2], design[..., 6::2]
    assert (others[0, 1] == 0).all()
    assert (buyers[0, 1] != 0).all()
    assert (buyers[dealings.bought == 0] == 0).all()


def test_nothing_known_of_user_or_item_is_no_taste():
    item_vectors = np.array([[1, 0.2], [0.9, 0], [0, 0], [0.3, -1]])
    found = Affinity.of(vectors(item_vectors)).measure(histories([(0, 1, VIEW, 90.0)], users=2), ITEMS)
    assert found[0, 0] == 0  # item 2 has no vector
    assert found[0, 1] != 0
    assert (found[1] == 0).all()  # user 1 has no history


def test_a_catalog_of_nothing_but_new_items_has_no_taste():
    found = Affinity.of(vectors(np.zeros((4, 2)))).measure(histories([(0, 1, VIEW, 90.0)]), ITEMS)
    assert (found == 0).all()


def test_a_history_without_the_items_is_no_dealing():
    found = compute_user_item_features(histories([(0, 1, PURCHASE, 90.0)]), ITEMS, taste(), TARGETS)
    assert not found.bought.any()
    assert (found.looks == 0).all()
