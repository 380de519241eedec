"""What the items of a history add to a score: exact for weighted sums, left out one by one for networks."""

from dataclasses import replace

import numpy as np
import pytest
import tiny

from recsys.data.interactions import Histories
from recsys.models.vectors import Constant, Part, Vectors, WeightedSum
from recsys.serving.explain import contributions
from recsys.serving.fresh_items import CatalogView

ITEMS, DIM = 12, 4
ROWS = [3, 0, 7]


class Largest:
    """A network in small: of every dimension the largest value, and how many events there are."""

    name = "largest"

    def encode(self, history_vectors, histories):
        found = np.zeros((len(histories), history_vectors.shape[1]), np.float32)
        for user in range(len(histories)):
            items = histories.items[histories.offsets[user] : histories.offsets[user + 1]]
            if len(items):
                found[user] = history_vectors[items].max(axis=0) + len(items)
        return found


def view_of(*encoders):
    random = np.random.default_rng(5)
    widths = [1 if isinstance(encoder, Constant) else DIM for encoder in encoders]
    parts = [
        Part(random.standard_normal((ITEMS, width)).astype(np.float32), encoder)
        for width, encoder in zip(widths, encoders, strict=True)
    ]
    item_vectors = random.standard_normal((ITEMS, sum(widths))).astype(np.float32)
    bundle = tiny.bundle(item_vectors)
    return CatalogView(replace(bundle, vectors=Vectors("mf", item_vectors, tuple(parts), None, {})))


def history():
    """Item 4 three times, which is clipped."""
    items = np.array([4, 9, 4, 1, 4], np.int32)
    return Histories(np.array([0, 5]), items, np.array([0, 1, 0, 0, 1], np.int8), np.arange(5, dtype=np.float32)[::-1])


@pytest.mark.parametrize("scaling", ["degree", "unit"])
def test_of_weighted_sums_the_contributions_add_up_to_the_score(scaling):
    encoder = WeightedSum((0.4, 1.0), 30.0, scaling=scaling)
    view = view_of(encoder, WeightedSum((1.0, 1.0), 5.0), Constant())
    found = contributions(view, history(), ROWS)
    assert found.is_exact
    assert found.items.tolist() == [1, 4, 9]
    users = view.main.vectors.encode(history())
    scores = view.main.vectors.item_vectors[ROWS] @ users[0]
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
    constant = view.main.vectors.item_vectors[ROWS, -1]
    np.testing.assert_allclose(found.shares.sum(axis=1) + constant, scores, rtol=1e-4, atol=1e-5)
    told = found.told(view, 0)
    assert told["method"] == "exact"
    assert told["rest"] == pytest.approx(float(constant[0]), abs=1e-4)
    assert [abs(one["contribution"]) for one in told["history"]] == sorted(np.abs(found.shares[0]), reverse=True)


def test_of_a_network_a_contribution_is_what_the_score_loses_without_the_item():
    view = view_of(Largest())
    whole = history()
    found = contributions(view, whole, ROWS)
    assert not found.is_exact
    assert found.told(view, 1)["rest"] is None
    targets = view.main.vectors.item_vectors[ROWS]
    for at, item in enumerate(found.items):
        without = whole.select(whole.items != item)
        expected = targets @ (view.main.vectors.encode(whole) - view.main.vectors.encode(without))[0]
        np.testing.assert_allclose(found.shares[:, at], expected, rtol=1e-4, atol=1e-5)
