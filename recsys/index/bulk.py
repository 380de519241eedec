"""Exact search for very many queries over the same eligible items, which are read from the largest norm down.

No score is more than the norms of query and item multiplied. A block of queries is therefore multiplied with the items
of large norm first; what they find there says for each query how far down it has to look. The queries are kept in the
order of how far that is, so that each tile of items is multiplied only with those that still need it. Norms of trained
items have a long tail: the products that are left are a sixth to a third of all.
(The bound is that of LEMP: Teflioudi, Gemulla and Mykytiuk, "LEMP: fast retrieval of large entries in a matrix
product", SIGMOD 2015, with matrix products over tiles in place of its buckets.)

Shapes: I eligible items, D dim, B queries of a block, K top-k, N candidates.
"""

import numpy as np

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.ragged import Ragged
from recsys.index.exact import Items, check_shapes, norms_of, rank

_TILE = 4096  # items that are multiplied at once
_BLOCK = 4096  # queries
_GROUPS = 25  # for each of the K: the floor is the K-th best of so many maxima
_NONE = np.zeros(0, np.int64)


class BulkSearch:
    """Finds the K best of the same eligible items for queries that come in blocks."""

    def __init__(self, item_vectors: Float32, allowed: Bool | None = None) -> None:
        """item_vectors: [I, D], kept without a copy. allowed: bool [I], the eligible ones; None: all."""
        norms = norms_of(item_vectors)
        self._items = Items(item_vectors, norms=norms)
        rows = np.arange(len(norms)) if allowed is None else np.flatnonzero(allowed)
        self._rows = rows[np.argsort(-norms[rows], kind="stable")]  # the eligible ones, the largest norm first
        self._descending = -norms[self._rows]

    def search(self, queries: Float32, k: int, *, excluded: Ragged | None = None) -> tuple[Float32, Int32]:
        """As Index.search, among the eligible items: scores and rows [B, K]."""
        check_shapes(self._items, queries, k, None, excluded)
        found = [self._block(queries[:0], k, None)]
        for start in range(0, len(queries), _BLOCK):
            block = np.ascontiguousarray(queries[start : start + _BLOCK], np.float32)
            found.append(self._block(block, k, None if excluded is None else excluded.slice(start, start + len(block))))
        scores, rows = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(rows)

    def _block(self, queries: Float32, k: int, excluded: Ragged | None) -> tuple[Float32, Int32]:
        margins, lengths = self._items.margin(queries), np.linalg.norm(queries, axis=1)
        pairs = self._excluded_pairs(excluded)
        floors = np.full(len(queries), np.finfo(np.float32).min, np.float32)  # no score below is among the k best
        order = np.arange(len(queries))
        candidates = [(_NONE, _NONE, np.zeros(0, np.float32))]
        for start in range(0, len(self._rows), _TILE):
            tile = slice(start, min(start + _TILE, len(self._rows)))
            # Who still may find something here stands first; the others need none of the tiles that follow either.
            order = order[lengths[order] * -self._descending[start] >= floors[order]]
            if not len(order):
                break
            products = queries[order] @ self._items.vectors[self._rows[tile]].T
            self._leave_out(products, order, len(queries), pairs, tile)
            floors[order] = np.maximum(floors[order], _floors(products, k) - margins[order])
            owners, found = np.nonzero(products >= floors[order, None])
            candidates.append((order[owners], self._rows[start + found], products[owners, found]))
        owners, rows, scores = (np.concatenate(column) for column in zip(*candidates, strict=True))
        best = _best(owners, scores, k, margins)
        return rank(self._items, queries, k, (owners[best], rows[best]))

    def _excluded_pairs(self, excluded: Ragged | None) -> tuple[Int64, Int64]:
        """Pairs (position in norm order, query) [N] of what a query must not find, by position."""
        if excluded is None or not len(excluded.values):
            return _NONE, _NONE
        positions = np.full(len(self._items), -1, np.int64)
        positions[self._rows] = np.arange(len(self._rows))
        at, owners = positions[excluded.values], excluded.owners
        by_position = np.argsort(at, kind="stable")
        by_position = by_position[at[by_position] >= 0]
        return at[by_position], owners[by_position]

    def _leave_out(self, products: Float32, order: Int64, count: int, pairs: tuple[Int64, Int64], tile: slice) -> None:
        """Make the products of excluded pairs -inf."""
        positions, owners = pairs
        here = slice(*np.searchsorted(positions, [tile.start, tile.stop]))
        if here.start == here.stop:
            return
        places = np.full(count, -1)
        places[order] = np.arange(len(order))
        at = places[owners[here]]
        products[at[at >= 0], positions[here][at >= 0] - tile.start] = -np.inf


def _best(owners: Int64, scores: Float32, k: int, margins: Float32) -> Int64:
    """The candidates [N] that may be among the k best of their query, by query: their places."""
    order = np.lexsort((-scores, owners))
    owners, scores = owners[order], scores[order]
    starts = np.searchsorted(owners, owners)
    last = np.minimum(starts + k - 1, np.searchsorted(owners, owners, side="right") - 1)
    return np.asarray(order[scores >= scores[last] - margins[owners]])


def _floors(products: Float32, k: int) -> Float32:
    """For each query a score that at least k of its products [B, W] reach: float32 [B]; -inf where there are fewer."""
    width = products.shape[1]
    if width < k:
        return np.full(len(products), -np.inf, np.float32)
    groups = min(width, max(k, _GROUPS * k))
    size = width // groups
    best = products[:, : groups * size].reshape(len(products), size, groups).max(axis=1)
    return np.asarray(np.partition(best, groups - k, axis=1)[:, groups - k], np.float32)
