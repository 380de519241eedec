"""Where the time of a request goes, socket to last byte: `python -m benchmarks.serve_stages --shop DIR`.

DIR is a shop that `benchmarks.serve --shops` made. The whole is what a client on another core waits for; the parts are
timed inside this process, on the same questions; what is left is the framework: address, validation, key, threads,
headers. Medians in microseconds. Prints a table in Markdown.
"""

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np
from pydantic_core import to_json

from api import answers
from benchmarks.one_connection import Connection
from benchmarks.serve import USERS, WARM_UP, K
from benchmarks.serve_shop import use_store
from benchmarks.serving import serving
from recsys.config.loading import load_config
from recsys.index.fastscan import FastScanIndex
from recsys.serving import answer as engine
from recsys.serving import recommender, ruled
from recsys.serving import snapshot as snapshots
from recsys.serving.answer import Query
from recsys.store.migrate import open_store

# What is timed, where its name lies, and the part that it is itself a part of.
PARTS = [
    ("history, and what may be answered", engine, "_asked", ""),
    ("the list", engine, "_ruled", ""),
    ("the user's vector", recommender, "encode", "the list"),
    ("the search", FastScanIndex, "search", "the list"),
    ("new items", ruled, "_explored", "the list"),
    ("the list in words", engine, "_answer", ""),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shop", type=Path, required=True, help="folder of a shop")
    parser.add_argument("--asked", type=int, default=300)
    arguments = parser.parse_args()
    numbers = np.random.default_rng(3).integers(0, USERS, WARM_UP + arguments.asked).tolist()
    key = use_store(arguments.shop, None)
    whole, constant = over_http(arguments.shop, key, numbers)
    parts = in_process(arguments.shop, numbers)
    print("| part | microseconds |\n|---|---|")
    print(f"| **the whole** | **{whole:.0f}** |\n| of that a constant answer | {constant:.0f} |")
    for name, value in parts.items():
        print(f"| {name} | {value:.0f} |")
    inside = sum(value for name, value in parts.items() if not name.startswith("… "))
    print(f"| the framework | {whole - constant - inside:.0f} |")


def over_http(shop: Path, key: str, numbers: list[int]) -> tuple[float, float]:
    """The medians of an answer and of a constant answer."""
    with serving(shop, workers=1, core=0, key=key) as (url, _):
        os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
        connection = Connection(int(url.rpartition(":")[2]), key)
        whole = [connection.ask(f"/v1/users/u{number}/recommendations?k={K}")[2] for number in numbers]
        constant = [connection.ask("/v1/health/live")[2] for _ in numbers]
        connection.close()
    os.sched_setaffinity(0, {0})
    return 1e3 * float(np.median(whole[WARM_UP:])), 1e3 * float(np.median(constant[WARM_UP:]))


def in_process(shop: Path, numbers: list[int]) -> dict[str, float]:
    """The medians of the parts, in the order in which they come; parts of a part have a mark."""
    faiss.omp_set_num_threads(1)
    config, times = load_config(shop / "recsys.toml"), defaultdict[str, list[float]](list)
    store = open_store(config.store.url, config.store.table_prefix)
    snapshot = snapshots.load(config, lambda _: [])
    snapshots.warm_up(snapshot)

    def timed(name: str, use: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return use(*given, **named)
            finally:
                times[name][-1] += time.perf_counter() - started

        return call

    with ExitStack() as patches:
        for name, owner, attribute, inside in PARTS:
            told = f"… {name}" if inside else name
            patches.enter_context(patch.object(owner, attribute, timed(told, getattr(owner, attribute))))
        for number in numbers:
            for name in ("reading the own tables", *(("… " if p[3] else "") + p[0] for p in PARTS), "JSON"):
                times[name].append(0.0)
            query = Query(f"u{number}", k=K)
            context = timed("reading the own tables", engine.gather_context)(
                config,
                snapshot,
                query,
                now=time.time_ns() // 1000,
                read=lambda use: use(store),
                grow=lambda held, _: held,
            )
            found = engine.answer(config, context, query)
            timed("JSON", to_json)(answers.plain(found))
    store.close()
    return {name: 1e6 * float(np.median(values[WARM_UP:])) for name, values in times.items()}


if __name__ == "__main__":
    main()
