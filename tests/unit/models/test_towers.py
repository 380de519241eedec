"""The towers leave the positive out of its own history, and learn what goes together."""

import numpy as np
import pytest
import torch
from scipy import sparse

from recsys.models.negatives import Negatives
from recsys.models.two_tower.towers import Pairs, Towers, TwoTowerParams, shuffle_in_runs

CPU = torch.device("cpu")


PARAMS = {
    **{"half_life_days": 90.0, "recency_half_life_days": 10.0, "trend_weight": 0.0, "temperature": 0.1, "epochs": 1},
    **{"normalize_items": True, "max_events_per_epoch": 1000, "batch_size": 64, "negatives": 16, "learning_rate": 0.1},
}


def towers(weights, *, dim=8, features=None, seed=0, draw=None, **params):
    items = weights.shape[1]
    random = np.random.default_rng(0)
    start = random.standard_normal((2, items, dim)).astype(np.float32)
    features = sparse.csr_array((items, 0)) if features is None else features
    pairs = Pairs(sparse.csr_array(weights, dtype=np.float32), features)
    draw = np.ones(items) if draw is None else draw
    return Towers(pairs, (start[0], start[1]), TwoTowerParams(**{**PARAMS, "dim": dim, **params}), draw, CPU, seed=seed)


def test_the_positive_is_no_part_of_its_own_history():
    two = towers(np.array([[0.5, 1.0, 0.0], [0.0, 0.7, 1.0]]))
    users, items = np.array([0, 0, 1]), np.array([0, 1, 2])
    found = two._user_vectors(users, items, np.array([0.5, 1.0, 1.0], np.float32)).detach().numpy()
    left = two.history_vectors[[1, 0, 1]]  # what is left of each history
    np.testing.assert_allclose(found, left / np.linalg.norm(left, axis=1, keepdims=True), atol=1e-5)


def test_features_add_to_the_item_s_own_vector():
    features = sparse.csr_array(np.array([[1.0], [0.0], [1.0]], np.float32))
    two = towers(np.ones((2, 3)), features=features)
    two.item_tower.state_dict()["embedding_bags.token.weight"].fill_(5.0)
    changed = towers(np.ones((2, 3)), features=features).item_vectors - two.item_vectors
    assert np.abs(changed[[0, 2]]).min() > 0
    np.testing.assert_allclose(changed[1], 0, atol=1e-6)
    np.testing.assert_allclose(two._item_vectors(np.arange(3)).detach().numpy(), two.item_vectors, atol=1e-5)


def test_training_finds_what_is_bought_together():
    random = np.random.default_rng(1)
    weights = np.kron(np.eye(2), (random.random((60, 6)) < 0.6))  # two groups of users, each with items of its own
    two = towers(weights, batch_size=32, negatives=8, learning_rate=0.1, temperature=0.2)
    losses = [two.train_epoch(epoch, lambda _: True) for epoch in range(1, 16)]
    assert losses[-1] < losses[0] * 0.7
    likeness = two.history_vectors @ two.item_vectors.T
    assert likeness[:6, :6].mean() > likeness[:6, 6:].mean() + 0.5


@pytest.mark.parametrize("negatives", [1, 5, 50])
def test_the_same_seed_gives_the_same_bits(negatives):
    weights = (np.random.default_rng(2).random((40, 10)) < 0.4).astype(float)

    def trained():
        two = towers(weights, negatives=negatives, batch_size=16, seed=5)
        two.train_epoch(1, lambda _: True)
        return two.item_vectors

    np.testing.assert_array_equal(trained(), trained())


@pytest.mark.parametrize("most", [1, 50, 1000])
def test_a_pass_ends_after_so_many_positives(most, monkeypatch):
    two, seen = towers(np.ones((20, 5)), batch_size=16, negatives=4, max_events_per_epoch=most), []
    loss = two._loss
    monkeypatch.setattr(two, "_loss", lambda users, *rest: seen.extend(users) or loss(users, *rest))
    two.train_epoch(1, lambda _: True)
    assert len(seen) == min(most, 100)


def test_positives_come_once_each_in_short_runs_of_a_user_in_random_order():
    users = np.repeat(np.arange(5), [1, 30, 9, 0, 3])
    kept = np.arange(len(users)) != 4
    order = shuffle_in_runs(users, kept, 100, np.random.default_rng(0))
    assert sorted(order) == np.flatnonzero(kept).tolist()
    assert (order != np.sort(order)).mean() > 0.5
    changes = np.count_nonzero(np.diff(users[order])) + 1
    assert changes < len(order) / 2, "runs, or histories are summed again and again"
    assert changes > len(np.unique(users)), "and not one run a user"


def test_runs_are_of_eight_and_hold_other_positives_of_the_user_in_each_pass():
    users, generator = np.repeat(np.arange(50), 16), np.random.default_rng(0)
    kept, found = np.ones(len(users), np.bool_), []
    for _ in range(2):
        runs = shuffle_in_runs(users, kept, len(users), generator).reshape(-1, 8)
        assert (users[runs] == users[runs[:, :1]]).all()
        found.append({frozenset(run) for run in runs.tolist()})
    assert not found[0] & found[1]


def test_a_sample_of_the_positives_takes_each_as_often_as_the_others():
    users, generator = np.repeat(np.arange(6), [1, 30, 9, 0, 3, 16]), np.random.default_rng(0)
    kept, taken, passes, most = np.arange(len(users)) != 4, np.zeros(len(users)), 3000, 20
    for number in range(passes):
        order = shuffle_in_runs(users, kept, most, generator)
        assert len(order) == most
        taken[order] += 1
        assert taken.max() <= number + 1, "none comes twice"
    share = taken[kept] / passes
    assert not taken[~kept].any()
    # The run that the sample's end falls into is cut, so that what is in long runs comes a little less often.
    assert share.mean() == pytest.approx(most / kept.sum())
    assert share.min() > 0.75 * share.mean()
    assert share.max() < 1.35 * share.mean()


def test_the_loss_of_a_sample_estimates_that_of_all_items():
    weights = (np.random.default_rng(2).random((40, 10)) < 0.4).astype(float)
    two, draw = towers(weights, temperature=0.5), np.linspace(1, 12, 10)  # far from uniform
    users, items = (at.astype(np.int64) for at in np.nonzero(weights))
    few, many = Negatives(draw), Negatives(draw)
    many._all = np.arange(20_001)  # else they would all be taken, which is no sample
    found = [
        float(two._loss(users, items, np.ones(len(users), np.float32), drawn).detach())
        for drawn in (of.take(20_000, np.random.default_rng(0)) for of in (few, many))
    ]
    assert found[1] == pytest.approx(found[0], rel=0.01)
