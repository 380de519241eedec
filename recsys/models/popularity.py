"""The baseline: the items most in demand of late, the same for everybody."""

import numpy as np

from recsys.config.settings import PopularitySettings, Section
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.models.budget import Budget
from recsys.models.contract import Model, Score, TrainingData
from recsys.models.coordinate_search import coordinate_search
from recsys.models.vectors import Constant, Part, Vectors


class PopularityParams(Section):
    """What a count depends on."""

    half_life_days: float


def tune(data: TrainingData, space: PopularitySettings, score: Score, budget: Budget) -> Vectors | None:
    """See recsys.models.contract.Tune."""
    values = {"half_life_days": space.half_life_days}
    start = PopularityParams(half_life_days=space.half_life_days[0])
    params = coordinate_search(
        values, lambda tried: score(_count(data, tried)), start=start, rounds=1, expired=budget.expired
    )
    return None if budget.stopped else fit(data, params, budget)


def fit(data: TrainingData, params: PopularityParams, budget: Budget) -> Vectors:
    """See recsys.models.contract.Fit. D = 1. Counts events of target kinds, or all where there are none of those."""
    vectors = _count(data, params)
    budget.progress("popularity: count", 1.0)
    return vectors


MODEL = Model(tune, fit, PopularityParams)


def _count(data: TrainingData, params: PopularityParams) -> Vectors:
    events = data.events.of_kinds(data.target_codes)
    events = events if len(events) else data.events
    counts = np.exp2((events.times - data.now) / MICROSECONDS_PER_DAY / params.half_life_days)
    scores = np.bincount(events.items, counts, minlength=events.item_count).astype(np.float32)[:, None]
    history = np.zeros_like(scores)
    return Vectors("popularity", scores, (Part(history, Constant()),), None, params.model_dump())
