"""How trending and bestsellers rank, chosen by what the weeks of validation brought.

Each way is asked at the beginning of each week, as of then, and its list is compared with what happened in the week.
Shapes: I items, W weeks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.data.demand import Demand, Float64
from recsys.serving.popular import WAYS, Way, Weights, counted, way_weights
from recsys.training.metrics import K

WEEK = 7
WEEKS = 12  # the moments at which a box is asked that is the same for everybody
_BEFORE = 4  # weeks that tell what is usual in one
_SALES_DAYS = (28, 7, 14, 56, 91)
_TREND_DAYS = (7, 3, 14, 28)
_POPULAR = Way("popular", 0)

Gains = Callable[[Demand, int, Weights, int], Float64]  # demand, first day of a week, weights, I -> [I]


@dataclass(frozen=True)
class Choice:
    """What a box is chosen from."""

    own: tuple[Way, ...]  # windows of the box; the first one is taken where nothing tells them apart
    plain: tuple[Way, ...]  # the plain ways of its kind, which it has to beat
    gains: Gains  # what an item was worth in a week


def sales(demand: Demand, day: int, weights: Weights, item_count: int) -> Float64:
    """How often each item is bought in the week that begins with a day: float64 [I]. item_count: I."""
    return demand.between(day, day + WEEK, weights, item_count)


def rises(demand: Demand, day: int, weights: Weights, item_count: int) -> Float64:
    """By how much the demand for each item in the week exceeds that of a usual week of the four before: float64 [I]."""
    usual = demand.between(day - _BEFORE * WEEK, day, weights, item_count) / _BEFORE
    return demand.between(day, day + WEEK, weights, item_count) - usual


_SALES = tuple(Way("bestsellers", days) for days in _SALES_DAYS)
CHOICES = {
    "bestsellers": Choice(_SALES, (_POPULAR,), sales),
    "trending": Choice(tuple(Way("trending", days) for days in _TREND_DAYS), (*_SALES, _POPULAR), rises),
}


def weeks_before(demand: Demand, end_day: int) -> Iterator[int]:
    """The first days of the last weeks that end with a day (days since 1970), the latest first; at most WEEKS."""
    for week in range(1, WEEKS + 1):
        if (day := end_day - week * WEEK) <= demand.first_day:
            return
        yield day


def choose_ways(config: Config, kinds: Sequence[str], demand: Demand, item_count: int, end_day: int) -> dict[str, Any]:
    """For each box the way that ranked best in the weeks before a day: facts for the manifest and the ledger.

    A box that does not beat the plain ways of its kind gets the best of these. Without a week nothing is chosen.
    """
    return {
        box: facts
        for box, choice in CHOICES.items()
        if (facts := _choose(box, choice, config, kinds, demand, item_count, end_day))
    }


def _choose(
    box: str, choice: Choice, config: Config, kinds: Sequence[str], demand: Demand, item_count: int, end_day: int
) -> dict[str, Any]:
    wanted = way_weights(WAYS[box], config, kinds, demand)
    found: dict[Way, list[float]] = {way: [] for way in (*choice.own, *choice.plain)}
    for day in weeks_before(demand, end_day):
        gains = np.maximum(choice.gains(demand, day, wanted, item_count), 0)
        if not gains.any():
            continue
        for way, each in found.items():
            ranked = counted(demand, way, day, way_weights(way, config, kinds, demand), item_count).ranking
            each.append(_ndcg(ranked.rows[:K], gains))
    means = {way: float(np.mean(each)) for way, each in found.items() if each}
    if not means:
        return {}
    own, plain = (max(ways, key=lambda way: means[way]) for ways in (choice.own, choice.plain))
    best = own if means[own] > means[plain] else plain
    ndcg = {str(way): round(mean, 4) for way, mean in means.items()}
    return {"way": best.name, "window_days": best.days, "weeks": len(found[best]), f"ndcg@{K}": ndcg}


def told(box: str, facts: dict[str, Any]) -> str:
    """A sentence about what was chosen, and the best of the others: of the plain ways, or the box's own."""
    best, ndcg = str(Way(facts["way"], facts["window_days"])), facts[f"ndcg@{K}"]
    others = [name for name in ndcg if name.startswith(box) != (facts["way"] == box)]
    other = max(others, key=lambda name: ndcg[name])
    found = f"NDCG@{K} {ndcg[best]:.3f} in the {facts['weeks']} weeks before, {other} {ndcg[other]:.3f}"
    return f"{box} ranks as {best}: {found}"


def _ndcg(rows: Int32, gains: Float64) -> float:
    """NDCG of at most K rows, best first. gains: of each item [I], none below 0."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    best = -np.sort(-gains[gains > 0])[:K]
    return float((gains[rows] * discounts[: len(rows)]).sum() / (best * discounts[: len(best)]).sum())
