"""SQLite: every value has a type of its own, so ids are read as text with a note of what they were."""

import sqlite3
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import connectorx
import polars as pl
import sqlalchemy as sa

from recsys.errors import ConfigError, SourceError
from recsys.source.contract import (
    BATCH,
    CLASSES,
    EVENT_COLUMNS,
    EXACT,
    IDS,
    LOCK_SECONDS,
    NEEDED,
    OPTIONAL_IDS,
    USER_COLUMNS,
    Calendar,
    Dialect,
    Query,
    Select,
    class_of,
    frames,
)

_SENTINELS: dict[Any, str] = {pl.String: "''", pl.Float64: "0.5", pl.Int64: "1"}
_MARK = "\x01recsys:"  # between an event and the classes of its row
_CHECKSUM = "recsys_crc32"  # SQLite has no function of that kind
_STEPS = 1_000_000  # of SQLite's machine between two looks at the clock
_SAMPLE = 1_000  # rows that are looked at to see what the columns hold


def _open_engine(url: sa.URL, seconds: float) -> sa.Engine:
    uri = _uri_of(url)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=min(seconds, LOCK_SECONDS))
        end = time.monotonic() + seconds  # a connection serves one query
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        connection.create_function(_CHECKSUM, 1, zlib.crc32, deterministic=True)
        return connection

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.NullPool)


def _uri_of(url: sa.URL) -> str:
    name = (url.database or "").removeprefix("file:").split("?")[0]
    if name in ("", ":memory:"):
        raise ConfigError("a SQLite database that is read must be a file; write sqlite:///FILE")
    path = Path(name).resolve()
    if not path.is_file():
        raise SourceError(f"there is no SQLite file at {path}")
    return f"file:{quote(str(path))}?mode=ro"


def _bulk_read(url: sa.URL, select: Select, _seconds: float) -> Iterator[pl.DataFrame]:
    # connectorx takes the types from the first row, and NULL has none: so a first row of our own fixes them.
    sentinel = ", ".join(f"{_SENTINELS[kind]} AS {column}" for column, kind in select.types.items())
    batches = connectorx.read_sql(
        f"sqlite://{quote(_uri_of(url), safe='/')}",
        f"SELECT {sentinel} UNION ALL {select.sql}",
        return_type="arrow_stream",
        batch_size=BATCH,
    )
    for number, batch in enumerate(frames(batches)):
        yield batch.slice(1) if number == 0 else batch


def _select_events(query: Query) -> Select:
    sample = query.fetch(f"SELECT {', '.join(f'typeof({c})' for c in NEEDED)} FROM {query.table} LIMIT {_SAMPLE}")
    usual = [max(("text", "integer", "real"), key=[row[at] for row in sample].count) for at in range(len(IDS))]
    ids = [_whole if any(row[at] == "real" for row in sample) else _text for at in range(len(IDS))]
    parts: dict[str, tuple[str, Any]] = {c: (as_id(c), pl.String) for c, as_id in zip(IDS, ids, strict=True)}
    parts["event"] = (_marked_event(usual), pl.String)
    if all(row[NEEDED.index("timestamp")] == "text" for row in sample):
        parts["timestamp"] = (_text("timestamp"), pl.String)
    else:
        parts["timestamp"] = ("CASE WHEN timestamp < '' THEN CAST(timestamp AS REAL) END", pl.Float64)
        parts["timestamp_text"] = ("CASE WHEN timestamp BETWEEN '' AND x'' THEN CAST(timestamp AS TEXT) END", pl.String)
    if "value" in query.columns:
        parts["value"] = _value(query)
    parts |= {column: (_text(column), pl.String) for column in query.present(OPTIONAL_IDS)}
    selected = ", ".join(f"{expression} AS {column}" for column, (expression, _) in parts.items())
    common = sum(5**at * CLASSES.index(kind) for at, kind in enumerate(usual))
    types = {column: kind for column, (_, kind) in parts.items()}
    return Select(f"SELECT {selected} FROM {query.table}", types, partial(_split_marks, common=common))


def _text(column: str) -> str:
    # Comparing is far cheaper than typeof(): null < numbers < text < blobs, whatever the values.
    return f"CASE WHEN {column} < x'' THEN CAST({column} AS TEXT) END"


def _value(query: Query) -> tuple[str, Any]:
    number_like = "value GLOB '*[0-9]*' AND NOT value GLOB '*[^0-9.eE+-]*'"
    other = f"typeof(value) = 'text' AND value GLOB '*[0-9]*' AND NOT ({number_like})"
    if query.fetch(f"SELECT 1 FROM (SELECT value FROM {query.table} LIMIT {_SAMPLE}) WHERE {other} LIMIT 1"):
        return _text("value"), pl.String  # with a currency or a decimal comma
    return f"CASE WHEN value < '' OR {number_like} THEN CAST(value AS REAL) END", pl.Float64


def _whole(column: str) -> str:
    """As `_text`, and a whole number is its decimals even where it is stored as REAL."""
    is_whole = f"typeof({column}) = 'real' AND abs({column}) <= {EXACT} AND {column} = CAST({column} AS INTEGER)"
    return f"CASE WHEN {is_whole} THEN CAST(CAST({column} AS INTEGER) AS TEXT) ELSE {_text(column)} END"


def _marked_event(usual: list[str]) -> str:
    """The event, followed by the classes of the ids in rows whose classes are not the usual ones.

    A column for the classes would cost a tenth of the time.
    """
    text, number = "{0} BETWEEN '' AND x''", "typeof({0}) = '{1}'"
    as_usual = [(text if kind == "text" else number).format(c, kind) for c, kind in zip(IDS, usual, strict=True)]
    digits = [
        f"{5**at} * (instr('text   integerreal   blob   null', typeof({column})) / 7)" for at, column in enumerate(IDS)
    ]
    event = "event" if usual[IDS.index("event")] == "text" else "CAST(event AS TEXT)"
    marked = f"coalesce({_text('event')}, '') || char(1) || '{_MARK[1:]}' || ({' + '.join(digits)})"
    return f"CASE WHEN {' AND '.join(as_usual)} THEN {event} ELSE {marked} END"


def _split_marks(frame: pl.DataFrame, common: int) -> pl.DataFrame:
    """Move the classes behind the events into a column `classes`; rows without any have the `common` ones."""
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


def _select_items(query: Query) -> Select:
    return Select(query.text, {"item_id": pl.String})


def _select_users(query: Query) -> Select:
    columns = query.present(USER_COLUMNS)
    user_id = f"CASE WHEN typeof(user_id) <> 'real' OR abs(user_id) <= {EXACT} THEN {_whole('user_id')} END AS user_id"
    select = query.select([user_id, *(f"{_text(column)} AS {column}" for column in columns if column != "user_id")])
    return Select(select.sql, dict.fromkeys(columns, pl.String))


def _calendar(query: Query, column: str, per_day: int | None) -> Calendar | None:
    named = f"shop.{column}"
    found = {row[0] for row in query.fetch(f"SELECT typeof({named}) FROM {query.table} LIMIT {_SAMPLE}")} - {"null"}
    texts = " || '|' || ".join(f"coalesce(shop.{each}, '')" for each in query.present(EVENT_COLUMNS))
    checksum = f"{_CHECKSUM}(CAST({texts} AS BLOB))"
    if found == {"text"} or (not found and per_day is None):
        day = f"CASE WHEN {named} GLOB '????-??-??*' THEN substr({named}, 1, 10) END"
        return Calendar(named, day, "date", checksum)
    if not found <= {"integer", "real"} or per_day is None:
        return None
    # Text is more than any number.
    day = f"CASE WHEN {named} < '' THEN CAST({named} / {per_day} AS INTEGER) END"
    return Calendar(named, day, "number", checksum, per_day)


SQLITE = Dialect(_open_engine, _select_events, _select_items, _select_users, _bulk_read, calendar=_calendar)
