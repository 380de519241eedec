"""The tables of the first version.

`if_not_exists`: MariaDB commits every statement by itself, so a migration that was killed starts over half done.
"""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None

_KEY = sa.String(255).with_variant(postgresql.VARCHAR(255, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_NUMBER = sa.BigInteger()
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables and their indexes."""
    _create(
        "items",
        sa.Column("item_id", _KEY, primary_key=True),
        *(sa.Column(name, _TEXT) for name in ("title", "category", "brand")),
        sa.Column("price", sa.Double()),
        sa.Column("available", sa.Boolean()),
        sa.Column("image_url", _TEXT),
        sa.Column("created_at", _NUMBER),
        sa.Column("attributes", _TEXT),
    )
    _create(
        "users",
        sa.Column("user_id", _KEY, primary_key=True),
        sa.Column("email_consent", sa.Boolean()),
        sa.Column("attributes", _TEXT),
    )
    _create_events()
    _create("deletions", sa.Column("user_id", _KEY, primary_key=True), _required("deleted_at", _NUMBER))
    _create_runs()
    _create(
        "leases",
        sa.Column("name", _KEY, primary_key=True),
        sa.Column("owner", _KEY),
        _required("fencing", _NUMBER),
        _required("expires_at", _NUMBER),
    )


def _create_events() -> None:
    _create(
        "events",
        sa.Column("event_id", _KEY, primary_key=True),
        sa.Column("user_id", _KEY),
        sa.Column("visitor_id", _KEY),
        _required("kind", _KEY),
        _required("item_id", _KEY),
        sa.Column("value", sa.Double()),
        sa.Column("request_id", _KEY),
        _required("occurred_at", _NUMBER),
        _required("received_at", _NUMBER),
    )
    table = _prefix() + "events"
    op.create_index(f"{table}_user", table, ["user_id", "received_at"], if_not_exists=True)
    op.create_index(f"{table}_visitor", table, ["visitor_id", "occurred_at"], if_not_exists=True)
    op.create_index(f"{table}_received", table, ["received_at"], if_not_exists=True)


def _create_runs() -> None:
    _create(
        "runs",
        sa.Column("run_id", _SERIAL, primary_key=True, autoincrement=True),
        _required("job", _KEY),
        _required("config_hash", _KEY),
        _required("status", _KEY),
        _required("owner", _KEY),
        sa.Column("fencing", _NUMBER),
        _required("started_at", _NUMBER),
        _required("heartbeat_at", _NUMBER),
        sa.Column("finished_at", _NUMBER),
        _required("steps", _TEXT),
        sa.Column("metrics", _TEXT),
        sa.Column("error", _TEXT),
        sa.Column("bundle", _KEY),
    )


def _prefix() -> str:
    return str(context.config.attributes["prefix"])


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _create(name: str, *columns: sa.Column[Any]) -> None:
    # The binary collation without padding keeps ids apart that differ in case, accents or trailing blanks.
    op.create_table(
        _prefix() + name,
        *columns,
        if_not_exists=True,
        mysql_engine="InnoDB",
        mysql_row_format="DYNAMIC",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_nopad_bin",
    )
