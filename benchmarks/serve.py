"""Measure the latency of the service at the dimensions that it serves: `python -m benchmarks.serve --data DIR`.

Vectors are trained from a public set and multiplied to each size (see `benchmarks.multiplied`; how alike both are is
printed). The bundle is made as training makes it, with the index that it chooses. One worker of `recsys serve`, with a
key, limits and logs as shipped, is bound to one core. A client on another core asks over one connection. Recall counts
an answer's items among those of exact search with the same history and rules. Prints tables in Markdown.

With `--shops DIR` the shops that are made stay there, and those that lie there are used.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import overload, serve_beside
from benchmarks.multiplied import likeness, multiply, train
from benchmarks.one_connection import Connection
from benchmarks.serve_shop import BRANDS, CATEGORIES, KINDS, RARE, make_shop, use_store
from benchmarks.serving import memory, serving
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.loading import load_config
from recsys.config.settings import Config, IndexSettings
from recsys.data.interactions import Histories
from recsys.index import flat
from recsys.models.vectors import Vectors
from recsys.serving import answer as engine
from recsys.serving import snapshot as snapshots
from recsys.serving.answer import Query
from recsys.store.migrate import open_store

K = 20
USERS = 10_000  # of whom some are asked about
LIKENESS_USERS = 100
WARM_UP = 60  # questions before those that are measured
JUDGED = 25  # answers of a row that are compared with exact search


@dataclass(frozen=True)
class Row:
    """One kind of question: the address for a user or an item, and what the engine is asked to compare."""

    name: str
    path: Callable[[int], str]  # from a random number
    query: Callable[[int], Query] | None = None  # None: there is no exact search to compare with
    body: Callable[[int], Any] | None = None  # of a POST


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public set to train on")
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--asked", type=int, default=300, help="questions of each row")
    parser.add_argument("--store", nargs="*", default=["sqlite"], help="sqlite, URLs of other databases, or none")
    parser.add_argument("--shops", type=Path, help="folder where shops that are made stay")
    parser.add_argument("--workers", type=int, default=0, help="so many for a table of memory")
    parser.add_argument("--overload", type=float, default=0.0, help="seconds at each rate; 0: leave it out")
    parser.add_argument("--beside", type=Path, help="Python of an environment with implicit and usearch")
    parser.add_argument("--only-make", action="store_true", help="make the shops and measure nothing")
    arguments = parser.parse_args()
    for items in arguments.items:
        with shop_folder(arguments.shops, items) as folder:
            if not (folder / "data" / "bundles" / "CURRENT").exists():
                make(folder, items, arguments)
            if not arguments.only_make:
                measure_all(folder, arguments)


@contextmanager
def shop_folder(shops: Path | None, items: int) -> Iterator[Path]:
    """Where a shop lies: for this run, or for good."""
    if shops is None:
        with tempfile.TemporaryDirectory(prefix="recsys-bench-") as name:
            yield Path(name)
    else:
        folder = shops / str(items)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


@cache
def trained(data: Path, dim: int) -> tuple[Vectors, Histories]:
    """The vectors and histories of a public set, in all kinds of events."""
    vectors, histories = train(data, dim)
    return vectors, in_kinds(histories)


def make(folder: Path, items: int, arguments: argparse.Namespace) -> None:
    """Make a shop, and print how alike its vectors and the trained ones are, and which index was chosen."""
    vectors, histories = trained(arguments.data, arguments.dim)
    asked = np.random.default_rng(0).choice(len(histories), LIKENESS_USERS, replace=False)
    print(
        "| vectors | norms, 1 / 10 / 90 / 99 / 100 % | singular values 2, 8, 32, 128 | score(1) / (20), / (100) | ivf |"
    )
    print("|---|---|---|---|---|")
    print_likeness("trained", vectors.item_vectors, vectors.encode(histories)[asked])
    started, made = time.perf_counter(), multiply(vectors, histories, items)
    users = np.concatenate([made.vectors.encode(made.histories.slice(user, user + 1)) for user in asked.tolist()])
    print_likeness(f"{items:,}", made.vectors.item_vectors, users)
    bundle, _ = make_shop(folder, made.vectors, made.histories, index=IndexSettings())
    say(f"made in {time.perf_counter() - started:.0f} s; index {json.dumps(bundle.manifest['index'])}")
    say(f"directions {json.dumps(bundle.manifest.get('directions'))}")


def in_kinds(histories: Histories) -> Histories:
    """The same histories with all kinds of events; a tenth are purchases."""
    kinds = np.random.default_rng(2).choice(len(KINDS), len(histories.items), p=[0.7, 0.2, 0.1]).astype(np.int8)
    return replace(histories, kinds=kinds)


def print_likeness(name: str, item_vectors: Any, queries: Any) -> None:
    """One line about how hard vectors are to search."""
    cells = [" / ".join(f"{value:.2f}" for value in values) for values in likeness(item_vectors, queries).values()]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measure_all(folder: Path, arguments: argparse.Namespace) -> None:
    """Print the tables of a shop: each database, memory, and other libraries on the same vectors."""
    key = use_store(folder, None)
    bundle = bundles.load(folder / "data")
    for store in arguments.store:
        key = use_store(folder, None if store == "sqlite" else store)
        measure(folder, bundle, key, store.partition(":")[0], arguments)
    if arguments.workers:
        say(memory_of_workers(folder, key, arguments.workers, arguments.asked))
    if arguments.beside:
        print()
        for line in serve_beside.lines(folder, bundle, arguments.beside):
            print(line, flush=True)


def measure(folder: Path, bundle: Bundle, key: str, store: str, arguments: argparse.Namespace) -> None:
    """Ask one worker every kind of question and print a row for each."""
    config, items = load_config(folder / "recsys.toml"), len(bundle.catalog)
    print(f"\n| {items:,} items, {store} | p50, ms | p99, ms | most, ms | recall@{K} |\n|---|---|---|---|---|")
    with serving(folder, workers=1, core=0, key=key):
        pass  # the first start reads all files once for their checksums
    started = time.perf_counter()
    with serving(folder, workers=1, core=0, key=key) as (url, _):
        ready, port = time.perf_counter() - started, int(url.rpartition(":")[2])
        os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
        with exact_answers(config, bundle) as exact:
            for row in rows(USERS, items):
                print(measured(row, port, key, arguments.asked, exact), flush=True)
        if arguments.overload:
            say(f"| for you, {items:,} items | answers a second | p50, ms | p99, ms | refused | p50 of these, ms |")
            print("|---|---|---|---|---|---|")
            print("\n".join(overload.measure(port, key, USERS, arguments.overload)), flush=True)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    say(f"ready after {ready:.1f} s")


def memory_of_workers(folder: Path, key: str, workers: int, asked: int) -> str:
    """What each of several workers uses after questions of several kinds."""
    with serving(folder, workers=workers, core=None, key=key) as (url, pids):
        for _ in range(workers):
            connection = Connection(int(url.rpartition(":")[2]), key)
            for number in range(asked):
                connection.ask(f"/v1/users/u{number}/recommendations?k={K}")
                connection.ask(f"/v1/users/u{number}/recommendations?k={K}&filter=category:eq:Category%20{number % 20}")
                connection.ask(f"/v1/items/i{number}/similar?k={K}")
            connection.close()
        sizes = [tuple(round(size / 2**20) for size in memory(pid)) for pid in pids]
    return f"{workers} workers, MB of their own and shared: {sizes}"


def rows(users: int, items: int) -> Iterator[Row]:
    """The kinds of questions."""

    def for_you(name: str, *filters: str) -> Row:
        asked = "".join(f"&filter={text.replace(' ', '%20')}" for text in filters)
        return Row(
            name,
            lambda number: f"/v1/users/u{number % users}/recommendations?k={K}{asked}",
            lambda number: Query(f"u{number % users}", k=K, filters=filters),
        )

    yield Row("constant answer", lambda _: "/v1/health/live")
    yield for_you("for you")
    yield for_you("for you, 50 %", "price:between:0,50")
    yield for_you("for you, 5 %", f"category:eq:Category {CATEGORIES // 2}")
    yield for_you("for you, .1 %", f"brand:eq:Brand {BRANDS // 2}")
    yield for_you(f"for you, {RARE} items", "series:eq:77")
    yield Row(
        "similar",
        lambda number: f"/v1/items/i{number % items}/similar?k={K}",
        lambda number: Query(k=K, box="similar", items=(f"i{number % items}",)),
    )
    yield Row("bought together", lambda number: f"/v1/boxes/bought_together?item_id=i{number % items}&k={K}")
    yield Row("a page of 5 boxes", lambda _: "/v1/pages", body=lambda number: page(number, users, items))


def page(number: int, users: int, items: int) -> dict[str, Any]:
    """The page of an item, as a shop asks for it."""
    item = f"i{number % items}"
    about = [{"box": box, "item_id": item} for box in ("bought_together", "similar")]
    boxes = [{"box": "for_you"}, *about, {"box": "trending"}, {"box": "new_arrivals"}]
    return {"user_id": f"u{number % users}", "k": 10, "boxes": boxes}


def measured(row: Row, port: int, key: str, asked: int, exact: Callable[[Query], list[str]]) -> str:
    """A line of the table. Exits when an answer is no answer."""
    random, connection, times, found = np.random.default_rng(3), Connection(port, key), list[float](), list[float]()
    for at in range(WARM_UP + asked):
        number = int(random.integers(0, 2**31))
        status, body, milliseconds = connection.ask(row.path(number), row.body and row.body(number))
        if status != 200:
            sys.exit(f"{row.path(number)}: {status} {body.decode()[:300]}")
        if at >= WARM_UP:
            times.append(milliseconds)
        if row.query and at < JUDGED:
            right = exact(row.query(number))
            ids = [hit["item_id"] for hit in json.loads(body)["hits"]]
            found.append(len(set(ids) & set(right)) / max(1, len(right)))
    connection.close()
    p50, p99 = np.quantile(times, [0.5, 0.99])
    recall = f"{np.mean(found):.4f}" if found else ""
    return f"| {row.name} | {p50:.2f} | {p99:.2f} | {max(times):.2f} | {recall} |"


class exact_answers:  # noqa: N801  used as a function
    """Answers of the same engine with exact search."""

    def __init__(self, config: Config, bundle: Bundle) -> None:
        """bundle: whose vectors, history and rules count."""
        self._config = config
        self._store = open_store(config.store.url, config.store.table_prefix)
        exact = replace(bundle, index=flat.build(bundle.vectors.item_vectors), directions_index=None)
        self._snapshot = snapshots.load(config, lambda _: [], bundle=exact)

    def __enter__(self) -> Callable[[Query], list[str]]:
        return self._ask

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def _ask(self, query: Query) -> list[str]:
        context = engine.gather_context(
            self._config,
            self._snapshot,
            query,
            now=time.time_ns() // 1000,
            read=lambda use: use(self._store),
            grow=lambda snapshot, _: snapshot,
        )
        return [hit["item_id"] for hit in engine.answer(self._config, context, query).hits]


def say(text: str) -> None:
    """What is no part of a table."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
