"""The rows of items, and the items that changed."""

import functools
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import upsert
from recsys.store.database import Store
from recsys.store.tables import Tables

_ITEM = 3  # the kind of a row that holds an item


def upsert_items(store: Store, items: pa.Table, *, progress: Progress | None = None) -> int:
    """Store items by item_id; return how many. A missing column leaves the stored values as they are.

    Known columns: title, category, brand, image_url (string), price (float), available (bool), created_at (int64
    microseconds UTC). All others become `attributes`. The last of several rows with the same id counts.
    Raises RefusedError, with nothing written, when an id or a value cannot be stored.
    """
    return upsert(store, store.tables.items, items, progress)


@dataclass(frozen=True)
class ChangedItem:
    """An item of the own tables. None: the value is unknown."""

    item_id: str
    revision: int  # grows with every change of any item
    title: str | None
    category: str | None
    brand: str | None
    price: float | None
    available: bool | None
    image_url: str | None
    created_at: int | None
    attributes: str | None  # a JSON object


def changed_items(store: Store, revision: int, limit: int) -> list[ChangedItem]:
    """The first `limit` items that changed after `revision`, in that order."""
    items = _changed(store.tables)
    with store.reading() as connection:
        rows = connection.execute(items, {"revision": revision, "item_limit": limit}).all()
    return [_item(row) for row in rows]


def _item(row: Any) -> ChangedItem:
    _, item_id, title, category, revision, price, available, created_at, brand, image_url, attributes = row
    created_at = None if created_at is None else int(created_at)
    return ChangedItem(
        item_id, int(revision), title, category, brand, price, available, image_url, created_at, attributes
    )


@functools.lru_cache(maxsize=64)
def _changed(tables: Tables) -> Any:
    items = tables.items.c
    columns = [items.item_id, items.title, items.category, items.own_revision, items.price, items.available]
    columns += [items.created_at, items.brand, items.image_url, items.attributes]
    query = sa.select(sa.literal_column(str(_ITEM)).label("what"), *columns)
    query = query.where(items.own_revision > sa.bindparam("revision"))
    return query.order_by(items.own_revision).limit(sa.bindparam("item_limit"))
