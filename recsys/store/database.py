"""The database behind the service's own tables: connections, transactions and its clock.

SQLite, PostgreSQL and MariaDB are treated alike.
"""

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from recsys.errors import ConfigError, RecsysError
from recsys.store.tables import Tables

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_T = TypeVar("_T")
_LOG = "recsys"
_BUSY_SECONDS = 30
_ATTEMPTS = 6  # at a transaction that the database ends to resolve a deadlock
# What databases call the end of a transaction that may be tried again: PostgreSQL's states, MariaDB's numbers.
_DEADLOCKS = {"40P01", "40001", 1213, 1020}
# What they call a wait for others that took too long: the server is there, and busy.
_WAITS = {"55P03", "57014", 1205, 1969}
_IDLE_SECONDS = 60  # the server ends a transaction that was idle for so long, and so frees its locks

# Each database's own clock in microseconds UTC, whatever its time zone.
_CLOCKS = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
}


@dataclass(frozen=True)
class Store:
    """A connection pool and the own tables reached through it. The functions of this package take it first."""

    engine: sa.Engine
    prefix: str
    tables: Tables

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes. An exception that leaves it rolls everything back."""
        with self.engine.connect().execution_options(recsys_writes=True) as connection, connection.begin():
            yield connection

    def transact(self, use: Callable[[sa.Connection], _T]) -> _T:
        """Call `use` in a transaction that writes, and return its result.

        Writers that lock many rows may wait for each other in a circle. The database then ends one of them, and `use`
        is called again in a new transaction, after a short wait of random length.
        """
        for attempt in range(1, _ATTEMPTS):
            try:
                with self.writing() as connection:
                    return use(connection)
            except sa.exc.DBAPIError as error:
                if not is_deadlock(error):
                    raise
            time.sleep(random.uniform(0, 0.01 * 2**attempt))
        with self.writing() as connection:
            return use(connection)

    def now(self) -> int:
        """Read the database's clock: microseconds UTC."""
        with self.reading() as connection:
            return read_clock(connection)

    def describe(self) -> str:
        """Say where the tables are, without the password."""
        return f"{self.engine.url.render_as_string(hide_password=True)}, tables {self.prefix}…"

    @property
    def file(self) -> Path | None:
        """The SQLite file; None when a server holds the tables."""
        database = self.engine.url.database if self.engine.dialect.name == "sqlite" else None
        return Path(database).resolve() if database else None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def parse_url(url: str) -> sa.URL:
    """Parse the URL of a database. Raises ConfigError when it is none."""
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise ConfigError(
            "the database URL cannot be read; allowed are sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE and "
            "mariadb://USER:PASSWORD@HOST/DATABASE (special characters in the password as %40)"
        ) from None


def database_url(url: str) -> sa.URL:
    """Parse the URL of the service's own database and name the driver to use.

    Raises ConfigError when it is no URL or names a database that cannot hold the own tables.
    """
    parsed = parse_url(url)
    family = parsed.drivername.split("+")[0]
    if family not in _DRIVERS:
        raise ConfigError(
            f"unknown kind of database {parsed.drivername!r}; allowed are sqlite, postgresql, mariadb and mysql"
        )
    parsed = parsed.set(drivername=_DRIVERS[family])
    if parsed.drivername == "mysql+pymysql" and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def read_clock(connection: sa.Connection) -> int:
    """Read the database's clock: microseconds UTC at the moment of the call, not at the transaction's start."""
    return int(connection.exec_driver_sql(_CLOCKS[connection.dialect.name]).scalar_one())


def is_deadlock(error: BaseException) -> bool:
    """Whether the database ended a transaction because others and this one waited for each other."""
    return _code(error) in _DEADLOCKS


def is_busy(error: BaseException) -> bool:
    """Whether the database is there, but others held what a statement needed for too long."""
    cause = getattr(error, "orig", None)
    is_locked = isinstance(cause, sqlite3.OperationalError) and "locked" in str(cause)
    return is_locked or _code(error) in _DEADLOCKS | _WAITS


def is_away(error: BaseException) -> bool:
    """Whether the database does not answer, or is too busy now: the same may work later."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or is_busy(error)


def explain(error: BaseException) -> RecsysError | None:
    """What people read of an error of the own database, whose own words are for the terminal; None for any other."""
    if not isinstance(error, sa.exc.DBAPIError):
        return None
    code = _code(error) or getattr(error.orig, "sqlite_errorname", None)
    kind = type(error.orig).__name__ if code is None else f"{type(error.orig).__name__} {code}"
    reason = (
        "others held what was needed for too long" if is_busy(error) else "it is away, or did not allow a statement"
    )
    words = str(error.orig).strip().partition("\n")[0]
    return RecsysError(f"the service's own database failed, that of [store] url ({kind}): {reason}", detail=words)


def _code(error: BaseException) -> str | int | None:
    """The driver's code of an error: the SQLSTATE of PostgreSQL, the number of MariaDB."""
    cause = getattr(error, "orig", None)
    if cause is not None and cause.args and isinstance(cause.args[0], int):
        return int(cause.args[0])
    return getattr(cause, "sqlstate", None)


def count_rows(store: Store) -> dict[str, int]:
    """Count the rows of items (without deleted ones), users, events and reviews."""
    tables = (
        ("items", store.tables.items),
        ("users", store.tables.users),
        ("events", store.tables.events),
        ("reviews", store.tables.reviews),
    )
    with store.reading() as connection:
        counts = {name: sa.select(sa.func.count()).select_from(table) for name, table in tables}
        counts["items"] = counts["items"].where(store.tables.items.c.own_deleted_at.is_(None))
        return {name: int(connection.execute(query).scalar_one()) for name, query in counts.items()}


def _is_no_row(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep the record, with the error's type in place of its traceback."""
    if record.exc_info and record.exc_info[0]:
        record.msg, record.exc_info = f"{record.msg}: {record.exc_info[0].__name__}", None
    return True


def connect(
    url: sa.URL, *, patience_seconds: float | None = None, only_reads: bool = False, size: int = 5
) -> sa.Engine:
    """Create a connection pool, set up as the own tables need it. It connects when first used.

    patience_seconds: the time limit of connecting and of each statement; None: the longer limits of a job.
    only_reads: run each statement without a transaction around it, which saves round trips.
    size: connections that stay open.
    """
    # Ids of people must not reach a log. hide_parameters keeps them out of errors and statements. The filter keeps out
    # rows, which SQLAlchemy logs at debug level.
    logging.getLogger(f"sqlalchemy.engine.Engine.{_LOG}").addFilter(_is_no_row)
    # A connection that is lost on its way back to the pool is replaced, and the pool logs it as an error.
    logging.getLogger(f"sqlalchemy.pool.impl.QueuePool.{_LOG}").addFilter(_without_traceback)
    options: dict[str, Any] = {"hide_parameters": True, "logging_name": _LOG, "pool_size": size}
    options["pool_logging_name"] = _LOG
    if patience_seconds is not None:
        options |= {"pool_timeout": patience_seconds, "pool_pre_ping": False}
    if url.drivername == "sqlite":
        engine = sa.create_engine(url, **options, connect_args={"timeout": patience_seconds or _BUSY_SECONDS})
        sa.event.listen(engine, "connect", _set_up_sqlite)
        if not only_reads:
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
    """The drivers' options for a time limit."""
    whole = max(1, round(seconds))
    if url.drivername.startswith("mysql"):
        # The server gives up waiting for a lock first, and says so. A client that gives up knows no reason.
        wait = f"SET SESSION innodb_lock_wait_timeout = {max(1, whole - 1)}"
        return {"connect_timeout": whole, "read_timeout": seconds, "write_timeout": seconds, "init_command": wait}
    milliseconds = round(seconds * 1000)
    return {
        "connect_timeout": max(2, whole),  # the driver's minimum
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
    }


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions, not the driver
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged event survives a power cut


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes its lock at once. SQLite refuses, without waiting, a lock that is asked for after a read.
    writes = connection.get_execution_options().get("recsys_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
    connection.commit()


def _set_up_mariadb(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        if "mariadb" not in cursor.fetchone()[0].lower():
            return  # _check_server raises the error
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")
        cursor.execute(f"SET SESSION idle_transaction_timeout = {_IDLE_SECONDS}")
        cursor.execute("SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin")
