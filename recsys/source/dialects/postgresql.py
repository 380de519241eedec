"""PostgreSQL: ADBC reads in bulk, psycopg reads what ADBC refuses."""

from collections.abc import Iterator
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import polars as pl
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from recsys.source.contract import (
    CONNECT_SECONDS,
    EVENT_COLUMNS,
    IDS,
    LOCK_SECONDS,
    OPTIONAL_IDS,
    USER_COLUMNS,
    Calendar,
    Dialect,
    Query,
    Select,
    bytes_error,
    frames,
    whole_as_decimals,
)

_LONGEST = 2_147_483_647  # milliseconds that a limit can hold
_SESSION = "-c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO"
# The driver's codes of types that come through as they are.
_ID = (25, 1043, 20, 21, 23, 700, 701)  # text, varchar, int8, int2, int4, float4, float8
_TIME = (1082, 1114, 1184)  # date, timestamp, timestamptz
_NUMBER = (20, 21, 23, 700, 701)
_NUMERIC, _BYTES = 1700, 17
_ZONED, _WHOLE, _TEXT = 1184, (20, 21, 23), (25, 1042, 1043)


def _open_engine(url: sa.URL, seconds: float) -> sa.Engine:
    # Without a reset: a lost connection has nothing to roll back, and the pool would log that with a traceback.
    return sa.create_engine(_with_session(url, seconds), poolclass=sa.pool.NullPool, pool_reset_on_return=None)


def _with_session(url: sa.URL, seconds: float) -> sa.URL:
    """The URL with the driver and the session's settings. Limits of its own count before ours."""
    query, lock = min(_LONGEST, round(seconds * 1000)), round(min(seconds, LOCK_SECONDS) * 1000)
    options = f"-c statement_timeout={query} -c lock_timeout={lock} {url.query.get('options', '')} {_SESSION}"
    url = url.set(drivername="postgresql+psycopg").update_query_dict({"options": options})
    return url if "connect_timeout" in url.query else url.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)})


def _open_cursor(connection: Any) -> Any:
    return connection.cursor(name="recsys")  # a named cursor lies on the server


def _bulk_read(url: sa.URL, select: Select, seconds: float) -> Iterator[pl.DataFrame]:
    with adbc.connect(_conninfo(_with_session(url, seconds))) as connection, connection.cursor() as cursor:
        cursor.execute(select.sql)
        yield from frames(cursor.fetch_record_batch())


def _conninfo(url: sa.URL) -> str:
    """The URL as libpq reads it, with several hosts and every option."""
    _, options = url.get_dialect()().create_connect_args(url)
    return make_conninfo(**options)


def _select_events(query: Query) -> Select:
    return query.select(_column_sql(column, query) for column in query.present(EVENT_COLUMNS))


def _select_users(query: Query) -> Select:
    return query.select(_column_sql(column, query) for column in query.present(USER_COLUMNS))


def _select_items(query: Query) -> Select:
    others = {column: '"' + column.replace('"', '""') + '"' for column in query.columns}
    selected = query.select(
        _column_sql(column, query) if column == "item_id" else quoted for column, quoted in others.items()
    )
    return Select(selected.sql, {"item_id": pl.String})


def _column_sql(column: str, query: Query) -> str:
    code, quoted = query.columns[column], f'"{column}"'
    if column in (*IDS, *OPTIONAL_IDS):
        if code == _BYTES:
            raise bytes_error(column, query.origin)
        if code == _NUMERIC:
            return f"{whole_as_decimals(quoted, 'trunc({0})', '{0}::text')} AS {quoted}"
        cast = "" if code in _ID else "::text"
    elif column == "timestamp" and code in _TIME:
        # The driver turns infinity into an arbitrary number.
        return f"CASE WHEN isfinite({quoted}) THEN {quoted} END AS {quoted}"
    elif code in _NUMBER:
        cast = ""
    else:
        cast = "::float8" if code == _NUMERIC else "::text"
    return f"{quoted}{cast} AS {quoted}"


def _calendar(query: Query, column: str, per_day: int | None) -> Calendar | None:
    code, quoted = query.columns[column], f'shop."{column}"'
    parts = ", '|', ".join(f'shop."{each}"' for each in query.present(EVENT_COLUMNS))
    checksum = f"hashtext(concat({parts}))"
    if code in _TIME:
        day = f"CASE WHEN isfinite({quoted}) THEN {quoted}::date - DATE '1970-01-01' END"
        return Calendar(quoted, day, "date", checksum, is_utc=code == _ZONED)
    if code in _TEXT:
        # In the order of bytes: that of a language may not look at hyphens.
        day = f"CASE WHEN {quoted} LIKE '____-__-__%' THEN left({quoted}, 10) END"
        return Calendar(f'{quoted} COLLATE "C"', day, "date", checksum)
    if code not in (*_NUMBER, _NUMERIC) or per_day is None:
        return None
    return Calendar(quoted, f"floor({quoted} / {per_day})", "number", checksum, per_day, is_utc=code in _WHOLE)


POSTGRESQL = Dialect(
    _open_engine, _select_events, _select_items, _select_users, _bulk_read, _open_cursor, calendar=_calendar
)
