"""The rows of items, stored by id; `changes` reads which of them changed."""

from collections.abc import Callable

import pyarrow as pa

from recsys.store.bulk import upsert
from recsys.store.database import Store

def upsert_items(store: Store, items: pa.Table, *, report: Callable[[str, float], None] | None = None) -> int:
    """Store items by item_id; returns how many. A column that is not there keeps what it was.

    Known columns: title, category, brand, image_url (string), price (float), available (bool), created_at (int64
    microseconds UTC). All others go into `attributes`. Of several rows with one id the last counts.
    Raises RefusedError, with nothing written, when an id or a value cannot be stored.
    """
    return upsert(store, store.tables.items, items, report)
