"""The service's own tables: the database behind them, their shapes, and how they are brought up to date.

SQLite, PostgreSQL and MariaDB on equal footing. Times are BIGINT microseconds UTC, ids VARCHAR(255) that are compared
byte by byte. Rows are read and written in `store_rows`, runs and leases in `store_runs`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.dialects import mysql, postgresql

import migrations
from recsys.errors import ConfigError, RecsysError, RefusedError

MAX_ID_LENGTH = 255

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")
_BUSY_SECONDS = 30
_IDLE_SECONDS = 60  # a transaction whose owner has vanished keeps its locks no longer

# What the database's own clock says, in microseconds UTC, whatever its time zone.
_CLOCKS = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
}


@dataclass(frozen=True)
class Tables:
    """The own tables under one prefix, for building queries; the migrations create them."""

    items: sa.Table
    users: sa.Table
    events: sa.Table
    deletions: sa.Table
    runs: sa.Table
    leases: sa.Table


@dataclass(frozen=True)
class Store:
    """An open database with the own tables of one shop. One a process: it does not survive a fork."""

    engine: sa.Engine
    prefix: str
    tables: Tables

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it or, when an exception leaves it, nothing."""
        with self.engine.connect().execution_options(recsys_writes=True) as connection, connection.begin():
            yield connection

    def now(self) -> int:
        """The database's own clock: microseconds UTC."""
        with self.reading() as connection:
            return clock(connection)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def database_url(url: str) -> sa.URL:
    """The URL as users write it -> the URL with the driver that we use. For the shop's database too.

    Raises ConfigError when it is no URL or names a database that we do not speak.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise ConfigError(
            "the database URL cannot be read; allowed are sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE and "
            "mariadb://USER:PASSWORD@HOST/DATABASE (special characters in the password as %40)"
        ) from None
    family = parsed.drivername.split("+")[0]
    if family not in _DRIVERS:
        raise ConfigError(
            f"unknown kind of database {parsed.drivername!r}; allowed are sqlite, postgresql, mariadb and mysql"
        )
    parsed = parsed.set(drivername=_DRIVERS[family])
    if parsed.drivername == "mysql+pymysql" and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


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
    store = Store(_engine(parsed), prefix, _tables(prefix))
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
    config = AlembicConfig(attributes={"prefix": store.prefix})
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    if _revision(store) == head:
        return
    with store.writing() as connection:
        config.attributes["connection"] = connection
        _lock_migrations(connection, store.prefix)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RecsysError(f"the tables {store.prefix}… cannot be brought to {head}: {error}") from None
        finally:
            if connection.dialect.name == "mysql":
                connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": f"{store.prefix}migrations"})


def clock(connection: sa.Connection) -> int:
    """The database's own clock: microseconds UTC. Not the start of the transaction: the moment of the call."""
    return int(connection.exec_driver_sql(_CLOCKS[connection.dialect.name]).scalar_one())


def own_queries(store: Store, *, received_until: int | None = None) -> tuple[str, str, str]:
    """SQL over the own tables in the columns of [source]: interactions, items, users.

    Interactions: user_id, item_id, event, timestamp (microseconds UTC), value; visitors' events are not among them.
    With `received_until` (microseconds) only events received up to then. Items and users: the known columns and
    `attributes`, a JSON object with all others, or null.
    """
    events, items, users = store.tables.events, store.tables.items, store.tables.users
    until = "" if received_until is None else f" AND received_at <= {int(received_until)}"
    return (
        f"SELECT user_id, item_id, kind AS event, occurred_at AS timestamp, value FROM {events.name} "
        f"WHERE user_id IS NOT NULL{until}",
        f"SELECT {', '.join(items.columns.keys())} FROM {items.name}",
        f"SELECT {', '.join(users.columns.keys())} FROM {users.name}",
    )


def bad_ids(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where an id (string column) cannot be stored: empty, over 255 characters, or with a NUL. Null stays null."""
    length = pc.utf8_length(ids)
    wrong = pc.or_(pc.equal(length, 0), pc.greater(length, MAX_ID_LENGTH))
    return pc.or_(wrong, pc.match_substring(ids, "\x00"))


def check_id(what: str, identifier: str) -> str:
    """The id itself. Raises RefusedError that names `what` ("user_id") when it cannot be stored."""
    fault = None
    if not identifier:
        fault = "is empty"
    elif len(identifier) > MAX_ID_LENGTH:
        fault = f"has {len(identifier)} characters"
    elif "\x00" in identifier:
        fault = "holds a NUL character"
    elif any("\ud800" <= character <= "\udfff" for character in identifier):
        fault = "holds half a surrogate pair, which is no text"
    if fault:
        raise RefusedError(f"{what} {fault}; allowed are 1 to {MAX_ID_LENGTH} characters other than NUL")
    return identifier


def _tables(prefix: str) -> Tables:
    metadata = sa.MetaData()
    key = sa.String(MAX_ID_LENGTH).with_variant(postgresql.VARCHAR(MAX_ID_LENGTH, collation="C"), "postgresql")
    text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
    number = sa.BigInteger()
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

    def table(name: str, *columns: Any) -> sa.Table:
        return sa.Table(prefix + name, metadata, *columns)

    return Tables(
        items=table(
            "items",
            sa.Column("item_id", key, primary_key=True),
            *(sa.Column(name, text) for name in ("title", "category", "brand")),
            sa.Column("price", sa.Double()),
            sa.Column("available", sa.Boolean()),
            sa.Column("image_url", text),
            sa.Column("created_at", number),
            sa.Column("attributes", text),
        ),
        users=table(
            "users",
            sa.Column("user_id", key, primary_key=True),
            sa.Column("email_consent", sa.Boolean()),
            sa.Column("attributes", text),
        ),
        events=table(
            "events",
            sa.Column("event_id", key, primary_key=True),
            sa.Column("user_id", key),
            sa.Column("visitor_id", key),
            sa.Column("kind", key, nullable=False),
            sa.Column("item_id", key, nullable=False),
            sa.Column("value", sa.Double()),
            sa.Column("request_id", key),
            sa.Column("occurred_at", number, nullable=False),
            sa.Column("received_at", number, nullable=False),
            # What is new of one user, of one visitor, of everybody: the three questions that are asked all the time.
            sa.Index(f"{prefix}events_user", "user_id", "received_at"),
            sa.Index(f"{prefix}events_visitor", "visitor_id", "occurred_at"),
            sa.Index(f"{prefix}events_received", "received_at"),
        ),
        deletions=table(
            "deletions", sa.Column("user_id", key, primary_key=True), sa.Column("deleted_at", number, nullable=False)
        ),
        runs=table(
            "runs",
            sa.Column("run_id", serial, primary_key=True, autoincrement=True),
            sa.Column("job", key, nullable=False),
            sa.Column("config_hash", key, nullable=False),
            sa.Column("status", key, nullable=False),
            sa.Column("lease", key),
            sa.Column("fencing", number),
            sa.Column("host", key, nullable=False),
            sa.Column("pid", number, nullable=False),
            sa.Column("started_at", number, nullable=False),
            sa.Column("heartbeat_at", number, nullable=False),
            sa.Column("finished_at", number),
            sa.Column("steps", text, nullable=False),
            sa.Column("metrics", text),
            sa.Column("error", text),
            sa.Column("bundle", key),
        ),
        leases=table(
            "leases",
            sa.Column("name", key, primary_key=True),
            sa.Column("owner", key),
            sa.Column("fencing", number, nullable=False),
            sa.Column("expires_at", number, nullable=False),
        ),
    )


def _engine(url: sa.URL) -> sa.Engine:
    # hide_parameters: errors must not carry the ids of people into logs.
    if url.drivername == "sqlite":
        engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS})
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=True, isolation_level="READ COMMITTED")
    sa.event.listen(engine, "connect", _set_up_mariadb if engine.dialect.name == "mysql" else _set_up_postgresql)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own: _begin_sqlite does
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an event that was acknowledged survives a power cut


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes its lock at once: one that reads first and then wants to write is refused without waiting.
    writes = connection.get_execution_options().get("recsys_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
    connection.commit()


def _set_up_mariadb(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        if "mariadb" not in cursor.fetchone()[0].lower():
            return  # _check_server says so in words
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")
        cursor.execute(f"SET SESSION idle_transaction_timeout = {_IDLE_SECONDS}")
        cursor.execute("SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin")


def _check_server(connection: sa.Connection) -> None:
    if connection.dialect.name == "mysql" and not getattr(connection.dialect, "is_mariadb", False):
        raise RecsysError(
            "the store is a MySQL server, whose collations merge ids that differ in trailing blanks; "
            "allowed are SQLite, PostgreSQL and MariaDB"
        )


def _revision(store: Store) -> str | None:
    with store.reading() as connection:
        options = {"version_table": f"{store.prefix}migrations"}
        return MigrationContext.configure(connection, opts=options).get_current_revision()


def _lock_migrations(connection: sa.Connection, prefix: str) -> None:
    locks = {  # MariaDB's DDL commits by itself, so its lock is the session's; SQLite's is the transaction itself
        "sqlite": "SELECT :name IS NOT NULL",
        "postgresql": "SELECT pg_advisory_xact_lock(hashtext(:name)) IS NOT NULL",
        "mysql": "SELECT GET_LOCK(:name, 60)",
    }
    if not connection.execute(sa.text(locks[connection.dialect.name]), {"name": f"{prefix}migrations"}).scalar():
        raise RecsysError(f"another process has been migrating the tables {prefix}… for 60 seconds")
