"""A transformer over the history in its order, with one table of items to read and to search, from a spectral start.

Score: cosine / temperature, trained with a softmax over all items, or over a corrected sample of them where there are
many. The present demand for an item, which a cosine cannot hold, is one more dimension, see recsys.models.trend.
Sources: W.-C. Kang and J. McAuley, "Self-attentive sequential recommendation", ICDM 2018; Y. Hou et al., "CORE", SIGIR
2022, for one space for both sides.
"""

import copy
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from recsys.config.settings import SequenceSettings
from recsys.data.arrays import Array, Float32
from recsys.data.features import item_tokens
from recsys.models.budget import Budget
from recsys.models.contract import ALL_TIME_DAYS, Model, Score, TrainingData
from recsys.models.coordinate_search import coordinate_search
from recsys.models.device import pick_device, pick_precision, precision_named
from recsys.models.distributed.torchrun import Work, WorkerTask
from recsys.models.epochs import EarlyStopping, Group, train_epochs
from recsys.models.item_encoder import fill_in, shared_tokens
from recsys.models.mf.model import Spectral
from recsys.models.onnx_encoder import OnnxEncoder
from recsys.models.sequence.export import export
from recsys.models.sequence.tower import SequenceTower
from recsys.models.sequence.trainer import SequenceParams, TorchEncoder, Trainer, TrainingSet
from recsys.models.trend import beside_trend, trend_column, trend_part
from recsys.models.vectors import Part, UserEncoder, Vectors, token_matrix

_CHOSEN = {"epochs", "patience", "temperatures", "trend_weights", "recency_half_life_days"}  # the rest is given

Snapshot = tuple[Float32, SequenceTower]  # item vectors [I, D] and tower as they were at some moment


def tune(data: TrainingData, space: SequenceSettings, score: Score, budget: Budget) -> Vectors | None:
    """See recsys.models.contract.Tune.

    The trend is chosen by the start and again at the end, the temperature by the first epochs, their number by stopping
    early.
    """
    model = _Model(data)
    values = model.trend_values(space)
    params = SequenceParams(
        **space.model_dump(exclude=_CHOSEN),
        **{name: allowed[0] for name, allowed in values.items()},
        temperature=space.temperatures[0],
        epochs=0,
    )
    runs = list[_Run]()
    for temperature in space.temperatures:
        started = params.model_copy(update={"temperature": temperature})
        runs.append(_Run(model, started, values, space.patience, score, budget))
        if budget.expired():
            return None
    while len(runs) > 1:  # the better half goes on
        for run in runs:
            run.train(run.stopping.epoch + 1, alone=True)
            if budget.stopped:
                return None
        runs = sorted(runs, key=lambda run: -run.stopping.best_score)[: len(runs) // 2]
    run = runs[0]
    if run.stopping.goes_on:
        run.train(space.epochs, alone=run.stopping.epoch > 0)  # here is the optimizers' state
    if budget.stopped or run.stopping.best is None:
        return None
    items, tower = run.stopping.best
    best = run.params.model_copy(update={"epochs": run.stopping.best_epoch})
    best = run.with_best_trend(items, tower, best)
    return None if budget.stopped else model.finished(items, tower, best)


def fit(data: TrainingData, params: SequenceParams, budget: Budget) -> Vectors:
    """See recsys.models.contract.Fit."""
    model = _Model(data)
    trainer = model.trainer(params)
    with closing(model.train(trainer, params, range(1, params.epochs + 1), budget)) as epochs:
        for _ in epochs:
            pass
    return model.finished(trainer.item_vectors, trainer.tower, params)


MODEL = Model(tune, fit, SequenceParams)


class _Run:
    """Training at one temperature, and the best that it has come to."""

    def __init__(
        self,
        model: "_Model",
        params: SequenceParams,
        trend_values: Mapping[str, tuple[float, ...]],
        patience: int,
        score: Score,
        budget: Budget,
    ) -> None:
        self._model, self._trend_values, self._score, self._budget = model, trend_values, score, budget
        self._trainer = model.trainer(params)
        self.stopping = EarlyStopping[Snapshot](patience)
        self.params = self.with_best_trend(*self._snapshot(), params)
        self._evaluate(0)

    def with_best_trend(self, items: Float32, tower: SequenceTower, params: SequenceParams) -> SequenceParams:
        """The params with the trend that serves best beside what the tower says."""
        encoder = TorchEncoder(tower)
        return coordinate_search(
            self._trend_values,
            lambda tried: self._score(self._model.vectors(items, encoder, tried)),
            start=params,
            rounds=2,
            expired=self._budget.expired,
        )

    def train(self, last_epoch: int, *, alone: bool) -> None:
        """Go on up to that epoch, until that no longer helps, or until the budget ends. alone: without workers."""
        epochs = range(self.stopping.epoch + 1, last_epoch + 1)
        with closing(self._model.train(self._trainer, self.params, epochs, self._budget, alone=alone)) as ended:
            for epoch in ended:
                self._evaluate(epoch)
                if not self.stopping.goes_on:
                    break

    def _snapshot(self) -> Snapshot:
        """Items and tower as they are now: whoever scores them may keep them."""
        return self._trainer.item_vectors, copy.deepcopy(self._trainer.tower)

    def _evaluate(self, epoch: int) -> None:
        items, tower = self._snapshot()
        reached = self.params.model_copy(update={"epochs": epoch})
        self.stopping.keep(epoch, self._score(self._model.vectors(items, TorchEncoder(tower), reached)), (items, tower))


class _Model:
    """The data as the trainer needs it, and what it learned as vectors."""

    def __init__(self, data: TrainingData) -> None:
        self.data, self._device = data, pick_device(data.device)
        self._precision = pick_precision(self._device)
        self._has_events = np.bincount(data.events.items, minlength=data.events.item_count) > 0
        tokens = item_tokens(data.catalog.columns)
        features = token_matrix(tokens, shared_tokens(tokens, self._has_events))
        self._training_set = TrainingSet(data.events, features, np.asarray(data.kind_weights, np.float32))

    def trainer(self, params: SequenceParams) -> Trainer:
        """A trainer at its spectral start."""
        start = _directions(Spectral(self.data).start(ALL_TIME_DAYS, params.dim)[1])
        return Trainer(self._training_set, start, params, self._device, self.data.seed, self._precision)

    def train(
        self, trainer: Trainer, params: SequenceParams, epochs: range, budget: Budget, *, alone: bool = False
    ) -> Generator[int]:
        """Train the epochs and yield each; see train_epochs. alone: without workers."""
        group = None
        if self.data.workers is not None and not alone:
            facts = {"params": params.model_dump(), "seed": self.data.seed, "precision": str(self._precision)}
            work = Work("recsys.models.sequence.model:worker_task", facts, self._training_set.arrays)
            group = Group(self.data.workers, work, self._device)
        task = WorkerTask(trainer.state, trainer.train_epoch)
        return train_epochs(task, epochs, budget, step=_step_of(params), group=group)

    def trend_values(self, space: SequenceSettings) -> Mapping[str, tuple[float, ...]]:
        """What is tried for the trend: one half-life where all events have the same time."""
        days = (ALL_TIME_DAYS,) if self.data.timeless else space.recency_half_life_days
        return {"trend_weight": space.trend_weights, "recency_half_life_days": days}

    def vectors(self, items: Float32, encoder: UserEncoder, params: SequenceParams) -> Vectors:
        """Items of length 1 [I, D] as vectors that are searched by cosine / temperature plus trend."""
        item = np.concatenate([items / np.float32(params.temperature), trend_column(self.data, params)], axis=1)
        parts = (Part(items, encoder), trend_part(len(items)))
        return Vectors("sequence", item, parts, None, params.model_dump())

    def finished(self, items: Float32, tower: SequenceTower, params: SequenceParams) -> Vectors:
        """The vectors with an item encoder, for what has no events or comes later, and the tower exported."""
        vectors = self.vectors(items, OnnxEncoder(tower.shape.length, export(tower)), params)
        item, history = vectors.item_vectors, items.copy()
        encoder = fill_in(self.data.catalog, item, history, self._has_events, device=self._device)
        parts = (replace(vectors.parts[0], history_vectors=history), vectors.parts[1])
        return replace(vectors, parts=parts, item_encoder=beside_trend(encoder))


def worker_task(facts: Mapping[str, Any], arrays: Mapping[str, Array], device: torch.device) -> WorkerTask:
    """The trainer of a worker in a group; facts and arrays are those of `_Model.train`."""
    training_set, params = TrainingSet.from_arrays(arrays), SequenceParams(**facts["params"])
    trainer = Trainer(training_set, None, params, device, facts["seed"], precision_named(facts["precision"]))
    return WorkerTask(trainer.state, trainer.train_epoch)


def _step_of(params: SequenceParams) -> Callable[[str], str]:
    return lambda what: f"sequence: {what}, temperature {params.temperature:g}"


def _directions(start: Float32) -> Float32:
    """The start's rows at length 1; rows of zeros get a random direction, the same every time."""
    lengths = np.linalg.norm(start, axis=1, keepdims=True)
    chance = np.random.default_rng(0).standard_normal(start.shape).astype(np.float32)
    chance /= np.linalg.norm(chance, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, start / np.maximum(lengths, np.float32(1e-6)), chance).astype(np.float32)
