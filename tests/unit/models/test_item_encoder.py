"""What has no events is placed by its features, as long as an ordinary item."""

import numpy as np
import pyarrow as pa
import torch

from recsys.data.catalog import Catalog
from recsys.data.vocabulary import Vocabulary
from recsys.models.item_encoder import fill_in

CATEGORIES, EACH, COLD, DIM = 4, 30, 3, 16


def filled(share):
    """Items of which `share` of the length is the category's, and COLD more a category without events."""
    random = np.random.default_rng(0)
    category = np.repeat(np.arange(CATEGORIES), EACH + COLD)
    trained = np.tile(np.arange(EACH + COLD) < EACH, CATEGORIES)
    directions = np.eye(CATEGORIES, DIM)
    own = random.standard_normal((len(category), DIM)) / np.sqrt(DIM)
    vectors = (share * directions[category] + (1 - share) * own).astype(np.float32)
    vectors *= random.lognormal(0, 0.7, (len(vectors), 1)).astype(np.float32)
    vectors[~trained] = 0
    history = vectors.copy()
    catalog = Catalog(
        Vocabulary.from_ids(map(str, range(len(category)))), pa.table({"category": [f"c{c}" for c in category]})
    )
    encoder = fill_in(catalog, vectors, history, trained, device=torch.device("cpu"))
    return catalog, encoder, vectors, history, trained, directions[category]


def test_new_items_point_to_their_category_and_are_as_long_as_ordinary_ones():
    catalog, encoder, vectors, history, trained, directions = filled(0.4)
    lengths = np.linalg.norm(vectors, axis=1)
    assert 0.6 < np.median(lengths[~trained]) / np.median(lengths[trained]) < 1.5
    cosines = (vectors * directions).sum(axis=1) / lengths
    assert cosines[~trained].min() > 0.8
    item, (part,) = encoder.encode(catalog.columns)
    np.testing.assert_allclose(item[~trained], vectors[~trained], rtol=1e-5)
    np.testing.assert_allclose(part[~trained], history[~trained], rtol=1e-5)


def test_features_that_say_nothing_are_not_made_to_shout():
    _, _, vectors, _, trained, _ = filled(0.0)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.median(lengths[~trained]) < 0.9 * np.median(lengths[trained])
