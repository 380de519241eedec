"""What every index must do."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.data.ragged import Ragged
from recsys.index import registry
from recsys.index.registry import Index

ITEMS, DIM, QUERIES, K = 3000, 24, 60, 20


def long_tailed(count: int, dim: int, seed: int) -> npt.NDArray[np.float32]:
    """Vectors whose lengths differ as much as popularity does, a tenth of them twice."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, dim)) * random.lognormal(0, 0.7, size=(count, 1))
    vectors[count - count // 10 :] = vectors[: count // 10]
    return vectors.astype(np.float32)


class IndexContract:
    """Inherit in a test module, under a name that begins with Test, and parametrize `kind`."""

    items = long_tailed(ITEMS, DIM, seed=1)
    queries = np.random.default_rng(2).normal(size=(QUERIES, DIM)).astype(np.float32)

    def built(self, kind: str) -> Index:
        built = registry.build(kind, self.items, self.queries, min_recall=0.99)
        assert built.kind == kind
        assert min(built.recall.values()) >= 0.99
        return built.index

    def exact(self, allowed: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
        """The right rows by plain sorting, in double precision."""
        scores = (self.queries.astype(np.float64) @ self.items.T.astype(np.float64)).astype(np.float32)
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        return np.argsort(-scores, axis=1, kind="stable")[:, :K]

    def recall(self, rows: npt.NDArray[np.int32], right: npt.NDArray[np.int64]) -> float:
        return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(rows.tolist(), right.tolist(), strict=True)]))

    def test_it_finds_the_nearest(self, kind: str) -> None:
        _, rows = self.built(kind).search(self.queries, K)
        assert self.recall(rows, self.exact()) >= 0.97

    def test_a_filter_costs_no_recall_and_lets_nothing_through(self, kind: str) -> None:
        for share in (0.9, 0.5, 0.02):
            allowed = np.random.default_rng(3).random(ITEMS) < share
            _, rows = self.built(kind).search(self.queries, K, allowed=allowed)
            assert allowed[rows].all()
            assert (rows >= 0).all()
            assert self.recall(rows, self.exact(allowed)) >= 0.97

    def test_each_query_misses_its_own_excluded_items_and_no_others(self, kind: str) -> None:
        found = self.built(kind)
        _, before = found.search(self.queries, K)
        excluded = before[:, :5]
        offsets = np.arange(0, 5 * QUERIES + 1, 5)
        _, rows = found.search(self.queries, K, excluded=Ragged(offsets, excluded.ravel()))
        for own, gone, kept in zip(rows.tolist(), excluded.tolist(), before[:, 5:].tolist(), strict=True):
            assert not set(own) & set(gone)
            assert own[: K - 5] == kept

    def test_scores_are_inner_products_and_fall(self, kind: str) -> None:
        scores, rows = self.built(kind).search(self.queries, K)
        np.testing.assert_allclose(scores, np.einsum("bd,bkd->bk", self.queries, self.items[rows]), rtol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()

    def test_equals_come_in_the_order_of_their_rows(self, kind: str) -> None:
        scores, rows = self.built(kind).search(self.queries, K)
        ties = np.diff(scores, axis=1) == 0
        assert ties.any()
        assert (np.diff(rows, axis=1)[ties] > 0).all()

    def test_what_is_missing_is_padded(self, kind: str) -> None:
        allowed = np.zeros(ITEMS, np.bool_)
        allowed[[7, 11, 13]] = True
        scores, rows = self.built(kind).search(self.queries, K, allowed=allowed)
        assert {tuple(sorted(row)) for row in rows[:, :3].tolist()} == {(7, 11, 13)}
        assert (rows[:, 3:] == -1).all()
        assert np.isneginf(scores[:, 3:]).all()

    def test_one_query_at_a_time_gives_the_same(self, kind: str) -> None:
        found = self.built(kind)
        allowed = np.random.default_rng(4).random(ITEMS) < 0.6
        scores, rows = found.search(self.queries, K, allowed=allowed)
        for b in range(QUERIES):
            own_scores, own_rows = found.search(self.queries[b : b + 1], K, allowed=allowed)
            np.testing.assert_array_equal(own_rows[0], rows[b])
            np.testing.assert_array_equal(own_scores[0], scores[b])

    def test_no_query_gives_no_answer(self, kind: str) -> None:
        scores, rows = self.built(kind).search(self.queries[:0], K)
        assert scores.shape == rows.shape == (0, K)

    def test_saved_and_opened_it_answers_the_same(self, kind: str, tmp_path: Path) -> None:
        found = self.built(kind)
        found.write(tmp_path / "index.faiss")
        opened = registry.load(tmp_path / "index.faiss", kind, self.items)
        assert (len(opened), opened.dim) == (ITEMS, DIM)
        for queries in (self.queries, self.queries[:1]):
            for mine, theirs in zip(opened.search(queries, K), found.search(queries, K), strict=True):
                np.testing.assert_array_equal(mine, theirs)
