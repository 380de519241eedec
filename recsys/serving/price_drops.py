"""What has become cheaper: the prices of earlier trainings, and those that were posted since.

Shapes: N items whose price changed within a window, M among them that became cheaper, J fresh items.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from recsys.data.arrays import Int32, Int64
from recsys.data.prices import Float64, PriceChanges
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.serving.asked import Asked
from recsys.serving.recommender import Hits

PRICE_DROP_DAYS = 30
MIN_DROP = 0.01  # a smaller share is rounding, or the rate of a currency


class Changed(NamedTuple):
    """Items whose price changed, by row."""

    rows: Int32  # [N], ascending
    former: Float64  # [N] the price before the first change in the window
    current: Float64  # [N] the price after the last one
    times: Int64  # [N] when that was (microseconds UTC)


class Drops(NamedTuple):
    """Items that are cheaper than when the window began, the largest drop first."""

    rows: Int32  # [M] as they are answered
    shares: Float64  # [M] of the former price
    former: Float64
    current: Float64
    times: Int64


def price_drops(asked: Asked, depth: int) -> Hits:
    """The items that lost the largest share of their price within the window; the share is the score."""
    drops = _drops(asked)
    return asked.first(drops.rows, drops.shares, depth)


def dropped_rows(asked: Asked) -> Int32:
    """All items that are cheaper than when the window began."""
    return _drops(asked).rows


def drop_of(asked: Asked, row: int) -> dict[str, Any]:
    """The former and the current price of a row that was listed, and when the price changed last."""
    drops = _drops(asked)
    at = int(np.flatnonzero(drops.rows == row)[0])
    prices = {"former_price": float(drops.former[at]), "price": float(drops.current[at])}
    return {"price_drop": prices | {"changed_at": rfc3339(int(drops.times[at]))}}


def _drops(asked: Asked) -> Drops:
    return asked.once("price_drops", lambda: _find_drops(asked))


def _find_drops(asked: Asked) -> Drops:
    changes, view = asked.snapshot.bundle.prices, asked.snapshot.view
    if changes is None:
        nothing = np.zeros(0)
        return Drops(nothing.astype(np.int32), nothing, nothing, nothing, nothing.astype(np.int64))
    # To the day, so that many questions share one result.
    start = asked.as_of // MICROSECONDS_PER_DAY - (asked.window_days or PRICE_DROP_DAYS)
    newest = int(changes.times.max(initial=-1))
    changed = _changed(changes, start * MICROSECONDS_PER_DAY, min(asked.as_of, newest))
    if view.fresh is not None:
        changed = _with_posted(asked, changed)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = 1 - changed.current / changed.former
    kept = np.flatnonzero((shares >= MIN_DROP) & (changed.current >= 0))
    kept = kept[np.argsort(-shares[kept], kind="stable")]
    rows = view.current_row(changed.rows[kept])
    return Drops(rows, shares[kept], changed.former[kept], changed.current[kept], changed.times[kept])


@lru_cache(maxsize=4)
def _changed(changes: PriceChanges, after: int, until: int) -> Changed:
    """The items with changes later than `after`, up to `until` (microseconds UTC)."""
    inside = (changes.times > after) & (changes.times <= until)
    rows, first = np.unique(changes.rows[inside], return_index=True)
    last = np.append(first[1:], np.count_nonzero(inside)) - 1 if len(first) else first
    former, current, times = changes.former[inside], changes.current[inside], changes.times[inside]
    return Changed(rows.astype(np.int32), former[first], current[last], times[last])


def _with_posted(asked: Asked, changed: Changed) -> Changed:
    """The same with the prices that were posted by the moment of the question for items that the bundle knows."""
    fresh, catalog = asked.snapshot.view.fresh, asked.snapshot.bundle.catalog
    assert fresh is not None  # the caller has looked
    posted = np.array([item.revision for item in fresh.items.values()], np.int64)
    counts = np.flatnonzero((fresh.replaces >= 0) & (posted <= asked.as_of))
    rows, price, trained = fresh.replaces[counts], fresh.bundle.catalog.prices[counts], catalog.prices
    counts, rows, price = (values[price != trained[rows]] for values in (counts, rows, price))
    at = np.minimum(np.searchsorted(changed.rows, rows), max(0, len(changed.rows) - 1))
    is_known = changed.rows[at] == rows if len(changed.rows) else np.zeros(len(rows), np.bool_)
    former = trained[rows]
    former[is_known] = changed.former[at[is_known]]
    stays = ~np.isin(changed.rows, rows)
    columns = (
        np.concatenate([changed.rows[stays], rows]),
        np.concatenate([changed.former[stays], former]),
        np.concatenate([changed.current[stays], price]),
        np.concatenate([changed.times[stays], posted[counts]]),
    )
    order = np.argsort(columns[0], kind="stable")
    return Changed(*(column[order] for column in columns))
