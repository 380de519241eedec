"""The events on disk, as of a watermark, and the one function that everybody reads histories through.

An extract is a folder `extract/<number>` beside the bundles, complete or absent; `extract/CURRENT` names the one that
counts. Its arrays are memory-mapped. A history is what the extract holds of a user, and what the own tables have
received since, without what was deleted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.folder import (
    current,
    open_array,
    open_vocabulary,
    read_manifest,
    remove_folder,
    save_vocabulary,
    set_current,
    verify,
    write_folder,
)
from recsys.data.interactions import Histories, Interactions, newest_events
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError, NotFoundError
from recsys.store.database import Store
from recsys.store.events import NewEvents, new_events

FORMAT = 1
KEPT = 2  # versions: the current one and the one that a process may still be opening

NO_ITEMS: Mapping[str, int] = MappingProxyType({})

_ARRAYS = ("offsets", "items", "kinds", "times", "values")
_NEVER = np.iinfo(np.int64).min


class Readings(Protocol):
    """What a source has read, as far as an extract needs it."""

    @property
    def users(self) -> Vocabulary:
        """U users."""
        ...

    @property
    def catalog(self) -> Catalog:
        """I items."""
        ...

    @property
    def events(self) -> Interactions:
        """E events over those users and items."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each code in the events."""
        ...

    @property
    def watermark(self) -> int:
        """Own events received up to then (microseconds UTC) are among the events."""
        ...


@dataclass(frozen=True)
class Extract:
    """The events of all users, memory-mapped. Its rows of users and items are its own, no bundle's."""

    users: Vocabulary  # U
    items: Vocabulary  # I
    events: Interactions
    kinds: tuple[str, ...]
    watermark: int  # own events received later are not in it; microseconds UTC
    as_of: int  # just after the newest event in it (0: there is none); microseconds UTC

    def codes_of(self, kinds: Sequence[str]) -> list[int]:
        """The codes of those of the kinds that it knows."""
        return [self.kinds.index(kind) for kind in kinds if kind in self.kinds]


@dataclass(frozen=True)
class Timeline:
    """N events of one user, oldest first."""

    items: Int32  # [N] the extract's rows, and above them those that were given to new items
    kinds: npt.NDArray[np.int8]  # [N] the extract's codes
    times: Int64  # [N] microseconds UTC


def write(folder: Path, loaded: Readings) -> str:
    """Write a new version into `folder`/extract and return its name; it counts only when it is published.

    Raises RecsysError when it cannot be written; nothing is left then.
    """
    parent = folder / "extract"

    def fill(target: Path) -> dict[str, Any]:
        save_vocabulary(target, "users", loaded.users)
        save_vocabulary(target, "items", loaded.catalog.ids)
        for name in _ARRAYS:
            np.save(target / f"{name}.npy", getattr(loaded.events, name), allow_pickle=False)
        return {
            "format": FORMAT,
            "kinds": list(loaded.kinds),
            "watermark": loaded.watermark,
            "as_of": int(loaded.events.times.max()) + 1 if len(loaded.events) else 0,
            "users": len(loaded.users),
            "items": len(loaded.catalog.ids),
            "events": len(loaded.events),
        }

    name = f"{max((int(version) for version in _versions(parent)), default=0) + 1:08d}"
    write_folder(parent, name, fill)
    return name


def publish(folder: Path, name: str) -> None:
    """Make a written version the one that counts, and remove all but the newest two."""
    parent = folder / "extract"
    set_current(parent, name)
    for old in _versions(parent)[:-KEPT]:
        if old != name:
            remove_folder(parent / old)


def open_extract(folder: Path) -> Extract:
    """The current extract of `folder`, memory-mapped.

    Raises NotFoundError when there is none, BundleError when it is damaged or of another format.
    """
    parent = folder / "extract"
    name = current(parent)
    if name is None:
        raise NotFoundError(f"there is no extract in {parent}; `recsys train` writes one")
    manifest = read_manifest(parent / name)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{parent / name} has format {manifest.get('format')!r}; this version reads {FORMAT}")
    verify(parent / name)
    arrays = {array: open_array(parent / name / f"{array}.npy") for array in _ARRAYS}
    extract = Extract(
        users=open_vocabulary(parent / name, "users"),
        items=open_vocabulary(parent / name, "items"),
        events=Interactions(item_count=manifest["items"], **arrays),
        kinds=tuple(manifest["kinds"]),
        watermark=manifest["watermark"],
        as_of=manifest["as_of"],
    )
    found = {"users": extract.events.user_count, "items": len(extract.items), "events": len(extract.events)}
    if found != {key: manifest[key] for key in found} or len(extract.users) != found["users"]:
        raise BundleError(f"{parent / name}: its manifest and its arrays do not agree; found {found}")
    return extract


def histories(
    extract: Extract,
    store: Store,
    user_ids: Sequence[str | None],
    as_of: int,
    length: int,
    *,
    visitor_ids: Sequence[str | None] | None = None,
    always: Sequence[str] = (),
    dropped: Counter[str] | None = None,
) -> Histories:
    """The newest `length` events before `as_of` (microseconds UTC) of B users, oldest first.

    always: kinds of which the extract's older events belong to it too. Items are the extract's rows and kinds its
    codes. A user who is unknown has an empty history. With `visitor_ids` [B] the events of that
    visitor before logging in belong to the history too. Asks the database once. Events that the own tables hold of an
    item or a kind that the extract does not know, and events before a deletion, are left out and, with `dropped`,
    counted there by reason.
    """
    visitors = visitor_ids if visitor_ids is not None else [None] * len(user_ids)
    fresh = new_events(
        store,
        [user for user in dict.fromkeys(user_ids) if user],
        [visitor for visitor in dict.fromkeys(visitors) if visitor],
        received_after=extract.watermark,
        occurred_before=as_of,
    )
    return histories_with(extract, fresh, user_ids, as_of, length, visitor_ids=visitors, always=always, dropped=dropped)


def histories_with(
    extract: Extract,
    fresh: NewEvents,
    user_ids: Sequence[str | None],
    as_of: int,
    length: int,
    *,
    visitor_ids: Sequence[str | None],
    always: Sequence[str] = (),
    new_items: Mapping[str, int] = NO_ITEMS,
    dropped: Counter[str] | None = None,
) -> Histories:
    """As `histories`, with what the own tables know read before.

    new_items: items that the extract does not know and the rows, from its number of items on, that they shall have.
    """
    if len(visitor_ids) != len(user_ids):
        raise ValueError(f"{len(user_ids)} users but {len(visitor_ids)} visitors were asked for")
    count = Counter[str]() if dropped is None else dropped
    events = _known(extract, fresh, user_ids, visitor_ids, as_of, new_items, count)
    return _as_histories(_newest(events, len(user_ids), length, extract.codes_of(always)), len(user_ids), as_of)


def timeline(
    extract: Extract,
    fresh: NewEvents,
    user_id: str,
    as_of: int,
    length: int,
    *,
    new_items: Mapping[str, int] = NO_ITEMS,
) -> Timeline:
    """The newest `length` events before `as_of` of one user, oldest first, with their exact times; else as above."""
    events = _known(extract, fresh, [user_id], [None], as_of, new_items, Counter())
    newest = _newest(events, 1, length, ())
    return Timeline(newest.items, newest.kinds, newest.times)


def _known(
    extract: Extract,
    fresh: NewEvents,
    user_ids: Sequence[str | None],
    visitor_ids: Sequence[str | None],
    as_of: int,
    new_items: Mapping[str, int],
    count: Counter[str],
) -> "_Events":
    """All that is known of the users before `as_of` and after their deletion."""
    stored = _stored(extract, user_ids)
    rows = _item_rows(extract, fresh.items, new_items)
    posted = _posted(extract, fresh, rows, _positions(user_ids), _positions(visitor_ids), count)
    events = _Events(*(np.concatenate(pair) for pair in zip(stored.arrays, posted.arrays, strict=True)))
    gone_until = np.array([fresh.deleted.get(user, _NEVER) if user else _NEVER for user in user_ids], np.int64)
    gone = ~events.of_visitor & (events.times <= gone_until[events.owners])
    count["deleted"] += int(gone.sum())
    return events.select(~gone & (events.times < as_of))


@dataclass(frozen=True)
class _Events:
    owners: Int64  # [N] batch position 0..B-1
    items: Int32  # [N]
    kinds: npt.NDArray[np.int8]  # [N]
    times: Int64  # [N]
    of_visitor: npt.NDArray[np.bool_]  # [N]

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.owners, self.items, self.kinds, self.times, self.of_visitor

    def select(self, keep: npt.NDArray[Any]) -> "_Events":
        return _Events(*(array[keep] for array in self.arrays))


def _stored(extract: Extract, user_ids: Sequence[str | None]) -> _Events:
    """What the extract holds of the users."""
    rows = np.array([extract.users.row_of(user) if user else -1 for user in user_ids], np.int64)
    known = np.flatnonzero(rows >= 0)
    starts, stops = extract.events.offsets[rows[known]], extract.events.offsets[rows[known] + 1]
    counts = stops - starts
    at = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    events = extract.events
    return _Events(
        np.repeat(known, counts), events.items[at], events.kinds[at], events.times[at], np.zeros(len(at), np.bool_)
    )


def _item_rows(extract: Extract, items: Sequence[str], new_items: Mapping[str, int]) -> dict[str, int]:
    """The row of every item that occurs, -1 where nobody knows it."""
    rows: dict[str, int] = {}
    for item in items:
        if item not in rows:
            row = extract.items.row_of(item)
            rows[item] = row if row >= 0 else new_items.get(item, -1)
    return rows


def _posted(
    extract: Extract,
    fresh: NewEvents,
    rows: dict[str, int],
    users: dict[str, list[int]],
    visitors: dict[str, list[int]],
    count: Counter[str],
) -> _Events:
    """What the own tables have received since, in rows and codes."""
    codes = {kind: code for code, kind in enumerate(extract.kinds)}
    found: list[tuple[int, int, int, int, bool]] = []
    for owner, is_visitor, item, kind, time in zip(
        fresh.owners, fresh.visitors, fresh.items, fresh.kinds, fresh.times, strict=True
    ):
        positions = (visitors if is_visitor else users).get(owner, ())
        if rows[item] < 0 or kind not in codes:
            count["unknown item" if rows[item] < 0 else "unknown kind"] += len(positions)
            continue
        found += [(position, rows[item], codes[kind], time, is_visitor) for position in positions]
    columns = zip(*found, strict=True) if found else [()] * 5
    types = (np.int64, np.int32, np.int8, np.int64, np.bool_)
    return _Events(*(np.array(column, kind) for column, kind in zip(columns, types, strict=True)))


def _newest(events: _Events, users: int, length: int, always: Sequence[int]) -> _Events:
    """Sort by user and time, keep the newest `length` of each and all of the kinds `always`."""
    events = events.select(np.lexsort((events.times, events.owners)))
    return events.select(newest_events(events.owners, events.kinds, users, length, always))


def _as_histories(events: _Events, users: int, as_of: int) -> Histories:
    ages = ((as_of - events.times) / MICROSECONDS_PER_DAY).astype(np.float32)
    counts = np.bincount(events.owners, minlength=users)
    return Histories(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), events.items, events.kinds, ages)


def _positions(ids: Sequence[str | None]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, identifier in enumerate(ids):
        if identifier:
            positions.setdefault(identifier, []).append(position)
    return positions


def _versions(parent: Path) -> list[str]:
    """The names of all complete versions, oldest first."""
    return sorted(path.parent.name for path in parent.glob("[0-9]*/manifest.json"))
