"""The database behind the own tables: how it is connected to, its clock and its transactions.

SQLite, PostgreSQL and MariaDB on equal footing.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recsys.errors import ConfigError
from recsys.store.tables import Tables

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
class Store:
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

    def describe(self) -> str:
        """Where the tables are, without the password."""
        return f"{self.engine.url.render_as_string(hide_password=True)}, tables {self.prefix}…"

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
