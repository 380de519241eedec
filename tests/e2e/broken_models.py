"""Models as they come out of a night that went wrong; named by dotted path in the configuration."""

from dataclasses import replace
from typing import Any

import numpy as np

from recsys.config.settings import MfSettings
from recsys.models.contract import TrainingData
from recsys.models.mf.model import train
from recsys.models.vectors import Vectors


def shuffled(data: TrainingData, settings: Any, **rest: Any) -> Vectors:
    """Good vectors under the wrong items."""
    vectors = train(data, settings or MfSettings(n_factors=(32,)), **rest)
    order = np.random.default_rng(0).permutation(len(vectors.item_vectors))
    return replace(vectors, item_vectors=np.asarray(vectors.item_vectors)[order])


def noise(data: TrainingData, settings: Any, **rest: Any) -> Vectors:
    """Vectors of noise: worse than popularity."""
    vectors = train(data, settings or MfSettings(n_factors=(32,)), **rest)
    random = np.random.default_rng(0).standard_normal(vectors.item_vectors.shape).astype(np.float32)
    return replace(vectors, item_vectors=random)
