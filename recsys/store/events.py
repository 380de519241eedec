"""The rows of events: each is stored once, in bulk, all or none; `changes` reads which of them are new."""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.progress import Progress
from recsys.store.bulk import MANY_IDS, bulk_insert, conform
from recsys.store.database import Store
from recsys.store.users import select_deletions
from recsys.store.visitors import claim, settle_owners


def insert_events(store: Store, events: pa.Table, *, progress: Progress | None = None) -> int:
    """Store events with a new event_id, in one transaction; return how many were new.

    Required columns: event_id, kind, item_id, occurred_at, received_at (microseconds UTC), and user_id or visitor_id
    or both: these merge the visitor with the user, for good. Optional: value, request_id, quantity, price, currency,
    order_id, properties (a JSON object as text). Events of a deleted user or visitor up to the deletion are left out.
    Raises RefusedError, with nothing written, when a column is missing or unknown or an id cannot be stored.
    """
    return import_events(store, events, reduced={}, gone=(), progress=progress)[0]


def import_events(
    store: Store,
    events: pa.Table,
    *,
    reduced: Mapping[str, float],
    gone: Collection[str],
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Insert events, and correct stored ones in the same transaction; return the number inserted and corrected.

    reduced: event_id -> its new value. gone: ids of events to remove, because they were revoked.
    """
    rows = conform(events, store.tables.events)
    if pc.any(pc.and_(pc.is_null(rows["user_id"]), pc.is_null(rows["visitor_id"]))).as_py():
        raise RefusedError("events: a row has neither user_id nor visitor_id; one of them is required")
    rows = rows.sort_by("event_id")  # one order for all writers, so that two never deadlock
    with store.writing() as connection:
        users = pc.unique(rows["user_id"].drop_null()).to_pylist()
        rows = _without_deleted(rows, select_deletions(connection, store.tables.deletions, users))
        now = pc.max(rows["received_at"]).as_py()
        rows, merged = settle_owners(connection, store.tables, rows, now)
        corrected = _correct(connection, store.tables.events, {**reduced, **dict.fromkeys(gone)})
        inserted = bulk_insert(connection, store.tables.events, rows, replace=False, progress=progress)
        claim(connection, store.tables, merged, now)
        return inserted, corrected


def known_events(store: Store, event_ids: Collection[str], *, received_after: int) -> set[str]:
    """Those of the event ids that were received after a moment (microseconds UTC)."""
    events, ids, found = store.tables.events.c, sorted(event_ids), set[str]()
    with store.reading() as connection:
        for start in range(0, len(ids), MANY_IDS):
            mine = events.event_id.in_(ids[start : start + MANY_IDS]) & (events.received_at > received_after)
            found |= set(connection.scalars(sa.select(events.event_id).where(mine)))
    return found


def count_kinds(store: Store) -> dict[str, int]:
    """How many events the own tables hold of each kind."""
    events = store.tables.events.c
    with store.reading() as connection:
        rows = connection.execute(sa.select(events.kind, sa.func.count()).group_by(events.kind)).all()
    return {kind: int(count) for kind, count in rows}


def _correct(connection: sa.Connection, events: sa.Table, values: Mapping[str, float | None]) -> int:
    """Set the values of stored events, and remove those whose value is None; return how many changed."""
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
