"""A database that is only read: the rows of any query, in columnar batches.

The dialect's fastest driver reads first. What it refuses (a URL with options, SQL that it cannot parse) goes through
the driver that SQLAlchemy uses, which is slower and reads everything.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from recsys.errors import ConfigError, SourceError
from recsys.source.causes import cause_of
from recsys.source.contract import QUERY_SECONDS, SOURCES, Dialect, Query, Select, find_dialect
from recsys.source.values import frame_of, read_numbers, read_texts
from recsys.store.database import parse_url

_BLOCK = 20_000  # rows held as Python objects at a time
# What databases call a query that took too long, or waited too long for a lock.
_TOO_LONG = {"57014", "55P03", 1205, 1969, 3024, "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT"}
# Of PostgreSQL: types that do not match, of which neither becomes the other, and a word that is none of an enum.
_TWO_TYPES = {"42804", "42846", "22P02"}


@dataclass(frozen=True)
class Reader:
    """A database that is only read."""

    url: sa.URL
    dialect: Dialect
    engine: sa.Engine
    is_own: bool  # this process writes to the same SQLite file
    seconds: float  # the time limit of a query

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def query(self, text: str, name: str) -> Query:
        """Ask which columns a query returns. Messages call the query `name`.

        Raises SourceError when the server does not answer, refuses the query or returns a column twice.
        """
        text = _strip_semicolon(text)
        with self._cursor(name, text) as cursor:
            cursor.execute(f"SELECT * FROM ({text}\n) AS shop LIMIT 0")
            _require_once([column[0] for column in cursor.description], name)
            columns = {column[0]: column[1] for column in cursor.description}
        return Query(text, name, columns, partial(self._fetch, name=name))

    def _fetch(self, sql: str, name: str) -> list[tuple[Any, ...]]:
        with self._cursor(name, sql) as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def table(self, select: Select, name: str) -> pl.DataFrame:
        """Read all columns of a query that fits into memory, each as String, Int64, Float64, Boolean or Binary.

        Dates and times become ISO 8601 text, decimals Float64; a column of several types becomes text.
        Raises SourceError as `query` does.
        """
        parts = list(self._blocks(select, name))
        names = set().union(*(part.columns for part in parts))
        for column in names:  # blocks may differ in a column's type: text holds all
            kinds = {part[column].dtype for part in parts} - {pl.Null()}
            if len(kinds) > 1:
                as_one = read_numbers if kinds == {pl.Int64(), pl.Float64()} else read_texts
                parts = [part.with_columns(as_one(part[column])) for part in parts]
            elif kinds:
                parts = [part.with_columns(pl.col(column).cast(*kinds)) for part in parts]
        return pl.concat(parts)

    def batches(self, select: Select, name: str) -> Iterator[pl.DataFrame]:
        """Read the rows of a SELECT in batches, by the fastest driver. Raises SourceError as `query` does."""
        # connectorx brings a SQLite library of its own. A process loses all its locks of a file when it closes the file
        # once, so what the other library then writes can be lost.
        if self.dialect.bulk_read is None or self.is_own:
            yield from self._restored(select, name)
            return
        read = 0
        try:
            for batch in self.dialect.bulk_read(self.url, select, self.seconds):
                read += batch.height
                yield select.restore(batch)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # connectorx panics with a BaseException
            if read:
                message = f"reading {name} from {self.where} stopped after {read:,} rows ({_kind(error)})"
                raise self._error(error, message, select.sql) from None
        else:
            return
        yield from self._restored(select, name)

    def _restored(self, select: Select, name: str) -> Iterator[pl.DataFrame]:
        """The rows by the driver that reads everything."""
        yield from (select.restore(batch) for batch in self._blocks(select, name) if batch.height)

    def _blocks(self, select: Select, name: str) -> Iterator[pl.DataFrame]:
        """Read blocks of rows; at least one, so that the names of the columns are known."""
        with self._cursor(name, select.sql, self.dialect.open_cursor) as cursor:
            cursor.execute(select.sql)
            names = [column[0] for column in cursor.description]
            _require_once(names, name)
            block = cursor.fetchmany(_BLOCK)
            if not block:
                yield pl.DataFrame({column: pl.Series([], dtype=pl.String) for column in names})
            while block:
                yield frame_of(names, block, select.types)
                block = cursor.fetchmany(_BLOCK)

    @contextmanager
    def _cursor(self, name: str, sql: str, open_cursor: Callable[[Any], Any] | None = None) -> Iterator[Any]:
        """Open a cursor of the driver for a statement; its errors become SourceErrors."""
        try:
            with closing(self._connect()) as connection:
                driver: Any = connection.driver_connection
                with closing(open_cursor(driver) if open_cursor else driver.cursor()) as cursor:
                    yield cursor
        except (sa.exc.DBAPIError, self.engine.dialect.loaded_dbapi.Error, OSError) as error:
            cause = getattr(error, "orig", None) or error
            message = f"the query of {name} failed at {self.where} ({_kind(cause)})"
            raise self._error(cause, message, sql) from None

    def _connect(self) -> Any:
        try:
            return self.engine.raw_connection()
        except TypeError as error:  # pymysql takes the URL's options as arguments
            raise ConfigError(f"{self.where} has an option that its driver does not know: {error}") from None

    def _error(self, error: BaseException, message: str, sql: str) -> SourceError:
        """The error for people, with its cause and what to do about it where these are known."""
        cause = cause_of(error, _code(error), sql)
        said = f"{message}{f': {cause}' if cause else ''}{self._hint(error)}"
        return SourceError(said, detail=_first_line(error), cause=cause)

    def _hint(self, error: BaseException) -> str:
        """What to do about an error, where that is known."""
        code = _code(error)
        if code in _TOO_LONG:
            return (
                f"; it took longer than [source] query_timeout_seconds = {self.seconds:g} allows, or a table stayed "
                "locked for too long"
            )
        text = str(error).lower()
        if code in _TWO_TYPES and ("union" in text or "case" in text or "enum" in text):
            return (
                "; an enum is no text, nor is a uuid, and NULL alone is text: cast the column in each part of the "
                "UNION, as CAST(status AS text)"
            )
        return ""


def open_reader(
    url: str | sa.URL, dialect: str | None = None, *, own_file: Path | None = None, seconds: float = QUERY_SECONDS
) -> Reader:
    """Prepare to read a database; the first query connects to it.

    dialect: a key of SOURCES or a dotted name; None: the name in the URL. own_file: a SQLite file that this process
    writes to. seconds: the time limit of a query.
    Raises ConfigError when the URL cannot be parsed or its database is not in SOURCES, SourceError when a SQLite file
    is missing.
    """
    parsed = parse_url(url) if isinstance(url, str) else url
    family = parsed.drivername.partition("+")[0]
    if dialect is None and family not in SOURCES:
        known = ", ".join(SOURCES)
        raise ConfigError(f"unknown kind of database {family!r}; allowed are {known}; [source] dialect names others")
    found = find_dialect(dialect or family)
    is_own = own_file is not None and bool(parsed.database) and Path(str(parsed.database)).resolve() == own_file
    return Reader(parsed, found, found.open_engine(parsed, seconds), is_own, seconds)


def _strip_semicolon(query: str) -> str:
    """Drop a final semicolon, so that the query can stand in parentheses."""
    return query.strip().rstrip(";").rstrip()


def _require_once(names: list[str], query: str) -> None:
    if len(set(names)) < len(names):
        raise SourceError(f"the query of {query} returns a column twice; found: {', '.join(names)}")


def _kind(error: BaseException) -> str:
    """Name an error without its message, which may repeat values: `UndefinedTable 42P01`, `ProgrammingError 1146`."""
    code = _code(error)
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"


def _code(error: BaseException) -> str | int | None:
    if error.args and isinstance(error.args[0], int):  # MariaDB's number says more than its SQLSTATE
        return error.args[0]
    return getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
