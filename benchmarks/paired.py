"""Compare the lists of two models on the same test users: paired bootstrap over the users.

    python -m benchmarks.paired --data DIR [--k 20] OURS.npz OTHER.npz [MORE.npz ...]

Reads the lists of benchmarks.accuracy and benchmarks.compare. Each row shows recall@k and NDCG@k, and the lead of the
first file in each, with the 95 % interval of 10,000 resamples.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.forms import read_test

RESAMPLES = 10_000
_METRICS = ("recall", "NDCG")
BATCH = 100  # resamples at a time: each is as long as the users are many


def main() -> None:
    """Read the lists, score them, compare the first with each of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--k", type=int, default=20, help="how many of each list count")
    parser.add_argument("ranked", type=Path, nargs="+", help="files of lists, ours first")
    arguments = parser.parse_args()
    try:
        users, items = read_test(arguments.data)
    except FileNotFoundError as error:
        sys.exit(str(error))
    first, *others = arguments.ranked
    ours = fared(first, users, items, arguments.k)
    print(f"| lists of {ours.shape[1]:,} users | " + " | ".join(f"{name}@{arguments.k}" for name in _METRICS) + " |")
    print("|---|---|---|")
    print(f"| {first.stem} | " + " | ".join(f"{values.mean():.4f}" for values in ours) + " |")
    for path in others:
        print(f"| {path.stem} | " + " | ".join(map(_beside, ours, fared(path, users, items, arguments.k))) + " |")


def _beside(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> str:
    low, high = interval(ours - theirs)
    return f"{theirs.mean():.4f} ({(ours - theirs).mean():+.4f}: {low:+.4f} to {high:+.4f})"


def fared(path: Path, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """Recall@k and NDCG@k of each test user, ascending: [2, B]; 0 for who is not in the file."""
    ranked = np.load(path, allow_pickle=False)
    if ranked["items"].shape[1] < k:
        sys.exit(f"{path} has lists of {ranked['items'].shape[1]} items; {k} are asked for: --k")
    lists = dict(zip(ranked["users"].tolist(), ranked["items"][:, :k].tolist(), strict=True))
    nothing: list[int] = []
    hits = [lists.get(user, nothing) for user in users.tolist()]
    gains = [
        1 / math.log2(found.index(item) + 2) if item in found else 0.0
        for item, found in zip(items.tolist(), hits, strict=True)
    ]
    _, at = np.unique(users, return_inverse=True)
    wanted = np.bincount(at)
    most = np.cumsum(1 / np.log2(np.arange(k) + 2))[np.minimum(wanted, k) - 1]
    return np.stack([np.bincount(at, np.array(gains) > 0) / wanted, np.bincount(at, gains) / most])


def interval(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean."""
    if not differences.any():
        return 0.0, 0.0
    found = stats.bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, batch=BATCH, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


if __name__ == "__main__":
    main()
