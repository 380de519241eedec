"""The rows of users, and the tombstones of deleted users."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import among, bulk_insert, check_id, upsert
from recsys.store.database import Store
from recsys.store.tables import Tables
from recsys.store.visitors import forget_visitors, lock_visitor


@dataclass(frozen=True)
class Deleted:
    """What a deletion removed from the own tables."""

    user_id: str | None  # None: a visitor who was merged with nobody
    visitor_ids: list[str]  # sorted
    events: int
    known: bool  # whether the own tables held anything of these ids


def upsert_users(store: Store, *users: pa.Table, progress: Progress | None = None) -> int:
    """Store users by user_id; return how many. Known column: email_consent (bool). Otherwise as `upsert_items`."""
    return upsert(store, store.tables.users, users, progress)


def delete_user(store: Store, user_id: str, *, now: int) -> Deleted:
    """Remove a user's row, events and audience memberships, all of that of the merged visitors, and leave tombstones.

    now: microseconds UTC. Events of the user up to `now` no longer count, wherever they are read from.
    """
    check_id("user_id", user_id)
    with store.writing() as connection:
        return _delete_user(connection, store.tables, user_id, now)


def delete_visitor(store: Store, visitor_id: str, *, now: int) -> Deleted:
    """Remove a visitor's events and leave a tombstone; of a merged visitor the user is deleted too, as `delete_user`.

    now: microseconds UTC.
    """
    check_id("visitor_id", visitor_id)
    with store.writing() as connection:
        user_id = lock_visitor(connection, store.tables, visitor_id, now)
        if user_id is not None:
            return _delete_user(connection, store.tables, user_id, now)
        events = forget_visitors(connection, store.tables, [visitor_id], now)
        return Deleted(None, [visitor_id], events, events > 0)


def _delete_user(connection: sa.Connection, tables: Tables, user_id: str, now: int) -> Deleted:
    tombstone = pa.table({"user_id": [user_id], "deleted_at": [now]})
    bulk_insert(connection, tables.deletions, tombstone, replace=False)
    older = (tables.deletions.c.user_id == user_id) & (tables.deletions.c.deleted_at < now)
    connection.execute(tables.deletions.update().where(older).values(deleted_at=now))
    mine = sa.select(tables.visitors.c.visitor_id).where(tables.visitors.c.user_id == user_id)
    visitors = sorted(connection.scalars(mine))
    removed = {
        table: connection.execute(table.delete().where(table.c.user_id == user_id)).rowcount
        for table in (tables.users, tables.audience_members, tables.events)
    }
    events = removed[tables.events] + forget_visitors(connection, tables, visitors, now)
    return Deleted(user_id, visitors, events, bool(visitors or any(removed.values())))


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
