"""Run the migrations, by Alembic: loaded only where tables are missing or older, as most processes find them ready."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError

import migrations
from recsys.errors import RecsysError


def upgrade(connection: sa.Connection, prefix: str) -> None:
    """Bring the tables to this version in the transaction of the connection. Raises RecsysError when that fails."""
    config = AlembicConfig(attributes={"prefix": prefix, "connection": connection})
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise RecsysError(f"the tables {prefix}… cannot be brought to this version: {error}") from None
