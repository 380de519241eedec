"""Metrics of probabilities and expected values beside what happened. Shapes: B customers."""

import numpy as np
from scipy.stats import rankdata

from recsys.data.arrays import Bool, Float64

_LEAST = 1e-6
DECILES = 10


def auc(bought: Bool, score: Float64) -> float:
    """The area under the ROC curve; NaN when all bought or nobody."""
    ranks, buyers, others = rankdata(score), int(bought.sum()), int((~bought).sum())
    if not buyers or not others:
        return float("nan")
    return float((ranks[bought].sum() - buyers * (buyers + 1) / 2) / (buyers * others))


def average_precision(bought: Bool, score: Float64) -> float:
    """The area under precision over recall; equal scores count together."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(bought[order])[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / max(1, bought.sum()))


def log_losses(bought: Bool, probability: Float64) -> Float64:
    """The log loss of each customer: [B]."""
    p = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.asarray(-np.log(np.where(bought, p, 1 - p)), np.float64)


def gini(value: Float64, score: Float64) -> float:
    """The Gini of value by score, normalized by that of the best order; NaN when nobody spent anything."""
    if not value.sum() > 0:
        return float("nan")
    return _gini(value, score) / _gini(value, value)


def _gini(value: Float64, score: Float64) -> float:
    gained = np.cumsum(value[np.argsort(-score, kind="stable")]) / value.sum()
    return float(2 * (gained.mean() - 0.5))


def lifts(value: Float64, score: Float64) -> list[float]:
    """Mean value of each tenth of the customers by score, best first, over the mean of all."""
    ordered = value[np.argsort(-score, kind="stable")]
    parts = np.array_split(ordered, DECILES)
    mean = value.mean() if len(value) else 0.0
    return [float(part.mean() / mean) if len(part) and mean > 0 else float("nan") for part in parts]


def calibration(bought: Bool, probability: Float64) -> list[dict[str, float]]:
    """The points of a calibration plot: customers in tenths by probability, with what was expected and what came."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "customers": len(part),
            "expected": float(probability[part].mean()),
            "actual": float(bought[part].mean()),
        }
        for part in np.array_split(order, DECILES)
        if len(part)
    ]


def of_buying(bought: Bool, probability: Float64, *, threshold: float) -> dict[str, float]:
    """The figures of probabilities. threshold: from which a customer is called a buyer, for accuracy and F1."""
    called = probability >= threshold
    hits = int((called & bought).sum())
    return {
        "customers": len(bought),
        "buyers": int(bought.sum()),
        "auc": auc(bought, probability),
        "average_precision": average_precision(bought, probability),
        "log_loss": float(log_losses(bought, probability).mean()),
        "brier": float(((probability - bought) ** 2).mean()),
        "threshold": threshold,
        "accuracy": float((called == bought).mean()),
        "f1": 2 * hits / max(1, int(called.sum() + bought.sum())),
        "expected_over_actual_buyers": float(probability.sum() / max(1, bought.sum())),
    }


def of_value(value: Float64, expected: Float64) -> dict[str, float]:
    """The figures of expected values."""
    return {
        "gini": gini(value, expected),
        "lift_of_first_decile": lifts(value, expected)[0],
        "mae": float(np.abs(expected - value).mean()),
        "expected_over_actual_value": float(expected.sum() / value.sum()) if value.sum() > 0 else float("nan"),
    }
