"""A sample shop in a SQLite file, with tables as a real shop has them, and the truth behind its events.

Each customer has a mixture of tastes. Each taste has a demand for every product, which follows season, novelty and
stock. The items of a visit are drawn from one of the customer's tastes; some are put into the cart, and some of those
are bought. So the purchase probabilities that a model has to find are known: see `Truth`.

Shapes: U users, I items, K tastes, B users asked for.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.progress import Progress
from recsys.sample import events as draw
from recsys.sample import tables

END = 1_782_864_000_000_000  # 2026-07-01 00:00 UTC: the default end of the sample's year
EVENTS_PER_VISIT = 4.72  # measured mean of views, carts, purchases and repeat purchases


@dataclass(frozen=True)
class Truth:
    """The distribution that the events were drawn from: an oracle that a model beats only by luck."""

    user_ids: list[str]  # U
    item_ids: list[str]  # I
    shares: Float32  # [U, K]: how much of a user's demand comes from each taste; rows sum to 1
    demand: Float32  # [K, I]: what a taste buys during the last 28 days; rows sum to 1

    def scores(self, users: npt.NDArray[np.integer]) -> Float32:
        """Compute the purchase probabilities of user rows [B] over the last 28 days: float32 [B, I], rows sum to 1.

        Repeat purchases of consumables are not included.
        """
        return np.asarray(self.shares[users] @ self.demand)


def generate(
    path: Path,
    *,
    users: int = 20_000,
    items: int = 3_000,
    events: int = 500_000,
    seed: int = 0,
    now: int = END,
    progress: Progress,
) -> Truth:
    """Write the shop to a new SQLite file and return the truth. The number of events is within about 10 % of `events`.

    now: microseconds UTC at which the year of events ends. Raises FileExistsError when the file exists already.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; the sample shop is only written to a new file")
    rng = np.random.default_rng(seed)
    start = now - draw.DAYS * MICROSECONDS_PER_DAY
    progress("products and customers", 0.0)
    products = draw.make_products(items, rng)
    tastes = int(np.clip(np.sqrt(users) / 2.5, 6, 64))
    affinity = draw.make_tastes(products, tastes, rng)
    demand = draw.demand_by_period(products, affinity, start)
    customers = draw.make_customers(users, tastes, rng)
    progress("visits", 0.2)
    views = draw.visit(customers, products, demand, round(events / EVENTS_PER_VISIT), rng)
    views = draw.buy_again(views, products, rng)
    progress("writing the database", 0.5)
    skus = [f"P{row:05d}" for row in range(items)]
    with closing(tables.create_tables(path)) as database:
        tables.write_catalog(database, products, skus, start)
        tables.write_customers(database, customers, start, rng)
        progress("writing the database", 0.7)
        tables.write_events(database, views, products, skus, start=start, rng=rng)
        database.commit()
    progress("writing the database", 1.0)
    latest = demand[:, -2:].mean(axis=1) * (products.sold_out_day > draw.DAYS)
    return Truth(
        user_ids=[str(tables.FIRST_USER + row) for row in range(users)],
        item_ids=skus,
        shares=customers.shares,
        demand=(latest / latest.sum(axis=1, keepdims=True)).astype(np.float32),
    )


def sample_config(
    *, source_url: str = "sqlite:///shop.db", store_url: str = "sqlite:///recsys.db", folder: str = "recsys-data"
) -> str:
    """Write a recsys.toml that reads the sample shop. Relative SQLite files lie beside the configuration."""
    return f'''# The sample shop: how its own tables become events, items and users.

[store]
url = "{store_url}"

[storage]
path = "{folder}"

[source]
url = "{source_url}"
timezone = "UTC"
interactions = """
SELECT customer_id AS user_id, sku AS item_id, 'view' AS event, viewed_at AS timestamp, NULL AS value FROM page_views
UNION ALL
SELECT customer_id, sku, 'cart', added_at, NULL FROM cart_events
UNION ALL
SELECT orders.customer_id, order_lines.sku, 'order', orders.placed_at, order_lines.quantity * order_lines.unit_price
FROM orders JOIN order_lines ON order_lines.order_id = orders.id
WHERE orders.status <> 'cancelled'
"""
items = """
SELECT products.sku AS item_id, products.name AS title, departments.name || ' > ' || categories.name AS category,
       brands.name AS brand, products.price, products.stock > 0 AS available, products.image AS image_url,
       products.created AS created_at
FROM products
JOIN categories ON categories.id = products.category_id
JOIN categories AS departments ON departments.id = categories.parent_id
JOIN brands ON brands.id = products.brand_id
"""
users = "SELECT id AS user_id, email_consent, country FROM customers"

[events.aliases]
order = "purchase"
'''
