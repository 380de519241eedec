"""Accuracy, size and search time of `mf` by the number of dimensions and by the precision of its vectors.

    python -m benchmarks.dims --data DIR [--dims 64 128 256 512 1024]

Everything is tuned and evaluated on a split of the training data only, so that a default may be chosen from the table.
For each D all other settings are tuned again. float16 and int8 (a scale for each dimension) are FAISS's scalar
quantizers: item and history vectors are evaluated as such an index decodes them. Search is FAISS's own over all items
for the 100 best, one query at a time on one thread. The bundle is the product's, in float32.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np

from benchmarks.accuracy import choose
from benchmarks.forms import read
from recsys.bundle import bundle
from recsys.config.settings import Config
from recsys.data.arrays import Float32
from recsys.data.catalog import Catalog
from recsys.models.vectors import Vectors
from recsys.training.evaluation import ValidationScore

QUERIES, K = 200, 100


def main() -> None:
    """Choose, train and measure for each D; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    benchmark = read(arguments.data, config=Config(), seed=0)
    recommendations = Config().recommendations.model_copy(update={"allow_repurchase": benchmark.repeats})
    splits = benchmark.splits
    print("| D | precision | validation ndcg@20 | vectors, MB | bundle, MB | search, ms | choose and train, s |")
    print("|---|---|---|---|---|---|---|")
    for dim in arguments.dims:
        config = Config.model_validate({"models": {"mf": {"n_factors": [dim]}}})
        config = config.model_copy(update={"recommendations": recommendations})
        score = ValidationScore(benchmark.catalog, splits, config)
        started = time.perf_counter()
        vectors = choose(benchmark, "mf", config, score)
        seconds = time.perf_counter() - started
        users = np.random.default_rng(0).choice(splits.fit.user_count, QUERIES, replace=False)
        histories = splits.fit.histories(users, splits.validation_start, config.events.history_length)
        for name, (make, size) in PRECISIONS.items():
            stored = _rounded(vectors, make)
            search = _search_ms(_filled(make, vectors.item_vectors), stored.encode(histories))
            megabytes = size * 2 * stored.item_vectors.size / 1e6
            own = f"{_bundle_mb(stored, benchmark.catalog, config):.0f}" if name == "float32" else ""
            cells = f"{score(stored):.4f} | {megabytes:.0f} | {own} | {search:.2f}"
            print(f"| {dim} | {name} | {cells} | {f'{seconds:.0f}' if own else ''} |", flush=True)


def _filled(make: Callable[[int], faiss.Index], vectors: Float32) -> faiss.Index:
    index = make(vectors.shape[1])
    index.train(vectors)
    index.add(vectors)
    return index


def _rounded(vectors: Vectors, make: Callable[[int], faiss.Index]) -> Vectors:
    """The vectors as an index of that precision holds them."""

    def read_back(values: Float32) -> Float32:
        return np.asarray(_filled(make, values).reconstruct_n(0, len(values)), np.float32)

    parts = tuple(replace(part, history_vectors=read_back(part.history_vectors)) for part in vectors.parts)
    return replace(vectors, item_vectors=read_back(vectors.item_vectors), parts=parts)


def _search_ms(index: faiss.Index, queries: Float32) -> float:
    """The median of one query's time in milliseconds."""
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
        evaluation=vectors,  # which every night saves too
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(fresh, Path(folder), facts={"config_hash": "dims"})
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6


def _quantizer(kind: int) -> Callable[[int], faiss.Index]:
    return lambda dim: faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT)


PRECISIONS: dict[str, tuple[Callable[[int], faiss.Index], int]] = {  # and bytes of a number
    "float32": (faiss.IndexFlatIP, 4),
    "float16": (_quantizer(faiss.ScalarQuantizer.QT_fp16), 2),
    "int8": (_quantizer(faiss.ScalarQuantizer.QT_8bit), 1),
}


if __name__ == "__main__":
    main()
