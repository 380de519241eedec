"""FAISS behind one table: build, measure recall against exact search, save, load, search with filters.

Filters and exclusions are part of the search, so k answers come whenever k items are eligible.
Shapes: I items, D dim, B queries, K top-k, N excluded pairs.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.errors import BundleError, RecsysError
from recsys.imports import resolve

Ragged = tuple[Int64, Int32]  # offsets [B + 1] and rows [N]: query b owns rows[offsets[b]:offsets[b + 1]]

INDEXES: dict[str, str] = {"flat": "recsys.index.registry:build_flat"}

_RECALL_K = 20
_RECALL_QUERIES = 256
_BLOCK_BYTES = 128 * 2**20  # of scores at a time; with what is derived from them about twice that
_FEW_QUERIES = 4  # up to so many FAISS is asked one by one; above, products in blocks are faster
_SPARE = 64  # asked for beyond k, so that near ties can be put in order and some may be left out
_UNIT = float(np.finfo(np.float32).eps) / 2
_LOWEST = np.finfo(np.float32).min
_PENALTIES = np.array([-np.inf, 0], np.float32)  # added to the score of an item that is not allowed, and of one that is


class Index(Protocol):
    """What finds the items whose vectors have the largest inner product with a query."""

    @property
    def kind(self) -> str:
        """Its name in INDEXES."""
        ...

    def __len__(self) -> int:
        """I."""
        ...

    @property
    def dim(self) -> int:
        """D."""
        ...

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """The k best eligible items of each query: scores [B, K], best first, and rows [B, K].

        queries: [B, D]. allowed: bool [I], items that may be found by any query. excluded: items that a single query
        must not find. Equal scores are ordered by row. Where fewer than k are eligible: row -1, score -inf.
        Raises ValueError when shapes do not fit.
        """
        ...

    def write(self, path: Path) -> None:
        """Save it as a file that `load` reads. Raises OSError."""
        ...


def build(kind: str, item_vectors: Float32, queries: Float32, *, min_recall: float) -> tuple[Index, dict[str, float]]:
    """Build the index of a kind over item vectors [I, D] and measure it with user vectors [B, D].

    Returns it with recall@20 against exact search, without a filter ("plain") and with a random half of the items
    allowed ("filtered"). Where either is below `min_recall` it is the exact index that is returned.
    Raises ConfigError for a kind that INDEXES does not hold and that is no dotted name.
    """
    builder: Callable[[Float32], Index] = resolve(kind, INDEXES)
    index = builder(item_vectors)
    recall = measure_recall(index, item_vectors, queries)
    if min(recall.values()) < min_recall and index.kind != "flat":
        index = build_flat(item_vectors)
        recall = measure_recall(index, item_vectors, queries)
    return index, recall


def build_flat(item_vectors: Float32) -> "FlatIndex":
    """The exact index over item vectors [I, D]. Raises RecsysError when one of them is not finite."""
    if not all(np.isfinite(item_vectors[rows]).all() for rows in _slices(*item_vectors.shape)):
        raise RecsysError("the item vectors hold values that are not finite; the model that made them is broken")
    index = faiss.IndexFlatIP(item_vectors.shape[1])
    index.add(np.ascontiguousarray(item_vectors, np.float32))
    return FlatIndex(index)


def load(path: Path, item_vectors: Float32 | None = None) -> Index:
    """Open a saved index, memory-mapped. Raises BundleError when it cannot be read or is of an unknown type.

    item_vectors: the vectors [I, D] that it was built over, where they lie too.
    """
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise BundleError(f"{path} is no index that FAISS can read: {error}") from None
    if type(index).__name__ not in _READERS:
        raise BundleError(f"{path} holds a {type(index).__name__}; allowed are {', '.join(_READERS)}")
    return _READERS[type(index).__name__](index, item_vectors)


def save(index: Index, path: Path) -> None:
    """Write an index to a file. Raises OSError when the disk is full."""
    index.write(path)


class FlatIndex:
    """Exact search over every item: FAISS for few queries and most items, else products in blocks; the same answers.

    FAISS is asked without the filter, for more than are needed: it would test the items one by one, which takes longer
    than the products of all.
    """

    kind = "flat"

    def __init__(self, index: Any, item_vectors: Float32 | None = None) -> None:
        """index: a faiss.IndexFlatIP. item_vectors: the same vectors [I, D]; unset, they are used where it holds them.

        In a file that FAISS maps they begin at an odd byte, and products of those take fifty times as long.
        """
        self._index = index
        if item_vectors is None:
            held = (
                faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d) if index.ntotal else np.zeros(0, np.float32)
            )
            item_vectors = np.require(held.reshape(index.ntotal, index.d), requirements="A")
        self._items = Items(item_vectors)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """D."""
        return int(self._index.d)

    def write(self, path: Path) -> None:
        """See Index."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # FAISS reports a full disk so
            raise OSError(str(error)) from None

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """See Index."""
        if len(queries) > _FEW_QUERIES or (allowed is not None and 4 * np.count_nonzero(allowed) < 3 * len(allowed)):
            return search_exactly(self._items, queries, k, allowed=allowed, excluded=excluded)
        _check(self._items, queries, k, allowed, excluded)
        scores, rows = _empty(len(queries), k)
        for b in range(len(queries)):
            own_scores, own_rows = self._search_one(queries[b : b + 1], k, allowed, _own(excluded, b))
            scores[b], rows[b] = own_scores[0], own_rows[0]
        return scores, rows

    def _search_one(self, query: Float32, k: int, allowed: Bool | None, excluded: Int32) -> tuple[Float32, Int32]:
        found = self._nearest(query, k, allowed, excluded)
        if found is None:
            own = (np.array([0, len(excluded)], np.int64), excluded)
            return search_exactly(self._items, query, k, allowed=allowed, excluded=own)
        return _rank(self._items, query, k, (np.zeros(len(found), np.int64), found))

    def _nearest(self, query: Float32, k: int, allowed: Bool | None, excluded: Int32) -> Int64 | None:
        """All rows that could be among the k best; None when FAISS was asked for too few to know them."""
        asked = min(2 * (k + _SPARE) + len(excluded), len(self))
        if asked == 0:
            return np.zeros(0, np.int64)
        scores, rows = self._index.search(np.ascontiguousarray(query, np.float32), asked)
        kept = ~np.isin(rows[0], excluded)
        if allowed is not None:
            kept &= allowed[rows[0]]
        best = scores[0][kept]
        if asked < len(self) and (len(best) < k or scores[0, -1] >= best[k - 1] - self._items.margin(query)[0]):
            return None
        return np.asarray(rows[0][kept], np.int64)


_READERS: dict[str, Callable[[Any, Float32 | None], Index]] = {"IndexFlatIP": FlatIndex}


class Items:
    """Vectors to search exactly, with what the search needs to know about them.

    With `cosine` each counts with length 1; vectors of length 0 then score 0.
    """

    def __init__(self, vectors: Float32, *, cosine: bool = False) -> None:
        """vectors: float32 [I, D]; they are not copied."""
        self.vectors = vectors
        norms = np.concatenate(
            [np.linalg.norm(vectors[rows], axis=1) for rows in _slices(*vectors.shape)] or [np.zeros(0, np.float32)]
        )
        self.scales = np.asarray(1 / np.maximum(norms, np.float32(1e-30)), np.float32) if cosine else None
        self._longest = 1.0 if cosine else float(norms.max(initial=0.0))

    def margin(self, queries: Float32) -> Float32:
        """Per query [B]: how far apart two computed scores can be whose true order is the other way round.

        Twice the probabilistic bound of rounding in a sum of D products (Higham and Mary, 2019).
        """
        per_score = (4 * math.sqrt(self.vectors.shape[1]) + 4) * _UNIT * self._longest
        return np.asarray(2 * per_score * np.linalg.norm(queries, axis=1), np.float32)


def search_exactly(
    items: Items, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
) -> tuple[Float32, Int32]:
    """The k best eligible items of each query by products in blocks of bounded memory. See Index.search."""
    _check(items, queries, k, allowed, excluded)
    scores, rows = _empty(len(queries), k)
    columns = None  # None: all items; else the few that are allowed, copied: that pays when many ask, or they are few
    worth = 2 if len(queries) > _FEW_QUERIES else 10
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
        scores[start:stop], rows[start:stop] = _rank(items, block, k, (owners, found))
    return scores, rows


def measure_recall(index: Index, item_vectors: Float32, queries: Float32) -> dict[str, float]:
    """Recall@20 of an index against exact search in double precision, over at most 256 of the queries [B, D]."""
    sample = np.asarray(queries[:: max(1, -(-len(queries) // _RECALL_QUERIES))], np.float32)
    half = np.random.default_rng(0).random(len(item_vectors)) < 0.5
    return {"plain": _recall(index, item_vectors, sample, None), "filtered": _recall(index, item_vectors, sample, half)}


def _recall(index: Index, item_vectors: Float32, queries: Float32, allowed: Bool | None) -> float:
    _, rows = index.search(queries, _RECALL_K, allowed=allowed)
    eligible = np.arange(len(item_vectors)) if allowed is None else np.flatnonzero(allowed)
    count = min(_RECALL_K, len(eligible))
    if count == 0 or len(queries) == 0:
        return 1.0
    scores = queries.astype(np.float64) @ item_vectors[eligible].astype(np.float64).T
    worst = np.partition(scores, -count, axis=1)[:, -count]
    found = 0
    for b, row in enumerate(rows):
        at = np.searchsorted(eligible, row[row >= 0])
        # Any item as good as the last of the best is right: which of equals comes first is no question of recall.
        found += int(np.count_nonzero(scores[b, at] >= worst[b] - 1e-6 * abs(worst[b])))
    return found / (len(queries) * count)


def _candidates(products: Float32, k: int, margin: Float32) -> tuple[Int64, Int64]:
    """All (query, column) that could be among the k best of products [b, W], -inf being out: sorted by query."""
    width = products.shape[1]
    groups = width // max(1, min(64, width // (4 * k)))
    if k >= width:
        thresholds = np.full(len(products), _LOWEST, np.float32)
    else:
        # k items at least reach the k-th best of the group maxima, which costs far less than the k-th best of all.
        size = width // groups
        best = products[:, : groups * size].reshape(len(products), size, groups).max(axis=1)
        thresholds = np.partition(best, groups - k, axis=1)[:, groups - k] - margin
        np.maximum(thresholds, _LOWEST, out=thresholds)
    flat = np.flatnonzero(products >= thresholds[:, None])
    return flat // width, flat % width


def _rank(items: Items, queries: Float32, k: int, candidates: tuple[Int64, Int64]) -> tuple[Float32, Int32]:
    """The k best of the candidates (query, row) by their score in double precision and, where equal, by row."""
    owners, found = candidates
    scores, rows = _empty(len(queries), k)
    exact = np.empty(len(found), np.float32)
    for part in _slices(len(found), queries.shape[1] * 4):
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
    offsets, rows = excluded
    bounds = offsets[start : start + len(products) + 1]
    owners = np.repeat(np.arange(len(products)), np.diff(bounds))
    own = rows[bounds[0] : bounds[-1]]
    if position is not None:
        own = position[own]
        owners, own = owners[own >= 0], own[own >= 0]
    products[owners, own] = -np.inf


def _positions(columns: Int64, count: int) -> Int32:
    position = np.full(count, -1, np.int32)
    position[columns] = np.arange(len(columns))
    return position


def _own(excluded: Ragged | None, b: int) -> Int32:
    return np.zeros(0, np.int32) if excluded is None else excluded[1][excluded[0][b] : excluded[0][b + 1]]


def _empty(count: int, k: int) -> tuple[Float32, Int32]:
    return np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.int32)


def _slices(count: int, width: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (8 * max(1, width)))
    return (slice(start, start + step) for start in range(0, count, step))


def _check(items: Items, queries: Float32, k: int, allowed: Bool | None, excluded: Ragged | None) -> None:
    count, dim = items.vectors.shape
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries are {queries.shape}; allowed is [B, {dim}]")
    if k < 1:
        raise ValueError(f"k is {k}; allowed is 1 and more")
    if allowed is not None and (allowed.shape != (count,) or allowed.dtype != np.bool_):
        raise ValueError(f"allowed is {allowed.dtype} {allowed.shape}; it has to be bool [{count}]")
    if excluded is not None and len(excluded[0]) != len(queries) + 1:
        raise ValueError(f"excluded is for {len(excluded[0]) - 1} queries, but {len(queries)} came")
