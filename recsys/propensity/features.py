"""Features of customers at any moment: recency, frequency, value, trend, rhythm, categories and taste.

Shapes: B customers (each with a purchase before the moment), F features, I items, C categories.
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Bool, Float64, Int64
from recsys.propensity.days import BuyingDays

LOGARITHMS = ("recency", "age", "orders", "spend", "recent_orders", "basket", "tenure")
FEATURES = (
    *LOGARITHMS,
    "usual_gap",
    "gap_spread",
    "overdue",
    "off_rhythm",
    "bought_once",
    "orders_sixth",
    "orders_third",
    "orders_two_thirds",
    "spend_third",
    "spend_window",
    "decayed_orders_sixth",
    "decayed_orders_two_thirds",
    "decayed_spend",
    "purchases",
    "items",
    "last_amount",
    "categories",
    "taste",
    "category_taste",
    "days_since_event",
    "event_days",
)
_FOREVER = -(2**20)
_DRAWN_GAPS, _GAP_VARIANCE, _USUAL_GAP_DAYS = 2.0, 0.8, 30.0  # a rhythm is drawn towards that of all, as by two gaps
_DRAWN_PURCHASES = 20.0  # an item's rate of return is drawn towards that of all


@dataclass(frozen=True)
class Usual:
    """What is usual in the shop by a moment: nothing about a person."""

    log_gap: float  # mean of log(1 + days between two purchases)
    item_return: Float64  # [I] log-odds that a buyer of the item buys again within the window, less those of all
    category_return: Float64  # [C]


def usual_before(days: BuyingDays, day: int, window: int, item_count: int, category_count: int) -> Usual:
    """Find what is usual from the purchases before a day. window: days within which a buyer returns or not."""
    gaps = days.gaps[(days.gaps > 0) & (days.days < day)]
    # The customer's next purchase counts only as far as it was known by then.
    following = np.append(np.where(days.users[1:] == days.users[:-1], days.gaps[1:], 2**20), 2**20)[: len(days.days)]
    judged = days.days + window <= day
    returned = (following <= window)[days.rows]
    judged = judged[days.rows]
    return Usual(
        log_gap=float(np.log1p(gaps).mean()) if len(gaps) else float(np.log1p(_USUAL_GAP_DAYS)),
        item_return=_log_odds(days.items[judged], returned[judged], item_count),
        category_return=_log_odds(days.categories[judged], returned[judged], category_count),
    )


def _log_odds(things: Int64, returned: Bool, count: int) -> Float64:
    known = things >= 0
    things, returned = things[known], returned[known]
    share = (returned.sum() + 1) / (len(returned) + 2)
    rates = (np.bincount(things, returned, count) + _DRAWN_PURCHASES * share) / (
        np.bincount(things, minlength=count) + _DRAWN_PURCHASES
    )
    return np.asarray(np.log(rates / (1 - rates)) - np.log(share / (1 - share)), np.float64)


def compute(days: BuyingDays, users: Int64, at: Int64, usual: Usual, window: int) -> Float64:
    """Compute the features of users [B], each at the begin of a day of its own, at [B]: float64 [B, F].

    window: the days ahead that are asked about; counts of recent days are taken over it and over parts of it.
    """
    count = len(users)
    owners, rows = days.rows_between(users, np.full(count, _FOREVER), at)
    ages = (at[owners] - days.days[rows]).astype(np.float64)
    amounts, gaps = days.amounts[rows], np.log1p(days.gaps[rows])

    def total(of: Float64 | None = None) -> Float64:
        return np.bincount(owners, of, count).astype(np.float64)

    orders, spend = total(), total(amounts)
    ends = np.cumsum(orders).astype(np.int64) - 1
    recency, age = ages[ends], ages[ends - orders.astype(np.int64) + 1]
    known_gaps = orders - 1 + _DRAWN_GAPS
    usual_gap = (total(gaps) + _DRAWN_GAPS * usual.log_gap) / known_gaps
    squares = total(gaps**2) + _DRAWN_GAPS * (_GAP_VARIANCE + usual.log_gap**2)
    overdue = np.log1p(recency) - usual_gap
    within = {share: (ages <= window * share).astype(np.float64) for share in (1 / 6, 1 / 3, 2 / 3, 1.0)}
    decay = {share: np.exp2(-ages / (window * share)) for share in (1 / 6, 2 / 3)}
    event_recency, event_days = _activity(days, users, at, window)
    columns = (
        np.log1p(recency),
        np.log1p(age),
        np.log1p(orders),
        np.log1p(spend),
        np.log1p(total(within[1.0])),
        np.log1p(spend / np.maximum(orders, 1)),
        np.log1p(age - recency),
        usual_gap,
        np.sqrt(np.maximum(squares / known_gaps - usual_gap**2, 0.0)),
        overdue,
        np.abs(overdue),
        orders == 1,
        np.log1p(total(within[1 / 6])),
        np.log1p(total(within[1 / 3])),
        np.log1p(total(within[2 / 3])),
        np.log1p(total(amounts * within[1 / 3])),
        np.log1p(total(amounts * within[1.0])),
        np.log(total(decay[1 / 6]) + 0.05),
        np.log(total(decay[2 / 3]) + 0.05),
        np.log1p(total(amounts * decay[2 / 3])),
        np.log1p(total(days.lines[rows])),
        np.log1p(total(days.new_items[rows])),
        np.log1p(amounts[ends]),
        np.log1p(total(days.new_categories[rows])),
        *_taste(days, rows[ends - orders.astype(np.int64) + 1], rows[ends], usual),
        np.log1p(event_recency),
        np.log1p(event_days),
    )
    return np.column_stack(columns).astype(np.float64)


def _taste(days: BuyingDays, first: Int64, last: Int64, usual: Usual) -> tuple[Float64, Float64]:
    """How buyers of a customer's items, and of their categories, return on average: [B], [B].

    first, last: the rows of each customer's first and last day, [B].
    """
    low, high = days.purchases_before[first], days.purchases_before[last + 1]
    return (
        _mean_of(usual.item_return, days.items, low, high),
        _mean_of(usual.category_return, days.categories, low, high),
    )


def _mean_of(rates: Float64, things: Int64, low: Int64, high: Int64) -> Float64:
    """The mean rate of the known ones among the things from low to high: [B]."""
    known = (things >= 0) & (things < len(rates))
    worth = np.append(rates, 0.0)[np.where(known, things, len(rates))]
    sums, counts = (np.append(0, np.cumsum(of)) for of in (worth, known))
    return np.asarray((sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1), np.float64)


def _activity(days: BuyingDays, users: Int64, at: Int64, window: int) -> tuple[Float64, Float64]:
    """Days since the last event of any kind, and days with one in the last third of a window: [B], [B]."""
    ends = days.activity_before(users, at)
    ages = at - days.active_days[ends - 1]
    recent = ends - days.activity_before(users, at - window // 3)
    return ages.astype(np.float64), recent.astype(np.float64)
