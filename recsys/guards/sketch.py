"""Sketches of events: a few counters that tell how many events of a window differ between two readings of it.

Each event adds +1 or -1 to one of the counters; a hash of the event chooses which. The sum of the squared differences
of two sketches estimates how many events are in one reading only (Alon, Matias and Szegedy, 1996; Charikar, Chen and
Farach-Colton, 2002). Its standard error is about sqrt(2 / COUNTERS). A sketch names no user and no item.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Int64
from recsys.data.interactions import Interactions

COUNTERS = 128

Hashes = npt.NDArray[np.uint64]


def sketches(parts: Sequence[Interactions], item_hashes: Hashes, kinds: int, start: int, end: int) -> Int64:
    """Sketch the events from `start` to `end` (microseconds), by kind: int64 [kinds, COUNTERS].

    item_hashes: of each item row. Users are left out, so that an event whose visitor has become a user is the same.
    """
    found = np.zeros(kinds * COUNTERS, np.int64)
    for part in parts:
        inside = (part.times >= start) & (part.times < end)
        mixed = _mix(item_hashes[part.items[inside]] ^ _mix(part.times[inside].astype(np.uint64)))
        counter = (mixed % np.uint64(COUNTERS)).astype(np.int64)
        sign = np.where(mixed >> np.uint64(63), 1, -1)
        at = part.kinds[inside].astype(np.int64) * COUNTERS + counter
        found += np.bincount(at, weights=sign, minlength=kinds * COUNTERS).astype(np.int64)
    return found.reshape(kinds, COUNTERS)


def changed_events(before: Sequence[int], now: Sequence[int]) -> float:
    """Estimate how many events are in only one of two readings, from the sketches of both."""
    difference = np.asarray(now, np.float64) - np.asarray(before, np.float64)
    return float((difference**2).sum())


def _mix(values: Hashes) -> Hashes:
    """Spread the bits of each value, by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)), np.uint64)
