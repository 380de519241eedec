"""Buying again: which of the items that a user has bought are wanted once more.

Shapes: N purchases, P distinct (user, item), I items, F features.
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.interactions import Histories
from recsys.related.network import Network

RECENT, TOTAL, AGAIN, GAP, TREND = range(5)  # the columns of what is known of an item
ITEM_COLUMNS = 5
_HALF_LIVES = (15.0, 60.0, 240.0)
_SAME_PURCHASE_DAYS = 0.02  # rows of one item that lie closer are one purchase: half an hour
_LONGEST_DAYS = 1000.0


@dataclass(frozen=True)
class Repeats:
    """How purchases are ranked: by a network, or by decayed frequency times popularity where that did not win."""

    items: Float32  # [I, 5]: buyers of the last 28 days, of all time, share who came back, usual days until then, trend
    half_life_days: float
    popularity_exponent: float
    network: Network | None


def without_training(item_count: int) -> Repeats:
    """Rank by frequency alone, where nothing is known of items: for a bundle of before there were boxes."""
    return Repeats(np.broadcast_to(np.zeros(ITEM_COLUMNS, np.float32), (item_count, ITEM_COLUMNS)), np.inf, 0.0, None)


@dataclass(frozen=True)
class Purchases:
    """The P distinct (user, item) of N purchases, by user: user b owns offsets[b]:offsets[b + 1]."""

    offsets: Int64  # [B + 1]
    items: Int32  # [P]
    ages_days: Float32  # [N] of each purchase; rows of the same user, item and moment are one
    pairs: Int64  # [N] the (user, item) of each, 0..P-1
    counts: Float32  # [P] how many purchases
    newest: Float32  # [P] days since the last purchase
    oldest: Float32  # [P] days since the first one
    user_orders: Float32  # [P] days on which the user bought anything
    user_newest: Float32  # [P] days since the user's last purchase of anything

    def decayed(self, half_life_days: float) -> Float32:
        """How many purchases, those of long ago counting less: float32 [P]. Infinite days count all alike."""
        weights = 0.5 ** (self.ages_days / half_life_days)
        return np.bincount(self.pairs, weights, minlength=len(self.items)).astype(np.float32)


def purchases_of(histories: Histories) -> Purchases:
    """Sum up histories of purchases: each (user, item) once, items ascending within a user."""
    count = len(histories)
    width = int(histories.items.max(initial=0)) + 1
    keys = histories.users * width + histories.items
    order = np.lexsort((histories.ages_days, keys))
    keys, ages = keys[order], histories.ages_days[order]
    again = np.diff(keys, prepend=-1) != 0
    distinct = again | (np.diff(ages, prepend=0) > _SAME_PURCHASE_DAYS)
    keys, ages, first = keys[distinct], ages[distinct], again[distinct]
    starts = np.flatnonzero(first)
    pair = np.cumsum(first) - 1
    owners = keys[starts] // width
    sizes = np.bincount(owners, minlength=count)
    days = np.unique(histories.users * np.int64(100_000) + histories.ages_days.astype(np.int64))
    orders = np.bincount(days // 100_000, minlength=count)
    user_newest = np.full(count, _LONGEST_DAYS)
    np.minimum.at(user_newest, owners, ages[starts])
    stops = np.concatenate([starts[1:], [len(keys)]]) - 1 if len(starts) else starts
    return Purchases(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        (keys[starts] % width).astype(np.int32),
        ages.astype(np.float32),
        pair.astype(np.int64),
        np.bincount(pair, minlength=len(starts)).astype(np.float32),
        ages[starts].astype(np.float32),
        ages[stops].astype(np.float32),
        orders[owners].astype(np.float32),
        user_newest[owners].astype(np.float32),
    )


def features_of(purchases: Purchases, items: Float32) -> Float32:
    """What a network learns from: float32 [P, F]. items: what is known of each item, [I, 5]."""
    known = items[purchases.items]
    counts, newest, oldest = purchases.counts, purchases.newest, purchases.oldest
    rhythm = np.where(counts > 1, (oldest - newest) / np.maximum(counts - 1, 1), 0)
    # Where somebody bought once, the others' usual time until the next purchase stands in.
    usual = np.where(counts > 1, rhythm, known[:, GAP])
    columns = [
        np.log(counts),
        counts > 1,
        *(np.log(purchases.decayed(days) + 1e-3) for days in _HALF_LIVES),
        np.log1p(newest),
        np.log1p(oldest),
        np.log1p(rhythm),
        np.log((newest + 1) / (usual + 1)),
        np.abs(np.log((newest + 1) / (usual + 1))),
        np.log(purchases.user_orders),
        counts / purchases.user_orders,
        np.log1p(purchases.user_newest),
        np.log1p(newest - purchases.user_newest),
        np.log(known[:, RECENT] + 0.5),
        np.log(known[:, TOTAL] + 0.5),
        np.log(known[:, TREND]),
        known[:, AGAIN],
        np.log1p(known[:, GAP]),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def decayed_frequency(purchases: Purchases, items: Float32, half_life_days: float, exponent: float) -> Float32:
    """Frequency times recent popularity to a power: float32 [P]. An exponent of nearly 0 only breaks ties by it."""
    popularity = (items[purchases.items, RECENT] + 0.5) ** exponent
    return np.asarray(purchases.decayed(half_life_days) * popularity, np.float32)


def rank_repeats(repeats: Repeats, history: Histories) -> tuple[Int32, Float32]:
    """Rank the purchases of one user: rows and scores, best first."""
    known = history.select(history.items < len(repeats.items))
    purchases = purchases_of(known)
    scores = score_repeats(repeats, purchases)
    order = np.argsort(-scores, kind="stable")
    return purchases.items[order], scores[order]


def score_repeats(repeats: Repeats, purchases: Purchases) -> Float32:
    """Score purchases: higher is sooner wanted again, within one user: float32 [P]."""
    if repeats.network is None:
        return decayed_frequency(purchases, repeats.items, repeats.half_life_days, repeats.popularity_exponent)
    return repeats.network.score(features_of(purchases, repeats.items))
