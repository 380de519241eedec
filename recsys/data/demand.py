"""Demand by day: how often each item had events of each kind on each day (UTC). Rankings of any window come from it.

Shapes: I items, C kinds, T days, N counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Int32, Int64
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Demand:
    """The counts of day d and kind c are those from offsets[t * C + c] to offsets[t * C + c + 1], t = d - first_day."""

    first_day: int  # days since 1970
    until: int  # just after the newest event, microseconds UTC
    kind_count: int  # C
    half_life_days: float  # of the popularity of the bundle that the counts belong to
    offsets: Int64  # [T * C + 1]
    items: Int32  # [N], ascending within a day and kind
    counts: Int32  # [N]

    @property
    def end_day(self) -> int:
        """The day after the last one."""
        return self.first_day + (len(self.offsets) - 1) // max(1, self.kind_count)

    def days_before(self, moment: int) -> int:
        """The day up to which all events are known at a moment (microseconds UTC): the first one that does not count.

        A day counts when it has ended by then; the last one from its newest event on.
        """
        return self.end_day if moment >= self.until else min(self.end_day, moment // MICROSECONDS_PER_DAY)

    def between(self, start: int, stop: int, weights: Sequence[float], item_count: int) -> Float64:
        """Add up the weighted events of each item on the days start..stop-1 (days since 1970): float64 [I].

        weights: of an event, by kind code [C].
        """
        return self._sum(start, stop, weights, item_count, None)

    def decayed(
        self, stop: int, weights: Sequence[float], item_count: int, *, half_life_days: float | None = None
    ) -> Float64:
        """As `between` from the first day on; an event counts half for every `half_life_days` before the day `stop`."""
        return self._sum(self.first_day, stop, weights, item_count, half_life_days or self.half_life_days)

    def first_days(self, item_count: int) -> Int64:
        """The day of each item's first event (days since 1970), -1 where it has none: int64 [I]."""
        first = np.full(item_count, -1, np.int64)
        days = self.first_day + np.repeat(np.arange(len(self.offsets) - 1) // self.kind_count, np.diff(self.offsets))
        first[self.items[::-1]] = days[::-1]  # of several values for an item the last one, its earliest, stays
        return first

    def _sum(
        self, start: int, stop: int, weights: Sequence[float], item_count: int, half_life_days: float | None
    ) -> Float64:
        low, high = max(start, self.first_day), min(stop, self.end_day)
        if low >= high:
            return np.zeros(item_count)
        first, last = (low - self.first_day) * self.kind_count, (high - self.first_day) * self.kind_count
        cells = np.arange(first, last)
        factors = np.asarray(weights, np.float64)[cells % self.kind_count]
        if half_life_days is not None:
            ages = stop - 0.5 - (self.first_day + cells // self.kind_count)
            factors = factors * np.exp2(-ages / half_life_days)
        part = slice(self.offsets[first], self.offsets[last])
        each = np.repeat(factors, np.diff(self.offsets[first : last + 1])) * self.counts[part]
        return np.asarray(np.bincount(self.items[part], each, minlength=item_count), np.float64)


def count_events(events: Interactions, *, kind_count: int, half_life_days: float) -> Demand | None:
    """Count the events of each day, kind and item. None when there is no event."""
    events = events.select(events.kinds < kind_count)
    if not len(events):
        return None
    days = events.times // MICROSECONDS_PER_DAY
    first, last = int(days.min()), int(days.max())
    cells = (days - first) * kind_count + events.kinds
    keys, counts = np.unique(cells * events.item_count + events.items, return_counts=True)
    bounds = np.arange((last - first + 1) * kind_count + 1) * events.item_count
    return Demand(
        first_day=first,
        until=int(events.times.max()) + 1,
        kind_count=kind_count,
        half_life_days=half_life_days,
        offsets=np.searchsorted(keys, bounds).astype(np.int64),
        items=(keys % events.item_count).astype(np.int32),
        counts=counts.astype(np.int32),
    )
