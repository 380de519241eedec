"""The tables of the sample shop: products, customers, page views, carts, orders."""

import sqlite3
from pathlib import Path

import numpy as np

from recsys.data.arrays import Array, Int32
from recsys.sample.events import DAYS, Customers, Float64, Products, Views
from recsys.sample.words import BRANDS, COUNTRIES, SHELVES

FIRST_USER = 1001


def create_tables(path: Path) -> sqlite3.Connection:
    """Create a database with the shop's empty tables. A crash while it is filled leaves a damaged file."""
    database = sqlite3.connect(path)
    database.executescript("""
        PRAGMA journal_mode = OFF;
        PRAGMA synchronous = OFF;
        CREATE TABLE categories (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES categories, name TEXT NOT NULL);
        CREATE TABLE brands (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
        CREATE TABLE products (
            sku TEXT PRIMARY KEY, name TEXT NOT NULL, category_id INTEGER NOT NULL REFERENCES categories,
            brand_id INTEGER NOT NULL REFERENCES brands, price REAL NOT NULL, stock INTEGER NOT NULL,
            image TEXT, created TEXT NOT NULL);
        CREATE TABLE customers (
            id INTEGER PRIMARY KEY, email TEXT NOT NULL, email_consent INTEGER, country TEXT, registered TEXT NOT NULL);
        CREATE TABLE page_views (
            id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, sku TEXT NOT NULL, viewed_at TEXT NOT NULL);
        CREATE TABLE cart_events (
            id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, sku TEXT NOT NULL, added_at TEXT NOT NULL);
        CREATE TABLE orders (
            id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, placed_at TEXT NOT NULL, status TEXT NOT NULL);
        CREATE TABLE order_lines (
            order_id INTEGER NOT NULL REFERENCES orders, sku TEXT NOT NULL, quantity INTEGER NOT NULL,
            unit_price REAL NOT NULL);
    """)
    return database


def write_catalog(database: sqlite3.Connection, products: Products, skus: list[str], start: int) -> None:
    """Write categories in two levels, brands and products. start: microseconds UTC of day 0."""
    departments = list(BRANDS)
    database.executemany("INSERT INTO categories VALUES (?, NULL, ?)", enumerate(departments, 1))
    shelves = ((100 + row, departments.index(s.department) + 1, s.name) for row, s in enumerate(SHELVES))
    database.executemany("INSERT INTO categories VALUES (?, ?, ?)", shelves)
    database.executemany("INSERT INTO brands VALUES (?, ?)", enumerate(n for names in BRANDS.values() for n in names))
    stock = np.where(products.sold_out_day > DAYS, 3 + (products.appeal * 20).astype(np.int64), 0)
    rows = zip(
        skus,
        products.titles,
        (100 + products.shelf).tolist(),
        products.brand.tolist(),
        products.prices.round(2).tolist(),
        stock.tolist(),
        (f"https://shop.example/images/{sku.lower()}.jpg" for sku in skus),
        _timestamps(products.created_day, start),
        strict=True,
    )
    database.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def write_customers(database: sqlite3.Connection, customers: Customers, start: int, rng: np.random.Generator) -> None:
    """Write the customers: most consent to mail, some never answered."""
    count = len(customers.activity)
    consent = rng.choice(np.array([1, 0, None], object), count, p=[0.62, 0.35, 0.03])
    country = rng.choice([name for name, _ in COUNTRIES], count, p=[share for _, share in COUNTRIES])
    registered = customers.first_day - np.where(customers.first_day == 0, rng.uniform(1, 900, count), 0)
    ids = range(FIRST_USER, FIRST_USER + count)
    emails = (f"customer{number}@example.com" for number in ids)
    rows = zip(ids, emails, consent.tolist(), country.tolist(), _timestamps(registered, start), strict=True)
    database.executemany("INSERT INTO customers VALUES (?, ?, ?, ?, ?)", rows)


def write_events(
    database: sqlite3.Connection,
    views: Views,
    products: Products,
    skus: list[str],
    *,
    start: int,
    rng: np.random.Generator,
) -> None:
    """Write page views, carts, and an order for each visit with a purchase; one order in fifty is cancelled."""
    names = np.array(skus, object)
    users = FIRST_USER + views.users

    def write(table: str, which: Array, delay_minutes: float) -> None:
        order = which[np.argsort(views.days[which], kind="stable")]
        times = _timestamps(views.days[order] + delay_minutes / 1440, start)
        rows = zip(users[order].tolist(), names[views.items[order]].tolist(), times, strict=True)
        database.executemany(f"INSERT INTO {table} VALUES (NULL, ?, ?, ?)", rows)

    write("page_views", np.arange(len(users)), 0)
    write("cart_events", np.flatnonzero(views.carted), 1)
    _write_orders(database, views, products, names, start=start, rng=rng)


def _write_orders(
    database: sqlite3.Connection,
    views: Views,
    products: Products,
    names: Array,
    *,
    start: int,
    rng: np.random.Generator,
) -> None:
    users = FIRST_USER + views.users
    bought = np.flatnonzero(views.bought)
    bought = bought[np.argsort(views.days[bought], kind="stable")]
    # One order a visit, placed after the last item was put into the cart. Orders are numbered by time.
    visits, backwards = np.unique(views.visits[bought][::-1], return_index=True)
    closing = bought[len(bought) - 1 - backwards]
    by_time = np.argsort(views.days[closing], kind="stable")
    visits, closing = visits[by_time], closing[by_time]
    number: Int32 = np.zeros(int(views.visits.max()) + 1, np.int32)
    number[visits] = np.arange(1, len(visits) + 1)
    status = rng.choice(["paid", "cancelled"], len(visits), p=[0.98, 0.02])
    placed = _timestamps(views.days[closing] + 8 / 1440, start)
    orders = zip(number[visits].tolist(), users[closing].tolist(), placed, status.tolist(), strict=True)
    database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)
    lines = zip(
        number[views.visits[bought]].tolist(),
        names[views.items[bought]].tolist(),
        rng.choice([1, 2, 3], len(bought), p=[0.85, 0.1, 0.05]).tolist(),
        products.prices[views.items[bought]].round(2).tolist(),
        strict=True,
    )
    database.executemany("INSERT INTO order_lines VALUES (?, ?, ?, ?)", lines)


def _timestamps(days: Float64, start: int) -> list[str]:
    """Format days since the start [N] as SQLite's datetime() does, in UTC."""
    seconds = start // 1_000_000 + (days * 86_400).astype(np.int64)
    return [text.replace("T", " ") for text in np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()]
