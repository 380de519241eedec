"""The rows of events: each is stored once, in bulk, all or none; `changes` reads which of them are new."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.progress import Progress
from recsys.store.bulk import MANY_IDS, bulk_insert, conform, delete_some, in_full
from recsys.store.database import Store
from recsys.store.tables import Tables
from recsys.store.users import select_deletions
from recsys.store.visitors import (
    Visitors,
    claim,
    claim_some,
    later_than,
    link,
    lock_users,
    new_merges,
    select_visitors,
    with_merged_users,
)


def insert_events(store: Store, events: pa.Table, *, progress: Progress | None = None) -> int:
    """Store events with a new event_id, in one transaction; return how many were new.

    Required columns: event_id, kind, item_id, occurred_at, received_at (microseconds UTC), and user_id or visitor_id
    or both: these merge the visitor with the user, for good. Optional: value, request_id, quantity, price, currency,
    order_id, properties (a JSON object as text). Events of a deleted user or visitor up to the deletion are left out.
    Of visitors who are merged now, the newest MANY_ROWS earlier events come to the user at once, and the others with
    the next training: what an answer counts are the newest ones.
    Raises RefusedError, with nothing written, when a column is missing or unknown or an id cannot be stored.
    """
    return _write(store, events, {}, progress, is_import=False)[0]


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
    return _write(store, events, {**reduced, **dict.fromkeys(gone)}, progress, is_import=True)


def _write(
    store: Store,
    events: pa.Table,
    changed: Mapping[str, float | None],
    progress: Progress | None,
    *,
    is_import: bool,
) -> tuple[int, int]:
    """Insert and correct events, in one transaction. is_import: it may take long."""
    rows = conform(events, store.tables.events)
    if pc.any(pc.and_(pc.is_null(rows["user_id"]), pc.is_null(rows["visitor_id"]))).as_py():
        raise RefusedError("events: a row has neither user_id nor visitor_id; one of them is required")
    rows = rows.sort_by("event_id")  # one order for all writers, so that two seldom wait for each other

    def write(connection: sa.Connection) -> tuple[pa.Table, Collection[str], int, int]:
        kept, merged = _settle_owners(connection, store.tables, rows)
        corrected = _correct(connection, store.tables.events, changed)
        inserted = bulk_insert(connection, store.tables.events, kept, replace=False, progress=progress)
        return kept, merged, inserted, corrected

    kept, merged, inserted, corrected = store.transact(write)
    _follow_up(store, kept, merged, is_import=is_import)
    return inserted, corrected


def _settle_owners(connection: sa.Connection, tables: Tables, rows: pa.Table) -> tuple[pa.Table, Collection[str]]:
    """Merge the visitors of rows that name a user too; return the rows with their users, and who was merged only now.

    What deleted users and visitors did before their deletion is left out, and merges nobody.
    """
    if rows["visitor_id"].null_count == rows.num_rows:
        return _of_living_users(connection, tables, rows), ()
    visitors = pc.unique(rows["visitor_id"].drop_null()).to_pylist()
    known = select_visitors(connection, tables, visitors)
    merges = new_merges(rows, known)
    lock_users(connection, tables, {merge.user_id for merge in merges.values()})
    rows = _of_living_users(connection, tables, rows)
    merges = new_merges(rows, known)
    if merges:
        link(connection, tables, merges, pc.max(rows["received_at"]).as_py())
        known = select_visitors(connection, tables, visitors)
    rows = with_merged_users(rows, known)
    if known.merged:
        rows = _of_living_users(connection, tables, rows)
    return rows, sorted(merges)


def _of_living_users(connection: sa.Connection, tables: Tables, rows: pa.Table) -> pa.Table:
    """The rows but for those of users from before their deletion."""
    users = pc.unique(rows["user_id"].drop_null()).to_pylist()
    deleted = select_deletions(connection, tables.deletions, users) if users else {}
    return rows.filter(later_than(rows, "user_id", deleted)) if deleted else rows


def _follow_up(store: Store, rows: pa.Table, merged: Collection[str], *, is_import: bool) -> None:
    """Do what others decided about the owners of rows while these were being stored, and claim the visits of `merged`.

    A deletion or a merge that has been committed by now may not have seen the rows, since it does not wait for them.
    Whatever is committed later sees them.
    """
    visits = rows.filter(pc.is_null(rows["user_id"]))
    strangers = pc.unique(visits["visitor_id"]).to_pylist()
    with store.reading() as connection:
        kept = _of_living_users(connection, store.tables, rows)
        known = select_visitors(connection, store.tables, strangers) if strangers else Visitors({}, {})
    late = set(rows["event_id"].to_pylist()).difference(kept["event_id"].to_pylist())
    late |= set(visits.filter(pc.invert(later_than(visits, "visitor_id", known.deleted)))["event_id"].to_pylist())
    for ids in _parts(sorted(late)):
        in_full(partial(delete_some, store, store.tables.events, store.tables.events.c.event_id.in_(ids)))
    met = visits.filter(pc.is_in(visits["visitor_id"], pa.array(known.merged.keys(), pa.string())))
    for ids in _parts(sorted(met["event_id"].to_pylist())):
        claim_some(store, sorted(known.merged.keys() & set(strangers)), event_ids=ids)
    for ids in _parts(sorted(merged)):
        if is_import:
            claim(lambda use: use(store), ids)
        else:
            claim_some(store, ids)


def settle(store: Store) -> None:
    """Do what writers that died left undone: claim visits of merged visitors, remove events of deleted owners."""
    events, visitors = store.tables.events.c, store.tables.visitors.c
    met = (
        sa.select(events.visitor_id)
        .distinct()
        .where(events.user_id.is_(None), events.visitor_id == visitors.visitor_id, visitors.user_id.is_not(None))
    )
    with store.reading() as connection:
        merged = sorted(connection.scalars(met))
        deleted = select_deletions(connection, store.tables.deletions, None)
        strangers = select_visitors(connection, store.tables, None).deleted
    for ids in _parts(merged):
        claim(lambda use: use(store), ids)
    gone = store.tables.deletions.c
    until = sa.select(gone.deleted_at).where(gone.user_id == events.user_id).scalar_subquery()
    for ids in _parts(sorted(deleted)):
        in_full(
            partial(delete_some, store, store.tables.events, events.user_id.in_(ids) & (events.occurred_at <= until))
        )
    until = sa.select(visitors.deleted_at).where(visitors.visitor_id == events.visitor_id).scalar_subquery()
    for ids in _parts(sorted(strangers)):
        old = events.visitor_id.in_(ids) & events.user_id.is_(None) & (events.occurred_at <= until)
        in_full(partial(delete_some, store, store.tables.events, old))


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + MANY_IDS] for start in range(0, len(ids), MANY_IDS)]


def known_events(store: Store, event_ids: Collection[str], *, received_after: int) -> set[str]:
    """Those of the event ids that were received after a moment (microseconds UTC)."""
    events, ids, found = store.tables.events.c, sorted(event_ids), set[str]()
    with store.reading() as connection:
        for start in range(0, len(ids), MANY_IDS):
            mine = events.event_id.in_(ids[start : start + MANY_IDS]) & (events.received_at > received_after)
            found |= set(connection.scalars(sa.select(events.event_id).where(mine)))
    return found


def recent_events(store: Store, *, received_after: int, received_until: int) -> list[str]:
    """The ids of the events of users that were received between two moments (microseconds UTC)."""
    events = store.tables.events.c
    received = (events.received_at > received_after) & (events.received_at <= received_until)
    with store.reading() as connection:
        return list(connection.scalars(sa.select(events.event_id).where(received, events.user_id.is_not(None))))


class Received(NamedTuple):
    """A place in the order in which events were received."""

    time: int  # microseconds UTC
    event_id: str


class PostedEvents(NamedTuple):
    """N events in the order in which they were received."""

    items: list[str]  # [N]
    kinds: list[str]  # [N]
    times: list[int]  # [N] microseconds UTC
    last: Received  # of the last one


def next_events(store: Store, after: Received, *, until: int, limit: int) -> PostedEvents | None:
    """The first `limit` events that were received after a place, up to `until` (microseconds UTC). None: there is none.

    Those of users and of visitors; what was deleted is not there any more.
    """
    events = store.tables.events.c
    is_later = (events.received_at > after.time) | (events.event_id > after.event_id)
    query = sa.select(events.item_id, events.kind, events.occurred_at, events.received_at, events.event_id)
    query = query.where(events.received_at >= after.time, events.received_at <= until, is_later)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(events.received_at, events.event_id).limit(limit)).all()
    if not rows:
        return None
    items, kinds, times, received, ids = map(list, zip(*rows, strict=True))
    return PostedEvents(items, kinds, list(map(int, times)), Received(int(received[-1]), ids[-1]))


def count_events(store: Store, *, received_after: int, until: Received) -> int:
    """How many events were received after a time (microseconds UTC), up to a place."""
    events = store.tables.events.c
    is_earlier = (events.received_at < until.time) | (events.event_id <= until.event_id)
    inside = (events.received_at > received_after) & (events.received_at <= until.time)
    with store.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).where(inside, is_earlier)) or 0)


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
