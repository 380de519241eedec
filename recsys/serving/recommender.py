"""Search and fill-up: histories, or items, and a catalog view -> the best items of it, best first.

Everybody asks here: the answer engine for HTTP and the command line, and evaluation in bulk. Which items may be found
is decided before, in recsys.serving.eligibility. Item rows are joint rows (see recsys.serving.fresh_items).
Shapes: B users or items asked about, K top-k, D dim, N events.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.bundle.bundle import Bundle
from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.interactions import Histories
from recsys.data.ragged import Ragged
from recsys.index.bulk import BulkSearch
from recsys.serving.fresh_items import CatalogView

REASONS = ("personal", "visitor", "similar", "popular")
_PERSONAL, _SIMILAR, _POPULAR = REASONS.index("personal"), REASONS.index("similar"), REASONS.index("popular")
_BLOCK_USERS = 4096  # bounds the memory of user vectors and histories that are handled at once

Allowed = Sequence[Bool | None]  # for each bundle of a view: which of its rows may be answered; None: all


@dataclass(frozen=True)
class Hits:
    """The answers to B questions, best first. Scores compare within one reason only."""

    rows: Int32  # [B, K] item rows, -1 pads
    scores: Float32  # [B, K], -inf pads; of a popular item it is its popularity
    reasons: npt.NDArray[np.int8]  # [B, K], positions in REASONS; -1 pads


def recommend(
    view: CatalogView,
    histories: Histories,
    k: int,
    *,
    allowed: Allowed | None = None,
    excluded: Ragged | None = None,
    fill: bool = True,
    searches: Sequence[BulkSearch] | None = None,
) -> Hits:
    """Find the k best items for each of B users by full ranking of all items.

    allowed: items that may be recommended to anybody; None: all of the view. excluded: rows that a single user must not
    get [B]; what a user bought is among them where it must not come again (see eligibility.bought_rows).
    Users with an empty history, or one that says nothing (a vector of zeros), get popular items, and lists that are
    short are filled up with them under the same rules. Fewer than k come only when fewer are eligible. Without `fill`
    there are personal items only. searches: for each bundle of the view, a search that was prepared for what is
    allowed and for very many users; None: its index.
    Raises ValueError when shapes do not fit.
    """
    if excluded is not None and len(excluded) != len(histories):
        raise ValueError(f"excluded is for {len(excluded)} users, but {len(histories)} came")
    masks = view.standing if allowed is None else allowed
    prepared: Sequence[BulkSearch | None] = searches or [None] * len(view.bundles)
    blocks = [_empty(0, k)]
    for start in range(0, len(histories), _BLOCK_USERS):
        stop = min(start + _BLOCK_USERS, len(histories))
        queries = encode(view, histories.slice(start, stop))
        out = None if excluded is None else excluded.slice(start, stop)
        found = [
            _personal(bundle, queries, k, mask, rows, fill, search)
            for bundle, mask, rows, search in zip(view.bundles, masks, _by_bundle(view, out), prepared, strict=True)
        ]
        blocks.append(_best(view, found, k))
    return _concatenate(blocks)


def similar(
    view: CatalogView,
    rows: Int32,
    k: int,
    *,
    allowed: Allowed | None = None,
    excluded: Ragged | None = None,
    fill: bool = True,
) -> Hits:
    """Find the k items most similar to each of the items `rows` [B] by the cosine of their item vectors; never itself.

    The length of an item vector tells how much the item is in demand and its direction whose taste it is: similar is
    what has the same direction. An item that has no vector gets popular items. allowed, excluded, fill: as in
    `recommend`. Raises ValueError when k is below 1.
    """
    masks = view.standing if allowed is None else allowed
    blocks = [_empty(0, k)]
    for start in range(0, len(rows), _BLOCK_USERS):
        own = np.asarray(rows[start : start + _BLOCK_USERS], np.int32)
        out = Ragged(np.arange(len(own) + 1, dtype=np.int64), own)
        if excluded is not None:
            out = out.merge(excluded.slice(start, start + len(own)))
        vectors = item_vectors(view, own)
        found = [
            _nearest(bundle, vectors, k, mask, left_out, fill)
            for bundle, mask, left_out in zip(view.bundles, masks, _by_bundle(view, out), strict=True)
        ]
        blocks.append(_best(view, found, k))
    return _concatenate(blocks)


def encode(view: CatalogView, histories: Histories) -> Float32:
    """B histories of joint rows -> user vectors [B, D]."""
    if view.fresh is None:
        return view.main.vectors.encode(histories)
    used, items = np.unique(histories.items, return_inverse=True)
    small = Histories(histories.offsets, items.astype(np.int32), histories.kinds, histories.ages_days)
    parts = zip(view.main.vectors.parts, history_vectors(view, used), strict=True)
    return np.concatenate([part.encoder.encode(vectors, small) for part, vectors in parts], axis=1)


def history_vectors(view: CatalogView, rows: Int32) -> list[Float32]:
    """What the items of joint rows [N] are in a history: for each part float32 [N, Dp]."""
    if view.fresh is None:
        return [np.asarray(part.history_vectors[rows]) for part in view.main.vectors.parts]
    count, found = len(view.main.catalog), []
    of_main = rows < count
    for part, newer in zip(view.main.vectors.parts, view.fresh.bundle.vectors.parts, strict=True):
        vectors = np.empty((len(rows), part.history_vectors.shape[1]), np.float32)
        vectors[of_main] = part.history_vectors[rows[of_main]]
        vectors[~of_main] = newer.history_vectors[rows[~of_main] - count]
        found.append(vectors)
    return found


def _personal(
    bundle: Bundle,
    queries: Float32,
    k: int,
    allowed: Bool | None,
    left_out: Ragged | None,
    fill: bool,
    search: BulkSearch | None = None,
) -> Hits:
    """The k best items of one bundle for each of the user vectors [B, D]; see recommend."""
    hits = _empty(len(queries), k)
    asked = (bundle.vectors.personal_columns(queries) != 0).any(axis=1)
    excluded = None if left_out is None else left_out.take(asked)
    if search is None:
        scorable = bundle.with_vector if allowed is None else bundle.with_vector & allowed
        found = bundle.index.search(queries[asked], k, allowed=None if scorable.all() else scorable, excluded=excluded)
    else:
        found = search.search(queries[asked], k, excluded=excluded)
    hits.scores[asked], hits.rows[asked] = found
    hits.reasons[hits.rows >= 0] = _PERSONAL
    if fill:
        _fill_up(bundle, hits, allowed, left_out)
    return hits


def _nearest(
    bundle: Bundle, vectors: Float32, k: int, allowed: Bool | None, left_out: Ragged | None, fill: bool
) -> Hits:
    """The k items of one bundle whose vectors have the directions nearest to `vectors` [B, D]; see similar."""
    scorable = bundle.with_vector if allowed is None else bundle.with_vector & allowed
    queries = bundle.vectors.personal_columns(vectors)
    queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-30))
    hits = _empty(len(queries), k)
    asked = (queries != 0).any(axis=1)
    excluded = None if left_out is None else left_out.take(asked)
    found = bundle.search_directions(queries[asked], k, allowed=None if scorable.all() else scorable, excluded=excluded)
    hits.scores[asked], hits.rows[asked] = found
    hits.reasons[hits.rows >= 0] = _SIMILAR
    if fill:
        _fill_up(bundle, hits, allowed, left_out)
    return hits


def item_vectors(view: CatalogView, rows: Int32) -> Float32:
    """The item vectors of joint rows [B]: float32 [B, D]."""
    if view.fresh is None:
        return np.asarray(view.main.vectors.item_vectors[rows])
    vectors, count = np.empty((len(rows), view.main.vectors.dim), np.float32), len(view.main.catalog)
    of_main = rows < count
    vectors[of_main] = view.main.vectors.item_vectors[rows[of_main]]
    vectors[~of_main] = view.fresh.bundle.vectors.item_vectors[rows[~of_main] - count]
    return vectors


def _by_bundle(view: CatalogView, rows: Ragged | None) -> list[Ragged | None]:
    """Joint rows of each user as the rows of each of the view's bundles."""
    if rows is None or view.fresh is None:
        return [rows] * len(view.bundles)
    of_main = rows.values < len(view.main.catalog)
    fresh = rows.select(~of_main)
    return [rows.select(of_main), Ragged(fresh.offsets, fresh.values - np.int32(len(view.main.catalog)))]


def _best(view: CatalogView, answers: Sequence[Hits], k: int) -> Hits:
    """The k best of the bundles' answers: popular items behind all others, else by score; equal scores by row."""
    if len(answers) == 1:
        return answers[0]
    rows = np.concatenate(
        [np.where(a.rows < 0, -1, a.rows + start) for a, start in zip(answers, view.starts, strict=True)], axis=1
    )
    scores = np.concatenate([answer.scores for answer in answers], axis=1)
    reasons = np.concatenate([answer.reasons for answer in answers], axis=1)
    behind = np.where(rows < 0, 2, reasons == _POPULAR)
    order = np.lexsort((rows, -scores, behind), axis=1)[:, :k]
    return Hits(*(np.take_along_axis(values, order, axis=1) for values in (rows.astype(np.int32), scores, reasons)))


def _fill_up(bundle: Bundle, hits: Hits, allowed: Bool | None, left_out: Ragged | None) -> None:
    """Put popular items, the same for all but for what each must not get or has already, where a list is short."""
    short: Bool = np.any(hits.rows < 0, axis=1)
    if not short.any():
        return
    rows = hits.rows[short]
    listed_by, listed_at = np.nonzero(rows >= 0)
    owners, taken = listed_by, rows[listed_by, listed_at]
    if left_out is not None:
        out = left_out.take(short)
        owners, taken = np.concatenate([owners, out.owners]), np.concatenate([taken, out.values])
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
