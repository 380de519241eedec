"""Small extracts with known events, for tests of what reads them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.data.catalog import Catalog
from recsys.data.extract import Extract, open_extract, publish, write
from recsys.data.interactions import Interactions
from recsys.data.vocabulary import Vocabulary

KINDS = ("view", "cart", "purchase")
WATERMARK = 1000


@dataclass(frozen=True)
class Read:
    users: Vocabulary
    catalog: Catalog
    events: Interactions
    kinds: tuple[str, ...] = KINDS
    watermark: int = WATERMARK


def read(rows, *, users=("ann", "bob", "idle"), items=("apple", "pear", "plum")) -> Read:
    """rows: (user, item, kind, time)"""
    user_ids, item_ids = Vocabulary.from_ids(users), Vocabulary.from_ids(items)
    events = Interactions.from_rows(
        user_ids.rows_of([row[0] for row in rows]),
        item_ids.rows_of([row[1] for row in rows]),
        np.array([KINDS.index(row[2]) for row in rows], np.int8),
        np.array([row[3] for row in rows], np.int64),
        np.full(len(rows), np.nan, np.float32),
        user_count=len(user_ids),
        item_count=len(item_ids),
    )
    return Read(user_ids, Catalog(item_ids, pa.table({})), events)


ROWS = [
    ("bob", "plum", "purchase", 300),
    ("ann", "pear", "cart", 200),
    ("ann", "apple", "view", 100),
    ("ann", "apple", "purchase", 400),
]


def extracted(folder, loaded: Read) -> Extract:
    publish(folder, write(folder, loaded))
    return open_extract(folder)
