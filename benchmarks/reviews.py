"""How well the sentiment of reviews is told: each fifth by what was learned from the others.

    python -m benchmarks.reviews --data DIR [--seeds 0 1 2]

DIR holds amazon_alexa.tsv.gz with the columns rating and verified_reviews. A review of at most two stars is negative.
Equal texts lie in one fold. Everything, the strength of the penalty and the threshold too, is chosen on the other
four fifths.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl

from recsys.propensity.metrics import auc
from recsys.reviews.sentiment import NEGATIVE, figures_of, folds_of, learn

_FOLDS = 5


def main() -> None:
    """Print the figures of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = pl.read_csv(arguments.data / "amazon_alexa.tsv.gz", separator="\t", quote_char='"')
    texts = rows["verified_reviews"].fill_null("").to_list()
    stars = rows["rating"].cast(pl.Float64).to_numpy()
    negative = stars <= NEGATIVE
    print(f"{len(texts):,} reviews, {negative.mean():.1%} negative")
    print("| seed | AUC of all | mean AUC of folds | log loss | F1 | accuracy | expected / actual | seconds a fold |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        fold_of = folds_of(texts, _FOLDS, seed=seed)
        probabilities, called = np.zeros(len(texts)), np.zeros(len(texts), np.bool_)
        begin = time.perf_counter()
        for fold in range(_FOLDS):
            others, own = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            sentiment = learn([texts[row] for row in others], stars[others], seed=seed).sentiment
            probabilities[own] = sentiment.probabilities([texts[row] for row in own])
            called[own] = probabilities[own] >= sentiment.threshold
        seconds = (time.perf_counter() - begin) / _FOLDS
        found = figures_of(negative, probabilities, 0.5)
        hits = int((called & negative).sum())
        f1, accuracy = 2 * hits / (called.sum() + negative.sum()), (called == negative).mean()
        of_folds = np.mean([auc(negative[fold_of == fold], probabilities[fold_of == fold]) for fold in range(_FOLDS)])
        print(
            f"| {seed} | {found['auc']:.4f} | {of_folds:.4f} | {found['log_loss']:.4f} | {f1:.3f} | {accuracy:.4f} "
            f"| {found['expected_over_actual_negative']:.3f} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
