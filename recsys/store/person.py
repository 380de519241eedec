"""Everything that the own tables hold of one user, for who asks what is known of them."""

import json
from typing import Any

import sqlalchemy as sa

from recsys.data.times import rfc3339
from recsys.store.campaigns import is_held_back, select_exports_of
from recsys.store.database import Store

_EVENT = ("event_id", "visitor_id", "kind", "item_id", "value", "quantity", "price")
_FURTHER = ("currency", "order_id", "properties", "occurred_at", "received_at")


def read_person(store: Store, user_id: str) -> dict[str, Any]:
    """Read what is kept of a user, but the events: row, visitors, memberships, exports, reviews, kept requests."""
    tables = store.tables
    users, visitors, requests, deletions = tables.users, tables.visitors, tables.requests, tables.deletions
    reviews = tables.reviews
    with store.reading() as connection:
        row = connection.execute(sa.select(users).where(users.c.user_id == user_id)).mappings().one_or_none()
        merged = connection.execute(sa.select(visitors.c.visitor_id).where(visitors.c.user_id == user_id)).scalars()
        asked = sa.select(requests.c.request_id, requests.c.asked_at, requests.c.question, requests.c.answer)
        kept = connection.execute(asked.where(requests.c.user_id == user_id).order_by(requests.c.asked_at)).all()
        deleted = connection.execute(sa.select(deletions.c.deleted_at).where(deletions.c.user_id == user_id)).scalar()
        return {
            "user_id": user_id,
            "deleted_at": rfc3339(deleted),
            "email_consent": None if row is None or row["email_consent"] is None else bool(row["email_consent"]),
            "attributes": None if row is None else json.loads(row["attributes"] or "{}"),
            "visitor_ids": sorted(merged),
            "memberships": _memberships(store, connection, user_id),
            "exports": [
                {
                    "export_id": one.export_id,
                    "campaign": one.campaign,
                    "destination": one.destination,
                    "began_at": rfc3339(one.began_at),
                }
                for one in select_exports_of(connection, tables, user_id)
            ],
            "reviews": [
                {**review, "time": rfc3339(review["time"])}
                for review in connection.execute(sa.select(reviews).where(reviews.c.user_id == user_id)).mappings()
            ],
            "requests": [
                {
                    "request_id": request_id,
                    "asked_at": rfc3339(at),
                    "question": json.loads(question),
                    "answer": json.loads(answer),
                }
                for request_id, at, question, answer in kept
            ],
        }


def read_own_events(store: Store, user_id: str, *, skip: int, limit: int) -> list[dict[str, Any]]:
    """Read the events that were posted or imported for a user, in the order in which they came, after `skip` ones."""
    events = store.tables.events.c
    columns = [events[name] for name in (*_EVENT, *_FURTHER)]
    query = sa.select(*columns).where(events.user_id == user_id).order_by(events.received_at, events.event_id)
    with store.reading() as connection:
        rows = connection.execute(query.offset(skip).limit(limit)).mappings().all()
    return [
        {**row, "occurred_at": rfc3339(row["occurred_at"]), "received_at": rfc3339(row["received_at"])} for row in rows
    ]


def _memberships(store: Store, connection: sa.Connection, user_id: str) -> list[dict[str, Any]]:
    members, audiences, campaigns = store.tables.audience_members, store.tables.audiences, store.tables.campaigns
    query = (
        sa.select(
            members.c.audience_id,
            audiences.c.as_of,
            audiences.c.strategy,
            members.c.rank,
            members.c.probability,
            members.c.reason,
            campaigns.c.name,
            campaigns.c.control_share,
        )
        .join(audiences, audiences.c.audience_id == members.c.audience_id)
        .join(campaigns, campaigns.c.audience_id == members.c.audience_id, isouter=True)
        .where(members.c.user_id == user_id)
        .order_by(audiences.c.as_of, members.c.audience_id, campaigns.c.name)
    )
    return [
        {
            "audience_id": row.audience_id,
            "campaign": row.name,
            "held_back": is_held_back(user_id, row.name, row.control_share or 0.0),
            "as_of": rfc3339(row.as_of),
            "strategy": row.strategy,
            "rank": row.rank,
            "probability": row.probability,
            "reason": row.reason,
        }
        for row in connection.execute(query)
    ]
