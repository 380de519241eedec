"""Any query of the shop's own -> columnar batches, in bulk, from SQLite, PostgreSQL and MariaDB; nothing is written.

Each database has its fastest road that gives right answers. What that road refuses (a URL with options, SQL that it
cannot parse) goes through the driver that SQLAlchemy uses: slower, but it reads everything.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa
from pymysql.cursors import SSCursor

from recsys.errors import SourceError
from recsys.source.drivers import Select, bulk_read, frame, open_engine
from recsys.store.database import database_url

_BLOCK = 20_000  # rows that are Python objects at a time, where they have to be


@dataclass(frozen=True)
class Reader:
    """A database that is only read."""

    url: sa.URL
    engine: sa.Engine
    is_own: bool  # this process writes to it too

    @property
    def dialect(self) -> str:
        """`sqlite`, `postgresql` or `mysql` (MariaDB too)."""
        return self.engine.dialect.name

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def columns(self, query: str, name: str) -> dict[str, Any]:
        """The columns that a query returns -> the driver's codes of their types. Messages call the query `name`.

        Raises SourceError when the server does not answer or refuses the query.
        """
        with self._cursor(name) as cursor:
            cursor.execute(f"SELECT * FROM ({strip_semicolon(query)}\n) AS shop LIMIT 0")
            _require_once([column[0] for column in cursor.description], name)
            return {column[0]: column[1] for column in cursor.description}

    def fetch(self, sql: str, name: str) -> list[tuple[Any, ...]]:
        """The few rows of a SELECT of our own. Raises SourceError as `columns` does."""
        with self._cursor(name) as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def table(self, select: Select, name: str) -> pl.DataFrame:
        """All columns of a query that is not huge (a catalog), each as String, Int64, Float64, Boolean or Binary.

        Dates and times become ISO 8601 text, decimals Float64; a column of several types becomes text.
        Raises SourceError as `columns` does.
        """
        parts = list(self._slow(select, name))
        names = set().union(*(part.columns for part in parts))
        for column in names:  # a type that only some blocks have: text is the one that holds all
            kinds = {part[column].dtype for part in parts} - {pl.Null()}
            if len(kinds) > 1:
                wanted = pl.Float64 if kinds == {pl.Int64(), pl.Float64()} else pl.String
                parts = [part.with_columns(pl.col(column).cast(wanted, strict=False)) for part in parts]
            elif kinds:
                parts = [part.with_columns(pl.col(column).cast(*kinds)) for part in parts]
        return pl.concat(parts)

    def batches(self, select: Select, name: str) -> Iterator[pl.DataFrame]:
        """The rows of a SELECT in batches, by the fastest road. Raises SourceError as `columns` does."""
        if self.is_own and self.dialect == "sqlite":
            # The fast road brings a SQLite of its own. A process loses all its locks of a file when it closes the file
            # once: what the other one then writes can be lost.
            yield from (batch for batch in self._slow(select, name) if batch.height)
            return
        read = 0
        try:
            for batch in bulk_read(self.url, select):
                read += batch.height
                yield batch
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # connectorx panics with a class that is no Exception
            if read:
                message = f"reading {name} from {self.where} stopped after {read:,} rows ({_kind(error)})"
                raise SourceError(message, detail=_first_line(error)) from None
        else:
            return
        yield from (batch for batch in self._slow(select, name) if batch.height)

    def _slow(self, select: Select, name: str) -> Iterator[pl.DataFrame]:
        """At least one frame, so that the names of the columns are known."""
        with self._cursor(name, streamed=True) as cursor:
            cursor.execute(select.sql)
            names = [column[0] for column in cursor.description]
            _require_once(names, name)
            block = cursor.fetchmany(_BLOCK)
            if not block:
                yield pl.DataFrame({column: pl.Series([], dtype=pl.String) for column in names})
            while block:
                yield frame(names, block, select.types)
                block = cursor.fetchmany(_BLOCK)

    @contextmanager
    def _cursor(self, name: str, *, streamed: bool = False) -> Iterator[Any]:
        """A cursor of the driver's own, whose errors are explained. Streamed: rows stay with the server until asked."""
        try:
            with closing(self.engine.raw_connection()) as connection:
                options: dict[str, Any] = {}
                if streamed and self.dialect == "mysql":
                    options = {"cursor": SSCursor}
                elif streamed and self.dialect == "postgresql":
                    options = {"name": "recsys"}
                driver: Any = connection.driver_connection
                with closing(driver.cursor(**options)) as cursor:
                    yield cursor
        except (sa.exc.DBAPIError, self.engine.dialect.loaded_dbapi.Error) as error:
            cause = getattr(error, "orig", None) or error
            message = f"the query of {name} failed at {self.where} ({_kind(cause)})"
            raise SourceError(message, detail=_first_line(cause)) from None


def open_reader(url: str | sa.URL, *, is_own: bool = False) -> Reader:
    """Get ready to read a database; it is connected to when first asked.

    is_own: this process holds the database open to write to it.
    Raises ConfigError when the URL is none or of an unknown kind, SourceError when a SQLite file is not there.
    """
    parsed = database_url(url) if isinstance(url, str) else url
    return Reader(parsed, open_engine(parsed), is_own)


def strip_semicolon(query: str) -> str:
    """A query that can stand in parentheses: without the semicolon that people end it with."""
    return query.strip().rstrip(";").rstrip()


def _require_once(names: list[str], query: str) -> None:
    if len(set(names)) < len(names):
        raise SourceError(f"the query of {query} returns a column twice; found: {', '.join(names)}")


def _kind(error: BaseException) -> str:
    """What a driver calls an error, without its words: `UndefinedTable 42P01`, `ProgrammingError 1146`."""
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    if error.args and isinstance(error.args[0], int):  # MariaDB's number says more than its SQLSTATE
        code = error.args[0]
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
