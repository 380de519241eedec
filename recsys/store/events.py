"""The rows of events: each is stored once, in bulk, all or none; read by user and visitor."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.progress import Progress
from recsys.store.bulk import MANY_IDS, among, bulk_insert, conform
from recsys.store.database import Store
from recsys.store.tables import MAX_ID_LENGTH
from recsys.store.users import select_deletions


@dataclass(frozen=True)
class NewEvents:
    """What the own tables know beyond the extract: n events and the tombstones, in no particular order."""

    owners: list[str]  # [n] the user id, or the visitor id of an event without user
    visitors: list[bool]  # [n] whether the owner is a visitor
    items: list[str]  # [n]
    kinds: list[str]  # [n]
    times: list[int]  # [n] microseconds UTC
    deleted: dict[str, int]  # user id -> deleted_at; no event up to then counts


def insert_events(store: Store, events: pa.Table, *, progress: Progress | None = None) -> int:
    """Store events with a new event_id, in one transaction; return how many were new.

    Required columns: event_id, kind, item_id, occurred_at, received_at (microseconds UTC), and user_id or visitor_id
    or both. Optional: value, request_id. Events of a deleted user up to the deletion are left out.
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
        corrected = _correct(connection, store.tables.events, {**reduced, **dict.fromkeys(gone)})
        return bulk_insert(connection, store.tables.events, rows, replace=False, progress=progress), corrected


def new_events(
    store: Store, user_ids: Sequence[str], visitor_ids: Sequence[str], *, received_after: int, occurred_before: int
) -> NewEvents:
    """In one query: these users' events received after the extract's watermark, these visitors' events, tombstones.

    Of visitors all events count, as the extract holds none of theirs; an event with a user belongs to the user
    alone. For many ids it returns everybody's.
    """
    events, deletions = store.tables.events, store.tables.deletions
    before = events.c.occurred_at < occurred_before
    columns = (events.c.item_id, events.c.kind, events.c.occurred_at)
    nothing = sa.cast(sa.null(), sa.String(MAX_ID_LENGTH))
    parts = [
        sa.select(sa.literal(0).label("what"), events.c.user_id.label("owner"), *columns)
        .where(before, events.c.received_at > received_after)
        .where(among(events.c.user_id, user_ids)),
        sa.select(sa.literal(2), deletions.c.user_id, nothing, nothing, deletions.c.deleted_at).where(
            among(deletions.c.user_id, user_ids)
        ),
    ]
    if visitor_ids:
        mine = sa.select(sa.literal(1), events.c.visitor_id, *columns).where(before, events.c.user_id.is_(None))
        parts.append(mine.where(among(events.c.visitor_id, visitor_ids)))
    with store.reading() as connection:
        rows = connection.execute(sa.union_all(*parts)).all()
    found = [row for row in rows if row[0] != 2]
    return NewEvents(
        owners=[row[1] for row in found],
        visitors=[row[0] == 1 for row in found],
        items=[row[2] for row in found],
        kinds=[row[3] for row in found],
        times=[int(row[4]) for row in found],
        deleted={row[1]: int(row[4]) for row in rows if row[0] == 2},
    )


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
