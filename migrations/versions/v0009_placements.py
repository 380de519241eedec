"""The placements of the shop's pages, a row for each change."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0009"
down_revision = "0008"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table, and the index by which the last change of a name is found."""
    placements = f"{context.config.attributes['prefix']}placements"
    op.create_table(
        placements,
        sa.Column("change_id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("name", _KEY, nullable=False),
        sa.Column("definition", _TEXT),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", _TEXT, nullable=False),
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
    op.create_index(f"{placements}_name", placements, ["name", "change_id"], if_not_exists=True)
