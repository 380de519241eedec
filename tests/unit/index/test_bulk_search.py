"""Search for very many queries finds what exact search finds."""

import numpy as np
import pytest

from recsys.data.ragged import Ragged
from recsys.index import bulk
from recsys.index.bulk import BulkSearch
from recsys.index.exact import Items, search_exactly

K, DIM = 10, 16


def drawn(seed: int, items: int, queries: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Items [I, D] whose norms have a long tail when `spread` is large, and queries, one of them of zeros."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((items, DIM), np.float32)
    vectors *= np.exp(spread * random.standard_normal((items, 1), np.float32))
    asked = random.standard_normal((queries, DIM), np.float32)
    asked[queries // 2] = 0
    return vectors, asked


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.4, 0.002])
def test_it_finds_what_exact_search_finds(monkeypatch: pytest.MonkeyPatch, spread: float, share: float) -> None:
    monkeypatch.setattr(bulk, "_TILE", 512)
    monkeypatch.setattr(bulk, "_BLOCK", 50)
    vectors, queries = drawn(0, 5_000, 130, spread)
    allowed = np.random.default_rng(1).random(len(vectors)) < share
    search = BulkSearch(vectors, None if share == 1 else allowed)
    allowed |= share == 1
    best = search_exactly(Items(vectors), queries, 5, allowed=allowed)[1]
    out = Ragged.from_pairs(np.repeat(np.arange(len(queries)), 5), np.maximum(best, 0).ravel(), len(queries))
    for excluded in (None, out):
        right = search_exactly(Items(vectors), queries, K, allowed=allowed, excluded=excluded)
        for mine, expected in zip(search.search(queries, K, excluded=excluded), right, strict=True):
            np.testing.assert_array_equal(mine, expected)


def test_items_of_small_norm_are_not_read_for_queries_that_cannot_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = drawn(0, 20_000, 100, 2.0)
    read = list[int]()
    monkeypatch.setattr(bulk, "_TILE", 1_000)
    floors = bulk._floors
    monkeypatch.setattr(bulk, "_floors", lambda products, k: [read.append(products.size), floors(products, k)][1])
    BulkSearch(vectors).search(queries, K)
    assert sum(read) < 0.3 * len(queries) * len(vectors)


def test_nobody_asks_and_nothing_is_eligible() -> None:
    vectors, queries = drawn(0, 50, 3, 1.0)
    assert [found.shape for found in BulkSearch(vectors).search(queries[:0], K)] == [(0, K), (0, K)]
    scores, rows = BulkSearch(vectors, np.zeros(50, bool)).search(queries, K)
    assert (rows == -1).all()
    assert np.isneginf(scores).all()
    with pytest.raises(ValueError, match="k is 0"):
        BulkSearch(vectors).search(queries, 0)
