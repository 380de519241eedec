"""The kinds of index: how one is built, measured against exact search, saved and opened.

Filters and exclusions are part of every search, so k answers come whenever k items are eligible.
Shapes: I items, D dim, B queries, K top-k.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recsys.data.arrays import Bool, Float32, Int32
from recsys.data.ragged import Ragged
from recsys.errors import BundleError, ConfigError
from recsys.imports import resolve

EXACT = "flat"  # the kind that takes over where another finds too little

# name -> an IndexKind, as a dotted name
INDEXES: dict[str, str] = {
    EXACT: "recsys.index.flat:FLAT",
    "by_norm": "recsys.index.by_norm:BY_NORM",
    "fastscan": "recsys.index.fastscan:FASTSCAN",
}

_RECALL_K = 20
_RECALL_QUERIES = 256


class Index(Protocol):
    """A structure that finds the items with the largest inner product with a query."""

    def __len__(self) -> int:
        """Number of items, I."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector, D."""
        ...

    def search(
        self, queries: Float32, k: int, *, allowed: Bool | None = None, excluded: Ragged | None = None
    ) -> tuple[Float32, Int32]:
        """Find the k best eligible items of each query: scores [B, K], best first, and rows [B, K].

        queries: [B, D]. allowed: bool [I], items that any query may find. excluded: items that a single query must not
        find. Equal scores are ordered by row. Where fewer than k items are eligible: row -1, score -inf.
        Raises ValueError when shapes do not fit.
        """
        ...

    def write(self, path: Path) -> None:
        """Save the index to one file. Raises OSError when the disk is full."""
        ...


@dataclass(frozen=True)
class IndexKind:
    """The two functions that make a kind of index: a value of INDEXES, or of a dotted name in the configuration."""

    build: Callable[[Float32], Index]  # from item vectors [I, D]
    load: Callable[[Path, Float32], Index]  # from the file that `Index.write` made and the same item vectors


@dataclass(frozen=True)
class BuiltIndex:
    """An index with what the manifest says about it."""

    index: Index
    kind: str  # under which `load` opens it: a key of INDEXES or a dotted name
    recall: dict[str, float]  # recall@20 against exact search: "plain", and "filtered" with half of the items allowed
    facts: dict[str, Any] = field(default_factory=dict)  # what else the manifest says: settings, times, why this one


def find_kind(name: str) -> IndexKind:
    """The kind behind a key of INDEXES or a dotted name `package.module:NAME`.

    Raises ConfigError when there is none, or when it is no IndexKind. A manifest names its kind, so nothing but an
    IndexKind is ever called.
    """
    kind = resolve(name, INDEXES)
    if not isinstance(kind, IndexKind):
        raise ConfigError(
            f"{name!r} is a {type(kind).__name__}; expected a recsys.index.registry.IndexKind, the pair (build, load)"
        )
    return kind


def build(kind: str, item_vectors: Float32, queries: Float32, *, min_recall: float) -> BuiltIndex:
    """Build an index over item vectors [I, D] and measure its recall with user vectors [B, D].

    Builds the exact index instead when recall, with or without a filter, is below `min_recall`.
    Raises ConfigError for an unknown kind, RecsysError for vectors that are not finite.
    """
    index = find_kind(kind).build(item_vectors)
    recall = measure_recall(index, item_vectors, queries)
    if min(recall.values()) < min_recall and kind != EXACT:
        kind = EXACT
        index = find_kind(kind).build(item_vectors)
        recall = measure_recall(index, item_vectors, queries)
    return BuiltIndex(index, kind, recall)


def load(path: Path, kind: str, item_vectors: Float32) -> Index:
    """Open a saved index of a kind over the item vectors [I, D] it was built from.

    Raises BundleError when the kind is unknown here, or the file cannot be read as one.
    """
    try:
        return find_kind(kind).load(path, item_vectors)
    except BundleError:
        raise
    except ConfigError as error:
        raise BundleError(f"{path} needs the index kind {kind!r}: {error}") from None
    except Exception as error:  # a loader outside this project may raise anything
        raise BundleError(f"{path} cannot be opened as an index of kind {kind!r}: {error}") from error


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
