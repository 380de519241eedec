"""Other recommenders on the same sets: tuned on the same validation, with lists in the same format.

    pip install implicit    (for als and bpr; no dependency of the project)
    python -m benchmarks.compare --data DIR --model als|bpr|ease --k 20 --out ranked.npz [--trials 20] [--seed 0]
    python -m benchmarks.compare --data DIR --model split --out split.npz    (the validation, for compare_rectools)

Settings are drawn at random. The best by validation NDCG@20 is trained again on everything before the test; a single
trial is trained on that at once. EASE holds a matrix of items by items twice, as float32: 12 GiB at 38,000 items, so
run it alone.
"""

import argparse
import importlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from benchmarks.accuracy import ids_of
from benchmarks.forms import Benchmark, read
from benchmarks.memory import peak_gib
from recsys.config.settings import Config
from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.interactions import Interactions
from recsys.data.targets import Targets, targets_of
from recsys.training.metrics import ndcg_per_user

VALIDATION_USERS = 5000
BLOCK = 1000
Scores = Callable[[Int64], Float32]  # user rows [B] -> scores of all items [B, I]


def main() -> None:
    """Read, draw settings, train again with the best, rank, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--model", choices=sorted([*MODELS, "split"]), required=True)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="file for the lists")
    arguments = parser.parse_args()
    started = time.perf_counter()
    config = Config()
    benchmark = read(arguments.data, config=config, seed=arguments.seed)
    if arguments.model == "split":
        _write_split(benchmark, arguments.out, config)
        return
    draw, fit = MODELS[arguments.model]
    generator = np.random.default_rng(arguments.seed)
    trials = [draw(generator) for _ in range(arguments.trials)]
    validated = [math.nan]
    if len(trials) > 1:
        validated = [_validate(benchmark, fit(_matrix(benchmark.splits.fit), trial), config) for trial in trials]
    best = trials[int(np.argmax(validated))]
    chosen_at = time.perf_counter()
    scores = fit(_matrix(benchmark.known), best)
    fitted_at = time.perf_counter()
    rows = _rank(scores, benchmark.rows.astype(np.int64), benchmark.known, arguments.k, repeats=benchmark.repeats)
    np.savez(arguments.out, users=benchmark.users, items=ids_of(benchmark)[rows])
    print(f"settings {best}, validation ndcg@20 {max(validated):.4f}")
    print(
        f"seconds: {time.perf_counter() - started:.1f} in all; choose {chosen_at - started:.1f}, "
        f"fit {fitted_at - chosen_at:.1f}, processor {time.process_time():.0f}"
    )
    print(f"peak memory {peak_gib():.2f} GiB, {torch.get_num_threads()} threads, seed {arguments.seed}")


def _write_split(benchmark: Benchmark, path: Path, config: Config) -> None:
    """What settings are chosen on, as for `_validate`: rows of users and items, [E] to learn from and [N] to find."""
    fit, targets = benchmark.splits.fit, _targets(benchmark, config)
    wanted_users = np.repeat(targets.users, targets.counts)
    np.savez(path, users=fit.users, items=fit.items, wanted_users=wanted_users, wanted_items=targets.items)


def _targets(benchmark: Benchmark, config: Config) -> Targets:
    splits = benchmark.splits
    return targets_of(
        splits.validation,
        splits.fit,
        target_codes=config.target_codes,
        bought_codes=() if benchmark.repeats else config.bought_codes,
    ).sample(VALIDATION_USERS, config.training.seed)


def _matrix(events: Interactions) -> sparse.csr_matrix:
    """1 where a user has an event with an item: [U, I]. A matrix and not an array: that is what implicit takes."""
    matrix = sparse.csr_matrix(
        (np.ones(len(events), np.float32), (events.users, events.items)), shape=(events.user_count, events.item_count)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _validate(benchmark: Benchmark, scores: Scores, config: Config) -> float:
    targets = _targets(benchmark, config)
    rows = _rank(scores, targets.users.astype(np.int64), benchmark.splits.fit, 20, repeats=benchmark.repeats)
    return float(ndcg_per_user(rows, targets).mean())


def _rank(scores: Scores, users: Int64, seen: Interactions, k: int, *, repeats: bool) -> Int32:
    """The k best items of each user [B], without those of `seen` unless repeats: [B, k]."""
    mask = _matrix(seen)
    lists = []
    for start in range(0, len(users), BLOCK):
        block = users[start : start + BLOCK]
        found = torch.from_numpy(np.ascontiguousarray(scores(block)))
        if not repeats:
            own = mask[block]
            found[np.repeat(np.arange(len(block)), np.diff(own.indptr)), own.indices.astype(np.int64)] = -torch.inf
        lists.append(found.topk(k, dim=1).indices.numpy().astype(np.int32))
    return np.concatenate(lists)


def _factors(model: Any, matrix: sparse.csr_matrix) -> Scores:
    model.fit(matrix, show_progress=False)
    return lambda users: np.asarray(model.user_factors[users] @ model.item_factors.T, np.float32)


def _fit_als(matrix: sparse.csr_matrix, settings: dict[str, Any]) -> Scores:
    return _factors(importlib.import_module("implicit.als").AlternatingLeastSquares(**settings, random_state=0), matrix)


def _fit_bpr(matrix: sparse.csr_matrix, settings: dict[str, Any]) -> Scores:
    model = importlib.import_module("implicit.bpr").BayesianPersonalizedRanking(**settings, random_state=0)
    return _factors(model, matrix)


def _fit_ease(matrix: sparse.csr_matrix, settings: dict[str, Any]) -> Scores:
    """H. Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019."""
    gram = torch.from_numpy((matrix.T @ matrix).toarray())
    gram.diagonal().add_(settings["ridge"])
    weights = torch.cholesky_inverse(torch.linalg.cholesky(gram)).T.contiguous()  # it comes by columns; it is symmetric
    del gram
    weights.div_(-weights.diagonal()[None, :].clone())
    weights.fill_diagonal_(0)
    table = weights.numpy()
    return lambda users: np.asarray(matrix[users] @ table, np.float32)


def _between(generator: np.random.Generator, low: float, high: float) -> float:
    """Drawn evenly on the scale of the logarithm."""
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def _draw_als(generator: np.random.Generator) -> dict[str, Any]:
    return {
        "factors": int(generator.choice([64, 128, 256])),
        "regularization": _between(generator, 1e-3, 1e2),
        "alpha": _between(generator, 0.5, 50),
        "iterations": int(generator.integers(5, 26)),
    }


def _draw_bpr(generator: np.random.Generator) -> dict[str, Any]:
    return {
        "factors": int(generator.choice([64, 128, 256])),
        "regularization": _between(generator, 1e-4, 1e-1),
        "learning_rate": _between(generator, 5e-3, 2e-1),
        "iterations": int(generator.integers(30, 101)),
    }


def _draw_ease(generator: np.random.Generator) -> dict[str, Any]:
    return {"ridge": _between(generator, 30, 3000)}


MODELS: dict[str, tuple[Callable[[np.random.Generator], dict[str, Any]], Callable[..., Scores]]] = {
    "als": (_draw_als, _fit_als),
    "bpr": (_draw_bpr, _fit_bpr),
    "ease": (_draw_ease, _fit_ease),
}


if __name__ == "__main__":
    main()
