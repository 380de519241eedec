"""Events of a query -> batches with ids as text, times as microseconds UTC and values as numbers.

What a database is asked for depends on what its columns hold: SQLite types every value by itself, so its ids are read
as text with a note of what they were; the others type the column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys.errors import SourceError
from recsys.source.drivers import Select
from recsys.source.reader import Reader, strip_semicolon
from recsys.source.values import read_numbers, read_texts, read_times

IDS = ("user_id", "item_id", "event")
NEEDED = (*IDS, "timestamp")
CLASSES = ("text", "integer", "real", "blob", "null")  # SQLite's, and a digit each in the column `classes`

_MARK = "\x01recsys:"  # between an event and the classes of its row
_SAMPLE = 1_000  # rows of SQLite that are looked at to see what the columns hold

# Codes of the drivers for the types that come through as they are.
_POSTGRESQL_TEXT = (25, 1043, 20, 21, 23)  # text, varchar, int8, int2, int4
_POSTGRESQL_TIME = (1082, 1114, 1184)  # date, timestamp, timestamptz
_POSTGRESQL_NUMBER = (20, 21, 23, 700, 701)
_POSTGRESQL_NUMERIC, _POSTGRESQL_BYTES = 1700, 17
_MARIADB_INTEGER = (1, 2, 3, 8, 9)
MARIADB_FLOAT = (4, 5)
_MARIADB_NUMBER = (*_MARIADB_INTEGER, *MARIADB_FLOAT)
_MARIADB_TEXT = (*_MARIADB_INTEGER, 15, 252, 253, 254)
_MARIADB_DECIMAL, _MARIADB_TIMESTAMP, _MARIADB_CLOCK = (0, 246), 7, (10, 12)


@dataclass(frozen=True)
class EventBatch:
    """n rows.

    Columns: user_id, item_id, event (String), time (Int64 microseconds or null), raw_time (String: what could not be
    read as a time), value (Float64 or null), classes (Int64 or null: what the ids were, see `class_of`).
    """

    frame: pl.DataFrame
    naive: int  # rows whose time named no zone


def read_events(
    reader: Reader, query: str, name: str, zone: str | None, form: str | None = None
) -> Iterator[EventBatch]:
    """The rows of a query with user_id, item_id, event, timestamp and, if there is one, value.

    Raises SourceError when the query fails, lacks a column or has one whose type cannot be what it should be.
    """
    select = select_events(reader, query, name)
    for frame in reader.batches(select, name):
        found = _unfold(frame, select.classes) if reader.dialect == "sqlite" else frame
        yield normalize_events(found, zone, f"the query of {name}", form)


def require(found: Sequence[str] | dict[str, Any], needed: Sequence[str], what: str) -> None:
    """Raise SourceError, with the columns found and needed, when one is missing."""
    missing = [column for column in needed if column not in found]
    if missing:
        raise SourceError(f"{what} lacks {', '.join(missing)}; found: {', '.join(found)}; needed: {', '.join(needed)}")


def class_of(classes: pl.Expr, column: str) -> pl.Expr:
    """What an id of SQLite was, as a position in CLASSES; null where it was text or of a typed database."""
    return classes.floordiv(5 ** IDS.index(column)).mod(5)


def select_events(reader: Reader, query: str, name: str) -> Select:
    """What to send instead of a query of events, so that its columns come in types that say the same.

    Raises SourceError as `read_events` does.
    """
    columns = reader.columns(query, name)
    require(columns, NEEDED, f"the query of {name}")
    shop = f"FROM ({strip_semicolon(query)}\n) AS shop"
    has_value = "value" in columns
    if reader.dialect == "sqlite":
        return _sqlite(reader, shop, has_value, name)
    wanted = (*NEEDED, "value") if has_value else NEEDED
    parts = [column_sql(reader.dialect, column, columns[column], f"the query of {name}") for column in wanted]
    return Select(f"SELECT {', '.join(parts)} {shop}", {})


def column_sql(dialect: str, column: str, code: int, what: str) -> str:
    """What to SELECT for a column of PostgreSQL or MariaDB whose type has the driver's `code`.

    Raises SourceError when it is an id that holds bytes; messages call the origin `what`.
    """
    return _postgresql(column, code, what) if dialect == "postgresql" else _mariadb(column, code)


def _sqlite(reader: Reader, shop: str, has_value: bool, name: str) -> Select:
    sample = reader.fetch(f"SELECT {', '.join(f'typeof({c})' for c in NEEDED)} {shop} LIMIT {_SAMPLE}", name)
    usual = [max(("text", "integer"), key=[row[at] for row in sample].count) for at in range(len(IDS))]
    # Comparing is far cheaper than typeof(): null < numbers < text < blobs, whatever the values.
    text, number = "{0} BETWEEN '' AND x''", "typeof({0}) = 'integer'"
    as_usual = [(text if kind == "text" else number).format(c) for c, kind in zip(IDS, usual, strict=True)]
    digits = [
        f"{5**at} * (instr('text   integerreal   blob   null', typeof({column})) / 7)" for at, column in enumerate(IDS)
    ]
    common = sum(5**at * CLASSES.index(kind) for at, kind in enumerate(usual))
    parts: dict[str, tuple[str, Any]] = {
        column: (f"CASE WHEN {column} < x'' THEN CAST({column} AS TEXT) END", pl.String) for column in IDS
    }
    if all(row[3] == "text" for row in sample):
        parts["timestamp"] = ("CASE WHEN timestamp < x'' THEN CAST(timestamp AS TEXT) END", pl.String)
    else:
        parts["timestamp"] = ("CASE WHEN timestamp < '' THEN CAST(timestamp AS REAL) END", pl.Float64)
        parts["timestamp_text"] = ("CASE WHEN timestamp BETWEEN '' AND x'' THEN CAST(timestamp AS TEXT) END", pl.String)
    if has_value:
        number_like = "value GLOB '*[0-9]*' AND NOT value GLOB '*[^0-9.eE+-]*'"
        parts["value"] = (f"CASE WHEN value < '' OR {number_like} THEN CAST(value AS REAL) END", pl.Float64)
    # Only rows that are not as usual say so, behind their event: a column of its own would cost a tenth of the time.
    event = "event" if usual[2] == "text" else "CAST(event AS TEXT)"
    marked = f"coalesce({parts['event'][0]}, '') || char(1) || '{_MARK[1:]}' || ({' + '.join(digits)})"
    parts["event"] = (f"CASE WHEN {' AND '.join(as_usual)} THEN {event} ELSE {marked} END", pl.String)
    selected = ", ".join(f"{expression} AS {column}" for column, (expression, _) in parts.items())
    return Select(f"SELECT {selected} {shop}", {column: kind for column, (_, kind) in parts.items()}, common)


def _unfold(frame: pl.DataFrame, common: int) -> pl.DataFrame:
    """The column `classes`, from what rows that are not as usual say behind their event."""
    usual = pl.lit(common or None, pl.Int64)
    if not frame["event"].str.contains(_MARK, literal=True).any():
        return frame.with_columns(usual.alias("classes"))
    parts = pl.col("event").str.split_exact(_MARK, 1).struct
    frame = frame.with_columns(parts.field("field_0").alias("event"), parts.field("field_1").alias("classes"))
    classes = pl.col("classes").cast(pl.Int64, strict=False)
    has_event = class_of(classes, "event").fill_null(0) < CLASSES.index("blob")
    return frame.with_columns(
        pl.when(has_event).then(pl.col("event")).alias("event"), pl.coalesce(classes, usual).alias("classes")
    )


def _postgresql(column: str, code: int, what: str) -> str:
    if column in IDS:
        if code == _POSTGRESQL_BYTES:
            raise _bytes(column, what)
        if code == _POSTGRESQL_NUMERIC:
            quoted = f'"{column}"'
            return f"{_digits(quoted, 'trunc({0})', '{0}::text')} AS {quoted}"
        cast = "" if code in _POSTGRESQL_TEXT else "::text"
    elif column == "timestamp" and code in _POSTGRESQL_TIME:
        # The driver makes just any number of infinity.
        return f'CASE WHEN isfinite("{column}") THEN "{column}" END AS "{column}"'
    elif code in _POSTGRESQL_NUMBER:
        cast = ""
    else:
        cast = "::float8" if code == _POSTGRESQL_NUMERIC else "::text"
    return f'"{column}"{cast} AS "{column}"'


def _mariadb(column: str, code: int) -> str:
    quoted = expression = f"`{column}`"
    if column == "timestamp" and (code == _MARIADB_TIMESTAMP or code in _MARIADB_CLOCK):
        # As microseconds, which the driver cannot choke on: it panics at 0000-00-00. The session's zone is UTC.
        expression = f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {quoted})"
        quoted = "zoned" if code == _MARIADB_TIMESTAMP else "clock"
    elif code in _MARIADB_DECIMAL:
        is_id = column in IDS
        expression = _digits(quoted, "truncate({0}, 0)", "CAST({0} AS CHAR)") if is_id else f"CAST({quoted} AS DOUBLE)"
    elif code not in (_MARIADB_TEXT if column in IDS else (*_MARIADB_TEXT, *_MARIADB_NUMBER)):
        expression = f"CAST({quoted} AS CHAR)"
    return f"{expression} AS {quoted}"


def _digits(column: str, whole: str, text: str) -> str:
    """A decimal as an id: 20.00 is 20, as it is where the column has no places."""
    whole = whole.format(column)
    return f"CASE WHEN {column} = {whole} THEN {text.format(whole)} ELSE {text.format(column)} END"


def _bytes(column: str, what: str) -> SourceError:
    return SourceError(f"{column} of {what} holds bytes; allowed are text and whole numbers")


def normalize_events(frame: pl.DataFrame, zone: str | None, what: str, form: str | None = None) -> EventBatch:
    """Columns as a database or a file has them -> the columns of an EventBatch. Messages call the origin `what`.

    zone, form: of times that name no zone, and of those that are text, as in `read_times`.
    Raises SourceError when a column of ids holds bytes.
    """
    for column in IDS:
        if frame[column].dtype == pl.Binary:
            raise _bytes(column, what)
    given = _given_time(frame)
    times = read_times(given, zone, form)
    us, naive = times.microseconds, int(times.naive.sum())
    raw = _unread(given, us)
    if "timestamp_text" in frame.columns:  # SQLite, where some rows hold a number and some a text
        texts = read_times(frame["timestamp_text"], zone, form)
        us = pl.select(pl.coalesce(us, texts.microseconds)).to_series()
        naive += int(texts.naive.sum())
        raw = pl.select(pl.coalesce(_unread(frame["timestamp_text"], us), raw)).to_series()
    height = frame.height
    nothing = pl.repeat(None, height, dtype=pl.Float64, eager=True)
    value = read_numbers(frame["value"]) if "value" in frame.columns else nothing
    classes = frame["classes"] if "classes" in frame.columns else nothing.cast(pl.Int64)
    columns = [read_texts(frame[column]).alias(column) for column in IDS]
    columns += [us.alias("time"), raw.alias("raw_time"), value.alias("value"), classes.alias("classes")]
    return EventBatch(pl.DataFrame(columns), naive)


def _unread(given: pl.Series, read: pl.Series) -> pl.Series:
    """What was given where nothing could be read, as text; null everywhere else."""
    texts = pl.repeat(None, len(given), dtype=pl.String, eager=True)
    at = (read.is_null() & given.is_not_null()).arg_true()
    return texts.scatter(at, read_texts(given.gather(at))) if len(at) else texts


def _given_time(frame: pl.DataFrame) -> pl.Series:
    if "zoned" in frame.columns:
        return frame["zoned"].cast(pl.Datetime("us", "UTC"))
    return frame["clock"].cast(pl.Datetime("us")) if "clock" in frame.columns else frame["timestamp"]
