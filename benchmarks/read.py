"""Measure how fast interactions are read, next to every driver reading the same query raw.

    python -m benchmarks.read [--rows 2000000] [--rounds 5] [--postgresql URL] [--mariadb URL]

Writes a table of events (text ids, kind, time, value) into each database and drops it again; SQLite gets a temporary
file. Each reading runs in its own process, for its own peak memory. Rounds take turns, and the fastest counts.

`ours` returns columns with ids as text, whatever their type in the database. `ours, times and values read` also returns
times as microseconds UTC. `ours, to rows` also returns ids as int32 and checks every row, as training does.
`ours, to rows, by sqlite3` does so without the fast driver, as own tables are read.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import adbc_driver_postgresql.dbapi as adbc
import connectorx
import numpy as np
import polars as pl
import psycopg
import pymysql

from benchmarks.memory import peak_gib
from recsys.source.events import read_events
from recsys.source.reader import open_reader
from recsys.source.rows import EventStream, IdEncoder

TABLE = "recsys_benchmark"
QUERY = f"SELECT user_id, item_id, event, timestamp, value FROM {TABLE}"
KINDS = {"view": 0, "cart": 1, "purchase": 2}
NOW = 2_000_000_000_000_000  # microseconds


def main() -> None:
    """Fill, read in turns, print a table, drop."""
    arguments = _arguments()
    if arguments.read:
        print(json.dumps(_measure(*arguments.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        urls = {
            "SQLite": f"sqlite:///{folder}/shop.db",
            "PostgreSQL": arguments.postgresql,
            "MariaDB": arguments.mariadb,
        }
        for database, url in urls.items():
            if url:
                FILL[database](url, make_events(arguments.rows))
                try:
                    _print(database, arguments.rows, _compare(database, url, arguments.rounds))
                finally:
                    DROP[database](url)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgresql", default="", help="postgresql://USER:PASSWORD@HOST/DATABASE")
    parser.add_argument("--mariadb", default="", help="mysql://USER:PASSWORD@HOST/DATABASE")
    parser.add_argument("--read", nargs=3, metavar=("DATABASE", "ROAD", "URL"), help="one reading, in this process")
    return parser.parse_args()


def make_events(rows: int) -> pl.DataFrame:
    """Events in the columns of an import, the time as text, always the same ones."""
    random = np.random.default_rng(0)
    times = 1_700_000_000_000_000 + np.sort(random.integers(0, 31_536_000_000_000, rows)) // 1_000_000 * 1_000_000
    return pl.DataFrame(
        {
            "user_id": random.integers(0, max(rows // 10, 1), rows),
            "item_id": random.zipf(1.3, rows) % 50_000,
            "event": random.choice(list(KINDS), rows, p=[0.8, 0.12, 0.08]),
            "timestamp": pl.Series(times).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S"),
            "value": np.round(random.lognormal(3, 1, rows), 2),
        }
    ).with_columns(pl.format("customer-{}", "user_id"), pl.format("SKU-{}", "item_id"))


def _compare(database: str, url: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Road -> seconds of its fastest round and the peak memory of that round's process in MiB."""
    found: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for road in ROADS[database]:
            command = [sys.executable, "-m", "benchmarks.read", "--read", database, road, url]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[road] = min(found.get(road, (float("inf"), 0.0)), tuple(json.loads(done.stdout)))
    return found


def _measure(database: str, road: str, url: str) -> tuple[float, float]:
    started = time.perf_counter()
    rows = ROADS[database][road](url)
    seconds = time.perf_counter() - started
    assert rows > 0
    return seconds, peak_gib() * 1024


def _print(database: str, rows: int, found: dict[str, tuple[float, float]]) -> None:
    fastest = min(seconds for road, (seconds, _) in found.items() if not road.startswith("ours"))
    for road, (seconds, peak) in found.items():
        print(f"| {database} | {road} | {rows / seconds / 1e6:.2f} M | {seconds / fastest:.2f} | {peak:.0f} MiB |")


def _ours(url: str) -> int:
    with closing(open_reader(url)) as reader:
        select = reader.dialect.select_events(reader.query(QUERY, "interactions"))
        return sum(batch.height for batch in reader.batches(select, "interactions"))


def _ours_read(url: str) -> int:
    with closing(open_reader(url)) as reader:
        return sum(batch.frame.height for batch in read_events(reader, QUERY, "interactions", None))


def _ours_to_rows(url: str, own_file: Path | None = None) -> int:
    rows = EventStream(IdEncoder(), IdEncoder(), KINDS, NOW)
    with closing(open_reader(url, own_file=own_file)) as reader:
        for batch in read_events(reader, QUERY, "interactions", None):
            rows.add(batch)
    return rows.take().height


def _ours_by_sqlite3(url: str) -> int:
    return _ours_to_rows(url, own_file=Path(url.removeprefix("sqlite:///")).resolve())


def _connectorx(url: str) -> int:
    return int(connectorx.read_sql(url, QUERY, return_type="arrow").num_rows)


def _connectorx_stream(url: str) -> int:
    batches = connectorx.read_sql(url, QUERY, return_type="arrow_stream", batch_size=100_000)
    return sum(batch.num_rows for batch in batches)


def _adbc(url: str) -> int:
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(QUERY)
        return int(cursor.fetch_arrow_table().num_rows)


def _adbc_stream(url: str) -> int:
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(QUERY)
        return sum(batch.num_rows for batch in cursor.fetch_record_batch())


def _fetch_all(connect: Callable[[str], Any]) -> Callable[[str], int]:
    def read(url: str) -> int:
        with closing(connect(url)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(QUERY)
            return len(cursor.fetchall())

    return read


def _sqlite(url: str) -> sqlite3.Connection:
    return sqlite3.connect(url.removeprefix("sqlite:///"))


def _mariadb(url: str) -> Any:
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "localhost",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=parts.path.removeprefix("/"),
        autocommit=True,
    )


def _fill_sqlite(url: str, events: pl.DataFrame) -> None:
    with closing(_sqlite(url)) as connection:
        connection.execute(f"CREATE TABLE {TABLE} (user_id TEXT, item_id TEXT, event TEXT, timestamp TEXT, value REAL)")
        connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", events.iter_rows())
        connection.commit()


def _fill_postgresql(url: str, events: pl.DataFrame) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        columns = "user_id TEXT, item_id TEXT, event TEXT, timestamp TIMESTAMP, value FLOAT8"
        cursor.execute(f"CREATE TABLE {TABLE} ({columns})")
        with cursor.copy(f"COPY {TABLE} FROM STDIN (FORMAT csv)") as copy:
            for block in events.iter_slices(100_000):
                copy.write(block.write_csv(include_header=False))


def _fill_mariadb(url: str, events: pl.DataFrame) -> None:
    with closing(_mariadb(url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        columns = "user_id VARCHAR(64), item_id VARCHAR(64), event VARCHAR(16), timestamp DATETIME(6), value DOUBLE"
        cursor.execute(f"CREATE TABLE {TABLE} ({columns})")
        for block in events.iter_slices(20_000):
            cursor.executemany(f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s, %s)", block.rows())


def _drop_in(connect: Callable[[str], Any]) -> Callable[[str], None]:
    def drop(url: str) -> None:
        with closing(connect(url)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(f"DROP TABLE {TABLE}")
            connection.commit()

    return drop


OURS: dict[str, Callable[[str], int]] = {
    "ours": _ours,
    "ours, times and values read": _ours_read,
    "ours, to rows": _ours_to_rows,
}
ROADS: dict[str, dict[str, Callable[[str], int]]] = {
    "SQLite": {
        "connectorx": _connectorx,
        "connectorx, streamed": _connectorx_stream,
        "sqlite3": _fetch_all(_sqlite),
        **OURS,
        "ours, to rows, by sqlite3": _ours_by_sqlite3,
    },
    "PostgreSQL": {
        "connectorx": _connectorx,
        "ADBC": _adbc,
        "ADBC, streamed": _adbc_stream,
        "psycopg": _fetch_all(psycopg.connect),
        **OURS,
    },
    "MariaDB": {
        "connectorx": _connectorx,
        "connectorx, streamed": _connectorx_stream,
        "pymysql": _fetch_all(_mariadb),
        **OURS,
    },
}
FILL: dict[str, Callable[[str, pl.DataFrame], None]] = {
    "SQLite": _fill_sqlite,
    "PostgreSQL": _fill_postgresql,
    "MariaDB": _fill_mariadb,
}
DROP = {"SQLite": _drop_in(_sqlite), "PostgreSQL": _drop_in(psycopg.connect), "MariaDB": _drop_in(_mariadb)}

if __name__ == "__main__":
    main()
