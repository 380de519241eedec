"""Files come into the own tables once, whole or not at all, and every row of them is accounted for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from importing import EVENTS, NOON, put, stored, write
from tiny import quiet

from recsys.config.settings import Config
from recsys.errors import ConfigError, RefusedError, SourceError
from recsys.source import dataset as source
from recsys.source.importer import DELETED, DUPLICATE
from recsys.store.database import Store
from recsys.store.users import delete_user


def test_importing_again_adds_nothing_and_more_adds_what_is_new(store: Store, tmp_path: Path) -> None:
    first = put(store, write(tmp_path / "e.csv", EVENTS))
    again = put(store, write(tmp_path / "other.jsonl", EVENTS))
    more = put(store, write(tmp_path / "e.csv", [*EVENTS, {**EVENTS[0], "value": 9.0}]))
    assert (first.inserted, again.inserted, again.already_there) == (3, 0, 3)
    assert (more.inserted, more.already_there) == (1, 3)
    assert len(stored(store)) == 4


def test_a_row_that_comes_twice_in_a_file_counts_once(sqlite_store: Store, tmp_path: Path) -> None:
    done = put(sqlite_store, write(tmp_path / "e.csv", [*EVENTS, EVENTS[0]]))
    assert (done.inserted, done.left_out) == (3, {DUPLICATE: 1})


def test_bad_rows_are_left_out_by_reason(sqlite_store: Store, tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "value": float(at)} for at in range(200)]
    rows += [{**EVENTS[0], "user_id": None}, {**EVENTS[0], "timestamp": "soon"}]
    done = put(sqlite_store, write(tmp_path / "e.csv", rows))
    assert done.left_out == {"no user": 1, "unreadable time": 1}
    assert len(done.findings[0].examples) == 1


def test_a_file_of_bad_rows_is_refused_and_nothing_is_written(store: Store, tmp_path: Path) -> None:
    rows = [*EVENTS, {**EVENTS[0], "event": "wish"}]
    with pytest.raises(RefusedError, match="unknown kind: 1 of 4 rows"):
        put(store, write(tmp_path / "e.csv", rows))
    assert stored(store) == []


def test_events_of_deleted_users_stay_deleted(store: Store, tmp_path: Path) -> None:
    delete_user(store, "a", now=NOON)
    done = put(store, write(tmp_path / "e.csv", EVENTS))
    assert (done.inserted, done.left_out) == (2, {DELETED: 1})


@pytest.mark.parametrize("what", ["events", "items", "users"])
def test_a_misspelled_column_is_named_with_those_found_and_needed(
    sqlite_store: Store, tmp_path: Path, what: str
) -> None:
    path = write(tmp_path / "e.csv", [{"user": "a", "itemid": "x", "event": "view", "timestamp": 1}])
    with pytest.raises(SourceError, match=r"e\.csv lacks .*_id.*; found: user, itemid, event, timestamp; needed: "):
        put(sqlite_store, path, what=what)


def test_a_file_that_is_not_there_and_a_preset_that_is_not_known(sqlite_store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        put(sqlite_store, tmp_path / "e.csv")
    with pytest.raises(ConfigError, match="online-retail, retailrocket"):
        put(sqlite_store, tmp_path / "e.csv", preset="amazon")
    (tmp_path / "r.csv").write_text("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n")
    with pytest.raises(ConfigError, match="'online-retail' reads events, not items"):
        put(sqlite_store, tmp_path / "r.csv", what="items", preset="online-retail")
    with pytest.raises(ConfigError, match="'carts' cannot be imported; allowed are events, items, users"):
        put(sqlite_store, tmp_path / "e.csv", what="carts")


def test_json_lines_with_ids_of_mixed_type(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{"user_id": 17850, "item_id": "1", "event": "view", "timestamp": 1577880000}\n'
        '{"user_id": "17850", "item_id": 1, "event": "view", "timestamp": "2020-01-01T12:00:01Z", "more": [1]}\n'
    )
    assert put(sqlite_store, path).inserted == 2
    assert [row[:2] for row in stored(sqlite_store)] == [("17850", "1"), ("17850", "1")]


def test_items_and_users(store: Store, tmp_path: Path) -> None:
    items = [
        {"item_id": "x", "title": "X", "price": "1.5", "available": "t", "created_at": "2020-01-01", "color": "red"}
    ]
    users = [
        {"user_id": "a", "email_consent": "yes", "city": "Rome"},
        {"user_id": "b", "email_consent": "", "city": ""},
    ]
    assert put(store, write(tmp_path / "i.csv", items), what="items").inserted == 1
    again = put(store, write(tmp_path / "i.csv", [*items, items[0], {**items[0], "item_id": ""}]), what="items")
    assert (again.inserted, again.already_there, sum(again.left_out.values())) == (0, 1, 2)
    assert put(store, write(tmp_path / "u.csv", users), what="users").inserted == 2
    put(store, write(tmp_path / "e.csv", EVENTS))
    loaded = source.load(Config(), store, now=NOON, progress=quiet)
    row = loaded.catalog.columns.slice(loaded.catalog.ids.row_of("x"), 1).to_pylist()[0]
    assert (row["title"], row["price"], row["available"], row["color"]) == ("X", 1.5, True, "red")
    assert row["created_at"] == NOON - 43_200_000_000
    assert loaded.consent is not None
    assert loaded.consent[loaded.users.row_of("a")].as_py() is True
    assert loaded.consent[loaded.users.row_of("b")].as_py() is None


def test_times_of_the_configured_form(sqlite_store: Store, tmp_path: Path) -> None:
    config = Config.model_validate({"source": {"time_format": "%d.%m.%Y %H:%M", "timezone": "Europe/Berlin"}})
    path = write(tmp_path / "e.csv", [{**EVENTS[0], "timestamp": "1.1.2020 13:00"}])
    assert put(sqlite_store, path, config=config).inserted == 1
    assert stored(sqlite_store)[0][3] == NOON
    with pytest.raises(RefusedError, match=r"unreadable time: 1 of 1 rows.*time_format"):
        put(sqlite_store, write(tmp_path / "e.csv", [EVENTS[0]]), config=config)
    items = [{"item_id": "x", "created_at": "1.1.2020 13:00"}, {"item_id": "y", "created_at": "2020-01-01 13:00"}]
    put(sqlite_store, write(tmp_path / "i.csv", items), what="items", config=config)
    with sqlite_store.reading() as connection:
        found = connection.exec_driver_sql("SELECT created_at FROM recsys_items").scalars().all()
    assert found == [NOON, NOON]


DYING = """
import os, signal, sys
from pathlib import Path
from jobs.reading import check_files
from recsys.config.settings import Config, StoreSettings
from recsys.source.importer import import_files
from recsys.store.migrate import open_store

def report(step, share):
    if step.startswith("write") and share > 0.2:
        os.kill(os.getpid(), signal.SIGKILL)

import_files(Config(), open_store(sys.argv[1]), [Path(sys.argv[2])], progress=report)
"""


def test_an_import_that_dies_leaves_nothing_half_written(store: Store, database: str, tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "value": float(at)} for at in range(60_000)]
    path = write(tmp_path / "e.csv", rows)
    died = subprocess.run([sys.executable, "-c", DYING, database, str(path)], check=False, env={**os.environ})
    assert died.returncode == -signal.SIGKILL
    assert stored(store) == []
    assert put(store, path).inserted == 60_000
