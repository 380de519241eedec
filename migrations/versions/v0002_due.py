"""The due times of the schedule, and which due time a run was for."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_NUMBER = sa.BigInteger()


def upgrade() -> None:
    """Create the table of due times and add two columns to the runs."""
    prefix = str(context.config.attributes["prefix"])
    op.create_table(
        f"{prefix}due",
        sa.Column("job", _KEY, primary_key=True),
        _required("entry", _KEY),
        _required("due_at", _NUMBER),
        _required("attempts", _NUMBER),
        sa.Column("owner", _KEY),
        _required("free_at", _NUMBER),
        _required("planned_at", _NUMBER),
        sa.Column("alerted_at", _NUMBER),
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
    runs = f"{prefix}runs"
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(runs)}
    for name in ("due_at", "alerted_at"):
        if name not in there:  # MariaDB commits every statement by itself: a killed migration starts over half done
            op.add_column(runs, sa.Column(name, _NUMBER))


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)
