"""Interactions and histories as plain arrays, sorted by user and time.

Shapes: U users, I items, E events, B users in a batch, N events in a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.data.arrays import Float32, Int32, Int64, is_one_of
from recsys.data.times import MICROSECONDS_PER_DAY


@dataclass(frozen=True)
class Histories:
    """Events of B users before a moment, oldest first, as ragged arrays: user b owns offsets[b]:offsets[b + 1]."""

    offsets: Int64  # [B + 1]
    items: Int32  # [N]
    kinds: npt.NDArray[np.int8]  # [N]
    ages_days: Float32  # [N], age at that moment, >= 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def users(self) -> Int64:
        """The batch position 0..B-1 of each event: int64 [N]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def slice(self, start: int, stop: int) -> "Histories":
        """Take the histories of the batch positions start..stop-1."""
        low, high = self.offsets[start], self.offsets[stop]
        return Histories(
            self.offsets[start : stop + 1] - low, self.items[low:high], self.kinds[low:high], self.ages_days[low:high]
        )

    def select(self, keep: npt.NDArray[np.bool_]) -> "Histories":
        """Keep the events where `keep` [N] is true; every user stays, some with an empty history."""
        counts = np.bincount(self.users[keep], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(offsets, self.items[keep], self.kinds[keep], self.ages_days[keep])


def _grouped(users: Int32, user_count: int) -> tuple[Int64, Int64]:
    """Group rows by user in a stable order: offsets [U + 1] and the rows' positions [E].

    This is a counting sort, as scipy fills a sparse matrix: linear in the number of rows.
    """
    marks = (np.ones(len(users), np.bool_), (users, np.arange(len(users))))
    grouped = sparse.csr_array(marks, shape=(user_count, max(1, len(users))))
    return grouped.indptr.astype(np.int64), grouped.indices.astype(np.int64, copy=False)


def _is_sorted(users: Int32, times: Int64) -> bool:
    """Whether rows are sorted by user and time."""
    steps = np.diff(users)
    return bool((steps >= 0).all() and ((steps > 0) | (np.diff(times) >= 0)).all())


@dataclass(frozen=True)
class Interactions:
    """E events of U users, sorted by user and within a user by time: user u owns offsets[u]:offsets[u + 1]."""

    offsets: Int64  # [U + 1]
    items: Int32  # [E], rows below item_count
    kinds: npt.NDArray[np.int8]  # [E], codes of the configured kinds
    times: Int64  # [E], microseconds since 1970, UTC
    values: Float32  # [E], NaN where missing
    item_count: int
    orders: Int64 | None = None  # [E], a number for each order, -1 where there is none; None: no event has one

    @classmethod
    def from_rows(
        cls,
        users: Int32,
        items: Int32,
        kinds: npt.NDArray[np.int8],
        times: Int64,
        values: Float32,
        *,
        user_count: int,
        item_count: int,
        orders: Int64 | None = None,
    ) -> "Interactions":
        """Sort unordered rows, each array [E]. Rows of a user at equal times keep their order."""
        if _is_sorted(users, times):
            offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=user_count))]).astype(np.int64)
            return cls(offsets, items, kinds, times, values, item_count, orders)
        offsets, order = _grouped(users, user_count)
        if (np.diff(times[order])[np.diff(users[order]) == 0] < 0).any():
            by_time = np.argsort(times, kind="stable")
            order = by_time[_grouped(users[by_time], user_count)[1]]
        sorted_orders = None if orders is None else orders[order]
        return cls(offsets, items[order], kinds[order], times[order], values[order], item_count, sorted_orders)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def user_count(self) -> int:
        """U, including users without events."""
        return len(self.offsets) - 1

    @property
    def users(self) -> Int32:
        """The user row of every event: int32 [E]."""
        return np.repeat(np.arange(self.user_count, dtype=np.int32), np.diff(self.offsets))

    def select(self, keep: npt.NDArray[np.bool_]) -> "Interactions":
        """Keep the events where `keep` [E] is true; user and item rows do not change."""
        offsets = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[self.offsets]
        return Interactions(
            offsets,
            self.items[keep],
            self.kinds[keep],
            self.times[keep],
            self.values[keep],
            self.item_count,
            None if self.orders is None else self.orders[keep],
        )

    def before(self, time: int) -> "Interactions":
        """Take the events earlier than `time` (microseconds)."""
        return self.select(self.times < time)

    def between(self, start: int, end: int) -> "Interactions":
        """Take the events with start <= time < end (microseconds)."""
        return self.select((self.times >= start) & (self.times < end))

    def of_kinds(self, codes: Sequence[int]) -> "Interactions":
        """Take the events of these kind codes."""
        return self.select(np.isin(self.kinds, np.asarray(codes, np.int8)))

    def histories(
        self, users: npt.NDArray[np.integer], as_of: int, length: int, *, always: Sequence[int] = ()
    ) -> Histories:
        """Take the newest `length` events before `as_of` (microseconds) of the user rows [B], oldest first.

        always: codes of kinds whose older events are included too, such as those that mean "bought".
        """
        starts, stops = self.offsets[users], self.offsets[np.asarray(users) + 1]
        counts = stops - starts
        events = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        owner = np.repeat(np.arange(len(users)), counts)
        old = self.times[events] < as_of
        events, owner = events[old], owner[old]
        kept = newest_events(owner, self.kinds[events], len(users), length, always)
        events = events[kept]
        ages = ((as_of - self.times[events]) / MICROSECONDS_PER_DAY).astype(np.float32)
        counts = np.bincount(owner[kept], minlength=len(users))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(offsets, self.items[events], self.kinds[events], ages)


def newest_events(
    owners: Int64, kinds: npt.NDArray[np.int8], users: int, length: int, always: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Mark the newest `length` events of each owner, and all of the kinds `always`. Sorted by owner and time: [N]."""
    ends = np.cumsum(np.bincount(owners, minlength=users))
    is_new = np.arange(len(owners)) >= (ends - length)[owners]
    return np.asarray(is_new | is_one_of(kinds, always))


def codes_in(kinds: Sequence[str], other: Sequence[str]) -> npt.NDArray[np.int8]:
    """Look up the code of each of `kinds` in `other`, -1 where it is missing: int8 [len(kinds)]."""
    code = {kind: at for at, kind in enumerate(other)}
    return np.array([code.get(kind, -1) for kind in kinds], np.int8)


def stack(first: Interactions, second: Interactions) -> Interactions:
    """Put the users of the second after those of the first; the item rows are the same."""
    return Interactions(
        np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]),
        np.concatenate([first.items, second.items]),
        np.concatenate([first.kinds, second.kinds]),
        np.concatenate([first.times, second.times]),
        np.concatenate([first.values, second.values]),
        first.item_count,
        _orders_of(first, second),
    )


def merge(first: Interactions, second: Interactions) -> Interactions:
    """Combine two sets of events over the same user and item rows."""
    return Interactions.from_rows(
        np.concatenate([first.users, second.users]),
        np.concatenate([first.items, second.items]),
        np.concatenate([first.kinds, second.kinds]),
        np.concatenate([first.times, second.times]),
        np.concatenate([first.values, second.values]),
        user_count=first.user_count,
        item_count=first.item_count,
        orders=_orders_of(first, second),
    )


def _orders_of(first: Interactions, second: Interactions) -> Int64 | None:
    """The orders of the events of both, one after the other."""
    if first.orders is None and second.orders is None:
        return None
    parts = [np.full(len(one), -1, np.int64) if one.orders is None else one.orders for one in (first, second)]
    return np.concatenate(parts)
