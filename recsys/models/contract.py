"""The models: name -> the function that trains it, as a dotted string so that a look-up loads no torch.

Every one has the signature of `Train`. Adding a model is a file with such a function and one line here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.models.vectors import Vectors

ALL_TIME_DAYS = 36500.0  # a half-life after which nothing is forgotten

MODELS: dict[str, str] = {
    "popularity": "recsys.models.popularity:train",
    "mf": "recsys.models.mf.model:train",
    "two_tower": "recsys.models.two_tower.model:train",
    "sequence": "recsys.models.sequence.model:train",
    "auto": "recsys.models.blend:train",
}


@dataclass(frozen=True)
class Workers:
    """Processes that train a model's tables together."""

    count: int  # on this machine
    folder: Path  # through which they get their work, and which all their machines see


@dataclass(frozen=True)
class TrainingData:
    """What a model may learn from."""

    events: Interactions  # U users, I items
    catalog: Catalog  # row r is item r of the events; I rows
    now: int  # microseconds: the moment from which the ages of events are counted
    kind_weights: tuple[float, ...]  # by kind code
    target_codes: tuple[int, ...]  # kinds that have to be foreseen
    half_life_days: tuple[float, ...]  # candidates for the decay of a history
    budget_seconds: float = math.inf  # what `auto` may take to choose
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


class Train(Protocol):
    """How a model is trained."""

    def __call__(
        self,
        data: TrainingData,
        settings: Any,
        *,
        score: Callable[[Vectors], float] | None,
        seed: int,
        device: str,
        report: Callable[[str, float], None],
    ) -> Vectors:
        """Train on `data` and return the vectors.

        settings: what settings_of takes from the configuration, or, when `score` is None, the `settings` of vectors
        trained before, whose choices are then taken as they are.
        score: NDCG@20 on validation of vectors trained on `data`; higher is better. It chooses settings and epochs.
        Vectors that are given to it bear the settings with which they can be trained again: `auto` ends a training
        that takes too long, and goes on with the best that was scored. Where training makes passes over the events,
        "epochs" is how many of them these vectors have seen: `auto` gives up what is far behind after the first.
        device: "cpu" or "cuda". report: is told the name of the step and the share done, 0 to 1; it is asked often, and
        the name of a pass over the events holds " epoch ".
        """
        ...


def settings_of(models: Any, name: str) -> Any:
    """A model's table of `[models]`; all of them for `auto`, which trains others; None for a model that has none."""
    return models if name == "auto" else getattr(models, name, None)
