"""The placements of the shop's pages that are changed while the service runs: what they are, and who changed them when.

Every change is a row that stays. The last one of a name counts; without a definition the placement is deleted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recsys.errors import NotFoundError
from recsys.store.database import Store, read_clock


@dataclass(frozen=True)
class PlacementChange:
    """A row: what a placement became. Times are microseconds UTC."""

    change_id: int
    name: str
    definition: dict[str, Any] | None  # None: it was deleted
    changed_at: int  # by the database's clock
    changed_by: str  # the key, or who else


def put_placement(store: Store, name: str, definition: Mapping[str, Any], *, by: str) -> bool:
    """Store what a placement is from now on. Returns False, with nothing written, when it is that already."""
    return store.transact(lambda connection: _change(store, connection, name, dict(definition), by))


def delete_placement(store: Store, name: str, *, by: str) -> None:
    """Delete a placement; its history stays. Raises NotFoundError when the own tables hold none of that name."""

    def delete(connection: sa.Connection) -> bool:
        return _latest(store, connection, name) is not None and _change(store, connection, name, None, by)

    if not store.transact(delete):
        raise NotFoundError(f"there is no stored placement {name!r}")


def list_placements(store: Store) -> dict[str, PlacementChange]:
    """The placements that there are, by name: the last change of each."""
    rows = store.tables.placements
    last = sa.select(sa.func.max(rows.c.change_id)).group_by(rows.c.name)
    query = sa.select(rows).where(rows.c.change_id.in_(last), rows.c.definition.is_not(None)).order_by(rows.c.name)
    with store.reading() as connection:
        return {row["name"]: _read(row) for row in connection.execute(query).mappings()}


def placement_history(store: Store, name: str, *, limit: int = 100) -> list[PlacementChange]:
    """The changes of a placement, the latest first."""
    rows = store.tables.placements
    query = sa.select(rows).where(rows.c.name == name).order_by(rows.c.change_id.desc()).limit(limit)
    with store.reading() as connection:
        return [_read(row) for row in connection.execute(query).mappings()]


def _change(store: Store, connection: sa.Connection, name: str, definition: dict[str, Any] | None, by: str) -> bool:
    if _latest(store, connection, name) == definition:
        return False
    text = None if definition is None else json.dumps(definition, ensure_ascii=False, sort_keys=True)
    row = {"name": name, "definition": text, "changed_at": read_clock(connection), "changed_by": by}
    connection.execute(store.tables.placements.insert().values(row))
    return True


def _latest(store: Store, connection: sa.Connection, name: str) -> dict[str, Any] | None:
    rows = store.tables.placements
    query = sa.select(rows.c.definition).where(rows.c.name == name).order_by(rows.c.change_id.desc()).limit(1)
    text = connection.execute(query).scalar()
    found: dict[str, Any] | None = None if text is None else json.loads(text)
    return found


def _read(row: Any) -> PlacementChange:
    definition = None if row["definition"] is None else json.loads(row["definition"])
    return PlacementChange(**{**row, "definition": definition})
