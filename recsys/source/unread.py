"""What an import could not read: a stored value stays, and the own tables keep the text for later checks."""

import json
from typing import Any

import polars as pl
import pyarrow as pa
import sqlalchemy as sa

from recsys.store.bulk import among
from recsys.store.database import Store
from recsys.store.tables import UNREADABLE


def keep_readable(store: Store, table: sa.Table, frame: pl.DataFrame, unread: pl.DataFrame | None) -> list[pa.Table]:
    """The rows to write into `table`, in parts of different columns. frame, unread: as in `Entries`.

    Where a value could not be read, the stored one stays, but for a consent: that becomes a no. The attribute
    UNREADABLE holds such texts until an import brings a value that can be read.
    """
    key = table.primary_key.columns[0]
    marks = {} if unread is None else {row.pop(key.name): row for row in unread.to_dicts()}
    stored = _stored(store, table, key, list(marks))
    is_touched = frame[key.name].is_in([*marks, *stored])
    if not is_touched.any():
        return [frame.to_arrow()]
    known = [column.name for column in table.columns if column.name in frame.columns]
    rows = [
        _merge(row, stored.get(row[key.name], {}), marks.get(row[key.name], {}), known)
        for row in frame.filter(is_touched).to_dicts()
    ]
    schema: Any = {**{name: frame.schema[name] for name in known}, "attributes": pl.String}
    merged = pl.DataFrame(rows, schema=schema).to_arrow()
    rest = frame.filter(~is_touched)
    return [rest.to_arrow(), merged] if rest.height else [merged]


def _stored(store: Store, table: sa.Table, key: sa.Column[Any], ids: list[str]) -> dict[str, dict[str, Any]]:
    """The stored rows of the ids, and those with values that an earlier import could not read."""
    query = sa.select(table).where(sa.or_(among(key, ids), table.c.attributes.like(f'%"{UNREADABLE}"%')))
    with store.reading() as connection:
        return {row[key.name]: dict(row) for row in connection.execute(query).mappings()}


def _merge(row: dict[str, Any], stored: dict[str, Any], unread: dict[str, Any], known: list[str]) -> dict[str, Any]:
    marks = {column: text for column, text in unread.items() if text is not None}
    before = json.loads(stored.get("attributes") or "{}")
    earlier = {column: text for column, text in before.pop(UNREADABLE, {}).items() if column not in row}
    attributes = {name: value for name, value in row.items() if name not in known and value is not None}
    if len(row) == len(known):  # a file without attributes leaves them as they are
        attributes = before
    if marks or earlier:
        attributes[UNREADABLE] = earlier | marks
    merged = {name: row[name] for name in known}
    for column in marks:
        if column in known and column != "email_consent":
            merged[column] = stored.get(column)
    return merged | {"attributes": json.dumps(attributes, ensure_ascii=False, default=str) if attributes else None}
