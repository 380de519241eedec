"""Two towers, trained from a spectral start with a sampled softmax.

User tower: the weighted sum of the history, without the positive. Item tower: id, category, brand, price bucket and
title words. Users have length 1, and so have items where that serves better on validation. How much an item is in
demand at present is one more dimension: the constant 1 on the user's side, demand * ln(1 + recent demand) on the
item's. Sources: X. Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations",
RecSys 2019, for the towers and the correction of the sample.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recsys.config.settings import TwoTowerSettings
from recsys.data.arrays import Array, Float32
from recsys.data.features import item_tokens
from recsys.models.contract import ALL_TIME_DAYS, TrainingData
from recsys.models.coordinate_search import Settings, coordinate_search, middle
from recsys.models.demand import beside_demand, demand_column, demand_part
from recsys.models.device import pick_device, pick_precision, precision_named
from recsys.models.distributed.sharded import Progress
from recsys.models.distributed.torchrun import Work, WorkerTask, train_together
from recsys.models.item_encoder import fill_in, shared_tokens
from recsys.models.mf.model import Spectral
from recsys.models.negatives import draw_by
from recsys.models.two_tower.towers import Pairs, Towers, leave_one_out_positives
from recsys.models.vectors import Part, Vectors, WeightedSum, token_matrix

_LENGTH_EXPONENT = 0.2  # free lengths start at the item's weight to this power, their median at 1
_TRIAL_POSITIVES = 500_000  # fewer mislead: training first loses some of the start, at each temperature another part
_FIXED = {"dim", "max_events_per_epoch", "batch_size", "negatives", "learning_rate"}  # settings that are not chosen

Report = Callable[[str, float], None]


def train(
    data: TrainingData,
    settings: TwoTowerSettings | Settings,
    *,
    score: Callable[[Vectors], float] | None,
    seed: int,
    device: str,
    report: Report,
) -> Vectors:
    """See recsys.models.contract.Train.

    Raises ValueError when there is something to choose and no score to choose by.
    """
    model = _Model(data, settings, seed, pick_device(device), report)
    if isinstance(settings, dict):
        return model.finished(model.trained(settings), settings)
    if score is None:
        raise ValueError("two_tower has settings to choose and no validation score to choose by")
    return _choose(model, settings, score)


def _choose(model: "_Model", settings: TwoTowerSettings, score: Callable[[Vectors], float]) -> Vectors:
    """Decay and demand by the start; temperature and lengths by the first epoch; epochs by stopping early."""
    values = model.values(settings)
    chosen: Settings = {name: middle(allowed) for name, allowed in values.items()}
    chosen |= {"temperature": settings.temperatures[0], "normalize_items": settings.normalize_items[0], "epochs": 0}
    chosen |= _fixed(settings)
    chosen = coordinate_search(values, _scored_at_the_start(model, chosen, score), start=chosen, rounds=2)
    chosen = _by_a_short_epoch(model, settings, {**chosen, "epochs": 1}, score)
    towers = model.towers(chosen)
    start = model.vectors(towers, {**chosen, "epochs": 0})
    start_score = score(start)
    best_score, waited = -1.0, 0  # of the passes: the first may lose some of the start, and the next make up for it
    with closing(model.passes(towers, chosen, settings.epochs)) as epochs:
        for epoch in epochs:
            vectors = model.vectors(towers, {**chosen, "epochs": epoch})
            found = score(vectors)
            waited += 1
            if found > best_score:
                best_score, kept, waited = found, vectors, 0
            if waited >= settings.patience:
                break
    if start_score >= best_score:
        kept = start
    final = coordinate_search(
        {"demand": values["demand"]}, _scored_with_demand(model, kept, score), start=kept.settings, rounds=1
    )
    return model.with_demand(kept, final)


def _scored_at_the_start(
    model: "_Model", chosen: Settings, score: Callable[[Vectors], float]
) -> Callable[[Settings], float]:
    """The score of untrained towers; those of the last half-life are kept, for they take a while to build."""

    @lru_cache(maxsize=1)
    def start(half_life_days: float) -> Vectors:
        settings = {**chosen, "half_life_days": half_life_days}
        return model.vectors(model.towers(settings), settings)

    return lambda tried: score(model.with_demand(start(tried["half_life_days"]), tried))


def _by_a_short_epoch(
    model: "_Model", settings: TwoTowerSettings, start: Settings, score: Callable[[Vectors], float]
) -> Settings:
    """The temperature, then whether items have length 1, that serve best after an epoch of a sample of the events."""
    if len(settings.temperatures) == len(settings.normalize_items) == 1:
        return start
    best, best_score, known = start, -1.0, []
    for name, allowed in (("temperature", settings.temperatures), ("normalize_items", settings.normalize_items)):
        for value in allowed:
            tried = {**best, name: value}
            if (tried["temperature"], tried["normalize_items"]) in known:
                continue
            known.append((tried["temperature"], tried["normalize_items"]))
            towers = model.towers(tried)
            if (
                min(towers.pairs.weights.nnz, settings.max_events_per_epoch) > _TRIAL_POSITIVES
            ):  # else it is a pass like any
                tried["most"] = _TRIAL_POSITIVES
            model.train_epoch(towers, tried, 1)
            # A larger temperature makes the taste count for less beside demand, so demand is chosen again.
            vectors = model.vectors(towers, tried)
            demand = {"demand": settings.trend_weights}
            tried = coordinate_search(demand, _scored_with_demand(model, vectors, score), start=tried, rounds=1)
            if (found := score(model.with_demand(vectors, tried))) > best_score:
                best, best_score = tried, found
    return {name: value for name, value in best.items() if name != "most"}


def _scored_with_demand(
    model: "_Model", vectors: Vectors, score: Callable[[Vectors], float]
) -> Callable[[Settings], float]:
    return lambda tried: score(model.with_demand(vectors, tried))


def _fixed(settings: TwoTowerSettings) -> dict[str, Any]:
    return settings.model_dump(include=_FIXED)


def _settings(fixed: Mapping[str, Any]) -> TwoTowerSettings:
    return TwoTowerSettings(**{key: fixed[key] for key in _FIXED})


def _most(chosen: Settings) -> int:
    """The positives that an epoch ends after; "most" of the settings, where it is there, makes it a shorter one."""
    whole = int(chosen["max_events_per_epoch"])
    return min(whole, int(chosen.get("most", whole)))


def pupil(facts: Mapping[str, Any], arrays: Mapping[str, Array], device: torch.device) -> WorkerTask:
    """The towers as a worker of a group trains them; facts and arrays are those of `_Model.passes`."""
    chosen, seed, draw = facts["chosen"], facts["seed"], np.asarray(arrays["draw"], np.float64)
    pairs = Pairs.from_arrays(arrays)
    precision = precision_named(facts["precision"])
    towers = Towers(
        pairs, None, _settings(chosen), device, normalize_items=chosen["normalize_items"], precision=precision
    )

    def train_epoch(epoch: int, report: Callable[[float], None]) -> float:
        generator = np.random.default_rng([seed, epoch])
        return towers.train_epoch(chosen["temperature"], draw, generator, report, _most(chosen))

    return WorkerTask(Progress({"tables": towers.tables}), train_epoch)


class _Model:
    """The data as the towers need it."""

    def __init__(
        self, data: TrainingData, settings: TwoTowerSettings | Settings, seed: int, device: torch.device, report: Report
    ) -> None:
        fixed = settings if isinstance(settings, dict) else _fixed(settings)
        self.data, self._seed, self._device, self._report = data, seed, device, report
        self._settings, self._precision = _settings(fixed), pick_precision(device)
        self._spectral = Spectral(data, seed, device)
        tokens = item_tokens(data.catalog.columns)
        counts = np.bincount(data.events.items, minlength=data.events.item_count)
        self._has_events = counts > 0
        self._features = token_matrix(tokens, shared_tokens(tokens, self._has_events))

    def values(self, settings: TwoTowerSettings) -> Mapping[str, tuple[float, ...]]:
        """What is chosen by the start alone: nothing about time where all events have the same."""
        timeless = self.data.timeless
        days = settings.recency_half_life_days
        return {
            "half_life_days": (ALL_TIME_DAYS,) if timeless else self.data.half_life_days,
            "recency_half_life_days": (ALL_TIME_DAYS,) if timeless else days,
            "demand": settings.trend_weights,
        }

    def towers(self, chosen: Settings) -> Towers:
        """Towers at their spectral start."""
        history, item = self._spectral.start(chosen["half_life_days"], self._settings.dim)
        weights = self._spectral.history_weights(chosen["half_life_days"])
        if not chosen["normalize_items"]:
            item = item * np.asarray(weights.sum(axis=0), np.float32)[:, None] ** _LENGTH_EXPONENT
        start = _of_length_1(history), _of_length_1(item)
        pairs = Pairs(leave_one_out_positives(weights), self._features)
        fixed = self._settings, self._device
        return Towers(pairs, start, *fixed, normalize_items=chosen["normalize_items"], precision=self._precision)

    def trained(self, chosen: Settings) -> Towers:
        """Towers after the chosen number of epochs."""
        towers = self.towers(chosen)
        with closing(self.passes(towers, chosen, chosen["epochs"])) as epochs:
            for _ in epochs:
                pass
        return towers

    def passes(self, towers: Towers, chosen: Settings, epochs: int) -> Generator[int]:
        """Train for so many epochs, and yield after each: 1, 2, …; closing it ends the training.

        Each has a seed of its own, so that stopping after it and training up to it agree.
        """
        draw, workers = self._draw(chosen), self.data.workers
        if workers is None or not draw.any():
            for epoch in range(1, epochs + 1):
                self.train_epoch(towers, chosen, epoch)
                yield epoch
            return
        facts = {"chosen": chosen, "seed": self._seed, "precision": str(self._precision)}
        work = Work("recsys.models.two_tower.model:pupil", facts, {**towers.pairs.arrays, "draw": draw})
        with closing(
            train_together(
                workers, work, Progress({"tables": towers.tables}), epochs, self._device, partial(self._told, chosen)
            )
        ) as ended:
            yield from ended

    def train_epoch(self, towers: Towers, chosen: Settings, epoch: int) -> None:
        """One epoch here."""
        draw = self._draw(chosen)
        if draw.any():
            generator = np.random.default_rng([self._seed, epoch])
            told = self._told(chosen, f"epoch {epoch}")
            towers.train_epoch(chosen["temperature"], draw, generator, told, _most(chosen))

    def _told(self, chosen: Settings, what: str) -> Callable[[float], None]:
        step = f"two_tower: {what}, temperature {chosen['temperature']:g}"
        return lambda done: self._report(step, done)

    def _draw(self, chosen: Settings) -> npt.NDArray[np.float64]:
        """By what negatives are drawn, [I]; all 0 where there is nothing to learn from."""
        weights = np.asarray(self._spectral.history_weights(chosen["half_life_days"]).sum(axis=0), np.float64)
        return draw_by(weights, weights > 0)

    def vectors(self, towers: Towers, chosen: Settings) -> Vectors:
        """What the towers have learnt, as the waist wants it; items without events keep zeros."""
        encoder = WeightedSum(self.data.kind_weights, chosen["half_life_days"], scaling="unit")
        item = towers.item_vectors / np.float32(chosen["temperature"])
        item[~self._has_events] = 0
        history = towers.history_vectors
        with_demand = np.concatenate([item, demand_column(self.data, chosen)], axis=1)
        parts = (Part(history, encoder), demand_part(len(item)))
        return Vectors("two_tower", with_demand, parts, None, dict(chosen))

    def with_demand(self, vectors: Vectors, chosen: Settings) -> Vectors:
        """The same vectors with another weight of demand."""
        item = vectors.item_vectors.copy()
        item[:, -1:] = demand_column(self.data, chosen)
        return replace(vectors, item_vectors=item, settings=dict(chosen))

    def finished(self, towers: Towers, chosen: Settings) -> Vectors:
        """The vectors, with an item encoder for what has no events or comes later."""
        vectors = self.vectors(towers, chosen)
        item, history = vectors.item_vectors.copy(), vectors.parts[0].history_vectors.copy()
        encoder = fill_in(self.data.catalog, item, history, self._has_events, device=self._device)
        parts = (replace(vectors.parts[0], history_vectors=history), vectors.parts[1])
        return replace(vectors, item_vectors=item, parts=parts, item_encoder=beside_demand(encoder))


def _of_length_1(table: Float32) -> Float32:
    """The rows times what gives their median, of those that are not zero, length 1.

    For Adagrad: its steps are as long whatever the rows are, and would soon undo a start of short ones.
    """
    lengths = np.linalg.norm(table, axis=1)
    return table / np.float32(np.median(lengths[lengths > 0])) if lengths.any() else table
