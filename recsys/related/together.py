"""Bought or viewed together: one item asks, what is in one basket with it answers.

Counting is tuned on validation: decay, size of the basket, popularity of the answer, significance, trend. A small
network then re-ranks the pairs that were counted, where that wins on validation; its answers are stored like counts.
Shapes: S seeds, P pairs, Q questions, I items, F features.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32, Int64
from recsys.data.ragged import Ragged
from recsys.related.baskets import Baskets
from recsys.related.counts import ALL_TIME, UNWEIGHTED, Counted, Pairs, Weighting, best_of_each
from recsys.related.network import Lists, Network, train
from recsys.related.pair_features import FEATURE_WEIGHTINGS, Known, features_of
from recsys.related.questions import K, Quality, Questions, ask, fill, is_better, judge
from recsys.related.tables import POPULARITY, Table, empty_table

CANDIDATES = 80  # of an item that a network ranks, and that a table holds
_MOST_PAIRS = 12_000_000  # in a table: 100 MB
_QUESTIONS = 3000
_LISTS_A_WINDOW, _SEEDS_A_BASKET, _FEWEST_LISTS = 4000, 4, 300
_WINDOWS = 3  # of past time, each as long as validation, whose baskets train the network


@dataclass(frozen=True)
class Counting:
    """How pairs are scored: count * significance * trend ** trend_exponent / (chance + damping) ** popularity_exponent.

    chance is the count that two items of their popularity reach by chance, and significance is raw count / (raw count +
    shrinkage). The trend is that of the item that answers.
    """

    weighting: Weighting = UNWEIGHTED
    popularity_exponent: float = 0.0
    damping: float = 0.0
    shrinkage: float = 0.0
    trend_exponent: float = 0.0

    def score(self, counted: Counted, pairs: Pairs, counts: Float32, raw: Float32) -> Float32:
        """counts [P] of the pairs in this weighting, raw counts [P] -> float32 [P]."""
        owners = np.repeat(pairs.seeds, np.diff(pairs.offsets))
        by_chance = counted.total[owners] * counted.total[pairs.items] / len(counted.baskets)
        significance = raw / (raw + self.shrinkage)
        scores = counts * significance * counted.trend[pairs.items] ** self.trend_exponent
        return np.asarray(scores / (by_chance + self.damping) ** self.popularity_exponent, np.float32)


RAW = Counting()
PLAIN = {  # the plain ways of counting, beside which each is judged
    "co-occurrence": RAW,
    "cosine": Counting(popularity_exponent=0.5),
    "lift, shrunk by 50": Counting(popularity_exponent=1.0, damping=50.0),
}
_VALUES: dict[str, tuple[float, ...]] = {
    "half_life_days": (ALL_TIME, 365.0, 120.0, 60.0, 30.0),
    "size_exponent": (0.0, 0.5, 1.0),
    "popularity_exponent": (0.0, 0.1, 0.25, 0.5),
    "damping": (0.0, 5.0, 50.0),
    "shrinkage": (0.0, 2.0, 10.0),
    "trend_exponent": (0.0, 0.1, 0.25, 0.5),
}


@dataclass(frozen=True)
class Chosen:
    """What validation chose: how to count, and whether a network re-ranks."""

    counting: Counting | None  # None: popular items serve better than what is counted
    reranked: bool
    facts: dict[str, Any]


def variants(counting: Counting) -> list[list[Counting]]:
    """The counting with each value of one setting, one setting after the other."""

    def changed(name: str, value: float) -> Counting:
        setting: dict[str, Any] = {name: value}
        if not hasattr(counting.weighting, name):
            return replace(counting, **setting)
        return replace(counting, weighting=replace(counting.weighting, **setting))

    return [[changed(name, value) for value in values] for name, values in _VALUES.items()]


def choose(baskets: Baskets, known: Known, *, start: int, end: int, seed: int) -> Chosen:
    """Choose on the baskets of [start, end), learned from those before `start` (microseconds).

    The best plain way of counting stays where nothing is better by more than chance. Without questions they do too.
    """
    counted = Counted(baskets.before(start), start)
    questions = ask(baskets.between(start, end).of_items(counted.total > 0), share=0, most=_QUESTIONS, seed=seed)
    if not len(questions):
        return Chosen(RAW, False, {"method": "co-occurrence", "validation": {"questions": 0}})
    validation = _Validation(counted, questions)
    plain = {name: validation.quality(counting) for name, counting in PLAIN.items()}
    best_plain = max(PLAIN, key=lambda name: float(plain[name].ndcg.sum()))
    counting, quality = _climb(validation, PLAIN[best_plain])
    method = "counting"
    if not is_better(quality, plain[best_plain]):
        counting, quality, method = PLAIN[best_plain], plain[best_plain], best_plain
    popular = validation.popular()
    figures = {POPULARITY: popular, **plain, method: quality}
    network = learn(baskets, known, counting, now=start, window=end - start, seed=seed)
    reranked = False
    if network is not None:
        learned = validation.reranked(counting, network, known)
        figures["re-ranked"] = learned
        if is_better(learned, quality):
            reranked, method, quality = True, "re-ranked", learned
    is_useless = is_better(popular, quality)
    return Chosen(
        None if is_useless else counting,
        reranked and not is_useless,
        {
            "method": POPULARITY if is_useless else method,
            "counting": as_values(counting),
            "validation": {"questions": len(questions), **{name: found.figures for name, found in figures.items()}},
        },
    )


def fit(baskets: Baskets, known: Known, chosen: Chosen, *, now: int, window: int, seed: int) -> Table:
    """The table of all items as of `now`, from the baskets before it. window: microseconds, as long as validation."""
    baskets = baskets.before(now)
    counted = Counted(baskets, now)
    seeds = np.flatnonzero(counted.total > 0)
    if not len(seeds) or chosen.counting is None:
        return empty_table(baskets.item_count)
    network = learn(baskets, known, chosen.counting, now=now, window=window, seed=seed) if chosen.reranked else None
    most = max(10, min(CANDIDATES, _MOST_PAIRS // len(seeds)))
    sizes = np.zeros(baskets.item_count, np.int64)
    items, scores = [], []
    for block in counted.blocks(seeds):
        pairs, scored = candidates(counted, block, chosen.counting, most, with_features=network is not None)
        if network is not None:
            scored = network.score(features_of(counted, known, pairs))
            # Scores of a table are above 0, whoever made them.
            scored = np.exp(np.clip(scored, -30, 30)).astype(np.float32)
        best = best_of_each(pairs.offsets, scored, most)
        sizes[block] = np.diff(pairs.offsets)
        items.append(pairs.items[best])
        scores.append(scored[best])
    return Table(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), np.concatenate(items), np.concatenate(scores)
    )


def candidates(
    counted: Counted, seeds: Int64, counting: Counting, most: int, *, with_features: bool
) -> tuple[Pairs, Float32]:
    """The `most` best pairs of each seed by counting, and their scores [P]. with_features: with all weightings."""
    weightings = [UNWEIGHTED, counting.weighting, *(FEATURE_WEIGHTINGS if with_features else ())]
    pairs = counted.pairs(seeds, weightings)
    scores = counting.score(counted, pairs, pairs.counts[1], pairs.counts[0])
    best = np.sort(best_of_each(pairs.offsets, scores, most))
    return pairs.select(best), scores[best]


def learn(baskets: Baskets, known: Known, counting: Counting, *, now: int, window: int, seed: int) -> Network | None:
    """Train a network on the baskets of the windows before `now`, each as seen from its start (microseconds).

    None where there are too few.
    """
    recent = baskets.between(now - _WINDOWS * window, now)
    if np.minimum(recent.sizes, _SEEDS_A_BASKET).sum() < _FEWEST_LISTS:
        return None
    sizes, features, gains = list[Int64](), list[Float32](), list[Float32]()
    for number in range(_WINDOWS, 0, -1):
        start = now - number * window
        counted = Counted(baskets.before(start), start)
        later = baskets.between(start, start + window).of_items(counted.total > 0)
        if not len(counted.baskets) or not len(later):
            continue
        seeds, owners = _lists(later, seed + number)
        own, rows = np.unique(seeds, return_inverse=True)
        pairs, _ = candidates(counted, own, counting, CANDIDATES, with_features=True)
        lengths, at, gained = _gains(pairs, rows, later, owners)
        sizes.append(lengths)
        features.append(features_of(counted, known, pairs)[at])
        gains.append(gained)
    if sum(map(len, sizes)) < _FEWEST_LISTS:
        return None
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return train(Lists(offsets, np.concatenate(features), np.concatenate(gains)), seed=seed)


def as_values(counting: Counting) -> dict[str, float]:
    """The settings in plain values, for the manifest."""
    values = {name: getattr(counting, name, None) for name in _VALUES}
    return {
        name: float(getattr(counting.weighting, name) if value is None else value) for name, value in values.items()
    }


def _climb(validation: "_Validation", start: Counting) -> tuple[Counting, Quality]:
    """Change one setting after the other to what gives the highest NDCG@10."""
    best, found = start, validation.quality(start)
    for number in range(len(_VALUES)):
        for counting in variants(best)[number]:
            other = validation.quality(counting)
            if other.ndcg.sum() > found.ndcg.sum():
                best, found = counting, other
    return best, found


def _lists(baskets: Baskets, seed: int) -> tuple[Int64, Int64]:
    """Items drawn from baskets, up to four of each, and the basket of each."""
    random = np.random.default_rng(seed)
    seeds, owners = list[int](), list[int]()
    for basket in random.permutation(len(baskets)).tolist():
        items = baskets.items[baskets.offsets[basket] : baskets.offsets[basket + 1]]
        for item in random.permutation(items)[:_SEEDS_A_BASKET].tolist():
            seeds.append(item)
            owners.append(basket)
        if len(seeds) >= _LISTS_A_WINDOW:
            break
    return np.array(seeds, np.int64), np.array(owners, np.int64)


def _gains(pairs: Pairs, rows: Int64, baskets: Baskets, owners: Int64) -> tuple[Int64, Int64, Float32]:
    """What the lists that contain anything wanted are worth to learn from: their lengths, pairs, and gains of those.

    rows: the seed of each list among those of the pairs; owners: the basket of each list, whose items are wanted.
    """
    sizes = np.diff(pairs.offsets)[rows]
    of_list = np.repeat(np.arange(len(rows)), sizes)
    at = np.repeat(pairs.offsets[rows] - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(of_list))
    hits = baskets.contain(owners[of_list], pairs.items[at])
    found = np.bincount(of_list, hits, minlength=len(rows))
    kept = found[of_list] > 0
    gains = hits[kept] / np.sqrt(found[of_list[kept]])
    return sizes[found > 0], at[kept], gains.astype(np.float32)


class _Validation:
    """Answers the questions of validation by any way of counting."""

    def __init__(self, counted: Counted, questions: Questions) -> None:
        self._counted, self._questions = counted, questions
        self._seeds, self._rows = np.unique(questions.asked.values.astype(np.int64), return_inverse=True)
        self._popular = np.argsort(-counted.recent, kind="stable").astype(np.int32)
        self._pairs: dict[Weighting, Pairs] = {}

    def quality(self, counting: Counting) -> Quality:
        pairs, raw = self._counts(counting.weighting), self._counts(UNWEIGHTED)
        return self._judge(pairs, counting.score(self._counted, pairs, pairs.counts[0], raw.counts[0]))

    def popular(self) -> Quality:
        nothing = np.full((len(self._questions), K), -1, np.int32)
        return judge(fill(nothing, self._popular, self._questions.asked), self._questions.wanted)

    def reranked(self, counting: Counting, network: Network, known: Known) -> Quality:
        pairs, _ = candidates(self._counted, self._seeds, counting, CANDIDATES, with_features=True)
        return self._judge(pairs, network.score(features_of(self._counted, known, pairs)))

    def _judge(self, pairs: Pairs, scores: npt.NDArray[np.floating]) -> Quality:
        best = best_of_each(pairs.offsets, scores, K)
        sizes = np.minimum(np.diff(pairs.offsets), K)
        found = Ragged(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), pairs.items[best])
        lists = np.full((len(self._seeds), K), -1, np.int32)
        lists[found.owners, np.arange(len(best)) - found.offsets[found.owners]] = found.values
        asked = self._questions.asked
        return judge(fill(lists[self._rows], self._popular, asked), self._questions.wanted)

    def _counts(self, weighting: Weighting) -> Pairs:
        if weighting not in self._pairs:
            if len(self._pairs) > 1:
                self._pairs.pop(next(key for key in self._pairs if key != UNWEIGHTED))
            self._pairs[weighting] = self._counted.pairs(self._seeds, [weighting])
        return self._pairs[weighting]
