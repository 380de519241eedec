"""The rows of visitors: the user with whom each was merged, and the tombstones of deleted ones.

A visitor is merged with one user, once and for good: the events without a user become events of that user. Both ids are
deleted together; the visitor is then a stranger again.

Who merges or deletes locks the user first (`lock_users`), then the visitor's row, then events. Nobody locks events and
then asks for one of the others, so that a merge and a deletion take place one after the other.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.store.bulk import MANY_IDS, MANY_ROWS, among, bulk_insert, check_id, delete_some, in_full
from recsys.store.database import Store, read_clock
from recsys.store.tables import Tables

ALWAYS = np.iinfo(np.int64).max  # of a merge that no earlier deletion prevents
_NEVER = np.iinfo(np.int64).min
_PLACEHOLDER = -1  # the time of a tombstone that only is there to be locked; it is gone when its transaction ends


@dataclass(frozen=True)
class Visitors:
    """What is known of visitors beside their events."""

    merged: dict[str, str]  # visitor id -> the user with whom the visitor was merged
    deleted: dict[str, int]  # visitor id -> deleted_at (microseconds UTC); no event without a user up to then counts

    def without(self, guests: Collection[str]) -> "Visitors":
        """The same, but for merges of or with ids that stand for nobody in particular."""
        return replace(self, merged={v: u for v, u in self.merged.items() if v not in guests and u not in guests})


@dataclass(frozen=True)
class Merge:
    """A merge of a visitor that is to be stored."""

    user_id: str
    named_at: int  # microseconds UTC: the event that names both, or ALWAYS; a later deletion of the visitor prevents it


def merge_visitor(store: Store, user_id: str, visitor_id: str, *, now: int) -> int:
    """Make a visitor's events those of a user, for good; return how many events came to the user.

    now: microseconds UTC; the moment from which the events count for the user. Merging the same two again is no error.
    Raises RefusedError, with nothing changed, when an id cannot be stored or the visitor was merged with another user.
    """
    link_visitor(store, user_id, visitor_id, now=now)
    return claim(lambda use: use(store), [visitor_id])


def link_visitor(store: Store, user_id: str, visitor_id: str, *, now: int) -> None:
    """Do the first part of `merge_visitor`: from now on the visitor's new events are the user's."""
    check_id("user_id", user_id)
    check_id("visitor_id", visitor_id)

    def merge(connection: sa.Connection) -> None:
        link(connection, store.tables, {visitor_id: Merge(user_id, ALWAYS)}, now)
        if select_visitors(connection, store.tables, [visitor_id]).merged[visitor_id] != user_id:
            raise RefusedError("visitor_id: this visitor was merged with another user before; the first merge stays")

    store.transact(merge)


def read_visitors(store: Store, visitor_ids: Sequence[str] | None = None) -> Visitors:
    """Read who was merged and who was deleted. visitor_ids: these only; for many ids others may come too."""
    with store.reading() as connection:
        return select_visitors(connection, store.tables, visitor_ids)


def prune_visitors(store: Store, *, received_before: int) -> int:
    """Remove the events of visitors who are no user that were received before a moment (microseconds UTC)."""
    events = store.tables.events
    old = events.c.user_id.is_(None) & (events.c.received_at < received_before)
    return in_full(lambda: delete_some(store, store.tables.events, old))


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


def new_merges(rows: pa.Table, known: Visitors) -> dict[str, Merge]:
    """The merges that event rows bring (visitor id -> merge): of each visitor the first row that names a user counts.

    A row from before the visitor's deletion merges nobody.
    """
    both = rows.filter(pc.and_(pc.is_valid(rows["user_id"]), pc.is_valid(rows["visitor_id"])))
    both = both.filter(later_than(both, "visitor_id", known.deleted))
    both = both.sort_by([("occurred_at", "ascending"), ("event_id", "ascending")])
    columns = [("user_id", "first"), ("occurred_at", "first")]
    first = both.group_by("visitor_id", use_threads=False).aggregate(columns)
    values = (first[name].to_pylist() for name in ("visitor_id", "user_id_first", "occurred_at_first"))
    return {visitor: Merge(user, at) for visitor, user, at in zip(*values, strict=True) if visitor not in known.merged}


def with_merged_users(rows: pa.Table, known: Visitors) -> pa.Table:
    """Event rows with the users of merged visitors, without those of strangers from before the visitor's deletion."""
    rows = rows.filter(pc.or_(pc.is_valid(rows["user_id"]), later_than(rows, "visitor_id", known.deleted)))
    if not known.merged:
        return rows
    at = pc.index_in(rows["visitor_id"], pa.array(known.merged.keys(), pa.string()))
    users = pc.coalesce(rows["user_id"], pc.take(pa.array(known.merged.values(), pa.string()), at))
    return rows.set_column(rows.column_names.index("user_id"), "user_id", users)


def later_than(rows: pa.Table, owner: str, deleted: Mapping[str, int]) -> pa.ChunkedArray:
    """Mark the event rows that happened after the deletion of their owner (the column of that name)."""
    at = pc.index_in(rows[owner], pa.array(deleted.keys(), pa.string()))
    until = pc.take(pa.array(deleted.values(), pa.int64()), at)
    return pc.greater(rows["occurred_at"], pc.fill_null(until, _NEVER))


def lock_users(connection: sa.Connection, tables: Tables, user_ids: Collection[str]) -> None:
    """Let no other transaction delete these users, or merge visitors with them, until this one ends.

    Only a row can be locked. Who has no tombstone gets one that no other transaction ever sees: it is deleted here, and
    whoever writes the same key waits until it is known what became of it.
    """
    table, ids = tables.deletions, sorted(user_ids)
    for start in range(0, len(ids), MANY_IDS):
        these = ids[start : start + MANY_IDS]
        missing = sorted(set(these) - _lock_tombstones(connection, table, these))
        if not missing:
            continue
        times = pa.array([_PLACEHOLDER] * len(missing), pa.int64())
        bulk_insert(connection, table, pa.table({"user_id": missing, "deleted_at": times}), replace=False)
        _lock_tombstones(connection, table, missing)  # of those who were deleted meanwhile
        mine = table.c.user_id.in_(missing) & (table.c.deleted_at == _PLACEHOLDER)
        connection.execute(table.delete().where(mine))


def _lock_tombstones(connection: sa.Connection, table: sa.Table, user_ids: Sequence[str]) -> set[str]:
    query = sa.select(table.c.user_id).where(table.c.user_id.in_(user_ids)).order_by(table.c.user_id)
    return set(connection.scalars(query.with_for_update()))


def link(connection: sa.Connection, tables: Tables, merges: Mapping[str, Merge], now: int) -> None:
    """Merge visitors with users (visitor id -> merge), those who were not merged before."""
    if not merges:
        return
    lock_users(connection, tables, {merge.user_id for merge in merges.values()})
    table, ids = tables.visitors, sorted(merges)
    users = [merges[visitor].user_id for visitor in ids]
    rows = pa.table({"visitor_id": ids, "user_id": users, "merged_at": pa.array([now] * len(ids), pa.int64())})
    if bulk_insert(connection, table, rows, replace=False) == len(ids):
        return
    deleted = select_visitors(connection, tables, ids).deleted.keys() & merges.keys()
    for visitor in sorted(deleted):  # a tombstone takes the row of a visitor who comes back
        mine = (table.c.visitor_id == visitor) & table.c.user_id.is_(None)
        mine &= table.c.deleted_at < merges[visitor].named_at
        values = {"user_id": merges[visitor].user_id, "merged_at": now}
        connection.execute(table.update().where(mine).values(values))


def claim(run: Callable[[Callable[[Store], tuple[int, int]]], tuple[int, int]], visitor_ids: Sequence[str]) -> int:
    """Give events without a user of merged visitors to their users, the newest first; return how many.

    They count as received now: who reads what is new of a user has not seen them. Those from before the deletion of the
    user are removed. run: calls its argument with a store, for each transaction of at most MANY_ROWS events.
    visitor_ids: at most MANY_IDS.
    """
    before = ALWAYS

    def some() -> int:
        nonlocal before
        taken, before = run(lambda store: claim_some(store, visitor_ids, before=before))
        return taken

    return in_full(some)


def claim_some(
    store: Store, visitor_ids: Sequence[str], *, before: int = ALWAYS, event_ids: Sequence[str] | None = None
) -> tuple[int, int]:
    """Do one transaction of `claim`; return how many events it took, and the time of the oldest.

    before: events that happened later are left alone (microseconds UTC); earlier calls have taken them. event_ids: only
    these, at most MANY_IDS.
    """
    events = store.tables.events.c
    wanted = events.occurred_at <= before
    if event_ids is not None:
        wanted &= events.event_id.in_(event_ids)
    return store.transact(lambda connection: _claim(connection, store.tables, visitor_ids, wanted, before))


def _claim(
    connection: sa.Connection,
    tables: Tables,
    visitor_ids: Sequence[str],
    wanted: sa.ColumnElement[bool],
    before: int,
) -> tuple[int, int]:
    events, visitors = tables.events, tables.visitors
    # While their rows are locked, nobody deletes the visitors or their users.
    mine = visitors.c.visitor_id.in_(visitor_ids) & visitors.c.user_id.is_not(None)
    query = sa.select(visitors.c.visitor_id, visitors.c.user_id).where(mine).order_by(visitors.c.visitor_id)
    merged = {row.visitor_id: row.user_id for row in connection.execute(query.with_for_update(read=True))}
    if not merged:
        return 0, before
    strays = events.c.visitor_id.in_(merged) & events.c.user_id.is_(None) & wanted
    newest = sa.select(events.c.event_id, events.c.visitor_id, events.c.occurred_at).where(strays)
    newest = newest.order_by(events.c.occurred_at.desc()).limit(MANY_ROWS)
    found = connection.execute(newest.with_for_update()).all()
    gone = tables.deletions.c
    deleted = sa.select(gone.user_id, gone.deleted_at).where(gone.user_id.in_(set(merged.values())))
    until = {user: int(at) for user, at in connection.execute(deleted)}
    old = {event for event, visitor, at in found if at <= until.get(merged[visitor], _NEVER)}
    ids, now = sorted(event for event, _, _ in found), read_clock(connection)
    user = sa.select(visitors.c.user_id).where(visitors.c.visitor_id == events.c.visitor_id).scalar_subquery()
    for start in range(0, len(ids), MANY_IDS):
        part = ids[start : start + MANY_IDS]
        alive, dead = [event for event in part if event not in old], [event for event in part if event in old]
        if alive:
            change = events.update().where(events.c.event_id.in_(alive))
            connection.execute(change.values(user_id=user, received_at=now))
        if dead:
            connection.execute(events.delete().where(events.c.event_id.in_(dead)))
    return len(found), min((int(at) for _, _, at in found), default=before)


def bury_visitors_of(connection: sa.Connection, tables: Tables, user_id: str, now: int) -> list[str]:
    """Leave tombstones of the visitors who were merged with a locked user; return their ids, sorted."""
    table = tables.visitors
    mine = sa.select(table.c.visitor_id).where(table.c.user_id == user_id).order_by(table.c.visitor_id)
    visitors = list(connection.scalars(mine.with_for_update()))
    _bury(connection, table, table.c.user_id == user_id, now)
    return visitors


def bury_stranger(connection: sa.Connection, tables: Tables, visitor_id: str, now: int) -> None:
    """Leave the tombstone of a locked visitor who was merged with nobody."""
    _bury(connection, tables.visitors, tables.visitors.c.visitor_id == visitor_id, now)


def _bury(connection: sa.Connection, table: sa.Table, who: sa.ColumnElement[bool], now: int) -> None:
    later = sa.case((table.c.deleted_at > now, table.c.deleted_at), else_=now)
    values = {"user_id": None, "merged_at": None, "deleted_at": later}
    connection.execute(table.update().where(who).values(values))


def lock_visitor(connection: sa.Connection, tables: Tables, visitor_id: str, now: int) -> str | None:
    """Let no other transaction merge a visitor until this one ends; return the user with whom the visitor was merged.

    A visitor without a row gets a tombstone of `now`: only a row can be locked.
    """
    table = tables.visitors
    mine = sa.select(table.c.visitor_id, table.c.user_id).where(table.c.visitor_id == visitor_id).with_for_update()
    found = connection.execute(mine).one_or_none()
    if found is None:
        tombstone = pa.table({"visitor_id": [visitor_id], "deleted_at": pa.array([now], pa.int64())})
        bulk_insert(connection, table, tombstone, replace=False)
        found = connection.execute(mine).one()
    user_id: str | None = found.user_id
    return user_id
