"""One shop's story, told to every shop system: who bought what, and all that looks like a sale and is none."""

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from recsys.store.database import database_url

TASTES, PER_TASTE, BUYERS, PURCHASES, DAYS = 5, 12, 80, 9, 200
BUNDLE, HIDDEN, DRAFT, SOLD_OUT, GONE, OTHER_DRAFT = 101, 102, 103, 104, 105, 106  # numbers of products
VARIANTS = 1000  # product 7 has the variants 1007 and 2007
GUEST, SAME_GUEST, DELETED, BLOCKED = 201, 202, 203, 204  # numbers of buyers


@dataclass(frozen=True)
class Product:
    number: int
    title: str
    foreign_title: str  # in a language that nobody asked for
    price: float
    stock: int = 5
    is_draft: bool = False
    is_hidden: bool = False

    @property
    def variants(self) -> tuple[int, int]:
        return VARIANTS + self.number, 2 * VARIANTS + self.number


@dataclass(frozen=True)
class Buyer:
    number: int
    email: str
    consent: bool = True
    is_guest: bool = False
    is_deleted: bool = False


@dataclass(frozen=True)
class Line:
    product: int
    quantity: int = 1
    returned: int = 0
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Order:
    number: int
    buyer: Buyer
    time: datetime  # whole seconds, UTC
    lines: tuple[Line, ...]
    state: str = "complete"  # or "cancelled", "failed", "draft": no sales

    @property
    def returned_at(self) -> datetime:
        return self.time + timedelta(days=3)


@dataclass(frozen=True)
class Story:
    products: Mapping[int, Product]
    buyers: Mapping[int, Buyer]
    orders: tuple[Order, ...]
    gone: int = GONE  # a product that was bought and has no row any more
    tastes: int = field(default=TASTES)

    def lines(self) -> Iterable[tuple[int, Order, Line]]:
        """Every line with a number of its own."""
        return ((order.number * 10 + at, order, line) for order in self.orders for at, line in enumerate(order.lines))

    def sold(self) -> list[tuple[Buyer, int, datetime]]:
        """What a shop has sold: buyer, product and time of each line that counts, in that order."""
        return [
            (order.buyer, line.product, order.time)
            for order in self.orders
            if order.state == "complete" and not order.buyer.is_deleted
            for line in order.lines
            if line.returned < line.quantity
        ]

    def offered(self) -> dict[int, Product]:
        return {n: p for n, p in self.products.items() if not p.is_draft and not p.is_hidden}


def told() -> Story:
    """The story: 80 buyers with one taste each, and one order of every kind that a query may get wrong."""
    rng = random.Random(11)
    products = {
        number: Product(number, f"Lampe {number} & Schirm", f"Lamp {number}", 10.0 + number)
        for number in range(1, TASTES * PER_TASTE + 1)
    }
    products[BUNDLE] = Product(BUNDLE, "Paket", "Bundle", 50.0)
    products[HIDDEN] = Product(HIDDEN, "Verborgen", "Hidden", 50.0, is_hidden=True)
    products[DRAFT] = Product(DRAFT, "Entwurf", "Draft", 50.0, is_draft=True)
    products[OTHER_DRAFT] = Product(OTHER_DRAFT, "Noch ein Entwurf", "Draft", 50.0, is_draft=True)
    products[SOLD_OUT] = Product(SOLD_OUT, "Ausverkauft", "Sold out", 50.0, stock=0)
    buyers = {n: Buyer(n, f"buyer{n}@example.org", consent=n % 2 == 0) for n in range(1, BUYERS + 1)}
    buyers[GUEST] = Buyer(GUEST, "Guest@Example.org ", is_guest=True)
    buyers[SAME_GUEST] = Buyer(SAME_GUEST, "guest@example.org", is_guest=True)
    buyers[DELETED] = Buyer(DELETED, "deleted@example.org", is_deleted=True)
    buyers[BLOCKED] = Buyer(BLOCKED, "blocked@example.org", is_deleted=True)  # deleted, but in another way
    start = datetime.now(UTC).replace(hour=1, minute=30, second=0, microsecond=0) - timedelta(days=DAYS + 2)

    def at(day: float) -> datetime:
        return start + timedelta(seconds=round(day * 86_400))

    bought: list[tuple[Buyer, datetime, tuple[Line, ...], str]] = []
    for number in range(1, BUYERS + 1):
        taste = number % TASTES
        for item in rng.sample(range(PER_TASTE), PURCHASES):
            line = Line(1 + taste * PER_TASTE + item, quantity=rng.choice((1, 1, 2)))
            bought.append((buyers[number], at(rng.uniform(0, DAYS)), (line,), "complete"))
    first, second = buyers[1], buyers[2]
    bought += [
        (first, at(100), (Line(BUNDLE, parts=(3, 4, 5)), Line(SOLD_OUT, quantity=3, returned=1)), "complete"),
        (first, at(101), (Line(60, quantity=2, returned=2),), "complete"),
        (second, at(102), (Line(GONE), Line(HIDDEN)), "complete"),
        (second, at(103), (Line(60),), "cancelled"),
        (second, at(104), (Line(59),), "failed"),
        (second, at(105), (Line(58),), "draft"),
        (buyers[GUEST], at(106), (Line(60),), "complete"),
        (buyers[SAME_GUEST], at(107), (Line(59),), "complete"),
        (buyers[DELETED], at(108), (Line(58),), "complete"),
    ]
    return Story(products, buyers, tuple(Order(n, *rest) for n, rest in enumerate(bought, 1)))


def guest_id(email: str) -> str:
    return f"guest-{hashlib.sha256(email.strip().lower().encode()).hexdigest()}"


def number_of_user(story: Story, number: int) -> str:
    """The id of a buyer where a shop counts its customers: a guest's is made of the address."""
    buyer = story.buyers[number]
    return guest_id(buyer.email) if buyer.is_guest else str(number)


def number_of_product(number: int) -> str:
    """The id of a product where a shop counts its products."""
    return str(number)


def fill(url: str, tables: str, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Make the tables and put rows into them."""
    engine = sa.create_engine(database_url(url))
    quote = engine.dialect.identifier_preparer.quote
    with engine.begin() as connection:
        if engine.dialect.name == "mysql":  # a TIMESTAMP is told in the zone of the session
            connection.exec_driver_sql("SET time_zone = '+00:00'")
        for statement in filter(str.strip, tables.split(";")):
            connection.exec_driver_sql(statement)
        for table, given in rows.items():
            for row in (given := list(given)):
                assert row.keys() == given[0].keys(), f"rows of {table} differ"
            if given:
                columns = ", ".join(map(quote, given[0]))
                marks = ", ".join(f":{column}" for column in given[0])
                connection.execute(sa.text(f"INSERT INTO {quote(table)} ({columns}) VALUES ({marks})"), given)
    engine.dispose()
