"""The strategies that rank users for an audience, and the reason shown for each member.

Shapes: U users.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.audience.features import Float64
from recsys.audience.model import Scores
from recsys.data.arrays import Int64
from recsys.data.vocabulary import Vocabulary

Strategy = Callable[[Scores, int], tuple[Float64, ...]]

# Why a user is in an audience: the first of these that is true.
REASONS = ("bought", "looked", "taste", "active")
_SHARES = (50, 70, 90)  # per cent of the expected buyers that the curve tells the size for
_SUITS = 1.0  # standard deviations above an ordinary item from which an item suits the user


def affinity(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by the calibrated probability of buying one of the items."""
    return (scores.probability,)


def past_buyers(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by the number of days on which the items were bought, then by recency, then by all purchases."""
    return (scores.bought_days, -scores.days_since_bought, scores.purchases)


def most_active(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by the number of purchases of any item."""
    return (scores.purchases,)


def recency_frequency(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by the probability of buying anything, learned from recency and frequency only."""
    return (scores.at_all,)


def viewed_not_bought(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank those first who looked at the items, or put them into the cart, and bought none; then by probability."""
    return (((scores.looks > 0) & (scores.bought_days == 0)).astype(np.float64), scores.probability)


def random(scores: Scores, seed: int) -> tuple[Float64, ...]:
    """Rank in a random order, drawn from the seed."""
    return (np.random.default_rng(seed).random(len(scores.probability)),)


# name -> a function of the scores and a seed; it returns sort keys [U], highest first. The first key counts most.
STRATEGIES: dict[str, Strategy] = {
    "affinity": affinity,
    "past_buyers": past_buyers,
    "most_active": most_active,
    "recency_frequency": recency_frequency,
    "viewed_not_bought": viewed_not_bought,
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
    """Rank the scored user rows [U] and return the first `size` members, best first; ties are broken by user id."""
    keys = strategy(scores, seed)
    order = np.lexsort([-key for key in reversed(keys)])
    if len(order) > size:  # users that tie with the last one compete too, by id
        tied = np.all([key[order] == key[order[size - 1]] for key in keys], axis=0)
        order = order[: max(size, int(np.flatnonzero(tied)[-1]) + 1)]
    ids = users.ids_of(rows[order])
    by_id = np.argsort(np.argsort(np.array(ids, object), kind="stable"), kind="stable")
    best = np.lexsort([by_id, *[-key[order] for key in reversed(keys)]])[:size]
    reasons = find_reasons(scores)
    return [
        Member(place, ids[at], float(scores.probability[order[at]]), REASONS[reasons[order[at]]])
        for place, at in enumerate(best, 1)
    ]


def reach(scores: Scores, strategy: Strategy, seed: int) -> dict[str, Any]:
    """Say how many buyers are expected among all, and how many users, in the strategy's order, reach shares of them."""
    order = np.lexsort([-key for key in reversed(strategy(scores, seed))])
    expected = np.cumsum(scores.probability[order])
    sizes = {f"{share}%": int(np.searchsorted(expected, share / 100 * expected[-1])) + 1 for share in _SHARES}
    return {"expected_buyers": round(float(expected[-1]), 2), "sizes": sizes}


def find_reasons(scores: Scores) -> Int64:
    """Find why each user might buy, as a position in REASONS: int64 [U]."""
    facts = [scores.bought_days > 0, scores.looks > 0, scores.affinity >= _SUITS]
    return np.select(facts, [0, 1, 2], 3).astype(np.int64)
