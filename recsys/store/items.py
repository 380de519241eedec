"""The rows of items, stored by id; `changes` reads which of them changed."""

import pyarrow as pa

from recsys.progress import Progress
from recsys.store.bulk import upsert
from recsys.store.database import Store


def upsert_items(store: Store, *items: pa.Table, progress: Progress | None = None) -> int:
    """Store items by item_id, in one transaction; return how many. A missing column leaves stored values as they are.

    Known columns: title, category, brand, image_url (string), price (float), available (bool), created_at (int64
    microseconds UTC). All others become `attributes`. The last of several rows with the same id counts.
    Raises RefusedError, with nothing written, when an id or a value cannot be stored.
    """
    return upsert(store, store.tables.items, items, progress)
