"""The reviews of items that were imported."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0011"
down_revision = "0010"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Create the table, and the index by which a user's reviews are deleted."""
    reviews = f"{context.config.attributes['prefix']}reviews"
    op.create_table(
        reviews,
        sa.Column("review_id", _KEY, primary_key=True),
        sa.Column("item_id", _KEY, nullable=False),
        sa.Column("user_id", _KEY),
        sa.Column("stars", sa.Double()),
        sa.Column("text", _TEXT, nullable=False),
        sa.Column("time", sa.BigInteger()),
        sa.Column("language", _KEY),
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
    op.create_index(f"{reviews}_user", reviews, ["user_id"], if_not_exists=True)
