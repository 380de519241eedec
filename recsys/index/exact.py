"""Exact search: the largest inner products over all items, or those allowed, computed in blocks of bounded memory.

Shapes: I items, D dim, B queries, K top-k, N excluded pairs.
"""

import math
from collections.abc import Iterator

import faiss
import numpy as np

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.ragged import Ragged
from recsys.errors import RecsysError

FEW_QUERIES = 4  # up to this many, gathering a few allowed items does not pay, and FAISS is faster than blocks
_BLOCK_BYTES = 128 * 2**20  # of scores at a time; derived arrays double that
_UNIT = float(np.finfo(np.float32).eps) / 2
_LOWEST = np.finfo(np.float32).min
_PENALTIES = np.array([-np.inf, 0], np.float32)  # added to the score of a forbidden and of an allowed item


class Items:
    """Item vectors for exact search, by inner product or by cosine. With cosine a zero vector scores 0."""

    def __init__(
        self,
        vectors: Float32,
        *,
        cosine: bool = False,
        norms: Float32 | None = None,
        scales: Float32 | None = None,
    ) -> None:
        """vectors: float32 [I, D], kept without a copy.

        norms: those of the vectors [I], or of the longest alone, where they are known. scales: for cosine, what each
        vector [I] is multiplied by to get the length 1, where it is known.
        """
        self.vectors, self.scales, self._longest = vectors, scales, 1.0
        self._is_plain = vectors.flags.c_contiguous and vectors.flags.aligned and vectors.dtype == np.float32
        if scales is None:
            norms = norms_of(vectors) if norms is None else norms
            if cosine:
                self.scales = np.asarray(1 / np.maximum(norms, np.float32(1e-30)), np.float32)
            else:
                self._longest = float(norms.max(initial=0.0))

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Length of a vector, D."""
        return int(self.vectors.shape[1])

    def take(self, rows: Int32 | Int64) -> Float32:
        """The vectors of rows [N]; with cosine of length 1."""
        vectors = self.vectors[rows]
        return vectors if self.scales is None else vectors * self.scales[rows, None]

    def scan(self, query: Float32) -> Float32:
        """The scores of all items for one query [D]: [I]."""
        products = self.vectors @ query
        return products if self.scales is None else products * self.scales

    def scores(self, query: Float32, rows: Int32 | Int64) -> Float32:
        """The scores of rows [N] for one query [D]."""
        products = self._products(query, rows)
        return products if self.scales is None else products * self.scales[rows]

    def _products(self, query: Float32, rows: Int32 | Int64) -> Float32:
        """The inner products of rows [N] with one query [D], read where the vectors lie: a copy takes twice as long."""
        if not self._is_plain:
            return np.asarray(self.vectors[rows] @ query, np.float32)
        places, products = np.ascontiguousarray(rows, np.int64), np.empty(len(rows), np.float32)
        query = np.ascontiguousarray(query, np.float32)
        pointers = [faiss.swig_ptr(array) for array in (products, query, self.vectors, places)]
        faiss.fvec_inner_products_by_idx(*pointers, self.dim, 1, len(places))  # type: ignore[attr-defined]
        return products

    def margin(self, queries: Float32) -> Float32:
        """Per query [B]: the largest difference of two computed scores that rounding can explain.

        Twice the probabilistic bound for a sum of D products (Higham and Mary, 2019).
        """
        per_score = (4 * math.sqrt(self.vectors.shape[1]) + 4) * _UNIT * self._longest
        return np.asarray(2 * per_score * np.linalg.norm(queries, axis=1), np.float32)


def search_exactly(
    items: Items, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
) -> tuple[Float32, Int32]:
    """Find the k best eligible items of each query by matrix products in blocks. See Index.search."""
    check_shapes(items, queries, k, allowed, excluded)
    scores, rows = empty_answer(len(queries), k)
    columns = None  # rows of the allowed items, when gathering their vectors costs less than scoring all items
    worth = 2 if len(queries) > FEW_QUERIES else 10
    if allowed is not None and worth * np.count_nonzero(allowed) < len(allowed):
        columns, allowed = np.flatnonzero(allowed), None
    width = len(items.vectors) if columns is None else len(columns)
    vectors = items.vectors if columns is None else items.vectors[columns]
    if width == 0:
        return scores, rows
    penalty = None if allowed is None else _PENALTIES.take(allowed.view(np.uint8))
    position = None if columns is None else _positions(columns, len(items.vectors))
    step = max(1, _BLOCK_BYTES // (4 * width))
    buffer = np.empty((min(step, len(queries)), width), np.float32)
    for start in range(0, len(queries), step):
        block = np.ascontiguousarray(queries[start : start + step], np.float32)
        products = np.matmul(block, vectors.T, out=buffer[: len(block)])
        if items.scales is not None:
            products *= items.scales if columns is None else items.scales[columns]
        if penalty is not None:
            products += penalty
        if excluded is not None:
            _mask(products, excluded, start, position)
        owners, found = _candidates(products, k, items.margin(block))
        found = found if columns is None else columns[found]
        stop = start + len(block)
        scores[start:stop], rows[start:stop] = rank(items, block, k, (owners, found))
    return scores, rows


def _candidates(products: Float32, k: int, margin: Float32) -> tuple[Int64, Int64]:
    """All (query, column) pairs that could be among the k best of products [b, W], by query; -inf never is."""
    width = products.shape[1]
    groups = width // max(1, min(64, width // (4 * k)))
    if k >= width:
        thresholds = np.full(len(products), _LOWEST, np.float32)
    else:
        # At least k items reach the k-th best of the group maxima, and that is far cheaper than the k-th best of all.
        size = width // groups
        best = products[:, : groups * size].reshape(len(products), size, groups).max(axis=1)
        thresholds = np.partition(best, groups - k, axis=1)[:, groups - k] - margin
        np.maximum(thresholds, _LOWEST, out=thresholds)
    flat = np.flatnonzero(products >= thresholds[:, None])
    return flat // width, flat % width


def rank(items: Items, queries: Float32, k: int, candidates: tuple[Int64, Int64]) -> tuple[Float32, Int32]:
    """Keep the k best candidates (query, row) of each query, scored in double precision; ties are ordered by row."""
    owners, found = candidates
    scores, rows = empty_answer(len(queries), k)
    exact = np.empty(len(found), np.float32)
    for part in slices_of(len(found), queries.shape[1] * 4):
        products = np.einsum(
            "nd,nd->n", queries[owners[part]].astype(np.float64), items.vectors[found[part]].astype(np.float64)
        )
        exact[part] = products if items.scales is None else products * items.scales[found[part]]
    order = np.lexsort((found, -exact, owners))
    owners, found, exact = owners[order], found[order], exact[order]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = place < k
    scores[owners[kept], place[kept]] = exact[kept]
    rows[owners[kept], place[kept]] = found[kept]
    return scores, rows


def _mask(products: Float32, excluded: Ragged, start: int, position: Int32 | None) -> None:
    block = excluded.slice(start, start + len(products))
    owners, own = block.owners, block.values
    if position is not None:
        own = position[own]
        owners, own = owners[own >= 0], own[own >= 0]
    products[owners, own] = -np.inf


def _positions(columns: Int64, count: int) -> Int32:
    position = np.full(count, -1, np.int32)
    position[columns] = np.arange(len(columns))
    return position


def norms_of(vectors: Float32) -> Float32:
    """The norm of each vector [I, D], a block at a time: float32 [I]."""
    parts = [np.linalg.norm(vectors[rows], axis=1) for rows in slices_of(*vectors.shape)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def check_finite(item_vectors: Float32) -> None:
    """Raises RecsysError when a vector is not finite."""
    if not all(np.isfinite(item_vectors[rows]).all() for rows in slices_of(*item_vectors.shape)):
        raise RecsysError("the item vectors hold values that are not finite; the model that made them is broken")


def empty_answer(count: int, k: int) -> tuple[Float32, Int32]:
    """Scores and rows [B, K] of queries that found nothing."""
    return np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.int32)


def slices_of(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` rows, so that a block of rows of this width stays small."""
    step = max(1, _BLOCK_BYTES // (8 * max(1, width)))
    return (slice(start, start + step) for start in range(0, count, step))


def check_shapes(items: Items, queries: Float32, k: int, allowed: Bool | None, excluded: Ragged | None) -> None:
    """Raises ValueError when the arguments of a search do not fit the items."""
    count, dim = items.vectors.shape
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries are {queries.shape}; allowed is [B, {dim}]")
    if k < 1:
        raise ValueError(f"k is {k}; allowed is 1 and more")
    if allowed is not None and (allowed.shape != (count,) or allowed.dtype != np.bool_):
        raise ValueError(f"allowed is {allowed.dtype} {allowed.shape}; it has to be bool [{count}]")
    if excluded is not None and len(excluded) != len(queries):
        raise ValueError(f"excluded is for {len(excluded)} queries, but {len(queries)} came")
