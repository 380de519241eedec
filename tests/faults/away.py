"""What happens to the shop's database: away, cut, slow, locked, changed, or closed to us."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sqlalchemy as sa
from proxy import Proxy
from queries import execute
from shop import Row, Shop, lost_between, said
from test_connections import locked

from recsys.config.loading import load_config
from recsys.store.database import database_url

AWAY_SECONDS = 3.0
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
    yield in_mid_read(shop, "database restarted in mid-read", partial(end_readers, shop))
    yield failover(shop, shop.proxy)
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
    until = time.monotonic() + 60
    while not readers(shop):
        assert night.poll() is None, night.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1)
    strike()
    errors = night.communicate(timeout=120)[1]
    return shop.row(fault, failed(subprocess.CompletedProcess([], night.returncode, "", errors)), before)


def failover(shop: Shop, proxy: Proxy) -> Row:
    """The first of two hosts is gone: with PostgreSQL's list of hosts the second one is read."""
    before, there = shop.good, sa.make_url(shop.url)
    if shop.kind != "postgresql":
        return Row("failover to a second host", "not tried", before, before, "nothing", 0, "its driver knows one host")
    proxy.cut()
    hosts = [f"127.0.0.1:{proxy.port}", f"{there.host}:{there.port or 5432}"]
    several = there.set(host=None, port=None).update_query_dict({"host": hosts})
    mark = shop.folder / "recsys-data" / "SHOP"
    mark.unlink()  # it holds where the source is
    start = time.monotonic()
    done = shop.train(RECSYS_SOURCE__URL=several.render_as_string(hide_password=False))
    seconds = time.monotonic() - start
    proxy.restore()
    mark.unlink()
    shop.good = after = shop.state()
    assert done.returncode == 0, done.stderr
    assert after.bundle != before.bundle
    lost = lost_between(before, after, moved=True)
    return Row("failover to a second host", "first host gone", before, after, lost, seconds, "that night itself")


def wrong_password(shop: Shop) -> Row:
    before = shop.good
    wrong = sa.make_url(shop.source).set(username="no_such_account", password="wrong")
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
    """What a restart of the server does to those that read."""
    execute(shop.url, *(END[database_url(shop.url).get_backend_name()].format(session) for session in readers(shop)))
