"""A shop whose nights come when a test says so: real schedulers, real jobs, a real receiver of alerts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from recsys.store.database import Store
from recsys.store.migrate import open_store
from recsys.store.runs import DIED, Run, list_runs
from recsys.store.schedule import Due, list_due

DAY = 86_400_000_000
WAIT_SECONDS = 120  # generous: a wait that is over earlier ends earlier


class Nights:
    """The folder of a shop, its store, and the schedulers that a test has started."""

    def __init__(self, folder: Path, database: str, settings: str = "", prefix: str = "recsys_") -> None:
        self.folder, self.log = folder, folder / "log"
        self.store: Store = open_store(database, prefix)
        self.schedulers: list[subprocess.Popen[bytes]] = []
        (folder / "recsys.toml").write_text(
            f"[store]\nurl = '{database}'\ntable_prefix = '{prefix}'\n"
            f"[schedule]\ntrain = '0 2 * * *'\ngrace_seconds = 0.5\n{settings}"
        )
        self.mode("at once")

    def mode(self, mode: str) -> None:
        """What the job does from its next start on."""
        (self.folder / "mode.new").write_text(mode)
        (self.folder / "mode.new").replace(self.folder / "mode")

    def start(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("night_scheduler.py")
        environment, measured = dict(os.environ), list[str]()
        if folder := environment.pop("SLIPCOVER_COVERAGE_DIR", None):  # where the tests' own coverage is put together
            out = f"{folder}/coverage-gw-{time.monotonic_ns()}.json"
            measured = ["-m", "slipcover", "--source", "jobs/schedule", "--json", "--out", out]
        with self.log.open("ab") as log:
            scheduler = subprocess.Popen([sys.executable, *measured, script, self.folder], stderr=log, env=environment)
        self.schedulers.append(scheduler)
        return scheduler

    def stop(self, scheduler: subprocess.Popen[bytes]) -> int:
        scheduler.send_signal(signal.SIGTERM)
        return scheduler.wait(WAIT_SECONDS)

    def kill(self, scheduler: subprocess.Popen[bytes]) -> None:
        scheduler.kill()
        scheduler.wait()

    def close(self) -> None:
        for scheduler in self.schedulers:
            if scheduler.poll() is None:
                self.kill(scheduler)
        self.store.close()

    def due(self) -> Due:
        return next(due for due in list_due(self.store) if due.job == "train")

    def planned(self, jobs: int = 1) -> Due:
        """The due time of training, once a scheduler has planned so many jobs, one after the other."""
        self.wait(lambda: len(due := list_due(self.store)) >= jobs and any(one.job == "train" for one in due))
        return self.due()

    def miss(self, nights: int = 1) -> int:
        """As if the due time had passed so many nights ago with nothing up; returns it."""
        due, at = self.store.tables.due, self.store.now() - nights * DAY
        with self.store.writing() as connection:
            connection.execute(sa.update(due).values(due_at=at, owner=None, free_at=0, attempts=0))
        return at

    def miss_job(self, job: str) -> int:
        """As `miss`, for one job of several."""
        due, at = self.store.tables.due, self.store.now() - DAY
        with self.store.writing() as connection:
            connection.execute(sa.update(due).where(due.c.job == job).values(due_at=at, owner=None, free_at=0))
        return at

    def runs(self) -> list[Run]:
        """Oldest first."""
        return list_runs(self.store, 10_000)[::-1]

    def ended(self, due_at: int) -> list[Run]:
        """The runs for a due time that came to an end of their own."""
        mine = [run for run in self.runs() if run.due_at == due_at and run.status != "running"]
        return [run for run in mine if not (run.error or "").startswith(DIED)]

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def moved_on(self, due_at: int) -> Callable[[], bool]:
        return lambda: self.due().due_at > due_at

    def wait(self, condition: Callable[[], bool], *, meanwhile: Callable[[], bool] | None = None) -> None:
        """Until the condition holds; leases and claims of the dead expire meanwhile as if a minute had passed.

        The patience begins anew whenever `meanwhile` has killed something.
        """
        limit = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < limit, f"{self.runs()}\n{self.due()}\n{self.log.read_text()}"
            self.pass_time()
            if meanwhile and meanwhile():
                limit = time.monotonic() + WAIT_SECONDS
            time.sleep(0.02)

    def pass_time(self) -> None:
        due, leases = self.store.tables.due, self.store.tables.leases
        with self.store.reading() as connection:
            held = connection.execute(
                sa.select(leases.c.owner).where(leases.c.expires_at > 0, leases.c.name == "train")
            )
            claimed = connection.execute(sa.select(due.c.owner, due.c.free_at).where(due.c.free_at > 0))
            holders, claims = [row.owner for row in held], list(claimed)
        with self.store.writing() as connection:
            for owner in holders:
                if owner is not None and not alive(owner):
                    connection.execute(sa.update(leases).where(leases.c.owner == owner).values(expires_at=0))
            for owner, free_at in claims:
                if owner is None or not alive(owner):
                    mine = (due.c.free_at == free_at) & due.c.owner.is_not_distinct_from(owner)
                    connection.execute(sa.update(due).where(mine).values(free_at=0))


def alive(owner: str) -> bool:
    return running(int(owner.split(":")[1]))


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_quietly(pid: int) -> None:
    """Kill a job that may have ended by itself a moment ago."""
    try:
        if any("night_job.py" in word for word in psutil.Process(pid).cmdline()):
            os.kill(pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass


@contextmanager
def receiver(*answers: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An HTTP server that keeps what is posted; it gives these answers first, then 204."""
    posted: list[dict[str, Any]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = left.pop(0) if left else 204
            if answer < 300:
                posted.append(json.loads(body))
            self.send_response(answer)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?token=s3cr3t", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
