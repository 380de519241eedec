"""The random draws behind the sample shop: products, tastes, customers, visits.

Shapes: U users, I items, K tastes, P periods of 14 days, V visits, N views. Times are days since the sample's start.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32, Int64
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.sample.words import BRANDS, SHELVES, STYLES, VARIANTS

DAYS = 364
PERIOD_DAYS = 14
LAST_VISIT = DAYS - 0.06  # an hour and a half before the end, so that a visit's events end before it

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Products:
    """The products of the shop."""

    shelf: Int64  # [I], rows of SHELVES
    brand: Int64  # [I], rows of all brands
    style: Int64  # [I], rows of STYLES
    titles: list[str]
    prices: Float64  # [I]
    appeal: Float64  # [I], long-tailed
    created_day: Float64  # [I], day of the year that the sample covers; negative: before it
    sold_out_day: Float64  # [I], DAYS + 1 for never


@dataclass(frozen=True)
class Customers:
    """The customers: their tastes, and when and how often they visit."""

    shares: Float32  # [U, K], rows sum to 1
    activity: Float64  # [U], relative number of visits
    first_day: Float64  # [U]
    last_day: Float64  # [U]


@dataclass(frozen=True)
class Views:
    """Views of items, and which of them led to a cart or a purchase."""

    visits: Int64  # [N]
    users: Int64  # [N]
    items: Int64  # [N]
    days: Float64  # [N], time in days since the start
    carted: npt.NDArray[np.bool_]  # [N]
    bought: npt.NDArray[np.bool_]  # [N]


def make_products(count: int, rng: np.random.Generator) -> Products:
    """Draw the catalog: long-tailed appeal; three in ten appear during the year, one in fourteen sells out."""
    shelf = rng.choice(len(SHELVES), count, p=rng.dirichlet(np.full(len(SHELVES), 8.0)))
    style = rng.integers(len(STYLES), size=count)
    brands = [(department, brand) for department, names in BRANDS.items() for brand in names]
    brand_price = rng.lognormal(0, 0.25, len(brands))
    by_department = {d: [row for row, (owner, _) in enumerate(brands) if owner == d] for d in BRANDS}
    brand = np.array([rng.choice(by_department[SHELVES[s].department]) for s in shelf])
    style_price = np.where(np.array([words[0] for words in STYLES])[style] == "Luxury", 1.9, 1.0)
    raw = np.array([s.price for s in SHELVES])[shelf] * brand_price[brand] * style_price * rng.lognormal(0, 0.25, count)
    created = np.where(rng.random(count) < 0.7, -rng.uniform(0, 900, count), rng.uniform(0, DAYS - 3, count))
    sold_out = np.where(rng.random(count) < 0.07, rng.uniform(60, DAYS, count), DAYS + 1)
    return Products(
        shelf=shelf,
        brand=brand,
        style=style,
        titles=_titles(shelf, [name for _, name in brands], brand, style, rng),
        prices=np.maximum(np.round(raw) - 0.05, 0.95),
        appeal=rng.lognormal(0, 1.1, count),
        created_day=created,
        sold_out_day=np.where(sold_out > created + 10, sold_out, DAYS + 1),
    )


def _titles(shelf: Int64, brands: list[str], brand: Int64, style: Int64, rng: np.random.Generator) -> list[str]:
    titles: dict[str, None] = {}
    for s, b, y in zip(shelf, brand, style, strict=True):
        words = f"{brands[b]} {rng.choice(STYLES[y])} {rng.choice(SHELVES[s].nouns)}"
        variant = int(rng.integers(len(VARIANTS)))
        title, tried = f"{words} {VARIANTS[variant]}", 0
        while title in titles:  # titles are unique: try other variants, then numbers
            tried += 1
            number = f" {tried // len(VARIANTS) + 1}" if tried >= len(VARIANTS) else ""
            title = f"{words} {VARIANTS[(variant + tried) % len(VARIANTS)]}{number}"
        titles[title] = None
    return list(titles)


def make_tastes(products: Products, tastes: int, rng: np.random.Generator) -> Float64:
    """Draw how much each taste likes each item: [K, I]. Everybody has taste 0, which likes all items alike."""
    liked = np.full((tastes, len(SHELVES)), 0.01)
    styles = np.ones((tastes, len(STYLES)))
    for taste in range(tastes):
        shelves = rng.choice(len(SHELVES), 4, replace=False)
        liked[taste, shelves] = (1.0, 0.7, 0.4, 0.2)
        styles[taste, rng.choice(len(STYLES), 2, replace=False)] = 4.0
    brands = rng.lognormal(0, 0.7, (tastes, int(products.brand.max()) + 1))
    affinity = liked[:, products.shelf] * styles[:, products.style] * brands[:, products.brand]
    affinity = affinity * rng.lognormal(0, 0.6, affinity.shape)  # noise that no catalog attribute explains
    affinity[0] = affinity.mean()
    return np.asarray(affinity * products.appeal)


def demand_by_period(products: Products, affinity: Float64, start: int) -> Float64:
    """Compute the demand of each taste in each period: [K, P, I], rows sum to 1."""
    days = np.arange(0, DAYS, PERIOD_DAYS) + PERIOD_DAYS / 2
    season = np.array([s.season or 0 for s in SHELVES])[products.shelf]
    strength = np.where(season == 0, 0.0, np.where(season == 12, 1.4, 0.9))
    start_day = start / MICROSECONDS_PER_DAY % 365.25
    months = (start_day + days) / 365.25 * 12 + 0.5  # 1970 began on January 1st: month 1 has its middle at 1.0
    waves = np.exp(strength * (np.cos((months[:, None] - season) * (2 * np.pi / 12)) - 0.3))
    ages = days[:, None] - products.created_day
    for_sale = (ages > -PERIOD_DAYS / 2) & (days[:, None] < products.sold_out_day + PERIOD_DAYS / 2)
    novelty = 1 + 1.5 * np.exp(-np.maximum(ages, 0) / 30)
    demand = affinity[:, None, :] * (waves * novelty * for_sale)
    return np.asarray(demand / demand.sum(axis=2, keepdims=True))


def make_customers(count: int, tastes: int, rng: np.random.Generator) -> Customers:
    """Draw users with one or two tastes and long-tailed activity; some join during the year and some leave."""
    weights = rng.dirichlet(np.full(tastes - 1, 4.0))
    first = rng.choice(np.arange(1, tastes), count, p=weights)
    second = rng.choice(np.arange(1, tastes), count, p=weights)
    anyone = rng.beta(2, 10, count)  # the share of taste 0
    split = np.where(rng.random(count) < 0.3, rng.uniform(0.5, 0.7, count), 0.93)  # three in ten have two tastes
    shares = np.zeros((count, tastes), np.float32)
    rows = np.arange(count)
    shares[rows, 0] = anyone
    np.add.at(shares, (rows, first), (1 - anyone) * split)
    np.add.at(shares, (rows, second), (1 - anyone) * (1 - split))
    joined = np.where(rng.random(count) < 0.55, 0.0, rng.uniform(0, DAYS - 1, count))
    left = np.where(rng.random(count) < 0.2, rng.uniform(joined, DAYS), DAYS)
    return Customers(shares, rng.lognormal(0, 0.9, count), joined, np.maximum(left, joined + 0.5))


def visit(customers: Customers, products: Products, demand: Float64, visits: int, rng: np.random.Generator) -> Views:
    """Draw visits: user, time, taste, the items viewed, and which of them are put into the cart and bought."""
    chance = customers.activity * (customers.last_day - customers.first_day)
    user = np.sort(rng.choice(len(chance), visits, p=chance / chance.sum()))
    when = rng.uniform(customers.first_day[user], customers.last_day[user])
    hour = np.clip(rng.normal(17, 4, visits), 0, 23.5) / 24
    when = np.minimum(np.floor(when) + hour, LAST_VISIT)
    reached = np.cumsum(customers.shares, axis=1)[user]
    taste = np.minimum((reached < rng.random((visits, 1)) * reached[:, -1:]).sum(axis=1), demand.shape[0] - 1)
    per_visit = 1 + rng.poisson(1.6, visits)
    visit = np.repeat(np.arange(visits), per_visit)
    items = _draw(demand, taste[visit], when[visit], rng)
    place = np.arange(len(visit)) - np.repeat(np.cumsum(per_visit) - per_visit, per_visit)
    days = when[visit] + (place * 200 + rng.uniform(20, 180, len(visit))) / 86_400  # views follow each other
    there = (days >= products.created_day[items]) & (days < products.sold_out_day[items])
    carted = rng.random(len(visit)) < 0.42
    bought = carted & (rng.random(len(visit)) < 0.65)
    owner = user[visit]
    # An item is bought at most once a visit, and only consumables are bought again in another visit.
    consumable = np.array([s.consumable for s in SHELVES])[products.shelf]
    buyer = np.where(consumable[items], visit, -1 - owner)
    bought &= _is_first(buyer, items, days, bought & there)
    return Views(visit[there], owner[there], items[there], days[there], carted[there], bought[there])


def _draw(demand: Float64, tastes: Int64, days: Float64, rng: np.random.Generator) -> Int64:
    """Draw one item for each pair of taste [N] and time [N]."""
    periods = demand.shape[1]
    group = tastes * periods + np.minimum((days // PERIOD_DAYS).astype(np.int64), periods - 1)
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(demand.shape[0] * periods + 1))
    chances = rng.random(len(group))
    items = np.empty(len(group), np.int64)
    for number, reached in enumerate(np.cumsum(demand, axis=2).reshape(-1, demand.shape[2])):
        mine = order[ends[number] : ends[number + 1]]
        items[mine] = np.searchsorted(reached, chances[mine] * reached[-1], side="right")
    return items


def _is_first(buyers: Int64, items: Int64, days: Float64, bought: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark the purchases [N] that are the buyer's first of the item."""
    order = np.lexsort((days, ~bought, items, buyers))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (buyers[order][1:] != buyers[order][:-1]) | (items[order][1:] != items[order][:-1])
    first = np.empty_like(is_first)
    first[order] = is_first
    return first


def buy_again(views: Views, products: Products, rng: np.random.Generator) -> Views:
    """Add repeat purchases: two in five purchases of consumables lead to another one about five weeks later."""
    consumable = np.array([s.consumable for s in SHELVES])[products.shelf]
    rounds = [views]
    last, next_visit = views, int(views.visits.max()) + 1
    for _ in range(6):
        again = np.flatnonzero(last.bought & consumable[last.items] & (rng.random(len(last.items)) < 0.4))
        days = last.days[again] + np.maximum(rng.normal(35, 7, len(again)), 10)
        in_time = days < np.minimum(LAST_VISIT, products.sold_out_day[last.items[again]])
        again, days = again[in_time], days[in_time]
        everything = np.ones(len(again), np.bool_)
        visits = next_visit + np.arange(len(again))
        last = Views(visits, last.users[again], last.items[again], days, everything, everything)
        next_visit += len(again)
        rounds.append(last)
    return Views(*(np.concatenate([getattr(r, name) for r in rounds]) for name in Views.__dataclass_fields__))
