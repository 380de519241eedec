"""What the source knows about a database: the functions of its dialect, and the values they work with.

Only a dialect knows which driver reads its database, how a session is made read-only, and which expressions bring its
columns into types that mean the same everywhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import ConfigError, SourceError
from recsys.imports import resolve

# the name before :// in a URL -> a Dialect, as a dotted name
SOURCES: dict[str, str] = {
    "sqlite": "recsys.source.dialects.sqlite:SQLITE",
    "postgresql": "recsys.source.dialects.postgresql:POSTGRESQL",
    "postgres": "recsys.source.dialects.postgresql:POSTGRESQL",
    "mariadb": "recsys.source.dialects.mariadb:MARIADB",
    "mysql": "recsys.source.dialects.mariadb:MARIADB",
}

IDS = ("user_id", "item_id", "event")
NEEDED = (*IDS, "timestamp")
VISITOR, ORDER = "visitor_id", "order_id"
OPTIONAL_IDS = (VISITOR, ORDER)
EVENT_COLUMNS = (*NEEDED, "value", *OPTIONAL_IDS)
USER_COLUMNS = ("user_id", "email_consent")
CLASSES = ("text", "integer", "real", "blob", "null")  # SQLite's, one digit each in the column `classes`

QUERY_SECONDS = 3600.0  # the time limit of a query where nobody says another
LOCK_SECONDS = 60.0  # the longest wait for a lock, whatever the limit
CONNECT_SECONDS = 10
EXACT = 2**53  # above, different whole numbers are the same float
_FIRST_DAY, _LAST_DAY = (date.min - date(1970, 1, 1)).days, (date.max - date(1970, 1, 1)).days
BATCH = 100_000  # rows: enough to be columnar, few enough to be light


@dataclass(frozen=True)
class Select:
    """A SELECT to read in bulk.

    Of events it returns user_id, item_id, event and, if the query has them, visitor_id and order_id as text or whole
    numbers, value as a number or text, and the time as one or more of these columns:

    - `timestamp`: text, a number since 1970, a date or a timestamp,
    - `zoned` or `clock`: microseconds since 1970 of a moment, or of a clock time without a zone,
    - `timestamp_text`: times that are text, where `timestamp` has only those that are numbers.
    """

    sql: str
    types: Mapping[str, Any] = field(default_factory=dict)  # column -> polars type, where the database fixes none
    restore: Callable[[pl.DataFrame], pl.DataFrame] = field(default=lambda frame: frame)  # applied to each batch


@dataclass(frozen=True)
class Query:
    """One of the shop's queries, before its rows are read."""

    text: str  # without a semicolon at its end
    name: str  # what messages call it
    columns: Mapping[str, Any]  # column -> the driver's code of its type
    fetch: Callable[[str], list[tuple[Any, ...]]]  # run a SELECT of a few rows

    @property
    def table(self) -> str:
        """The query as a table, to stand after FROM."""
        return f"({self.text}\n) AS shop"

    @property
    def origin(self) -> str:
        """What an error calls the query."""
        return f"the query of {self.name}"

    def present(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that the query returns."""
        return [column for column in columns if column in self.columns]

    def select(self, expressions: Iterable[str]) -> Select:
        """Build a SELECT of expressions over the query."""
        return Select(f"SELECT {', '.join(expressions)} FROM {self.table}")


@dataclass(frozen=True)
class Calendar:
    """How a database tells the days of a column of times, and whether a row has changed: pieces of SQL.

    Days are whole numbers since 1970 in the column's own clock, or the text YYYY-MM-DD.
    """

    column: str
    day: str  # the day of a row; null where it has none
    form: Literal["date", "number"]  # what the column is compared with
    checksum: str  # a whole number that depends on all columns of a row that are read
    per_day: int = 1  # of a column of numbers: how many make a day
    is_utc: bool = False  # the column's days are those of UTC

    def between(self, first: int | None, end: int | None) -> str:
        """The condition for rows from a day on and before another one; None: there is no such limit."""
        limits = [] if first is None else [f"{self.column} >= {self._literal(first)}"]
        limits += [] if end is None else [f"{self.column} < {self._literal(end)}"]
        return " AND ".join(limits) or "1 = 1"

    def _literal(self, day: int) -> str:
        if self.form == "number":
            return str(day * self.per_day)
        since_1970 = min(max(day, _FIRST_DAY), _LAST_DAY)
        return f"'{date(1970, 1, 1) + timedelta(days=since_1970)}'"


@dataclass(frozen=True)
class Dialect:
    """How one kind of database is read: a value of SOURCES, or of a dotted name in the configuration.

    - `open_engine`: a pool of connections that cannot write and whose sessions are in UTC. The number is the seconds
      after which a query ends; a wait for a lock ends after at most LOCK_SECONDS. Raises SourceError when a file is
      missing.
    - `select_events`, `select_items`, `select_users`: what to send instead of a query, so that columns come in types
      that mean the same everywhere. Raise SourceError when an id holds bytes.
    - `bulk_read`: the rows of a SELECT by the fastest driver, with the same limit in seconds. Any error before the
      first batch makes the reader use the driver of `open_engine` instead. None: there is no faster driver.
    - `open_cursor`: a cursor of the driver's connection that leaves the rows with the server until they are fetched.
    - `calendar`: how to tell the days of a column of times; the number is how many make a day where they are numbers.
      None, or where it returns None: days cannot be told, and all events are read every time.
    """

    open_engine: Callable[[sa.URL, float], sa.Engine]
    select_events: Callable[[Query], Select]
    select_items: Callable[[Query], Select]
    select_users: Callable[[Query], Select]
    bulk_read: Callable[[sa.URL, Select, float], Iterator[pl.DataFrame]] | None = None
    open_cursor: Callable[[Any], Any] = lambda connection: connection.cursor()
    calendar: Callable[[Query, str, int | None], Calendar | None] | None = None


def find_dialect(name: str) -> Dialect:
    """The dialect behind a key of SOURCES or a dotted name `package.module:NAME`.

    Raises ConfigError when there is none, or when it is no Dialect.
    """
    dialect = resolve(name, SOURCES)
    if not isinstance(dialect, Dialect):
        raise ConfigError(f"{name!r} is no recsys.source.contract.Dialect")
    return dialect


def class_of(classes: pl.Expr, column: str) -> pl.Expr:
    """The class of an id in SQLite, as a position in CLASSES; null where it was text or the database types columns."""
    return classes.floordiv(5 ** IDS.index(column)).mod(5)


def whole_as_decimals(column: str, whole: str, text: str) -> str:
    """SQL of a decimal as an id: 20.00 is 20. `whole` and `text` truncate and print the expression put into them."""
    truncated = whole.format(column)
    return f"CASE WHEN {column} = {truncated} THEN {text.format(truncated)} ELSE {text.format(column)} END"


def bytes_error(column: str, origin: str) -> SourceError:
    """The error for an id that holds bytes."""
    advice = f"in the query, HEX({column}), in PostgreSQL encode({column}, 'hex'), makes text of bytes"
    return SourceError(f"{column} of {origin} holds bytes; allowed are text and whole numbers; {advice}")


def float_error(column: str, origin: str, found: float) -> SourceError:
    """The error for an id that is a float too large to tell it from its neighbors."""
    return SourceError(
        f"{column} of {origin} holds the floating point number {found!r}; above {EXACT:,} different ids become the "
        "same number; allowed are text and whole numbers: export or CAST the column where it is still whole"
    )


def address_of(url: sa.URL) -> str:
    """Write user:password@host:port/database, each part quoted."""
    user = quote(url.username or "", safe="")
    if url.password is not None:
        user += f":{quote(str(url.password), safe='')}"
    host = url.host or ""
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    port = f":{url.port}" if url.port else ""
    return f"{user}{'@' if user else ''}{host}{port}/{quote(url.database or '', safe='')}"


def frames(batches: Iterable[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    """Collect Arrow batches into frames of at least BATCH rows; the last may have fewer."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= BATCH:
            yield _frame_of(waiting)
            waiting, rows = [], 0
    if rows:
        yield _frame_of(waiting)


def _frame_of(batches: list[pa.RecordBatch]) -> pl.DataFrame:
    table = pa.Table.from_batches(batches)
    for at, column in enumerate(table.schema):
        if isinstance(column.type, pa.BaseExtensionType):  # PostgreSQL's types that Arrow has no name for
            table = table.set_column(at, column.name, table.column(at).cast(column.type.storage_type))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
