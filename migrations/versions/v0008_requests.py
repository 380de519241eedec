"""What was asked and answered, for those requests that are kept."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0008"
down_revision = "0007"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_NUMBER = sa.BigInteger()


def upgrade() -> None:
    """Create the table, and the indexes by which a person's and old rows are found."""
    requests = f"{context.config.attributes['prefix']}requests"
    op.create_table(
        requests,
        sa.Column("request_id", _KEY, primary_key=True),
        sa.Column("user_id", _KEY),
        sa.Column("visitor_id", _KEY),
        _required("asked_at", _NUMBER),
        _required("as_of", _NUMBER),
        _required("bundle", _KEY),
        _required("revision", _NUMBER),
        _required("question", _TEXT),
        _required("answer", _TEXT),
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
    for name, column in (("user", "user_id"), ("visitor", "visitor_id"), ("asked", "asked_at")):
        op.create_index(f"{requests}_{name}", requests, [column], if_not_exists=True)


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)
