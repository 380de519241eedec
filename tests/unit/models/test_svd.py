"""The factorisation finds the largest singular values, from whichever side is smaller."""

import numpy as np
import pytest
import torch
from scipy import sparse

from recsys.models.mf.svd import factorize


@pytest.mark.parametrize("shape", [(200, 40), (40, 200), (40, 40)])
def test_the_largest_singular_values_and_their_items_are_found(shape):
    random = np.random.default_rng(0)
    matrix = (random.random(shape) < 0.2) * random.random(shape) ** 4
    found = factorize(sparse.csr_array(matrix, dtype=np.float32), 6, iterations=12, seed=0, device=torch.device("cpu"))
    _, values, items = np.linalg.svd(matrix)
    np.testing.assert_allclose(found.singular_values, values[:6], rtol=1e-4)
    likeness = np.abs(items[:6] @ found.item_vectors.numpy())
    np.testing.assert_allclose(likeness, np.eye(6), atol=0.02)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 0), (0, 2)])
def test_a_matrix_of_nothing_has_no_factors_but_all_items(shape):
    found = factorize(sparse.csr_array(shape, dtype=np.float32), 4, iterations=2, seed=0, device=torch.device("cpu"))
    assert found.rank == 0
    assert found.item_vectors.shape == (shape[1], 0)
