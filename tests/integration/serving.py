"""What the tests of the service share: the service, in this process or as one of its own, and ways to ask it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import tiny
import uvicorn

from api.app import create_app
from api.protocol import HttpProtocol
from recsys.config.settings import Config
from recsys.errors import RecsysError
from recsys.store.migrate import open_store

SETTINGS = f"""
[models.mf]
n_factors = [16]
{tiny.PLAIN_MF}
[training]
models = ["mf"]
[propensity]
windows_days = []
[api]
poll_seconds = 0.1
database_timeout_seconds = 20 # a busy machine is no database that is away; tests of one that is have their own limit
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client(url: str, *, timeout: float = 30) -> httpx.Client:
    """A client of plain HTTP, which needs none of the certificates that each client else takes 30 ms to read."""
    return httpx.Client(base_url=url, timeout=timeout, verify=False)


class Service:
    """A service that answers at a URL, and a client that asks it."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.http = client(self.url)

    def user(self, user_id: str, **query: Any) -> dict[str, Any]:
        """The recommendations for a user."""
        return said(self.http.get(f"/v1/users/{quote(user_id, safe='')}/recommendations", params=query))

    def similar(self, item_id: str, **query: Any) -> dict[str, Any]:
        return said(self.http.get(f"/v1/items/{quote(item_id, safe='')}/similar", params=query))

    def ask(self, **question: Any) -> dict[str, Any]:
        return said(self.http.post("/v1/recommendations", json=question))

    def post(self, path: str, body: Any) -> dict[str, Any]:
        return said(self.http.post(path, json=body))

    def event(self, user_id: str | None, item_id: str, kind: str = "purchase", **more: Any) -> dict[str, Any]:
        event = {"event_id": uuid.uuid4().hex, "user_id": user_id, "kind": kind, "item_id": item_id, **more}
        return self.post("/v1/events", {key: value for key, value in event.items() if value is not None})


class ServiceHere(Service):
    """The service of a shop in a thread of this process: it starts in a fraction of the time that a process takes."""

    def __init__(self, config: Config) -> None:
        with suppress(RecsysError):  # a database that is away is looked for later
            open_store(config.store.url, config.store.table_prefix).close()
        listening = socket.create_server(("127.0.0.1", 0))
        super().__init__(listening.getsockname()[1])
        options: dict[str, Any] = {"log_config": None, "access_log": False, "ws": "none", "lifespan": "on"}
        options |= {"server_header": False, "proxy_headers": False, "timeout_graceful_shutdown": 10}
        self._server = uvicorn.Server(uvicorn.Config(create_app(config), http=HttpProtocol, **options))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def wait(self, path: str = "/v1/health/ready", seconds: float = 60) -> None:
        """Until it is ready."""
        wait_until(lambda: self._server.started and self.http.get(path, timeout=5).status_code == 200, seconds=seconds)

    def kill(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join()


class Server(Service):
    """A `recsys serve` process with its workers: for what only processes show, as logs, kills and memory."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None, **environment: str) -> None:
        super().__init__(port or free_port())
        self.folder = folder
        self.log = folder / f"serve-{self.port}-{uuid.uuid4().hex}.log"
        command = [sys.executable, "-m", "jobs.cli", "serve", "--config", str(folder / "recsys.toml")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *arguments],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._clients: list[httpx.Client] = []

    def wait(self, path: str = "/v1/health/ready", seconds: float = 60) -> None:
        """Until it is ready."""
        wait_until(lambda: self._answers(path), seconds=seconds, message=self.log.read_text)

    def _answers(self, path: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get(path, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def each_worker(self, count: int) -> list[httpx.Client]:
        """Clients whose kept connections lead to so many different workers, one each."""
        found: dict[int, httpx.Client] = {}

        def is_complete() -> bool:
            clients = [client(self.url) for _ in range(4 * count)]
            self._clients += clients
            with ThreadPoolExecutor(len(clients)) as pool:
                list(pool.map(lambda each: each.get("/v1/health/live"), clients))
            holders = self._holders()
            for each in clients:
                stream = each.get("/v1/health/live").extensions["network_stream"]
                worker = holders.get(stream.get_extra_info("client_addr")[1])
                if worker is not None:
                    found.setdefault(worker, each)
            return len(found) == count

        wait_until(is_complete, seconds=120, message=self.log.read_text)
        return list(found.values())

    def _holders(self) -> dict[int, int]:
        """The worker that holds the other end of every connection, by the port of this end."""
        workers = psutil.Process(self.process.pid).children(recursive=True)
        ends = ((each.pid, end) for each in workers for end in each.net_connections("tcp"))
        return {end.raddr.port: pid for pid, end in ends if end.raddr and end.laddr.port == self.port}

    def kill(self) -> None:
        """As a power cut would, with all its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for each in (self.http, *self._clients):
            each.close()


def said(response: httpx.Response) -> dict[str, Any]:
    """The JSON of an answer that is no error."""
    assert response.status_code == 200, response.text
    return dict(response.json())


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["item_id"] for hit in answer["hits"]]


def codes(answer: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in answer["warnings"]]


def wait_until(condition: Callable[[], bool], *, seconds: float = 60, message: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s\n{message()}"
        time.sleep(0.05)
