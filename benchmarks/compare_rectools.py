"""RecTools' models on a set of `train.txt` and `test.txt`, chosen on a tenth of the training data, ranked and written.

    python -m venv rectools && rectools/bin/pip install rectools    (it needs an older numpy than the project)
    rectools/bin/python benchmarks/compare_rectools.py --data DIR --k 20 --out ranked.npz [--trials 20] [--seed 0]

Settings of PureSVD, item neighbours (cosine, TF-IDF, BM25), ALS and BPR are drawn at random; the best NDCG@20 of 5,000
users on the tenth is trained again on everything. No line of the project is in it.
"""

import argparse
import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from implicit import als, bpr, nearest_neighbours
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import (
    ImplicitALSWrapperModel,
    ImplicitBPRWrapperModel,
    ImplicitItemKNNWrapperModel,
    PureSVDModel,
)

VALIDATION_USERS = 5000


def main() -> None:
    """Read, draw settings, train again with the best, rank, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="file for the lists")
    arguments = parser.parse_args()
    started = time.perf_counter()
    train = read(arguments.data, "train.txt")
    asked = read(arguments.data, "test.txt")[Columns.User].unique()
    random = np.random.default_rng(arguments.seed)
    held = random.random(len(train)) < 0.1
    fit, held_out = train[~held], train[held]
    wanted = held_out[held_out[Columns.User].isin(fit[Columns.User].unique())].groupby(Columns.User)[Columns.Item]
    wanted = wanted.apply(set).sample(min(VALIDATION_USERS, wanted.ngroups), random_state=arguments.seed)
    trials = [draw(random) for _ in range(arguments.trials)]
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
    found = pd.DataFrame(rows, columns=[Columns.User, Columns.Item])
    return found.assign(**{Columns.Weight: 1.0, Columns.Datetime: pd.Timestamp("2020-01-01")})


def draw(random: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """A model and its settings."""
    name = str(random.choice(["svd", "knn", "als", "bpr"]))
    factors = int(random.choice([64, 128, 256, 512]))
    if name == "svd":
        return name, {"factors": factors}
    if name == "knn":
        return str(random.choice(["cosine", "tfidf", "bm25"])), {"K": int(random.choice([50, 100, 200, 500]))}
    rate = float(np.exp(random.uniform(np.log(1e-3), np.log(1e-1 if name == "bpr" else 1e2))))
    if name == "als":
        return name, {"factors": min(factors, 256), "regularization": rate, "alpha": float(random.uniform(0.5, 50))}
    return name, {"factors": min(factors, 256), "regularization": rate, "learning_rate": 0.05, "iterations": 100}


def build(name: str, settings: dict[str, Any]) -> Any:
    """The model of a trial."""
    if name == "svd":
        return PureSVDModel(**settings)
    if name == "als":
        return ImplicitALSWrapperModel(als.AlternatingLeastSquares(**settings, random_state=0))
    if name == "bpr":
        return ImplicitBPRWrapperModel(bpr.BayesianPersonalizedRanking(**settings, random_state=0))
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
