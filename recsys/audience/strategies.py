"""Scores -> a ranked audience: who may be mailed at all, in which order, and why each of them.

Shapes: U users.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from recsys.audience.features import Float64
from recsys.audience.model import Scores
from recsys.data.arrays import Bool, Int64
from recsys.data.vocabulary import Vocabulary

Strategy = Callable[[Scores, int], tuple[Float64, ...]]

# Why somebody is in an audience: the first of these that is true, in the order that they are looked for.
REASONS = ("bought", "looked", "taste", "active")
_SUITS = 1.0  # standard deviations by which an item that suits is above an ordinary one


def affinity(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """By the calibrated probability of buying one of the items: what a campaign wants."""
    return (scores.probability,)


def past_buyers(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Who bought the items on the most days, then most recently, then whoever buys most."""
    return (scores.bought_days, -scores.days_since_bought, scores.purchases)


def most_active(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Who bought most often, of anything."""
    return (scores.purchases,)


def recency_frequency(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """By the probability of buying anything, which is learnt from recency and frequency alone."""
    return (scores.at_all,)


def random(scores: Scores, seed: int) -> tuple[Float64, ...]:
    """In an order drawn by the seed."""
    return (np.random.default_rng(seed).random(len(scores.probability)),)


# The ways to rank: name -> a function of the scores and a seed whose keys [U] sort users, highest first.
STRATEGIES: dict[str, Strategy] = {
    "affinity": affinity,
    "past_buyers": past_buyers,
    "most_active": most_active,
    "recency_frequency": recency_frequency,
    "random": random,
}


@dataclass(frozen=True)
class Member:
    """One user of an audience."""

    rank: int  # from 1
    user_id: str
    probability: float  # that the user buys one of the items within the window
    reason: str  # one of REASONS


def rank(scores: Scores, users: Vocabulary, rows: Int64, size: int, strategy: Strategy, seed: int) -> list[Member]:
    """The first `size` of the user rows [U] that the scores are of, best first; ties by user id."""
    keys = strategy(scores, seed)
    order = np.lexsort([-key for key in reversed(keys)])
    if len(order) > size:  # whoever ties with the last one competes too, by id
        tied = np.all([key[order] == key[order[size - 1]] for key in keys], axis=0)
        order = order[: max(size, int(np.flatnonzero(tied)[-1]) + 1)]
    ids = users.ids_of(rows[order])
    by_id = np.argsort(np.argsort(np.array(ids, object), kind="stable"), kind="stable")
    best = np.lexsort([by_id, *[-key[order] for key in reversed(keys)]])[:size]
    reasons = reasons_of(scores)
    return [
        Member(place, ids[at], float(scores.probability[order[at]]), REASONS[reasons[order[at]]])
        for place, at in enumerate(best, 1)
    ]


def reasons_of(scores: Scores) -> Int64:
    """Why each user might buy, as a position in REASONS: int64 [U]."""
    facts = [scores.bought_days > 0, scores.looks > 0, scores.taste >= _SUITS]
    return np.select(facts, [0, 1, 2], 3).astype(np.int64)


def take_out(eligible: Bool, left_out: dict[str, int], reason: str, out: Bool) -> Bool:
    """Who is left of the eligible [U] when those of `out` [U] go; how many went is written to `left_out`.

    Whoever could go for several reasons goes, and counts, for the first.
    """
    left_out[reason] = int((eligible & out).sum())
    return eligible & ~out


def rows_among(users: Vocabulary, ids: Iterable[str]) -> tuple[Bool, int]:
    """Which users [U] are among the ids, and how many of the ids are no user's."""
    wanted = list(dict.fromkeys(ids))
    rows = users.rows_of(wanted)
    among = np.zeros(len(users), np.bool_)
    among[rows[rows >= 0]] = True
    return among, int((rows < 0).sum())
