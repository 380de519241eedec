"""Guards of what training made: vectors, and the lists of a fixed sample of users.

Shapes: I items, D dimensions, B users of the sample, K places of a list (-1: empty).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.config.settings import GuardSettings
from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.vocabulary import Vocabulary
from recsys.guards.verdicts import Verdict, at_least, at_most

SAMPLE = 500  # users whose lists are compared from night to night
PLACES = 10
_MOVERS = 5
_ROWS = 2_000  # vectors that are looked at for being the same
_LEAST_DISTINCT = 0.1


@dataclass(frozen=True)
class Mover:
    """An item that is in many more, or many fewer, lists than in the live bundle's."""

    row: int
    before: float  # share of the lists
    now: float


def sample_users(users: Vocabulary, events: Int64) -> Int64:
    """The rows of the users whose hashes are lowest among those with events [U]: the same ones every night."""
    by_hash = users.order[events[users.order] > 0]
    return np.sort(by_hash[:SAMPLE]).astype(np.int64)


def judge_vectors(item_vectors: Float32, trained: Int64) -> list[Verdict]:
    """Whether the vectors are finite, and whether those of items with events differ. trained: their rows."""
    broken = int(np.count_nonzero(~np.isfinite(item_vectors).all(axis=1)))
    remedy = "train again; a smaller learning rate may help"
    found = [at_most("finite vectors", broken, 0, f"{broken:,} items have no finite vector", remedy, compares=False)]
    if item_vectors.shape[1] > 1 and len(trained) > 1:
        rows = trained[np.linspace(0, len(trained) - 1, min(len(trained), _ROWS)).astype(np.int64)]
        distinct = len(np.unique(item_vectors[rows].round(6), axis=0)) / len(rows)
        text = f"{distinct:.0%} of the items have a vector of their own"
        found.append(at_least("distinct vectors", distinct, _LEAST_DISTINCT, text, remedy, compares=False))
    return found


def judge_lists(lists: Int32, live: Int32 | None, settings: GuardSettings, *, is_popularity: bool) -> list[Verdict]:
    """Whether one item is in everybody's list, and what the lists have in common with the live bundle's.

    lists, live: item rows of tonight [B, K]. is_popularity: everybody gets the same list then.
    """
    found = []
    if len(lists) and not is_popularity:
        share = float(_shares(lists).max(initial=0.0))
        text = f"one item is in {share:.0%} of the lists; allowed are {settings.max_same_item:.0%}"
        remedy = "look at the item's events: a robot or a tracking fault may have made it everybody's"
        found.append(at_most("same item", share, settings.max_same_item, text, remedy, compares=False))
    if live is not None and len(lists):
        shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(lists, live, strict=True)]
        common = float(np.mean(shared)) / PLACES
        text = (
            f"{common:.0%} of the {PLACES} best are the live bundle's; expected are {settings.min_overlap:.0%} or more"
        )
        remedy = "if the model or its settings were changed, `recsys train --force REASON` publishes once"
        found.append(at_least("overlap", common, settings.min_overlap, text, remedy))
    return found


def movers(lists: Int32, live: Int32, items: int) -> list[Mover]:
    """The items whose share of the lists changed most, largest change first. lists, live: rows below `items` [B, K]."""
    now, before = _shares(lists, items), _shares(live, items)
    rows = np.argsort(-np.abs(now - before), kind="stable")[:_MOVERS]
    return [
        Mover(int(row), round(float(before[row]), 4), round(float(now[row]), 4))
        for row in rows
        if now[row] != before[row]
    ]


def _shares(lists: Int32, items: int = 0) -> npt.NDArray[np.float64]:
    """The share of the lists that each item is in: [I]."""
    return np.bincount(lists[lists >= 0], minlength=items) / max(1, len(lists))
