"""The rows of items, stored by id, and the tombstones of deleted ones; `changes` reads which of them changed."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import MANY_IDS, check_id, upsert
from recsys.store.database import Store
from recsys.store.tables import UNREADABLE

_TOMBSTONE = "own_deleted_at"


def upsert_items(store: Store, *items: pa.Table, progress: Progress | None = None) -> int:
    """Store items by item_id, in one transaction; return how many. A missing column leaves stored values as they are.

    An item that was deleted is there again, with these values alone.

    Known columns: title, category, brand, image_url (string), price (float), available (bool), created_at (int64
    microseconds UTC). All others become `attributes`. The last of several rows with the same id counts.
    Raises RefusedError, with nothing written, when an id or a value cannot be stored.
    """
    return upsert(store, store.tables.items, [_with_tombstone(part, None) for part in items], progress)


def delete_item(store: Store, item_id: str, *, now: int) -> None:
    """Forget what is stored of an item and leave a tombstone. now: microseconds UTC."""
    columns = store.tables.items.columns
    nothing = {column.name: pa.nulls(1) for column in columns if not column.name.startswith("own_")}
    row = pa.table(nothing | {"item_id": pa.array([check_id("item_id", item_id)])})
    upsert(store, store.tables.items, [_with_tombstone(row, now)], None)


def stored_items(store: Store, item_ids: Sequence[str]) -> set[str]:
    """Those of the ids that the own tables hold, but for deleted ones."""
    found: set[str] = set()
    items = store.tables.items.c
    with store.reading() as connection:
        for start in range(0, len(item_ids), MANY_IDS):
            mine = items.item_id.in_(item_ids[start : start + MANY_IDS]) & items.own_deleted_at.is_(None)
            found |= set(connection.scalars(sa.select(items.item_id).where(mine)))
    return found


def add_stored_attributes(store: Store, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The items with what is stored of their attributes: a value takes the place of the stored one, null forgets it.

    items: column -> value, with item_id. Where an item says something of attributes, `attributes` are their JSON. A
    column that is given now is no longer marked as one that an import could not read; the marks of others stay.
    """
    table = store.tables.items
    ids = sorted({str(item["item_id"]) for item in items})
    stored: dict[str, dict[str, Any]] = {}
    with store.reading() as connection:
        for start in range(0, len(ids), MANY_IDS):
            mine = table.c.item_id.in_(ids[start : start + MANY_IDS]) & table.c.attributes.is_not(None)
            query = sa.select(table.c.item_id, table.c.attributes).where(mine)
            stored |= {item_id: json.loads(text) for item_id, text in connection.execute(query)}
    known = set(table.columns.keys())
    merged = [_with_attributes(item, stored, known) for item in items]
    for item in merged:  # of rows with the same id every one has what all of them say
        if "attributes" in item:
            attributes = stored[item["item_id"]]
            item["attributes"] = json.dumps(attributes, ensure_ascii=False) if attributes else None
    return merged


def _with_attributes(item: Mapping[str, Any], stored: dict[str, dict[str, Any]], known: set[str]) -> dict[str, Any]:
    """The item with a place for `attributes` where it changes them; `stored` has them afterwards."""
    before = stored.get(item["item_id"], {})
    marks = before.get(UNREADABLE, {})
    left = {column: text for column, text in marks.items() if column not in item}
    given = {name: value for name, value in item.items() if name not in known}
    if not given and left == marks:
        return dict(item)
    attributes = {name: value for name, value in (before | given).items() if value is not None and name != UNREADABLE}
    stored[item["item_id"]] = attributes | ({UNREADABLE: left} if left else {})
    return {name: value for name, value in item.items() if name in known} | {"attributes": None}


def _with_tombstone(rows: pa.Table, deleted_at: int | None) -> pa.Table:
    """The rows with that time of deletion; a column of that name that came with them is no attribute."""
    if _TOMBSTONE in rows.column_names:
        rows = rows.drop_columns([_TOMBSTONE])
    return rows.append_column(_TOMBSTONE, pa.array([deleted_at] * rows.num_rows, pa.int64()))
