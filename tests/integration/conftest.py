"""A small trained shop, and services that answer for it."""

import os
import shutil
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
from browser import Browser
from command_line import run_here
from once import made_once
from serving import SETTINGS, Server, ServiceHere
from tiny import quiet

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config
from recsys.store.migrate import open_store


def served_shop(folder: Path) -> None:
    sample(folder, users=600, items=200, events=12_000, seed=3, progress=quiet)
    settings = folder / "recsys.toml"
    settings.write_text(settings.read_text() + SETTINGS)
    train(load_config(settings, {}), progress=quiet)
    for file in (*folder.glob("recsys.db*"), folder / "recsys-data" / "SHOP"):  # a test may name other tables
        file.unlink()
    open_store(f"sqlite:///{folder / 'recsys.db'}").close()


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "served", served_shop)


@pytest.fixture
def shop(trained_once: Path, tmp_path: Path) -> Path:
    """The folder of a shop with one published bundle; its own tables are empty."""
    return Path(shutil.copytree(trained_once, tmp_path / "shop"))


def run_command(words: list[str], text: str | None, environment: dict[str, str]) -> tuple[int, str, str]:
    """A command that the service starts, in this process: no interpreter has to start."""
    with mock.patch("sys.stdin", StringIO(text or "")):
        done = run_here(*words, **environment)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def serve(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ServiceHere]]:
    """Start the service of the shop in this process; what was started is stopped at the end."""
    services: list[ServiceHere] = []

    def start(*, is_ready: bool = True, **environment: str) -> ServiceHere:
        here = {**environment, "RECSYS_CONFIG": str(shop / "recsys.toml")}
        monkeypatch.setattr("api.commands.run_apart", lambda words, text=None: run_command(words, text, here))
        services.append(ServiceHere(load_config(shop / "recsys.toml", {**os.environ, **environment})))
        if is_ready:
            services[-1].wait()
        return services[-1]

    yield start
    for service in services:
        service.kill()


@pytest.fixture
def serve_apart(shop: Path) -> Iterator[Callable[..., Server]]:
    """Start `recsys serve` on the shop; what was started is killed at the end."""
    servers: list[Server] = []

    def start(*arguments: str, **environment: str) -> Server:
        servers.append(Server(shop, *arguments, **environment))
        servers[-1].wait()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def server(database: str, serve: Callable[..., ServiceHere]) -> ServiceHere:
    """The service on each kind of database; it ends before its database is emptied."""
    return serve(RECSYS_STORE__URL=database)


@pytest.fixture
def sqlite_server(serve: Callable[..., ServiceHere]) -> ServiceHere:
    """The service on SQLite: for what does not depend on the database."""
    return serve()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Skipped where there is no Chromium, but not in CI."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        if os.environ.get("CI") == "true":
            pytest.fail("Debian's packages chromium and chromium-driver are missing; `.ci/packages.sh` installs them")
        pytest.skip("Debian's packages chromium and chromium-driver are not installed")
    opened = Browser(tmp_path / "browser", chromium=chromium, driver=driver)
    yield opened
    opened.driver.quit()
