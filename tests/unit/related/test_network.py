import numpy as np

from recsys.related.network import Lists, train


def drawn_lists(count, seed):
    """Lists of 12 candidates: wanted is the one nearest to 1 in the first feature; two more features say nothing."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 2, (count, 12, 3)).astype(np.float32)
    best = np.abs(features[:, :, 0] - 1).argmin(axis=1)
    gains = np.zeros((count, 12), np.float32)
    gains[np.arange(count), best] = 1
    return Lists(np.arange(count + 1) * 12, features.reshape(-1, 3), gains.ravel()), best


def test_it_learns_what_no_straight_line_ranks():
    lists, _ = drawn_lists(4000, 1)
    unseen, best = drawn_lists(300, 2)
    scores = train(lists, seed=0).score(unseen.features).reshape(300, 12)
    places = (scores > scores[np.arange(300), best][:, None]).sum(axis=1)
    assert (places == 0).mean() > 0.55
    first_feature = -unseen.features[:, 0].reshape(300, 12)
    assert (first_feature.argmax(axis=1) == best).mean() < 0.4


def test_the_same_seed_gives_the_same_network():
    lists, _ = drawn_lists(100, 1)
    np.testing.assert_array_equal(train(lists, seed=3).output, train(lists, seed=3).output)


def test_lists_of_different_lengths_and_constant_features_do_no_harm():
    lists = Lists(
        np.array([0, 1, 4, 9]),
        np.concatenate([np.arange(9)[:, None], np.ones((9, 1))], axis=1).astype(np.float32),
        np.array([1, 0, 1, 0, 0, 0, 0, 0, 1], np.float32),
    )
    network = train(lists, seed=0)
    assert np.isfinite(network.score(lists.features * 1e6)).all()
