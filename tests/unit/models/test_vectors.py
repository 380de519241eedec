import numpy as np
import pyarrow as pa
import pytest
from tiny import PURCHASE, VIEW

from recsys.data.features import Tokens, item_tokens
from recsys.data.interactions import Histories
from recsys.models.vectors import (
    ENCODERS,
    Constant,
    ItemEncoder,
    Part,
    Vectors,
    WeightedSum,
    encoder_from_dict,
    encoder_to_dict,
    token_matrix,
)


def aged(*users):
    """Histories of (item, kind, age in days) of each user."""
    flat = [event for user in users for event in user]
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    items, kinds, ages = (
        np.array([event[at] for event in flat], kind) for at, kind in enumerate((np.int32, np.int8, np.float32))
    )
    return Histories(offsets, items, kinds, ages)


def test_a_weight_falls_with_age_and_differs_by_kind():
    encoder = WeightedSum((0.2, 0.5, 1.0), half_life_days=10.0)
    found = encoder.weights(aged([(0, PURCHASE, 0), (1, PURCHASE, 10), (2, VIEW, 20)]), 4).toarray()
    np.testing.assert_allclose(found, [[1, 0.5, 0.05, 0]], rtol=1e-6)


def test_a_repeated_item_counts_the_sum_of_its_events_up_to_the_clip():
    histories = aged([(0, VIEW, 0), (1, PURCHASE, 0), (0, VIEW, 0)], [(1, PURCHASE, 0), (1, PURCHASE, 0)])
    np.testing.assert_allclose(
        WeightedSum((0.2, 0.5, 1.0), 10.0).weights(histories, 2).toarray(), [[0.4, 1], [0, 1]], rtol=1e-6
    )
    np.testing.assert_allclose(
        WeightedSum((0.2, 0.5, 1.0), 10.0, clip=1.5).weights(histories, 2).toarray(), [[0.4, 1], [0, 1.5]], rtol=1e-6
    )


def test_degree_scaling_divides_by_the_root_of_the_weights():
    table = np.array([[1, 0], [0, 2], [5, 5]], np.float32)
    found = WeightedSum((1.0, 1.0, 0.25), 1e9).encode(table, aged([(0, VIEW, 0), (1, PURCHASE, 0)]))
    np.testing.assert_allclose(found, [[1 / 1.25**0.5, 0.5 / 1.25**0.5]], rtol=1e-6)


def test_unit_scaling_gives_vectors_of_length_one():
    table = np.array([[3, 0], [0, 4]], np.float32)
    found = WeightedSum((1.0, 1.0, 1.0), 1e9, scaling="unit").encode(table, aged([(0, VIEW, 0), (1, VIEW, 0)]))
    np.testing.assert_allclose(found, [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("scaling", ["degree", "unit"])
def test_an_empty_history_gives_zeros(scaling):
    found = WeightedSum((1.0, 1.0, 1.0), 30.0, scaling=scaling).encode(np.ones((2, 3), np.float32), aged([], []))
    assert found.dtype == np.float32
    assert found.tolist() == [[0] * 3] * 2


def test_encoding_leaves_the_histories_as_they_are():
    histories = aged([(1, VIEW, 0), (0, PURCHASE, 1), (1, VIEW, 2)])
    before = [array.copy() for array in (histories.offsets, histories.items, histories.kinds, histories.ages_days)]
    WeightedSum((1.0, 1.0, 1.0), 30.0).encode(np.ones((2, 3), np.float32), histories)
    after = (histories.offsets, histories.items, histories.kinds, histories.ages_days)
    for mine, theirs in zip(after, before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_user_is_encoded_alone_as_among_others():
    random = np.random.default_rng(0)
    table = random.normal(size=(50, 8)).astype(np.float32)
    users = [[(int(i), 1, 2.0) for i in random.integers(0, 50, n)] for n in (0, 3, 40, 1)]
    encoder = WeightedSum((0.2, 0.5, 1.0), 30.0)
    together = encoder.encode(table, aged(*users))
    for b, user in enumerate(users):
        np.testing.assert_array_equal(encoder.encode(table, aged(user))[0], together[b])


def test_constant_gives_everybody_the_same():
    assert Constant().encode(np.zeros((4, 1), np.float32), aged([], [(0, VIEW, 0)])).tolist() == [[1], [1]]


@pytest.mark.parametrize("encoder", [WeightedSum((0.2, 1.0), 30.0, 2.0, "unit"), Constant()])
def test_an_encoder_survives_the_manifest(encoder):
    assert encoder.name in ENCODERS
    assert encoder_from_dict(encoder_to_dict(encoder)) == encoder


def test_an_encoder_of_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"unknown user encoder 'tower'; known: weighted_sum, constant"):
        encoder_from_dict({"encoder": "tower"})


def test_parts_stand_side_by_side():
    table = np.array([[1, 2], [3, 4]], np.float32)
    weighted = WeightedSum((1.0, 1.0, 1.0), 1e9)
    vectors = Vectors(
        "blend", np.zeros((2, 3), np.float32), (Part(table, weighted), Part(table[:, :1], Constant())), None, {}
    )
    assert vectors.dim == 3
    np.testing.assert_allclose(vectors.encode(aged([(1, VIEW, 0)], [])), [[3, 4, 1], [0, 0, 1]])


def test_a_token_weighs_less_the_more_the_item_has_and_unknown_ones_nothing():
    tokens = Tokens(np.array([0, 4, 4, 5]), np.array([3, 9, 5, 1], np.uint64).repeat([1, 1, 1, 2]))
    found = token_matrix(tokens, np.array([3, 5, 7], np.uint64)).toarray()
    np.testing.assert_allclose(found, [[0.5, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    assert token_matrix(tokens, np.zeros(0, np.uint64)).shape == (3, 0)


def test_an_item_encoder_sums_the_rows_of_an_items_tokens():
    columns = pa.table({"brand": ["acme", "other", None], "title": ["mug", "mug", "bowl"]})
    hashes = np.unique(item_tokens(columns.slice(0, 1)).hashes)
    weights = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
    encoder = ItemEncoder(hashes, weights, (weights[:, :1], weights[:, 1:]))
    item_vectors, history_vectors = encoder.encode(columns)
    root = 2**0.5
    np.testing.assert_allclose(item_vectors[0], [3 / root, 4 / root], rtol=1e-6)
    assert np.count_nonzero(item_vectors[1]) == 1
    assert item_vectors[2].tolist() == [0, 0]
    np.testing.assert_array_equal(np.concatenate(history_vectors, axis=1), item_vectors)
