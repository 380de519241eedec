"""The rows of users, and the tombstones of deleted users."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import MANY_IDS, among, bulk_insert, check_id, delete_some, in_full, upsert
from recsys.store.campaigns import select_exports_of
from recsys.store.database import Store
from recsys.store.tables import Tables
from recsys.store.visitors import (
    bury_stranger,
    bury_visitors_of,
    lock_users,
    lock_visitor,
    select_visitors,
)


@dataclass(frozen=True)
class Deleted:
    """What a deletion removed from the own tables."""

    user_id: str | None  # None: a visitor who was merged with nobody
    visitor_ids: list[str]  # sorted
    events: int
    known: bool  # whether the own tables held anything of these ids
    exports: tuple[int, ...] = ()  # the numbers of those that hold the user, in the register


def upsert_users(store: Store, *users: pa.Table, progress: Progress | None = None) -> int:
    """Store users by user_id; return how many. Known column: email_consent (bool). Otherwise as `upsert_items`."""
    return upsert(store, store.tables.users, users, progress)


def delete_user(store: Store, user_id: str, *, now: int) -> Deleted:
    """Remove a user's row, events, reviews and audience memberships, those of merged visitors too; leave tombstones.

    now: microseconds UTC. Events of the user up to `now` no longer count, wherever they are read from.
    """
    return _with_events(store, bury_user(store, user_id, now=now))


def delete_visitor(store: Store, visitor_id: str, *, now: int) -> Deleted:
    """Remove a visitor's events and leave a tombstone; of a merged visitor the user is deleted too, as `delete_user`.

    now: microseconds UTC.
    """
    return _with_events(store, bury_visitor(store, visitor_id, now=now))


def bury_user(store: Store, user_id: str, *, now: int) -> Deleted:
    """Do the first part of `delete_user`, all but the removal of events, which may be very many.

    From then on no answer and no training counts them.
    """
    check_id("user_id", user_id)
    return store.transact(lambda connection: _bury(connection, store.tables, user_id, now))


def bury_visitor(store: Store, visitor_id: str, *, now: int) -> Deleted:
    """Do the first part of `delete_visitor`, as `bury_user`."""
    check_id("visitor_id", visitor_id)
    tables = store.tables

    def bury(connection: sa.Connection) -> Deleted:
        user_id = select_visitors(connection, tables, [visitor_id]).merged.get(visitor_id)
        if user_id is not None:
            lock_users(connection, tables, [user_id])
        user_id = lock_visitor(connection, tables, visitor_id, now)
        if user_id is not None:  # in the rare case that the merge is this new, the user is locked only now
            return _bury(connection, tables, user_id, now)
        bury_stranger(connection, tables, visitor_id, now)
        _forget_requests(connection, tables, [visitor_id])
        return Deleted(None, [visitor_id], 0, known=False)

    return store.transact(bury)


def remove_some(store: Store, deleted: Deleted) -> int:
    """Remove events of those who were deleted; return how many. Fewer than MANY_ROWS: none is left."""
    events, visitors = store.tables.events.c, deleted.visitor_ids
    parts = [visitors[start : start + MANY_IDS] for start in range(0, len(visitors), MANY_IDS)]
    # A claim that is under way turns visits into events of the user, which come last.
    removed = sum(
        delete_some(store, store.tables.events, events.visitor_id.in_(part) & events.user_id.is_(None))
        for part in parts
    )
    if deleted.user_id is not None:
        removed += delete_some(store, store.tables.events, events.user_id == deleted.user_id)
    return removed


def _with_events(store: Store, deleted: Deleted) -> Deleted:
    events = in_full(lambda: remove_some(store, deleted))
    return replace(deleted, events=events, known=deleted.known or events > 0)


def _bury(connection: sa.Connection, tables: Tables, user_id: str, now: int) -> Deleted:
    lock_users(connection, tables, [user_id])
    tombstone = pa.table({"user_id": [user_id], "deleted_at": [now]})
    bulk_insert(connection, tables.deletions, tombstone, replace=False)
    older = (tables.deletions.c.user_id == user_id) & (tables.deletions.c.deleted_at < now)
    connection.execute(tables.deletions.update().where(older).values(deleted_at=now))
    exports = _remember_exports(connection, tables, user_id)
    visitors = bury_visitors_of(connection, tables, user_id, now)
    removed = [
        connection.execute(table.delete().where(table.c.user_id == user_id)).rowcount
        for table in (tables.users, tables.audience_members, tables.requests, tables.reviews)
    ]
    _forget_requests(connection, tables, visitors)
    return Deleted(user_id, visitors, 0, bool(visitors or any(removed) or exports), exports)


def _remember_exports(connection: sa.Connection, tables: Tables, user_id: str) -> tuple[int, ...]:
    """Find the exports that hold a user, and write them beside the tombstone: a second deletion finds no member."""
    mine = tables.deletions.c.user_id == user_id
    before = json.loads(connection.execute(sa.select(tables.deletions.c.exports).where(mine)).scalar() or "[]")
    found = tuple(sorted({*before, *(one.export_id for one in select_exports_of(connection, tables, user_id))}))
    if found:
        connection.execute(tables.deletions.update().where(mine).values(exports=json.dumps(found)))
    return found


def _forget_requests(connection: sa.Connection, tables: Tables, visitor_ids: Sequence[str]) -> None:
    """Remove what visitors asked."""
    for start in range(0, len(visitor_ids), MANY_IDS):
        mine = tables.requests.c.visitor_id.in_(visitor_ids[start : start + MANY_IDS])
        connection.execute(tables.requests.delete().where(mine))


def read_deletions(
    store: Store, user_ids: Sequence[str] | None = None, *, deleted_after: int | None = None
) -> dict[str, int]:
    """Read tombstones: user id -> deleted_at (microseconds UTC). The user's events up to then do not count.

    user_ids: those of these users only; for many ids it may return others too. deleted_after: only newer ones.
    """
    with store.reading() as connection:
        return select_deletions(connection, store.tables.deletions, user_ids, deleted_after=deleted_after)


def select_deletions(
    connection: sa.Connection, table: sa.Table, user_ids: Sequence[str] | None, *, deleted_after: int | None = None
) -> dict[str, int]:
    """Do what `read_deletions` does, within a transaction."""
    query = sa.select(table.c.user_id, table.c.deleted_at)
    if user_ids is not None:
        query = query.where(among(table.c.user_id, user_ids))
    if deleted_after is not None:
        query = query.where(table.c.deleted_at > deleted_after)
    return {user_id: int(deleted_at) for user_id, deleted_at in connection.execute(query)}
