"""Databases for tests: one a worker and kind, whose tables are made once and emptied after each test."""

import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from recsys.store.database import database_url
from recsys.store.migrate import open_store

_LOOPBACK = {
    "postgresql": ("RECSYS_TEST_POSTGRESQL_URL", "postgresql://root@127.0.0.1:5432/test"),
    "mariadb": ("RECSYS_TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306/test"),
}
_OTHERS = {  # whoever still holds a connection to the database that is connected to
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
}
_FROM_ONE = {  # the next run is number 1 again
    "postgresql": "SELECT setval(pg_get_serial_sequence('recsys_runs', 'run_id'), 1, false)",
    "mysql": "ALTER TABLE recsys_runs AUTO_INCREMENT = 1",
}
_MIGRATION = sa.text("SELECT version_num FROM recsys_migrations")
_END = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


@dataclass(frozen=True)
class Kept:
    """A database that is used again and again."""

    url: str
    engine: sa.Engine  # for what happens between the tests
    own: frozenset[str]  # the names of the own tables
    migration: str


class Databases:
    """The databases of one worker. Use each of them one test at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="recsys-test-")

    def sqlite(self, path: Path) -> str:
        """The URL of a new SQLite file with the own tables and nothing in them."""
        made = Path(self._folder.name) / "own.db"  # a copy takes a small part of the time of the migrations
        if not made.exists():
            open_store(f"sqlite:///{made}").close()
            with closing(sqlite3.connect(made)) as file:  # as a shop's file is until the own tables are opened in it
                file.execute("PRAGMA journal_mode = DELETE")
        shutil.copyfile(made, path)
        return f"sqlite:///{path}"

    @contextmanager
    def fresh(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of an empty database, as a user would write it."""
        if kind == "sqlite":
            yield f"sqlite:///{folder / 'own.db'}"
            return
        url = _create(kind)
        try:
            yield url
        finally:
            _drop(kind, url)

    @contextmanager
    def ready(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of a database with the own tables and nothing in them. What a test leaves in it is removed."""
        if kind == "sqlite":  # a file is copied faster than cleaned
            yield self.sqlite(folder / "own.db")
            return
        if kind not in self._kept:
            self._kept[kind] = _migrated(_create(kind))
        kept = self._kept[kind]
        try:
            yield kept.url
        finally:
            if not _clean(kept):
                self._end(kind)

    def _end(self, kind: str) -> None:
        kept = self._kept.pop(kind)
        kept.engine.dispose()
        _drop(kind, kept.url)

    def close(self) -> None:
        for kind in list(self._kept):
            self._end(kind)
        self._folder.cleanup()


def _migrated(url: str) -> Kept:
    open_store(url).close()
    engine = sa.create_engine(database_url(url), isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    own = frozenset(sa.inspect(engine).get_table_names())
    with engine.connect() as connection:
        return Kept(url, engine, own, connection.execute(_MIGRATION).scalar_one())


def _clean(kept: Kept) -> bool:
    """Empty the own tables and drop all others; False when the own ones are not what they were."""
    with kept.engine.connect() as connection:
        dialect, quote = kept.engine.dialect.name, kept.engine.dialect.identifier_preparer.quote_identifier
        for other in connection.execute(sa.text(_OTHERS[dialect])).scalars().all():
            with suppress(sa.exc.OperationalError):  # it has ended meanwhile
                connection.execute(sa.text(_END[dialect].format(other)))
        inspector = sa.inspect(connection)
        found = set(inspector.get_table_names())
        for view in inspector.get_view_names():
            connection.execute(sa.text(f"DROP VIEW {quote(view)}"))
        for table in found - kept.own:
            connection.execute(sa.text(f"DROP TABLE {quote(table)}"))
        if kept.own - found:
            return False
        held = [table for table in kept.own if table != "recsys_migrations"]
        rows = " UNION ALL ".join(f"(SELECT '{table}' FROM {quote(table)} LIMIT 1)" for table in held)
        for table in connection.execute(sa.text(rows)).scalars().all():
            connection.execute(sa.text(f"DELETE FROM {quote(table)}"))
        connection.execute(sa.text(_FROM_ONE[dialect]))
        return connection.execute(_MIGRATION).scalar_one() == kept.migration


def _create(kind: str) -> str:
    variable, server = _LOOPBACK[kind][0], _server(kind)
    name = f"recsys_test_{uuid.uuid4().hex}"
    try:
        _execute(kind, server, f"CREATE DATABASE {name}")
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        if variable in os.environ or os.environ.get("CI") == "true":
            pytest.fail(f"{kind} does not answer, and here it must: {error}")
        pytest.skip(f"{kind} does not answer at {server.host}:{server.port}; {variable} names another")
    return server.set(database=name).render_as_string(hide_password=False)


def _server(kind: str) -> sa.URL:
    variable, loopback = _LOOPBACK[kind]
    return sa.make_url(os.environ.get(variable, loopback))


def _drop(kind: str, url: str) -> None:
    parsed = sa.make_url(url)
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    _execute(kind, parsed.set(database=_server(kind).database), f"DROP DATABASE {parsed.database}{force}")


def _execute(kind: str, server: sa.URL, statement: str) -> None:
    """Run a statement that no transaction may hold."""
    if kind == "postgresql":
        plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)
        return
    url = database_url(server.render_as_string(hide_password=False))
    connection = pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        connect_timeout=5,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
