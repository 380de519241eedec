"""Cuts histories into windows and windows into batches of about equal length, so that little is padding.

Shapes: W windows, B windows in a batch, T events of its longest before the last, newest last and padded in front.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32, Int64
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY

_POOL = 4096  # windows that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """B windows of events: after each event, the next one."""

    items: Int64  # [B, T]; meaningless where padded
    kinds: Int64  # [B, T]
    ages_days: Float32  # [B, T], at the window's last event, which is only foreseen
    mask: npt.NDArray[np.bool_]  # [B, T], where an event stands
    next_items: Int64  # [B, T], the event after each
    next_kinds: Int64  # [B, T]
    users: Int64  # [B], rows

    def where(self, keep: npt.NDArray[np.bool_]) -> "Batch":
        """Only the windows where `keep` [B] is true."""
        return self if keep.all() else Batch(*(getattr(self, own.name)[keep] for own in fields(self)))


def windows(events: Interactions, length: int) -> tuple[Int64, Int64]:
    """Cut histories into windows of at most length + 1 events, counted from the newest: starts and stops, [W] each.

    A window's last event is the next one's first, so that every event but a user's first is foreseen exactly once.
    """
    counts = np.diff(events.offsets)
    pieces = np.maximum(0, -(-(counts - 1) // length))
    owner = np.repeat(np.arange(len(counts)), pieces)
    back = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    stops = events.offsets[owner + 1] - back * length
    return np.maximum(events.offsets[owner], stops - length - 1), stops


def batches(
    events: Interactions, starts: Int64, stops: Int64, size: int, most: int, generator: np.random.Generator
) -> Iterator[tuple[Batch, float]]:
    """Yield batches of windows in random order, each with about `size` events to foresee, and the share done after it.

    All windows, or so many that they have about `most` events to foresee.
    """
    order = generator.permutation(len(starts))
    order = order[: np.searchsorted(np.cumsum((stops - starts)[order] - 1), most) + 1]
    lengths = (stops - starts)[order]
    pool = np.arange(len(order)) // _POOL
    # Every other pool falls in length, so that no batch holds the longest of one and the shortest of the next.
    order = order[np.lexsort((np.where(pool % 2 == 0, lengths, -lengths), pool))]
    batch = np.cumsum((stops - starts)[order] - 1) // size
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(batch)) + 1, [len(order)]]).tolist()
    parts = [(low, high) for low, high in pairwise(cuts) if low < high]
    for done, at in enumerate(generator.permutation(len(parts))):
        low, high = parts[at]
        yield _batch(events, starts[order[low:high]], stops[order[low:high]]), (done + 1) / len(parts)


def _batch(events: Interactions, starts: Int64, stops: Int64) -> Batch:
    width = int((stops - starts).max()) - 1
    at = stops[:, None] - 1 + np.arange(-width, 0)
    mask = at >= starts[:, None]
    at = np.where(mask, at, stops[:, None] - 1)
    after = np.minimum(at + 1, stops[:, None] - 1)
    ages = (events.times[stops - 1][:, None] - events.times[at]) / MICROSECONDS_PER_DAY
    return Batch(
        events.items[at].astype(np.int64),
        events.kinds[at].astype(np.int64),
        ages.astype(np.float32),
        mask,
        events.items[after].astype(np.int64),
        events.kinds[after].astype(np.int64),
        np.searchsorted(events.offsets, starts, side="right") - 1,
    )
