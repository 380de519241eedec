"""The served index and other libraries on the same vectors, each asked one by one on one thread.

Times are those of the processor: other work on the machine would count for one library more than for another.

implicit and usearch are no dependencies of the project; their environment is named by its Python:

    python -m venv beside && beside/bin/pip install implicit usearch
    OMP_NUM_THREADS=1 python -m benchmarks.serve --data DIR --store --beside beside/bin/python

`--store` without a database leaves out the questions to the service. Graphs are built on one thread, over
`MOST_IN_A_GRAPH` items at most: a million of 512 dimensions would take more than ten minutes for each graph.
"""

import os
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
def told(name, built, ask):
    ask(queries[0])
    times, found = [], 0
    for query, best in zip(queries, right):
        started = time.process_time()
        rows = ask(query)
        times.append((time.process_time() - started) * 1e3)
        found += len(set(map(int, rows)) & set(best.tolist()))
    p50, p99 = np.quantile(times, [0.5, 0.99])
    print(f"| {name} | {built} | {p50:.2f} | {p99:.2f} | {found / right.size:.4f} |", flush=True)
if which == "implicit":
    import implicit
    from implicit.cpu.topk import topk
    name = f"implicit {implicit.__version__}, topk"
    told(name, "", lambda query: topk(vectors, query[None], k, num_threads=1)[0][0])
else:
    import usearch
    from usearch.index import Index
    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=links, expansion_add=build)
    started = time.process_time()
    index.add(np.arange(len(vectors)), vectors, threads=1)
    built = f"{time.process_time() - started:.0f}"
    for width in map(int, sys.argv[7:]):
        index.expansion_search = width
        name = f"usearch {usearch.__version__}, {links} links, width {width}"
        told(name, built, lambda query: index.search(query, k, threads=1).keys)
"""


def lines(folder: Path, bundle: Bundle, python: Path) -> Iterator[str]:
    """A table: of each index the seconds to build it, p50 and p99 of one question in milliseconds, and recall@20."""
    faiss.omp_set_num_threads(1)
    queries, vectors = queries_of(folder, bundle), np.ascontiguousarray(bundle.vectors.item_vectors)
    yield f"| {len(vectors):,} items, the index alone | built in, s | p50, ms | p99, ms | recall@{K} |"
    yield "|---|---|---|---|---|"
    right, exact = exactly(vectors, queries)
    served, name = bundle.index, f"{bundle.manifest['index']['kind']}, as served"
    yield line(name, "", lambda query: served.search(query, K)[1], queries, right)
    yield exact
    if len(vectors) <= MOST_IN_A_GRAPH:
        yield from graph_lines(vectors, queries, right)
        yield from others("usearch", python, vectors, queries, right)
    else:
        yield f"| FAISS HNSW, usearch | not built over more than {MOST_IN_A_GRAPH:,} items | | | |"
    yield from others("implicit", python, vectors, queries, right)


def exactly(vectors: Float32, queries: Float32) -> tuple[Int64, str]:
    """The right items [B, K], and the line of the index that finds them. It copies the vectors, so it does not stay."""
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    right = np.asarray(exact.search(queries, K)[1], np.int64)
    return right, line(f"FAISS {faiss.__version__}, flat", "", lambda query: exact.search(query, K)[1], queries, right)


def graph_lines(vectors: Float32, queries: Float32, right: Int64) -> Iterator[str]:
    """The lines of FAISS' graph."""
    graph, started = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT), time.process_time()
    graph.hnsw.efConstruction = BUILD
    graph.add(vectors)
    built = f"{time.process_time() - started:.0f}"
    for width in SEARCH:
        graph.hnsw.efSearch = width
        name = f"FAISS HNSW, {LINKS} links, width {width}"
        yield line(name, built, lambda query: graph.search(query, K)[1], queries, right)


def queries_of(folder: Path, bundle: Bundle) -> Float32:
    """User vectors of the shop's histories: [B, D]."""
    log = open_extract(folder / "data")
    users = np.random.default_rng(4).choice(len(log.users), ASKED, replace=False)
    return bundle.vectors.encode(log.events.histories(users, time.time_ns() // 1000, LENGTH))


def line(name: str, built: str, ask: Callable[[Float32], Int32 | Int64], queries: Float32, right: Int64) -> str:
    """Ask one by one, after a first question that is not counted; milliseconds of the processor."""
    ask(queries[:1])
    times, found = list[float](), 0
    for at in range(len(queries)):
        started = time.process_time()
        rows = ask(queries[at : at + 1])
        times.append((time.process_time() - started) * 1e3)
        found += len(set(rows[0].tolist()) & set(right[at].tolist()))
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return f"| {name} | {built} | {p50:.2f} | {p99:.2f} | {found / right.size:.4f} |"


def others(which: str, python: Path, vectors: Float32, queries: Float32, right: Int64) -> Iterator[str]:
    """The lines of a library in an environment of its own."""
    with tempfile.TemporaryDirectory(prefix="recsys-beside-") as name:
        files = [f"{name}/{what}.npy" for what in ("vectors", "queries", "right")]
        np.save(files[0], vectors)
        np.save(files[1], queries)
        np.save(files[2], right)
        numbers = [str(number) for number in (LINKS, BUILD, *SEARCH)]
        command = [str(python), "-c", _OTHERS, which, *files, *numbers]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    if ran.returncode:
        yield f"| {which} | not measured: {(ran.stderr.strip().splitlines() or ['it failed'])[-1]} | | | |"
    yield from ran.stdout.splitlines()
