"""The own tables: their columns under one prefix, and the SQL that reads them as a source.

Times are BIGINT microseconds UTC. Ids are VARCHAR(255), compared byte by byte.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

MAX_ID_LENGTH = 255
NO_STAYS = "no stays"  # of a column of yes and no: an unknown value does not take the place of a no
UNREADABLE = "own_unreadable"  # the attribute that holds what an import could not read, as JSON: column -> text


@dataclass(frozen=True)
class Tables:
    """The own tables under one prefix, to build queries with. The migrations create them."""

    items: sa.Table
    users: sa.Table
    events: sa.Table
    deletions: sa.Table
    visitors: sa.Table
    runs: sa.Table
    leases: sa.Table
    due: sa.Table
    keys: sa.Table
    audiences: sa.Table
    audience_members: sa.Table
    counters: sa.Table
    requests: sa.Table
    placements: sa.Table
    reviews: sa.Table
    campaigns: sa.Table
    campaign_changes: sa.Table
    exports: sa.Table


def own_tables(prefix: str) -> Tables:
    """Describe the own tables under a prefix, as the newest migration leaves them."""
    metadata = sa.MetaData()
    key = sa.String(MAX_ID_LENGTH).with_variant(postgresql.VARCHAR(MAX_ID_LENGTH, collation="C"), "postgresql")
    text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
    number = sa.BigInteger()
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

    def table(name: str, *columns: Any) -> sa.Table:
        return sa.Table(prefix + name, metadata, *columns)

    return Tables(
        items=table(
            "items",
            sa.Column("item_id", key, primary_key=True),
            *(sa.Column(name, text) for name in ("title", "category", "brand")),
            sa.Column("price", sa.Double()),
            sa.Column("available", sa.Boolean()),
            sa.Column("image_url", text),
            sa.Column("created_at", number),
            sa.Column("attributes", text),
            # Grows with every change of any item. A process reads the items above the last revision it has seen.
            sa.Column("own_revision", number),
            sa.Column("own_deleted_at", number),  # of a deleted item, whose other columns are null
            sa.Index(f"{prefix}items_revision", "own_revision"),
        ),
        users=table(
            "users",
            sa.Column("user_id", key, primary_key=True),
            sa.Column("email_consent", sa.Boolean(), info={NO_STAYS: True}),
            sa.Column("attributes", text),
        ),
        events=table(
            "events",
            sa.Column("event_id", key, primary_key=True),
            sa.Column("user_id", key),
            sa.Column("visitor_id", key),
            sa.Column("kind", key, nullable=False),
            sa.Column("item_id", key, nullable=False),
            sa.Column("value", sa.Double()),
            sa.Column("request_id", key),
            sa.Column("occurred_at", number, nullable=False),
            sa.Column("received_at", number, nullable=False),
            sa.Column("quantity", sa.Double()),
            sa.Column("price", sa.Double()),  # of one piece
            sa.Column("currency", key),
            sa.Column("order_id", key),
            sa.Column("properties", text),  # a JSON object
            # For the newest events of one user, of one visitor, and of everybody.
            sa.Index(f"{prefix}events_user", "user_id", "received_at"),
            sa.Index(f"{prefix}events_visitor", "visitor_id", "occurred_at"),
            sa.Index(f"{prefix}events_received", "received_at"),
        ),
        deletions=table(
            "deletions",
            sa.Column("user_id", key, primary_key=True),
            sa.Column("deleted_at", number, nullable=False),
            sa.Column("exports", text),  # the numbers of those that hold the user, as JSON
        ),
        visitors=table(
            "visitors",
            sa.Column("visitor_id", key, primary_key=True),
            sa.Column("user_id", key),  # with whom the visitor was merged
            sa.Column("merged_at", number),
            sa.Column("deleted_at", number),
            sa.Index(f"{prefix}visitors_user", "user_id"),
        ),
        runs=table(
            "runs",
            sa.Column("run_id", serial, primary_key=True, autoincrement=True),
            sa.Column("job", key, nullable=False),
            sa.Column("config_hash", key, nullable=False),
            sa.Column("status", key, nullable=False),
            sa.Column("owner", key, nullable=False),
            sa.Column("fencing", number),
            sa.Column("started_at", number, nullable=False),
            sa.Column("heartbeat_at", number, nullable=False),
            sa.Column("finished_at", number),
            sa.Column("steps", text, nullable=False),
            sa.Column("metrics", text),
            sa.Column("error", text),
            sa.Column("bundle", key),
            sa.Column("due_at", number),
            sa.Column("alerted_at", number),
        ),
        leases=table(
            "leases",
            sa.Column("name", key, primary_key=True),
            sa.Column("owner", key),
            sa.Column("fencing", number, nullable=False),
            sa.Column("expires_at", number, nullable=False),
        ),
        due=table(
            "due",
            sa.Column("job", key, primary_key=True),
            sa.Column("entry", key, nullable=False),
            sa.Column("due_at", number, nullable=False),
            sa.Column("attempts", number, nullable=False),
            sa.Column("owner", key),
            sa.Column("free_at", number, nullable=False),
            sa.Column("planned_at", number, nullable=False),
            sa.Column("alerted_at", number),
        ),
        keys=table(
            "keys",
            sa.Column("key_id", key, primary_key=True),
            sa.Column("name", text, nullable=False),
            sa.Column("scopes", text, nullable=False),
            sa.Column("digest", key, nullable=False),
            sa.Column("created_at", number, nullable=False),
            sa.Column("revoked_at", number),
        ),
        audiences=table(
            "audiences",
            sa.Column("audience_id", key, primary_key=True),
            sa.Column("created_at", number, nullable=False),
            sa.Column("as_of", number, nullable=False),
            sa.Column("items", text, nullable=False),
            sa.Column("size", number, nullable=False),
            sa.Column("strategy", key, nullable=False),
            sa.Column("options", text, nullable=False),
            sa.Column("bundle", key, nullable=False),
            sa.Column("consent", key, nullable=False),
            sa.Column("window_days", sa.Double(), nullable=False),
            sa.Column("eligible", number, nullable=False),
            sa.Column("left_out", text, nullable=False),
            sa.Column("warnings", text, nullable=False),
        ),
        audience_members=table(
            "audience_members",
            sa.Column("audience_id", key, primary_key=True),
            sa.Column("user_id", key, primary_key=True),
            sa.Column("rank", number, nullable=False),
            sa.Column("probability", sa.Double(), nullable=False),
            sa.Column("reason", key, nullable=False),
            sa.Column("score", sa.Double()),
            sa.Column("best_item", key),
            sa.Column("runners_up", text),
            sa.Index(f"{prefix}audience_members_user", "user_id"),
        ),
        counters=table(
            "counters", sa.Column("name", key, primary_key=True), sa.Column("value", number, nullable=False)
        ),
        requests=table(
            "requests",
            sa.Column("request_id", key, primary_key=True),
            sa.Column("user_id", key),
            sa.Column("visitor_id", key),
            sa.Column("asked_at", number, nullable=False),
            sa.Column("as_of", number, nullable=False),
            sa.Column("bundle", key, nullable=False),
            sa.Column("revision", number, nullable=False),
            sa.Column("question", text, nullable=False),
            sa.Column("answer", text, nullable=False),
            sa.Index(f"{prefix}requests_user", "user_id"),
            sa.Index(f"{prefix}requests_visitor", "visitor_id"),
            sa.Index(f"{prefix}requests_asked", "asked_at"),
        ),
        placements=table(
            "placements",
            sa.Column("change_id", serial, primary_key=True, autoincrement=True),
            sa.Column("name", key, nullable=False),
            sa.Column("definition", text),  # null: deleted
            sa.Column("changed_at", number, nullable=False),
            sa.Column("changed_by", text, nullable=False),
            sa.Index(f"{prefix}placements_name", "name", "change_id"),
        ),
        reviews=table(
            "reviews",
            sa.Column("review_id", key, primary_key=True),
            sa.Column("item_id", key, nullable=False),
            sa.Column("user_id", key),
            sa.Column("stars", sa.Double()),
            sa.Column("text", text, nullable=False),
            sa.Column("time", number),
            sa.Column("language", key),
            sa.Index(f"{prefix}reviews_user", "user_id"),
        ),
        campaigns=table(
            "campaigns",
            sa.Column("name", key, primary_key=True),
            sa.Column("state", key, nullable=False),
            sa.Column("definition", text, nullable=False),
            sa.Column("audience_id", key, nullable=False),
            sa.Column("control_share", sa.Double(), nullable=False),
            sa.Column("facts", text, nullable=False),
            sa.Column("measurement", text),
            sa.Column("changed_at", number, nullable=False),
            sa.Column("changed_by", text, nullable=False),
            sa.Index(f"{prefix}campaigns_audience", "audience_id"),
        ),
        campaign_changes=table(
            "campaign_changes",
            sa.Column("change_id", serial, primary_key=True, autoincrement=True),
            sa.Column("campaign", key, nullable=False),
            sa.Column("action", key, nullable=False),
            sa.Column("changed_at", number, nullable=False),
            sa.Column("changed_by", text, nullable=False),
            sa.Index(f"{prefix}campaign_changes_campaign", "campaign", "change_id"),
        ),
        exports=table(
            "exports",
            sa.Column("export_id", serial, primary_key=True, autoincrement=True),
            sa.Column("campaign", key),  # null: of `recsys audience`
            sa.Column("audience_id", key, nullable=False),
            sa.Column("control_share", sa.Double(), nullable=False),
            sa.Column("destination", text, nullable=False),
            sa.Column("members", number, nullable=False),
            sa.Column("exported_by", text, nullable=False),
            sa.Column("began_at", number, nullable=False),
            sa.Column("finished_at", number),  # null: it broke off
            sa.Index(f"{prefix}exports_audience", "audience_id"),
        ),
    )


def own_queries(tables: Tables, *, received_until: int | None = None) -> tuple[str, str, str]:
    """SQL over the own tables in the columns of [source]: interactions, items, users.

    Interactions: user_id, visitor_id (one of them may be null), item_id, event, timestamp (microseconds UTC), value,
    order_id.
    `received_until` (microseconds UTC) leaves out events received later. Items and users: the known columns, and
    `attributes` with all others as a JSON object, or null.
    """
    events, items, users = tables.events, tables.items, tables.users
    owners = "user_id, visitor_id"
    catalog = ", ".join(column.name for column in items.columns if not column.name.startswith("own_"))
    until = "" if received_until is None else f" WHERE received_at <= {int(received_until)}"
    return (
        f"SELECT {owners}, item_id, kind AS event, occurred_at AS timestamp, value, order_id FROM {events.name}{until}",
        f"SELECT {catalog} FROM {items.name} WHERE own_deleted_at IS NULL",
        f"SELECT {', '.join(users.columns.keys())} FROM {users.name}",
    )
