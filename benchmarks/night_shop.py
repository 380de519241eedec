"""A shop that grows and drifts, night by night, and eighteen faults of a night; for benchmarks/nights.py.

Shapes: E events, U users, I items. Times are days since the begin until they become events.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.guards.figures import NightData
from recsys.sample import events as draw

KINDS = ("view", "cart", "purchase")
START = 20_000  # day of the begin, counted from 1970
CLOCK = 2 / 24  # a night begins at two o'clock
_WEEK = np.array([0.9, 0.85, 0.9, 0.95, 1.1, 1.25, 1.05])
_HOUR = 1 / 24

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """What the queries return on a night. A fault turns it into other rows."""

    users: npt.NDArray[np.int64]  # [E]
    items: npt.NDArray[np.int64]  # [E]
    kinds: npt.NDArray[np.int64]  # [E]
    days: Numbers  # [E], times
    user_ids: list[str]  # [U]
    item_ids: list[str]  # [I]
    titles: list[str | None]  # [L], of the listed items, which come first; so are the following
    categories: list[str]
    prices: Numbers
    available: npt.NDArray[np.bool_]
    duplicates: int = 0

    def take(self, which: Any) -> "Rows":
        """Take some of the events."""
        return replace(
            self, users=self.users[which], items=self.items[which], kinds=self.kinds[which], days=self.days[which]
        )

    def add(self, users: Numbers, items: Numbers, kinds: Numbers, days: Numbers) -> "Rows":
        """Add events."""
        return replace(
            self,
            users=np.concatenate([self.users, users]),
            items=np.concatenate([self.items, items]),
            kinds=np.concatenate([self.kinds, kinds]),
            days=np.concatenate([self.days, days]),
        )

    def listed(self, count: int) -> "Rows":
        """List only the first items."""
        return replace(
            self,
            titles=self.titles[:count],
            categories=self.categories[:count],
            prices=self.prices[:count],
            available=self.available[:count],
        )

    def data(self) -> NightData:
        """What a run would have read."""
        times = ((START + self.days) * MICROSECONDS_PER_DAY).astype(np.int64)
        missing = np.full(len(times), np.nan, np.float32)
        events = Interactions.from_rows(
            self.users.astype(np.int32),
            self.items.astype(np.int32),
            self.kinds.astype(np.int8),
            times,
            missing,
            user_count=len(self.user_ids),
            item_count=len(self.item_ids),
        )
        unlisted = [None] * (len(self.item_ids) - len(self.titles))
        columns = {
            "title": pa.array([*self.titles, *unlisted], pa.string()),
            "category": pa.array([*self.categories, *unlisted], pa.string()),
            "price": pa.array([*self.prices.tolist(), *unlisted], pa.float64()),
            "available": pa.array([*self.available.tolist(), *unlisted], pa.bool_()),
        }
        catalog = Catalog(Vocabulary.from_ids(self.item_ids), pa.table(columns), len(self.titles))
        users = Vocabulary.from_ids(self.user_ids)
        return NightData(events, events.before(0), users, catalog, KINDS, 0, self.duplicates)


class Shop:
    """364 days: growth, seasons, weekdays, noise, sales days, late rows, returns, a catalog that moves."""

    def __init__(self, seed: int, *, users: int = 3_000, items: int = 792, events: int = 350_000) -> None:
        self.random = random = np.random.default_rng(seed)
        start = START * MICROSECONDS_PER_DAY
        self.products = products = draw.make_products(items, random)
        affinity = draw.make_tastes(products, 12, random)
        customers = draw.make_customers(users, 12, random)
        demand = draw.demand_by_period(products, affinity, start)
        views = draw.visit(customers, products, demand, round(events / 4.72), random)
        views = draw.buy_again(views, products, random)
        rows = np.arange(len(views.users))
        parts = [(rows, 0, 0.0), (rows[views.carted], 1, 1 / 1440), (rows[views.bought], 2, 8 / 1440)]
        at = np.concatenate([part for part, _, _ in parts])
        self.kinds = np.concatenate([np.full(len(part), kind) for part, kind, _ in parts])
        self.days = np.concatenate([views.days[part] + delay for part, _, delay in parts])
        self.users, self.items = views.users[at], views.items[at]
        kept = random.random(len(at)) < self._share_of_day()[np.minimum(self.days.astype(np.int64), draw.DAYS - 1)]
        self.users, self.items, self.kinds, self.days = (
            column[kept] for column in (self.users, self.items, self.kinds, self.days)
        )
        late = random.random(len(self.days)) < 0.01
        self.arrives = self.days + np.where(late, random.uniform(0, 0.5, len(self.days)), 0)
        returned = (self.kinds == 2) & (random.random(len(self.days)) < 0.03)
        self.leaves = np.where(returned, self.days + random.uniform(1, 20, len(self.days)), np.inf)
        changes = np.where(random.random((draw.DAYS, items)) < 0.02, random.normal(0, 0.15, (draw.DAYS, items)), 0)
        self.prices = products.prices * np.exp(np.cumsum(changes, axis=0))
        for sale in random.integers(60, draw.DAYS, 4):
            self.prices[sale : sale + 7] *= 0.8
        self.unlisted = np.where(random.random(items) < 0.15, random.uniform(60, draw.DAYS, items), np.inf)

    def _share_of_day(self) -> Numbers:
        """Which share of the drawn events each day keeps: growth, weekdays, noise, sales and quiet days."""
        day = np.arange(draw.DAYS)
        growth = 0.2 * (1 + day / draw.DAYS)
        noise = self.random.lognormal(0, 0.12, draw.DAYS)
        special = np.where(self.random.random(draw.DAYS) < 0.02, 2.3, 1.0)
        special = np.where(self.random.random(draw.DAYS) < 0.02, 0.75, special)
        return np.asarray(np.minimum(growth * _WEEK[day % 7] * noise * special, 1.0))

    def night(self, day: int) -> Rows:
        """What the queries return at two o'clock of that day."""
        now = day + CLOCK
        here = np.flatnonzero((self.arrives < now) & (self.leaves >= now))
        listed = np.flatnonzero((self.products.created_day < now) & (self.unlisted >= now))
        others = np.setdiff1d(np.unique(self.items[here]), listed)
        rows = np.concatenate([listed, others])
        at = np.empty(len(self.products.prices), np.int64)
        at[rows] = np.arange(len(rows))
        known, users = np.unique(self.users[here], return_inverse=True)
        return Rows(
            users=users,
            items=at[self.items[here]],
            kinds=self.kinds[here],
            days=self.days[here],
            user_ids=[str(1000 + user) for user in known],
            item_ids=[f"P{row:05d}" for row in rows],
            titles=[self.products.titles[row] for row in listed],
            categories=[f"Shelf {self.products.shelf[row]}" for row in listed],
            prices=self.prices[day - 1, listed],
            available=self.products.sold_out_day[listed] > now,
        )


Fault = Callable[[Rows, float, np.random.Generator], Rows]


def _doubled(rows: Rows, now: float, random: np.random.Generator) -> Rows:
    """A past day again an hour later, the newest day again an hour later, or equal rows, which reading leaves out."""
    form = random.integers(3)
    back = random.integers(3, 50) if form == 0 else 0
    day = rows.take((rows.days >= now - back - 1) & (rows.days < now - back - 0.1))
    if form == 2:
        return replace(rows, duplicates=rows.duplicates + len(day.days))
    return rows.add(users=day.users, items=day.items, kinds=day.kinds, days=day.days + _HOUR)


def _random_events(rows: Rows, count: int, first: float, now: float, random: np.random.Generator, **set_: int) -> Rows:
    columns = {
        "users": random.integers(0, len(rows.user_ids), count),
        "items": random.integers(0, len(rows.item_ids), count),
        "kinds": random.choice(3, count, p=[0.6, 0.25, 0.15]),
    }
    columns |= {name: np.full(count, value) for name, value in set_.items()}
    return rows.add(**columns, days=random.uniform(first, now, count))


def _busy_item(rows: Rows, now: float, random: np.random.Generator) -> Rows:
    return _random_events(rows, int((rows.days > now - 7).sum()), now - 7, now, random, items=5)


def _without_users(rows: Rows, random: np.random.Generator) -> Rows:
    lost = random.random(len(rows.user_ids)) < 0.5
    left = rows.take(~lost[rows.users])
    at = np.cumsum(~lost) - 1
    ids = [user for user, gone in zip(rows.user_ids, lost, strict=True) if not gone]
    return replace(left, users=at[left.users], user_ids=ids)


FAULTS: dict[str, Fault] = {
    "everything sold out": lambda r, _n, _g: replace(r, available=np.zeros(len(r.available), np.bool_)),
    "catalog returns 30 rows": lambda r, _n, _g: r.listed(30),
    "half of all orders gone": lambda r, _n, g: r.take((r.kinds != 2) | (g.random(len(r.kinds)) < 0.5)),
    "feed stopped three weeks ago": lambda r, n, _g: r.take(r.days < n - 21),
    "a day doubled": _doubled,
    "5 % random events": lambda r, n, g: _random_events(r, len(r.days) // 20, 0, n, g),
    "one user with 60,000 events": lambda r, n, g: _random_events(r, 60_000, n - 30, n, g, users=3),
    "nothing new": lambda r, n, _g: r.take(r.days < n - 1),
    "views stopped two days ago": lambda r, n, _g: r.take((r.kinds != 0) | (r.days < n - 2)),
    "times five hours off": lambda r, _n, _g: replace(r, days=r.days - 5 * _HOUR),
    "prices in cents": lambda r, _n, _g: replace(r, prices=r.prices * 100),
    "user ids as decimals": lambda r, _n, _g: replace(r, user_ids=[f"{user}.0" for user in r.user_ids]),
    "item ids in small letters": lambda r, _n, _g: replace(r, item_ids=[item.lower() for item in r.item_ids]),
    "titles empty": lambda r, _n, _g: replace(r, titles=[None] * len(r.titles)),
    "oldest 40 % cut off": lambda r, _n, _g: r.take(r.days > np.quantile(r.days, 0.4)),
    "half of the users lost": lambda r, _n, g: _without_users(r, g),
    "one item in half of the week's events": _busy_item,
    "views and purchases swapped": lambda r, _n, _g: replace(r, kinds=2 - r.kinds),
}
EIGHT = tuple(FAULTS)[:8]
