"""The shop that the faults happen to: its commands as processes of their own, its state as a new process sees it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import sqlalchemy as sa
from command_line import run_apart
from databases import Databases
from postgres import Server, found_programs, new_server
from proxy import Proxy
from shops import NOW, own_events
from test_crash import expire_leases
from test_databases import CONFIG, QUICK, fill_shop

from recsys.data.folder import current
from recsys.store.database import Store
from recsys.store.events import insert_events
from recsys.store.migrate import open_store


@dataclass(frozen=True)
class State:
    """What look.py prints."""

    bundle: str | None
    ledger: str
    steps: list[str]
    running: int  # rows of the ledger without an end
    held: list[str]  # leases
    temporary: list[str]  # files and folders of writers
    own_events: int
    answers: list[list[str]] = field(default_factory=list)
    extract: int = 0
    reading: bool = False  # whether there is one that the next night can begin with
    refusal: str = ""  # in place of answers

    def __str__(self) -> str:
        bundle = (self.bundle or "none").partition("-")[0][-8:]
        digest = hashlib.sha256(repr(self.answers).encode()).hexdigest()[:4] if self.answers else "refused"
        return f"{bundle} {digest} {self.ledger.partition(':')[0] or 'no run'}"


@dataclass(frozen=True)
class Row:
    """A fault, what was done, and what came of it."""

    fault: str
    done: str  # signal or error
    before: State
    after: State
    lost: str
    seconds: float  # until a good state again
    note: str = ""


class Shop:
    """A shop with one good night behind it, on one database."""

    def __init__(self, kind: str, folder: Path, url: str, server: Server | None = None) -> None:
        """server: that of the database, where it is ours to kill. A URL with several hosts is read without a proxy."""
        self.kind, self.folder, self.url, self.server = kind, folder, url, server
        self.users = [user for user in fill_shop(url)[0] if user.isascii()][:3]
        self.proxy, self.source = behind_a_proxy(kind, url)
        settings = CONFIG.format(url=url, quick=QUICK)
        settings = settings.replace(f'[source]\nurl = "{url}"', f'[source]\nurl = "{self.source}"')
        (folder / "recsys.toml").write_text(settings, encoding="utf-8")
        self.store: Store = open_store(url)
        insert_events(self.store, own_events([(user, "w1", "cart", NOW) for user in self.users]))
        done = self.train()
        assert done.returncode == 0, done.stderr
        self.good = self.state()  # the last good one

    def train(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_apart("train", "--full", "--config", self.folder / "recsys.toml", **environment)

    def limited(self, limit: str) -> subprocess.CompletedProcess[str]:
        """A night under a limit of the kernel, as --fsize=4096 (bytes of a file) or --as=… (bytes of memory)."""
        command = ["prlimit", limit, sys.executable, "-m", "jobs.cli", "train", "--full", "--config"]
        return subprocess.run(
            [*command, str(self.folder / "recsys.toml")], capture_output=True, text=True, check=False, timeout=600
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """A night that goes on beside what is done to it."""
        command = [sys.executable, "-m", "jobs.cli", *arguments, "--config", str(self.folder / "recsys.toml")]
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def state(self) -> State:
        command = [sys.executable, str(Path(__file__).with_name("look.py")), str(self.folder), *self.users]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return State(**json.loads(done.stdout))

    def forget_leases(self) -> None:
        """As if the time of the leases of the dead had passed."""
        expire_leases(self.store)

    def good_again(self) -> tuple[State, float]:
        """One ordinary night: it publishes, and nothing of the dead is left. Seconds from its start to answers."""
        self.forget_leases()
        live, start = current(self.folder / "recsys-data/bundles"), time.monotonic()
        done = self.train()
        assert done.returncode == 0, done.stderr
        seconds, good = time.monotonic() - start, self.state()
        assert good.bundle != live
        assert good.answers, good.refusal
        assert (good.running, good.held, good.temporary) == (0, [], []), good
        assert good.ledger == "done"
        self.good = good
        return good, seconds

    def row(self, fault: str, done: str, before: State, *, note: str = "", moved: bool = False) -> Row:
        """The row of a fault that has just happened. moved: a complete new bundle may be live."""
        after = self.state()
        lost = lost_between(before, after, moved=moved)
        return Row(fault, done, before, after, lost, self.good_again()[1], note)

    def close(self) -> None:
        self.store.close()
        if self.proxy is not None:
            self.proxy.close()


@contextmanager
def database(kind: str, folder: Path, databases: Databases) -> Iterator[tuple[str, Server | None]]:
    """An empty database, and its server where that is ours: PostgreSQL's, when its programs are installed."""
    if kind == "postgresql" and found_programs() is not None:
        with new_server(folder / "first") as server:
            yield f"postgresql://root@127.0.0.1:{server.port}/postgres", server
    else:
        with databases.fresh(kind, folder) as url:
            yield url, None


def behind_a_proxy(kind: str, url: str) -> tuple[Proxy | None, str]:
    """A way to the shop's tables that can be cut, and its URL; the own tables are reached without it."""
    there = sa.make_url(url)
    if kind == "sqlite" or there.host is None:
        return None, url
    proxy = Proxy(str(there.host), there.port or {"postgresql": 5432}.get(kind, 3306))
    return proxy, there.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


def lost_between(before: State, after: State, *, moved: bool = False) -> str:
    """What a fault has cost: nothing, where the live bundle, its answers, and the own events are as they were."""
    lost = []
    if after.refusal:
        lost.append(f"answers: {after.refusal}")
    elif after.bundle == before.bundle and after.answers != before.answers:
        lost.append("answers changed")
    if after.bundle != before.bundle and not moved:
        lost.append(f"CURRENT moved from {before.bundle} to {after.bundle}")
    if after.own_events != before.own_events:
        lost.append(f"own events: {before.own_events} before, {after.own_events} after")
    return "; ".join(lost) or "nothing"


def left_in_session(session: int) -> list[int]:
    """Processes of a session that a night led."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def said(done: subprocess.CompletedProcess[str] | tuple[int, str]) -> str:
    """The exit code and the last line of a command's errors."""
    code, errors = done if isinstance(done, tuple) else (done.returncode, done.stderr)
    assert "Traceback" not in errors, errors
    if code < 0:
        return signal.Signals(-code).name
    last = next((line for line in errors.splitlines()[::-1] if line.strip()), "")
    return f"exit {code}: {last.strip()}"
