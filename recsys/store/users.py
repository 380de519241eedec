"""The rows of users, and the tombstones of deleted users."""

from collections.abc import Sequence

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import among, bulk_insert, check_id, upsert
from recsys.store.database import Store


def upsert_users(store: Store, users: pa.Table, *, progress: Progress | None = None) -> int:
    """Store users by user_id; return how many. Known column: email_consent (bool). Otherwise as `upsert_items`."""
    return upsert(store, store.tables.users, users, progress)


def delete_user(store: Store, user_id: str, *, now: int) -> int:
    """Remove a user's row, events and audience memberships, and leave a tombstone; return how many events were removed.

    now: microseconds UTC. Events of the user up to `now` no longer count, wherever they are read from.
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
