"""RecTools' models on a set of `train.txt` and `test.txt`, tuned on the same validation as the project's.

    python -m venv rectools && rectools/bin/pip install rectools    (it needs an older numpy than the project)
    python -m benchmarks.compare --data DIR --model split --out split.npz
    rectools/bin/python benchmarks/compare_rectools.py --data DIR --split split.npz --k 20 --out ranked.npz

PureSVD and item neighbors (cosine, TF-IDF, BM25) take turns, with settings drawn at random. The best by NDCG@20 is
trained again on everything. RecTools' ALS and BPR are those of implicit, which benchmarks.compare runs. This script
imports nothing of the project.
"""

import argparse
import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from implicit import nearest_neighbours
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import ImplicitItemKNNWrapperModel, PureSVDModel

FAMILIES = ("svd", "knn")


def main() -> None:
    """Read, draw settings, train again with the best, rank, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--split", type=Path, required=True, help="what benchmarks.compare --model split wrote")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="file for the lists")
    arguments = parser.parse_args()
    started = time.perf_counter()
    train = read(arguments.data, "train.txt")
    asked = read(arguments.data, "test.txt")[Columns.User].unique()
    split = np.load(arguments.split)
    fit = interactions(split["users"], split["items"])
    held = pd.DataFrame({Columns.User: split["wanted_users"], Columns.Item: split["wanted_items"]})
    wanted = held.groupby(Columns.User)[Columns.Item].apply(set)
    random = np.random.default_rng(arguments.seed)
    trials = [draw(FAMILIES[at % len(FAMILIES)], random) for at in range(arguments.trials)]
    figures = [ndcg(recommend(build(*trial), fit, wanted.index.to_numpy(), 20), wanted) for trial in trials]
    best = trials[int(np.argmax(figures))]
    chosen = time.perf_counter()
    ranked = recommend(build(*best), train, asked, arguments.k)
    np.savez(arguments.out, users=asked, items=as_lists(ranked, asked, arguments.k))
    for trial, figure in sorted(zip(trials, figures, strict=True), key=lambda pair: -pair[1]):
        print(f"{figure:.4f} {trial}")
    ended = time.perf_counter()
    print(f"seconds: {ended - started:.1f} in all; choose {chosen - started:.1f}, the best again {ended - chosen:.1f}")


def read(folder: Path, name: str) -> pd.DataFrame:
    """Lines of `user item item …` as interactions."""
    path = next(path for path in (folder / name, folder / f"{name}.gz") if path.exists())
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = [(user, item) for user, *items in (map(int, line.split()) for line in lines) for item in items]
    users, found = np.array(rows, np.int64).T
    return interactions(users, found)


def interactions(users: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """As RecTools wants them, which asks for a weight and a time."""
    columns = {Columns.User: users, Columns.Item: items, Columns.Weight: 1.0}
    return pd.DataFrame({**columns, Columns.Datetime: pd.Timestamp("2020-01-01")})


def draw(name: str, random: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """A model of the family and its settings."""
    if name == "svd":
        return name, {"factors": int(random.integers(32, 513))}
    return str(random.choice(["cosine", "tfidf", "bm25"])), {"K": int(random.integers(10, 501))}


def build(name: str, settings: dict[str, Any]) -> Any:
    """The model of a trial."""
    if name == "svd":
        return PureSVDModel(**settings)
    kinds = {"cosine": "CosineRecommender", "tfidf": "TFIDFRecommender", "bm25": "BM25Recommender"}
    return ImplicitItemKNNWrapperModel(getattr(nearest_neighbours, kinds[name])(**settings))


def recommend(model: Any, train: pd.DataFrame, users: np.ndarray, k: int) -> pd.DataFrame:
    """The k best unseen items of each user that has events to learn from."""
    dataset = Dataset.construct(train)
    known = users[np.isin(users, train[Columns.User].unique())]
    return model.fit(dataset).recommend(known, dataset, k=k, filter_viewed=True)


def ndcg(ranked: pd.DataFrame, wanted: pd.Series) -> float:
    """Mean NDCG@20, divided by what min(20, wanted) places can give."""
    gains = 1 / np.log2(np.arange(2, 22))
    lists = ranked.sort_values(Columns.Rank).groupby(Columns.User)[Columns.Item].apply(list)
    figures = []
    for user, items in wanted.items():
        hits = np.array([item in items for item in lists.get(user, [])[:20]], float)
        figures.append((hits * gains[: len(hits)]).sum() / gains[: min(20, len(items))].sum())
    return float(np.mean(figures))


def as_lists(ranked: pd.DataFrame, users: np.ndarray, k: int) -> np.ndarray:
    """Item ids [B, k], -1 where a user's list is shorter."""
    found = np.full((len(users), k), -1, np.int64)
    rows = pd.Series(np.arange(len(users)), index=users)
    found[rows[ranked[Columns.User]].to_numpy(), ranked[Columns.Rank].to_numpy() - 1] = ranked[Columns.Item].to_numpy()
    return found


if __name__ == "__main__":
    main()
