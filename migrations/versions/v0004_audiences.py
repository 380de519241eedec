"""The frozen audiences and their members."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0004"
down_revision = "0003"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_NUMBER = sa.BigInteger()


def upgrade() -> None:
    """Create both tables, and the index by which a user who is deleted is found in every audience."""
    prefix = str(context.config.attributes["prefix"])
    _create(
        f"{prefix}audiences",
        sa.Column("audience_id", _KEY, primary_key=True),
        _required("created_at", _NUMBER),
        _required("as_of", _NUMBER),
        _required("items", _TEXT),
        _required("size", _NUMBER),
        _required("strategy", _KEY),
        _required("options", _TEXT),
        _required("bundle", _KEY),
        _required("consent", _KEY),
        _required("window_days", sa.Double()),
        _required("eligible", _NUMBER),
        _required("left_out", _TEXT),
        _required("warnings", _TEXT),
    )
    members = f"{prefix}audience_members"
    _create(
        members,
        sa.Column("audience_id", _KEY, primary_key=True),
        sa.Column("user_id", _KEY, primary_key=True),
        _required("rank", _NUMBER),
        _required("probability", sa.Double()),
        _required("reason", _KEY),
    )
    op.create_index(f"{members}_user", members, ["user_id"], if_not_exists=True)


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


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
