"""Features of histories: how users buy in general, and how they have interacted with given items.

Shapes: B users, N events, S items asked about, I items of the bundle, D dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.interactions import Histories
from recsys.models.vectors import Vectors

Float64 = npt.NDArray[np.float64]

NEVER_DAYS = 3650.0  # the age of what never happened; ages are capped here
_BOUGHT_HALF_LIFE_DAYS = 60.0  # of a purchase of the item
_LOOKED_HALF_LIFE_DAYS = 14.0  # of another event with it
_CLOSE_HALF_LIFE_DAYS = 30.0  # of an event with an item close to it
_BASKET_DAYS = 28.0
_SAMPLED_ITEMS = 50_000  # from which mean and covariance of the directions are estimated


@dataclass(frozen=True)
class UserFeatures:
    """How B users buy in general; arrays [B]. A day is 24 hours, counted back from the moment asked for."""

    days_since_event: Float64  # NEVER_DAYS when there was none; the next two too
    days_since_purchase: Float64
    days_since_first_purchase: Float64
    event_days_28: Float64  # days with an event, of the last 28
    purchases: Float64  # events of a kind that means "bought"
    purchase_days: Float64  # days with a purchase, of all, of the last 28 and of the last 90
    purchase_days_28: Float64
    purchase_days_90: Float64
    basket: Float64  # distinct items bought in a 28-day period with a purchase, on average

    @property
    def has_history(self) -> Bool:
        """Mark the users with any event: bool [B]."""
        return self.days_since_event < NEVER_DAYS

    def design(self) -> Float64:
        """The columns from which the probability of buying at all is learned: float64 [B, 9]."""
        numbers = (
            self.days_since_event,
            self.days_since_purchase,
            self.days_since_first_purchase,
            self.event_days_28,
            self.purchases,
            self.purchase_days,
            self.purchase_days_28,
            self.purchase_days_90,
        )
        return np.column_stack([*np.log1p(numbers), self.purchases == 0])


def compute_user_features(histories: Histories, bought_codes: Sequence[int]) -> UserFeatures:
    """Compute how the users of these histories buy. bought_codes: the kinds that mean "bought"."""
    bought = histories.select(np.isin(histories.kinds, np.asarray(bought_codes, np.int8)))
    return UserFeatures(
        days_since_event=_newest_age(histories),
        days_since_purchase=_newest_age(bought),
        days_since_first_purchase=_oldest_age(bought),
        event_days_28=_days(histories, 28),
        purchases=np.diff(bought.offsets).astype(np.float64),
        purchase_days=_days(bought, NEVER_DAYS),
        purchase_days_28=_days(bought, 28),
        purchase_days_90=_days(bought, 90),
        basket=_basket(bought),
    )


@dataclass(frozen=True)
class UserItemFeatures:
    """How B users have interacted with S items; arrays [B, S]."""

    affinity: Float64  # by how many standard deviations the item suits the user better than an ordinary item
    bought_days: Float64  # days with a purchase of the item
    days_since_bought: Float64  # NEVER_DAYS when it was not bought
    looks: Float64  # events of other kinds, each with a half-life of 14 days
    closeness: Float64  # cosine with the closest other item of the history; 0 when there is none
    fresh_closeness: Float64  # the same, each cosine with a half-life of 30 days

    @property
    def bought(self) -> Bool:
        """Mark who bought what: bool [B, S]."""
        return self.bought_days > 0

    def design(self, user_features: UserFeatures, log_demand: Float64) -> Float64:
        """The columns from which the probability of an item, given that the user buys, is learned: float64 [B, S, 15].

        log_demand [S]: logarithm of the share of recent buyers who bought the item. Past buyers of the item depend
        on the other features in another way than the rest, so each of those has two columns.
        """
        bought = self.bought
        basket = np.broadcast_to(np.log1p(user_features.basket)[:, None], bought.shape)
        columns = [
            np.broadcast_to(log_demand, bought.shape),
            bought.astype(np.float64),
            np.log1p(self.bought_days),
            np.where(bought, np.exp2(-self.days_since_bought / _BOUGHT_HALF_LIFE_DAYS), 0.0),
            np.log1p(self.looks),
        ]
        for column in (self.affinity, basket, self.affinity * basket, self.closeness, self.fresh_closeness):
            columns += [np.where(bought, 0.0, column), np.where(bought, column, 0.0)]
        return np.stack(columns, axis=-1)


@dataclass(frozen=True)
class Affinity:
    """How much an item suits a user, comparable between users.

    Inner products rank items for one user; their size differs from user to user for no reason. So each cosine is
    standardized: by the mean and the standard deviation of the user's cosines with all items.
    """

    vectors: Vectors
    mean: Float64  # [D] of the directions of the item vectors
    covariance: Float64  # [D, D]

    @classmethod
    def of(cls, vectors: Vectors) -> "Affinity":
        """Estimate mean and covariance of the item vectors' directions, from a sample of very many items."""
        step = max(1, len(vectors.item_vectors) // _SAMPLED_ITEMS)
        directions = _directions(vectors.item_vectors[::step])
        directions = directions[directions.any(axis=1)]
        if len(directions) == 0:
            return cls(vectors, np.zeros(vectors.dim), np.zeros((vectors.dim, vectors.dim)))
        mean = directions.mean(axis=0)
        away = directions - mean
        return cls(vectors, mean, away.T @ away / len(directions))

    def measure(self, histories: Histories, items: Int32) -> Float64:
        """Measure the affinity of B users to S items: float64 [B, S]; 0 for an unknown user or item."""
        users = np.asarray(self.vectors.encode(histories), np.float64)
        directions = _directions(self.vectors.item_vectors[items])
        spread = np.sqrt(np.maximum(np.einsum("bd,bd->b", users @ self.covariance, users), 0.0))
        away = users @ directions.T - (users @ self.mean)[:, None]
        known = (spread > 1e-9 * np.linalg.norm(users, axis=1))[:, None] & directions.any(axis=1)
        return np.where(known, away / np.where(spread > 0, spread, 1.0)[:, None], 0.0)

    def closeness(self, histories: Histories, items: Int32) -> tuple[Float64, Float64]:
        """Compute the cosine of items [S] with the closest other item of B histories, plain and decayed [B, S].

        Computed item by item, so that no array is larger than the events or the pairs.
        """
        seen, at = np.unique(histories.items, return_inverse=True)
        cosines = _directions(self.vectors.item_vectors[seen]) @ _directions(self.vectors.item_vectors[items]).T
        cosines[seen[:, None] == items] = 0.0
        freshness = np.exp2(-histories.ages_days.astype(np.float64) / _CLOSE_HALF_LIFE_DAYS)
        some = np.diff(histories.offsets) > 0
        starts = histories.offsets[:-1][some]
        closest, freshest = np.zeros((2, len(histories), len(items)))
        for slot in range(len(items) if some.any() else 0):
            near = cosines[:, slot][at]
            closest[some, slot] = np.maximum.reduceat(near, starts)
            freshest[some, slot] = np.maximum.reduceat(near * freshness, starts)
        return closest, freshest


@dataclass(frozen=True)
class Block:
    """What is known of B users at once, while users are scored."""

    rows: Int64  # [B] user rows
    histories: Histories
    users: UserFeatures
    bought_codes: tuple[int, ...]


def compute_user_item_features(
    histories: Histories, items: Int32, affinity: Affinity, bought_codes: Sequence[int]
) -> UserItemFeatures:
    """Compute how the users of these histories have interacted with the items [S], which are distinct."""
    slots = np.full(len(affinity.vectors.item_vectors), -1, np.int64)
    slots[items] = np.arange(len(items))
    shape = (len(histories), len(items))
    slot = slots[histories.items]
    of_items = slot >= 0
    cell = (histories.users * len(items) + slot)[of_items]
    ages = histories.ages_days[of_items].astype(np.float64)
    is_purchase = np.isin(histories.kinds[of_items], np.asarray(bought_codes, np.int8))
    bought_days = np.unique(cell[is_purchase] * 2**16 + np.minimum(ages[is_purchase], NEVER_DAYS).astype(np.int64))
    newest = np.full(shape, NEVER_DAYS)
    np.minimum.at(newest.reshape(-1), cell[is_purchase], ages[is_purchase])
    size = shape[0] * shape[1]
    freshness = np.exp2(-ages[~is_purchase] / _LOOKED_HALF_LIFE_DAYS)
    looks: Float64 = np.bincount(cell[~is_purchase], freshness, minlength=size).astype(np.float64)
    closest, freshest = affinity.closeness(histories, items)
    return UserItemFeatures(
        affinity=affinity.measure(histories, items),
        bought_days=np.bincount(bought_days // 2**16, minlength=size).astype(np.float64).reshape(shape),
        days_since_bought=newest,
        looks=looks.reshape(shape),
        closeness=closest,
        fresh_closeness=freshest,
    )


def _newest_age(histories: Histories) -> Float64:
    return _age_at(histories, histories.offsets[1:] - 1)


def _oldest_age(histories: Histories) -> Float64:
    return _age_at(histories, histories.offsets[:-1])


def _age_at(histories: Histories, at: Int64) -> Float64:
    ages = np.full(len(histories), NEVER_DAYS)
    some = np.diff(histories.offsets) > 0
    # An event of any age stays apart from none at all.
    ages[some] = np.minimum(histories.ages_days[at[some]], NEVER_DAYS - 1)
    return ages


def _days(histories: Histories, within: float) -> Float64:
    """Count the days with an event less than `within` days ago: float64 [B]. Events are sorted by time."""
    users, days = histories.users, histories.ages_days.astype(np.int64)
    is_new = np.ones(len(days), np.bool_)
    is_new[1:] = (users[1:] != users[:-1]) | (days[1:] != days[:-1])
    counted = users[is_new & (histories.ages_days < within)]
    return np.bincount(counted, minlength=len(histories)).astype(np.float64)


def _basket(bought: Histories) -> Float64:
    periods = np.minimum(bought.ages_days / _BASKET_DAYS, 2**11 - 1).astype(np.int64)
    user_periods = bought.users * 2**11 + periods
    items = np.bincount(np.unique(user_periods * 2**32 + bought.items) >> 43, minlength=len(bought))
    periods_bought_in = np.bincount(np.unique(user_periods) >> 11, minlength=len(bought))
    return np.asarray(items / np.maximum(periods_bought_in, 1), np.float64)


def _directions(vectors: Float32) -> Float64:
    wide = np.asarray(vectors, np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30), np.float64)
