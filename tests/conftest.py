import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest
import sqlalchemy as sa

from recsys.store.database import Store, database_url
from recsys.store.migrate import open_store

DATABASES = ("sqlite", "postgresql", "mariadb")

_LOOPBACK = {
    "postgresql": ("RECSYS_TEST_POSTGRESQL_URL", "postgresql://root@127.0.0.1:5432/test"),
    "mariadb": ("RECSYS_TEST_MARIADB_URL", "mariadb://root@127.0.0.1:3306/test"),
}


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of its own, empty, as a user would write it; once for each of the three kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'own.db'}"
        return
    variable, loopback = _LOOPBACK[request.param]
    server = sa.make_url(os.environ.get(variable, loopback))
    name = f"recsys_test_{uuid.uuid4().hex}"
    try:
        _execute(request.param, server, f"CREATE DATABASE {name}")
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        if variable in os.environ or os.environ.get("CI") == "true":
            pytest.fail(f"{request.param} does not answer, and here it must: {error}")
        pytest.skip(f"{request.param} does not answer at {server.host}:{server.port}; {variable} names another")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(request.param, server, f"DROP DATABASE {name}{' WITH (FORCE)' * (request.param == 'postgresql')}")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """The own tables in such a database."""
    opened = open_store(database, "recsys_")
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """The own tables in a SQLite file: for tests of what does not depend on the database."""
    opened = open_store(f"sqlite:///{tmp_path / 'sqlite-store.db'}", "recsys_")
    yield opened
    opened.close()


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
