"""The rows of requests: what was asked and answered. They are personal, and go with the user, the visitor and time."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import NotFoundError
from recsys.store.bulk import MANY_IDS, bulk_insert, conform, delete_some, in_full
from recsys.store.database import Store


@dataclass(frozen=True)
class KeptRequest:
    """A question with its answer, and what the answer was made from. Times are microseconds UTC."""

    request_id: str
    user_id: str | None
    visitor_id: str | None
    asked_at: int
    as_of: int  # later events do not count
    bundle: str
    revision: int  # items that changed later do not count
    question: str  # JSON
    answer: str  # JSON


def insert_requests(store: Store, requests: Sequence[KeptRequest]) -> int:
    """Store requests with a new id; return how many.

    Those from before a deletion of the user or the visitor do not stay.
    """
    if not requests:
        return 0
    table = store.tables.requests
    columns = {field.name: [getattr(request, field.name) for request in requests] for field in fields(KeptRequest)}
    rows = conform(pa.table(columns), table).sort_by("request_id")
    inserted = store.transact(lambda connection: bulk_insert(connection, table, rows, replace=False))
    # In a transaction of its own: a deletion that ended before the insert is seen now, and a later one has seen it.
    return inserted - store.transact(lambda connection: _remove_deleted(connection, store, columns["request_id"]))


def find_request(store: Store, request_id: str) -> KeptRequest:
    """Read a request. Raises NotFoundError when it was not kept."""
    table = store.tables.requests
    with store.reading() as connection:
        row = connection.execute(sa.select(table).where(table.c.request_id == request_id)).mappings().one_or_none()
    if row is None:
        raise NotFoundError("No request with this id is kept; [requests] share and days say which are, and how long.")
    numbers = {name: int(row[name]) for name in ("asked_at", "as_of", "revision")}
    return KeptRequest(**{**row, **numbers})


def prune_requests(store: Store, *, asked_before: int) -> int:
    """Remove the requests from before a moment (microseconds UTC); return how many."""
    table = store.tables.requests
    return in_full(lambda: delete_some(store, table, table.c.asked_at < asked_before))


def _remove_deleted(connection: sa.Connection, store: Store, request_ids: Sequence[str]) -> int:
    table, deletions, visitors = store.tables.requests, store.tables.deletions, store.tables.visitors
    of_user = sa.select(deletions.c.deleted_at).where(deletions.c.user_id == table.c.user_id).scalar_subquery()
    of_visitor = sa.select(visitors.c.deleted_at).where(visitors.c.visitor_id == table.c.visitor_id).scalar_subquery()
    removed = 0
    for start in range(0, len(request_ids), MANY_IDS):
        these = table.c.request_id.in_(request_ids[start : start + MANY_IDS])
        for until in (of_user, of_visitor):
            removed += connection.execute(table.delete().where(these, table.c.asked_at <= until)).rowcount
    return removed
