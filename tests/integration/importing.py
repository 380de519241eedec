"""Imports of small files, shared by the tests of files and presets."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
from tiny import quiet

from recsys.config.settings import Config
from recsys.source.importer import Imported, import_files
from recsys.store.database import Store
from recsys.store.tables import own_queries

NOON = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds
EVENTS = [
    {"user_id": "a", "item_id": "x", "event": "view", "timestamp": "2020-01-01 12:00:00", "value": 1.5},
    {"user_id": "A", "item_id": "x ", "event": "purchase", "timestamp": "2020-01-01T12:00:00Z", "value": None},
    {"user_id": "😀", "item_id": "x/'\"", "event": "buy", "timestamp": "1577880000", "value": 2.0},
]
CONFIG = Config.model_validate({"events": {"aliases": {"buy": "purchase"}}})


def put(store: Store, path: Path, *, config: Config = CONFIG, what: Any = None, preset: str | None = None) -> Imported:
    done = import_files(config, store, [path], what=what, preset=preset, progress=quiet)
    assert done.rows == done.inserted + done.already_there + sum(done.left_out.values())
    return done


def stored(store: Store) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        rows = connection.exec_driver_sql(own_queries(store.tables)[0]).mappings()
        return sorted(
            (tuple(row[name] for name in row if name not in ("visitor_id", "order_id")) for row in rows), key=str
        )


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    form = Path(path.name.removesuffix(".gz")).suffix
    if form == ".parquet":
        frame.write_parquet(path)
        return path
    text = frame.write_csv() if form == ".csv" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
