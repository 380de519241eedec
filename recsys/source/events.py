"""Batches of events: ids as text, times as microseconds UTC, values as numbers."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from recsys.errors import SourceError
from recsys.source.contract import IDS, NEEDED, VISITOR, bytes_error
from recsys.source.reader import Reader
from recsys.source.values import read_numbers, read_texts, read_times


@dataclass(frozen=True)
class EventBatch:
    """n rows.

    Columns: user_id, visitor_id, item_id, event (String), time (Int64 microseconds or null), raw_time (String: the
    original of an unreadable time), value (Float64 or null), classes (Int64 or null: types of the ids in SQLite, see
    `class_of`).
    """

    frame: pl.DataFrame
    naive: int  # rows whose time has no zone


def read_events(
    reader: Reader, query: str, name: str, zone: str | None, form: str | None = None
) -> Iterator[EventBatch]:
    """Read the rows of a query with user_id, item_id, event, timestamp and, optionally, value and visitor_id.

    zone, form: as in `read_times`. Raises SourceError when the query fails, lacks a column, or has ids of bytes.
    """
    shop = reader.query(query, name)
    require(shop.columns, NEEDED, shop.origin)
    for frame in reader.batches(reader.dialect.select_events(shop), name):
        yield normalize_events(frame, zone, shop.origin, form)


def require(found: Collection[str], needed: Sequence[str], what: str) -> None:
    """Raise SourceError, with the columns found and needed, when a column is missing."""
    missing = [column for column in needed if column not in found]
    if missing:
        raise SourceError(f"{what} lacks {', '.join(missing)}; found: {', '.join(found)}; needed: {', '.join(needed)}")


def normalize_events(frame: pl.DataFrame, zone: str | None, what: str, form: str | None = None) -> EventBatch:
    """Convert the columns of a database or a file into those of an EventBatch. Errors call the origin `what`.

    zone, form: as in `read_times`. Raises SourceError when a column of ids holds bytes.
    """
    for column in (*IDS, VISITOR):
        if column in frame.columns and frame[column].dtype == pl.Binary:
            raise bytes_error(column, what)
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
    visitors = read_texts(frame[VISITOR]) if VISITOR in frame.columns else nothing.cast(pl.String)
    columns += [visitors.alias(VISITOR), us.alias("time"), raw.alias("raw_time")]
    columns += [value.alias("value"), classes.alias("classes")]
    return EventBatch(pl.DataFrame(columns), naive)


def _unread(given: pl.Series, read: pl.Series) -> pl.Series:
    """The given values that could not be read, as text; null elsewhere."""
    texts = pl.repeat(None, len(given), dtype=pl.String, eager=True)
    at = (read.is_null() & given.is_not_null()).arg_true()
    return texts.scatter(at, read_texts(given.gather(at))) if len(at) else texts


def _given_time(frame: pl.DataFrame) -> pl.Series:
    if "zoned" in frame.columns:
        return frame["zoned"].cast(pl.Datetime("us", "UTC"))
    return frame["clock"].cast(pl.Datetime("us")) if "clock" in frame.columns else frame["timestamp"]
