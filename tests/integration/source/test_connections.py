"""Connections to the shop: time limits, several hosts, encryption, passwords in files, and options that are none."""

import os
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from queries import EVENTS, execute, fill

from recsys.errors import ConfigError, SourceError
from recsys.source.contract import Select
from recsys.source.dialects.postgresql import POSTGRESQL
from recsys.source.events import read_events
from recsys.source.reader import open_reader

ROW = ("a", "b", "view", 1_577_880_000, 1.5)
ASKS_FOR_A_PASSWORD = b"R" + struct.pack(">II", 8, 3)
ENCRYPTION_REQUESTS = (80877103, 80877104)
SLOW = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e9) SELECT max(i) FROM n",
    "postgresql": "SELECT count(*) FROM generate_series(1, 10000) a, generate_series(1, 1000000) b",
    "mariadb": "SELECT sleep(60)",
}


def read(url: str, query: str = EVENTS, seconds: float = 60.0) -> int:
    """How many events the query returns."""
    with closing(open_reader(url, seconds=seconds)) as reader:
        return sum(batch.frame.height for batch in read_events(reader, query, "interactions", None))


@contextmanager
def locked(url: str, table: str = "events") -> Iterator[None]:
    """A table, locked by somebody else."""
    parsed = sa.make_url(url)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(str(parsed.database))) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
    elif url.startswith("postgresql"):
        with psycopg.connect(url) as session:
            session.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    else:
        where = {"host": parsed.host, "port": parsed.port or 3306, "database": parsed.database}
        with closing(pymysql.connect(**where, user=parsed.username, password=parsed.password or "")) as holder:
            holder.cursor().execute(f"LOCK TABLES {table} WRITE")
            yield


def test_a_table_that_stays_locked_is_named_instead_of_waited_for(database: str) -> None:
    fill(database, [ROW])
    start = time.monotonic()
    with locked(database), pytest.raises(SourceError, match=r"query_timeout_seconds = 0\.5 .*stayed locked"):
        read(database, seconds=0.5)
    assert time.monotonic() - start < 20
    assert read(database, seconds=0.5) == 1


def test_a_query_that_takes_too_long_ends(database: str) -> None:
    fill(database, [ROW])
    slow = f"{EVENTS} WHERE value < ({SLOW[database.partition('://')[0].partition('+')[0]]})"
    start = time.monotonic()
    with pytest.raises(SourceError, match=r"the query of interactions failed .*query_timeout_seconds = 0\.5"):
        read(database, slow, seconds=0.5)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_several_hosts_the_next_one_answers(database: str) -> None:
    fill(database, [ROW])
    url = sa.make_url(database)
    hosts = ["127.0.0.1:1", f"{url.host}:{url.port or 5432}"]
    several = url.set(host=None, port=None).update_query_dict({"host": hosts})
    assert read(several.render_as_string(hide_password=False)) == 1
    assert POSTGRESQL.bulk_read is not None
    assert sum(batch.height for batch in POSTGRESQL.bulk_read(several, Select("SELECT 1 AS one"), 5.0)) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_encryption_that_is_asked_for_is_used_or_the_reading_fails(database: str) -> None:
    fill(database, [ROW])
    with psycopg.connect(database) as session:
        (can,) = session.execute("SHOW ssl").fetchone() or ("off",)
    url = f"{database}?sslmode=require"
    if can == "on":
        used = "SELECT ssl::text AS a FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        with closing(open_reader(url)) as reader:
            assert reader.table(Select(used), "items")["a"].to_list() == ["true"]
        return
    with pytest.raises(SourceError) as error:
        read(url)
    assert "SSL" in str(error.value.detail)


@contextmanager
def password_taker() -> Iterator[tuple[int, list[bytes]]]:
    """A server that speaks enough of PostgreSQL's protocol to be told a password: its port, and what it was told."""
    told: list[bytes] = []

    def serve(door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            with client:
                while struct.unpack(">II", client.recv(8))[1] in ENCRYPTION_REQUESTS:
                    client.sendall(b"N")
                client.recv(4096)
                client.sendall(ASKS_FOR_A_PASSWORD)
                told.append(client.recv(4096)[5:].rstrip(b"\0"))

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, args=(door,), daemon=True).start()
        yield door.getsockname()[1], told
        door.shutdown(socket.SHUT_RDWR)


def test_a_password_comes_from_the_file_that_the_url_names(tmp_path: Path) -> None:
    passwords = tmp_path / "pgpass"
    passwords.write_text("127.0.0.1:*:shop:reader:from the file\n")
    passwords.chmod(0o600)
    with password_taker() as (port, told):
        url = f"postgresql://reader@127.0.0.1:{port}/shop?passfile={passwords}"
        with pytest.raises(SourceError):
            read(url)
        assert POSTGRESQL.bulk_read is not None
        with pytest.raises(Exception, match=r"connect|server"):
            list(POSTGRESQL.bulk_read(sa.make_url(url), Select("SELECT 1"), 5.0))
    assert set(told) == {b"from the file"}
    assert len(told) >= 2


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_user_and_password_come_from_mariadb_s_file(database: str, tmp_path: Path) -> None:
    fill(database, [ROW])
    url, name = sa.make_url(database), f"r_{os.getpid()}_file"
    options = tmp_path / "my.cnf"
    options.write_text(f"[client]\nuser = {name}\npassword = from-the-file\n")
    theirs = f"mariadb://{url.host}:{url.port or 3306}/{url.database}?read_default_file={options}"
    execute(
        database, f"CREATE USER {name} IDENTIFIED BY 'from-the-file'", f"GRANT SELECT ON {url.database}.* TO {name}"
    )
    try:
        assert read(theirs) == 1
        options.write_text(f"[client]\nuser = {name}\npassword = another\n")
        with pytest.raises(SourceError, match="OperationalError 1045"):
            read(theirs)
    finally:
        execute(database, f"DROP USER {name}")


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_options_that_mariadb_s_driver_does_not_know_or_cannot_use_are_named(database: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"an option that its driver does not know: .*sslmode"):
        read(f"{database}?sslmode=require")
    with pytest.raises(SourceError, match="FileNotFoundError"):
        read(f"{database}?ssl_ca={tmp_path / 'none.pem'}")


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT u AS user_id, i AS item_id, state AS event, at AS timestamp FROM orders "
        "UNION ALL SELECT u, i, word, at FROM clicks",
        "SELECT u AS user_id, i AS item_id, state AS event, at AS timestamp FROM orders "
        "UNION ALL SELECT u, i, 'view', at FROM clicks",
        "SELECT u AS user_id, i AS item_id, state AS event, at AS timestamp FROM orders "
        "UNION ALL SELECT u, i, look, at FROM looks",
    ],
)
def test_an_enum_in_a_union_gets_the_hint_to_cast_it(database: str, query: str) -> None:
    execute(
        database,
        "CREATE TYPE order_state AS ENUM ('paid', 'shipped')",
        "CREATE TABLE orders (u TEXT, i TEXT, state order_state, at TIMESTAMP)",
        "CREATE TABLE clicks (u TEXT, i TEXT, word TEXT, at TIMESTAMP)",
        "CREATE TYPE look AS ENUM ('view')",
        "CREATE TABLE looks (u TEXT, i TEXT, look look, at TIMESTAMP)",
        "INSERT INTO orders VALUES ('a', 'b', 'paid', '2020-01-01')",
    )
    try:
        with pytest.raises(SourceError, match=r"CAST\(status AS text\)"):
            read(database, query)
        mended = query.replace("state AS event", "CAST(state AS text) AS event").replace("look,", "CAST(look AS text),")
        assert read(database, mended) == 1
    finally:
        execute(database, "DROP TABLE orders", "DROP TABLE clicks", "DROP TABLE looks")
        execute(database, "DROP TYPE order_state", "DROP TYPE look")
