"""The baseline: the items most asked for of late, the same for everybody."""

from collections.abc import Callable

import numpy as np

from recsys.config.settings import PopularitySettings
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.models.contract import TrainingData
from recsys.models.coordinate_search import Settings
from recsys.models.vectors import Constant, Part, Vectors


def train(
    data: TrainingData,
    settings: PopularitySettings | Settings,
    *,
    score: Callable[[Vectors], float] | None,
    seed: int,  # noqa: ARG001 - every model has the same signature; nothing is random here
    device: str,  # noqa: ARG001 - numpy only
    report: Callable[[str, float], None],
) -> Vectors:
    """See recsys.models.contract.Train. D = 1. Events of target kinds are counted, or all where there is none of those.

    Raises ValueError when there are several half-lives to choose from and no score to choose by.
    """
    events = data.events.of_kinds(data.target_codes)
    events = events if len(events) else data.events
    if isinstance(settings, dict):
        best = _count(events, data.now, settings["half_life_days"])
    else:
        best = _choose([_count(events, data.now, days) for days in settings.half_life_days], score)
    report("popularity: count", 1.0)
    return best


def _choose(candidates: list[Vectors], score: Callable[[Vectors], float] | None) -> Vectors:
    if len(candidates) == 1:
        return candidates[0]
    if score is None:
        raise ValueError("popularity has several half-lives to choose from and no validation score to choose by")
    return max(candidates, key=score)


def _count(events: Interactions, now: int, half_life_days: float) -> Vectors:
    counts = np.exp2((events.times - now) / MICROSECONDS_PER_DAY / half_life_days)
    scores = np.bincount(events.items, counts, minlength=events.item_count).astype(np.float32)[:, None]
    history = np.zeros_like(scores)
    return Vectors("popularity", scores, (Part(history, Constant()),), None, {"half_life_days": half_life_days})
