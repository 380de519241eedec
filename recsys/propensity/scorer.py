"""Score customers in numpy: the chance to buy, the value with an interval, and churn risk.

A member is what `training` learned: a linear model, or a small network with one hidden layer. Each says the log-odds of
buying and the mean of the logarithm of the amount, whose spread it knows: a zero-inflated lognormal (Wang, Liu, Miao,
2019, "A Deep Probabilistic Model for Customer Lifetime Value Prediction"). Shapes: B customers, F features, C columns,
H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri

from recsys.data.arrays import Float64, Int64
from recsys.propensity.days import BuyingDays
from recsys.propensity.features import Usual, compute

_LIMIT = 6.0  # standard deviations: a feature beyond what training saw says no more than that
_LEAST = 1e-6  # a probability is never 0 or 1
INTERVAL = 0.9  # share of customers whose value lies within low and high


@dataclass(frozen=True)
class Member:
    """One model of buying and of the amount."""

    columns: Int64  # [C] places in FEATURES
    mean: Float64  # [C]
    scale: Float64  # [C]
    hidden: Float64  # [C, H]; H = 0: linear
    hidden_bias: Float64  # [H]
    output: Float64  # [C + H, 2] log-odds of buying, mean of log(amount)
    output_bias: Float64  # [2]
    spread: float  # standard deviation of log(amount) around its mean

    def predict(self, features: Float64) -> tuple[Float64, Float64]:
        """features [B, F] -> probability of buying [B], mean of log(amount) of who buys [B]."""
        rows = standardize(features[:, self.columns], self.mean, self.scale)
        active = np.maximum(rows @ self.hidden + self.hidden_bias, 0.0)
        outputs = np.concatenate([rows, active], axis=1) @ self.output + self.output_bias
        return expit(outputs[:, 0]), outputs[:, 1]


def standardize(rows: Float64, mean: Float64, scale: Float64) -> Float64:
    """Center and scale columns, and bound what lies far out: float64 [B, C]."""
    return np.clip((rows - mean) / scale, -_LIMIT, _LIMIT)


@dataclass(frozen=True)
class Correction:
    """A correction of probabilities that past cuts chose: points of a non-decreasing curve over the log-odds."""

    method: str  # "none", "level", "platt" or "isotonic"
    inputs: Float64  # [P] log-odds, ascending
    outputs: Float64  # [P] log-odds

    def apply(self, probabilities: Float64) -> Float64:
        """Correct probabilities [B]. Beyond the points the correction of the nearest one holds."""
        odds = logit(np.clip(probabilities, _LEAST, 1 - _LEAST))
        shift = np.interp(odds, self.inputs, self.outputs - self.inputs)
        return np.asarray(expit(odds + shift), np.float64)


NO_CORRECTION = Correction("none", np.zeros(1), np.zeros(1))


@dataclass(frozen=True)
class Predictions:
    """What is expected of B customers within the window; arrays [B]."""

    probability: Float64  # to buy anything
    churn_risk: Float64
    value: Float64
    value_low: Float64
    value_high: Float64


@dataclass(frozen=True)
class Scorer:
    """Scores customers for one window, by the mean of its members."""

    window: int  # days
    members: tuple[Member, ...]
    with_values: bool  # whether the shop knows what purchases are worth
    correction: Correction
    usual: Usual

    def predict(self, days: BuyingDays, users: Int64, at: Int64) -> Predictions:
        """Score users [B] with a purchase before the begin of their day `at` [B].

        Churn risk is the share of their chance to buy that customers have lost since the day after their last purchase:
        the chance then stands for a customer who is there for sure, and what is missing now for having left. So a
        silence counts by the customer's own rhythm.
        """
        features = compute(days, users, at, self.usual, self.window)
        probability, logs, spread = self.average(features)
        owners, rows = days.rows_between(users, np.full(len(users), -(2**20)), at)
        last = np.full(len(users), -(2**20), np.int64)
        np.maximum.at(last, owners, days.days[rows])
        then, _, _ = self.average(compute(days, users, np.minimum(last + 1, at), self.usual, self.window))
        if not self.with_values:
            logs = np.full(len(users), np.nan)
        return Predictions(
            probability,
            1 - np.minimum(probability / then, 1.0),
            expected_value(probability, logs, spread),
            value_quantile(probability, logs, spread, (1 - INTERVAL) / 2),
            value_quantile(probability, logs, spread, (1 + INTERVAL) / 2),
        )

    def average(self, features: Float64) -> tuple[Float64, Float64, float]:
        """features [B, F] -> the probability of buying [B], mean of log(amount) of who buys [B] and its spread."""
        probability, logs, spread = average(self.members, features)
        return self.correction.apply(probability), logs, spread


def average(members: Sequence[Member], features: Float64) -> tuple[Float64, Float64, float]:
    """Probability [B], mean of log(amount) [B] and its spread: means over the members."""
    found = [member.predict(features) for member in members]
    spread = float(np.mean([member.spread for member in members]))
    return np.mean([p for p, _ in found], axis=0), np.mean([logs for _, logs in found], axis=0), spread


def expected_value(probability: Float64, logs: Float64, spread: float) -> Float64:
    """The mean of the zero-inflated lognormal: [B]."""
    return np.asarray(probability * np.exp(logs + spread**2 / 2), np.float64)


def value_quantile(probability: Float64, logs: Float64, spread: float, quantile: float) -> Float64:
    """A quantile of the zero-inflated lognormal, 0 where not buying takes it up: [B]."""
    among = (quantile - (1 - probability)) / np.maximum(probability, _LEAST)
    found = np.exp(logs + spread * ndtri(np.clip(among, _LEAST, 1 - _LEAST)))
    return np.where((among > 0) | np.isnan(logs), found, 0.0)
