"""The present demand for an item, as one more dimension beside a model of tastes.

The user's side is the constant 1, the item's side trend_weight * ln(1 + recent demand).
"""

from dataclasses import replace
from typing import Protocol

import numpy as np

from recsys.data.arrays import Float32
from recsys.models.contract import TrainingData
from recsys.models.vectors import Constant, ItemEncoder, Part


class TrendParams(Protocol):
    """The params of a model that a trend depends on."""

    @property
    def trend_weight(self) -> float:
        """How much demand counts; 0: not at all."""
        ...

    @property
    def recency_half_life_days(self) -> float:
        """After how long an event counts half as demand."""
        ...


def trend_column(data: TrainingData, params: TrendParams) -> Float32:
    """The item's side: [I, 1]."""
    if params.trend_weight == 0:
        return np.zeros((data.events.item_count, 1), np.float32)
    demand = data.recent_demand(params.recency_half_life_days)
    return np.asarray(params.trend_weight * np.log1p(demand), np.float32)[:, None]


def trend_part(items: int) -> Part:
    """The user's side."""
    return Part(np.zeros((items, 1), np.float32), Constant())


def beside_trend(encoder: ItemEncoder | None) -> ItemEncoder | None:
    """The item encoder with zeros for the trend's part, which no history feeds."""
    if encoder is None:
        return None
    nothing = np.zeros((len(encoder.token_hashes), 1), np.float32)
    return replace(encoder, history_weights=(*encoder.history_weights, nothing))
