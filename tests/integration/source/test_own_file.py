"""Reading the own tables must not cost this process the locks by which others know that it has them open."""

import subprocess
import sys

from shops import GOOD, NOW, Shop, check, load, own_events

from recsys.config.settings import Config
from recsys.store.events import insert_events
from recsys.store.migrate import open_store

LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM recsys_events").fetchone()[0])
connection.close()
"""


def seen_by_another(path) -> int:
    """What another process finds; when it takes itself for the last one, it clears the log of writes away."""
    done = subprocess.run([sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_is_written_after_a_reading_is_there_for_others(tmp_path):
    path = tmp_path / "own.db"
    store = open_store(f"sqlite:///{path}", "recsys_")
    insert_events(store, own_events([(u, i, "view", NOW - at) for at, (u, i, *_) in enumerate(GOOD)]))
    config = Config.model_validate({"store": {"url": f"sqlite:///{path}"}})
    with store.reading() as connection:  # held open, as a pool or a lease's thread would
        connection.exec_driver_sql("SELECT 1")
        assert len(load(config, store).events) == len(GOOD)
        assert seen_by_another(path) == len(GOOD)
        renamed = own_events([("late", "i1", "view", NOW - 1)])
        insert_events(store, renamed.set_column(0, "event_id", [["late"]]))
        assert seen_by_another(path) == len(GOOD) + 1
    store.close()
    assert seen_by_another(path) == len(GOOD) + 1


def test_a_shop_in_the_same_file_is_read_as_carefully(tmp_path):
    shop = Shop(tmp_path)
    shop.add("events", GOOD)
    store = open_store(f"sqlite:///{shop.path}", "recsys_")
    insert_events(store, own_events([("u1", "i1", "purchase", NOW - 5)]))
    with store.reading() as connection:
        connection.exec_driver_sql("SELECT 1")
        assert check(shop.config(), store).counts["events"] == len(GOOD) + 1
        assert seen_by_another(shop.path) == 1
        renamed = own_events([("late", "i1", "purchase", NOW - 1)])
        insert_events(store, renamed.set_column(0, "event_id", [["late"]]))
        assert seen_by_another(shop.path) == 2
    store.close()
    assert seen_by_another(shop.path) == 2
