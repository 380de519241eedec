"""Rankings that are the same for everybody: popular, trending, sold most, new. Each as of any moment.

They come from the demand by day of the bundle, so events since the last training move none of them.
Shapes: I items of the bundle, N rows of a ranking.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from recsys.data.arrays import Int32, Int64
from recsys.data.demand import Demand
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.serving.asked import Asked, Scores, hits_of, join, no_hits
from recsys.serving.recommender import Hits

TRENDING_DAYS = 7
BESTSELLER_DAYS = 28
_BEFORE = 4  # windows before the one asked about that tell what is usual

Weights = tuple[float, ...]  # of an event, by kind code


class Ranking(NamedTuple):
    """Rows of the bundle, best first, and what they are ranked by."""

    rows: Int32  # [N]
    scores: Scores  # [N]


def popular(asked: Asked, depth: int) -> Hits:
    """The items most in demand of late: as of the last training, or of an earlier moment when that is asked for.

    Items that came after training are the last, by row.
    """
    bundle, demand = asked.snapshot.bundle, asked.snapshot.bundle.demand
    if demand is None or asked.as_of >= demand.until:
        found, places = asked.places(bundle.most_popular, depth)
        scores: Scores = bundle.popularity[bundle.most_popular[places]]
    else:
        stop = demand.days_before(asked.as_of)
        ranking = _popularity(demand, stop, target_weights(asked), len(bundle.catalog))
        found, places = asked.places(ranking.rows, depth)
        scores = ranking.scores[places]
    first = hits_of(found, scores)
    if len(found) == depth or asked.snapshot.view.fresh is None:
        return first
    new = np.fromiter(asked.snapshot.view.fresh.new_rows.values(), np.int32)
    return join([first, asked.first(new, np.zeros(len(new)), depth - len(found))])


def bestsellers(asked: Asked, depth: int) -> Hits:
    """The items bought most often in the window, of late by default; ties by row."""
    demand = asked.snapshot.bundle.demand
    if demand is None:
        return no_hits()
    stop = demand.days_before(asked.as_of)
    days = asked.window_days or BESTSELLER_DAYS
    ranking = _sold(demand, stop - days, stop, target_weights(asked), len(asked.snapshot.bundle.catalog))
    return asked.first(*ranking, depth)


def trending(asked: Asked, depth: int) -> Hits:
    """The items whose demand in the window exceeds most what was usual for them in the windows before it.

    Counted are events of all kinds, by their weights. An item is ranked by how unlikely the rise is by chance: with n
    in the window and b in a usual one, (n - b) / sqrt(b + 1), the z-score of a Poisson count with one event added.
    Items whose demand did not rise are left out.
    """
    demand = asked.snapshot.bundle.demand
    if demand is None:
        return no_hits()
    stop = demand.days_before(asked.as_of)
    days = asked.window_days or TRENDING_DAYS
    named = asked.config.events.weights
    weights = tuple(named.get(kind, 0.0) for kind in asked.snapshot.bundle.kinds)
    ranking = _rising(demand, stop - days, stop, weights, len(asked.snapshot.bundle.catalog))
    return asked.first(*ranking, depth)


def new_arrivals(asked: Asked, depth: int) -> Hits:
    """The items that came last, the newest first, their scores minus their ages in days."""
    rows, times = _arrived(asked)
    found, places = asked.places(rows, depth)
    return hits_of(found, (times[places] - asked.as_of) / MICROSECONDS_PER_DAY)


def arrived_rows(asked: Asked) -> Int32:
    """The items that came by the moment of the question and, where a window is asked for, within it."""
    return _arrived(asked)[0]


def _arrived(asked: Asked) -> tuple[Int32, Int64]:
    rows, times = asked.snapshot.view.arrivals
    ascending = times[::-1]
    start, stop = len(times) - int(np.searchsorted(ascending, asked.as_of, side="right")), len(times)
    if asked.window_days is not None:
        stop -= int(np.searchsorted(ascending, asked.as_of - asked.window_days * MICROSECONDS_PER_DAY))
    return rows[start:stop], times[start:stop]


def target_weights(asked: Asked) -> Weights:
    """1 for the kinds that models predict; where nobody did any of these, for all, as the popularity model counts."""
    bundle = asked.snapshot.bundle
    codes = bundle.codes_of(asked.config.evaluation.targets)
    demand = bundle.demand
    if demand is not None and not _has_any(demand, tuple(codes)):
        codes = list(range(len(bundle.kinds)))
    return tuple(float(code in codes) for code in range(len(bundle.kinds)))


@lru_cache(maxsize=2)
def _has_any(demand: Demand, codes: tuple[int, ...]) -> bool:
    counts = np.diff(demand.offsets)
    return bool(counts[np.isin(np.arange(len(counts)) % demand.kind_count, codes)].any())


# The rankings that were asked for last: one for all who ask for the same window. Of a million items each has 12 MB.


@lru_cache(maxsize=4)
def _popularity(demand: Demand, stop: int, weights: Weights, item_count: int) -> Ranking:
    scores = demand.decayed(stop, weights, item_count)
    rows = np.argsort(-scores, kind="stable")
    return Ranking(rows.astype(np.int32), scores[rows].astype(np.float32))


@lru_cache(maxsize=4)
def _sold(demand: Demand, start: int, stop: int, weights: Weights, item_count: int) -> Ranking:
    return _positive(demand.between(start, stop, weights, item_count))


@lru_cache(maxsize=4)
def _rising(demand: Demand, start: int, stop: int, weights: Weights, item_count: int) -> Ranking:
    first = max(demand.first_day, start - _BEFORE * (stop - start))
    windows = (start - first) / (stop - start)
    usual = np.zeros(item_count)
    if windows > 0:
        usual = demand.between(first, start, weights, item_count) / windows
    return _positive((demand.between(start, stop, weights, item_count) - usual) / np.sqrt(usual + 1))


def _positive(scores: Scores) -> Ranking:
    """The rows with a score above 0, highest first, ties by row."""
    rows = np.flatnonzero(scores > 0)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    return Ranking(rows.astype(np.int32), scores[rows].astype(np.float32))
