"""Recency-frequency rules, which a trained model has to beat: rates and mean values of cells, as marketers keep them.

Customers fall into fifths by recency and by frequency; a cell says what share of its customers bought and what they
spent on average. Shapes: B customers.
"""

from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Float64, Int64
from recsys.propensity.features import FEATURES
from recsys.propensity.networks import Examples

_FIFTHS = (0.2, 0.4, 0.6, 0.8)
_DRAWN = 10.0  # a cell is drawn towards the mean of all, as by ten more customers
_RECENCY, _ORDERS = FEATURES.index("recency"), FEATURES.index("orders")


@dataclass(frozen=True)
class Rules:
    """25 cells, learned from the past."""

    recency: Float64  # [4] edges of the fifths
    orders: Float64  # [4]
    rates: Float64  # [25]
    values: Float64  # [25]

    def predict(self, features: Float64) -> tuple[Float64, Float64]:
        """features [B, F] -> probability [B], expected value [B]."""
        cells = _cells(features, self.recency, self.orders)
        return self.rates[cells], self.values[cells]


def learn_rules(examples: Examples) -> Rules:
    """Count what customers of each cell did."""
    recency, orders = (np.quantile(examples.features[:, column], _FIFTHS) for column in (_RECENCY, _ORDERS))
    cells = _cells(examples.features, recency, orders)
    counts = np.bincount(cells, minlength=25) + _DRAWN
    rates = (np.bincount(cells, examples.bought, 25) + _DRAWN * examples.bought.mean()) / counts
    values = (np.bincount(cells, examples.amounts, 25) + _DRAWN * examples.amounts.mean()) / counts
    return Rules(recency, orders, rates, values)


def _cells(features: Float64, recency: Float64, orders: Float64) -> Int64:
    fifths = np.searchsorted(recency, features[:, _RECENCY]) * 5 + np.searchsorted(orders, features[:, _ORDERS])
    return fifths.astype(np.int64)
