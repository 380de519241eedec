"""Measure latency, throughput and memory of the service: `python -m benchmarks.serve`.

A shop of random vectors is saved as a bundle and served by `recsys serve`, with one worker bound to one core. wrk
(https://github.com/wg/wrk, Debian package `wrk`), bound to another core, asks for users with a history of 20, with and
without a filter that half of the items match, and for the server's constant answer. The CPU time of a request is the
kernel's count for the service; it is the most reliable figure on a machine with other work. Then the memory of several
workers is read from /proc/PID/smaps_rollup. Prints tables in Markdown.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import assemble
from recsys.config.settings import IndexSettings
from recsys.data import extract
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import ItemEncoder, Part, Vectors, WeightedSum

DIM = 64
USERS = 20_000
HISTORY = 20
CATEGORIES = 50
TOKENS = 20_000  # of the item encoder
KINDS = ("view", "cart", "purchase")
LUA = """
local at = tonumber(os.getenv("BENCH_SEED") or "1")
request = function()
   at = (at * 48271) % 2147483647
   return wrk.format("GET", string.format(os.getenv("BENCH_PATH"), at % tonumber(os.getenv("BENCH_COUNT"))))
end
"""
PATHS = {
    "constant answer": "/v1/health/live",
    "20 items for a user": "/v1/users/u%d/recommendations?k=20",
    "the same, filter on": "/v1/users/u%d/recommendations?k=20&filter=price:between:0,50&filter=available:eq:true",
    "20 similar items": "/v1/items/i%d/similar?k=20",
}


@dataclass(frozen=True)
class Load:
    """What wrk measured."""

    requests: int
    per_second: float
    p50: str
    p99: str
    failed: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=4, help="for the table of memory")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk, or build https://github.com/wg/wrk")
    print("| items | request | connections | requests/s | p50 | p99 | processor, ms |\n|---|---|---|---|---|---|---|")
    sizes = []
    for items in arguments.items:
        with tempfile.TemporaryDirectory(prefix="recsys-bench-") as name:
            folder = Path(name)
            make_shop(folder, items)
            with serving(folder, workers=1, core=0) as (url, pids):
                for label, path in PATHS.items():
                    for connections in (1, 8):
                        count = items if "items/" in path else USERS
                        before = processor_seconds(pids[0])
                        load = wrk(url, path, count, connections, arguments.seconds)
                        each = (processor_seconds(pids[0]) - before) / load.requests * 1000
                        figures = f"{load.per_second:,.0f} | {load.p50} | {load.p99} | {each:.2f}"
                        print(f"| {items:,} | {label} | {connections} | {figures} |", flush=True)
                        if load.failed:
                            sys.exit(f"{load.failed} requests failed")
            with serving(folder, workers=arguments.workers, core=None) as (url, pids):
                wrk(url, PATHS["the same, filter on"], USERS, 16, arguments.seconds)
                wrk(url, PATHS["20 similar items"], items, 16, arguments.seconds)
                sizes.append((items, [memory(pid) for pid in pids]))
    print("\n| items | workers | own memory of each, MB | shared with the others, MB |\n|---|---|---|---|")
    for items, measured in sizes:
        own = ", ".join(f"{private / 2**20:.0f}" for private, _ in measured)
        shared = max(together for _, together in measured) / 2**20
        print(f"| {items:,} | {len(measured)} | {own} | {shared:.0f} |")


def make_shop(folder: Path, items: int) -> None:
    """A bundle of random vectors and a catalog, an extract of users with 20 events each, and their configuration."""
    random = np.random.default_rng(0)
    ids = Vocabulary.from_ids(f"i{row}" for row in range(items))
    item_vectors = random.standard_normal((items, DIM), np.float32)
    item_vectors *= np.exp(0.3 * random.standard_normal((items, 1), np.float32))
    weights = (random.standard_normal((TOKENS, DIM), np.float32) for _ in range(2))
    encoder = ItemEncoder(np.sort(random.integers(0, 2**63, TOKENS, np.uint64)), next(weights), (next(weights),))
    part = Part(random.standard_normal((items, DIM), np.float32), WeightedSum((0.2, 0.5, 1.0), 90.0))
    columns = pa.table(
        {
            "title": [f"Item {row}" for row in range(items)],
            "category": np.char.add("Category ", random.integers(0, CATEGORIES, items).astype(str)),
            "price": random.random(items) * 100,
            "available": random.random(items) < 0.95,
        }
    )
    catalog = Catalog(ids, columns)
    fresh = assemble(
        Vectors("mf", item_vectors, (part,), encoder, {}),
        catalog,
        random.random(items, np.float32),
        kinds=KINDS,
        index_settings=IndexSettings(),
    )
    version = bundles.save(fresh, folder / "data", facts={"config_hash": "00000000"})
    versions.publish(folder / "data", version)
    readings = SimpleNamespace(
        users=Vocabulary.from_ids(f"u{row}" for row in range(USERS)),
        catalog=catalog,
        events=_events(random, items),
        kinds=KINDS,
        watermark=time.time_ns() // 1000,
    )
    extract.publish(folder / "data", extract.write(folder / "data", readings))
    (folder / "recsys.toml").write_text('[storage]\npath = "data"\n')


def _events(random: np.random.Generator, items: int) -> Interactions:
    count = USERS * HISTORY
    now = time.time_ns() // 1000
    return Interactions.from_rows(
        np.repeat(np.arange(USERS, dtype=np.int32), HISTORY),
        random.integers(0, items, count).astype(np.int32),
        random.integers(0, len(KINDS), count).astype(np.int8),
        now - (random.random(count) * 90 * MICROSECONDS_PER_DAY).astype(np.int64),
        np.full(count, np.nan, np.float32),
        user_count=USERS,
        item_count=items,
    )


@contextmanager
def serving(folder: Path, *, workers: int, core: int | None, key: str = "") -> Iterator[tuple[str, list[int]]]:
    """The service, warm: its address and the processes that answer. core: the only one that it may use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jobs.cli", "serve", "--config", str(folder / "recsys.toml"), "--port", str(port)]
    if core is not None:
        command = ["taskset", "--cpu-list", str(core), *command]
    log = (folder / "serve.log").open("wb")
    process = subprocess.Popen([*command, "--workers", str(workers)], stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(workers):
            _wait(url, key)
        yield url, [process.pid] if workers == 1 else _workers(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def _wait(url: str, key: str) -> None:
    request = urllib.request.Request(f"{url}/v1/users/u0/recommendations", headers={"X-API-Key": key})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the service does not answer")


def _workers(parent: int) -> list[int]:
    """The processes that hold the bundle: uvicorn has a helper besides."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"index.faiss" in Path(f"/proc/{pid}/maps").read_bytes()]


def wrk(url: str, path: str, count: int, connections: int, seconds: int) -> Load:
    """Ask with wrk from the last core."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA)
        script.flush()
        command = ["taskset", "--cpu-list", str((os.cpu_count() or 1) - 1), "wrk", "-t1", f"-c{connections}"]
        command += [f"-d{seconds}s", "--latency", "-s", script.name, url]
        environment = {**os.environ, "BENCH_PATH": path, "BENCH_COUNT": str(count)}
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    return Load(
        requests=int(_find(r"(\d+) requests in", printed)),
        per_second=float(_find(r"Requests/sec:\s+([\d.]+)", printed)),
        p50=_find(r"\n +50% +(\S+)", printed),
        p99=_find(r"\n +99% +(\S+)", printed),
        failed=int(failed[1]) if failed else sum(map(int, errors.groups())) if errors else 0,
    )


def processor_seconds(pid: int) -> float:
    """What a process has used so far."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process that are its own, and those that it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return (
        sizes["Private_Clean"] + sizes["Private_Dirty"],
        sizes["Shared_Clean"] + sizes["Shared_Dirty"],
    )


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        sys.exit(f"wrk printed something unexpected:\n{text}")
    return found[1]


if __name__ == "__main__":
    main()
