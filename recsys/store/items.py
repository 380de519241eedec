"""The rows of items, stored by id; `changes` reads which of them changed."""

from collections.abc import Sequence

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import MANY_IDS, upsert
from recsys.store.database import Store


def upsert_items(store: Store, *items: pa.Table, progress: Progress | None = None) -> int:
    """Store items by item_id, in one transaction; return how many. A missing column leaves stored values as they are.

    Known columns: title, category, brand, image_url (string), price (float), available (bool), created_at (int64
    microseconds UTC). All others become `attributes`. The last of several rows with the same id counts.
    Raises RefusedError, with nothing written, when an id or a value cannot be stored.
    """
    return upsert(store, store.tables.items, items, progress)


def stored_items(store: Store, item_ids: Sequence[str]) -> set[str]:
    """Those of the ids that the own tables hold."""
    found: set[str] = set()
    ids = store.tables.items.c.item_id
    with store.reading() as connection:
        for start in range(0, len(item_ids), MANY_IDS):
            found |= set(connection.scalars(sa.select(ids).where(ids.in_(item_ids[start : start + MANY_IDS]))))
    return found
