"""The campaigns, the log of their changes, the register of exports, and which exports hold a deleted user."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0012"
down_revision = "0011"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_NUMBER = sa.BigInteger()
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the three tables with their indexes, and the column; what a migration that was cut off made is kept."""
    prefix = str(context.config.attributes["prefix"])
    _create(
        f"{prefix}campaigns",
        sa.Column("name", _KEY, primary_key=True),
        _required("state", _KEY),
        _required("definition", _TEXT),
        _required("audience_id", _KEY),
        _required("control_share", sa.Double()),
        _required("facts", _TEXT),
        sa.Column("measurement", _TEXT),
        _required("changed_at", _NUMBER),
        _required("changed_by", _TEXT),
    )
    _create(
        f"{prefix}campaign_changes",
        sa.Column("change_id", _SERIAL, primary_key=True, autoincrement=True),
        _required("campaign", _KEY),
        _required("action", _KEY),
        _required("changed_at", _NUMBER),
        _required("changed_by", _TEXT),
    )
    _create(
        f"{prefix}exports",
        sa.Column("export_id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("campaign", _KEY),
        _required("audience_id", _KEY),
        _required("control_share", sa.Double()),
        _required("destination", _TEXT),
        _required("members", _NUMBER),
        _required("exported_by", _TEXT),
        _required("began_at", _NUMBER),
        sa.Column("finished_at", _NUMBER),
    )
    for table, name, columns in (
        ("campaigns", "audience", ["audience_id"]),
        ("campaign_changes", "campaign", ["campaign", "change_id"]),
        ("exports", "audience", ["audience_id"]),
    ):
        op.create_index(f"{prefix}{table}_{name}", f"{prefix}{table}", columns, if_not_exists=True)
    deletions = f"{prefix}deletions"
    if "exports" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns(deletions)}:
        op.add_column(deletions, sa.Column("exports", _TEXT))


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
