"""Two towers, trained from a spectral start with a sampled softmax.

User tower: the weighted sum of the history, without the positive. Item tower: id, category, brand, price bucket and
title words. Users have length 1, and so have items where that serves better on validation. The present demand for an
item is one more dimension, see recsys.models.trend. Sources: X. Yi et al., "Sampling-bias-corrected neural modeling for
large corpus item recommendations", RecSys 2019, for the towers and the correction of the sample.
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
from recsys.models.budget import Budget
from recsys.models.contract import ALL_TIME_DAYS, Model, Score, TrainingData
from recsys.models.coordinate_search import coordinate_search, middle
from recsys.models.device import pick_device, pick_precision, precision_named
from recsys.models.distributed.torchrun import Work, WorkerTask
from recsys.models.epochs import EarlyStopping, Group, train_epochs
from recsys.models.item_encoder import fill_in, shared_tokens
from recsys.models.mf.model import Spectral
from recsys.models.negatives import draw_by
from recsys.models.trend import beside_trend, trend_column, trend_part
from recsys.models.two_tower.towers import Pairs, Towers, TwoTowerParams, leave_one_out_positives
from recsys.models.vectors import Part, Vectors, WeightedSum, token_matrix

_LENGTH_EXPONENT = 0.2  # free lengths start at the item's weight to this power, their median at 1
_TRIAL_POSITIVES = 500_000  # fewer mislead: training first loses some of the start, at each temperature another part
_FIXED = {"dim", "max_events_per_epoch", "batch_size", "negatives", "learning_rate"}  # settings that are not chosen


def tune(data: TrainingData, space: TwoTowerSettings, score: Score, budget: Budget) -> Vectors | None:
    """See recsys.models.contract.Tune.

    Decay and trend are chosen by the start, temperature and lengths by a first epoch, epochs by stopping early.
    """
    model = _Model(data)
    params = _by_the_start(model, space, score, budget)
    params = _by_a_short_epoch(model, space, params, score, budget)
    if budget.stopped:
        return None
    kept = _by_stopping_early(model, space, params, score, budget)
    if budget.stopped:
        return None
    return _with_best_trend(model, space, kept, score, budget)


def fit(data: TrainingData, params: TwoTowerParams, budget: Budget) -> Vectors:
    """See recsys.models.contract.Fit."""
    model = _Model(data)
    towers = model.towers(params)
    with closing(model.train(towers, params, params.epochs, budget)) as epochs:
        for _ in epochs:
            pass
    return model.with_item_encoder(model.vectors(towers, params))


MODEL = Model(tune, fit, TwoTowerParams)


def _by_the_start(model: "_Model", space: TwoTowerSettings, score: Score, budget: Budget) -> TwoTowerParams:
    """The decay and the trend that serve best before any training."""
    values = model.values(space)
    params = TwoTowerParams(
        **{name: middle(allowed) for name, allowed in values.items()},
        temperature=space.temperatures[0],
        normalize_items=space.normalize_items[0],
        epochs=0,
        **space.model_dump(include=_FIXED),
    )

    @lru_cache(maxsize=1)  # values of the trend are tried one after the other, and a start takes a while to build
    def start(half_life_days: float) -> Vectors:
        tried = params.model_copy(update={"half_life_days": half_life_days})
        return model.vectors(model.towers(tried), tried)

    def score_of(tried: TwoTowerParams) -> float:
        return score(model.with_trend(start(tried.half_life_days), tried))

    return coordinate_search(values, score_of, start=params, rounds=2, expired=budget.expired)


def _by_a_short_epoch(
    model: "_Model", space: TwoTowerSettings, start: TwoTowerParams, score: Score, budget: Budget
) -> TwoTowerParams:
    """The temperature, then whether items have length 1, that serve best after an epoch of a sample of the events."""
    best = start.model_copy(update={"epochs": 1})
    if len(space.temperatures) == len(space.normalize_items) == 1:
        return best
    best_score, known = -1.0, []
    for name, allowed in (("temperature", space.temperatures), ("normalize_items", space.normalize_items)):
        for value in allowed:
            tried = best.model_copy(update={name: value})
            if (tried.temperature, tried.normalize_items) in known:
                continue
            if budget.expired():
                return best
            known.append((tried.temperature, tried.normalize_items))
            tried, towers = model.after_a_short_epoch(tried, budget)
            if budget.stopped:
                return best
            vectors = model.vectors(towers, tried)
            # A larger temperature makes the taste count for less beside the trend, whose weight is chosen again.
            tried = _best_trend(model, {"trend_weight": space.trend_weights}, vectors, tried, score, budget)
            if (found := score(model.with_trend(vectors, tried))) > best_score:
                best, best_score = tried, found
    return best.model_copy(update={"max_events_per_epoch": space.max_events_per_epoch})


def _by_stopping_early(
    model: "_Model", space: TwoTowerSettings, params: TwoTowerParams, score: Score, budget: Budget
) -> Vectors:
    """The vectors of the best epoch, or of the start where training only harms."""
    towers = model.towers(params)
    start = model.vectors(towers, params.model_copy(update={"epochs": 0}))
    start_score = score(start)
    # Of the epochs alone: the first may lose some of the start, and the next make up for it.
    stopping = EarlyStopping[Vectors](space.patience)
    with closing(model.train(towers, params, space.epochs, budget)) as epochs:
        for epoch in epochs:
            vectors = model.vectors(towers, params.model_copy(update={"epochs": epoch}))
            stopping.keep(epoch, score(vectors), vectors)
            if not stopping.goes_on:
                break
    return start if stopping.best is None or start_score >= stopping.best_score else stopping.best


def _with_best_trend(
    model: "_Model", space: TwoTowerSettings, vectors: Vectors, score: Score, budget: Budget
) -> Vectors | None:
    params = TwoTowerParams(**vectors.settings)
    params = _best_trend(model, {"trend_weight": model.values(space)["trend_weight"]}, vectors, params, score, budget)
    return None if budget.stopped else model.with_trend(vectors, params)


def _best_trend(
    model: "_Model",
    values: Mapping[str, tuple[float, ...]],
    vectors: Vectors,
    start: TwoTowerParams,
    score: Score,
    budget: Budget,
) -> TwoTowerParams:
    return coordinate_search(
        values,
        lambda tried: score(model.with_trend(vectors, tried)),
        start=start,
        rounds=1,
        expired=budget.expired,
    )


def worker_task(facts: Mapping[str, Any], arrays: Mapping[str, Array], device: torch.device) -> WorkerTask:
    """The towers as a worker of a group trains them; facts and arrays are those of `_Model.train`."""
    towers = Towers(
        Pairs.from_arrays(arrays),
        None,
        TwoTowerParams(**facts["params"]),
        np.asarray(arrays["draw"], np.float64),
        device,
        seed=facts["seed"],
        precision=precision_named(facts["precision"]),
    )
    return WorkerTask(towers.state, towers.train_epoch)


class _Model:
    """The data as the towers need it, and what they learned as vectors."""

    def __init__(self, data: TrainingData) -> None:
        self.data, self._device = data, pick_device(data.device)
        self._precision = pick_precision(self._device)
        self._spectral = Spectral(data)
        tokens = item_tokens(data.catalog.columns)
        counts = np.bincount(data.events.items, minlength=data.events.item_count)
        self._has_events = counts > 0
        self._features = token_matrix(tokens, shared_tokens(tokens, self._has_events))

    def values(self, space: TwoTowerSettings) -> Mapping[str, tuple[float, ...]]:
        """What is chosen by the start alone: nothing about time where all events have the same."""
        timeless = self.data.timeless
        days = space.recency_half_life_days
        return {
            "half_life_days": (ALL_TIME_DAYS,) if timeless else self.data.half_life_days,
            "recency_half_life_days": (ALL_TIME_DAYS,) if timeless else days,
            "trend_weight": space.trend_weights,
        }

    def towers(self, params: TwoTowerParams) -> Towers:
        """Towers at their spectral start."""
        history, item = self._spectral.start(params.half_life_days, params.dim)
        weights = self._spectral.history_weights(params.half_life_days)
        if not params.normalize_items:
            item = item * np.asarray(weights.sum(axis=0), np.float32)[:, None] ** _LENGTH_EXPONENT
        start = _of_length_1(history), _of_length_1(item)
        pairs, fixed = Pairs(leave_one_out_positives(weights), self._features), (self._draw(params), self._device)
        return Towers(pairs, start, params, *fixed, seed=self.data.seed, precision=self._precision)

    def train(self, towers: Towers, params: TwoTowerParams, epochs: int, budget: Budget) -> Generator[int]:
        """Train for so many epochs, and yield after each: 1, 2, …; see train_epochs."""
        group, draw = None, self._draw(params)
        if self.data.workers is not None and draw.any():
            facts = {"params": params.model_dump(), "seed": self.data.seed, "precision": str(self._precision)}
            work = Work("recsys.models.two_tower.model:worker_task", facts, {**towers.pairs.arrays, "draw": draw})
            group = Group(self.data.workers, work, self._device)
        task = WorkerTask(towers.state, towers.train_epoch)
        return train_epochs(task, range(1, epochs + 1), budget, step=_step_of(params), group=group)

    def after_a_short_epoch(self, params: TwoTowerParams, budget: Budget) -> tuple[TwoTowerParams, Towers]:
        """Towers after an epoch over a sample of the events, here, and the params with which they come out again."""
        positives = leave_one_out_positives(self._spectral.history_weights(params.half_life_days)).nnz
        is_whole = min(positives, params.max_events_per_epoch) <= _TRIAL_POSITIVES
        if not is_whole:
            params = params.model_copy(update={"max_events_per_epoch": _TRIAL_POSITIVES})
        towers = self.towers(params)
        goes_on: Callable[[float], bool] = partial(budget.epoch, step=_step_of(params)("epoch 1"), is_whole=is_whole)
        towers.train_epoch(1, goes_on)
        return params, towers

    def _draw(self, params: TwoTowerParams) -> npt.NDArray[np.float64]:
        """In what proportion negatives are drawn, [I]; all 0 where there is nothing to learn from."""
        weights = np.asarray(self._spectral.history_weights(params.half_life_days).sum(axis=0), np.float64)
        return draw_by(weights, weights > 0)

    def vectors(self, towers: Towers, params: TwoTowerParams) -> Vectors:
        """What the towers have learned; items without events keep zeros."""
        encoder = WeightedSum(self.data.kind_weights, params.half_life_days, scaling="unit")
        item = towers.item_vectors / np.float32(params.temperature)
        item[~self._has_events] = 0
        history = towers.history_vectors
        with_trend = np.concatenate([item, trend_column(self.data, params)], axis=1)
        parts = (Part(history, encoder), trend_part(len(item)))
        return Vectors("two_tower", with_trend, parts, None, params.model_dump())

    def with_trend(self, vectors: Vectors, params: TwoTowerParams) -> Vectors:
        """The same vectors with another weight of the trend."""
        item = vectors.item_vectors.copy()
        item[:, -1:] = trend_column(self.data, params)
        return replace(vectors, item_vectors=item, settings=params.model_dump())

    def with_item_encoder(self, vectors: Vectors) -> Vectors:
        """The vectors with an item encoder, for what has no events or comes later."""
        item, history = vectors.item_vectors.copy(), vectors.parts[0].history_vectors.copy()
        encoder = fill_in(self.data.catalog, item, history, self._has_events, device=self._device)
        parts = (replace(vectors.parts[0], history_vectors=history), vectors.parts[1])
        return replace(vectors, item_vectors=item, parts=parts, item_encoder=beside_trend(encoder))


def _step_of(params: TwoTowerParams) -> Callable[[str], str]:
    return lambda what: f"two_tower: {what}, temperature {params.temperature:g}"


def _of_length_1(table: Float32) -> Float32:
    """The rows times what gives their median, of those that are not zero, length 1.

    For Adagrad: its steps are as long whatever the rows are, and would soon undo a start of short ones.
    """
    lengths = np.linalg.norm(table, axis=1)
    return table / np.float32(np.median(lengths[lengths > 0])) if lengths.any() else table
