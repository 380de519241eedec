"""Generate a shop of any size, day by day, so that memory grows with its users and not with its events.

Demand is long-tailed (Zipf) within each of K tastes; a user has three of them. One event in four is of an item next to
the user's last item of an earlier day, so that order carries information.

Shapes: U users, I items, N events of a day.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.arrays import Int64

DAYS = 365
START = 1_700_000_000 // 86_400 * 86_400  # unix seconds of the first midnight
USER_EVENTS, ITEM_EVENTS = 20, 100  # events for each user and for each item
_TASTES, _OWN = 400, 3
_ZIPF = 0.9  # the item of rank r is asked for r^-0.9 as often as the first
_KINDS, _SHARES = ("view", "cart", "purchase"), (0.8, 0.12, 0.08)
_FOLLOWING, _ANYTHING = 0.25, 0.15  # shares of events about the next item, and about any taste's


@dataclass
class _State:
    """What has to be remembered from day to day."""

    activity: np.ndarray  # float64 [U], cumulated
    tastes: Int64  # [U, 3]
    last: Int64  # [U], the item of the user's last event before the day
    demand: np.ndarray  # float64 [items of a taste], cumulated
    place: Int64  # [items of a taste]: of each rank, so that neighbours are not of about the same demand


def days(events: int, seed: int) -> Iterator[tuple[Int64, Int64, np.ndarray, Int64]]:
    """Users, items, kinds and unix seconds [N] of one day after the other, in order of time."""
    random = np.random.default_rng(seed)
    state = _start(events, random)
    counts = np.diff(np.linspace(0, events, DAYS + 1).astype(np.int64))
    for day, count in enumerate(counts.tolist()):
        seconds = START + day * 86_400 + np.sort(random.integers(0, 86_400, count))
        users = np.searchsorted(state.activity, random.random(count) * state.activity[-1])
        yield users, _items(users, state, random), random.choice(_KINDS, count, p=_SHARES), seconds


def _start(events: int, random: np.random.Generator) -> _State:
    users, each = events // USER_EVENTS, _items_of_a_taste(events)
    return _State(
        np.cumsum(random.lognormal(0, 1, users)),
        random.integers(0, _TASTES, (users, _OWN)),
        random.integers(0, each * _TASTES, users),
        np.cumsum(np.arange(1, each + 1) ** -_ZIPF),
        random.permutation(each),
    )


def _items_of_a_taste(events: int) -> int:
    return max(2, events // ITEM_EVENTS // _TASTES)


def _items(users: Int64, state: _State, random: np.random.Generator) -> Int64:
    count, each = len(users), len(state.place)
    taste = state.tastes[users, random.choice(_OWN, count, p=(0.6, 0.3, 0.1))]
    taste = np.where(random.random(count) < _ANYTHING, random.integers(0, _TASTES, count), taste)
    ranks = np.searchsorted(state.demand, random.random(count) * state.demand[-1])
    drawn = taste * each + state.place[ranks]
    before = state.last[users]
    following = before // each * each + (before + 1) % each
    items = np.where(random.random(count) < _FOLLOWING, following, drawn)
    state.last[users] = items
    return np.asarray(items, np.int64)


def write(path: Path, events: int, *, seed: int) -> None:
    """Fill a new SQLite file with `events` and `items`, the tables that QUERIES read."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as database:
        database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE items (item_id INTEGER PRIMARY KEY, title TEXT, category TEXT);"
            "CREATE TABLE events (user_id INTEGER, item_id INTEGER, event TEXT, timestamp INTEGER);"
        )
        each = _items_of_a_taste(events)
        products = ((item, f"Product {item}", f"Taste {item // each}") for item in range(each * _TASTES))
        database.executemany("INSERT INTO items VALUES (?, ?, ?)", products)
        for columns in days(events, seed):
            rows = zip(*(column.tolist() for column in columns), strict=True)
            database.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        database.commit()
    unfinished.rename(path)


QUERIES = {
    "interactions": "SELECT user_id, item_id, event, timestamp FROM events",
    "items": "SELECT item_id, title, category FROM items",
}
