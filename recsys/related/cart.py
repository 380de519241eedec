"""The cart: several items ask, what completes them answers. Each item of the cart adds a weight that is learned.

The weights of an answer are a ridge regression of "is in the basket" on its nearest neighbors by cosine (fsSLIM: Ning
and Karypis, 2011, "SLIM: Sparse Linear Methods for Top-N Recommender Systems", without its L1 penalty). Over all items
at once it would be EASE (Steck, 2019, "Embarrassingly Shallow Autoencoders for Sparse Data").
Shapes: I items, A items with a basket, M neighbors, P pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.data.arrays import Float32, Int32, Int64
from recsys.related.baskets import Baskets
from recsys.related.counts import ALL_TIME, UNWEIGHTED, Counted, Weighting, best_of_each
from recsys.related.questions import K, Quality, Questions, ask, fill, is_better, judge
from recsys.related.tables import POPULARITY, Table, empty_table

_NEIGHBORS = 100  # up to 20,000 items; fewer where there are more
_NEIGHBOR_WORK = 2_000_000
_MOST_REGRESSED = 50_000  # the items of the most baskets; what the others complete is told by cosine
_KEPT = 400  # weights of an item of the cart; it may belong to many
_QUESTIONS = 2000
_FEW = 300  # questions below which nothing is tuned: they do not tell the settings apart
_ROWS_OF_NEIGHBOR, _PAIRS = 1000, 30_000_000  # pairs of a neighbor that a regression reads at most, and of all items
_DECAYED = 120.0


@dataclass(frozen=True)
class CartSettings:
    """How the weights are made. ridge: 0 takes the cosine itself."""

    weighting: Weighting = UNWEIGHTED
    ridge: float = 0.0


COSINE = CartSettings()
_COUNTED = [CartSettings(Weighting(days, size)) for days in (ALL_TIME, _DECAYED) for size in (0.0, 0.5)]
_RIDGES = (20.0, 5.0, 80.0)
_USUAL = CartSettings(Weighting(_DECAYED), _RIDGES[0])


@dataclass(frozen=True)
class ChosenCart:
    """What validation chose."""

    settings: CartSettings | None  # None: popular items serve better
    facts: dict[str, Any]


def choose_cart(baskets: Baskets, *, start: int, end: int, seed: int) -> ChosenCart:
    """Choose on the baskets of [start, end), learned from those before `start` (microseconds).

    The cosine stays where nothing is better by more than chance.
    """
    counted = Counted(baskets.before(start), start)
    questions = ask(baskets.between(start, end).of_items(counted.total > 0), share=0.5, most=_QUESTIONS, seed=seed)
    if not len(questions):
        return ChosenCart(COSINE, {"method": "cosine", "validation": {"questions": 0}})
    popular = np.argsort(-counted.recent, kind="stable").astype(np.int32)

    def quality(settings: CartSettings) -> Quality:
        return judge(fill(answer(fit_cart(counted, settings), questions), popular, questions.asked), questions.wanted)

    found = _try_settings(quality) if len(questions) >= _FEW else {one: quality(one) for one in (COSINE, _USUAL)}
    best, plain = _best(found), found[COSINE]
    if not is_better(found[best], plain):
        best = COSINE
    nothing = np.full((len(questions), K), -1, np.int32)
    popularity = judge(fill(nothing, popular, questions.asked), questions.wanted)
    is_useless = is_better(popularity, found[best])
    method = "cosine" if best == COSINE else "ridge regression on neighbors" if best.ridge else "cosine, tuned"
    figures = {
        POPULARITY: popularity,
        "cosine": plain,
        method: found[best],
    }
    values = {
        "half_life_days": best.weighting.half_life_days,
        "size_exponent": best.weighting.size_exponent,
        "ridge": best.ridge,
    }
    validation = {"questions": len(questions), **{name: one.figures for name, one in figures.items()}}
    facts = {"method": POPULARITY if is_useless else method, "settings": values, "validation": validation}
    return ChosenCart(None if is_useless else best, facts)


def _try_settings(quality: Callable[[CartSettings], Quality]) -> dict[CartSettings, Quality]:
    """How settings do: the ways of counting first, then regression on what was counted in the best of them."""
    found = {settings: quality(settings) for settings in _COUNTED}
    for weighting in dict.fromkeys((_best(found).weighting, _USUAL.weighting)):
        settings = CartSettings(weighting, _RIDGES[0])
        found[settings] = quality(settings)
    for ridge in _RIDGES[1:]:
        settings = CartSettings(_best(found).weighting, ridge)
        found[settings] = quality(settings)
    return found


def _best(found: dict[CartSettings, Quality]) -> CartSettings:
    return max(found, key=lambda one: float(found[one].ndcg.sum()))


def fit_cart(counted: Counted, settings: CartSettings | None) -> Table:
    """The weights of all items: a cart's answer is the sum over its items."""
    count = counted.baskets.item_count
    active = np.flatnonzero(counted.total > 0)
    if not len(active) or settings is None:
        return empty_table(count)
    together = _together(counted, active, settings.weighting)
    own = counted.demand_in(settings.weighting)
    answers, seeds, weights = _cosines(together, own)
    if settings.ridge:
        regressed = np.argsort(-counted.total, kind="stable")[: min(len(active), _MOST_REGRESSED)]
        others = ~np.isin(answers, regressed)
        columns = _regress(together, own, np.sort(regressed), settings.ridge)
        # A regression's weights are smaller than cosines; equal lengths make them add up.
        scale = np.abs(columns[2]).mean() / max(float(weights.mean()), 1e-12) if len(columns[2]) else 1.0
        answers = np.concatenate([columns[0], answers[others]])
        seeds = np.concatenate([columns[1], seeds[others]])
        weights = np.concatenate([columns[2], weights[others] * np.float32(scale)])
    return _by_seed(seeds, answers, weights, count)


def _together(counted: Counted, active: Int64, weighting: Weighting) -> sparse.csr_array:
    """How often two items are in one basket, without the diagonal, the most frequent ones of each: sparse [I, I]."""
    owners, items, counts = list[Int64](), list[Int32](), list[Float32]()
    most = min(_ROWS_OF_NEIGHBOR, max(_KEPT // 4, _PAIRS // len(active)))
    for block in counted.blocks(active):
        pairs = counted.pairs(block, [weighting])
        best = best_of_each(pairs.offsets, pairs.counts[0], most)
        owners.append(pairs.seeds[pairs.owners[best]])
        items.append(pairs.items[best])
        counts.append(pairs.counts[0][best])
    size = counted.baskets.item_count
    parts = np.concatenate(counts), (np.concatenate(owners), np.concatenate(items))
    return sparse.csr_array(parts, shape=(size, size))


def _cosines(together: sparse.csr_array, own: Float32) -> tuple[Int64, Int64, Float32]:
    """The nearest neighbors of each item by cosine: the items (answers), their neighbors (seeds), and the cosines."""
    owners = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
    cosines = together.data / np.sqrt(own[owners] * own[together.indices])
    best = best_of_each(together.indptr.astype(np.int64), cosines, _KEPT)
    return owners[best], together.indices[best].astype(np.int64), cosines[best]


def _regress(together: sparse.csr_array, own: Float32, regressed: Int64, ridge: float) -> tuple[Int64, Int64, Float32]:
    """Weights of the nearest neighbors of each of the items `regressed` [A]: items, neighbors, weights."""
    most = max(20, min(_NEIGHBORS, _NEIGHBOR_WORK // max(1, len(regressed))))
    place = np.full(together.shape[0], -1, np.int64)
    items, neighbors, weights = list[Int64](), list[Int64](), list[Float32]()
    offsets, columns, counts = together.indptr, together.indices, together.data
    for item in regressed.tolist():
        part = slice(offsets[item], offsets[item + 1])
        cosines = counts[part] / np.sqrt(own[columns[part]])
        if not len(cosines):
            continue
        near = np.argpartition(-cosines, min(most, len(cosines)) - 1)[:most]
        rows = columns[part][near].astype(np.int64)
        place[rows] = np.arange(len(rows))
        lengths = offsets[rows + 1] - offsets[rows]
        starts = np.cumsum(lengths) - lengths
        at = np.repeat(offsets[rows] - starts, lengths) + np.arange(lengths.sum())
        second = place[columns[at]]
        inside = second >= 0
        square = np.zeros((len(rows), len(rows)))
        square[np.repeat(np.arange(len(rows)), lengths)[inside], second[inside]] = counts[at[inside]]
        square[np.arange(len(rows)), np.arange(len(rows))] = own[rows] + ridge
        weights.append(_solve(square, counts[part][near]))
        place[rows] = -1
        items.append(np.full(len(rows), item, np.int64))
        neighbors.append(rows)
    return np.concatenate(items), np.concatenate(neighbors), np.concatenate(weights)


def _solve(square: npt.NDArray[np.float64], right: Float32) -> Float32:
    # Pairs that were cut off make it less than symmetric.
    square = np.maximum(square, square.T)
    return np.linalg.solve(square, right.astype(np.float64)).astype(np.float32)


def _by_seed(seeds: Int64, answers: Int64, weights: Float32, count: int) -> Table:
    order = np.argsort(seeds, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(seeds, minlength=count))]).astype(np.int64)
    best = best_of_each(offsets, weights[order], _KEPT)
    sizes = np.minimum(np.diff(offsets), _KEPT)
    kept = order[best]
    return Table(
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), answers[kept].astype(np.int32), weights[kept]
    )


def answer(table: Table, questions: Questions) -> Int32:
    """The first ten of a table for each question: item rows [Q, 10], -1 pads."""
    lists = np.full((len(questions), K), -1, np.int32)
    for row in range(len(questions)):
        found = table.of(questions.asked.row(row))[0][:K]
        lists[row, : len(found)] = found
    return lists
