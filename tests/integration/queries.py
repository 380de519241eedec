"""Tables of a shop on any of the three databases, and what is read of them."""

from collections.abc import Sequence
from contextlib import closing

import polars as pl
import sqlalchemy as sa

from recsys.source.events import read_events
from recsys.source.reader import open_reader
from recsys.store.database import database_url

EVENTS = "SELECT user_id, item_id, event, timestamp, value FROM events"


def execute(url: str, *statements: str, rows: Sequence[Sequence[object]] = ()) -> None:
    """Run statements; the last one once for every row, with %s or ? for the values."""
    engine = sa.create_engine(database_url(url))
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        for statement in statements[: len(statements) - bool(rows)]:
            cursor.execute(statement)
        if rows:
            mark = "?" if engine.dialect.name == "sqlite" else "%s"
            cursor.executemany(statements[-1].replace("?", mark), rows)
        connection.commit()
    engine.dispose()


def fill(url: str, rows: Sequence[Sequence[object]], timestamp: str = "BIGINT", ids: str = "VARCHAR(255)") -> None:
    collation = " COLLATE utf8mb4_nopad_bin" if url.startswith("mariadb") and ids.startswith("VARCHAR") else ""
    execute(
        url,
        f"CREATE TABLE events (user_id {ids}{collation}, item_id {ids}{collation}, event VARCHAR(20), "
        f"timestamp {timestamp}, value FLOAT)",
        *(["INSERT INTO events VALUES (?, ?, ?, ?, ?)"] if rows else []),
        rows=rows,
    )


def read(url: str, query: str = EVENTS, zone: str | None = None) -> pl.DataFrame:
    with closing(open_reader(url)) as reader:
        return pl.concat([batch.frame for batch in read_events(reader, query, "interactions", zone)])
