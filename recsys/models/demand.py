"""How much an item is in demand at present, as one more dimension beside a model of tastes.

The constant 1 on the user's side, demand * ln(1 + recent demand) on the item's.
"""

from dataclasses import replace

import numpy as np

from recsys.data.arrays import Float32
from recsys.models.contract import TrainingData
from recsys.models.coordinate_search import Settings
from recsys.models.vectors import Constant, ItemEncoder, Part


def demand_column(data: TrainingData, chosen: Settings) -> Float32:
    """The item's side, by the settings "demand" and "recency_half_life_days": [I, 1]."""
    if chosen["demand"] == 0:
        return np.zeros((data.events.item_count, 1), np.float32)
    demand = data.recent_demand(chosen["recency_half_life_days"])
    return np.asarray(chosen["demand"] * np.log1p(demand), np.float32)[:, None]


def demand_part(items: int) -> Part:
    """The user's side."""
    return Part(np.zeros((items, 1), np.float32), Constant())


def beside_demand(encoder: ItemEncoder | None) -> ItemEncoder | None:
    """The item encoder with the part that tells nothing of a user's history."""
    if encoder is None:
        return None
    nothing = np.zeros((len(encoder.token_hashes), 1), np.float32)
    return replace(encoder, history_weights=(*encoder.history_weights, nothing))
