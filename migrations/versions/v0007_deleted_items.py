"""When an item was deleted."""

import sqlalchemy as sa
from alembic import context, op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; no item that is stored was deleted."""
    items = f"{context.config.attributes['prefix']}items"
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(items)}
    if "own_deleted_at" not in there:  # MariaDB commits every statement by itself: a killed migration starts half done
        op.add_column(items, sa.Column("own_deleted_at", sa.BigInteger()))
