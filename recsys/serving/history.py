"""Histories in catalog rows: events of the extract, newer ones of the own tables, and those that come with a query.

Item rows are joint rows (see recsys.serving.fresh_items) and kinds the bundle's codes; the extract's own rows and codes
occur in this file alone. Shapes: X items of the extract, B users asked for, N events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.bundle.bundle import Bundle
from recsys.config.settings import RETURN, Config
from recsys.data.arrays import Bool, Int8, Int32, Int64
from recsys.data.extract import Extract
from recsys.data.interactions import Histories, codes_in, newest_events
from recsys.data.returns import take_back
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.serving.fresh_items import CatalogView
from recsys.store.changes import NewEvents

_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class EventLog:
    """The extract, and how its items and kinds are numbered in a bundle."""

    extract: Extract
    rows: Int32  # [X]: the catalog row of every item of the extract, -1 where the bundle does not know it
    codes: Int8  # the bundle's code of every kind of the extract, -1 where the bundle does not know it
    returns: frozenset[str]  # words of posted events that take a purchase back
    bought: list[int]  # the bundle's codes of the kinds that mean "bought"

    @classmethod
    def of(cls, extract: Extract, bundle: Bundle, config: Config) -> "EventLog":
        """The extract in the numbers of a bundle, which may be older or newer."""
        rows, codes = extract.items.rows_in(bundle.catalog.ids), codes_in(extract.kinds, bundle.kinds)
        return cls(extract, rows, codes, frozenset(config.events.returns), bundle.codes_of(config.bought))


@dataclass(frozen=True)
class InlineEvent:
    """An event that comes with a query."""

    item_id: str
    kind: str
    time: int | None = None  # microseconds UTC; None: the moment of the query


@dataclass(frozen=True)
class ShownEvent:
    """An event of a history for people to read."""

    item_id: str
    kind: str
    time: int  # microseconds UTC


@dataclass(frozen=True)
class Events:
    """N events of B users, and where each comes from, before any of them is left out."""

    log: EventLog
    posted: NewEvents
    inline: Sequence[InlineEvent]
    owners: Int64  # [N] batch position 0..B-1
    items: Int32  # [N] joint row, -1: nobody knows the item
    kinds: Int8  # [N] code, -1: the bundle does not know the kind
    times: Int64  # [N] microseconds UTC
    origins: Int64  # [N] place in the extract; beyond its events the place in `posted`, beyond those in `inline`

    def histories(self, count: int, as_of: int, length: int, always: Sequence[int] = ()) -> Histories:
        """The newest `length` known events of each of `count` users and all of the kinds `always`, oldest first.

        Ages are those at `as_of` (microseconds UTC). An event of an unknown item or kind is left out.
        """
        kept = self._newest((self.items >= 0) & (self.kinds >= 0), count, length, always)
        ages = ((as_of - self.times[kept]) / MICROSECONDS_PER_DAY).astype(np.float32)
        counts = np.bincount(self.owners[kept], minlength=count)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(offsets, self.items[kept], self.kinds[kept], ages)

    def shown(self, length: int, always: Sequence[int] = ()) -> list[ShownEvent]:
        """The newest `length` events of the one user and all of the kinds `always`, newest first, unknown items too."""
        kept = self._newest(self.kinds >= 0, 1, length, always)[::-1]
        times = self.times[kept].tolist()
        return [ShownEvent(*self._names(at), time) for at, time in zip(self.origins[kept].tolist(), times, strict=True)]

    def _newest(self, keep: Bool, count: int, length: int, always: Sequence[int]) -> Int64:
        """The positions of the newest, by user and time; of events at one time the later read one is the newer."""
        order = np.lexsort((self.times, self.owners))
        order = order[keep[order]]
        return order[newest_events(self.owners[order], self.kinds[order], count, length, always)]

    def _names(self, origin: int) -> tuple[str, str]:
        """The ids of item and kind."""
        extract = self.log.extract
        if origin < len(extract.events):
            events = extract.events
            return extract.items.id_of(int(events.items[origin])), extract.kinds[int(events.kinds[origin])]
        at = origin - len(extract.events)
        if at < len(self.posted.items):
            return self.posted.items[at], self.posted.kinds[at]
        event = self.inline[at - len(self.posted.items)]
        return event.item_id, event.kind


def events_of(
    log: EventLog,
    view: CatalogView,
    posted: NewEvents,
    user_ids: Sequence[str | None],
    as_of: int,
    *,
    visitor_ids: Sequence[str | None] | None = None,
    inline: Sequence[InlineEvent] = (),
) -> Events:
    """Everything that B users did before `as_of` (microseconds UTC) and after their deletion.

    posted: what the own tables have received since the extract, and the deletions. visitor_ids [B]: what these did
    before logging in belongs to it too. inline: events of the only user; they count however late they are, as of the
    moment of the query at the latest. A user who is unknown has no events.
    """
    visitors = visitor_ids if visitor_ids is not None else [None] * len(user_ids)
    if len(visitors) != len(user_ids):
        raise ValueError(f"{len(user_ids)} users but {len(visitors)} visitors were asked for")
    deleted = np.array([posted.deleted.get(user, _NEVER) if user else _NEVER for user in user_ids], np.int64)
    stored = _stored(log, user_ids, deleted, as_of)
    newer = _posted(log, view, posted, user_ids, visitors, as_of) + _inline(log, view, posted, inline, as_of)
    rows = zip(*newer, strict=True) if newer else [()] * 5
    types = (np.int64, np.int32, np.int8, np.int64, np.int64)
    added = [np.array(column, kind) for column, kind in zip(rows, types, strict=True)]
    columns = [np.concatenate(pair) for pair in zip(stored, added, strict=True)]
    if (columns[2] == RETURN).any():
        kept = take_back(columns[0], columns[1], columns[2], columns[3], log.bought).kept
        columns = [column[kept] for column in columns]
    return Events(log, posted, inline, *columns)


_Row = tuple[int, int, int, int, int]  # owner, item, kind, time, origin


def _stored(log: EventLog, user_ids: Sequence[str | None], deleted: Int64, as_of: int) -> list[npt.NDArray[Any]]:
    """What the extract holds of the users: owners, items, kinds, times, origins."""
    extract = log.extract
    rows = extract.users.rows_of([user or "" for user in user_ids]).astype(np.int64)
    rows[np.array([not user for user in user_ids], np.bool_)] = -1
    known = np.flatnonzero(rows >= 0)
    starts, stops = extract.events.offsets[rows[known]], extract.events.offsets[rows[known] + 1]
    counts = stops - starts
    at = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    owners, times = np.repeat(known, counts), extract.events.times[at]
    kept = (times > deleted[owners]) & (times < as_of)
    at, owners, times = at[kept], owners[kept], times[kept]
    return [owners, log.rows[extract.events.items[at]], log.codes[extract.events.kinds[at]], times, at]


def _posted(
    log: EventLog,
    view: CatalogView,
    posted: NewEvents,
    user_ids: Sequence[str | None],
    visitor_ids: Sequence[str | None],
    as_of: int,
) -> list[_Row]:
    """What the own tables have received since."""
    users, visitors = _positions(user_ids), _positions(visitor_ids)
    rows = {item: view.trained_row(item) for item in set(posted.items)}
    codes, start = _codes(view) | dict.fromkeys(log.returns, RETURN), len(log.extract.events)
    columns = (posted.owners, posted.visitors, posted.items, posted.kinds, posted.times)
    found: list[_Row] = []
    for at, (owner, is_visitor, item, kind, time) in enumerate(zip(*columns, strict=True)):
        if time < as_of and (is_visitor or time > posted.deleted.get(owner, _NEVER)):
            positions = (visitors if is_visitor else users).get(owner, ())
            found += [(position, rows[item], codes.get(kind, -1), time, start + at) for position in positions]
    return found


def _inline(
    log: EventLog, view: CatalogView, posted: NewEvents, inline: Sequence[InlineEvent], as_of: int
) -> list[_Row]:
    """What comes with the query."""
    codes, start = _codes(view), len(log.extract.events) + len(posted.items)
    return [
        (
            0,
            view.trained_row(event.item_id),
            codes.get(event.kind, -1),
            as_of if event.time is None else min(event.time, as_of),
            start + at,
        )
        for at, event in enumerate(inline)
    ]


def _codes(view: CatalogView) -> dict[str, int]:
    return {kind: code for code, kind in enumerate(view.main.kinds)}


def _positions(ids: Sequence[str | None]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, identifier in enumerate(ids):
        if identifier:
            positions.setdefault(identifier, []).append(position)
    return positions
