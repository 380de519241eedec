"""Interactions, histories, the catalog, ids and splits, as plain arrays.

Shapes: U users, I items, E events, B users in a batch, N events in a batch.
Times are microseconds since 1970 in UTC everywhere; ids are strings at the borders and int32 rows inside.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

Array = npt.NDArray[np.generic]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

MICROSECONDS_PER_DAY = 86_400_000_000


def mean_or_zero(values: npt.NDArray[Any]) -> float:
    """The mean of figures [N], one a user or so; 0 where there is none."""
    return float(np.mean(values)) if len(values) else 0.0


def hash_id(identifier: str) -> int:
    """The 64-bit hash under which an id is looked up: the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Vocabulary:
    """External ids <-> rows 0..N-1, as four arrays that can be memory-mapped and shared by processes."""

    blob: npt.NDArray[np.uint8]  # every id in UTF-8, one after the other
    ends: Int64  # [N + 1]: id of row r is blob[ends[r]:ends[r + 1]]
    hashes: npt.NDArray[np.uint64]  # [N], sorted
    order: Int32  # [N]: the row behind each sorted hash

    @classmethod
    def from_ids(cls, ids: Iterable[str]) -> "Vocabulary":
        """Give the ids the rows 0, 1, … in the order they come. Raises ValueError when one comes twice."""
        encoded = [identifier.encode() for identifier in ids]
        lengths = np.fromiter((len(e) for e in encoded), np.int64, len(encoded))
        digests = b"".join(hashlib.blake2b(e, digest_size=8).digest() for e in encoded)
        hashes = np.frombuffer(digests, "<u8")
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        vocabulary = cls(
            blob=np.frombuffer(b"".join(encoded), np.uint8),
            ends=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            hashes=hashes[order],
            order=order,
        )
        for at in np.flatnonzero(vocabulary.hashes[1:] == vocabulary.hashes[:-1]):
            first, second = vocabulary.id_of(int(order[at])), vocabulary.id_of(int(order[at + 1]))
            if first == second:
                raise ValueError(f"the id {first!r} comes twice")
        return vocabulary

    def __len__(self) -> int:
        return len(self.hashes)

    def __iter__(self) -> Iterator[str]:
        return (self.id_of(row) for row in range(len(self)))

    def id_of(self, row: int) -> str:
        """The id of a row."""
        return self.blob[self.ends[row] : self.ends[row + 1]].tobytes().decode()

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """The ids of many rows, in the order asked."""
        return [self.id_of(int(row)) for row in rows]

    def row_of(self, identifier: str) -> int:
        """The row of an id, or -1 when it is unknown."""
        wanted = np.uint64(hash_id(identifier))
        at = int(np.searchsorted(self.hashes, wanted))
        while at < len(self.hashes) and self.hashes[at] == wanted:  # equal hashes are told apart by the id itself
            if self.id_of(int(self.order[at])) == identifier:
                return int(self.order[at])
            at += 1
        return -1

    def rows_of(self, ids: Sequence[str]) -> Int32:
        """The rows of many ids, -1 where unknown: int32 [len(ids)]."""
        return np.fromiter((self.row_of(i) for i in ids), np.int32, len(ids))

    def rows_in(self, other: "Vocabulary") -> Int32:
        """The row in another vocabulary of every id of this one, -1 where that does not know it: int32 [N]."""
        if np.array_equal(self.ends, other.ends) and np.array_equal(self.blob, other.blob):
            return np.arange(len(self), dtype=np.int32)
        rows = np.full(len(self), -1, np.int32)
        if not len(self) or not len(other):
            return rows
        at = np.minimum(np.searchsorted(other.hashes, self.hashes), len(other) - 1)
        same = other.hashes[at] == self.hashes
        rows[self.order[same]] = other.order[at[same]]
        # Equal hashes are told apart by the ids themselves: where these differ, the slow road finds the right one.
        for row in np.flatnonzero(rows >= 0):
            if not np.array_equal(self._bytes(int(row)), other._bytes(int(rows[row]))):
                rows[row] = other.row_of(self.id_of(int(row)))
        return rows

    def _bytes(self, row: int) -> npt.NDArray[np.uint8]:
        return self.blob[self.ends[row] : self.ends[row + 1]]


@dataclass(frozen=True)
class Histories:
    """The events of B users before a moment, oldest first, as ragged arrays: user b owns offsets[b]:offsets[b + 1]."""

    offsets: Int64  # [B + 1]
    items: Int32  # [N]
    kinds: npt.NDArray[np.int8]  # [N]
    ages_days: Float32  # [N], age at the moment asked for, >= 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def users(self) -> Int64:
        """The batch position 0..B-1 that each event belongs to: int64 [N]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def slice(self, start: int, stop: int) -> "Histories":
        """The histories of the batch positions start..stop-1."""
        low, high = self.offsets[start], self.offsets[stop]
        return Histories(
            self.offsets[start : stop + 1] - low, self.items[low:high], self.kinds[low:high], self.ages_days[low:high]
        )

    def select(self, keep: npt.NDArray[np.bool_]) -> "Histories":
        """Only the events where `keep` [N] is true; every user stays, some with an empty history."""
        counts = np.bincount(self.users[keep], minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Histories(offsets, self.items[keep], self.kinds[keep], self.ages_days[keep])

    def translate(self, rows: Int32, codes: npt.NDArray[np.int8]) -> "Histories":
        """Put item rows through `rows` [I] and kinds through `codes`; events of which one becomes -1 are left out."""
        translated = replace(self, items=rows[self.items], kinds=codes[self.kinds])
        return translated.select((translated.items >= 0) & (translated.kinds >= 0))


def _grouped(users: Int32, user_count: int) -> tuple[Int64, Int64]:
    """Rows user after user, each user's in the order they came: offsets [U + 1] and the rows' positions [E].

    By counting, as scipy fills a sparse matrix: it takes a time in proportion to the rows, where sorting takes more.
    """
    marks = (np.ones(len(users), np.bool_), (users, np.arange(len(users))))
    grouped = sparse.csr_array(marks, shape=(user_count, max(1, len(users))))
    return grouped.indptr.astype(np.int64), grouped.indices.astype(np.int64, copy=False)


@dataclass(frozen=True)
class Interactions:
    """E events of U users, sorted by user and within a user by time: user u owns offsets[u]:offsets[u + 1]."""

    offsets: Int64  # [U + 1]
    items: Int32  # [E], rows below item_count
    kinds: npt.NDArray[np.int8]  # [E], positions in the configured kinds
    times: Int64  # [E], microseconds since 1970, UTC
    values: Float32  # [E], NaN where there is none
    item_count: int

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
    ) -> "Interactions":
        """Sort unordered rows, each array [E]. Rows of one user at one time keep the order they came in."""
        offsets, order = _grouped(users, user_count)
        if (np.diff(times[order])[np.diff(users[order]) == 0] < 0).any():
            by_time = np.argsort(times, kind="stable")
            order = by_time[_grouped(users[by_time], user_count)[1]]
        return cls(offsets, items[order], kinds[order], times[order], values[order], item_count)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def user_count(self) -> int:
        """U, with users who have no event here."""
        return len(self.offsets) - 1

    @property
    def users(self) -> Int32:
        """The user row of every event: int32 [E]."""
        return np.repeat(np.arange(self.user_count, dtype=np.int32), np.diff(self.offsets))

    def select(self, keep: npt.NDArray[np.bool_]) -> "Interactions":
        """Only the events where `keep` [E] is true; user and item rows stay what they are."""
        offsets = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[self.offsets]
        return Interactions(
            offsets, self.items[keep], self.kinds[keep], self.times[keep], self.values[keep], self.item_count
        )

    def before(self, time: int) -> "Interactions":
        """The events earlier than `time` (microseconds)."""
        return self.select(self.times < time)

    def between(self, start: int, end: int) -> "Interactions":
        """The events with start <= time < end (microseconds)."""
        return self.select((self.times >= start) & (self.times < end))

    def of_kinds(self, codes: Sequence[int]) -> "Interactions":
        """The events of these kinds (positions in the configured kinds)."""
        return self.select(np.isin(self.kinds, np.asarray(codes, np.int8)))

    def histories(
        self, users: npt.NDArray[np.integer], as_of: int, length: int, *, always: Sequence[int] = ()
    ) -> Histories:
        """The newest `length` events before `as_of` (microseconds) of the user rows [B], oldest first.

        always: kinds (codes) of which older events belong to it too: what was bought counts as bought for good.
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
    """Which of N events, sorted by owner (below `users`) and time, are the newest `length` or of the kinds `always`."""
    ends = np.cumsum(np.bincount(owners, minlength=users))
    is_new = np.arange(len(owners)) >= (ends - length)[owners]
    return np.asarray(is_new | np.isin(kinds, np.asarray(always, np.int8)))


def codes_in(kinds: Sequence[str], other: Sequence[str]) -> npt.NDArray[np.int8]:
    """The code that each of `kinds` has among those of `other`, -1 where it is not: int8 [len(kinds)]."""
    code = {kind: at for at, kind in enumerate(other)}
    return np.array([code.get(kind, -1) for kind in kinds], np.int8)


@dataclass(frozen=True)
class Catalog:
    """All items with attributes. Row r of `columns` belongs to row r of `ids`; items without a catalog row hold nulls.

    Known columns: title, category, brand (string), price (float64), available (bool), image_url (string), created_at
    (int64 microseconds UTC). Any other column may be there too. A known column may be missing.
    """

    ids: Vocabulary
    columns: pa.Table

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Splits:
    """Events by time: fit < validation_start <= validation < holdout_start <= holdout."""

    fit: Interactions
    validation: Interactions
    holdout: Interactions
    validation_start: int
    holdout_start: int

    @cached_property
    def known(self) -> Interactions:
        """Everything before the holdout: fit and validation, that is, what a candidate may learn from."""
        return merge(self.fit, self.validation)

    def shortened(self, holdout_start: int) -> "Splits":
        """The same with a holdout that begins at `holdout_start`, if that is later; what is before it is known."""
        if holdout_start <= self.holdout_start:
            return self
        freed = self.holdout.before(holdout_start)
        return Splits(
            fit=self.fit,
            validation=merge(self.validation, freed),
            holdout=self.holdout.select(self.holdout.times >= holdout_start),
            validation_start=self.validation_start,
            holdout_start=holdout_start,
        )


def merge(first: Interactions, second: Interactions) -> Interactions:
    """The events of both, over the same user and item rows."""
    return Interactions.from_rows(
        np.concatenate([first.users, second.users]),
        np.concatenate([first.items, second.items]),
        np.concatenate([first.kinds, second.kinds]),
        np.concatenate([first.times, second.times]),
        np.concatenate([first.values, second.values]),
        user_count=first.user_count,
        item_count=first.item_count,
    )


def split_by_time(events: Interactions, *, validation_days: float, holdout_days: float) -> Splits:
    """Cut the last `holdout_days` off, and `validation_days` before them.

    Each of the two takes at most a fifth of the time that the events span, so that a young shop still learns from
    most of what it has. Raises ValueError when there is no event.
    """
    if len(events) == 0:
        raise ValueError("there are no events to split")
    first, last = int(events.times.min()), int(events.times.max())
    longest = (last - first) / 5
    holdout_start = last + 1 - round(min(holdout_days * MICROSECONDS_PER_DAY, longest))
    validation_start = holdout_start - round(min(validation_days * MICROSECONDS_PER_DAY, longest))
    return Splits(
        fit=events.before(validation_start),
        validation=events.between(validation_start, holdout_start),
        holdout=events.between(holdout_start, last + 1),
        validation_start=validation_start,
        holdout_start=holdout_start,
    )
