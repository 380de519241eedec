"""The roads out of each database: what its driver wants to be told, and rows as columnar batches.

connectorx is the fastest road out of SQLite and MariaDB, ADBC out of PostgreSQL. Every connection is one that only
reads, with UTC as the zone of its session.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_postgresql.dbapi as adbc
import connectorx
import polars as pl
import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import ConfigError, SourceError

BATCH = 100_000  # rows: enough to be columnar, few enough to weigh little

_SENTINELS: dict[Any, str] = {pl.String: "''", pl.Float64: "0.5", pl.Int64: "1"}
_POSTGRESQL_SESSION = "-c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO"
_MARIADB_SESSION = ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'")


@dataclass(frozen=True)
class Select:
    """One SELECT to read in bulk, and the types of its columns where the database itself fixes none (SQLite)."""

    sql: str
    types: Mapping[str, Any]  # column -> pl.String, pl.Float64 or pl.Int64
    classes: int = 0  # SQLite: what the ids of an event are in rows that say nothing else


def open_engine(url: sa.URL) -> sa.Engine:
    """A pool for the driver that SQLAlchemy uses, which cannot write.

    Raises SourceError when a SQLite file is not there.
    """
    if url.drivername == "sqlite":
        uri = _sqlite_uri(url)
        return sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=sa.pool.NullPool)
    if url.drivername.startswith("postgresql"):
        return sa.create_engine(_with_session(url), poolclass=sa.pool.NullPool)
    # As bytes: pymysql takes a text for Latin-1, and servers take passwords for UTF-8.
    password = {} if url.password is None else {"password": str(url.password).encode()}
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=password)
    sa.event.listen(engine, "connect", _set_up_mariadb)
    return engine


def bulk_read(url: sa.URL, select: Select) -> Iterator[pl.DataFrame]:
    """The rows of a SELECT by the database's fastest driver, in batches; that driver's own errors come through."""
    if url.drivername == "sqlite":
        return _sqlite(url, select)
    return _postgresql(url, select.sql) if url.drivername.startswith("postgresql") else _mariadb(url, select.sql)


def frame(names: Sequence[str], rows: Sequence[Sequence[Any]], types: Mapping[str, Any]) -> pl.DataFrame:
    """Python rows -> columns, of the given type or of one that follows from the values.

    Dates and times become ISO 8601 text and decimals Float64; a column of several types becomes text.
    """
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return pl.DataFrame([_series(name, values, types.get(name)) for name, values in columns])


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    if kind is not None:
        given = [_text(value) for value in values] if kind == pl.String else values
        return pl.Series(name, given, dtype=kind, strict=False)
    found = {type(value) for value in values} - {type(None)}
    if found <= {bool}:
        return pl.Series(name, values, dtype=pl.Boolean if found else pl.Null)
    if found <= {bytes, bytearray, memoryview}:
        return pl.Series(name, [None if value is None else bytes(value) for value in values], dtype=pl.Binary)
    if found <= {int}:
        kind = pl.Int64 if all(value is None or abs(value) < 2**63 for value in values) else pl.String
    elif found <= {int, float, Decimal}:
        kind = pl.Float64
    if kind == pl.Float64:
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=kind)
    if kind == pl.Int64:
        return pl.Series(name, values, dtype=kind)
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):  # 20.00 is 20, and never 2E+1
        return f"{value.to_integral_value() if value == value.to_integral_value() else value:f}"
    return str(value)


def _sqlite(url: sa.URL, select: Select) -> Iterator[pl.DataFrame]:
    # connectorx takes the types from the first row, and NULL has none: so a first row of our own fixes them.
    sentinel = ", ".join(f"{_SENTINELS[kind]} AS {column}" for column, kind in select.types.items())
    batches = connectorx.read_sql(
        f"sqlite://{quote(_sqlite_uri(url), safe='/')}",
        f"SELECT {sentinel} UNION ALL {select.sql}",
        return_type="arrow_stream",
        batch_size=BATCH,
    )
    for number, batch in enumerate(_frames(batches)):
        yield batch.slice(1) if number == 0 else batch


def _postgresql(url: sa.URL, sql: str) -> Iterator[pl.DataFrame]:
    parsed = _with_session(url)
    options = "&".join(f"{quote(key)}={quote(str(value), safe='')}" for key, value in parsed.query.items())
    with adbc.connect(f"postgresql://{_address(parsed)}?{options}") as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        yield from _frames(cursor.fetch_record_batch())


def _mariadb(url: sa.URL, sql: str) -> Iterator[pl.DataFrame]:
    others = {key: value for key, value in url.query.items() if (key, value) != ("charset", "utf8mb4")}
    if others:
        raise SourceError(f"connectorx takes no options in the URL; found {', '.join(others)}")
    address = _address(url.set(host=url.host or "localhost", port=url.port or 3306))
    batches = connectorx.read_sql(
        f"mysql://{address}",
        sql,
        return_type="arrow_stream",
        batch_size=BATCH,
        pre_execution_query=list(_MARIADB_SESSION),
    )
    yield from _frames(batches)


def _frames(batches: Iterable[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    """Arrow batches as they come -> frames of at least BATCH rows, but for the last."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= BATCH:
            yield _polars(waiting)
            waiting, rows = [], 0
    if rows:
        yield _polars(waiting)


def _polars(batches: list[pa.RecordBatch]) -> pl.DataFrame:
    table = pa.Table.from_batches(batches)
    for at, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):  # PostgreSQL's types that Arrow has no word for
            table = table.set_column(at, field.name, table.column(at).cast(field.type.storage_type))
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def _sqlite_uri(url: sa.URL) -> str:
    name = (url.database or "").removeprefix("file:").split("?")[0]
    if name in ("", ":memory:"):
        raise ConfigError("a SQLite database that is read must be a file; write sqlite:///FILE")
    path = Path(name).resolve()
    if not path.is_file():
        raise SourceError(f"there is no SQLite file at {path}")
    return f"file:{quote(str(path))}?mode=ro"


def _with_session(url: sa.URL) -> sa.URL:
    options = url.query.get("options", "")
    return url.update_query_dict({"options": f"{options} {_POSTGRESQL_SESSION}".strip()})


def _address(url: sa.URL) -> str:
    """user:password@host:port/database, each part quoted."""
    who = quote(url.username or "", safe="")
    if url.password is not None:
        who += f":{quote(str(url.password), safe='')}"
    host = url.host or ""
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    port = f":{url.port}" if url.port else ""
    return f"{who}{'@' if who else ''}{host}{port}/{quote(url.database or '', safe='')}"


def _set_up_mariadb(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        for statement in _MARIADB_SESSION:
            cursor.execute(statement)
