"""What users turned out to want: the targets of an evaluation.

Shapes: B users, N targets, I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Bool, Int32, Int64
from recsys.data.interactions import Interactions
from recsys.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Targets:
    """The items that B users wanted: user b owns items[offsets[b]:offsets[b + 1]], each once, at least one."""

    users: Int32  # [B], user rows, ascending
    offsets: Int64  # [B + 1]
    items: Int32  # [N], ascending within a user

    def __len__(self) -> int:
        return len(self.users)

    @property
    def counts(self) -> Int64:
        """How many targets each user has: int64 [B]."""
        return np.diff(self.offsets)

    def sample(self, most: int, seed: int) -> "Targets":
        """The targets of at most so many users, drawn by the seed."""
        if len(self) <= most:
            return self
        kept = np.zeros(len(self), np.bool_)
        kept[np.random.default_rng(seed).choice(len(self), most, replace=False)] = True
        return self._keep(kept)

    def _keep(self, kept: Bool) -> "Targets":
        offsets = np.concatenate([[0], np.cumsum(self.counts[kept])]).astype(np.int64)
        return Targets(self.users[kept], offsets, self.items[np.repeat(kept, self.counts)])


def targets_of(
    holdout: Interactions,
    known: Interactions,
    *,
    target_codes: Sequence[int],
    bought_codes: Sequence[int],
) -> Targets:
    """The distinct items with an event of a target kind in the holdout, of users and items that have events in `known`.

    bought_codes: an event of these kinds in `known` keeps an item from being the user's target.
    """
    items = np.bincount(known.items, minlength=known.item_count) > 0
    before = known.of_kinds(bought_codes)
    return distinct_targets(
        holdout.of_kinds(target_codes), users=np.diff(known.offsets) > 0, items=items, before=before
    )


def distinct_targets(events: Interactions, *, users: Bool, items: Bool, before: Interactions | None = None) -> Targets:
    """The distinct (user, item) of events, of these users [U] and items [I], but for the pairs of `before`."""
    pairs = np.unique(_pairs(events)[users[events.users] & items[events.items]])
    if before is not None:
        is_owner = np.zeros(before.user_count, np.bool_)
        is_owner[pairs // events.item_count] = True
        # Of few users: sorting the pairs of all takes most of the time.
        pairs = np.setdiff1d(pairs, _pairs(before)[is_owner[before.users]], assume_unique=False)
    owners, rows = pairs // events.item_count, pairs % events.item_count
    found, counts = np.unique(owners, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Targets(found.astype(np.int32), offsets, rows.astype(np.int32))


def targets_from_ids(
    user_ids: Sequence[str], item_ids: Sequence[str], *, users: Vocabulary, items: Vocabulary
) -> Targets:
    """Make targets of pairs of ids [N], as from a file; a pair that comes twice counts once.

    A user that `users` does not know has row -1; an item that `items` does not know has a row beyond the catalog, a
    target that no list can hold.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(user_ids))}
    wanted = {name: number for number, name in enumerate(dict.fromkeys(item_ids))}
    user_rows, item_rows = users.rows_of(list(names)), items.rows_of(list(wanted))
    unknown = item_rows < 0
    item_rows[unknown] = len(items) + np.arange(np.count_nonzero(unknown), dtype=np.int32)
    # Users in the order of their rows, unknown ones first, each with a number of its own.
    order = np.argsort(user_rows, kind="stable")
    number = np.argsort(order, kind="stable")
    width = len(items) + np.count_nonzero(unknown) + 1
    pairs = np.unique(
        np.fromiter(
            (number[names[u]] * width + item_rows[wanted[i]] for u, i in zip(user_ids, item_ids, strict=True)), np.int64
        )
    )
    counts = np.bincount(pairs // width, minlength=len(names))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Targets(user_rows[order], offsets, (pairs % width).astype(np.int32))


def _pairs(events: Interactions) -> Int64:
    return events.users.astype(np.int64) * events.item_count + events.items
