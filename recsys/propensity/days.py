"""The days on which users bought: what features are computed from, at any moment.

A day is 24 hours, counted back from a moment: day -1 is the last one before it. Shapes: U users, R rows (a user and a
day with a purchase), N purchases, A rows (a user and a day with any event), I items, B users in a batch.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recsys.data.arrays import Bool, Float64, Int64
from recsys.data.times import MICROSECONDS_PER_DAY

_WIDTH, _ZERO = 2**21, 2**20  # of days in a key of user and day; day 0 lies in the middle


@dataclass(frozen=True)
class BuyingDays:
    """What U users bought on which day, sorted by user and day."""

    user_count: int
    as_of: int  # where day 0 begins; microseconds UTC
    users: Int64  # [R]
    days: Int64  # [R]
    amounts: Float64  # [R] money, at least 0; a purchase without a value counts as 0
    lines: Float64  # [R] purchases
    new_items: Float64  # [R] items that the user had not bought on an earlier day
    new_categories: Float64  # [R] the same of categories
    rows: Int64  # [N] the row of each purchase, ascending
    items: Int64  # [N]
    categories: Int64  # [N] of the item, -1: none
    active_users: Int64  # [A]
    active_days: Int64  # [A]
    priced: float  # share of the purchases with a value

    @cached_property
    def keys(self) -> Int64:
        """User and day of each row as one number, ascending: [R]."""
        return _keys(self.users, self.days)

    @cached_property
    def active_keys(self) -> Int64:
        """The same of days with any event: [A]."""
        return _keys(self.active_users, self.active_days)

    @cached_property
    def gaps(self) -> Int64:
        """Days since the user's purchase before: [R], 0 at the first one."""
        return np.where(np.diff(self.users, prepend=-1) == 0, np.diff(self.days, prepend=0), 0)

    def rows_between(self, users: Int64, starts: Int64, ends: Int64) -> tuple[Int64, Int64]:
        """The rows of users [B] with start <= day < end: positions in the batch, and rows."""
        return _between(self.keys, users, starts, ends)

    def activity_before(self, users: Int64, ends: Int64) -> Int64:
        """How many days with any event lie before a day of users [B], those of users in lower rows included: [B]."""
        return np.searchsorted(self.active_keys, _keys(users, ends))

    @cached_property
    def purchases_before(self) -> Int64:
        """How many purchases lie in earlier rows: [R + 1]."""
        return np.searchsorted(self.rows, np.arange(len(self.days) + 1))

    def known_before(self, day: int) -> Int64:
        """The users with a purchase before a day, ascending."""
        return np.unique(self.users[self.days < day])

    def bought_in(self, users: Int64, start: int, end: int) -> tuple[Bool, Float64]:
        """Whether users [B] bought anything in start <= day < end, and for how much: [B], [B]."""
        owners, rows = self.rows_between(users, np.full(len(users), start), np.full(len(users), end))
        count = np.bincount(owners, minlength=len(users))
        return count > 0, np.bincount(owners, self.amounts[rows], len(users)).astype(np.float64)

    @cached_property
    def first_day(self) -> int:
        """The day of the first purchase; 0 when there is none."""
        return int(self.days.min(initial=0))

    def of_users(self, users: Int64) -> "BuyingDays":
        """Keep these users, ascending rows; they get the rows 0..B-1."""
        place = np.full(self.user_count, -1, np.int64)
        place[users] = np.arange(len(users))
        kept, active = place[self.users] >= 0, place[self.active_users] >= 0
        lines = kept[self.rows]
        return replace(
            self,
            user_count=len(users),
            users=place[self.users[kept]],
            rows=(np.cumsum(kept) - 1)[self.rows[lines]],
            items=self.items[lines],
            categories=self.categories[lines],
            active_users=place[self.active_users[active]],
            active_days=self.active_days[active],
            **{name: getattr(self, name)[kept] for name in ("days", "amounts", "lines", "new_items", "new_categories")},
        )


def summarize(
    users: Int64,
    items: Int64,
    times: Int64,
    values: Float64,
    *,
    is_purchase: Bool,
    category_of: Int64,
    user_count: int,
    as_of: int,
) -> BuyingDays:
    """Sum up events by user and day. The arrays are of unordered events before `as_of` (microseconds UTC).

    values: money; NaN where unknown. category_of: the category of each item row, -1 for none.
    """
    days = (times - as_of) // MICROSECONDS_PER_DAY
    active = np.unique(_keys(users, days))
    order = np.flatnonzero(is_purchase)
    order = order[np.lexsort((days[order], users[order]))]
    users, items, days, values = users[order], items[order], days[order], values[order]
    keys, starts, rows = np.unique(_keys(users, days), return_index=True, return_inverse=True)
    count = len(keys)
    categories = category_of[items] if len(category_of) else np.full(len(items), -1, np.int64)
    return BuyingDays(
        user_count=user_count,
        as_of=as_of,
        users=users[starts].astype(np.int64),
        days=days[starts],
        amounts=np.maximum(np.bincount(rows, np.nan_to_num(values), count), 0.0),
        lines=np.bincount(rows, minlength=count).astype(np.float64),
        new_items=_new(users, items, rows, count),
        new_categories=_new(users, categories, rows, count),
        rows=rows.astype(np.int64),
        items=items.astype(np.int64),
        categories=categories.astype(np.int64),
        active_users=active // _WIDTH,
        active_days=active % _WIDTH - _ZERO,
        priced=float(np.isfinite(values).mean()) if len(values) else 0.0,
    )


def _new(users: Int64, things: Int64, rows: Int64, count: int) -> Float64:
    """How many things each row has that the user had on no earlier one: [R]. Purchases are sorted by user and time."""
    some = np.flatnonzero(things >= 0)
    pairs = users[some].astype(np.int64) * (int(things.max(initial=0)) + 1) + things[some]
    firsts = some[np.unique(pairs, return_index=True)[1]]
    return np.bincount(rows[firsts], minlength=count).astype(np.float64)


def _keys(users: Int64, days: Int64) -> Int64:
    return users.astype(np.int64) * _WIDTH + np.clip(days, -_ZERO, _ZERO - 1) + _ZERO


def _between(keys: Int64, users: Int64, starts: Int64, ends: Int64) -> tuple[Int64, Int64]:
    low, high = np.searchsorted(keys, _keys(users, starts)), np.searchsorted(keys, _keys(users, ends))
    counts = np.maximum(high - low, 0)
    owners = np.repeat(np.arange(len(users)), counts)
    return owners, np.arange(counts.sum()) + np.repeat(low - (np.cumsum(counts) - counts), counts)
