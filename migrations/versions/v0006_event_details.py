"""What an event says beside who, what and when: quantity, price, currency, order and free properties."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0006"
down_revision = "0005"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_COLUMNS: dict[str, Any] = {
    "quantity": sa.Double(),
    "price": sa.Double(),
    "currency": _KEY,
    "order_id": _KEY,
    "properties": _TEXT,
}


def upgrade() -> None:
    """Add the columns; what was stored before has nulls there."""
    events = f"{context.config.attributes['prefix']}events"
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(events)}
    for name, kind in _COLUMNS.items():
        if name not in there:  # MariaDB commits every statement by itself: a killed migration starts over half done
            op.add_column(events, sa.Column(name, kind))
