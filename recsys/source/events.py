"""Batches of events: ids as text, times as microseconds UTC, values as numbers."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from recsys.errors import SourceError
from recsys.source.contract import IDS, NEEDED, ORDER, VISITOR, Query
from recsys.source.ids import read_ids
from recsys.source.prices import read_prices
from recsys.source.reader import Reader
from recsys.source.times import TimeReader
from recsys.source.values import read_numbers, read_texts
from recsys.store.tables import MAX_ID_LENGTH


@dataclass(frozen=True)
class EventBatch:
    """n rows.

    Columns: user_id, visitor_id, item_id, event (String), time (Int64 microseconds or null), naive (Boolean: the time
    has no zone), raw_time (String: the original of an unreadable time), value (Float64 or null), classes (Int64 or
    null: types of the ids in SQLite, see `class_of`) and, where they have orders, order_id (String or null).
    """

    frame: pl.DataFrame
    doubt: str | None = None  # what the numbers among the times look like, where they can hardly be times

    @property
    def naive(self) -> int:
        """How many rows have a time without a zone."""
        return int(self.frame["naive"].sum())


def read_events(
    reader: Reader, query: str, name: str, zone: str | None, form: str | None = None, *, own: bool = False
) -> Iterator[EventBatch]:
    """Read the rows of a query with user_id, item_id, event, timestamp and, optionally, value, visitor_id and order_id.

    zone, form: as in `TimeReader`. own: the query reads the own tables, where nothing has to be guessed.
    Raises SourceError when the query fails, lacks a column, or has ids of bytes or of floats that hold no id.
    """
    yield from read_rows(reader, open_events(reader, query, name), times_of(zone, form, own=own), own=own)


def open_events(reader: Reader, query: str, name: str) -> Query:
    """Ask which columns a query of events returns. Raises SourceError when it fails or lacks one that is needed."""
    shop = reader.query(query, name)
    require(shop.columns, NEEDED, shop.origin)
    return shop


def times_of(zone: str | None, form: str | None, *, own: bool) -> TimeReader:
    """What reads the times of events, as in `read_events`."""
    return TimeReader(zone, form, "microseconds" if own else None, strict=not own)


def read_rows(
    reader: Reader, shop: Query, times: TimeReader, *, own: bool, condition: str | None = None
) -> Iterator[EventBatch]:
    """Read the rows of a query of events that meet a condition of SQL; None: all. Raises SourceError as `read_events`.

    What a condition leaves out must not matter for how the dialect reads the columns.
    """
    select = reader.dialect.select_events(shop)
    if condition is not None:
        select = replace(select, sql=f"{select.sql} WHERE {condition}")
    for frame in reader.batches(select, shop.name):
        yield normalize_events(frame, times, shop.origin, own=own)


def require(found: Collection[str], needed: Sequence[str], what: str) -> None:
    """Raise SourceError, with the columns found and needed, when a column is missing."""
    missing = [column for column in needed if column not in found]
    if missing:
        raise SourceError(f"{what} lacks {', '.join(missing)}; found: {', '.join(found)}; needed: {', '.join(needed)}")


def normalize_events(frame: pl.DataFrame, reader: TimeReader, what: str, *, own: bool = False) -> EventBatch:
    """Convert the columns of a database or a file into those of an EventBatch. Errors call the origin `what`.

    reader: reads the times of every batch of the column. own: as in `read_events`.
    Raises SourceError when a column of ids holds bytes, or floats that do not hold an id.
    """
    given = _given_time(frame)
    times = reader.read(given)
    us, naive = times.microseconds, times.naive
    raw = _unread(given, us)
    if "timestamp_text" in frame.columns:  # SQLite, where some rows hold a number and some a text
        texts = reader.read(frame["timestamp_text"])
        us = pl.select(pl.coalesce(us, texts.microseconds)).to_series()
        naive = naive | texts.naive
        raw = pl.select(pl.coalesce(_unread(frame["timestamp_text"], us), raw)).to_series()
    height = frame.height
    nothing = pl.repeat(None, height, dtype=pl.Float64, eager=True)
    value = _read_values(frame["value"]) if "value" in frame.columns else nothing
    classes = frame["classes"] if "classes" in frame.columns else nothing.cast(pl.Int64)
    columns = [read_ids(frame[column], what, exact=own).alias(column) for column in IDS]
    visitors = read_ids(frame[VISITOR], what, exact=own) if VISITOR in frame.columns else nothing.cast(pl.String)
    columns += [visitors.alias(VISITOR), us.alias("time"), naive.alias("naive"), raw.alias("raw_time")]
    columns += [value.alias("value"), classes.alias("classes")]
    if ORDER in frame.columns:
        orders = read_ids(frame[ORDER], what, exact=own)
        columns.append(orders.set(orders.str.len_chars() > MAX_ID_LENGTH, None).alias(ORDER))
    return EventBatch(pl.DataFrame(columns), reader.doubt)


def _read_values(given: pl.Series) -> pl.Series:
    numbers = read_numbers(given)
    if given.dtype != pl.String or numbers.null_count() == given.null_count():
        return numbers
    return read_prices(given).numbers  # with a currency or a decimal comma


def _unread(given: pl.Series, read: pl.Series) -> pl.Series:
    """The given values that could not be read, as text; null elsewhere."""
    texts = pl.repeat(None, len(given), dtype=pl.String, eager=True)
    at = (read.is_null() & given.is_not_null()).arg_true()
    return texts.scatter(at, read_texts(given.gather(at))) if len(at) else texts


def _given_time(frame: pl.DataFrame) -> pl.Series:
    if "zoned" in frame.columns:
        return frame["zoned"].cast(pl.Datetime("us", "UTC"))
    return frame["clock"].cast(pl.Datetime("us")) if "clock" in frame.columns else frame["timestamp"]
