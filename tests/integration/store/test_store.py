import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.store.changes import read_changes
from recsys.store.database import Store, count_rows, database_url
from recsys.store.events import insert_events
from recsys.store.items import upsert_items
from recsys.store.migrate import open_store
from recsys.store.tables import own_queries
from recsys.store.users import delete_user, read_deletions, upsert_users


def events(ids, *, user="u1", item="i1", occurred_at=100, received_at=200):
    return pa.table(
        {
            "event_id": ids,
            "user_id": [user] * len(ids),
            "kind": ["view"] * len(ids),
            "item_id": [item] * len(ids),
            "occurred_at": [occurred_at] * len(ids),
            "received_at": [received_at] * len(ids),
        }
    )


def stored(store: Store, table: str, *columns: str):
    rows = getattr(store.tables, table)
    with store.reading() as connection:
        return sorted(tuple(row) for row in connection.execute(sa.select(*(rows.c[c] for c in columns))))


@pytest.mark.parametrize(
    ("written", "driver"),
    [
        ("postgres://u:p@h:5/d", "postgresql+psycopg"),
        ("postgresql://u:p@h:5/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h:5/d", "postgresql+psycopg"),
        ("postgresql+psycopg2://u:p@h:5/d", "postgresql+psycopg"),
        ("mysql://u:p@h:5/d", "mysql+pymysql"),
        ("mariadb://u:p@h:5/d", "mysql+pymysql"),
        ("mysql+pymysql://u:p@h:5/d", "mysql+pymysql"),
        ("mariadb+pymysql://u:p@h:5/d?charset=utf8mb4", "mysql+pymysql"),
        ("sqlite:////tmp/x.db", "sqlite"),
    ],
)
def test_a_url_gets_our_driver_and_keeps_the_rest(written, driver):
    url = database_url(written)
    assert url.drivername == driver
    if driver != "sqlite":
        assert (url.username, url.password, url.host, url.port, url.database) == ("u", "p", "h", 5, "d")
    assert dict(url.query) == ({"charset": "utf8mb4"} if driver == "mysql+pymysql" else {})


def test_every_way_to_write_the_url_opens_the_store(database):
    ways = {
        "sqlite": ["sqlite"],
        "postgresql": ["postgres", "postgresql", "postgresql+psycopg"],
        "mariadb": ["mysql", "mariadb", "mysql+pymysql"],
    }
    scheme, rest = database.split("://")
    for way in ways[scheme]:
        with closing(open_store(f"{way}://{rest}")) as store:
            assert count_rows(store) == {"items": 0, "users": 0, "events": 0, "reviews": 0}


@pytest.mark.parametrize("url", ["oracle://u:hunter2@h/d", "hunter2", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_we_do_not_speak_is_refused_without_repeating_its_password(url):
    with pytest.raises(ConfigError) as error:
        open_store(url)
    assert "sqlite" in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:hunter2@127.0.0.1:1/d", "mariadb://u:hunter2@127.0.0.1:1/d", "sqlite:////nowhere/at/all.db"],
)
def test_a_database_that_does_not_answer_is_a_clear_error(url):
    with pytest.raises(RecsysError, match="the store at") as error:
        open_store(url)
    assert "hunter2" not in str(error.value)


def test_an_option_that_the_driver_does_not_know_is_named_without_the_password():
    with pytest.raises(ConfigError, match=r"has an option that its driver cannot use: .*sslmode") as error:
        open_store("mariadb://shop:SECRET@127.0.0.1/test?sslmode=require")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("prefix", ["", "1x", "a-b", "a;drop", "A_", "x" * 32])
def test_a_prefix_that_is_no_name_is_refused(prefix, tmp_path):
    with pytest.raises(ConfigError, match="prefix"):
        open_store(f"sqlite:///{tmp_path}/x.db", prefix)


def test_an_event_is_stored_once(store):
    assert insert_events(store, events(["e1", "e2", "e1"])) == 2
    assert insert_events(store, events(["e2", "e3"], item="another")) == 1
    assert stored(store, "events", "event_id", "item_id") == [("e1", "i1"), ("e2", "i1"), ("e3", "another")]


def test_an_event_keeps_its_values_and_its_nulls(store):
    full = {
        "event_id": ["e1", "e2"],
        "user_id": ["u", None],
        "visitor_id": [None, "v"],
        "kind": ["cart", "view"],
        "item_id": ["i", "j"],
        "value": [12.75, float("nan")],
        "request_id": [None, "r"],
        "occurred_at": [-5, 4_102_444_800_000_001],
        "received_at": [1, 2],
    }
    insert_events(store, pa.table(full))
    with store.reading() as connection:
        rows = connection.execute(sa.select(store.tables.events).order_by("event_id")).all()
    assert [tuple(row) for row in rows] == [
        ("e1", "u", None, "cart", "i", 12.75, None, -5, 1, *[None] * 5),
        ("e2", None, "v", "view", "j", None, "r", 4_102_444_800_000_001, 2, *[None] * 5),
    ]


def test_an_insert_that_fails_leaves_nothing(store):
    def break_off(step, share):
        raise RuntimeError("the plug is pulled")

    with pytest.raises(RuntimeError):
        insert_events(store, events([f"e{n}" for n in range(30_000)]), progress=break_off)
    assert count_rows(store)["events"] == 0


def test_a_long_insert_reports_how_far_it_is(store):
    seen = []
    insert_events(store, events([f"e{n}" for n in range(45_000)]), progress=lambda _, share: seen.append(share))
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == 1.0
    assert count_rows(store)["events"] == 45_000


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(events(["e1"]).drop_columns("kind"), id="column missing"),
        pytest.param(events(["e1"]).append_column("colour", pa.array(["red"])), id="column unknown"),
        pytest.param(events(["e1"]).drop_columns("user_id"), id="nobody's event"),
        pytest.param(events(["ok", None]), id="null"),
        pytest.param(events(["ok", "x" * 256]), id="too long"),
        pytest.param(events(["ok", "a\x00"]), id="NUL"),
        pytest.param(events(["ok"], item=""), id="empty"),
        pytest.param(events(["ok"], occurred_at="yesterday"), id="not a number"),
        pytest.param(events(["ok"]).append_column("value", pa.array([float("inf")])), id="infinite"),
    ],
)
def test_events_that_cannot_be_stored_are_refused_as_a_whole(store, wrong):
    with pytest.raises(RefusedError, match="events"):
        insert_events(store, wrong)
    assert count_rows(store)["events"] == 0


def test_writers_of_the_same_events_do_not_block_each_other_for_good(store):
    ids = [f"e{n}" for n in range(3000)]
    new = []

    def write(order):
        new.append(insert_events(store, events(order)))

    threads = [threading.Thread(target=write, args=(order,)) for order in (ids, ids[::-1], ids[1000:] + ids[:1000])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(new) == 3
    assert sum(new) == 3000


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)  # in SQLite one writes at a time
def test_a_transaction_that_a_deadlock_ended_is_tried_again(store):
    upsert_items(store, pa.table({"item_id": ["a", "b"], "title": ["", ""]}))
    items, both_hold_one, calls = store.tables.items, threading.Barrier(2), []

    def rename(names):
        def use(connection):
            calls.append(names)
            for at, name in enumerate(names):
                connection.execute(items.update().where(items.c.item_id == name).values(title=names))
                if at == 0 and calls.count(names) == 1:
                    both_hold_one.wait(timeout=30)

        store.transact(use)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(rename, names) for names in ("ab", "ba")]:
            done.result(timeout=60)
    assert len(calls) == 3
    titles = stored(store, "items", "title")
    assert titles[0] == titles[1]


def test_what_is_no_deadlock_is_not_tried_again(store):
    calls = []

    def use(connection):
        calls.append(1)
        connection.exec_driver_sql("SELECT nothing")

    with pytest.raises(sa.exc.DBAPIError):
        store.transact(use)
    assert len(calls) == 1


def test_an_item_is_updated_and_columns_that_are_not_given_stay(store):
    assert upsert_items(store, pa.table({"item_id": ["i", "j"], "title": ["one", "two"], "price": [1.5, None]})) == 2
    upsert_items(store, pa.table({"item_id": ["i", "i"], "available": [True, False], "created_at": [1, 2]}))
    found = stored(store, "items", "item_id", "title", "price", "available", "created_at")
    assert found == [("i", "one", 1.5, False, 2), ("j", "two", None, None, None)]


def test_an_unknown_consent_clears_a_yes_but_never_a_no(store):
    given = {"user_id": ["no", "yes", "new"], "email_consent": [False, True, None]}
    upsert_users(store, pa.table(given))
    upsert_users(store, pa.table(given | {"email_consent": pa.array([None, None, None], pa.bool_())}))
    consent = sa.select(store.tables.users.c.user_id, store.tables.users.c.email_consent)
    with store.reading() as connection:
        assert dict(map(tuple, connection.execute(consent))) == {"no": False, "yes": None, "new": None}
    upsert_users(store, pa.table({"user_id": ["no"], "email_consent": [True]}))
    with store.reading() as connection:
        assert dict(map(tuple, connection.execute(consent)))["no"] is True


def test_columns_beyond_the_known_ones_are_kept_as_json(store):
    upsert_items(store, pa.table({"item_id": ["i"], "color": ["röd 😀"], "sizes": [[1, 2]], "gone": pa.nulls(1)}))
    assert stored(store, "items", "item_id", "attributes") == [("i", '{"color": "röd 😀", "sizes": [1, 2]}')]
    upsert_users(store, pa.table({"user_id": ["u"], "email_consent": [False], "city": ["Oslo"]}))
    assert stored(store, "users", "user_id", "email_consent", "attributes") == [("u", False, '{"city": "Oslo"}')]


def test_consent_that_is_unknown_stays_unknown(store):
    upsert_users(store, pa.table({"user_id": ["a", "b", "c"], "email_consent": [True, False, None]}))
    assert dict(stored(store, "users", "user_id", "email_consent")) == {"a": True, "b": False, "c": None}


def test_a_title_that_no_database_can_hold_is_refused(store):
    with pytest.raises(RefusedError, match="title"):
        upsert_items(store, pa.table({"item_id": ["i"], "title": ["a\x00b"]}))


def test_deleting_a_user_removes_every_row_and_leaves_a_tombstone(store):
    insert_events(store, pa.concat_tables([events(["e1", "e2"], user="gone"), events(["e3"], user="stays")]))
    upsert_users(store, pa.table({"user_id": ["gone", "stays"]}))
    assert delete_user(store, "gone", now=150).events == 2
    assert stored(store, "events", "user_id") == [("stays",)]
    assert stored(store, "users", "user_id") == [("stays",)]
    assert read_deletions(store) == {"gone": 150}
    assert read_deletions(store, ["stays"]) == {}


def test_events_up_to_the_deletion_never_come_back_and_later_ones_do(store):
    delete_user(store, "gone", now=150)
    again = pa.concat_tables(
        [
            events(["before"], user="gone", occurred_at=149),
            events(["at"], user="gone", occurred_at=150),
            events(["after"], user="gone", occurred_at=151),
            events(["other"], user="stays", occurred_at=1),
        ]
    )
    assert insert_events(store, again) == 2
    assert stored(store, "events", "event_id") == [("after",), ("other",)]


def test_a_second_deletion_counts_from_the_later_moment(store):
    for now in (200, 100, 300):
        delete_user(store, "gone", now=now)
    assert read_deletions(store) == {"gone": 300}


def test_own_queries_give_the_columns_of_a_source(store):
    insert_events(store, events(["e1"], received_at=10))
    insert_events(store, events(["e2"], received_at=20, item="i2"))
    insert_events(store, events(["e3"], received_at=10).drop_columns("user_id").append_column("visitor_id", [["v"]]))
    upsert_items(store, pa.table({"item_id": ["i1"], "title": ["one"]}))
    upsert_users(store, pa.table({"user_id": ["u1"], "email_consent": [True]}))
    with store.reading() as connection:
        interactions, items, users = (connection.exec_driver_sql(q).mappings().all() for q in own_queries(store.tables))
        early = connection.exec_driver_sql(own_queries(store.tables, received_until=19)[0]).mappings().all()
    assert sorted((row["user_id"] or "", row["item_id"]) for row in interactions) == [
        *(("", "i1"), ("u1", "i1"), ("u1", "i2"))
    ]  # fmt: skip
    both = {"item_id": "i1", "event": "view", "timestamp": 100, "value": None, "order_id": None}
    assert sorted((dict(row) for row in early), key=str) == [
        {"user_id": "u1", "visitor_id": None} | both,
        {"user_id": None, "visitor_id": "v"} | both,
    ]
    assert (items[0]["item_id"], items[0]["title"], items[0]["attributes"]) == ("i1", "one", None)
    assert (users[0]["user_id"], bool(users[0]["email_consent"])) == ("u1", True)


def test_ids_stand_in_no_log_and_no_error(empty_database, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="sqlalchemy")
    store = open_store(empty_database)
    insert_events(store, events(["e1"], user="secret-person"))
    read_changes(store, ["secret-person"], occurred_before=10**9)
    delete_user(store, "secret-person", now=150)
    assert read_deletions(store) == {"secret-person": 150}
    with store.writing() as connection:
        connection.execute(sa.text("DROP TABLE recsys_deletions"))
    with pytest.raises(sa.exc.DBAPIError) as error:
        delete_user(store, "secret-person", now=151)
    store.close()
    assert "secret-person" not in str(error.value)
    assert "secret-person" not in caplog.text


def test_a_connection_that_is_lost_on_its_way_back_is_one_line_in_the_log_and_is_replaced(sqlite_store, caplog):
    losses = [sqlite3.OperationalError("gone")]

    def lose(*_) -> None:
        if losses:
            raise losses.pop()

    sa.event.listen(sqlite_store.engine, "reset", lose)
    with sqlite_store.reading() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert [record.message for record in caplog.records] == ["Exception during reset or similar: OperationalError"]
    assert "Traceback" not in caplog.text
    assert count_rows(sqlite_store)["events"] == 0


def test_where_the_store_is_can_be_said_without_its_password(sqlite_store):
    assert sqlite_store.describe().startswith("sqlite:///")
    shown = Store(sa.create_engine("postgresql+psycopg://u:hunter2@h/d"), "recsys_", sqlite_store.tables).describe()
    assert "hunter2" not in shown


def test_the_clock_is_the_same_in_every_time_zone(store):
    zones = {
        "sqlite": [],
        "postgresql": ["SET TIME ZONE 'Asia/Kolkata'", "SET TIME ZONE 'America/New_York'"],
        "mysql": ["SET time_zone = '+05:30'", "SET time_zone = '-08:00'"],
    }
    readings = [store.now()]
    for zone in zones[store.engine.dialect.name]:
        with store.reading() as connection:
            connection.exec_driver_sql(zone)
        readings.append(store.now())
    readings.append(store.now())
    assert readings == sorted(readings)
    assert readings[-1] - readings[0] < 600_000_000
