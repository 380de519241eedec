"""The order that an event belongs to: read from each database, from files and from what was posted."""

from pathlib import Path

import pyarrow as pa
import pytest
from importing import put
from queries import execute, read
from shops import DAY, GOOD, NOW, SECONDS, Shop, load, own_events

from recsys.config.settings import Config
from recsys.source.dataset import Dataset
from recsys.store.database import Store
from recsys.store.events import insert_events

QUERY = "SELECT user_id, item_id, event, timestamp, value, order_id FROM events"
SOME = [("u1", "i1", "o-1"), ("u1", "i2", "o-1"), ("u1", "i3", "o-2"), ("u2", "i1", None), ("u2", "i2", "")]


def orders_of(dataset: Dataset) -> list[set[str]]:
    """The items of each order, without those of no order."""
    events, ids = dataset.events, dataset.catalog.ids
    assert events.orders is not None
    numbers = sorted(set(events.orders.tolist()) - {-1})
    assert numbers == list(range(len(numbers)))
    return sorted(
        ({ids.id_of(int(row)) for row in events.items[events.orders == number]} for number in numbers), key=min
    )


@pytest.mark.parametrize("kind", ["BIGINT", "NUMERIC(20, 0)", "VARCHAR(50)"])
def test_the_order_is_text_whatever_carries_it(database: str, kind: str) -> None:
    columns = "user_id VARCHAR(9), item_id VARCHAR(9), event VARCHAR(9), timestamp BIGINT"
    rows = [("u", "i", "view", SECONDS, 4711), ("u", "j", "view", SECONDS, None)]
    execute(
        database,
        f"CREATE TABLE events ({columns}, order_id {kind})",
        "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
        rows=rows,
    )
    found = read(database, "SELECT * FROM events")
    assert dict(zip(found["item_id"], found["order_id"], strict=True)) == {"i": "4711", "j": None}


def test_a_shop_s_orders_are_numbered_and_what_has_none_is_marked(tmp_path: Path, sqlite_store: Store) -> None:
    shop = Shop(tmp_path)
    shop.run("ALTER TABLE events ADD COLUMN order_id")
    shop.add(
        "events", [(user, item, "purchase", SECONDS + at, 1.0, order) for at, (user, item, order) in enumerate(SOME)]
    )
    loaded = load(shop.config(interactions=QUERY), sqlite_store)
    assert orders_of(loaded) == [{"i1", "i2"}, {"i3"}]
    assert (loaded.events.orders == -1).sum() == 2
    assert loaded.report.mapping["interactions"]["order_id"] == "order"


def test_without_orders_there_is_no_column_of_them(tmp_path: Path, sqlite_store: Store) -> None:
    shop = Shop(tmp_path)
    shop.add("events", GOOD)
    insert_events(sqlite_store, own_events([("u1", "i1", "cart", NOW)]))
    assert load(shop.config(), sqlite_store).events.orders is None


def test_posted_orders_stand_beside_events_of_a_shop_that_has_none(tmp_path: Path, sqlite_store: Store) -> None:
    shop = Shop(tmp_path)
    shop.add("events", GOOD)
    posted = own_events([("u1", "x", "cart", NOW - DAY), ("u1", "y", "cart", NOW), ("u1", "z", "cart", NOW)])
    insert_events(sqlite_store, posted.append_column("order_id", pa.array(["o-1", "o-1", None])))
    loaded = load(shop.config(), sqlite_store)
    assert orders_of(loaded) == [{"x", "y"}]
    assert len(loaded.events.between(NOW - DAY, NOW).orders) == 1


def test_an_import_keeps_the_orders(tmp_path: Path, store: Store) -> None:
    lines = [f"{user},{item},purchase,2019-12-{at + 1:02},{order or ''}" for at, (user, item, order) in enumerate(SOME)]
    text = "\n".join(["user_id,item_id,event,timestamp,Order ID", *lines, f"u3,i9,view,2019-12-09,{'x' * 300}"])
    path = tmp_path / "orders.csv"
    path.write_text(text, encoding="utf-8")
    assert put(store, path).inserted == len(SOME) + 1
    assert orders_of(load(Config(), store)) == [{"i1", "i2"}, {"i3"}]
