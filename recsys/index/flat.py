"""The exact index: FAISS for few queries, products in blocks for many."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.ragged import Ragged
from recsys.errors import BundleError
from recsys.index.exact import (
    FEW_QUERIES,
    Items,
    check_finite,
    check_shapes,
    empty_answer,
    rank,
    search_exactly,
)
from recsys.index.registry import IndexKind

_SPARE = 64  # asked for beyond k, so that near ties can be put in order and some may be left out


def build(item_vectors: Float32) -> "FlatIndex":
    """Build the exact index over item vectors [I, D]. Raises RecsysError when one of them is not finite."""
    check_finite(item_vectors)
    index = faiss.IndexFlatIP(item_vectors.shape[1])
    index.add(np.ascontiguousarray(item_vectors, np.float32))
    return FlatIndex(index)


def load(path: Path, item_vectors: Float32) -> "FlatIndex":
    """Open a saved index, memory-mapped. Raises BundleError when the file is not one."""
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise BundleError(f"{path} is not an index that FAISS can read: {error}") from None
    if not isinstance(index, faiss.IndexFlatIP):
        raise BundleError(f"{path} holds a {type(index).__name__}; expected an IndexFlatIP")
    return FlatIndex(index, item_vectors)


class FlatIndex:
    """Exact search: FAISS for few queries over most items, matrix products in blocks otherwise. Both answer the same.

    FAISS searches without the filter, for more items than needed: its own filter tests items one by one and is slower
    than scoring all of them.
    """

    def __init__(self, index: Any, item_vectors: Float32 | None = None) -> None:
        """index: a faiss.IndexFlatIP. item_vectors: the same vectors [I, D]; default: those inside the index.

        Pass them for an index mapped from a file: there they are unaligned, and products take fifty times as long.
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
        """Length of a vector, D."""
        return int(self._index.d)

    def write(self, path: Path) -> None:
        """See Index."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # what FAISS raises for a full disk
            raise OSError(str(error)) from None

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """See Index."""
        if len(queries) > FEW_QUERIES or (allowed is not None and 4 * np.count_nonzero(allowed) < 3 * len(allowed)):
            return search_exactly(self._items, queries, k, allowed=allowed, excluded=excluded)
        check_shapes(self._items, queries, k, allowed, excluded)
        scores, rows = empty_answer(len(queries), k)
        for b in range(len(queries)):
            own_scores, own_rows = self._search_one(queries[b : b + 1], k, allowed, _rows_of(excluded, b))
            scores[b], rows[b] = own_scores[0], own_rows[0]
        return scores, rows

    def _search_one(self, query: Float32, k: int, allowed: Bool | None, excluded: Int32) -> tuple[Float32, Int32]:
        found = self._nearest(query, k, allowed, excluded)
        if found is None:
            return search_exactly(self._items, query, k, allowed=allowed, excluded=Ragged.of_one(excluded))
        return rank(self._items, query, k, (np.zeros(len(found), np.int64), found))

    def _nearest(self, query: Float32, k: int, allowed: Bool | None, excluded: Int32) -> Int64 | None:
        """All rows that could be among the k best, or None when FAISS returned too few to be sure."""
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


FLAT = IndexKind(build, load)


def _rows_of(excluded: Ragged | None, b: int) -> Int32:
    return np.zeros(0, np.int32) if excluded is None else excluded.row(b)
