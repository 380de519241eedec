import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Databases

from recsys.store.database import Store
from recsys.store.migrate import open_store

LEAST_COVERAGE = 90  # per cent of the lines
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
def sqlite_store(databases: Databases, tmp_path: Path) -> Iterator[Store]:
    """The own tables in a SQLite file: for tests of what does not depend on the database."""
    opened = open_store(databases.sqlite(tmp_path / "sqlite-store.db"), "recsys_")
    yield opened
    opened.close()


def measured_coverage() -> tuple[float, int] | None:
    """The per cent of the lines that ran in the workers, and the lines, when slipcover measures."""
    merged = Path(os.environ.get("SLIPCOVER_COVERAGE_DIR", "")) / "merged.json"
    if "PYTEST_XDIST_WORKER" in os.environ or not merged.is_file():
        return None
    found = json.loads(merged.read_text())["summary"]
    return found["percent_covered"], found["covered_lines"] + found["missing_lines"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that has covered too little, once slipcover has put together what the workers measured."""
    if (found := measured_coverage()) and found[0] < LEAST_COVERAGE and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was covered; the table of files is in .coverage."""
    if found := measured_coverage():
        percent, lines = found
        terminalreporter.write_line(f"coverage: {percent:.2f} % of {lines:,} lines (at least {LEAST_COVERAGE} %)")
