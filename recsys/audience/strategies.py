"""The strategies that rank users for an audience, and the reason shown for each member.

Shapes: U users.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.audience import measures
from recsys.audience.facts import Facts
from recsys.audience.features import Block, Float64
from recsys.audience.model import Scores
from recsys.data.arrays import Int64
from recsys.data.vocabulary import Vocabulary
from recsys.errors import NotFoundError

Keys = Callable[[Scores, int], tuple[Float64, ...]]  # scores and a seed -> sort keys [U], highest first


@dataclass(frozen=True)
class Strategy:
    """One way to choose and to order users."""

    keys: Keys  # the first key counts most
    score: str = ""  # what the column `score` of the file holds; empty: nothing
    measure: Callable[[Block, Facts], Float64] | None = None  # that score, [B]; -inf for users whom it does not mean
    others: str = ""  # how those are called whom it does not mean
    includes_unknown: bool = False  # users without a history too


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


def likely_buyers(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by the probability of buying anything at all, then by that of buying one of the items."""
    return (scores.at_all, scores.probability)


def by_score(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by what the strategy measures, then by the probability of buying one of the items."""
    return (scores.measured, scores.probability)


def rfm(scores: Scores, _seed: int) -> tuple[Float64, ...]:
    """Rank by the sum of three grades from 1 to 5: how recently, how often, for how much; `measured` is the spend.

    Source: A. M. Hughes, "Strategic Database Marketing", 1994.
    """
    grades = [_fifths(-scores.days_since_purchase), _fifths(scores.purchase_days), _fifths(scores.measured)]
    return (np.sum(grades, axis=0), scores.measured)


def _fifths(values: Float64) -> Float64:
    """The fifth in which each value lies, 1 to 5; equal values lie in the same."""
    ascending = np.sort(values)
    return np.floor(5 * np.searchsorted(ascending, values) / max(1, len(values))) + 1


def random(scores: Scores, seed: int) -> tuple[Float64, ...]:
    """Rank in a random order, drawn from the seed."""
    return (np.random.default_rng(seed).random(len(scores.probability)),)


# The name, how users are ordered, what the score says and how it is measured, and who is no member. The probability in
# the file is always that of buying one of the items within the window.
STRATEGIES: dict[str, Strategy] = {
    "affinity": Strategy(affinity),
    "likely_buyers": Strategy(likely_buyers, "probability of buying anything", measures.at_all),
    "win_back": Strategy(affinity, "usual gaps since the last purchase", measures.lapsed, "users who have not lapsed"),
    "churn_risk": Strategy(by_score, "expected spend at risk", measures.at_risk, "users who never bought"),
    "high_value": Strategy(by_score, "expected spend", measures.value, "users who never bought"),
    "repurchase_due": Strategy(affinity, "usual gaps since the purchase", measures.due, "users of whom nothing is due"),
    "abandoned_cart": Strategy(affinity, "days since", measures.abandoned, "users without an abandoned cart"),
    "viewed_not_bought": Strategy(affinity, "days since", measures.viewed, "users without a look left open"),
    "price_drop": Strategy(affinity, "share of the price", measures.cheaper, "users who looked at nothing now cheaper"),
    "back_in_stock": Strategy(affinity, "days since", measures.restocked, "users who looked at nothing back in stock"),
    "cross_sell": Strategy(affinity, "days since", measures.owned, "users who bought none of the other items"),
    "newcomers": Strategy(affinity, "days since the first event", measures.new, "users who are not new", True),
    "lookalikes": Strategy(by_score, "likeness, 0 to 1", measures.alike, "users of the list of --seeds"),
    "past_buyers": Strategy(past_buyers),
    "most_active": Strategy(most_active),
    "rfm": Strategy(rfm, "spend so far", measures.spend, "users who never bought"),
    "recency_frequency": Strategy(recency_frequency),
    "random": Strategy(random),
}


def check_strategy(name: str) -> Strategy:
    """The strategy of a name. Raises NotFoundError that lists them all."""
    if name not in STRATEGIES:
        raise NotFoundError(f"there is no strategy {name!r}; there are {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


@dataclass(frozen=True)
class Member:
    """One user of an audience."""

    rank: int  # from 1
    user_id: str
    probability: float  # that the user buys one of the items within the window
    reason: str  # one of REASONS
    score: float  # what the strategy measured; NaN: it measures nothing
    best: tuple[int, ...]  # rows of the items that the user most probably buys, the best first


def rank(scores: Scores, users: Vocabulary, rows: Int64, size: int, strategy: Strategy, seed: int) -> list[Member]:
    """Rank the scored user rows [U] and return the first `size` members, best first; ties are broken by user id."""
    keys, order = strategy.keys(scores, seed), in_order(scores, strategy, seed)
    if len(order) > size:  # users that tie with the last one compete too, by id
        tied = np.all([key[order] == key[order[size - 1]] for key in keys], axis=0)
        order = order[: max(size, int(np.flatnonzero(tied)[-1]) + 1)]
    ids = users.ids_of(rows[order])
    by_id = np.argsort(np.argsort(np.array(ids, object), kind="stable"), kind="stable")
    best = np.lexsort([by_id, *[-key[order] for key in reversed(keys)]])[:size]
    reasons = find_reasons(scores)
    return [
        Member(
            place,
            ids[at],
            float(scores.probability[order[at]]),
            REASONS[reasons[order[at]]],
            float(scores.measured[order[at]]) if strategy.score else float("nan"),
            tuple(scores.best[order[at]].tolist()),
        )
        for place, at in enumerate(best, 1)
    ]


def in_order(scores: Scores, strategy: Strategy, seed: int) -> Int64:
    """The places of the users [U] in the order of the strategy, ties by place."""
    return np.lexsort([-key for key in reversed(strategy.keys(scores, seed))])


def reach(scores: Scores, strategy: Strategy, seed: int) -> dict[str, Any]:
    """Say how many buyers are expected among all, and how many users, in the strategy's order, reach shares of them."""
    order = in_order(scores, strategy, seed)
    expected = np.cumsum(scores.probability[order])
    sizes = {f"{share}%": int(np.searchsorted(expected, share / 100 * expected[-1])) + 1 for share in _SHARES}
    return {"expected_buyers": round(float(expected[-1]), 2), "sizes": sizes}


def find_reasons(scores: Scores) -> Int64:
    """Find why each user might buy, as a position in REASONS: int64 [U]."""
    facts = [scores.bought_days > 0, scores.looks > 0, scores.affinity >= _SUITS]
    return np.select(facts, [0, 1, 2], 3).astype(np.int64)
