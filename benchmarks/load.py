"""Minutes of load on a service of several workers: is anything lost, does memory grow, are all served.

    python -m benchmarks.load --minutes 30 [--store postgresql://user@host/postgres]

A shop of 100,000 items with random vectors is served by 4 workers. All the time, mixed questions come at a fixed rate,
events in requests of five, and the bundle is swapped. One phase after the other adds what happens once:

* the database goes away for 20 seconds (with --store alone: a database of its own is made there, and PostgreSQL ends
  its connections and refuses new ones);
* 1,000 events a second;
* 10,000 idle connections, or as many as `ulimit -n` allows;
* clients that send or read a byte a second, bodies of 1 GB, and filters that cost much.

Exits with 1 when

* an event is missing whose request was answered with 2xx;
* a question is answered with neither 200 nor 503, or its connection breaks;
* more than a tenth of a phase's questions is turned away with 503;
* a hostile request gets an answer other than 4xx or 503;
* a worker was replaced, or the service logged an error;
* the workers' own memory at the end is more than a quarter and 32 MB above that of the first phase.
"""

import argparse
import asyncio
import functools
import resource
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg

from benchmarks import load_clients as clients
from benchmarks.load_clients import Answers, Client, repeat
from benchmarks.serve_shop import CATEGORIES, USERS, make_shop, random_histories, random_vectors
from benchmarks.serving import memory, serving
from benchmarks.swaps import turned
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.store.keys import create_key
from recsys.store.migrate import open_store

PREFIX = "recsys_bench_"
BATCH = 5  # events of a request, 50 while there are 1,000 a second
DATABASE_AWAY = 20.0  # seconds
SHARES = {  # of the minutes
    "steady": 0.25,
    "database away": 0.1,
    "1,000 events a second": 0.15,
    "idle connections": 0.2,
    "hostile clients": 0.2,
    "steady again": 0.1,
}
MEMORY_FACTOR, MEMORY_MARGIN = 1.25, 32e6


@dataclass
class Run:
    """What is asked, and what came of it."""

    client: Client
    items: int
    workers: list[int]
    answers: dict[str, Answers] = field(default_factory=dict)
    events: dict[str, Answers] = field(default_factory=dict)
    bytes_of: dict[str, list[int]] = field(default_factory=dict)  # of all workers together, their own
    acknowledged: set[str] = field(default_factory=set)
    hostile: Counter[str] = field(default_factory=Counter)
    idle: int = 0
    sent: int = 0

    async def question(self, phase: str, number: int) -> None:
        """One of several kinds of questions."""
        status, took = await self.client.ask(*self._question(number))
        counted = self.answers[phase]
        counted.statuses[status] += 1
        if status == 200:
            counted.milliseconds.append(took)

    def _question(self, number: int) -> tuple[str, str, Any]:
        user, item = number * 48271 % USERS, number * 69621 % self.items
        asks: list[tuple[str, str, Any]] = [
            ("GET", f"/v1/users/u{user}/recommendations?k=20&fields=title,price", None),
            ("GET", f"/v1/users/u{user}/recommendations?filter=category:eq:Category%20{user % CATEGORIES}", None),
            ("GET", f"/v1/items/i{item}/similar", None),
            ("GET", f"/v1/boxes/popular?user_id=u{user}", None),
            ("POST", "/v1/recommendations", {"history": [{"item_id": f"i{item}", "kind": "view"}]}),
            ("POST", "/v1/recommendations", {"user_id": f"u{user}", "rules": {"max_per": {"brand": 2}}}),
            ("POST", "/v1/pages", {"user_id": f"u{user}", "boxes": [{"box": "recently_viewed"}, {"box": "for_you"}]}),
            ("POST", "/v1/batch", {"questions": [{"box": "for_you", "user_id": f"u{user + at}"} for at in range(5)]}),
        ]
        return asks[number % len(asks)]

    async def post(self, phase: str, count: int) -> None:
        """Some events; those of a request with 2xx are acknowledged."""
        ids = [f"load-{self.sent + at}-{uuid.uuid4().hex}" for at in range(count)]
        self.sent += count
        body = [
            {"event_id": name, "user_id": f"u{self.sent % USERS}", "kind": "view", "item_id": f"i{at % self.items}"}
            for at, name in enumerate(ids, start=self.sent)
        ]
        status, took = await self.client.ask("POST", "/v1/events", body)
        self.events[phase].statuses[status] += 1
        if status == 200:
            self.events[phase].milliseconds.append(took)
            self.acknowledged.update(ids)

    async def watch(self, phase: str, until: float) -> None:
        """What the workers hold, every two seconds; a worker that is gone holds nothing."""
        while time.perf_counter() < until:
            try:
                self.bytes_of[phase].append(sum(memory(pid)[0] for pid in self.workers))
            except OSError:
                self.hostile["a worker was replaced"] += 1
                return
            await asyncio.sleep(2)

    async def phase(self, phase: str, seconds: float, arguments: argparse.Namespace, others: list[Any]) -> None:
        """Questions, events and `others` for so long."""
        self.answers[phase], self.events[phase], self.bytes_of[phase] = Answers(), Answers(), []
        until = time.perf_counter() + seconds
        is_burst = phase == "1,000 events a second"
        count, rate = (50, 20.0) if is_burst else (BATCH, arguments.events / BATCH)
        await asyncio.gather(
            repeat(lambda number: self.question(phase, number), arguments.questions, until),
            repeat(lambda _: self.post(phase, count), rate, until),
            self.watch(phase, until),
            *(other(until) for other in others),
        )

    async def send_hostile(self, until: float) -> None:
        """Slow clients until then, and long bodies and filters one after the other."""
        question = {"user_id": "u1", "k": 500, "fields": ["title", "brand", "category"]}
        request = self.client.request("POST", "/v1/recommendations", question)
        slow = [clients.send_slowly(self.client, request, until) for _ in range(50)]
        slow += [clients.read_slowly(self.client, request, until) for _ in range(50)]
        await asyncio.gather(*slow, self._send_bombs(until))

    async def _send_bombs(self, until: float) -> None:
        while time.perf_counter() < until:
            for is_chunked in (False, True):
                status = await clients.send_gigabyte(self.client, is_chunked=is_chunked)
                self.hostile[f"1 GB: {status}"] += 1
            for at, bomb in enumerate(clients.filter_bombs()):
                status, _ = await self.client.ask("POST", "/v1/recommendations", {"user_id": "u1"} | bomb)
                self.hostile[f"filter {at}: {status}"] += 1
            await asyncio.sleep(1)


def main() -> None:
    """Make the shop, serve it, ask, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--store", help="of PostgreSQL: where a database is made, and dropped in the end; else SQLite")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--questions", type=float, default=40, help="a second")
    parser.add_argument("--events", type=float, default=20, help="a second")
    parser.add_argument("--idle", type=int, default=10_000, help="connections")
    parser.add_argument("--swap-seconds", type=float, default=15, help="between two swaps")
    parser.add_argument("--phases", nargs="+", choices=SHARES, default=list(SHARES), metavar="PHASE", help="only these")
    parser.add_argument("--log", type=Path, help="file for the log of the service")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    arguments.idle = min(arguments.idle, most - 1_000)
    with tempfile.TemporaryDirectory(prefix="recsys-load-") as name, own_database(arguments.store) as url:
        folder = Path(name)
        made, _ = make_shop(folder, random_vectors(arguments.items), random_histories(arguments.items), store_url=url)
        other = bundles.save(turned(made), folder / "data", facts={"config_hash": "1" * 8})
        names = [bundles.load(folder / "data").version, other]
        store = open_store(url or f"sqlite:///{folder}/recsys.db", PREFIX)
        key = create_key(store, "load", ("recommend", "events", "admin"))[1]
        store.close()
        with serving(folder, workers=arguments.workers, core=None, key=key) as (address, workers):
            run = Run(Client(int(urlsplit(address).port or 0), key), arguments.items, workers)
            asyncio.run(ask_all(run, arguments, folder / "data", names, url))
            time.sleep(1)
        lost = len(run.acknowledged - stored_ids(url, folder))
        log = (folder / "serve.log").read_text()
    if arguments.log:
        arguments.log.write_text(log)
    errors = [line for line in log.splitlines() if " ERROR " in line]
    sys.exit(report(run, arguments, lost, errors))


async def ask_all(run: Run, arguments: argparse.Namespace, data: Path, names: list[str], url: str | None) -> None:
    """One phase after the other, while bundles are swapped."""
    swapping = asyncio.create_task(swap(data, names, arguments.swap_seconds))
    others: dict[str, list[Any]] = {
        "database away": [functools.partial(cut, url)] if url else [],
        "hostile clients": [run.send_hostile],
    }
    for phase in (phase for phase in SHARES if phase in arguments.phases):
        idle = await clients.open_idle(run.client.port, arguments.idle if phase == "idle connections" else 0)
        seconds = max(10.0, SHARES[phase] * arguments.minutes * 60)
        await run.phase(phase, seconds, arguments, others.get(phase, []))
        run.idle = max(run.idle, clients.count_open(idle))
        for _, writer in idle:
            writer.close()
    swapping.cancel()


async def swap(data: Path, names: list[str], seconds: float) -> None:
    """Publish one bundle and the other in turn, for ever."""
    at = 0
    while True:
        await asyncio.sleep(seconds)
        at += 1
        await asyncio.to_thread(versions.publish, data, names[at % len(names)])


@contextmanager
def own_database(server: str | None) -> Iterator[str | None]:
    """The address of a new database at a server, which is dropped in the end; None: SQLite."""
    if server is None:
        yield None
        return
    name = f"recsys_load_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def cut(url: str, until: float) -> None:
    """End all connections to a database and refuse new ones, for a while from now on."""
    await asyncio.to_thread(_allow, url, is_allowed=False)
    await asyncio.sleep(max(0.0, min(DATABASE_AWAY, until - time.perf_counter() - 5)))
    await asyncio.to_thread(_allow, url, is_allowed=True)


def _allow(url: str, *, is_allowed: bool) -> None:
    name = urlsplit(url).path[1:]
    server = urlsplit(url)._replace(path="/postgres").geturl()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {is_allowed}")
        if not is_allowed:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def stored_ids(url: str | None, folder: Path) -> set[str]:
    """The ids of the events that the database has."""
    store = open_store(url or f"sqlite:///{folder}/recsys.db", PREFIX)
    with store.engine.connect() as connection:
        found = {str(row[0]) for row in connection.exec_driver_sql(f"SELECT event_id FROM {PREFIX}events")}
    store.close()
    return found


def report(run: Run, arguments: argparse.Namespace, lost: int, errors: list[str]) -> int:
    """Print the tables; 1 when something is wrong, else 0."""
    print("| phase | questions | 503 | failed | p50, ms | p99, ms | events' requests | 503 | failed | p50 | p99 | MB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    wrong = list[str]()
    for phase, answers in run.answers.items():
        megabytes = np.median(run.bytes_of[phase] or [0]) / 1e6
        print(f"| {phase} | {answers.row()} | {run.events[phase].row()} | {megabytes:.0f} |")
        total = sum(answers.statuses.values())
        if answers.statuses[503] > total / 10:
            wrong.append(f"{phase}: {answers.statuses[503]} of {total} questions were turned away")
        for what, counted in (("questions", answers), ("events", run.events[phase])):
            if bad := {status: count for status, count in counted.statuses.items() if status not in (200, 503)}:
                wrong.append(f"{phase}: {what} were answered with {bad}")
    first, last = (float(np.median(run.bytes_of.get(phase) or [0])) for phase in ("steady", "steady again"))
    if first and last > MEMORY_FACTOR * first + MEMORY_MARGIN:
        wrong.append(f"memory grew from {first / 1e6:.0f} to {last / 1e6:.0f} MB")
    wrong += [f"{what}, {count} times" for what, count in run.hostile.items() if not may_be(what)]
    wrong += [f"{lost} acknowledged events are missing"] * bool(lost) + errors[:20]
    print(f"\n{run.idle:,} of {arguments.idle:,} idle connections stayed open; hostile requests: {dict(run.hostile)}")
    print(f"{len(run.acknowledged):,} events were acknowledged, {lost} of them are missing")
    print(*wrong, sep="\n")
    return int(bool(wrong))


def may_be(what: str) -> bool:
    """Whether a hostile request may be answered so: with 4xx, 503 or, a filter that is allowed, 200."""
    status = what.rpartition(": ")[2]
    return status.startswith("4") or status == "503" or (status == "200" and what.startswith("filter"))


if __name__ == "__main__":
    main()
