"""A shop whose baskets follow a rule: things of one set of five are bought together, one set a basket."""

import numpy as np
import tiny
from tiny import DAY

from recsys.data.interactions import Interactions
from recsys.related.training import RelatedData

SETS, SET_SIZE, USERS, DAYS = 8, 5, 60, 120
ITEMS = SETS * SET_SIZE
BEST_SELLER = 0  # in every third basket of any set


def shop(*, baskets: int = 900, seed: int = 0) -> RelatedData:
    """Orders of three items of one set, each looked at before. Items of one set share a category."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(baskets):
        chosen = random.integers(SETS)
        items = {chosen * SET_SIZE + item for item in random.choice(SET_SIZE, 3, replace=False).tolist()}
        items |= {BEST_SELLER} if random.random() < 1 / 3 else set()
        user, day = int(random.integers(USERS)), number * DAYS / baskets
        rows += [(user, item, tiny.PURCHASE, day) for item in items]
        rows += [(user, item, tiny.VIEW, day - 0.01) for item in items]
    catalog = tiny.catalog(ITEMS, category=[f"Set {item // SET_SIZE}" for item in range(ITEMS)])
    return RelatedData(tiny.events(rows, users=USERS, items=ITEMS), catalog, [tiny.PURCHASE], seed)


def nothing(items: int = ITEMS) -> RelatedData:
    """A shop in which nobody did anything."""
    return RelatedData(tiny.events([], users=0, items=items), tiny.catalog(items), [tiny.PURCHASE], 0)


def orders_of(events: Interactions) -> Interactions:
    """The same events, each with the hour of its time as the number of its order."""
    return Interactions(
        events.offsets,
        events.items,
        events.kinds,
        events.times,
        events.values,
        events.item_count,
        events.times // (DAY // 24),
    )
