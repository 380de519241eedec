"""Queries of the shop's own come out of the three databases whole, right, and without a trace left behind."""

import hashlib
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import polars as pl
import pymysql
import pytest
import sqlalchemy as sa
from queries import EVENTS, execute, fill, read

from recsys.errors import ConfigError, SourceError
from recsys.source.contract import CLASSES, Select, class_of
from recsys.source.events import read_events
from recsys.source.reader import open_reader

NOON = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds
HOUR = 3_600_000_000
IDS = ["a", "A", "a ", " a", "a/b", "it's", '"q"', "a\\b", "😀", "😃", "ä", "ａ", "%s", "-1", "007", "none", "a\tb"]


def fill_sqlite(path: Path, rows: Sequence[Sequence[object]]) -> str:
    """A table without types: SQLite keeps every value as it comes."""
    execute(
        f"sqlite:///{path}",
        "CREATE TABLE events (user_id, item_id, event, timestamp, value)",
        "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
        rows=rows,
    )
    return f"sqlite:///{path}"


def test_ids_that_are_easily_confused_stay_apart(database: str) -> None:
    fill(database, [(name, name, "view", 1_577_880_000, 1.5) for name in IDS])
    found = read(database)
    assert sorted(found["user_id"]) == sorted(IDS)
    assert sorted(found["item_id"]) == sorted(IDS)
    assert set(found["time"]) == {NOON}
    assert set(found["value"]) == {1.5}


def test_whole_numbers_are_ids_in_decimal(database: str) -> None:
    fill(database, [(2**62, -5, "view", 1_577_880_000, None)], ids="BIGINT")
    found = read(database)
    assert found.select("user_id", "item_id", "value").rows() == [(str(2**62), "-5", None)]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("BIGINT", 1_577_880_000),
        ("BIGINT", 1_577_880_000_000),
        ("BIGINT", NOON),
        ("DOUBLE PRECISION", 1_577_880_000.0),
        ("NUMERIC(20, 3)", "1577880000.000"),
        ("VARCHAR(40)", "2020-01-01T12:00:00Z"),
        ("VARCHAR(40)", "2020-01-01 13:00:00+01:00"),
    ],
)
def test_times_with_a_zone_or_counted_since_1970(database: str, kind: str, given: object) -> None:
    fill(database, [("a", "b", "view", given, None)], timestamp=kind)
    assert read(database, zone="Europe/Berlin")["time"].to_list() == [NOON]


@pytest.mark.parametrize("kind", ["VARCHAR(40)", "TIMESTAMP", "DATETIME", "DATETIME(6)"])
def test_times_without_a_zone_are_taken_in_the_configured_one(database: str, kind: str) -> None:
    if "DATETIME" in kind and database.startswith("postgresql"):
        pytest.skip("PostgreSQL has no DATETIME")
    if kind == "TIMESTAMP" and database.startswith("mariadb"):
        pytest.skip("a TIMESTAMP of MariaDB is a moment")
    fill(database, [("a", "b", "view", "2020-01-01 12:00:00", None)], timestamp=kind)
    with closing(open_reader(database)) as reader:
        [batch] = read_events(reader, EVENTS, "interactions", "Europe/Berlin")
    assert batch.frame["time"].to_list() == [NOON - HOUR]
    assert batch.naive == 1


def test_a_date_is_its_midnight(database: str) -> None:
    fill(database, [("a", "b", "view", "2020-01-01", None)], timestamp="DATE")
    assert read(database)["time"].to_list() == [NOON - 12 * HOUR]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_moment_is_the_same_whatever_the_session_shows(database: str) -> None:
    kind, zone = ("TIMESTAMPTZ", "SET TIME ZONE 'Etc/GMT+5'")
    if database.startswith("mariadb"):
        kind, zone = "TIMESTAMP NULL", "SET time_zone = '-05:00'"
    execute(
        database,
        f"CREATE TABLE events (user_id TEXT, item_id TEXT, event TEXT, timestamp {kind}, value FLOAT)",
        zone,
        "INSERT INTO events VALUES ('a', 'b', 'view', '2020-01-01 07:00:00', NULL)",
    )
    with closing(open_reader(database)) as reader:
        [batch] = read_events(reader, EVENTS, "interactions", "Asia/Tokyo")
    assert batch.frame["time"].to_list() == [NOON]
    assert batch.naive == 0


def test_nulls_in_the_first_row_and_everywhere(database: str) -> None:
    fill(database, [(None,) * 5, ("a", None, "view", 1_577_880_000, 2.0), (None, "b", None, None, None)])
    found = read(database).select("user_id", "item_id", "event", "time", "raw_time", "value")
    assert set(found.rows()) == {
        (None, None, None, None, None, None),
        ("a", None, "view", NOON, None, 2.0),
        (None, "b", None, None, None, None),
    }


def test_an_empty_result_is_no_rows(database: str) -> None:
    fill(database, [])
    with closing(open_reader(database)) as reader:
        assert sum(batch.frame.height for batch in read_events(reader, EVENTS, "interactions", None)) == 0


@pytest.mark.parametrize(
    "query",
    [
        f"{EVENTS};",
        f"  {EVENTS} ;\n ",
        f"{EVENTS} -- every row",
        f"WITH shop AS ({EVENTS}) SELECT * FROM shop",
        f"{EVENTS} WHERE user_id LIKE '%a%' OR event LIKE '%w'",
        f"{EVENTS} UNION ALL {EVENTS} WHERE 1 = 0",
        f"{EVENTS} ORDER BY timestamp LIMIT 10",
        "SELECT user_id, item_id, event, timestamp, value, 1 AS more FROM events",
        "SELECT user_id, item_id, 'view' AS event, max(timestamp) AS timestamp, sum(value) AS value "
        "FROM events GROUP BY user_id, item_id",
    ],
)
def test_any_select_will_do(database: str, query: str) -> None:
    fill(database, [("a", "b", "view", 1_577_880_000, 2.0)])
    found = read(database, query)
    assert found.select("user_id", "item_id", "event", "time", "value").rows() == [("a", "b", "view", NOON, 2.0)]


def test_many_batches_lose_nothing(database: str) -> None:
    numbers = 120_000
    fill(database, [(str(number % 7), str(number), "view", 1_577_880_000, None) for number in range(numbers)])
    found = read(database)
    assert found.height == numbers
    assert found["item_id"].n_unique() == numbers
    assert sorted(found["user_id"].unique()) == [str(number) for number in range(7)]


def test_a_missing_column_is_named_with_those_found_and_needed(database: str) -> None:
    fill(database, [])
    with pytest.raises(SourceError, match=r"lacks item_id, event; found: user_id, timestamp; needed: user_id, item_id"):
        read(database, "SELECT user_id, timestamp FROM events")


@pytest.mark.parametrize("query", ["SELECT * FROM nowhere", "SELEKT 1", "SELECT a.user_id FROM events", ""])
def test_a_query_that_fails_is_named(database: str, query: str) -> None:
    fill(database, [])
    with pytest.raises(SourceError, match="the query of interactions failed"):
        read(database, query)


def test_the_shop_cannot_be_written_to(database: str) -> None:
    fill(database, [("a", "b", "view", 1_577_880_000, 2.0)])
    with closing(open_reader(database)) as reader, pytest.raises(SourceError) as error:
        reader.query(EVENTS, "interactions").fetch("DELETE FROM events")
    assert re.search("(?i)read.?only", error.value.in_full)
    assert read(database).height == 1


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_sqlite_file_stays_bit_for_bit_what_it_was(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "shop.db"
    url = fill_sqlite(path, [(str(number), "b", "view", 1_577_880_000, 2.0) for number in range(1_000)])
    execute(url, f"PRAGMA journal_mode = {journal}")
    writer = sqlite3.connect(path)  # a shop that is open, with a row that only its journal holds
    writer.execute("INSERT INTO events VALUES ('new', 'b', 'view', 1577880000, 2.0)")
    writer.commit()
    before = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns
    assert read(url).height == 1_001
    assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) == before
    writer.close()


def test_sqlite_values_of_mixed_types_are_noticed(tmp_path: Path) -> None:
    rows = [
        ("17850", 1, "view", "2020-01-01 12:00:00", 1),
        (17850, "1", "view", 1_577_880_000, "2.5"),
        (17850.5, b"\xff\x00", "view", 1_577_880_000.0, "many"),
        (None, 2**62, "view", b"\xff", None),
        ("x", "1", "view", "soon", 3.5),
    ]
    found = read(fill_sqlite(tmp_path / "shop.db", rows))
    assert found["user_id"].to_list() == ["17850", "17850", "17850.5", None, "x"]
    assert found["item_id"].to_list() == ["1", "1", None, str(2**62), "1"]
    assert found["time"].to_list() == [NOON, NOON, NOON, None, None]
    assert found["raw_time"].to_list() == [None, None, None, None, "soon"]
    assert found["value"].to_list() == [1.0, 2.5, None, None, 3.5]
    classes = found.select(class_of(pl.col("classes").fill_null(0), c).alias(c) for c in ("user_id", "item_id")).rows()
    named = [tuple(CLASSES[at] for at in row) for row in classes]
    expected = [("text", "integer"), ("integer", "text"), ("real", "blob"), ("null", "integer"), ("text", "text")]
    assert named == expected


@pytest.mark.parametrize("late", [5, 5.5, b"\xff", None, "x"])
@pytest.mark.parametrize("usual", ["text", 7])
def test_a_type_that_changes_late_changes_nothing_else(tmp_path: Path, late: object, usual: object) -> None:
    rows = [(usual, usual, "view", 1_577_880_000, 1.0)] * 150_000 + [(late, "b", "view", "2020-01-01T12:00:00Z", 1.0)]
    found = read(fill_sqlite(tmp_path / "shop.db", rows))
    assert found["user_id"].value_counts().filter(pl.col("user_id") == str(usual))["count"].to_list() == [150_000]
    assert found["user_id"][-1] == (None if late is None or isinstance(late, bytes) else str(late))
    assert set(found["time"]) == {NOON}


def test_text_that_is_no_utf8_is_a_clear_error(tmp_path: Path) -> None:
    url = fill_sqlite(tmp_path / "shop.db", [("a", "b", "view", 1_577_880_000, 1.0)])
    execute(url, "INSERT INTO events VALUES (CAST(x'ff41' AS TEXT), 'b', 'view', 1577880000, 1.0)")
    with pytest.raises(SourceError, match="interactions"):
        read(url)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_ids_of_bytes_are_refused(database: str) -> None:
    kind = "BYTEA" if database.startswith("postgresql") else "VARBINARY(20)"
    fill(database, [(b"a", b"b", "view", 1_577_880_000, None)], ids=kind)
    with pytest.raises(SourceError, match=r"user_id of the query of interactions holds bytes"):
        read(database)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_uuids_are_text(database: str) -> None:
    name = "123e4567-e89b-12d3-a456-426655440000"
    fill(database, [(name, name, "view", 1_577_880_000, None)], ids="UUID")
    assert read(database)["user_id"].to_list() == [name]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_values_of_decimals_are_numbers(database: str) -> None:
    execute(
        database,
        "CREATE TABLE events (user_id TEXT, item_id TEXT, event TEXT, timestamp BIGINT, value NUMERIC(30, 12))",
        "INSERT INTO events VALUES ('a', 'b', 'view', 1577880000, 12.123456789012)",
    )
    assert read(database)["value"].to_list() == [12.123456789012]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_infinity_is_no_time(database: str) -> None:
    fill(database, [("a", "b", "view", "infinity", None)], timestamp="TIMESTAMP")
    assert read(database)["time"].to_list() == [None]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_zero_dates_are_no_time(database: str) -> None:
    execute(
        database,
        "SET sql_mode = ''",
        "CREATE TABLE events (user_id TEXT, item_id TEXT, event TEXT, timestamp DATETIME, value FLOAT)",
        "INSERT INTO events VALUES ('a', 'b', 'view', '0000-00-00 00:00:00', NULL)",
        "INSERT INTO events VALUES ('a', 'b', 'view', '2020-01-01 12:00:00', NULL)",
    )
    assert sorted(read(database)["time"].to_list(), key=str) == [NOON, None]


def variants(url: str) -> list[str]:
    """The same database as others write its address."""
    rest = url.partition("://")[2]
    if url.startswith("postgresql"):
        return [f"{scheme}://{rest}" for scheme in ("postgres", "postgresql+psycopg", "postgresql+psycopg2")] + [
            f"{url}?sslmode=prefer&connect_timeout=5",
            f"{url}?options=-c%20statement_timeout%3D60000",
        ]
    return [f"{scheme}://{rest}" for scheme in ("mysql", "mariadb+pymysql", "mysql+mysqldb")] + [
        f"{url}?charset=utf8mb4",
        f"{url}?read_timeout=60",  # an option that only the slower driver knows
    ]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_every_form_of_a_url_reads_the_same(database: str) -> None:
    fill(database, [(name, name, "view", 1_577_880_000, 1.5) for name in IDS] + [(None,) * 5])
    expected = read(database).sort("user_id")
    for url in variants(database):
        assert read(url).sort("user_id").equals(expected), url


@pytest.mark.parametrize("name", ["shop.db", "a shop.db", "50%.db", "ünï#.db", "a&b=c.db"])
def test_sqlite_files_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    url = fill_sqlite(tmp_path / name, [("a", "b", "view", 1_577_880_000, 1.0)])
    assert read(url).height == 1
    monkeypatch.chdir(tmp_path)
    assert read(f"sqlite:///{name}").height == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("password", ["p@ss/w:rd", "100% #?&=+", "ü 'ß\"\\"])
def test_passwords_of_any_characters(database: str, password: str) -> None:
    fill(database, [("a", "b", "view", 1_577_880_000, 1.5)])
    url = sa.make_url(database)
    name = f"r_{os.getpid()}_{abs(hash(password)) % 10_000}"
    server = pymysql.connect(host=url.host, port=url.port or 3306, user=url.username, password=url.password or "")
    with closing(server), server.cursor() as cursor:
        cursor.execute(f"CREATE USER {name} IDENTIFIED BY %s", (password,))
        try:
            cursor.execute(f"GRANT SELECT ON {url.database}.* TO {name}")
            theirs = url.set(username=name, password=password).render_as_string(hide_password=False)
            assert read(theirs).height == 1
            wrong = url.set(username=name, password=f"{password}!").render_as_string(hide_password=False)
            with pytest.raises(SourceError) as error:
                read(wrong)
            assert password not in str(error.value)
        finally:
            cursor.execute(f"DROP USER {name}")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_that_is_not_there_is_named_without_the_password(kind: str) -> None:
    with pytest.raises(SourceError, match=r"127\.0\.0\.1") as error:
        read(f"{kind}://shop:very%20secret@127.0.0.1:1/shop")
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"shop\.db"):
        open_reader(f"sqlite:///{tmp_path / 'shop.db'}")
    assert not (tmp_path / "shop.db").exists()


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_text("user_id,item_id\n" * 100)
    with pytest.raises(SourceError, match="SQLITE_NOTADB") as error:
        read(f"sqlite:///{tmp_path / 'shop.db'}")
    assert error.value.detail == "file is not a database"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "oracle://shop", "shop.db"])
def test_what_is_no_url_of_a_database_that_we_read(url: str) -> None:
    with pytest.raises(ConfigError):
        open_reader(url)


def test_a_catalog_keeps_its_columns_and_their_types(database: str) -> None:
    execute(
        database,
        "CREATE TABLE items (item_id VARCHAR(20), price NUMERIC(10, 2), stock INTEGER, rate FLOAT, added DATE)",
        "INSERT INTO items VALUES ('a', 12.50, 3, 0.5, '2020-01-01')",
        "INSERT INTO items VALUES ('b', NULL, NULL, NULL, NULL)",
    )
    with closing(open_reader(database)) as reader:
        found = reader.table(Select("SELECT * FROM items ORDER BY item_id", {}), "items")
        empty = reader.table(Select("SELECT * FROM items WHERE 1 = 0", {}), "items")
    assert found.rows() == [("a", 12.5, 3, 0.5, "2020-01-01"), ("b", None, None, None, None)]
    assert empty.columns == found.columns
    assert empty.height == 0


def test_a_catalog_column_of_several_types_becomes_text(tmp_path: Path) -> None:
    rows = [(1, 1, None, None, 1)] * 30_000 + [("x", 2.5, "late", None, None)]
    with closing(open_reader(fill_sqlite(tmp_path / "shop.db", rows))) as reader:
        found = reader.table(Select("SELECT * FROM events", {}), "items")
    assert found[0].rows() == [("1", 1.0, None, None, 1)]
    assert found[-1].rows() == [("x", 2.5, "late", None, None)]


def test_a_column_that_comes_twice_is_refused(database: str) -> None:
    fill(database, [("a", "b", "view", 1_577_880_000, 1.0)])
    with closing(open_reader(database)) as reader, pytest.raises(SourceError, match="twice"):
        reader.table(Select("SELECT item_id, event, event FROM events", {}), "items")
