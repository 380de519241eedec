"""MariaDB: connectorx reads in bulk, pymysql reads what connectorx refuses."""

import math
from collections.abc import Iterator
from typing import Any

import connectorx
import polars as pl
import sqlalchemy as sa
from pymysql.cursors import SSCursor

from recsys.errors import SourceError
from recsys.source.contract import (
    BATCH,
    EVENT_COLUMNS,
    IDS,
    LOCK_SECONDS,
    OPTIONAL_IDS,
    USER_COLUMNS,
    Calendar,
    Dialect,
    Query,
    Select,
    address_of,
    frames,
    whole_as_decimals,
)

_SESSION = ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'")
_PATIENCE = 30  # seconds that a server gets beyond the limit, to say itself that a query took too long
# The driver's codes of types that come through as they are.
_INTEGER = (1, 2, 3, 8, 9)
_SHORT_FLOAT = 4
_NUMBER = (*_INTEGER, _SHORT_FLOAT, 5)
_TEXT = (*_INTEGER, 15, 252, 253, 254)
_DECIMAL, _TIMESTAMP, _CLOCK = (0, 246), 7, (10, 12)
_DAY_ZERO = 719_528  # of 1970, as TO_DAYS counts


def _session(seconds: float) -> list[str]:
    """The statements that set up a session.

    A comment that begins with M! is for MariaDB, one with a version from 50700 on is for MySQL.
    """
    limits = f"/*M!100100 max_statement_time={seconds:.3f}, */ /*!50708 max_execution_time={round(seconds * 1000)}, */"
    lock = max(1, round(min(seconds, LOCK_SECONDS)))
    return [f"SET SESSION {limits} lock_wait_timeout={lock}", *_SESSION]


def _open_engine(url: sa.URL, seconds: float) -> sa.Engine:
    url = url.set(drivername="mysql+pymysql")
    if "charset" not in url.query:
        url = url.update_query_dict({"charset": "utf8mb4"})
    # As bytes: pymysql takes text for Latin-1, and servers take passwords for UTF-8.
    options: dict[str, Any] = {} if url.password is None else {"password": str(url.password).encode()}
    if "read_timeout" not in url.query:  # of a server that is gone without a word
        options["read_timeout"] = math.ceil(seconds) + _PATIENCE
    # Without a reset: a lost connection has nothing to roll back, and the pool would log that with a traceback.
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, pool_reset_on_return=None, connect_args=options)

    def set_up(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            for statement in _session(seconds):
                cursor.execute(statement)

    sa.event.listen(engine, "connect", set_up)
    return engine


def _open_cursor(connection: Any) -> Any:
    return connection.cursor(SSCursor)


def _bulk_read(url: sa.URL, select: Select, seconds: float) -> Iterator[pl.DataFrame]:
    others = {key: value for key, value in url.query.items() if (key, value) != ("charset", "utf8mb4")}
    if others:
        raise SourceError(f"connectorx takes no options in the URL; found {', '.join(others)}")
    address = address_of(url.set(host=url.host or "localhost", port=url.port or 3306))
    batches = connectorx.read_sql(
        f"mysql://{address}",
        select.sql,
        return_type="arrow_stream",
        batch_size=BATCH,
        pre_execution_query=_session(seconds),
    )
    yield from frames(batches)


def _select_events(query: Query) -> Select:
    return query.select(_column_sql(column, query.columns[column]) for column in query.present(EVENT_COLUMNS))


def _select_users(query: Query) -> Select:
    return query.select(_column_sql(column, query.columns[column]) for column in query.present(USER_COLUMNS))


def _select_items(query: Query) -> Select:
    # In parentheses a query loses its order, and the first row of an id counts.
    return Select(query.text, {"item_id": pl.String})


def _column_sql(column: str, code: int) -> str:
    quoted = expression = f"`{column}`"
    if column == "timestamp" and (code == _TIMESTAMP or code in _CLOCK):
        # As microseconds, because the driver panics at 0000-00-00. The session's zone is UTC.
        expression = f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {quoted})"
        quoted = "zoned" if code == _TIMESTAMP else "clock"
    elif code in _DECIMAL:
        is_id = column in (*IDS, *OPTIONAL_IDS)
        as_id = whole_as_decimals(quoted, "truncate({0}, 0)", "CAST({0} AS CHAR)")
        expression = as_id if is_id else f"CAST({quoted} AS DOUBLE)"
    elif code == _SHORT_FLOAT and column in (*IDS, *OPTIONAL_IDS):
        expression = f"CAST({quoted} AS DOUBLE)"
    elif code not in (*_TEXT, *_NUMBER):
        expression = f"CAST({quoted} AS CHAR)"
    return f"{expression} AS {quoted}"


def _calendar(query: Query, column: str, per_day: int | None) -> Calendar | None:
    code, quoted = query.columns[column], f"shop.`{column}`"
    parts = ", ".join(f"COALESCE(shop.`{each}`, '')" for each in query.present(EVENT_COLUMNS))
    checksum = f"CRC32(CONCAT_WS('|', {parts}))"
    if code == _TIMESTAMP or code in _CLOCK:
        return Calendar(quoted, f"TO_DAYS({quoted}) - {_DAY_ZERO}", "date", checksum, is_utc=code == _TIMESTAMP)
    if code in (*_INTEGER, *_NUMBER, *_DECIMAL):
        if per_day is None:
            return None
        day = f"FLOOR({quoted} / {per_day})"
        return Calendar(quoted, day, "number", checksum, per_day, is_utc=code in _INTEGER)
    if code not in _TEXT:
        return None
    day = f"CASE WHEN {quoted} LIKE '____-__-__%' THEN LEFT({quoted}, 10) END"
    return Calendar(quoted, day, "date", checksum)


MARIADB = Dialect(
    _open_engine, _select_events, _select_items, _select_users, _bulk_read, _open_cursor, calendar=_calendar
)
