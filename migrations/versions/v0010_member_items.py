"""What the strategy measured of a member of an audience, and which of the items suits the member best."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0010"
down_revision = "0009"

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Add the columns that are not there yet: a migration that was cut off is run again."""
    members = f"{context.config.attributes['prefix']}audience_members"
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(members)}
    for column in (sa.Column("score", sa.Double()), sa.Column("best_item", _KEY), sa.Column("runners_up", _TEXT)):
        if column.name not in known:
            op.add_column(members, column)
