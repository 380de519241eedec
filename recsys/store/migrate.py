"""Open the own tables of one shop and migrate them to this version."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

import migrations
from recsys.errors import ConfigError, RecsysError
from recsys.imports import resolve
from recsys.store.database import Store, connect, database_url
from recsys.store.tables import own_tables

_UPGRADE = "recsys.store.upgrade:upgrade"
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")


def open_store(url: str, prefix: str = "recsys_", *, migrated: bool = True) -> Store:
    """Connect and migrate the tables (`migrated=False`: leave them as they are).

    Raises ConfigError for a URL or prefix that is not allowed. Raises RecsysError when the database does not answer,
    is a MySQL server, or holds tables of a newer version.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"the table prefix {prefix!r} is not allowed; it must match {_PREFIX.pattern}")
    parsed = database_url(url)
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("the own tables cannot live in memory; name a file, as sqlite:///recsys.db")
    store = Store(connect(parsed), prefix, own_tables(prefix))
    try:
        with _connected(store) as connection:
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


def _connected(store: Store) -> sa.Connection:
    try:
        return store.engine.connect()
    except (TypeError, OSError) as error:  # pymysql takes the URL's options as arguments, and opens the files of TLS
        where = store.engine.url.render_as_string(hide_password=True)
        raise ConfigError(f"the store at {where} has an option that its driver cannot use: {error}") from None


def migrate(store: Store) -> None:
    """Create the tables or bring them to this version. A second call changes nothing.

    Several processes may call it at once: one migrates and the others wait. Raises RecsysError when the tables are of
    a newer version, or when another process holds the lock for 60 seconds.
    """
    found, newest = read_revisions(store)
    if found == newest:
        return
    with store.writing() as connection, _migration_lock(connection, store.prefix):
        resolve(_UPGRADE)(connection, store.prefix)


def read_revisions(store: Store) -> tuple[str | None, str | None]:
    """Read the tables' migration (None: there are no tables) and the newest one that this version knows."""
    table = f"{store.prefix}migrations"
    with store.reading() as connection:
        found = None
        if sa.inspect(connection).has_table(table):
            found = connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(table)))
    return found, newest_migration()


def newest_migration() -> str:
    """The number of the newest migration that this version knows, from the names of their files: v0001_events.py."""
    newest = max(path.name for path in Path(migrations.__path__[0], "versions").glob("v*_*.py"))
    return newest.partition("_")[0].removeprefix("v")


def _check_server(connection: sa.Connection) -> None:
    if connection.dialect.name == "mysql" and not getattr(connection.dialect, "is_mariadb", False):
        raise RecsysError(
            "the store is a MySQL server, whose collations merge ids that differ in trailing blanks; "
            "allowed are SQLite, PostgreSQL and MariaDB"
        )


@contextmanager
def _migration_lock(connection: sa.Connection, prefix: str) -> Generator[None]:
    """Hold the lock of the migrations until the transaction ends.

    MariaDB commits each change of a table by itself, so there the lock is released when the block ends.
    """
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
        connection.exec_driver_sql("COMMIT")  # before the lock is free: the next holder must see it
    finally:
        connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), name)
