"""The rows of events: written in bulk, once, all or nothing; `changes` reads which of them are new."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.store.bulk import MANY_IDS, bulk_insert, conform
from recsys.store.database import Store
from recsys.store.users import deletions_in


def insert_events(store: Store, events: pa.Table, *, report: Callable[[str, float], None] | None = None) -> int:
    """Store events whose event_id is not there yet, in one transaction; returns how many were new.

    Columns: event_id, kind, item_id, occurred_at, received_at (microseconds UTC), user_id or visitor_id or both;
    may be there: value, request_id. Events of a deleted user up to the deletion are left out.
    Raises RefusedError, with nothing written, when a column is missing or unknown or an id cannot be stored.
    """
    return import_events(store, events, reduced={}, gone=(), report=report)[0]


def import_events(
    store: Store,
    events: pa.Table,
    *,
    reduced: Mapping[str, float],
    gone: Collection[str],
    report: Callable[[str, float], None] | None = None,
) -> tuple[int, int]:
    """insert_events, and in the same transaction corrections of events that are there; how many of each.

    reduced: event_id -> the value that it has from now on. gone: ids of events that never were.
    """
    rows = conform(events, store.tables.events)
    if pc.any(pc.and_(pc.is_null(rows["user_id"]), pc.is_null(rows["visitor_id"]))).as_py():
        raise RefusedError("events: a row has neither user_id nor visitor_id; one of them is required")
    rows = rows.sort_by("event_id")  # in one order, so that two writers never wait for each other in a circle
    with store.writing() as connection:
        users = pc.unique(rows["user_id"].drop_null()).to_pylist()
        rows = _without_deleted(rows, deletions_in(connection, store.tables.deletions, users))
        corrected = _correct(connection, store.tables.events, {**reduced, **dict.fromkeys(gone)})
        return bulk_insert(connection, store.tables.events, rows, replace=False, report=report), corrected


def count_rows(store: Store) -> dict[str, int]:
    """How many items, users and events there are."""
    tables = (("items", store.tables.items), ("users", store.tables.users), ("events", store.tables.events))
    with store.reading() as connection:
        return {
            name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for name, table in tables
        }


def _correct(connection: sa.Connection, events: sa.Table, values: Mapping[str, float | None]) -> int:
    """Set the values of events that are there, and remove those whose value is None; how many were another way."""
    ids, changed = sorted(values), 0
    for start in range(0, len(ids), MANY_IDS):
        mine = events.c.event_id.in_(ids[start : start + MANY_IDS])
        for event_id, value in connection.execute(sa.select(events.c.event_id, events.c.value).where(mine)).all():
            this, new = events.c.event_id == event_id, values[event_id]
            if new is None:
                connection.execute(events.delete().where(this))
            elif new != value:
                connection.execute(events.update().where(this).values(value=new))
            else:
                continue
            changed += 1
    return changed


def _without_deleted(events: pa.Table, deleted: dict[str, int]) -> pa.Table:
    if not deleted:
        return events
    at = pc.index_in(events["user_id"], pa.array(deleted.keys(), pa.string()))
    gone_until = pc.fill_null(pc.take(pa.array(deleted.values(), pa.int64()), at), np.iinfo(np.int64).min)
    return events.filter(pc.greater(events["occurred_at"], gone_until))
