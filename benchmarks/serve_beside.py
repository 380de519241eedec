"""The served index and other libraries on the same vectors, each asked one by one on one thread.

implicit and usearch are no dependencies of the project; their environment is named by its Python:

    python -m venv beside && beside/bin/pip install implicit usearch
    python -m benchmarks.serve --data DIR --beside beside/bin/python

Graphs are built over `MOST_IN_A_GRAPH` items at most: a million of 512 dimensions take an hour on one core.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np

from recsys.bundle.bundle import Bundle
from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.extract import open_extract

K, ASKED, LENGTH = 20, 100, 50
MOST_IN_A_GRAPH = 100_000
LINKS, BUILD, SEARCH = 32, 100, (64, 256)  # of the graphs

_OTHERS = """
import sys, time
import numpy as np
which, vectors, queries, right = sys.argv[1], *map(np.load, sys.argv[2:5])
links, build, k = int(sys.argv[5]), int(sys.argv[6]), right.shape[1]
def told(name, ask):
    ask(queries[0])
    times, found = [], 0
    for query, best in zip(queries, right):
        started = time.perf_counter()
        rows = ask(query)
        times.append((time.perf_counter() - started) * 1e3)
        found += len(set(map(int, rows)) & set(best.tolist()))
    p50, p99 = np.quantile(times, [0.5, 0.99])
    print(f"| {name} | {p50:.2f} | {p99:.2f} | {found / right.size:.4f} |", flush=True)
if which == "implicit":
    import implicit
    from implicit.cpu.topk import topk
    told(f"implicit {implicit.__version__}, topk", lambda query: topk(vectors, query[None], k, num_threads=1)[0][0])
else:
    import usearch
    from usearch.index import Index
    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=links, expansion_add=build)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    for width in map(int, sys.argv[7:]):
        index.expansion_search = width
        name = f"usearch {usearch.__version__}, {links} links, width {width}"
        told(name, lambda query: index.search(query, k, threads=1).keys)
"""


def lines(folder: Path, bundle: Bundle, python: Path) -> Iterator[str]:
    """A line of a table for each index: p50 and p99 of one question in milliseconds, and recall@20."""
    faiss.omp_set_num_threads(1)
    queries, vectors = queries_of(folder, bundle), np.ascontiguousarray(bundle.vectors.item_vectors)
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    right = np.asarray(exact.search(queries, K)[1], np.int64)
    yield line(bundle.manifest["index"]["kind"] + ", as served", lambda q: bundle.index.search(q, K)[1], queries, right)
    yield line("FAISS flat", lambda query: exact.search(query, K)[1], queries, right)
    if len(vectors) <= MOST_IN_A_GRAPH:
        graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD
        graph.add(vectors)
        for width in SEARCH:
            graph.hnsw.efSearch = width
            yield line(
                f"FAISS HNSW, {LINKS} links, width {width}", lambda query: graph.search(query, K)[1], queries, right
            )
        yield from others("usearch", python, vectors, queries, right)
    else:
        yield f"| FAISS HNSW, usearch | not built over more than {MOST_IN_A_GRAPH:,} items | | |"
    yield from others("implicit", python, vectors, queries, right)


def queries_of(folder: Path, bundle: Bundle) -> Float32:
    """User vectors of the shop's histories: [B, D]."""
    log = open_extract(folder / "data")
    users = np.random.default_rng(4).choice(len(log.users), ASKED, replace=False)
    return bundle.vectors.encode(log.events.histories(users, time.time_ns() // 1000, LENGTH))


def line(name: str, ask: Callable[[Float32], Int32 | Int64], queries: Float32, right: Int64) -> str:
    """Ask one by one, after a first question that is not counted."""
    ask(queries[:1])
    times, found = list[float](), 0
    for at in range(len(queries)):
        started = time.perf_counter()
        rows = ask(queries[at : at + 1])
        times.append((time.perf_counter() - started) * 1e3)
        found += len(set(rows[0].tolist()) & set(right[at].tolist()))
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return f"| {name} | {p50:.2f} | {p99:.2f} | {found / right.size:.4f} |"


def others(which: str, python: Path, vectors: Float32, queries: Float32, right: Int64) -> Iterator[str]:
    """The lines of a library in an environment of its own."""
    with tempfile.TemporaryDirectory(prefix="recsys-beside-") as name:
        files = [f"{name}/{what}.npy" for what in ("vectors", "queries", "right")]
        np.save(files[0], vectors)
        np.save(files[1], queries)
        np.save(files[2], right)
        numbers = [str(number) for number in (LINKS, BUILD, *SEARCH)]
        command = [str(python), "-c", _OTHERS, which, *files, *numbers]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        yield f"| {which} | not measured: {(ran.stderr.strip().splitlines() or ['it failed'])[-1]} | | |"
    yield from ran.stdout.splitlines()
