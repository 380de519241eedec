"""Small shops with known answers, for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.bundle import versions
from recsys.bundle.bundle import Bundle, assemble, save
from recsys.config.settings import IndexSettings
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories, Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Part, Vectors, WeightedSum

KINDS = ("view", "cart", "purchase")
VIEW, CART, PURCHASE = range(3)
DAY = MICROSECONDS_PER_DAY
FACTS = {"config_hash": "0123abcd", "configuration": {"training": {"seed": 0}}, "metrics": {"ndcg@20": 0.3}}
# The settings of `mf` where what is proved does not depend on the best ones; the number of factors is the test's.
PLAIN_MF = """
item_exponents = [0.4]
user_exponents = [0.5]
popularity_exponents = [0.2]
recency_half_life_days = [20]
recency_exponents = [0.3]
singular_exponents = [0.25]
kind_exponents = [1]
"""


def quiet(step: str, share: float) -> None:
    """Report nothing, but see that what is told is a share."""
    assert 0 <= share <= 1, step


def events(rows: Sequence[tuple[int, int, int, float]], *, users: int, items: int) -> Interactions:
    """Interactions from (user, item, kind, day)."""
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    return Interactions.from_rows(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.int8),
        np.array([round(day * DAY) for day in columns[3]], np.int64),
        np.full(len(columns[0]), np.nan, np.float32),
        user_count=users,
        item_count=items,
    )


def histories(*users: Sequence[tuple[int, int]]) -> Histories:
    """Histories of (item, kind) of each user, all of today."""
    offsets = np.concatenate([[0], np.cumsum([len(events) for events in users])]).astype(np.int64)
    pairs = [pair for events in users for pair in events]
    return Histories(
        offsets,
        np.array([item for item, _ in pairs], np.int32),
        np.array([kind for _, kind in pairs], np.int8),
        np.zeros(len(pairs), np.float32),
    )


def catalog(count: int, **columns: Any) -> Catalog:
    """A catalog of items i0, i1, …"""
    return Catalog(
        Vocabulary.from_ids(f"i{row}" for row in range(count)),
        pa.table({"title": [f"Item {row}" for row in range(count)], **columns}),
    )


def vectors(item_vectors: Any, history_vectors: Any = None, model: str = "mf") -> Vectors:
    """One part whose user vector is the sum of the history's vectors, divided by the root of their number."""
    item_vectors = np.asarray(item_vectors, np.float32)
    history_vectors = item_vectors if history_vectors is None else np.asarray(history_vectors, np.float32)
    part = Part(history_vectors, WeightedSum((1.0, 1.0, 1.0), 36500.0))
    return Vectors(model, item_vectors, (part,), None, {"rank": item_vectors.shape[1]})


def bundle(item_vectors: Any, popularity: Any = None, history_vectors: Any = None, **columns: Any) -> Bundle:
    """A bundle in memory; without `popularity` item 0 is the most popular, item 1 the next, and so on."""
    found = vectors(item_vectors, history_vectors)
    count = len(found.item_vectors)
    popularity = np.arange(count, 0, -1) if popularity is None else np.asarray(popularity)
    return assemble(
        found, catalog(count, **columns), popularity.astype(np.float32), kinds=KINDS, index_settings=IndexSettings()
    )


def saved(folder: Path, count: int = 1, *, publish: bool = True) -> list[str]:
    """So many versions of a small bundle, each published after it was saved, oldest first."""
    names = []
    for _ in range(count):
        names.append(save(bundle(np.eye(6)), folder, facts=FACTS))
        if publish:
            versions.publish(folder, names[-1])
    return names
