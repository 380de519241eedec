"""The rows of users, and the tombstones of those who were deleted."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import sqlalchemy as sa

from recsys.store.bulk import among, bulk_insert, check_id, upsert
from recsys.store.database import Store


def upsert_users(store: Store, users: pa.Table, *, report: Callable[[str, float], None] | None = None) -> int:
    """Store users by user_id; returns how many. Known column: email_consent (bool); otherwise as upsert_items."""
    return upsert(store, store.tables.users, users, report)


def delete_user(store: Store, user_id: str, *, now: int) -> int:
    """Remove the user's row and events and leave a tombstone of `now`; returns how many events were removed.

    The user is taken out of every frozen audience too. Events of the user up to `now` (microseconds UTC) count
    nowhere from then on, wherever they are read from.
    """
    check_id("user_id", user_id)
    tables = store.tables
    tombstone = pa.table({"user_id": [user_id], "deleted_at": [now]})
    with store.writing() as connection:
        bulk_insert(connection, tables.deletions, tombstone, replace=False)
        older = (tables.deletions.c.user_id == user_id) & (tables.deletions.c.deleted_at < now)
        connection.execute(tables.deletions.update().where(older).values(deleted_at=now))
        connection.execute(tables.users.delete().where(tables.users.c.user_id == user_id))
        members = tables.audience_members
        connection.execute(members.delete().where(members.c.user_id == user_id))
        return connection.execute(tables.events.delete().where(tables.events.c.user_id == user_id)).rowcount


def read_deletions(store: Store, user_ids: Sequence[str] | None = None) -> dict[str, int]:
    """The tombstones, of these users or all: user id -> deleted_at. Their events up to then count nowhere."""
    with store.reading() as connection:
        return deletions_in(connection, store.tables.deletions, user_ids)


def deletions_in(connection: sa.Connection, table: sa.Table, ids: Sequence[str] | None) -> dict[str, int]:
    """What read_deletions reads, within a transaction."""
    query = sa.select(table.c.user_id, table.c.deleted_at)
    if ids is not None:
        query = query.where(among(table.c.user_id, ids))
    return {user_id: int(deleted_at) for user_id, deleted_at in connection.execute(query)}


def recent_deletions(store: Store, after: int) -> dict[str, int]:
    """The tombstones since `after` (microseconds UTC): user id -> deleted_at."""
    deletions = store.tables.deletions.c
    query = sa.select(deletions.user_id, deletions.deleted_at).where(deletions.deleted_at > after)
    with store.reading() as connection:
        return {user_id: int(deleted_at) for user_id, deleted_at in connection.execute(query)}
