"""Buying again, learned: what is known of each item, and how purchases are ranked, chosen on validation.

Shapes: U users, B users who are asked about, I items, P distinct (user, item).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.data.arrays import Float32
from recsys.data.interactions import Interactions
from recsys.data.ragged import Ragged
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.related.network import Lists, Network, train
from recsys.related.questions import K, Quality, is_better, judge
from recsys.related.repeats import (
    AGAIN,
    GAP,
    ITEM_COLUMNS,
    RECENT,
    TOTAL,
    TREND,
    Purchases,
    Repeats,
    decayed_frequency,
    features_of,
    purchases_of,
)

_WINDOWS, _FEWEST_LISTS, _USERS = 5, 200, 5000
_RECENT_DAYS = 28
_USUAL_GAP_DAYS, _DRAWN = 60.0, 5.0  # what an item's gap and share are drawn towards, as by five more buyers
_SOON_DAYS = 0.5  # purchases of one item that lie closer are one
_TIES = 1e-3
PLAIN: dict[str, tuple[float, float]] = {  # half-life, exponent of the popularity
    "frequency": (np.inf, 0.0),
    "frequency, ties by 28-day popularity": (np.inf, _TIES),
}
_HALF_LIVES, _EXPONENTS = (60.0, 120.0, 240.0, 480.0, np.inf), (0.0, _TIES, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class ChosenRepeats:
    """What validation chose."""

    half_life_days: float
    exponent: float
    learned: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class Customers:
    """Users of a time, what they had bought by its start, and which of that they bought in it."""

    purchases: Purchases
    items: Float32  # [I, 5], as known at its start
    wanted: Ragged  # [B]


def choose_repeats(purchases: Interactions, *, start: int, end: int, seed: int) -> ChosenRepeats:
    """Choose on the purchases of [start, end), learned from those before `start` (microseconds).

    purchases: events of the kinds that mean "bought" alone. Ties by popularity stay where nothing is better by more
    than chance, and where nobody bought an item again.
    """
    asked = ask_customers(purchases, start, end, most=_USERS, seed=seed)
    ties = "frequency, ties by 28-day popularity"
    if not len(asked.wanted):
        return ChosenRepeats(*PLAIN[ties], False, {"method": ties, "validation": {"customers": 0}})

    def quality(half_life: float, exponent: float) -> Quality:
        return judge_scores(asked, decayed_frequency(asked.purchases, asked.items, half_life, exponent))

    plain = {name: quality(*settings) for name, settings in PLAIN.items()}
    tried = {(h, e): quality(h, e) for h in _HALF_LIVES for e in _EXPONENTS}
    best = max(tried, key=lambda one: float(tried[one].ndcg.sum()))
    method, found = "decayed frequency times popularity", tried[best]
    if not is_better(found, plain[ties]):
        method, best, found = ties, PLAIN[ties], plain[ties]
    figures = {**plain, method: found}
    network = learn_repeats(purchases, now=start, window=end - start, seed=seed)
    learned = False
    if network is not None:
        figures["learned"] = judge_scores(asked, network.score(features_of(asked.purchases, asked.items)))
        # More than chance beside the plain way; of two that are, the better one.
        is_highest = figures["learned"].ndcg.sum() > found.ndcg.sum()
        learned = bool(is_highest) and is_better(figures["learned"], plain[ties])
    facts = {
        "method": "learned" if learned else method,
        "settings": {"half_life_days": min(best[0], 36500.0), "popularity_exponent": best[1]},
        "validation": {"customers": len(asked.wanted), **{name: one.figures for name, one in figures.items()}},
    }
    return ChosenRepeats(*best, learned, facts)


def fit_repeats(purchases: Interactions, chosen: ChosenRepeats, *, now: int, window: int, seed: int) -> Repeats:
    """How purchases are ranked as of `now`, from those before it. window: microseconds, as long as validation."""
    network = learn_repeats(purchases, now=now, window=window, seed=seed) if chosen.learned else None
    return Repeats(items_of(purchases.before(now), now), chosen.half_life_days, chosen.exponent, network)


def learn_repeats(purchases: Interactions, *, now: int, window: int, seed: int) -> Network | None:
    """Train a network on the windows before `now`, each as seen from its start; None where there is too little."""
    features, gains, sizes = list[Float32](), list[Float32](), list[int]()
    for number in range(_WINDOWS, 0, -1):
        start = now - number * window
        asked = ask_customers(purchases, start, start + window, most=_USERS, seed=seed + number)
        if not len(asked.wanted):
            continue
        features.append(features_of(asked.purchases, asked.items))
        gains.append(_gains(asked))
        sizes += np.diff(asked.purchases.offsets).tolist()
    if len(sizes) < _FEWEST_LISTS:
        return None
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return train(Lists(offsets, np.concatenate(features), np.concatenate(gains)), seed=seed)


def items_of(purchases: Interactions, now: int) -> Float32:
    """What is known of each item by `now`, from the purchases before it: float32 [I, 5]."""
    count = purchases.item_count
    keys = purchases.users.astype(np.int64) * count + purchases.items
    order = np.lexsort((purchases.times, keys))
    keys, times = keys[order], purchases.times[order]
    gaps = np.diff(times, prepend=times[:1]) / MICROSECONDS_PER_DAY
    same = np.diff(keys, prepend=-1) == 0
    again = same & (gaps > _SOON_DAYS)
    total = np.bincount(keys[~same] % count, minlength=count)
    came_back = np.bincount(np.unique(keys[again]) % count, minlength=count)
    number = np.bincount(keys[again] % count, minlength=count)
    logs = np.bincount(keys[again] % count, weights=np.log1p(gaps[again]), minlength=count)
    recent_pairs = np.unique(keys[times >= now - _RECENT_DAYS * MICROSECONDS_PER_DAY])
    recent = np.bincount(recent_pairs % count, minlength=count)
    share = came_back.sum() / max(1, total.sum())
    overall = max(1, recent.sum()) / max(1, total.sum())
    known = np.zeros((count, ITEM_COLUMNS), np.float32)
    known[:, RECENT], known[:, TOTAL] = recent, total
    known[:, AGAIN] = (came_back + _DRAWN * share) / (total + _DRAWN)
    known[:, GAP] = np.expm1((logs + _DRAWN * np.log1p(_USUAL_GAP_DAYS)) / (number + _DRAWN))
    known[:, TREND] = (recent / overall + _DRAWN) / (total + _DRAWN)
    return known


def ask_customers(purchases: Interactions, start: int, end: int, *, most: int, seed: int) -> Customers:
    """The users who bought something again in [start, end); at most `most` of them, drawn by the seed."""
    before, later = purchases.before(start), purchases.between(start, end)
    width = np.int64(purchases.item_count)
    had = np.unique(before.users * width + before.items)
    pairs = np.unique(later.users * width + later.items)
    pairs = pairs[np.isin(pairs, had)]
    users, rows = np.unique(pairs // width, return_inverse=True)
    wanted = Ragged.from_pairs(rows, (pairs % width).astype(np.int32), len(users))
    if len(users) > most:
        kept = np.zeros(len(users), np.bool_)
        kept[np.random.default_rng(seed).choice(len(users), most, replace=False)] = True
        users, wanted = users[kept], wanted.take(kept)
    histories = before.histories(users, start, max(1, len(before)))
    return Customers(purchases_of(histories), items_of(before, start), wanted)


def _gains(asked: Customers) -> Float32:
    """What each (user, item) is worth to learn from: [P], above 0 where it was wanted."""
    purchases, wanted = asked.purchases, asked.wanted
    owners = np.repeat(np.arange(len(wanted)), np.diff(purchases.offsets))
    width = len(asked.items)
    hits = np.isin(owners * width + purchases.items, wanted.owners * width + wanted.values)
    return (hits / np.sqrt(np.diff(wanted.offsets))[owners]).astype(np.float32)


def judge_scores(asked: Customers, scores: Float32) -> Quality:
    """How the purchases, ranked by scores [P], answer what was bought again."""
    lists = np.full((len(asked.wanted), K), -1, np.int32)
    offsets = asked.purchases.offsets
    for row in range(len(lists)):
        own = slice(offsets[row], offsets[row + 1])
        best = asked.purchases.items[own][np.argsort(-scores[own], kind="stable")[:K]]
        lists[row, : len(best)] = best
    return judge(lists, asked.wanted)
