"""Search items in the order of their norms, in growing shards, and stop where no further item can be good enough.

No inner product exceeds the product of both norms: once |query| times the largest norm of the next shard is below the
k-th best score, the rest cannot matter. The stop itself loses nothing; what a shard offers is up to its `Scan`.
Source: C. Teflioudi, R. Gemulla, "Exact and approximate maximum inner product search with LEMP", TODS 42(1), 2017.
Shapes: I items, D dim, B queries, K top-k, N candidates, S shards.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from recsys.data.arrays import Bool, Float32, Int32, Int64, is_among
from recsys.data.ragged import Ragged
from recsys.index.exact import Items, check_shapes, empty_answer, rank

BLOCK = 32  # shards begin at multiples of it, as the codes of a quantizer do
_FIRST = 4096  # items of the first shard, at least
_FIRST_SHARE = 0.01
_FEW = 2000  # so many eligible items are all scored, without an order
_ALIKE = 0.15  # standard deviation of the logarithm of norms, below which a stop never comes
_ONE_BY_ONE = 0.02  # share of the items up to which eligible ones are put in order
_NO_ROWS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class NormOrder:
    """Items by falling norm, cut into shards."""

    rows: Int32  # [I]: item rows, the largest norm first; equal norms by row
    positions: Int32  # [I]: where each item row is in that order
    norms: Float32  # [I]: in that order
    edges: Int64  # [S + 1]: shard s holds the positions edges[s]:edges[s + 1]

    @classmethod
    def of(cls, norms: Float32) -> "NormOrder":
        """Order items with these norms [I]."""
        rows = np.argsort(-norms, kind="stable").astype(np.int32)
        positions = np.empty(len(rows), np.int32)
        positions[rows] = np.arange(len(rows), dtype=np.int32)
        ordered = np.ascontiguousarray(norms[rows])
        return cls(rows, positions, ordered, _edges(ordered))

    @property
    def arrays(self) -> list[Any]:
        """What makes up the order, in the order of the fields."""
        return [self.rows, self.positions, self.norms, self.edges]


def _edges(norms: Float32) -> Int64:
    """Cut norms [I] in falling order: 1 % of the items, then always twice as many. Norms that are alike: one shard."""
    positive = norms[norms > 0]
    if len(positive) < 2 or float(np.log(positive.astype(np.float64)).std()) < _ALIKE:
        return np.array([0, len(norms)] if len(norms) else [0], np.int64)
    edges, size = [0], max(_FIRST, int(_FIRST_SHARE * len(norms)))
    while edges[-1] < len(norms):
        edges.append(min(len(norms), edges[-1] + -(-size // BLOCK) * BLOCK))
        size *= 2
    return np.array(edges, np.int64)


class Eligible:
    """Which items count, in norm order."""

    def __init__(self, order: NormOrder, allowed: Bool) -> None:
        """allowed: bool [I], by item row."""
        self._order, self.allowed = order, allowed
        self.count = int(np.count_nonzero(allowed))

    @property
    def share(self) -> float:
        """The share of all items."""
        return self.count / max(1, len(self.allowed))

    @cached_property
    def rows(self) -> Int32:
        """Their rows, in norm order; cheap where they are few."""
        return self._order.rows[self._positions]

    def within(self, positions: slice) -> Int32:
        """Their rows among these positions."""
        if self.share > _ONE_BY_ONE:  # looking at all items of a shard is faster than putting all eligible in order
            rows = self._order.rows[positions]
            return rows[self.allowed[rows]]
        start, stop = np.searchsorted(self._positions, [positions.start, positions.stop])
        return self.rows[start:stop]

    @cached_property
    def _positions(self) -> Int32:
        return np.sort(self._order.positions[np.flatnonzero(self.allowed)])


@dataclass
class Asked:
    """One query, and what is known of its answer."""

    query: Float32  # [D]
    count: int  # candidates of a shard that a scan shall find
    eligible: Eligible | None  # None: all items
    floor: float = -np.inf  # a score that is lower does not count


class Scan(Protocol):
    """Finds the candidates of a shard."""

    def candidates(self, asked: Asked, shard: int, positions: slice) -> tuple[Int32, Float32]:
        """Rows [N] of a shard and their inner products with the query: the best that are eligible, in any order.

        positions: the shard's, in norm order.
        """
        ...


class Best:
    """What can still be among the k best of one query."""

    def __init__(self, k: int, margin: float) -> None:
        """margin: differences of scores that rounding can explain."""
        self._k, self._margin = k, margin
        self._scores = np.zeros(0, np.float32)
        self._worst = -np.inf  # the k-th score
        self.rows: Int32 = _NO_ROWS  # [N], in no order

    @property
    def floor(self) -> float:
        """Below this score nothing is among the k best."""
        return self._worst - self._margin

    def add(self, rows: Int32, scores: Float32, excluded: Int32) -> None:
        """Add candidates, rows and scores [N]; excluded: rows that do not count, ascending."""
        floor = max(self.floor, _kth(scores, self._k + len(excluded)) - self._margin)
        good = np.flatnonzero(scores >= floor)
        rows, scores = rows[good], scores[good]
        if len(excluded) and len(rows):
            keep = ~is_among(rows, excluded)
            rows, scores = rows[keep], scores[keep]
        rows, scores = np.concatenate([self.rows, rows]), np.concatenate([self._scores, scores])
        self._worst = _kth(scores, self._k)
        good = np.flatnonzero(scores >= self.floor)
        self.rows, self._scores = rows[good], scores[good]


def _kth(scores: Float32, k: int) -> float:
    """The k-th best of scores [N], -inf where there are fewer."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else -np.inf


def search_in_order(
    order: NormOrder,
    items: Items,
    scan: Scan,
    queries: Float32,
    k: int,
    *,
    allowed: Bool | None,
    excluded: Ragged | None,
    candidates: int,
    bound: float = 1.0,
) -> tuple[Float32, Int32]:
    """Find the k best eligible items of each query; see Index.search.

    candidates: how many of a shard a scan shall find. bound: largest cosine of a query and an item; 1 is always true.
    """
    check_shapes(items, queries, k, allowed, excluded)
    scores, rows = empty_answer(len(queries), k)
    queries = np.ascontiguousarray(queries, np.float32)
    margins, lengths = items.margin(queries), np.linalg.norm(queries, axis=1)
    eligible = None if allowed is None else Eligible(order, allowed)
    for b in range(len(queries)):
        out = _NO_ROWS if excluded is None else np.sort(excluded.row(b))
        best = Best(k, float(margins[b]))
        if eligible is not None and eligible.count <= max(_FEW, candidates):
            best.add(eligible.rows, items.scores(queries[b], eligible.rows), out)
        else:
            asked = Asked(queries[b], candidates + len(out), eligible)
            _walk(order, scan, asked, best, out, float(lengths[b]) * bound)
        found = (np.zeros(len(best.rows), np.int64), best.rows.astype(np.int64))
        own_scores, own_rows = rank(items, queries[b : b + 1], k, found)
        scores[b], rows[b] = own_scores[0], own_rows[0]
    return scores, rows


def _walk(order: NormOrder, scan: Scan, asked: Asked, best: Best, excluded: Int32, length: float) -> None:
    """Go from shard to shard until the rest cannot matter: no score is more than `length` times the item's norm."""
    for shard, (start, stop) in enumerate(zip(order.edges[:-1].tolist(), order.edges[1:].tolist(), strict=True)):
        asked.floor = best.floor
        if length * float(order.norms[start]) < asked.floor:
            return
        best.add(*scan.candidates(asked, shard, slice(start, stop)), excluded)
