"""The database behind the own tables: how it is connected to, its clock, its transactions, and the tables' shapes.

SQLite, PostgreSQL and MariaDB on equal footing. Times are BIGINT microseconds UTC, ids VARCHAR(255) that are compared
byte by byte.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

from recsys.errors import ConfigError

MAX_ID_LENGTH = 255

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_LOG = "recsys"
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
    due: sa.Table
    keys: sa.Table
    audiences: sa.Table
    audience_members: sa.Table
    counters: sa.Table


@dataclass(frozen=True)
class Database:
    """A connection pool and the names of the own tables in it."""

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


def clock(connection: sa.Connection) -> int:
    """The database's own clock: microseconds UTC. Not the start of the transaction: the moment of the call."""
    return int(connection.exec_driver_sql(_CLOCKS[connection.dialect.name]).scalar_one())


def own_tables(prefix: str) -> Tables:
    """The shapes of the own tables under a prefix, as the migrations leave them."""
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
            # Grows with every change of any item: what a process has not seen yet is what is above its last one.
            sa.Column("own_revision", number),
            sa.Index(f"{prefix}items_revision", "own_revision"),
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
            sa.Column("owner", key, nullable=False),
            sa.Column("fencing", number),
            sa.Column("started_at", number, nullable=False),
            sa.Column("heartbeat_at", number, nullable=False),
            sa.Column("finished_at", number),
            sa.Column("steps", text, nullable=False),
            sa.Column("metrics", text),
            sa.Column("error", text),
            sa.Column("bundle", key),
            sa.Column("due_at", number),
            sa.Column("alerted_at", number),
        ),
        leases=table(
            "leases",
            sa.Column("name", key, primary_key=True),
            sa.Column("owner", key),
            sa.Column("fencing", number, nullable=False),
            sa.Column("expires_at", number, nullable=False),
        ),
        due=table(
            "due",
            sa.Column("job", key, primary_key=True),
            sa.Column("entry", key, nullable=False),
            sa.Column("due_at", number, nullable=False),
            sa.Column("attempts", number, nullable=False),
            sa.Column("owner", key),
            sa.Column("free_at", number, nullable=False),
            sa.Column("planned_at", number, nullable=False),
            sa.Column("alerted_at", number),
        ),
        keys=table(
            "keys",
            sa.Column("key_id", key, primary_key=True),
            sa.Column("name", text, nullable=False),
            sa.Column("scopes", text, nullable=False),
            sa.Column("digest", key, nullable=False),
            sa.Column("created_at", number, nullable=False),
            sa.Column("revoked_at", number),
        ),
        audiences=table(
            "audiences",
            sa.Column("audience_id", key, primary_key=True),
            sa.Column("created_at", number, nullable=False),
            sa.Column("as_of", number, nullable=False),
            sa.Column("items", text, nullable=False),
            sa.Column("size", number, nullable=False),
            sa.Column("strategy", key, nullable=False),
            sa.Column("options", text, nullable=False),
            sa.Column("bundle", key, nullable=False),
            sa.Column("consent", key, nullable=False),
            sa.Column("window_days", sa.Double(), nullable=False),
            sa.Column("eligible", number, nullable=False),
            sa.Column("left_out", text, nullable=False),
            sa.Column("warnings", text, nullable=False),
        ),
        audience_members=table(
            "audience_members",
            sa.Column("audience_id", key, primary_key=True),
            sa.Column("user_id", key, primary_key=True),
            sa.Column("rank", number, nullable=False),
            sa.Column("probability", sa.Double(), nullable=False),
            sa.Column("reason", key, nullable=False),
            sa.Index(f"{prefix}audience_members_user", "user_id"),
        ),
        counters=table(
            "counters", sa.Column("name", key, primary_key=True), sa.Column("value", number, nullable=False)
        ),
    )


def _is_no_row(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO


def connect(
    url: sa.URL, *, patience_seconds: float | None = None, only_reads: bool = False, size: int = 5
) -> sa.Engine:
    """A connection pool, set up as the own tables need it; it connects when first used.

    patience_seconds: how long anything may take; None: what a job has. only_reads: each statement by itself, without a
    transaction around it, which saves a service round trips. size: connections that stay open.
    """
    # The ids of people belong in no log: hide_parameters keeps them out of errors and statements, and the filter keeps
    # out the rows, which SQLAlchemy writes when somebody turns on its debugging.
    logging.getLogger(f"sqlalchemy.engine.Engine.{_LOG}").addFilter(_is_no_row)
    options: dict[str, Any] = {"hide_parameters": True, "logging_name": _LOG, "pool_size": size}
    if patience_seconds is not None:
        options |= {"pool_timeout": patience_seconds, "pool_pre_ping": False}
    if url.drivername == "sqlite":
        engine = sa.create_engine(url, **options, connect_args={"timeout": patience_seconds or _BUSY_SECONDS})
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = {"pool_pre_ping": True} | options
    if patience_seconds is not None:
        options["connect_args"] = _patience(url, patience_seconds)
    if only_reads:
        options["pool_reset_on_return"] = None
    engine = sa.create_engine(url, **options, isolation_level="AUTOCOMMIT" if only_reads else "READ COMMITTED")
    sa.event.listen(engine, "connect", _set_up_mariadb if engine.dialect.name == "mysql" else _set_up_postgresql)
    return engine


def _patience(url: sa.URL, seconds: float) -> dict[str, Any]:
    """How the drivers are told to give up."""
    whole = max(1, round(seconds))
    if url.drivername.startswith("mysql"):
        return {"connect_timeout": whole, "read_timeout": seconds, "write_timeout": seconds}
    milliseconds = round(seconds * 1000)
    return {
        "connect_timeout": max(2, whole),  # the least that the driver takes
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
    }


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
