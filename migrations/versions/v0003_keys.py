"""The keys of the API, and the order in which items changed."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_NUMBER = sa.BigInteger()


def upgrade() -> None:
    """Create the tables of keys and counters and add the column that orders the changes of items."""
    prefix = str(context.config.attributes["prefix"])
    _create(
        f"{prefix}keys",
        sa.Column("key_id", _KEY, primary_key=True),
        sa.Column("name", _TEXT, nullable=False),
        sa.Column("scopes", _TEXT, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("created_at", _NUMBER, nullable=False),
        sa.Column("revoked_at", _NUMBER),
    )
    _create(f"{prefix}counters", sa.Column("name", _KEY, primary_key=True), sa.Column("value", _NUMBER, nullable=False))
    items = f"{prefix}items"
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(items)}
    if "own_revision" not in there:  # MariaDB commits every statement by itself: a killed migration starts half done
        op.add_column(items, sa.Column("own_revision", _NUMBER))
    op.create_index(f"{items}_revision", items, ["own_revision"], if_not_exists=True)


def _create(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        *columns,
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
