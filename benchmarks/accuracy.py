"""Rank the test users of a public set with the product's own model selection, training and retrieval.

    python -m benchmarks.accuracy --data DIR --model NAME --k 20 --out ranked.npz [--seed 0]
        [--set models.mf.n_factors=[1024]] [--set training.budget_minutes=5]

Settings are chosen on a split of the training data only; of the test set only the user ids are read. The lists go to
OUT as `users` [B] and `items` [B, k], the ids of the set's files, for a scorer independent of the project.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from benchmarks.forms import Benchmark, read
from benchmarks.memory import peak_gib
from recsys.bundle.bundle import Bundle, assemble
from recsys.config.loading import explain
from recsys.config.settings import Config
from recsys.data.arrays import Int64
from recsys.data.interactions import Interactions
from recsys.data.ragged import Ragged
from recsys.models.budget import Budget
from recsys.models.contract import MODELS, Score, TrainingData, find_model, fit, settings_of
from recsys.models.vectors import Vectors
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import recommend
from recsys.training.evaluation import ValidationScore
from recsys.training.pipeline import data_for


def main() -> None:
    """Read, choose, train again, rank, write."""
    arguments = _arguments()
    started = time.perf_counter()
    try:
        config = Config.model_validate(_overrides(arguments))
        benchmark = read(arguments.data, config=config, seed=arguments.seed)
    except ValidationError as error:
        sys.exit(explain(error, None, Config))
    except FileNotFoundError as error:
        sys.exit(str(error))
    config = config.model_copy(
        update={"recommendations": config.recommendations.model_copy(update={"allow_repurchase": benchmark.repeats})}
    )
    read_at = time.perf_counter()
    score = ValidationScore(benchmark.catalog, benchmark.splits, config)
    splits = benchmark.splits
    chosen = choose(benchmark, arguments.model, config, score)
    chosen_at = time.perf_counter()
    final = fit(
        arguments.model, data_of(benchmark, benchmark.known, splits.holdout_start, config), chosen.settings, Budget()
    )
    fitted_at = time.perf_counter()
    items = _rank(benchmark, final, arguments.k, config)
    np.savez(arguments.out, users=benchmark.users, items=items)
    ended = time.perf_counter()
    print(f"settings {chosen.settings}")
    print(f"processor seconds {time.process_time():.0f}")
    print(f"validation ndcg@20 {score(chosen):.4f}")
    print(
        f"seconds: {ended - started:.1f} in all; read {read_at - started:.1f}, choose {chosen_at - read_at:.1f}, "
        f"fit {fitted_at - chosen_at:.1f}, rank {ended - fitted_at:.1f}"
    )
    shape = f"{torch.get_num_threads()} threads, dim {final.dim}, seed {arguments.seed}"
    print(f"peak memory {peak_gib():.2f} GiB, {shape}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--model", choices=sorted(MODELS), required=True)
    parser.add_argument("--k", type=int, default=20, help="length of the lists")
    parser.add_argument("--out", type=Path, required=True, help="file for the lists")
    parser.add_argument("--seed", type=int, default=0, help="of the model, and of what is drawn for validation")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU when there is one"
    )
    parser.add_argument(
        "--set", type=_assignment, action="append", default=[], metavar="TABLE.KEY=JSON", help="other than the default"
    )
    return parser.parse_args()


def _assignment(text: str) -> tuple[list[str], Any]:
    """The names of the tables and of the key, and the value."""
    path, _, value = text.partition("=")
    try:
        return path.split("."), json.loads(value)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not TABLE.KEY=JSON, as models.mf.n_factors=[64] is") from None


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration as far as it is not the default, table by table."""
    tables: dict[str, Any] = {"training": {"seed": arguments.seed, "device": arguments.device}}
    for (*names, key), value in arguments.set:
        table = tables
        for name in names:
            table = table.setdefault(name, {})
        table[key] = value
    return tables


def choose(benchmark: Benchmark, model: str, config: Config, score: Score) -> Vectors:
    """The vectors of the settings that serve best by `score`, trained on the fit events, as every night."""
    splits = benchmark.splits
    data = data_of(benchmark, splits.fit, splits.validation_start, config)
    budget = Budget(config.training.choice_seconds if model == "auto" else math.inf)
    vectors = find_model(model).tune(data, settings_of(config.models, model), score, budget)
    assert vectors is not None, f"{model} found nothing: {budget.reason}"
    return vectors


def data_of(benchmark: Benchmark, events: Interactions, now: int, config: Config) -> TrainingData:
    """What a model may learn from `events` as of `now` (microseconds)."""
    return data_for(config, benchmark.catalog, events, now)


def _rank(benchmark: Benchmark, vectors: Vectors, k: int, config: Config) -> Int64:
    """Item ids int64 [B, k] for the benchmark's users, -1 pads. Unless repeats, no item of the history is listed."""
    known, rows = benchmark.known, benchmark.rows
    popularity = np.bincount(known.of_kinds(config.target_codes).items, minlength=known.item_count).astype(np.float32)
    kinds = tuple(config.events.weights)
    bundle: Bundle = assemble(vectors, benchmark.catalog, popularity, kinds=kinds, index_settings=config.index)
    now = benchmark.splits.holdout_start
    histories = known.histories(rows, now, config.events.history_length)
    everything = known.histories(rows, now, max(1, len(known)))
    seen = None if benchmark.repeats else Ragged(everything.offsets, everything.items)
    hits = recommend(CatalogView(bundle), histories, k, excluded=seen)
    return ids_of(benchmark)[hits.rows]


def ids_of(benchmark: Benchmark) -> Int64:
    """Item ids by row, with -1 at the end, where the row -1 finds it."""
    return np.array([*map(int, benchmark.catalog.ids), -1], np.int64)


if __name__ == "__main__":
    main()
