"""Baskets: the distinct items of an order, or of events of one user that follow each other closely.

Shapes: E events, B baskets, N items in all baskets, I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.data.arrays import Bool, Int32, Int64
from recsys.data.interactions import Interactions

MAX_PAIRS = 150_000_000  # ordered pairs of items that are counted at most: seconds, whatever the baskets look like
LARGEST, SMALLEST_CAP = 500, 20  # items of a basket that count at most, and what MAX_PAIRS may lower that to


@dataclass(frozen=True)
class Baskets:
    """B baskets of at least two distinct items, in order of time: basket b owns items[offsets[b]:offsets[b + 1]]."""

    offsets: Int64  # [B + 1]
    items: Int32  # [N], ascending within a basket
    times: Int64  # [B], of the first event, in microseconds
    users: Int32  # [B]
    item_count: int

    def __len__(self) -> int:
        return len(self.times)

    @property
    def sizes(self) -> Int64:
        """How many items each basket has: int64 [B]."""
        return np.diff(self.offsets)

    @cached_property
    def matrix(self) -> sparse.csr_array:
        """1 where a basket has an item: sparse float32 [B, I]."""
        ones = np.ones(len(self.items), np.float32)
        return sparse.csr_array((ones, self.items, self.offsets), shape=(len(self), self.item_count))

    @cached_property
    def transposed(self) -> sparse.csr_array:
        """The baskets of each item: sparse float32 [I, B]."""
        return self.matrix.T.tocsr()

    def contain(self, owners: Int64, items: Int32) -> Bool:
        """Whether each of the baskets `owners` [P] has the item beside it in `items` [P]: bool [P]."""
        keys = np.repeat(np.arange(len(self)), self.sizes) * np.int64(self.item_count) + self.items
        wanted = owners * np.int64(self.item_count) + items
        if not len(keys):
            return np.zeros(len(wanted), np.bool_)
        return np.asarray(keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted)

    def take(self, which: Bool) -> "Baskets":
        """The baskets where `which` [B] is true."""
        sizes = self.sizes
        kept = np.repeat(which, sizes)
        return Baskets(_offsets(sizes[which]), self.items[kept], self.times[which], self.users[which], self.item_count)

    def before(self, time: int) -> "Baskets":
        """The baskets earlier than `time` (microseconds)."""
        return self.take(self.times < time)

    def between(self, start: int, end: int) -> "Baskets":
        """The baskets with start <= time < end (microseconds)."""
        return self.take((self.times >= start) & (self.times < end))

    def of_items(self, known: Bool) -> "Baskets":
        """The same baskets with only the items of `known` [I]; those with fewer than two of them are left out."""
        kept = known[self.items]
        owners = np.repeat(np.arange(len(self)), self.sizes)[kept]
        sizes = np.bincount(owners, minlength=len(self))
        smaller = Baskets(_offsets(sizes), self.items[kept], self.times, self.users, self.item_count)
        return smaller.take(sizes >= 2)


def find_baskets(events: Interactions, codes: Sequence[int], *, gap_minutes: float) -> Baskets:
    """Group the events of the kinds `codes` into baskets: an order of a user, or no pause of more than `gap_minutes`.

    Very large baskets count with 500 of their items. Where all baskets together hold more than MAX_PAIRS pairs, they
    count with fewer, and where that does not do, the newest baskets count.
    """
    events = events.of_kinds(codes)
    owners = _basket_of_events(events, gap_minutes)
    if not len(owners):
        nothing = np.zeros(0, np.int32)
        return Baskets(np.zeros(1, np.int64), nothing, nothing.astype(np.int64), nothing, events.item_count)
    starts = np.unique(owners, return_index=True)[1]
    pairs = np.unique(owners * np.int64(events.item_count) + events.items)
    sizes = np.bincount(pairs // events.item_count, minlength=len(starts))
    rows = (pairs % events.item_count).astype(np.int32)
    found = Baskets(_offsets(sizes), rows, events.times[starts], events.users[starts], events.item_count)
    return _bounded(_in_order_of_time(found.take(sizes >= 2)))


def _basket_of_events(events: Interactions, gap_minutes: float) -> Int64:
    """The number of the basket of each event, from 0 without gaps: int64 [E]."""
    users = events.users
    pause = np.diff(events.times, prepend=events.times[:1]) > gap_minutes * 60_000_000
    numbers = np.cumsum(pause | (np.diff(users, prepend=-1) != 0), dtype=np.int64) - 1
    if events.orders is None or not (events.orders >= 0).any():
        return numbers
    # A number means the same order for the same user only: a source may hold one that stands for none.
    span = np.int64(events.orders.max()) + 1
    of_order = numbers.max(initial=0) + 1 + users * span + events.orders
    return np.unique(np.where(events.orders >= 0, of_order, numbers), return_inverse=True)[1].astype(np.int64)


def _in_order_of_time(baskets: Baskets) -> Baskets:
    order = np.argsort(baskets.times, kind="stable")
    sizes = baskets.sizes[order]
    positions = np.repeat(baskets.offsets[:-1][order] - _offsets(sizes)[:-1], sizes) + np.arange(sizes.sum())
    return Baskets(
        _offsets(sizes), baskets.items[positions], baskets.times[order], baskets.users[order], baskets.item_count
    )


def _bounded(baskets: Baskets) -> Baskets:
    """The baskets with as many items as MAX_PAIRS lets each have; of a larger one a fixed choice."""
    sizes, cap = baskets.sizes, LARGEST
    while cap > SMALLEST_CAP and _pairs(np.minimum(sizes, cap)) > MAX_PAIRS:
        cap = max(SMALLEST_CAP, cap * 3 // 4)
    if sizes.max(initial=0) > cap:
        owners = np.repeat(np.arange(len(baskets)), sizes)
        # A multiplicative hash: an order that has nothing to do with the catalog's.
        by_chance = np.argsort((baskets.items.astype(np.uint32) * np.uint32(2654435761)), kind="stable")
        by_basket = by_chance[np.argsort(owners[by_chance], kind="stable")]
        rank = np.arange(len(owners)) - baskets.offsets[owners]
        kept = np.zeros(len(owners), np.bool_)
        kept[by_basket[rank < cap]] = True
        baskets = Baskets(
            _offsets(np.minimum(sizes, cap)), baskets.items[kept], baskets.times, baskets.users, baskets.item_count
        )
    newest_first = np.cumsum((baskets.sizes**2)[::-1])[::-1]
    return baskets if newest_first.max(initial=0) <= MAX_PAIRS else baskets.take(newest_first <= MAX_PAIRS)


def _pairs(sizes: npt.NDArray[np.integer]) -> int:
    return int((sizes.astype(np.int64) ** 2).sum())


def _offsets(sizes: npt.NDArray[np.integer]) -> Int64:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
