"""A shop in a SQLite file, row by row, and what is read of it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tiny import quiet

from recsys.config.settings import Config
from recsys.source import dataset as source
from recsys.source.dataset import Dataset
from recsys.source.findings import Finding, SourceReport
from recsys.store.database import Store

NOW = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds
MINUTE = 60_000_000
DAY = 86_400_000_000
SECONDS = NOW // 1_000_000
GOOD = [(f"u{at % 20}", f"i{at % 30}", "view", SECONDS - 100_000 + at, 1.0) for at in range(600)]
SECTION = "SELECT user_id, item_id, event, timestamp, value FROM events"


class Shop:
    """A shop in a SQLite file and a configuration that reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.run(
            "CREATE TABLE events (user_id, item_id, event, timestamp, value)",
            "CREATE TABLE items (item_id, title, category, brand, price, available, image_url, created_at, color)",
            "CREATE TABLE users (user_id, email_consent, city)",
        )

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def add(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            connection.commit()

    def config(self, events: dict[str, Any] | None = None, **settings: Any) -> Config:
        values = {"url": f"sqlite:///{self.path}", "interactions": SECTION, **settings}
        return Config.model_validate({"source": values, "events": events or {}})


def load(config: Config, store: Store) -> Dataset:
    return source.load(config, store, now=NOW, progress=quiet)


def check(config: Config, store: Store) -> SourceReport:
    return source.check(config, store, now=NOW, progress=quiet)


def found(report: SourceReport, reason: str) -> Finding:
    [finding] = [finding for finding in report.findings if finding.reason == reason]
    return finding


def events_of(loaded: Dataset) -> list[tuple[str, str, str, int, float | None]]:
    """Every event with its ids, in the order in which they lie."""
    events = loaded.events
    users, items = loaded.users.ids_of(events.users), loaded.catalog.ids.ids_of(events.items)
    kinds = [loaded.kinds[code] for code in events.kinds]
    values = [None if np.isnan(value) else float(value) for value in events.values]
    return list(zip(users, items, kinds, events.times.tolist(), values, strict=True))


def own_events(rows: Sequence[tuple[str, str, str, int]]) -> pa.Table:
    users, items, kinds, times = zip(*rows, strict=True)
    return pa.table(
        {
            "event_id": [f"e{at}" for at in range(len(rows))],
            "user_id": users,
            "item_id": items,
            "kind": kinds,
            "occurred_at": times,
            "received_at": [NOW - 1] * len(rows),
        }
    )
