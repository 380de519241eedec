"""Rankings that are the same for everybody: popular, trending, sold most, new. Each as of any moment.

They come from the demand by day of the bundle. Trending and bestsellers count what was posted since, too.
Shapes: I items of the bundle, N rows of a ranking, P events that were posted.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from recsys.config.settings import Config
from recsys.data.arrays import Int32, Int64
from recsys.data.demand import Demand, Float64
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.serving.asked import Asked, Scores, hits_of, join, no_hits
from recsys.serving.posted import Posted
from recsys.serving.recommender import Hits

_BEFORE = 4  # windows before the one asked about that tell what is usual

Weights = tuple[float, ...]  # of an event, by kind code


class Way(NamedTuple):
    """How counted events rank items: as one of the boxes trending, bestsellers and popular does."""

    name: str
    days: int  # the window; popular has none

    def __str__(self) -> str:
        return self.name if self.name == "popular" else f"{self.name} of {self.days} days"


WAYS = {"trending": Way("trending", 7), "bestsellers": Way("bestsellers", 28)}  # where training has chosen none
CHOSEN = "boxes"  # the place in a manifest of those that it has chosen: way, window_days


class Ranking(NamedTuple):
    """Rows, best first, and what they are ranked by."""

    rows: Int32  # [N]
    scores: Scores  # [N]


class Counted(NamedTuple):
    """What the bundle counted in a window, and the ranking by it."""

    inside: Scores  # [I] weighted events in the window
    usual: Scores  # [I] and in one of the windows before it; 0 where the way does not compare
    ranking: Ranking


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
    return _by_count(asked, "bestsellers", depth)


def trending(asked: Asked, depth: int) -> Hits:
    """The items whose demand in the window exceeds most what was usual for them in the windows before it.

    Counted are events of all kinds, by their weights. An item is ranked by how unlikely the rise is by chance: with n
    in the window and b in a usual one, (n - b) / sqrt(b + 1), the z-score of a Poisson count with one event added.
    Items whose demand did not rise are left out.
    """
    return _by_count(asked, "trending", depth)


def _by_count(asked: Asked, box: str, depth: int) -> Hits:
    """What a box lists, in the way that training has chosen for it."""
    bundle, posted = asked.snapshot.bundle, asked.snapshot.posted
    if bundle.demand is None:
        return no_hits()
    way = chosen_way(bundle.manifest.get(CHOSEN, {}), box)
    if asked.window_days is not None:
        way = way._replace(days=asked.window_days)
    weights = way_weights(way, asked.config, bundle.kinds, bundle.demand)
    stop, count = bundle.demand.days_before(asked.as_of), len(bundle.catalog)
    if posted is None or not len(posted.rows):
        return asked.first(*counted(bundle.demand, way, stop, weights, count).ranking, depth)
    before = None if asked.as_of >= posted.until else asked.as_of
    return asked.first(*_with_posted(bundle.demand, posted, way, stop, weights, count, before), depth)


def chosen_way(chosen: Mapping[str, Mapping[str, Any]], box: str) -> Way:
    """The way of a box. chosen: by box what training has chosen."""
    facts = chosen.get(box)
    return WAYS[box] if facts is None else Way(str(facts["way"]), int(facts["window_days"]))


def way_weights(way: Way, config: Config, kinds: Sequence[str], demand: Demand | None) -> Weights:
    """What an event counts in a way, by kind code.

    For trending its weight; else 1 for the kinds that models predict, or for all where nobody did any of these, as the
    popularity model counts.
    """
    if way.name == "trending":
        return tuple(config.events.weights.get(kind, 0.0) for kind in kinds)
    codes = [code for code, kind in enumerate(kinds) if kind in config.evaluation.targets]
    if demand is not None and not _has_any(demand, tuple(codes)):
        codes = list(range(len(kinds)))
    return tuple(float(code in codes) for code in range(len(kinds)))


def target_weights(asked: Asked) -> Weights:
    """What an event counts as demand, by kind code."""
    bundle = asked.snapshot.bundle
    return way_weights(WAYS["bestsellers"], asked.config, bundle.kinds, bundle.demand)


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
def counted(demand: Demand, way: Way, stop: int, weights: Weights, item_count: int) -> Counted:
    """Count and rank the events of a bundle before the day `stop`. item_count: I."""
    usual: Scores = np.broadcast_to(np.float32(0), item_count)
    if way.name == "popular":
        inside = demand.decayed(stop, weights, item_count)
    else:
        inside = demand.between(stop - way.days, stop, weights, item_count)
    if way.name == "trending" and (windows := _usual_windows(demand, way, stop)) > 0:
        first = stop - way.days - _BEFORE * way.days
        usual = (demand.between(first, stop - way.days, weights, item_count) / windows).astype(np.float32)
    return Counted(inside.astype(np.float32), usual, _positive(_rise(inside, usual)))


def _usual_windows(demand: Demand, way: Way, stop: int) -> float:
    """How many of the windows before the one that ends with the day `stop` the demand covers."""
    start = stop - way.days
    return (start - max(demand.first_day, start - _BEFORE * way.days)) / way.days


def _rise(inside: Scores, usual: Scores) -> Scores:
    """See `trending`; where nothing is usual it is the count itself."""
    return np.asarray((inside - usual) / np.sqrt(usual + 1))


@lru_cache(maxsize=4)
def _with_posted(
    demand: Demand, posted: Posted, way: Way, stop: int, weights: Weights, item_count: int, before: int | None
) -> Ranking:
    """The ranking with what was posted, up to a moment if there is one: only the items that it names change places.

    The window ends with the newest event that counts, where that is later than the day `stop`.
    """
    factors = np.append(weights, 0.0)[posted.kinds]  # an unknown kind has the code -1
    counts = (factors != 0) & (posted.rows >= 0)
    if before is not None:
        counts &= posted.times < before
    if not counts.any():
        return counted(demand, way, stop, weights, item_count).ranking
    rows, factors, days = posted.rows[counts], factors[counts], posted.times[counts] // MICROSECONDS_PER_DAY
    stop = max(stop, int(days.max()) + 1)
    known = counted(demand, way, stop, weights, item_count)
    moved = np.flatnonzero(np.bincount(rows)).astype(np.int32)
    trained = moved[moved < item_count]  # the others came after training, and their rows are behind these
    inside, usual = np.zeros(len(moved)), np.zeros(len(moved))
    inside[: len(trained)], usual[: len(trained)] = known.inside[trained], known.usual[trained]
    in_window, before_it = _shares(demand, way, stop, days)
    inside += np.bincount(rows, factors * in_window)[moved]
    usual += np.bincount(rows, factors * before_it)[moved]
    return _moved(known.ranking, moved, _rise(inside, usual), item_count)


def _shares(demand: Demand, way: Way, stop: int, days: Int64) -> tuple[Float64, Float64]:
    """How much events of these days [P] count in the window, and in a usual one before it: float64 [P] each."""
    if way.name == "popular":
        return np.exp2(-(stop - 0.5 - days) / demand.half_life_days), np.zeros(len(days))
    start, windows = stop - way.days, _usual_windows(demand, way, stop)
    usual = np.zeros(len(days))
    if way.name == "trending" and windows > 0:
        usual = ((days < start) & (days >= start - _BEFORE * way.days)) / windows
    return (days >= start).astype(np.float64), usual


def _moved(ranking: Ranking, rows: Int32, scores: Scores, item_count: int) -> Ranking:
    """The ranking with other scores for some rows; of equals these come first."""
    is_moved = np.zeros(item_count, np.bool_)
    is_moved[rows[rows < item_count]] = True
    stays = ~is_moved[ranking.rows]
    held = Ranking(ranking.rows[stays], ranking.scores[stays])
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    at = np.searchsorted(-held.scores, -scores[order])
    return Ranking(
        np.insert(held.rows, at, rows[order]), np.insert(held.scores, at, scores[order].astype(held.scores.dtype))
    )


def _positive(scores: Scores) -> Ranking:
    """The rows with a score above 0, highest first, ties by row."""
    rows = np.flatnonzero(scores > 0)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    return Ranking(rows.astype(np.int32), scores[rows].astype(np.float32))
