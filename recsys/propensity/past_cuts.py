"""Judge models on past cuts: each learned from what was known by then, beside what happened in the window after.

Shapes: B customers of a cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from recsys.data.arrays import Bool, Float64, Int64
from recsys.propensity import metrics
from recsys.propensity.correction import Told
from recsys.propensity.scorer import Member, average, expected_value

_FREEDOM = 3.0  # of an interval of totals
THRESHOLD = 0.5  # from which a customer is called a buyer, for accuracy and F1
# Which members each candidate averages, the simplest and cheapest candidate first. The network never serves alone:
# where a history is short, levels of its own drift from one cut to the next, and the average holds them.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "logistic": ("logarithms", "all features"),
    "logistic and network": ("logarithms", "all features", "network"),
}
SIMPLEST = next(iter(CANDIDATES))


@dataclass(frozen=True)
class Foretold:
    """What one candidate, or the rules, told of B customers."""

    probability: Float64  # [B]
    value: Float64  # [B]


@dataclass(frozen=True)
class PastCut:
    """One cut: what each candidate told, and what came."""

    number: int
    day: int
    users: Int64  # [B]
    bought: Bool  # [B]
    amounts: Float64  # [B]
    foretold: dict[str, Foretold]  # by candidate, and "rules"

    def told(self, name: str) -> Told:
        """The probabilities of one candidate, to learn corrections from."""
        return Told(self.number, self.foretold[name].probability, self.bought)


def foretell(members: Sequence[Member], features: Float64) -> Foretold:
    """What the average of the members tells."""
    probability, logs, spread = average(members, features)
    return Foretold(probability, expected_value(probability, logs, spread))


def choose_candidate(cuts: Sequence[PastCut]) -> tuple[str, dict[str, float]]:
    """The simplest candidate within one standard error of the best by log loss, and the log loss of each.

    Only candidates that foretold every cut are considered. The standard error is that of the difference to the best. A
    customer's cuts are counted together, because they overlap.
    """
    losses = {name: _losses(cuts, name) for name in CANDIDATES if all(name in cut.foretold for cut in cuts)}
    best = min(losses, key=lambda name: float(losses[name].mean()))
    users = np.concatenate([cut.users for cut in cuts])
    behind = {name: found - losses[best] for name, found in losses.items()}
    chosen = next(name for name, by in behind.items() if by.mean() <= standard_error(by, users))
    return chosen, {one: float(found.mean()) for one, found in losses.items()}


def is_behind(cuts: Sequence[PastCut], name: str) -> bool:
    """Whether a candidate is no better by log loss, on cuts that it foretold, than the simplest one."""
    return bool(_losses(cuts, name).mean() >= _losses(cuts, SIMPLEST).mean())


def standard_error(values: Float64, users: Int64) -> float:
    """The standard error of the mean of values [n], which come from these users [n]."""
    sums = np.bincount(users, values - values.mean())
    return float(np.sqrt((sums**2).sum()) / len(values))


def _losses(cuts: Sequence[PastCut], name: str) -> Float64:
    return np.concatenate([metrics.log_losses(cut.bought, cut.foretold[name].probability) for cut in cuts])


def compare_with_rules(cuts: Sequence[PastCut], name: str) -> tuple[list[str], dict[str, Any]]:
    """Why a candidate may not serve, beside recency-frequency rules; an empty list when it may. And the figures."""
    ours, theirs = _losses(cuts, name), _losses(cuts, "rules")
    ginis = {who: _mean_gini(cuts, who) for who in (name, "rules")}
    error = standard_error(ours - theirs, np.concatenate([cut.users for cut in cuts]))
    figures = {
        "log_loss": float(ours.mean()),
        "rules_log_loss": float(theirs.mean()),
        "standard_error": error,
        "gini": ginis[name],
        "rules_gini": ginis["rules"],
    }
    reasons = []
    if not ours.mean() < theirs.mean():
        reasons.append(f"log loss {ours.mean():.4f}, recency-frequency rules {theirs.mean():.4f} on past cuts")
    if ginis[name] < ginis["rules"]:
        reasons.append(f"Gini of value {ginis[name]:.4f}, recency-frequency rules {ginis['rules']:.4f} on past cuts")
    return reasons, figures


def _mean_gini(cuts: Sequence[PastCut], name: str) -> float:
    found = [metrics.gini(cut.amounts, cut.foretold[name].value) for cut in cuts]
    return float(np.mean([one for one in found if np.isfinite(one)] or [np.nan]))


@dataclass(frozen=True)
class Totals:
    """How far totals were off at past cuts."""

    spread: float  # root mean square of log(actual / expected)
    cuts: int
    windows: float  # how many windows the cuts span: those that overlap are no independent cases

    @classmethod
    def of(cls, expected: Sequence[float], actual: Sequence[float], windows: float) -> "Totals":
        """From what was expected and what came at each cut. Cuts at which nothing came are left out."""
        logs = np.array([np.log(a / e) for e, a in zip(expected, actual, strict=True) if e > 0 and a > 0])
        return cls(float(np.sqrt((logs**2).mean())) if len(logs) else float("nan"), len(logs), windows)

    def interval(self, total: float, share: float = 0.95) -> tuple[float, float]:
        """The interval that holds the truth in this share of the cases, as far as the future is like the past.

        By Student's t, with as many degrees of freedom as windows, at least _FREEDOM.
        """
        if not self.cuts:
            return 0.0, float("inf")
        quantile = student.ppf((1 + share) / 2, max(_FREEDOM, self.windows))
        width = float(quantile * self.spread * np.sqrt(1 + 1 / self.windows))
        return total * float(np.exp(-width)), total * float(np.exp(width))


def report(cuts: Sequence[PastCut], name: str, with_values: bool) -> dict[str, Any]:
    """Every figure of the chosen candidate on the past cuts: pooled, and totals cut by cut."""
    found = [cut.foretold[name] for cut in cuts]
    bought = np.concatenate([cut.bought for cut in cuts])
    probability = np.concatenate([one.probability for one in found])
    each = [_totals(cut, one, with_values) for cut, one in zip(cuts, found, strict=True)]
    told: dict[str, Any] = {
        **metrics.of_buying(bought, probability, threshold=THRESHOLD),
        "calibration": metrics.calibration(bought, probability),
        "cuts": each,
        "mean_error_of_buyers": _mean_error(each, "expected_over_actual_buyers"),
    }
    if with_values:
        values = np.concatenate([cut.amounts for cut in cuts])
        expected = np.concatenate([one.value for one in found])
        told |= metrics.of_value(values, expected)
        told |= {
            "lift_by_decile": metrics.lifts(values, expected),
            "mean_error_of_value": _mean_error(each, "expected_over_actual_value"),
        }
    return told


def _totals(cut: PastCut, found: Foretold, with_values: bool) -> dict[str, float]:
    told: dict[str, float] = {"days_ago": -cut.day} | metrics.of_buying(
        cut.bought, found.probability, threshold=THRESHOLD
    )
    told = {name: told[name] for name in ("days_ago", "customers", "buyers", "auc", "log_loss")} | {
        "expected_over_actual_buyers": told["expected_over_actual_buyers"]
    }
    return told | (metrics.of_value(cut.amounts, found.value) if with_values else {})


def _mean_error(cuts: Sequence[dict[str, float]], name: str) -> float:
    return float(np.mean([abs(cut[name] - 1) for cut in cuts]))
