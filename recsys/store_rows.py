"""Items, users and events: written in bulk, once, all or nothing; deleted for good; read by whose history is asked."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.store_insert import check_id, conform, put
from recsys.store_tables import MAX_ID_LENGTH, Database, clock

_REVISION = "own_revision"
_MANY_IDS = 1000  # above, reading what everybody did is faster than naming whom we mean


@dataclass(frozen=True)
class NewEvents:
    """What the own tables know beyond the extract: n events and the tombstones, in no particular order."""

    owners: list[str]  # [n] the user id, or the visitor id of an event without user
    visitors: list[bool]  # [n] whether the owner is a visitor
    items: list[str]  # [n]
    kinds: list[str]  # [n]
    times: list[int]  # [n] microseconds UTC
    deleted: dict[str, int]  # user id -> deleted_at; no event up to then counts


class Rows(Database):
    """The rows of items, users, events and deletions."""

    def insert_events(self, events: pa.Table, *, report: Callable[[str, float], None] | None = None) -> int:
        """Store events whose event_id is not there yet, in one transaction; returns how many were new.

        Columns: event_id, kind, item_id, occurred_at, received_at (microseconds UTC), user_id or visitor_id or both;
        may be there: value, request_id. Events of a deleted user up to the deletion are left out.
        Raises RefusedError, with nothing written, when a column is missing or unknown or an id cannot be stored.
        """
        return self.import_events(events, reduced={}, gone=(), report=report)[0]

    def import_events(
        self,
        events: pa.Table,
        *,
        reduced: Mapping[str, float],
        gone: Collection[str],
        report: Callable[[str, float], None] | None = None,
    ) -> tuple[int, int]:
        """insert_events, and in the same transaction corrections of events that are there; how many of each.

        reduced: event_id -> the value that it has from now on. gone: ids of events that never were.
        """
        rows = conform(events, self.tables.events)
        if pc.any(pc.and_(pc.is_null(rows["user_id"]), pc.is_null(rows["visitor_id"]))).as_py():
            raise RefusedError("events: a row has neither user_id nor visitor_id; one of them is required")
        rows = rows.sort_by("event_id")  # in one order, so that two writers never wait for each other in a circle
        with self.writing() as connection:
            users = pc.unique(rows["user_id"].drop_null()).to_pylist()
            rows = _without_deleted(rows, _read_deletions(connection, self.tables.deletions, users))
            corrected = _correct(connection, self.tables.events, {**reduced, **dict.fromkeys(gone)})
            return put(connection, self.tables.events, rows, replace=False, report=report), corrected

    def upsert_items(self, items: pa.Table, *, report: Callable[[str, float], None] | None = None) -> int:
        """Store items by item_id; returns how many. A column that is not there keeps what it was.

        Known columns: title, category, brand, image_url (string), price (float), available (bool), created_at (int64
        microseconds UTC). All others go into `attributes`. Of several rows with one id the last counts.
        Raises RefusedError, with nothing written, when an id or a value cannot be stored.
        """
        return self._upsert(self.tables.items, items, report)

    def upsert_users(self, users: pa.Table, *, report: Callable[[str, float], None] | None = None) -> int:
        """Store users by user_id; returns how many. Known column: email_consent (bool); otherwise as upsert_items."""
        return self._upsert(self.tables.users, users, report)

    def delete_user(self, user_id: str, *, now: int) -> int:
        """Remove the user's row and events and leave a tombstone of `now`; returns how many events were removed.

        The user is taken out of every frozen audience too. Events of the user up to `now` (microseconds UTC) count
        nowhere from then on, wherever they are read from.
        """
        check_id("user_id", user_id)
        tables = self.tables
        tombstone = pa.table({"user_id": [user_id], "deleted_at": [now]})
        with self.writing() as connection:
            put(connection, tables.deletions, tombstone, replace=False)
            older = (tables.deletions.c.user_id == user_id) & (tables.deletions.c.deleted_at < now)
            connection.execute(tables.deletions.update().where(older).values(deleted_at=now))
            connection.execute(tables.users.delete().where(tables.users.c.user_id == user_id))
            members = tables.audience_members
            connection.execute(members.delete().where(members.c.user_id == user_id))
            return connection.execute(tables.events.delete().where(tables.events.c.user_id == user_id)).rowcount

    def deletions(self, user_ids: Sequence[str] | None = None) -> dict[str, int]:
        """The tombstones, of these users or all: user id -> deleted_at. Their events up to then count nowhere."""
        with self.reading() as connection:
            return _read_deletions(connection, self.tables.deletions, user_ids)

    def count_rows(self) -> dict[str, int]:
        """How many items, users and events there are."""
        tables = (("items", self.tables.items), ("users", self.tables.users), ("events", self.tables.events))
        with self.reading() as connection:
            return {
                name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
                for name, table in tables
            }

    def new_events(
        self, user_ids: Sequence[str], visitor_ids: Sequence[str], *, received_after: int, occurred_before: int
    ) -> NewEvents:
        """In one query: these users' events received after the extract's watermark, these visitors' events, tombstones.

        Of visitors all events count, as the extract holds none of theirs; an event with a user belongs to the user
        alone. For many ids it returns everybody's.
        """
        events, deletions = self.tables.events, self.tables.deletions
        before = events.c.occurred_at < occurred_before
        columns = (events.c.item_id, events.c.kind, events.c.occurred_at)
        nothing = sa.cast(sa.null(), sa.String(MAX_ID_LENGTH))
        parts = [
            sa.select(sa.literal(0).label("what"), events.c.user_id.label("owner"), *columns)
            .where(before, events.c.received_at > received_after)
            .where(_among(events.c.user_id, user_ids)),
            sa.select(sa.literal(2), deletions.c.user_id, nothing, nothing, deletions.c.deleted_at).where(
                _among(deletions.c.user_id, user_ids)
            ),
        ]
        if visitor_ids:
            mine = sa.select(sa.literal(1), events.c.visitor_id, *columns).where(before, events.c.user_id.is_(None))
            parts.append(mine.where(_among(events.c.visitor_id, visitor_ids)))
        with self.reading() as connection:
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

    def _upsert(self, table: sa.Table, rows: pa.Table, report: Callable[[str, float], None] | None) -> int:
        key = table.primary_key.columns[0].name
        if _REVISION in rows.column_names:
            rows = rows.drop_columns([_REVISION])  # a name that is taken
        conformed = conform(_with_attributes(rows, table), table, partial=True)
        last = {identifier: at for at, identifier in enumerate(conformed[key].to_pylist())}
        if len(last) < conformed.num_rows:
            conformed = conformed.take(pa.array(last.values(), pa.int64()))
        conformed = conformed.sort_by(key)
        with self.writing() as connection:
            stamp = None
            if table is self.tables.items:
                stamp, revisions = _REVISION, _next_revisions(connection, self.tables.counters, conformed.num_rows)
                conformed = conformed.append_column(stamp, revisions)
            put(connection, table, conformed, replace=True, stamp=stamp, report=report)
        return int(conformed.num_rows)


def _correct(connection: sa.Connection, events: sa.Table, values: Mapping[str, float | None]) -> int:
    """Set the values of events that are there, and remove those whose value is None; how many were another way."""
    ids, changed = sorted(values), 0
    for start in range(0, len(ids), _MANY_IDS):
        mine = events.c.event_id.in_(ids[start : start + _MANY_IDS])
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


def _next_revisions(connection: sa.Connection, counters: sa.Table, count: int) -> pa.Array:
    """`count` numbers above all that were given before, near the database's clock in microseconds UTC.

    The counter's row stays locked until the transaction ends, so who sees a number has seen all that are smaller.
    """
    mine = counters.c.name == "items"
    last = connection.execute(sa.select(counters.c.value).where(mine).with_for_update()).scalar()
    if last is None:
        put(connection, counters, pa.table({"name": ["items"], "value": [0]}), replace=False)
        last = connection.execute(sa.select(counters.c.value).where(mine).with_for_update()).scalar_one()
    first = max(int(last) + 1, clock(connection))
    connection.execute(counters.update().where(mine).values(value=first + count))
    return pa.array(range(first, first + count), pa.int64())


def _among(column: sa.ColumnElement[Any], ids: Sequence[str]) -> sa.ColumnElement[bool]:
    return column.in_(ids) if len(ids) <= _MANY_IDS else column.is_not(None)


def _read_deletions(connection: sa.Connection, table: sa.Table, ids: Sequence[str] | None) -> dict[str, int]:
    query = sa.select(table.c.user_id, table.c.deleted_at)
    if ids is not None:
        query = query.where(_among(table.c.user_id, ids))
    return {user_id: int(deleted_at) for user_id, deleted_at in connection.execute(query)}


def _without_deleted(events: pa.Table, deleted: dict[str, int]) -> pa.Table:
    if not deleted:
        return events
    at = pc.index_in(events["user_id"], pa.array(deleted.keys(), pa.string()))
    gone_until = pc.fill_null(pc.take(pa.array(deleted.values(), pa.int64()), at), np.iinfo(np.int64).min)
    return events.filter(pc.greater(events["occurred_at"], gone_until))


def _with_attributes(rows: pa.Table, table: sa.Table) -> pa.Table:
    """The columns that the table does not know become one JSON object a row, without nulls."""
    others = [name for name in rows.column_names if name not in table.columns]
    if not others:
        return rows
    objects = [
        json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False, default=str)
        for row in rows.select(others).to_pylist()
    ]
    return rows.drop_columns(others).append_column("attributes", pa.array(objects, pa.string()))
