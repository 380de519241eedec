"""The contract of a model, and the table of all models.

A model is a `Model`: a function that tunes it and one that fits it. `MODELS` names each as a dotted string, so that a
look-up loads no torch. Adding a model is a file with a `Model` and one line here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import ConfigError
from recsys.imports import resolve
from recsys.models.budget import Budget
from recsys.models.vectors import Vectors

ALL_TIME_DAYS = 36500.0  # a half-life after which nothing is forgotten

MODELS: dict[str, str] = {
    "popularity": "recsys.models.popularity:MODEL",
    "mf": "recsys.models.mf.model:MODEL",
    "two_tower": "recsys.models.two_tower.model:MODEL",
    "sequence": "recsys.models.sequence.model:MODEL",
    "auto": "recsys.models.blend:MODEL",
}

Score = Callable[[Vectors], float]
"""NDCG@20 on validation of vectors trained on the data that is tuned on; higher is better."""


@dataclass(frozen=True)
class Workers:
    """Processes that train a model's tables together."""

    count: int  # on this machine
    folder: Path  # through which they get their work, and which all their machines see


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from, and on what."""

    events: Interactions  # U users, I items
    catalog: Catalog  # row r is item r of the events; I rows
    now: int  # microseconds: the moment from which the ages of events are counted
    kind_weights: tuple[float, ...]  # by kind code
    target_codes: tuple[int, ...]  # kinds that have to be foreseen
    half_life_days: tuple[float, ...]  # candidates for the decay of a history
    seed: int = 0  # of whatever is random: the same seed gives the same vectors
    device: str = "cpu"  # "cpu", "cuda", or "auto": a GPU when there is one
    workers: Workers | None = None  # None: this process trains alone

    @property
    def timeless(self) -> bool:
        """Whether all events have the same time, so that there is neither age nor order to learn from."""
        times = self.events.times
        return len(times) == 0 or bool(times.min() == times.max())

    def recent_demand(self, half_life_days: float) -> npt.NDArray[np.float64]:
        """The weights of each item's events, halved every `half_life_days`: [I]."""
        events = self.events
        ages = (self.now - events.times) / MICROSECONDS_PER_DAY
        weights = np.asarray(self.kind_weights)[events.kinds] * np.exp2(-ages / half_life_days)
        return np.bincount(events.items, weights, minlength=events.item_count).astype(np.float64)


class Tune(Protocol):
    """How a model's params are chosen."""

    def __call__(self, data: TrainingData, space: Any, score: Score, budget: Budget) -> Vectors | None:
        """Choose params by `score` and return the vectors that were trained with them; see `Model`.

        space: what to choose from: the model's table of the configuration, see settings_of.
        Whatever is scored bears the params with which the same vectors can be fitted again. None when `budget` ended
        the search: the caller goes on with the best that was scored.
        """
        ...


class Fit(Protocol):
    """How a model is trained once its params are chosen."""

    def __call__(self, data: TrainingData, params: Any, budget: Budget) -> Vectors:
        """Train with these params to the end, and show progress through `budget`, which sets no limit here."""
        ...


class Model(NamedTuple):
    """A model: a value of MODELS, or of a dotted name in the configuration.

    `Vectors.settings` holds the params as plain values for the manifest; `params(**settings)` makes them typed again.
    """

    tune: Tune
    fit: Fit
    params: Callable[..., Any] = dict


def find_model(name: str, known: Mapping[str, str] = MODELS) -> Model:
    """The model of that name, or behind a dotted name. Raises ConfigError for a name without a `Model` behind it."""
    found = resolve(name, dict(known))
    if not isinstance(found, Model):
        raise ConfigError(f"{name!r} is a {type(found).__name__}; a recsys.models.contract.Model is needed")
    return found


def fit(name: str, data: TrainingData, settings: Mapping[str, Any], budget: Budget) -> Vectors:
    """Train a model with the settings of vectors that were trained before."""
    model = find_model(name)
    return model.fit(data, model.params(**settings), budget)


def settings_of(models: Any, name: str) -> Any:
    """A model's table of `[models]`; all of them for `auto`, which tunes others; None for a model that has none."""
    return models if name == "auto" else getattr(models, name, None)
