"""Measure audiences and picks of a large shop: `python -m benchmarks.audience_scale --data DIR`.

Vectors are trained from a public set and multiplied to the number of items, at the dimensions that are served (see
`benchmarks.multiplied`); users copy the histories of that set's users. Measured are picks for everybody, beside
implicit's top-k on the same vectors in the same run, an audience for one item with eligibility, and ten campaigns at
once. Each part runs in a process of its own; memory is the largest that was the process's own (RssAnon), beside the
mapped bundle.

    python -m venv beside && beside/bin/pip install implicit
    python -m benchmarks.audience_scale --data yelp2018 --beside beside/bin/python
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.multiplied import Multiplied, multiply, train
from benchmarks.serve import in_kinds
from benchmarks.serve_shop import make_shop
from jobs.audience import audience
from jobs.picks import picks
from recsys.audience.allocation import Limits, allocate
from recsys.config.loading import load_config
from recsys.config.settings import Config, IndexSettings
from recsys.data.arrays import Float32
from recsys.data.interactions import Histories
from recsys.index.bulk import BulkSearch
from recsys.index.exact import Items, search_exactly
from recsys.serving.snapshot import items_after, load
from recsys.store.migrate import open_store
from recsys.store.users import upsert_users

K, LENGTH = 20, 20  # items for each user, events of each
JUDGED = 256  # users whose picks are compared with exact search
BLOCK = 50_000  # users whose vectors are made at once

_IMPLICIT = """
import sys, time
import numpy as np, implicit
from implicit.cpu.topk import topk
items, users = np.load(sys.argv[1]), np.load(sys.argv[2])
topk(items, users[:64], 20, num_threads=int(sys.argv[3]))
started = time.perf_counter()
for start in range(0, len(users), 10_000):
    topk(items, users[start : start + 10_000], 20, num_threads=int(sys.argv[3]))
print(f"implicit {implicit.__version__}", time.perf_counter() - started)
"""


def main() -> None:
    """Make the shop, measure each part in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the public set to train on")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beside", type=Path, help="Python of an environment with implicit")
    parser.add_argument("--beside-users", type=int, default=50_000, help="so many are asked of implicit")
    parser.add_argument("--shop", type=Path, help="folder of the shop; one that is there is used")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        PARTS[arguments.part](arguments)
        return
    with tempfile.TemporaryDirectory(prefix="recsys-bench-") as name:
        arguments.shop = arguments.shop or Path(name)
        if arguments.parts != ["campaigns"] and not (arguments.shop / "recsys.toml").exists():
            make(arguments)
        for part in arguments.parts:
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(arguments.threads))
            command = [sys.executable, "-m", "benchmarks.audience_scale", *sys.argv[1:], "--part", part]
            subprocess.run([*command, "--shop", str(arguments.shop)], env=os.environ | threads, check=True)


def make(arguments: argparse.Namespace) -> None:
    """Make the bundle, the extract and the own tables, in which every other user consents to mail or to nothing."""
    arguments.shop.mkdir(parents=True, exist_ok=True)
    vectors, histories = train(arguments.data, arguments.dim)
    made = multiply(vectors, histories, arguments.items)
    histories = in_kinds(copies(made, arguments.users))
    make_shop(arguments.shop, made.vectors, histories, index=IndexSettings())
    config = load_config(arguments.shop / "recsys.toml")
    ids = [f"u{row}" for row in range(arguments.users)]
    store = open_store(config.store.url, config.store.table_prefix)
    upsert_users(store, pa.table({"user_id": ids, "email_consent": [True] * len(ids)}))
    store.close()


def copies(made: Multiplied, count: int) -> Histories:
    """The histories of `count` users: each has LENGTH events, drawn from those of one of the trained users."""
    random = np.random.default_rng(5)
    source = made.histories
    lengths = np.diff(source.offsets)
    users = random.choice(np.flatnonzero(lengths > 0), count)
    at = source.offsets[users, None] + (random.random((count, LENGTH)) * lengths[users, None]).astype(np.int64)
    own = source.items[at]
    # Another copy of the same trained item, so that users who share a source have not the same items.
    by_source = np.argsort(made.sources, kind="stable")
    starts = np.searchsorted(made.sources[by_source], np.arange(int(made.sources.max()) + 2))
    trained = made.sources[own]
    copies_of = starts[trained + 1] - starts[trained]
    items = by_source[starts[trained] + (random.random(own.shape) * copies_of).astype(np.int64)]
    ages = -np.sort(-random.random((count, LENGTH)) * 90, axis=1)
    offsets = np.arange(0, count * LENGTH + 1, LENGTH, dtype=np.int64)
    kinds = np.zeros(count * LENGTH, np.int8)
    return Histories(offsets, items.ravel().astype(np.int32), kinds, np.abs(ages).ravel().astype(np.float32))


def search(arguments: argparse.Namespace) -> None:
    """Top-k of user vectors: all users here, and some of them with implicit."""
    config = load_config(arguments.shop / "recsys.toml")
    store = open_store(config.store.url, config.store.table_prefix)
    snapshot = load(config, partial(items_after, store))
    vectors, events = snapshot.bundle.vectors, snapshot.log.extract.events
    users = np.arange(events.user_count)

    def encoded(some: slice) -> Float32:
        return vectors.encode(events.histories(users[some], snapshot.log.extract.as_of, LENGTH))

    with own_memory() as memory:
        started, spent = time.perf_counter(), 0.0
        bulk = BulkSearch(vectors.item_vectors)
        first = time.perf_counter() - started
        for start in range(0, len(users), BLOCK):
            queries = encoded(slice(start, start + BLOCK))
            begun = time.perf_counter()
            bulk.search(queries, K)
            spent += time.perf_counter() - begun
        whole = time.perf_counter() - started
    some = encoded(slice(0, JUDGED))
    found, right = bulk.search(some, K)[1], search_exactly(Items(vectors.item_vectors), some, K)[1]
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), right.tolist(), strict=True)])
    say(f"{len(users):,} users, {len(snapshot.bundle.catalog):,} items, D = {vectors.dim}, {arguments.threads} threads")
    say(
        f"top-{K} of all: search {first + spent:.0f} s, with user vectors {whole:.0f} s; own memory {memory[0]:.2f} GiB"
    )
    say(f"recall@{K} of {JUDGED} users: {recall:.4f}")
    if arguments.beside:
        some = encoded(slice(0, arguments.beside_users))
        begun = time.perf_counter()
        bulk.search(some, K)
        mine = time.perf_counter() - begun
        theirs = beside(arguments, np.asarray(vectors.item_vectors), some)
        say(f"{len(some):,} of the users: {mine:.1f} s here, {theirs} s; {mine / len(some) * 1e3:.2f} ms each here")
    store.close()


def beside(arguments: argparse.Namespace, items: Float32, users: Float32) -> str:
    """The seconds that implicit takes for the top-k of users [B, D]."""
    with tempfile.TemporaryDirectory(prefix="recsys-beside-") as name:
        files = [f"{name}/items.npy", f"{name}/users.npy"]
        np.save(files[0], items)
        np.save(files[1], users)
        command = [str(arguments.beside), "-c", _IMPLICIT, *files, str(arguments.threads)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def files(arguments: argparse.Namespace) -> None:
    """`recsys picks` for all users: histories, exclusion of what was bought, search, and the file."""
    with tempfile.TemporaryDirectory(prefix="recsys-picks-") as name, own_memory() as memory:
        started, out = time.perf_counter(), Path(name) / "picks.parquet"
        done = picks(configured(arguments), out=out, k=K, progress=quiet).data
        seconds, size = time.perf_counter() - started, out.stat().st_size
    say(f"recsys picks --out {out.name}: {done['recipients']:,} users, {done['picks']:,} picks in {seconds:.0f} s")
    say(f"{size / 2**20:.0f} MiB; own memory {memory[0]:.2f} GiB")


def one_item(arguments: argparse.Namespace) -> None:
    """`recsys audience` for one item: everybody is checked, scored and ranked."""
    with tempfile.TemporaryDirectory(prefix="recsys-audience-") as name, own_memory() as memory:
        started = time.perf_counter()
        out = Path(name) / "audience.csv"
        done = audience(configured(arguments), items=["i77"], size="1000", out=out, progress=quiet).data
        seconds = time.perf_counter() - started
    say(f"recsys audience, one item: {done['eligible']:,} eligible users in {seconds:.1f} s; {memory[0]:.2f} GiB")


def campaigns(_: argparse.Namespace) -> None:
    """Ten campaigns of different sizes and values over 100,000 users who may be in each."""
    random = np.random.default_rng(0)
    users, count = 100_000, 10
    probability = random.beta(0.4, 12, (users, 1)) * random.lognormal(0, 0.7, (users, count))
    values = probability * random.uniform(5, 60, count)
    limits = [Limits(1000, 5000)] * 5 + [Limits(0, 20_000)] * 3 + [Limits(3000, None), Limits(500, 800)]
    for per_user in (1, 2):
        started, spent = time.perf_counter(), time.process_time()
        found = allocate(values, limits, per_user)
        seconds, spent = time.perf_counter() - started, time.process_time() - spent
        say(f"{users:,} users, {count} campaigns, at most {per_user} each: {seconds:.1f} s, {spent:.1f} s of CPU")
        say(f"value / bound {found.value / found.bound:.9f}; the sizes cost {100 * found.loss:.1f} %")


PARTS = {"search": search, "picks": files, "audience": one_item, "campaigns": campaigns}


def configured(arguments: argparse.Namespace) -> Config:
    """The shop's configuration, with audiences that read the own tables."""
    return load_config(arguments.shop / "recsys.toml")


@contextmanager
def own_memory() -> Iterator[list[float]]:
    """The largest memory that was this process's own meanwhile, in GiB."""
    found, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            anonymous = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            found[0] = max(found[0], anonymous / 2**20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def quiet(_step: str, _share: float) -> None:
    """Say nothing of progress."""


def say(text: str) -> None:
    """A line of the result."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
