"""What strategies measure of users, a function each: the occasion of a mailing, or a score.

A measure is -inf for the users whom the strategy does not mean. Shapes: B users, N events, I items.
"""

from dataclasses import dataclass

import numpy as np

from recsys.audience.facts import Facts
from recsys.audience.features import NEVER_DAYS, Block, Float64
from recsys.data.arrays import Bool, Int32, Int64
from recsys.related.repeats import purchases_of

_NOT_MEANT = -np.inf
_DRAWN_GAPS = 2.0  # a user's rhythm is drawn towards the usual one, as by so many gaps
_LAPSED = 2.0  # usual gaps of silence from which a customer has lapsed
_DUE = (0.8, 3.0)  # usual gaps since a purchase from which it is due, and from which it is given up
_LEAST_DROP = 0.01  # a smaller share of the price is rounding, or the rate of a currency


@dataclass(frozen=True)
class Interests:
    """The N events by which users showed an interest in a target that they have not bought since."""

    owners: Int64  # [N] places in the block
    items: Int32  # [N]
    kinds: Int64  # [N]
    ages_days: Float64  # [N]


def open_interests(block: Block, is_target: Bool) -> Interests:
    """The looks at targets, and targets put into the cart, without a later purchase of the same item."""
    histories, owners = block.histories, block.histories.users
    is_purchase = np.isin(histories.kinds, np.asarray(block.bought_codes, np.int8))
    pairs = owners * len(is_target) + histories.items
    ages = histories.ages_days.astype(np.float64)
    bought, at = np.unique(pairs[is_purchase], return_inverse=True)
    newest = np.full(len(bought) + 1, np.inf)
    np.minimum.at(newest, at, ages[is_purchase])
    place = np.searchsorted(bought, pairs)
    is_bought = np.append(bought, -1)[place] == pairs
    is_open = ~is_purchase & is_target[histories.items] & (~is_bought | (ages < newest[place]))
    return Interests(
        owners[is_open], histories.items[is_open], histories.kinds[is_open].astype(np.int64), ages[is_open]
    )


def at_all(block: Block, facts: Facts) -> Float64:
    """The probability of buying anything."""
    return facts.model.at_all.predict(block.users.design())


def abandoned(block: Block, facts: Facts) -> Float64:
    """The days since a target was last put into the cart and not bought."""
    found = open_interests(block, facts.is_target)
    chosen = np.isin(found.kinds, facts.cart_codes) & (found.ages_days <= facts.recent_days)
    return _latest(block, found.owners[chosen], found.ages_days[chosen])


def viewed(block: Block, facts: Facts) -> Float64:
    """The days since the last look at a target that was not bought."""
    found = open_interests(block, facts.is_target)
    chosen = found.ages_days <= facts.recent_days
    return _latest(block, found.owners[chosen], found.ages_days[chosen])


def cheaper(block: Block, facts: Facts) -> Float64:
    """The largest share of its price by which a target fell that the user had looked at before, and not bought."""
    found = open_interests(block, facts.is_target & (facts.drops >= _LEAST_DROP))
    before = found.ages_days >= facts.days_since_drop[found.items]
    return _largest(block, found.owners[before], facts.drops[found.items[before]])


def restocked(block: Block, facts: Facts) -> Float64:
    """The days since the last look at a target that was sold out lately, is there again and was not bought."""
    found = open_interests(block, facts.is_target & facts.is_restocked)
    return _latest(block, found.owners, found.ages_days)


def due(block: Block, facts: Facts) -> Float64:
    """For the target most due: the days since its purchase, as a share of the user's own rhythm with it.

    A rhythm of few purchases is drawn towards the item's. Who is long past it has given the item up.
    """
    histories = block.histories
    is_purchase = np.isin(histories.kinds, np.asarray(block.bought_codes, np.int8))
    purchases = purchases_of(histories.select(is_purchase & facts.is_target[histories.items]))
    span = (purchases.oldest - purchases.newest).astype(np.float64)
    gaps = (span + _DRAWN_GAPS * facts.item_gap_days[purchases.items]) / (purchases.counts - 1 + _DRAWN_GAPS)
    share = purchases.newest / np.maximum(gaps, 1.0)
    is_due = (share >= _DUE[0]) & (share <= _DUE[1])
    owners = np.repeat(np.arange(len(histories)), np.diff(purchases.offsets))
    return _largest(block, owners[is_due], share[is_due])


def lapsed(block: Block, facts: Facts) -> Float64:
    """The days since the last purchase, as a multiple of the customer's own usual gap; at least two."""
    users = block.users
    span = users.days_since_first_purchase - users.days_since_purchase
    gaps = np.maximum(users.purchase_days - 1, 0) + _DRAWN_GAPS
    silence = users.days_since_purchase / np.maximum((span + _DRAWN_GAPS * facts.usual_gap_days) / gaps, 1.0)
    return np.where((users.days_since_purchase < NEVER_DAYS) & (silence >= _LAPSED), silence, _NOT_MEANT)


def owned(block: Block, facts: Facts) -> Float64:
    """The days since the last purchase of what the members are to have bought."""
    histories = block.histories
    is_purchase = np.isin(histories.kinds, np.asarray(block.bought_codes, np.int8))
    chosen = is_purchase & facts.is_owned[histories.items]
    return _latest(block, histories.users[chosen], histories.ages_days[chosen].astype(np.float64))


def new(block: Block, facts: Facts) -> Float64:
    """The days since the first event; 0 for users without one."""
    days = facts.first_seen_days[block.rows]
    return np.where((days >= 0) & (days <= facts.recent_days), days, _NOT_MEANT)


def alike(block: Block, facts: Facts) -> Float64:
    """How like the users of the list."""
    return np.where(facts.seeds[block.rows], _NOT_MEANT, facts.likeness.measure(block))


def at_risk(block: Block, facts: Facts) -> Float64:
    """What a customer was expected to spend on the day after the last purchase, and is not expected to any more.

    Where the shop knows no values, the chance to buy stands for them.
    """
    found = facts.expected(block)
    now = np.where(np.isnan(found["value"]), found["probability"], found["value"])
    risk = found["churn_risk"]
    return _known(now * risk / np.maximum(1 - risk, 1e-9))


def value(block: Block, facts: Facts) -> Float64:
    """What a customer is expected to spend; where the shop knows no values, the chance to buy."""
    found = facts.expected(block)
    return _known(np.where(np.isnan(found["value"]), found["probability"], found["value"]))


def spend(block: Block, facts: Facts) -> Float64:
    """What a customer has spent so far."""
    return np.where(block.users.purchases > 0, facts.spend[block.rows], _NOT_MEANT)


def _known(figures: Float64) -> Float64:
    return np.where(np.isnan(figures), _NOT_MEANT, figures)


def _latest(block: Block, owners: Int64, ages_days: Float64) -> Float64:
    """The smallest age of each user's events: [B]."""
    newest = _largest(block, owners, -ages_days)
    return np.where(np.isneginf(newest), newest, -newest)


def _largest(block: Block, owners: Int64, values: Float64) -> Float64:
    largest = np.full(len(block.histories), _NOT_MEANT)
    np.maximum.at(largest, owners, values)
    return largest
