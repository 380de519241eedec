"""Whether one model's lists serve the same test users better than another's: paired bootstrap over the users.

    python -m benchmarks.paired --data DIR [--k 20] OURS.npz OTHER.npz [MORE.npz ...]

Reads what benchmarks.accuracy and benchmarks.compare wrote. Each row: recall@k, and how far the first file is ahead,
with the 95 % interval of 10,000 resamples.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.forms import read_test

RESAMPLES = 10_000
BATCH = 100  # resamples at a time: each is as long as the users are many


def main() -> None:
    """Read the lists, score them, compare the first with each of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("ranked", type=Path, nargs="+", help="files of lists, ours first")
    arguments = parser.parse_args()
    users, items = read_test(arguments.data)
    first, *others = arguments.ranked
    ours = recall(first, users, items, arguments.k)
    print(f"| lists | recall@{arguments.k} of {len(ours):,} users | {first.stem} is ahead by (95 % interval) |")
    print("|---|---|---|")
    print(f"| {first.stem} | {ours.mean():.4f} | |")
    for path in others:
        found = recall(path, users, items, arguments.k)
        low, high = interval(ours - found)
        print(f"| {path.stem} | {found.mean():.4f} | {(ours - found).mean():+.4f} ({low:+.4f} to {high:+.4f}) |")


def recall(path: Path, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """Of each test user, ascending, the share of the wanted items in the first k: [B]; 0 for who is not in the file."""
    ranked = np.load(path, allow_pickle=False)
    if ranked["items"].shape[1] < k:
        sys.exit(f"{path} has lists of {ranked['items'].shape[1]} items; {k} are asked for: --k")
    lists = dict(zip(ranked["users"].tolist(), ranked["items"][:, :k].tolist(), strict=True))
    found = np.array([item in lists.get(user, ()) for user, item in zip(users.tolist(), items.tolist(), strict=True)])
    asked, at = np.unique(users, return_inverse=True)
    return np.bincount(at, found, minlength=len(asked)) / np.bincount(at)


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
