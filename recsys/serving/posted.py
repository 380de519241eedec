"""Events that were posted since training: what they add to the demand by day that the bundle holds.

A process reads them in the order in which they were received, a batch at a time, and only those that are new. Whether
some of them were deleted, or committed late, their number tells: then all are read again. No request reads any.
Shapes: N events.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from recsys.data.arrays import Int8, Int32, Int64
from recsys.serving.fresh_items import CatalogView
from recsys.store.database import Store
from recsys.store.events import PostedEvents, Received, count_events, next_events

CHECK_SECONDS = 10.0  # between two looks at whether events were deleted
_SETTLED = 1_000_000  # microseconds after which what was received is committed, but for rare ones
_AT_ONCE = 10_000  # events that one query brings
_MOST = 2_000_000  # the newest so many count: 26 MB
_MOST_UNKNOWN = 10_000  # of items that nobody knows yet

Read = Callable[[Callable[[Store], Any]], Any]  # calls its argument with a store


@dataclass(frozen=True, eq=False)
class Posted:
    """N events that were received after the bundle's watermark, under the joint rows of a view."""

    since: int  # the watermark, microseconds UTC
    last: Received  # of the events that were read
    read: int  # how many were
    rows: Int32  # [N] joint rows under which histories name the items, -1: unknown
    kinds: Int8  # [N] the bundle's codes
    times: Int64  # [N] microseconds UTC
    until: int  # just after the newest of them, microseconds UTC
    unknown: Mapping[int, str]  # the ids of items that the bundle does not know, by place in N
    checked: float  # when the number of events was compared last, by time.monotonic

    def under(self, view: CatalogView) -> "Posted":
        """The same under the rows of another view of the bundle, which may know further items."""
        if not self.unknown:
            return self
        rows = self.rows.copy()
        rows[list(self.unknown)] = [view.trained_row(item_id) for item_id in self.unknown.values()]
        return replace(self, rows=rows)


def no_events(since: int) -> Posted:
    """Nothing was read yet. since: microseconds UTC."""
    nothing, first = np.zeros(0, np.int32), Received(since + 1, "")
    columns = nothing, nothing.astype(np.int8), nothing.astype(np.int64)
    return Posted(since, first, 0, *columns, 0, {}, time.monotonic())


def catch_up(posted: Posted, view: CatalogView, read: Read) -> Posted:
    """Read what was posted since; the same object where nothing was. Raises what `read` raises."""
    now = time.monotonic()
    if now - posted.checked >= CHECK_SECONDS:
        count = read(lambda store: count_events(store, received_after=posted.since, until=posted.last))
        posted = replace(posted, checked=now) if count == posted.read else no_events(posted.since)
    while True:
        batch = read(partial(_next, posted))
        if batch is None:
            return posted
        posted = _with(posted, view, batch)


def _next(posted: Posted, store: Store) -> PostedEvents | None:
    return next_events(store, posted.last, until=store.now() - _SETTLED, limit=_AT_ONCE)


def _with(posted: Posted, view: CatalogView, batch: PostedEvents) -> Posted:
    """The events with those of a batch; those of kinds that the bundle does not know are left out."""
    codes = {kind: code for code, kind in enumerate(view.main.kinds)}
    kinds = np.array([codes.get(kind, -1) for kind in batch.kinds], np.int8)
    names = {item_id: view.trained_row(item_id) for item_id in set(batch.items)}
    rows = np.array([names[item_id] for item_id in batch.items], np.int32)
    count = len(posted.rows)
    # Rows of what is not in the bundle change with the view: the ids of a number of these are kept, the others wait.
    new = np.flatnonzero((rows < 0) | (rows >= len(view.main.catalog)))
    named = new[: max(0, _MOST_UNKNOWN - len(posted.unknown))]
    rows[new[len(named) :]] = -1
    unknown = {**posted.unknown, **{count + at: batch.items[at] for at in named.tolist()}}
    gone = max(0, count + len(rows) - _MOST)
    return replace(
        posted,
        last=batch.last,
        read=posted.read + len(rows),
        rows=np.concatenate([posted.rows, rows])[gone:],
        kinds=np.concatenate([posted.kinds, kinds])[gone:],
        times=np.concatenate([posted.times, np.array(batch.times, np.int64)])[gone:],
        until=max(posted.until, max(batch.times) + 1),
        unknown={at - gone: item_id for at, item_id in unknown.items() if at >= gone},
    )
