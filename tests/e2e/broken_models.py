"""Models as they come out of a night that went wrong; named by dotted path in the configuration."""

from dataclasses import replace
from typing import Any

import numpy as np

from recsys.config.settings import MfSettings
from recsys.models.budget import Budget
from recsys.models.contract import Model, Score, TrainingData
from recsys.models.mf import model as mf
from recsys.models.vectors import Vectors


def tune(data: TrainingData, _space: Any, score: Score, budget: Budget) -> Vectors | None:
    """As mf does."""
    return mf.tune(data, MfSettings(n_factors=(32,)), score, budget)


def shuffled(data: TrainingData, params: mf.MfParams, budget: Budget) -> Vectors:
    """Good vectors under the wrong items."""
    vectors = mf.fit(data, params, budget)
    order = np.random.default_rng(0).permutation(len(vectors.item_vectors))
    return replace(vectors, item_vectors=np.asarray(vectors.item_vectors)[order])


def noise(data: TrainingData, params: mf.MfParams, budget: Budget) -> Vectors:
    """Vectors of noise: worse than popularity."""
    vectors = mf.fit(data, params, budget)
    random = np.random.default_rng(0).standard_normal(vectors.item_vectors.shape).astype(np.float32)
    return replace(vectors, item_vectors=random)


SHUFFLED = Model(tune, shuffled, mf.MfParams)
NOISE = Model(tune, noise, mf.MfParams)
