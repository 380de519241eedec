"""Open the own tables of one shop, and bring them up to date."""

import re
from collections.abc import Generator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import migrations
from recsys.errors import ConfigError, RecsysError
from recsys.store.database import Store, connect, database_url
from recsys.store.tables import own_tables

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")


def open_store(url: str, prefix: str = "recsys_", *, migrated: bool = True) -> Store:
    """Connect and bring the tables up to date (`migrated=False`: leave them as they are).

    Raises ConfigError for a URL or prefix that is not allowed, RecsysError when the database does not answer, is no
    PostgreSQL, MariaDB or SQLite that can hold the tables, or was made by a newer version of this software.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"the table prefix {prefix!r} is not allowed; it must match {_PREFIX.pattern}")
    parsed = database_url(url)
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("the own tables cannot live in memory; name a file, as sqlite:///recsys.db")
    store = Store(connect(parsed), prefix, own_tables(prefix))
    try:
        with store.engine.connect() as connection:
            _check_server(connection)
        if migrated:
            migrate(store)
    except sa.exc.DBAPIError as error:
        store.close()
        where = parsed.render_as_string(hide_password=True)
        raise RecsysError(f"the store at {where} does not work: {error.orig}") from None
    except RecsysError:
        store.close()
        raise
    return store


def migrate(store: Store) -> None:
    """Bring the tables from whatever they are, or from nothing, to this version. Twice changes nothing.

    Several processes may do it at once; one of them works and the others wait.
    """
    config = _migrations(store)
    found, head = revisions(store)
    if found == head:
        return
    with store.writing() as connection, _migrating_alone(connection, store.prefix):
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RecsysError(f"the tables {store.prefix}… cannot be brought to {head}: {error}") from None


def revisions(store: Store) -> tuple[str | None, str | None]:
    """The migration that the tables are at (None: there are none yet), and the newest that this version knows."""
    with store.reading() as connection:
        options = {"version_table": f"{store.prefix}migrations"}
        found = MigrationContext.configure(connection, opts=options).get_current_revision()
    return found, ScriptDirectory.from_config(_migrations(store)).get_current_head()


def own_queries(store: Store, *, received_until: int | None = None) -> tuple[str, str, str]:
    """SQL over the own tables in the columns of [source]: interactions, items, users.

    Interactions: user_id, item_id, event, timestamp (microseconds UTC), value; visitors' events are not among them.
    With `received_until` (microseconds) only events received up to then. Items and users: the known columns and
    `attributes`, a JSON object with all others, or null.
    """
    events, items, users = store.tables.events, store.tables.items, store.tables.users
    catalog = ", ".join(column.name for column in items.columns if column.name != "own_revision")
    until = "" if received_until is None else f" AND received_at <= {int(received_until)}"
    return (
        f"SELECT user_id, item_id, kind AS event, occurred_at AS timestamp, value FROM {events.name} "
        f"WHERE user_id IS NOT NULL{until}",
        f"SELECT {catalog} FROM {items.name}",
        f"SELECT {', '.join(users.columns.keys())} FROM {users.name}",
    )


def _check_server(connection: sa.Connection) -> None:
    if connection.dialect.name == "mysql" and not getattr(connection.dialect, "is_mariadb", False):
        raise RecsysError(
            "the store is a MySQL server, whose collations merge ids that differ in trailing blanks; "
            "allowed are SQLite, PostgreSQL and MariaDB"
        )


def _migrations(store: Store) -> AlembicConfig:
    config = AlembicConfig(attributes={"prefix": store.prefix})
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    return config


@contextmanager
def _migrating_alone(connection: sa.Connection, prefix: str) -> Generator[None]:
    """Hold the lock of the migrations: to the end of the transaction, but on MariaDB, whose DDL commits by itself."""
    locks = {
        "sqlite": "SELECT :name IS NOT NULL",  # the transaction itself is the lock
        "postgresql": "SELECT pg_advisory_xact_lock(hashtext(:name)) IS NOT NULL",
        "mysql": "SELECT GET_LOCK(:name, 60)",
    }
    name, dialect = {"name": f"{prefix}migrations"}, connection.dialect.name
    if not connection.execute(sa.text(locks[dialect]), name).scalar():
        raise RecsysError(f"another process has been migrating the tables {prefix}… for 60 seconds")
    if dialect != "mysql":
        yield
        return
    try:
        yield
        connection.exec_driver_sql("COMMIT")  # who gets the lock next must find what was done under it
    finally:
        connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), name)
