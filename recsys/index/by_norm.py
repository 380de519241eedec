"""The exact index in the order of norms: vectors are stored in that order and read until no better item can come."""

from pathlib import Path

import numpy as np

from recsys.data.arrays import Bool, Float32, Int32
from recsys.data.ragged import Ragged
from recsys.index.array_file import open_arrays, write_arrays
from recsys.index.exact import Items, check_finite, norms_of, slices_of
from recsys.index.norm_order import Asked, NormOrder, search_in_order
from recsys.index.registry import IndexKind

_FEW = 0.1  # share of a shard up to which reading single vectors costs less than reading all


def build(item_vectors: Float32) -> "ByNormIndex":
    """Build the index over item vectors [I, D]. Raises RecsysError when one of them is not finite."""
    check_finite(item_vectors)
    order = NormOrder.of(norms_of(item_vectors))
    ordered = np.empty_like(item_vectors, np.float32, order="C")
    for part in slices_of(*item_vectors.shape):
        ordered[part] = item_vectors[order.rows[part]]
    return ByNormIndex(order, ordered, item_vectors)


def load(path: Path, item_vectors: Float32) -> "ByNormIndex":
    """Open a saved index, memory-mapped. Raises BundleError when the file is not one."""
    *order, ordered = open_arrays(path, 5)
    return ByNormIndex(NormOrder(*order), ordered, item_vectors)


class ByNormIndex:
    """Exact search that reads the long vectors first."""

    def __init__(self, order: NormOrder, ordered: Float32, item_vectors: Float32) -> None:
        """ordered: the item vectors [I, D] in norm order."""
        self._order, self._ordered = order, ordered
        self._items = Items(item_vectors, norms=order.norms[:1])

    def __len__(self) -> int:
        return len(self._ordered)

    @property
    def dim(self) -> int:
        """Length of a vector, D."""
        return int(self._ordered.shape[1])

    def write(self, path: Path) -> None:
        """See Index."""
        write_arrays(path, [*self._order.arrays, self._ordered])

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """See Index."""
        return search_in_order(
            self._order, self._items, self, queries, k, allowed=allowed, excluded=excluded, candidates=k
        )

    def candidates(self, asked: Asked, _shard: int, positions: slice) -> tuple[Int32, Float32]:
        """See Scan."""
        if asked.eligible is not None and asked.eligible.share < _FEW:
            rows = asked.eligible.within(positions)
            return rows, self._ordered[self._order.positions[rows]] @ asked.query
        rows = self._order.rows[positions]
        scores = self._ordered[positions] @ asked.query
        good = np.flatnonzero(scores >= asked.floor)
        rows, scores = rows[good], scores[good]
        if asked.eligible is not None:
            keep = asked.eligible.allowed[rows]
            rows, scores = rows[keep], scores[keep]
        return rows, scores


BY_NORM = IndexKind(build, load)
