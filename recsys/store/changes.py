"""What is new in the own tables, in one query: events of users and visitors, deletions, and the items that changed."""

import functools
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recsys.data.catalog import ChangedItem
from recsys.store.bulk import among
from recsys.store.database import Store
from recsys.store.tables import Tables

_EVENT, _VISITOR_EVENT, _DELETION, _ITEM = range(4)  # what a row of the answer is

_ID_AT = 8  # where the id of an event stands, beside the brand of an item: both are text

_NEVER = -(2**63)

_Condition = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[bool]]
_Limit = Callable[[Any, Any], Any]  # a query whose second column is the owner, its time -> that of the newest events


@dataclass(frozen=True)
class NewEvents:
    """What the own tables know beyond the extract: N events and the tombstones, in no particular order."""

    owners: list[str]  # [N] the user id, or the visitor id of an event without user
    visitors: list[bool]  # [N] whether the owner is a visitor
    items: list[str]  # [N]
    kinds: list[str]  # [N]
    times: list[int]  # [N] microseconds UTC
    deleted: dict[str, int]  # user id -> deleted_at; no event up to then counts


@dataclass(frozen=True)
class Changes:
    """Events and tombstones of those who were asked for, and items by revision."""

    events: NewEvents
    items: list[ChangedItem]


NO_EVENTS = NewEvents([], [], [], [], [], {})


def read_changes(
    store: Store,
    user_ids: Sequence[str] = (),
    visitor_ids: Sequence[str] = (),
    *,
    received_after: int = 0,
    known: Container[str] = (),
    occurred_before: int = 0,
    length: int | None = None,
    revision: int = 0,
    item_limit: int = 0,
) -> Changes:
    """Read in one query what the own tables know beyond the extract and beyond the items up to `revision`.

    Events: those of the users received after `received_after`, and those of the visitors without a user (the extract
    holds none of these); all of them before `occurred_before`. Where no user is asked for, what a merged visitor did
    comes too: beside its user it would come twice. Times are microseconds UTC. With `length` the newest so many of each
    user and visitor. For very many ids everybody's events come. known: ids of events of users that are left out.
    Items: at most `item_limit`, those that changed first.
    """
    values: dict[str, Any] = {"revision": revision, "item_limit": item_limit}
    is_of_one = max(len(user_ids), len(visitor_ids)) <= 1 and (length is not None or not (user_ids or visitor_ids))
    if user_ids or visitor_ids:
        values |= {"before": occurred_before} | ({} if length is None else {"length": length})
    if user_ids:
        values |= {"after": received_after} | ({"user": user_ids[0]} if is_of_one else {})
    if visitor_ids and is_of_one:
        values["visitor"] = visitor_ids[0]
    with store.reading() as connection:
        if is_of_one:
            statement = _statement_of_one(store.tables, store.engine.dialect, bool(user_ids), bool(visitor_ids))
            rows = statement.rows(connection, values)
        else:
            by_user = functools.partial(among, ids=user_ids) if user_ids else None
            by_visitor = functools.partial(among, ids=visitor_ids) if visitor_ids else None
            limit = None if length is None else _limit_each
            rows = connection.execute(_statement(store.tables, by_user, by_visitor, limit), values).all()
    events = [row for row in rows if row[0] == _VISITOR_EVENT or (row[0] == _EVENT and row[_ID_AT] not in known)]
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


@dataclass(frozen=True)
class _Text:
    """A statement in the words of a database: what every request sends is put into words once."""

    text: str
    names: list[str] | None  # of the parameters by place; None: the driver takes them by name
    constants: dict[str, Any]

    def rows(self, connection: sa.Connection, values: dict[str, Any]) -> Sequence[Any]:
        """Execute it."""
        values = self.constants | values
        given = values if self.names is None else tuple(values[name] for name in self.names)
        return connection.exec_driver_sql(self.text, given).all()


@functools.lru_cache(maxsize=64)
def _statement_of_one(tables: Tables, dialect: sa.Dialect, user: bool, visitor: bool) -> _Text:
    """The statement for one user, one visitor or both."""
    by_user, by_visitor = (
        (lambda column, name=name: column == sa.bindparam(name)) if wanted else None
        for name, wanted in (("user", user), ("visitor", visitor))
    )
    compiled = _statement(tables, by_user, by_visitor, _limit_one).compile(dialect=dialect)
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return _Text(str(compiled), compiled.positiontup if compiled.positional else None, constants)


def _limit_one(query: Any, time: Any) -> Any:
    return query.order_by(time.desc()).limit(sa.bindparam("length"))


def _limit_each(query: Any, time: Any) -> Any:
    owner = query.selected_columns[1]
    place = sa.func.row_number().over(partition_by=owner, order_by=time.desc()).label("place")
    *columns, place = query.add_columns(place).subquery().c
    return sa.select(*columns).where(place <= sa.bindparam("length"))


def _statement(tables: Tables, by_user: _Condition | None, by_visitor: _Condition | None, limit: _Limit | None) -> Any:
    events, deletions = tables.events.c, tables.deletions.c
    # The items come first and the nulls of the other parts stand outermost: there they take the items' types.
    parts = [sa.select(_changed(tables).subquery())]
    nothing = [sa.null()] * 7

    def newest(what: int, owner: Any, *conditions: Any) -> Any:
        columns = (owner, events.item_id, events.kind, events.occurred_at, events.event_id)
        query = sa.select(sa.literal_column(str(what)).label("what"), *columns)
        query = query.where(events.occurred_at < sa.bindparam("before"), *conditions)
        if limit is not None:
            query = limit(query, events.occurred_at)
        *shown, event_id = query.subquery().c
        return sa.select(*shown, *nothing[:3], event_id, *nothing[4:])

    if by_user is not None:
        parts.append(
            newest(_EVENT, events.user_id, by_user(events.user_id), events.received_at > sa.bindparam("after"))
        )
        gone = (deletions.user_id, sa.null(), sa.null(), deletions.deleted_at, *nothing)
        parts.append(sa.select(sa.literal_column(str(_DELETION)), *gone).where(by_user(deletions.user_id)))
    if by_visitor is not None:
        visitors = tables.visitors.c
        is_own = events.user_id.is_(None) & _is_later(
            tables, visitors.deleted_at, visitors.visitor_id == events.visitor_id
        )
        if by_user is None:
            user = sa.select(visitors.user_id).where(visitors.visitor_id == events.visitor_id).scalar_subquery()
            alive = _is_later(tables, deletions.deleted_at, deletions.user_id == events.user_id)
            is_own |= (events.user_id == user) & alive
        parts.append(newest(_VISITOR_EVENT, events.visitor_id, by_visitor(events.visitor_id) & is_own))
    return sa.union_all(*parts)


def _is_later(tables: Tables, deleted_at: Any, of_owner: Any) -> sa.ColumnElement[bool]:
    """Whether an event happened after the deletion of its owner, if there was one."""
    until = sa.select(deleted_at).where(of_owner).scalar_subquery()
    return tables.events.c.occurred_at > sa.func.coalesce(until, _NEVER)


def _changed(tables: Tables) -> Any:
    items = tables.items.c
    columns = [items.item_id, items.title, items.category, items.own_revision, items.price, items.available]
    columns += [items.created_at, items.brand, items.image_url, items.attributes, items.own_deleted_at]
    query = sa.select(sa.literal_column(str(_ITEM)).label("what"), *columns)
    query = query.where(items.own_revision > sa.bindparam("revision"))
    return query.order_by(items.own_revision).limit(sa.bindparam("item_limit"))


def _item(row: Any) -> ChangedItem:
    _, item_id, title, category, revision, price, available, created_at, brand, image_url, attributes, deleted = row
    created_at = None if created_at is None else int(created_at)
    available = None if available is None else bool(available)  # some databases have numbers for it
    said = (title, category, brand, price, available, image_url, created_at, attributes)
    return ChangedItem(item_id, int(revision), *said, is_deleted=deleted is not None)
