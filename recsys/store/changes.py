"""What is new, in one query: a user's and a visitor's events, a deletion, and the items that changed."""

import functools
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recsys.store.database import Store
from recsys.store.events import NewEvents
from recsys.store.items import _ITEM, ChangedItem, _changed, _item
from recsys.store.tables import Tables

_EVENT, _VISITOR_EVENT, _DELETION, _ = range(4)


@dataclass(frozen=True)
class Changes:
    """The answer: events and tombstones of one user and one visitor, and items by revision."""

    events: NewEvents
    items: list[ChangedItem]


def read_changes(
    store: Store,
    user_id: str | None,
    visitor_id: str | None,
    *,
    received_after: int,
    occurred_before: int,
    length: int,
    revision: int,
    item_limit: int,
) -> Changes:
    """In one query what the own tables know beyond the extract and beyond the items up to `revision`.

    Of the user's events received after `received_after`, and of the visitor's without a user, the newest `length`
    before `occurred_before` (microseconds UTC). At most `item_limit` items, those that changed first.
    """
    statement = _statement(store.tables, user_id is not None, visitor_id is not None)
    values: dict[str, Any] = {"revision": revision, "item_limit": item_limit}
    if user_id is not None or visitor_id is not None:
        values |= {"before": occurred_before, "length": length}
    if user_id is not None:
        values |= {"user": user_id, "after": received_after}
    if visitor_id is not None:
        values["visitor"] = visitor_id
    with store.reading() as connection:
        rows = connection.execute(statement, values).all()
    return _sort_out(rows)


def _sort_out(rows: Any) -> Changes:
    events = [row for row in rows if row[0] in (_EVENT, _VISITOR_EVENT)]
    return Changes(
        NewEvents(
            owners=[row[1] for row in events],
            visitors=[row[0] == _VISITOR_EVENT for row in events],
            items=[row[2] for row in events],
            kinds=[row[3] for row in events],
            times=[int(row[4]) for row in events],
            deleted={row[1]: int(row[4]) for row in rows if row[0] == _DELETION},
        ),
        [_item(row) for row in rows if row[0] == _ITEM],
    )


@functools.lru_cache(maxsize=64)
def _statement(tables: Tables, user: bool, visitor: bool) -> Any:
    events, deletions = tables.events.c, tables.deletions.c
    # The items come first and the nulls of the other parts stand outermost: there they take the items' types.
    parts = [sa.select(_changed(tables).subquery())]
    nothing = [sa.null()] * 6

    def newest(what: int, owner: Any, *conditions: Any) -> Any:
        columns = (owner, events.item_id, events.kind, events.occurred_at)
        query = sa.select(sa.literal_column(str(what)).label("what"), *columns)
        query = query.where(events.occurred_at < sa.bindparam("before"), *conditions)
        limited = query.order_by(events.occurred_at.desc()).limit(sa.bindparam("length")).subquery()
        return sa.select(*limited.c, *nothing)

    if user:
        mine = events.user_id == sa.bindparam("user")
        parts.append(newest(_EVENT, events.user_id, mine, events.received_at > sa.bindparam("after")))
        gone = (deletions.user_id, sa.null(), sa.null(), deletions.deleted_at, *nothing)
        parts.append(
            sa.select(sa.literal_column(str(_DELETION)), *gone).where(deletions.user_id == sa.bindparam("user"))
        )
    if visitor:
        mine = (events.visitor_id == sa.bindparam("visitor")) & events.user_id.is_(None)
        parts.append(newest(_VISITOR_EVENT, events.visitor_id, mine))
    return sa.union_all(*parts)
