"""A small shop in memory with everything that a box may read, and a way to ask it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tiny
from tiny import DAY, KINDS

from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.catalog import Catalog, ChangedItem
from recsys.data.demand import count_events
from recsys.data.extract import Extract
from recsys.data.interactions import Interactions
from recsys.data.prices import PriceChanges
from recsys.data.vocabulary import Vocabulary
from recsys.related import training
from recsys.related.buy_again import ChosenRepeats
from recsys.related.cart import COSINE, ChosenCart
from recsys.related.tables import Related
from recsys.related.together import RAW, Chosen
from recsys.related.training import Choices, RelatedData
from recsys.serving import answer as engine
from recsys.serving import snapshot as snapshots
from recsys.serving.answer import Answer, Query
from recsys.serving.snapshot import Snapshot
from recsys.store.changes import Changes, NewEvents

ITEMS, USERS, DAYS = 60, 25, 100
HALF_LIFE = 7.0
CATEGORIES = ("Food", "Food > Coffee", "Toys", None)


def drawn_events(seed: int = 1, count: int = 900) -> Interactions:
    """Events of random users, items, kinds and times on the days 1 to 100 since 1970; the last item has none."""
    random = np.random.default_rng(seed)
    items = np.minimum(random.geometric(0.06, count) - 1, ITEMS - 2)
    rows = zip(
        random.integers(USERS, size=count).tolist(),
        items.tolist(),
        random.choice(3, count, p=[0.6, 0.15, 0.25]).tolist(),
        random.uniform(1, DAYS, count).tolist(),
        strict=True,
    )
    return tiny.events(list(rows), users=USERS, items=ITEMS)


def bundle_of(events: Interactions, **columns: Any) -> Bundle:
    """A bundle that learned from the events: random vectors, popularity and demand as training counts them."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(ITEMS, 6)) * (np.arange(ITEMS) % 11 > 0)[:, None]  # some items have no vector
    columns = {
        "category": [CATEGORIES[row % 4] for row in range(ITEMS)],
        "price": [float(row) for row in range(ITEMS)],
        "available": [row % 7 != 3 for row in range(ITEMS)],
        "created_at": [None if row % 5 == 0 else (row * 37 % 90) * DAY for row in range(ITEMS)],
    } | columns
    demand = count_events(events, kind_count=3, half_life_days=HALF_LIFE)
    popularity = np.zeros(ITEMS) if demand is None else demand.decayed(demand.end_day, (0, 0, 1), ITEMS)
    bundle = tiny.bundle(vectors, popularity, **columns)
    looks = random.normal(size=(ITEMS, 4)).astype(np.float32) * (np.arange(ITEMS) % 9 > 0)[:, None]  # some lack one
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-9)
    related = related_of(events, bundle.catalog)
    return replace(bundle, demand=demand, prices=prices_until(DAYS), related=related, looks=looks)


def related_of(events: Interactions, catalog: Catalog) -> Related:
    """What belongs together, counted plainly: what one user did within ten days is one basket."""
    orders = replace(events, orders=events.times // (10 * DAY))
    counted = Chosen(RAW, False, {"method": "co-occurrence"})
    choices = Choices(
        bought_together=counted,
        viewed_together=counted,
        cart=ChosenCart(COSINE, {"method": "cosine"}),
        buy_again=ChosenRepeats(240.0, 0.5, False, {"method": "decayed frequency times popularity"}),
        window=10 * DAY,
    )
    data = RelatedData(orders, catalog, [tiny.PURCHASE], seed=0)
    return training.fit(data, choices, now=int(events.times.max(initial=0)) + 1)


def prices_until(day: float) -> PriceChanges:
    """Changes of prices of every third item on two days each, up to a day; the last prices are those of the catalog."""
    random = np.random.default_rng(4)
    rows = np.repeat(np.arange(0, ITEMS, 3), 2).astype(np.int32)
    times = np.sort(random.uniform(1, DAYS, (len(rows) // 2, 2)), axis=1).ravel() * DAY
    prices = rows[::2, None] + random.uniform(-2, 8, (len(rows) // 2, 3)).round(2)
    prices[:, 2] = rows[::2]
    former, current = prices[:, :2].ravel(), prices[:, 1:].ravel()
    kept = times <= day * DAY
    return PriceChanges(rows[kept], times[kept].astype(np.int64), former[kept], current[kept])


@dataclass
class Shop:
    """A snapshot, and the events that were posted since."""

    snapshot: Snapshot
    posted: NewEvents
    config: Config

    def ask(self, box: str, **query: Any) -> Answer:
        """The answer of a box."""
        return self.answer(Query(box=box, **query))

    def answer(self, query: Query) -> Answer:
        """As the service does: the newest events are read, and then nobody is asked any more."""
        context = engine.gather_context(
            self.config,
            self.snapshot,
            query,
            now=(DAYS + 1) * DAY,
            read=lambda _: Changes(self.posted, []),
            grow=lambda snapshot, _: snapshot,
        )
        return engine.answer(self.config, context, query)


def shop_of(
    events: Interactions,
    *,
    bundle: Bundle | None = None,
    changed: Sequence[ChangedItem] = (),
    posted: Sequence[tuple[str, bool, str, str, float]] = (),
    config: Config | None = None,
) -> Shop:
    """The shop of users u0, u1, … and items i0, i1, …

    posted: (user or visitor, whether it is a visitor, item, kind, day).
    """
    config, bundle = config or Config(), bundle or bundle_of(events)
    users = Vocabulary.from_ids(f"u{row}" for row in range(USERS))
    extract = Extract(users, bundle.catalog.ids, events, KINDS, watermark=0, as_of=DAYS * DAY)
    snapshot = snapshots.load(
        config, lambda after: [c for c in changed if c.revision > after], bundle=bundle, extract=extract
    )
    columns = [list(column) for column in zip(*posted, strict=True)] or [[], [], [], [], []]
    times = [round(day * DAY) for day in columns[4]]
    return Shop(snapshot, NewEvents(columns[0], columns[1], columns[2], columns[3], times, {}), config)


def changed_item(item_id: str, day: float, **values: Any) -> ChangedItem:
    """An item that was posted on a day."""
    names = ("title", "category", "brand", "price", "available", "image_url", "created_at", "attributes")
    return ChangedItem(item_id=item_id, revision=round(day * DAY), **(dict.fromkeys(names) | values))


def ids(found: Answer) -> list[str]:
    """The items of an answer."""
    return [hit["item_id"] for hit in found.hits]


def reasons(found: Answer) -> list[str]:
    """Where they come from."""
    return [hit["reason"] for hit in found.hits]


def codes(found: Answer) -> list[str]:
    """The codes of its warnings."""
    return [warning["code"] for warning in found.warnings]
