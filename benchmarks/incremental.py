"""Measure what a night reads: everything, only what is new, and where nothing is new.

    python -m benchmarks.incremental [--events 20000000] [--new 100000] [--url URL] [--keep]

Writes a table of events with an index on their time into a database, SQLite in a temporary folder by default, and drops
it again, unless it is to be kept for another run. Reads it as `recsys train` does: in full, with so many new events,
with nothing new, with a late row. Each reading runs in a process of its own, for its own peak memory.

`events` are the seconds until the rows are there, the database's counts and sums among them; `in order` those until
they are ready to train from, but for `checked`: what the check looks at, and ids to rows; `kept` those to write the
reading for the next night; `all` those until the night could train. `extract` are those to write the extract, at its
end. In parentheses: the share of the full read.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from benchmarks.memory import peak_gib
from recsys.config.settings import Config
from recsys.data import extract
from recsys.source import dataset as source
from recsys.source import readings
from recsys.store.database import database_url
from recsys.store.migrate import open_store

TABLE = "recsys_incremental"
QUERY = f"SELECT user_id, item_id, event, timestamp, value FROM {TABLE}"
DAYS, START = 400, 1_700_006_400  # seconds: midnight
LATE = DAYS - 14  # the day of the late row
LATE_USER = "customer-47318"  # of the one row that its generator makes
BLOCK = 1_000_000
MIB = 1 << 20
STEPS = ("events", "in order", "kept", "checked", "all", "extract")


def main() -> None:
    """Fill, read night after night, print a table, drop."""
    arguments = _arguments()
    if arguments.night is not None:
        print(json.dumps(_night(arguments.url, Path(arguments.folder), arguments.night)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder or None) as folder:
        url = arguments.url or f"sqlite:///{folder}/shop.db"
        engine = sa.create_engine(database_url(url))
        try:
            if not (arguments.keep and _restore(engine)):
                _create(engine)
                _insert(engine, arguments.events, 0, DAYS)
                _index(engine)
            print(f"{arguments.events:,} events, {arguments.new:,} new, {database_url(url).get_backend_name()}")
            print(f"| night | read | rows read | {' | '.join(f'{step} s' for step in STEPS)} | peak memory | on disk |")
            full = _print("in full", url, folder, DAYS)
            _insert(engine, arguments.new, DAYS, 1)
            _print("new events", url, folder, DAYS + 1, full)
            _print("nothing new", url, folder, DAYS + 1, full)
            _insert(engine, 1, LATE, 1)
            _print("a late row", url, folder, DAYS + 1, full)
        finally:
            if not arguments.keep:
                with engine.begin() as connection:
                    connection.execute(sa.text(f"DROP TABLE {TABLE}"))
            engine.dispose()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--new", type=int, default=100_000)
    parser.add_argument("--url", default="", help="postgresql://… or mariadb://…; default: a SQLite file")
    parser.add_argument("--folder", default="", help="where the temporary folder is made")
    parser.add_argument("--keep", action="store_true", help="keep the table, and fill none that is there already")
    parser.add_argument("--night", type=float, help="one reading after so many days, in this process")
    return parser.parse_args()


def _print(name: str, url: str, folder: str, day: float, full: dict[str, Any] | None = None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.incremental", "--url", url, "--folder", folder, "--night", str(day)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    share = {step: "" if full is None else f" ({found[step] / full[step]:.2f})" for step in ("events", "all")}
    seconds = " | ".join(f"{found[step]:.1f}{share.get(step, '')}" for step in STEPS)
    how, costs = found["how"], f"{found['peak']:.1f} GiB | {found['disk']:,} MiB"
    print(f"| {name} | {how['read']} | {how['rows']:,} | {seconds} | {costs} |", flush=True)
    return found


def _night(url: str, folder: Path, day: float) -> dict[str, Any]:
    """Read as a night does, and note that a bundle was made of it."""
    values = {"source": {"url": url, "interactions": QUERY}, "storage": {"path": str(folder / "data")}}
    config = Config.model_validate(values)
    store = open_store(f"sqlite:///{folder}/own.db")
    told, at = dict[str, Any](), dict[tuple[str, float], float]()

    def progress(step: str, share: float) -> None:
        at.setdefault((step, share), time.perf_counter())

    def seconds(step: str) -> float:
        return at[step, 1.0] - at[step, 0.0] if (step, 1.0) in at else 0.0

    start = time.perf_counter()
    loaded = source.load_news(
        config,
        store,
        now=round((START + day * 86_400) * 1e6),
        progress=progress,
        note=told.update,
        trained="benchmark",
    )
    end = time.perf_counter()
    peak = peak_gib()
    if loaded is not None and loaded.reading is not None:
        extract.publish(config.storage.path, extract.write(config.storage.path, loaded))
        readings.note_trained(config.storage.path, loaded.reading, "benchmark")
    store.close()
    return {
        "how": told["interactions"],
        "events": seconds("read interactions"),
        "in order": seconds("put events in order"),
        "kept": seconds("keep what was read"),
        "checked": seconds("check events"),
        "all": end - start,
        "extract": time.perf_counter() - end,
        "peak": peak,
        "disk": sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file()) // MIB,
    }


def _create(engine: sa.Engine) -> None:
    kind = engine.dialect.name
    time_type = {"postgresql": "TIMESTAMP", "mysql": "DATETIME"}.get(kind, "TEXT")
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {TABLE}"))
        connection.execute(
            sa.text(
                f"CREATE TABLE {TABLE} (user_id VARCHAR(40), item_id VARCHAR(40), event VARCHAR(20), "
                f"timestamp {time_type}, value FLOAT)"
            )
        )


def _index(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE INDEX {TABLE}_time ON {TABLE} (timestamp)"))


def _insert(engine: sa.Engine, count: int, day: float, days: float) -> None:
    """Insert events spread evenly over days, in the order of their times."""
    random = np.random.default_rng(count)
    kinds = np.array(["view", "cart", "purchase"])
    connection: Any = engine.raw_connection()
    cursor = connection.cursor()
    for start, size in _blocks(count):
        seconds = START + ((day + days * (start + np.arange(size)) / count) * 86_400).astype(np.int64)
        columns = {
            "user": random.integers(0, max(count // 10, 100_000), size),
            "item": random.zipf(1.3, size) % 50_000,
            "kind": random.choice(kinds, size, p=[0.8, 0.12, 0.08]),
            "time": seconds,
            "value": np.round(random.lognormal(3, 1, size), 2),
        }
        rows = pl.DataFrame(columns).select(
            pl.format("customer-{}", "user"),
            pl.format("SKU-{}", "item"),
            "kind",
            pl.from_epoch("time").dt.strftime("%Y-%m-%d %H:%M:%S"),
            "value",
        )
        if engine.dialect.name == "postgresql":
            with cursor.copy(f"COPY {TABLE} FROM STDIN WITH (FORMAT csv)") as copy:
                copy.write(rows.write_csv(include_header=False))
        else:
            mark = "?" if engine.dialect.name == "sqlite" else "%s"
            cursor.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join([mark] * 5)})", rows.rows())
        connection.commit()
    connection.close()


def _restore(engine: sa.Engine) -> bool:
    """Remove what the nights of an earlier run added. Returns whether the table was there."""
    if not sa.inspect(engine).has_table(TABLE):
        return False
    first, last = (str(np.datetime64(START + day * 86_400, "s")).replace("T", " ") for day in (LATE, DAYS))
    with engine.begin() as connection:
        connection.execute(sa.text(f"DELETE FROM {TABLE} WHERE timestamp >= :last"), {"last": last})
        late = f"DELETE FROM {TABLE} WHERE timestamp = :first AND user_id = :user"
        connection.execute(sa.text(late), {"first": first, "user": LATE_USER})
    return True


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(BLOCK, count - start)) for start in range(0, count, BLOCK))


if __name__ == "__main__":
    main()
