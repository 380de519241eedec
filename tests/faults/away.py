"""What happens to the shop's database: away, cut, slow, locked, changed, or closed to us."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sqlalchemy as sa
from postgres import CLERK, PASSWORD, Server, following
from proxy import Proxy
from queries import execute
from shop import Row, Shop, said
from test_connections import locked

from recsys.config.loading import load_config
from recsys.store.database import database_url

AWAY_SECONDS = 3.0
PATIENCE = 600.0  # a machine may be busy
SLOW = {  # some milliseconds a row, so that a reading takes seconds
    "postgresql": "pg_sleep(0.003)::text = ''",
    "mariadb": "sleep(0.003) = 0",
}
OTHERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(0%%' AND datname = current_database() "
    "AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE info LIKE '%%sleep(0%%' AND db = database() "
    "AND id <> connection_id()",
}
END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def servers_away(shop: Shop, _asked: Any) -> Iterator[Row]:
    """Faults that only a server has."""
    if shop.proxy is None:
        return
    gone = partial(cut_for, shop.proxy, AWAY_SECONDS)
    yield gone_at_start(shop, shop.proxy)
    yield in_mid_read(shop, f"database gone in mid-read for {AWAY_SECONDS:g} s", gone)
    if shop.server is None:
        yield in_mid_read(shop, "sessions ended in mid-read", partial(end_readers, shop))
    else:
        yield in_mid_read(shop, "server killed in mid-read and started again", shop.server.restart)
        yield failover(shop, shop.server)
    yield wrong_password(shop)
    yield read_only(shop)


def any_database(shop: Shop, _asked: Any) -> Iterator[Row]:
    yield schema_changed(shop)
    yield hung_session(shop)


def gone_at_start(shop: Shop, proxy: Proxy) -> Row:
    before = shop.good
    proxy.cut()
    done = shop.train()
    proxy.restore()
    return shop.row("database gone at start", failed(done), before)


def cut_for(proxy: Proxy, seconds: float) -> None:
    proxy.cut()
    time.sleep(seconds)
    proxy.restore()


def in_mid_read(shop: Shop, fault: str, strike: Callable[[], Any]) -> Row:
    """Strike while the server works on our query."""
    before = shop.good
    query = f"SELECT * FROM ({interactions(shop)}) AS slowly WHERE {SLOW[shop.kind]}"
    night = shop.start("train", "--full", RECSYS_SOURCE__INTERACTIONS=query)
    until = time.monotonic() + PATIENCE
    while not readers(shop):
        assert night.poll() is None, night.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1)
    strike()
    errors = night.communicate(timeout=PATIENCE)[1]
    return shop.row(fault, failed(subprocess.CompletedProcess([], night.returncode, "", errors)), before)


def failover(shop: Shop, first: Server) -> Row:
    """The first of two servers dies in mid-read, and with it the own tables; the second one takes over.

    Nothing is configured anew: the URL names both hosts, as PostgreSQL's driver allows.
    """
    folder = shop.folder / "two hosts"
    folder.mkdir()
    first.execute("CREATE DATABASE failover")
    with following(first, folder / "second") as second:
        hosts = [f"127.0.0.1:{server.port}" for server in (first, second)]
        query = {"host": hosts, "target_session_attrs": "read-write", "connect_timeout": "5"}
        url = sa.make_url("postgresql://root@/failover").update_query_dict(query)
        there = Shop(shop.kind, folder, url.render_as_string(hide_password=False))

        def strike() -> None:
            first.wait_for_follower()
            first.kill()
            second.promote()

        row = in_mid_read(there, "failover to a second host", strike)
        there.close()
    first.start()
    return row


def wrong_password(shop: Shop) -> Row:
    before = shop.good
    name, password = ("no_such_account", "wrong") if shop.server is None else (CLERK, "wrong")
    if shop.server is not None:
        execute(shop.url, f"CREATE ROLE {CLERK} LOGIN PASSWORD '{PASSWORD}'")
    wrong = sa.make_url(shop.source).set(username=name, password=password)
    done = shop.train(RECSYS_SOURCE__URL=wrong.render_as_string(hide_password=False))
    assert "wrong" not in done.stderr.replace("wrong password", "")
    return shop.row("wrong password", failed(done), before)


def read_only(shop: Shop) -> Row:
    """The own tables can be read and not written, as on a replica."""
    before, name = shop.good, f"r_{os.getpid()}"
    database = sa.make_url(shop.url).database
    if shop.kind == "postgresql":
        begin = (f"CREATE ROLE {name} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        end = (f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    else:
        begin = (f"CREATE USER {name}", f"GRANT SELECT ON {database}.* TO {name}")
        end = (f"DROP USER {name}",)
    execute(shop.url, *begin)
    try:
        reader = sa.make_url(shop.url).set(username=name).render_as_string(hide_password=False)
        done = shop.train(RECSYS_STORE__URL=reader)
    finally:
        execute(shop.url, *end)
    return shop.row("own tables read-only", failed(done), before)


def schema_changed(shop: Shop) -> Row:
    before = shop.good
    execute(shop.url, "ALTER TABLE deeds RENAME COLUMN product TO ware")
    done = shop.train()
    execute(shop.url, "ALTER TABLE deeds RENAME COLUMN ware TO product")
    return shop.row("a column renamed", failed(done), before)


def hung_session(shop: Shop) -> Row:
    before = shop.good
    with locked(shop.url, "deeds"):
        start = time.monotonic()
        done = shop.train(RECSYS_SOURCE__QUERY_TIMEOUT_SECONDS="2")
        seconds = time.monotonic() - start
    return shop.row("a lock held by a hung session", failed(done), before, note=f"given up after {seconds:.0f} s")


def failed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode in (1, 3), done.stderr
    return said(done)


def interactions(shop: Shop) -> str:
    return str(load_config(shop.folder / "recsys.toml", {}).source.interactions)


def readers(shop: Shop) -> list[int]:
    """The sessions that work on the slow query."""
    engine = sa.create_engine(database_url(shop.url))
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql(OTHERS[engine.dialect.name]).scalars())
    engine.dispose()
    return found


def end_readers(shop: Shop) -> None:
    """What an administrator does to those that read, and a restart of the server."""
    execute(shop.url, *(END[database_url(shop.url).get_backend_name()].format(session) for session in readers(shop)))
