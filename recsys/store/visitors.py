"""The rows of visitors: the user with whom each was merged, and the tombstones of deleted ones.

A visitor is merged with one user, once and for good: the events without a user become events of that user. Both ids are
deleted together; the visitor is then a stranger again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.store.bulk import MANY_IDS, among, bulk_insert, check_id
from recsys.store.database import Store
from recsys.store.tables import Tables


@dataclass(frozen=True)
class Visitors:
    """What is known of visitors beside their events."""

    merged: dict[str, str]  # visitor id -> the user with whom the visitor was merged
    deleted: dict[str, int]  # visitor id -> deleted_at (microseconds UTC); no event without a user up to then counts

    def without(self, user_ids: Collection[str]) -> "Visitors":
        """The same, but for merges with these users."""
        return replace(self, merged={visitor: user for visitor, user in self.merged.items() if user not in user_ids})


def merge_visitor(store: Store, user_id: str, visitor_id: str, *, now: int) -> int:
    """Make a visitor's events those of a user, for good; return how many events came to the user.

    now: microseconds UTC; the moment from which the events count for the user. Merging the same two again is no error.
    Raises RefusedError, with nothing changed, when an id cannot be stored or the visitor was merged with another user.
    """
    check_id("user_id", user_id)
    check_id("visitor_id", visitor_id)
    with store.writing() as connection:
        link(connection, store.tables, {visitor_id: user_id}, now)
        if select_visitors(connection, store.tables, [visitor_id]).merged[visitor_id] != user_id:
            raise RefusedError("visitor_id: this visitor was merged with another user before; the first merge stays")
        return claim(connection, store.tables, [visitor_id], now)


def read_visitors(store: Store, visitor_ids: Sequence[str] | None = None) -> Visitors:
    """Read who was merged and who was deleted. visitor_ids: these only; for many ids others may come too."""
    with store.reading() as connection:
        return select_visitors(connection, store.tables, visitor_ids)


def prune_visitors(store: Store, *, received_before: int) -> int:
    """Remove the events of visitors who are no user that were received before a moment (microseconds UTC)."""
    events = store.tables.events
    old = events.c.user_id.is_(None) & (events.c.received_at < received_before)
    with store.writing() as connection:
        return connection.execute(events.delete().where(old)).rowcount


def select_visitors(connection: sa.Connection, tables: Tables, visitor_ids: Sequence[str] | None) -> Visitors:
    """Do what `read_visitors` does, within a transaction."""
    table = tables.visitors
    query = sa.select(table.c.visitor_id, table.c.user_id, table.c.deleted_at)
    if visitor_ids is not None:
        query = query.where(among(table.c.visitor_id, visitor_ids))
    rows = connection.execute(query).all()
    return Visitors(
        {visitor: user for visitor, user, _ in rows if user is not None},
        {visitor: int(deleted) for visitor, _, deleted in rows if deleted is not None},
    )


def settle_owners(connection: sa.Connection, tables: Tables, rows: pa.Table, now: int) -> tuple[pa.Table, list[str]]:
    """Merge the visitors of event rows that name a user too, and give rows of merged visitors their user.

    Rows without a user from before the visitor's deletion are left out. Returns the rows and the merged visitors among
    them, whose earlier events are to be claimed once the rows are stored.
    """
    visitors = pc.unique(rows["visitor_id"].drop_null()).to_pylist()
    if not visitors:
        return rows, []
    link(connection, tables, _pairs(rows), now)
    known = select_visitors(connection, tables, visitors)
    rows = rows.filter(pc.or_(pc.is_valid(rows["user_id"]), _is_later(rows, known.deleted)))
    if known.merged:
        at = pc.index_in(rows["visitor_id"], pa.array(known.merged.keys(), pa.string()))
        users = pc.coalesce(rows["user_id"], pc.take(pa.array(known.merged.values(), pa.string()), at))
        rows = rows.set_column(rows.column_names.index("user_id"), "user_id", users)
    return rows, sorted(set(visitors) & known.merged.keys())


def link(connection: sa.Connection, tables: Tables, pairs: Mapping[str, str], now: int) -> None:
    """Merge visitors with users (visitor id -> user id), those who were not merged before."""
    if not pairs:
        return
    table, ids = tables.visitors, sorted(pairs)
    users = [pairs[visitor] for visitor in ids]
    rows = pa.table({"visitor_id": ids, "user_id": users, "merged_at": pa.array([now] * len(ids), pa.int64())})
    if bulk_insert(connection, table, rows, replace=False) == len(ids):
        return
    deleted = select_visitors(connection, tables, ids).deleted.keys() & pairs.keys()
    for visitor in sorted(deleted):  # a tombstone takes the row of a visitor who comes back
        mine = (table.c.visitor_id == visitor) & table.c.user_id.is_(None)
        connection.execute(table.update().where(mine).values(user_id=pairs[visitor], merged_at=now))


def claim(connection: sa.Connection, tables: Tables, visitor_ids: Sequence[str], now: int) -> int:
    """Give the events without a user of merged visitors to their users; return how many.

    They count as received `now`: who reads what is new of a user has not seen them.
    """
    events, visitors, claimed = tables.events, tables.visitors, 0
    user = sa.select(visitors.c.user_id).where(visitors.c.visitor_id == events.c.visitor_id).scalar_subquery()
    for start in range(0, len(visitor_ids), MANY_IDS):
        mine = events.c.visitor_id.in_(visitor_ids[start : start + MANY_IDS]) & events.c.user_id.is_(None)
        claimed += connection.execute(events.update().where(mine).values(user_id=user, received_at=now)).rowcount
    return claimed


def lock_visitor(connection: sa.Connection, tables: Tables, visitor_id: str, now: int) -> str | None:
    """Let no other transaction merge a visitor until this one ends; return the user with whom the visitor was merged.

    A visitor without a row gets a tombstone of `now`: only a row can be locked.
    """
    table = tables.visitors
    tombstone = pa.table({"visitor_id": [visitor_id], "deleted_at": pa.array([now], pa.int64())})
    bulk_insert(connection, table, tombstone, replace=False)
    mine = sa.select(table.c.user_id).where(table.c.visitor_id == visitor_id).with_for_update()
    user_id: str | None = connection.execute(mine).scalar_one()
    return user_id


def forget_visitors(connection: sa.Connection, tables: Tables, visitor_ids: Sequence[str], now: int) -> int:
    """Remove the events without a user of visitors and leave tombstones; return how many events were removed."""
    table, events, removed = tables.visitors, tables.events, 0
    for visitor in sorted(visitor_ids):
        lock_visitor(connection, tables, visitor, now)
        later = sa.case((table.c.deleted_at > now, table.c.deleted_at), else_=now)
        values = {"user_id": None, "merged_at": None, "deleted_at": later}
        connection.execute(table.update().where(table.c.visitor_id == visitor).values(values))
        mine = (events.c.visitor_id == visitor) & events.c.user_id.is_(None)
        removed += connection.execute(events.delete().where(mine)).rowcount
    return removed


def _pairs(rows: pa.Table) -> dict[str, str]:
    """The user of each visitor whom a row names together with a user: that of the first such event."""
    both = rows.filter(pc.and_(pc.is_valid(rows["user_id"]), pc.is_valid(rows["visitor_id"])))
    both = both.sort_by([("occurred_at", "ascending"), ("event_id", "ascending")])
    first = both.group_by("visitor_id", use_threads=False).aggregate([("user_id", "first")])
    return dict(zip(first["visitor_id"].to_pylist(), first["user_id_first"].to_pylist(), strict=True))


def _is_later(rows: pa.Table, deleted: Mapping[str, int]) -> pa.ChunkedArray:
    """Which rows happened after the deletion of their visitor."""
    at = pc.index_in(rows["visitor_id"], pa.array(deleted.keys(), pa.string()))
    until = pc.take(pa.array(deleted.values(), pa.int64()), at)
    return pc.greater(rows["occurred_at"], pc.fill_null(until, np.iinfo(np.int64).min))
