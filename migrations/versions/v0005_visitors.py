"""The visitors who were merged with a user or deleted."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_NUMBER = sa.BigInteger()


def upgrade() -> None:
    """Create the table, and the index by which all visitors of a user are found; fill it from the events.

    An event that names both ids has merged them: the first of a visitor counts, as of those that come from now on.
    """
    events = f"{context.config.attributes['prefix']}events"
    visitors = f"{context.config.attributes['prefix']}visitors"
    op.create_table(
        visitors,
        sa.Column("visitor_id", _KEY, primary_key=True),
        sa.Column("user_id", _KEY),
        sa.Column("merged_at", _NUMBER),
        sa.Column("deleted_at", _NUMBER),
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
    op.create_index(f"{visitors}_user", visitors, ["user_id"], if_not_exists=True)
    op.execute(
        f"INSERT INTO {visitors} (visitor_id, user_id, merged_at) SELECT visitor_id, user_id, occurred_at FROM "
        "(SELECT visitor_id, user_id, occurred_at, "
        "ROW_NUMBER() OVER (PARTITION BY visitor_id ORDER BY occurred_at, event_id) AS place "
        f"FROM {events} WHERE user_id IS NOT NULL AND visitor_id IS NOT NULL) AS met "
        f"WHERE place = 1 AND visitor_id NOT IN (SELECT visitor_id FROM {visitors})"
    )
