"""Accuracy, size and search time of `mf` by the number of dimensions and by the precision of its vectors.

    python -m benchmarks.dims --data DIR [--dims 64 128 256 512 1024]

Everything is chosen and judged on a split of the training data alone, so that a default may be chosen from the table:
for each D all other settings are chosen anew. float16 and int8 (a scale for each dimension, as FAISS's 8-bit scalar
quantizer has it) round item and history vectors alike, and what is judged are the rounded vectors. Search is FAISS's
own over all items for the 100 best, one query at a time on one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np

from benchmarks.accuracy import train
from benchmarks.forms import read
from recsys import bundle
from recsys.config import Config
from recsys.data import Catalog, Float32
from recsys.evaluation import validation_score
from recsys.vectors import Vectors

QUERIES, K = 200, 100


def main() -> None:
    """Choose, train and measure for each D; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    benchmark = read(arguments.data, config=Config(), seed=0)
    recommendations = Config().recommendations.model_copy(update={"repeats": benchmark.repeats})
    splits = benchmark.splits
    print("| D | precision | validation ndcg@20 | vectors, MB | bundle, MB | search, ms | choose and train, s |")
    print("|---|---|---|---|---|---|---|")
    for dim in arguments.dims:
        config = Config.model_validate({"models": {"mf": {"ranks": [dim]}}})
        config = config.model_copy(update={"recommendations": recommendations})
        score = validation_score(benchmark.catalog, splits, config)
        started = time.perf_counter()
        vectors = train(benchmark, splits.fit, splits.validation_start, "mf", config, score=score)
        seconds = time.perf_counter() - started
        users = np.random.default_rng(0).choice(splits.fit.user_count, QUERIES, replace=False)
        histories = splits.fit.histories(users, splits.validation_start, config.events.history_length)
        for name, (rounded, index, size) in PRECISIONS.items():
            stored = _rounded(vectors, rounded)
            search = _search_ms(index(dim), stored, stored.encode(histories))
            megabytes = size * 2 * stored.item_vectors.size / 1e6
            own = f"{_bundle_mb(stored, benchmark.catalog, config):.0f}" if name == "float32" else ""
            cells = f"{score(stored):.4f} | {megabytes:.0f} | {own} | {search:.2f}"
            print(f"| {dim} | {name} | {cells} | {f'{seconds:.0f}' if own else ''} |", flush=True)


def _float16(values: Float32) -> Float32:
    return values.astype(np.float16).astype(np.float32)


def _int8(values: Float32) -> Float32:
    """Each number as one of the 256 levels between the least and the largest of its dimension."""
    low, high = values.min(axis=0), values.max(axis=0)
    step = np.maximum(high - low, np.float32(1e-30)) / 255
    return np.asarray(np.round((values - low) / step) * step + low, np.float32)


def _rounded(vectors: Vectors, rounded: Callable[[Float32], Float32]) -> Vectors:
    parts = tuple(replace(part, history_vectors=rounded(part.history_vectors)) for part in vectors.parts)
    return replace(vectors, item_vectors=rounded(vectors.item_vectors), parts=parts)


def _search_ms(index: faiss.Index, vectors: Vectors, queries: Float32) -> float:
    """The median of one query's time in milliseconds."""
    index.train(vectors.item_vectors)
    index.add(vectors.item_vectors)
    times = []
    for query in queries:
        started = time.perf_counter()
        index.search(query[None], K)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def _bundle_mb(vectors: Vectors, catalog: Catalog, config: Config) -> float:
    fresh = bundle.assemble(
        vectors,
        catalog,
        np.zeros(len(catalog), np.float32),
        kinds=tuple(config.events.weights),
        index_settings=config.index,
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(fresh, Path(folder), facts={"config_hash": "dims"})
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6


def _quantizer(kind: int) -> Callable[[int], faiss.Index]:
    return lambda dim: faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT)


PRECISIONS: dict[str, tuple[Callable[[Float32], Float32], Callable[[int], faiss.Index], int]] = {
    "float32": (lambda values: values, faiss.IndexFlatIP, 4),
    "float16": (
        lambda values: values.astype(np.float16).astype(np.float32),
        _quantizer(faiss.ScalarQuantizer.QT_fp16),
        2,
    ),
    "int8": (_int8, _quantizer(faiss.ScalarQuantizer.QT_8bit), 1),
}


if __name__ == "__main__":
    main()
