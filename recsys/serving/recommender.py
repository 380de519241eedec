"""Bundle and histories -> hits. Evaluation, command line and HTTP all ask here.

Shapes: I items, B users or items asked about, K top-k, D dim, N events or excluded pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.bundle.bundle import Bundle
from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories
from recsys.index.exact import Ragged, search_exactly

REASONS = ("personal", "visitor", "similar", "popular")
_PERSONAL, _SIMILAR, _POPULAR = REASONS.index("personal"), REASONS.index("similar"), REASONS.index("popular")
_BLOCK_USERS = 4096  # bounds the memory of user vectors and histories that are handled at once


@dataclass(frozen=True)
class Hits:
    """The answers to B questions, best first. Scores compare within one reason only."""

    rows: Int32  # [B, K] item rows, -1 pads
    scores: Float32  # [B, K], -inf pads; of a popular item it is its popularity
    reasons: npt.NDArray[np.int8]  # [B, K], positions in REASONS; -1 pads


def recommend(
    bundle: Bundle,
    histories: Histories,
    k: int,
    *,
    target_codes: Sequence[int],
    repeats: bool,
    allowed: Bool | None = None,
    excluded: Ragged | None = None,
) -> Hits:
    """The k best items for each of B users, by full ranking of all items.

    histories: item rows are the bundle's. Unless `repeats`, items of which the history has an event of a target kind
    are left out. allowed: bool [I], items that may be recommended to anybody. excluded: rows that a single user must
    not get, ragged as (offsets [B + 1], rows [N]).
    Users with an empty history, or one that says nothing (a vector of zeros), get popular items, and lists that are
    short are filled up with them, filters and exclusions kept; fewer than k come only when fewer are eligible.
    Raises ValueError when shapes do not fit.
    """
    if excluded is not None and len(excluded[0]) != len(histories) + 1:
        raise ValueError(f"excluded is for {len(excluded[0]) - 1} users, but {len(histories)} came")
    blocks = [_empty(0, k)]
    for start in range(0, len(histories), _BLOCK_USERS):
        stop = min(start + _BLOCK_USERS, len(histories))
        block = histories.slice(start, stop)
        left_out = None if excluded is None else _slice(excluded, start, stop)
        if not repeats:
            seen = block.select(np.isin(block.kinds, np.asarray(target_codes, np.int8)))
            left_out = _join(left_out, (seen.offsets, seen.items))
        queries = bundle.vectors.encode(block)
        blocks.append(answer(bundle, queries, k, allowed=allowed, left_out=left_out))
    return _concatenate(blocks)


def answer(
    bundle: Bundle, queries: Float32, k: int, *, allowed: Bool | None = None, left_out: Ragged | None = None
) -> Hits:
    """The k best items for each of the user vectors [B, D]; see recommend. left_out: rows that a user must not get."""
    scorable = bundle.with_vector if allowed is None else bundle.with_vector & allowed
    hits = _empty(len(queries), k)
    asked = (bundle.vectors.personal_columns(queries) != 0).any(axis=1)
    excluded = None if left_out is None else _take(left_out, asked)
    found = bundle.index.search(queries[asked], k, allowed=None if scorable.all() else scorable, excluded=excluded)
    hits.scores[asked], hits.rows[asked] = found
    hits.reasons[hits.rows >= 0] = _PERSONAL
    _fill_up(bundle, hits, allowed, left_out)
    return hits


def similar(bundle: Bundle, rows: Int32, k: int, *, allowed: Bool | None = None) -> Hits:
    """The k items most similar to each of the items `rows` [B], by the cosine of their item vectors; never itself.

    The length of an item vector tells how much the item is in demand and its direction whose taste it is: similar is
    what has the same direction. An item that has no vector gets popular items. Raises ValueError when k is below 1.
    """
    blocks = [_empty(0, k)]
    for start in range(0, len(rows), _BLOCK_USERS):
        own = np.asarray(rows[start : start + _BLOCK_USERS], np.int32)
        itself = (np.arange(len(own) + 1, dtype=np.int64), own)
        blocks.append(nearest(bundle, bundle.vectors.item_vectors[own], k, allowed=allowed, left_out=itself))
    return _concatenate(blocks)


def nearest(
    bundle: Bundle, vectors: Float32, k: int, *, allowed: Bool | None = None, left_out: Ragged | None = None
) -> Hits:
    """The k items whose vectors have the directions nearest to `vectors` [B, D]; see similar."""
    scorable = bundle.with_vector if allowed is None else bundle.with_vector & allowed
    queries = bundle.vectors.personal_columns(vectors)
    queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-30))
    hits = _empty(len(queries), k)
    asked = (queries != 0).any(axis=1)
    excluded = None if left_out is None else _take(left_out, asked)
    found = search_exactly(bundle.directions, queries[asked], k, allowed=scorable, excluded=excluded)
    hits.scores[asked], hits.rows[asked] = found
    hits.reasons[hits.rows >= 0] = _SIMILAR
    _fill_up(bundle, hits, allowed, left_out)
    return hits


def available_items(catalog: Catalog) -> Bool:
    """Which items are not sold out: bool [I]; unknown counts as available."""
    if "available" not in catalog.columns.column_names:
        return np.ones(len(catalog), np.bool_)
    column = catalog.columns.column("available").cast(pa.bool_())
    return np.asarray(pc.fill_null(column, True).to_numpy(), np.bool_)


def _fill_up(bundle: Bundle, hits: Hits, allowed: Bool | None, left_out: Ragged | None) -> None:
    """Put popular items, the same for all but for what each must not get or has already, where a list is short."""
    short: Bool = np.any(hits.rows < 0, axis=1)
    if not short.any():
        return
    rows = hits.rows[short]
    listed_by, listed_at = np.nonzero(rows >= 0)
    owners, taken = listed_by, rows[listed_by, listed_at]
    if left_out is not None:
        offsets, out = _take(left_out, short)
        owners = np.concatenate([owners, np.repeat(np.arange(len(rows)), np.diff(offsets))])
        taken = np.concatenate([taken, out])
    # With so many, everybody finds k that are not taken.
    most_taken = int(np.bincount(owners, minlength=1).max())
    popular = _first_allowed(bundle.most_popular, allowed, rows.shape[1] + most_taken)
    for part in range(0, len(rows), step := max(1, 2**24 // max(1, len(popular)))):
        own = (owners >= part) & (owners < part + step)
        at = np.flatnonzero(short)[part : part + step]
        _put(bundle, hits, at, popular, (owners[own] - part, taken[own]))


def _put(bundle: Bundle, hits: Hits, at: Int64, popular: Int32, taken: tuple[Int64, Int32]) -> None:
    """Fill the lists `at` with the first of `popular` [P] that are not `taken`, given as (position in at, row)."""
    free = np.ones((len(at), len(popular)), np.bool_)
    by_row = np.argsort(popular, kind="stable")
    owners, rows = taken
    place = np.searchsorted(popular, rows, sorter=by_row)
    known = place < len(popular)
    known[known] = popular[by_row[place[known]]] == rows[known]
    free[owners[known], by_row[place[known]]] = False
    has = (hits.rows[at] >= 0).sum(axis=1)
    order = np.cumsum(free, axis=1)
    users, chosen = np.nonzero(free & (order <= (hits.rows.shape[1] - has)[:, None]))
    slots = has[users] + order[users, chosen] - 1
    hits.rows[at[users], slots] = popular[chosen]
    hits.scores[at[users], slots] = bundle.popularity[popular[chosen]]
    hits.reasons[at[users], slots] = _POPULAR


def _first_allowed(rows: Int32, allowed: Bool | None, count: int) -> Int32:
    """The first `count` of rows that are allowed, looking no further than it takes."""
    if allowed is None:
        return rows[:count]
    looked = count
    while True:
        found = rows[:looked][allowed[rows[:looked]]]
        if len(found) >= count or looked >= len(rows):
            return found[:count]
        looked *= 4


def _empty(count: int, k: int) -> Hits:
    return Hits(
        np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32), np.full((count, k), -1, np.int8)
    )


def _concatenate(blocks: list[Hits]) -> Hits:
    return Hits(
        np.concatenate([hits.rows for hits in blocks]),
        np.concatenate([hits.scores for hits in blocks]),
        np.concatenate([hits.reasons for hits in blocks]),
    )


def _slice(ragged: Ragged, start: int, stop: int) -> Ragged:
    offsets, rows = ragged
    bounds = offsets[start : stop + 1]
    return bounds - bounds[0], rows[bounds[0] : bounds[-1]]


def _take(ragged: Ragged, which: Bool) -> Ragged:
    """The rows of those queries [B] for which `which` is true."""
    offsets, rows = ragged
    counts = np.diff(offsets)
    kept = np.concatenate([[0], np.cumsum(counts[which])]).astype(np.int64)
    return kept, rows[np.repeat(which, counts)]


def _join(first: Ragged | None, second: Ragged) -> Ragged:
    """Both rows of every query, side by side."""
    if first is None:
        return second
    owners = np.concatenate([np.repeat(np.arange(len(r[0]) - 1), np.diff(r[0])) for r in (first, second)])
    rows = np.concatenate([first[1], second[1]])
    return first[0] + second[0], np.asarray(rows[np.argsort(owners, kind="stable")], np.int32)
