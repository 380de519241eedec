"""Rank items that training has not seen, by their features only.

    python -m benchmarks.cold --data DIR [--model mf] [--seed 0]

The data is a set of sequences with attributes. A tenth of the items is hidden: their events are in no training data
and no history. Test users are those whose last item is hidden. Prints recall@50 among the hidden items and among all
items, next to two baselines: a random order, and hidden items by how many events of the user's history, then of all
users, are of their finest category.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import choose, data_of
from benchmarks.forms import Benchmark, read, read_last
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Float32, Int32
from recsys.data.interactions import Interactions
from recsys.models.budget import Budget
from recsys.models.contract import fit
from recsys.training.evaluation import ValidationScore

K = 50
HIDDEN_SHARE = 0.1
Events = Interactions


def main() -> None:
    """Read, hide, choose, train, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a set of sequences with items.tsv")
    parser.add_argument("--model", default="mf")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    config = Config.model_validate({"training": {"seed": arguments.seed}})
    benchmark = read(arguments.data, config=config, seed=arguments.seed)
    hidden = np.random.default_rng(arguments.seed).random(benchmark.known.item_count) < HIDDEN_SHARE
    benchmark = hide(benchmark, hidden)
    last = read_last(arguments.data, benchmark)
    asked = hidden[last]
    rows, wanted = benchmark.rows[asked], last[asked]
    splits = benchmark.splits
    score = ValidationScore(benchmark.catalog, splits, config)
    chosen = choose(benchmark, arguments.model, config, score)
    data = data_of(benchmark, benchmark.known, splits.holdout_start, config)
    vectors = fit(arguments.model, data, chosen.settings, Budget())
    histories = benchmark.known.histories(rows, splits.holdout_start, config.events.history_length)
    scores = vectors.encode(histories) @ vectors.item_vectors.T
    by_category = category_scores(benchmark, rows, config)
    everything = scores.copy()
    everything[histories.users, histories.items] = -np.inf
    print(f"{len(rows)} users, {hidden.sum()} of {len(hidden)} items hidden, settings {chosen.settings}")
    print(f"among hidden: {recall(scores, wanted, hidden):.4f}")
    print(f"  random {K / hidden.sum():.4f}, most popular in the category {recall(by_category, wanted, hidden):.4f}")
    print(f"among all: {recall(everything, wanted, np.ones_like(hidden)):.4f}; random {K / len(hidden):.4f}")
    print(f"{time.perf_counter() - started:.0f} seconds")


def hide(benchmark: Benchmark, hidden: Bool) -> Benchmark:
    """The same set without any event of the hidden items [I]."""

    def without(events: Events) -> Events:
        return events.select(~hidden[events.items])

    splits = replace(
        benchmark.splits,
        fit=without(benchmark.splits.fit),
        validation=without(benchmark.splits.validation),
    )
    return replace(benchmark, known=without(benchmark.known), splits=splits)


def recall(scores: Float32, wanted: Int32, candidates: Bool) -> float:
    """The share of users whose wanted item [B] is among the first 50 of the candidates [I] by scores [B, I].

    Of equal scores half stand before.
    """
    own = scores[np.arange(len(wanted)), wanted][:, None]
    others = scores[:, candidates]
    before = (others > own).sum(axis=1) + ((others == own).sum(axis=1) - 1) / 2
    return float(np.mean(before < K))


def category_scores(benchmark: Benchmark, rows: Int32, config: Config) -> Float32:
    """By how many events of the user's history are of the item's category, then of everybody's: [B, I]."""
    column = benchmark.catalog.columns.column("category").to_pylist()
    names, of_item = np.unique([value or "" for value in column], return_inverse=True)
    known = benchmark.known
    popular = np.bincount(of_item[known.items], minlength=len(names))
    histories = known.histories(rows, benchmark.splits.holdout_start, config.events.history_length)
    counts = np.zeros((len(rows), len(names)), np.float32)
    np.add.at(counts, (histories.users, of_item[histories.items]), 1)
    return np.asarray((counts + popular / (1 + popular.sum()))[:, of_item], np.float32)


if __name__ == "__main__":
    main()
