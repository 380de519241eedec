from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Databases

from recsys.store.database import Store
from recsys.store.migrate import open_store

DATABASES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """The databases of this worker."""
    found = Databases()
    yield found
    found.close()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any rows, as a user would write it; once for each of the three kinds."""
    with databases.ready(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=DATABASES)
def empty_database(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables, as a user would write it; once for each of the three kinds."""
    with databases.fresh(request.param, tmp_path) as url:
        yield url


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
