"""A transformer over the history in its order, one table of items read and searched for alike, from a spectral start.

Score: cosine / temperature, trained with a softmax over all items, or over a corrected sample of them where there are
many. What the cosine cannot hold, how much an item is in demand at present, is one more dimension: the constant 1 on
the user's side, demand * ln(1 + recent demand) on the item's. Sources: W.-C. Kang and J. McAuley, "Self-attentive
sequential recommendation", ICDM 2018; Y. Hou et al., "CORE", SIGIR 2022, for one space for both sides.
"""

import copy
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from recsys.config.settings import SequenceSettings
from recsys.data.arrays import Array, Float32
from recsys.data.features import item_tokens
from recsys.models.contract import ALL_TIME_DAYS, TrainingData
from recsys.models.coordinate_search import Settings, coordinate_search
from recsys.models.demand import beside_demand, demand_column, demand_part
from recsys.models.device import pick_device, pick_precision, precision_named
from recsys.models.distributed.torchrun import Work, WorkerTask, train_together
from recsys.models.item_encoder import fill_in, shared_tokens
from recsys.models.mf.model import Spectral
from recsys.models.onnx_encoder import OnnxEncoder
from recsys.models.sequence.export import export
from recsys.models.sequence.tower import SequenceTower
from recsys.models.sequence.trainer import TorchEncoder, Trainer, TrainingSet
from recsys.models.vectors import Part, UserEncoder, Vectors, token_matrix

_CHOSEN = {
    "epochs",
    "patience",
    "temperatures",
    "trend_weights",
    "recency_half_life_days",
}  # what is no part of a Learner

Report = Callable[[str, float], None]
Score = Callable[[Vectors], float]


def train(
    data: TrainingData,
    settings: SequenceSettings | Settings,
    *,
    score: Score | None,
    seed: int,
    device: str,
    report: Report,
) -> Vectors:
    """See recsys.models.contract.Train.

    Raises ValueError when there is something to choose and no score to choose by.
    """
    model = _Model(data, seed, pick_device(device), report)
    if isinstance(settings, dict):
        learner = model.learner(settings)
        with closing(model.passes(learner, settings, settings["epochs"])) as epochs:
            for _ in epochs:
                pass
        return model.finished(learner.item_vectors, learner.tower, settings)
    if score is None:
        raise ValueError("sequence has settings to choose and no validation score to choose by")
    return _choose(model, settings, score)


def _choose(model: "_Model", settings: SequenceSettings, score: Score) -> Vectors:
    """Demand by the start and again at the end, the temperature by the first epochs, their number by stopping early."""
    fixed = settings.model_dump(exclude=_CHOSEN)
    values = model.demand_values(settings)
    start = {**fixed, "epochs": 0, **{name: allowed[0] for name, allowed in values.items()}}
    runs = [_Run(model, {**start, "temperature": temperature}, values, score) for temperature in settings.temperatures]
    while len(runs) > 1:  # half of them go on
        for run in runs:
            run.train_epoch()
        runs = sorted(runs, key=lambda run: -run.best_score)[: len(runs) // 2]
    run = runs[0]
    with closing(run.passes(settings.epochs)) as passes:
        while run.epoch - run.best_epoch < settings.patience and next(passes, None):
            pass
    return model.finished(run.best_items, run.best_tower, run.with_demand(run.best_items, run.best_tower, run.chosen))


class _Run:
    """Training at one temperature, and the best that it has come to."""

    def __init__(
        self, model: "_Model", chosen: Settings, demand_values: Mapping[str, tuple[float, ...]], score: Score
    ) -> None:
        self._model, self._demand_values, self._score = model, demand_values, score
        self._learner = model.learner(chosen)
        self._settings = self.with_demand(*self._snapshot(), chosen)
        self.epoch = self.best_epoch = 0
        self.best_score = -1.0
        self._judge()

    def with_demand(self, items: Float32, tower: SequenceTower, chosen: Settings) -> Settings:
        """The settings with the demand that serves best beside what the tower says."""
        encoder = TorchEncoder(tower)
        return coordinate_search(
            self._demand_values,
            lambda tried: self._score(self._model.vectors(items, encoder, tried)),
            start=chosen,
            rounds=2,
        )

    @property
    def chosen(self) -> Settings:
        """The settings with which training comes to the same again."""
        return {**self._settings, "epochs": self.best_epoch}

    def train_epoch(self) -> None:
        """One epoch more, here."""
        self.epoch += 1
        self._model.train_epoch(self._learner, self.epoch, self._settings)
        self._judge()

    def passes(self, epochs: int) -> Generator[int]:
        """Go on up to so many epochs, yield after each; here where it has begun here, as the optimisers' state is."""
        if self.epoch == 0:
            with closing(self._model.passes(self._learner, self._settings, epochs)) as ended:
                for self.epoch in ended:
                    self._judge()
                    yield self.epoch
        while self.epoch < epochs:
            self.train_epoch()
            yield self.epoch

    def _snapshot(self) -> tuple[Float32, SequenceTower]:
        """Items and tower as they are now: whoever scores them may keep them."""
        return self._learner.item_vectors, copy.deepcopy(self._learner.tower)

    def _judge(self) -> None:
        items, tower = self._snapshot()
        reached = {**self._settings, "epochs": self.epoch}
        found = self._score(self._model.vectors(items, TorchEncoder(tower), reached))
        if found > self.best_score:
            self.best_score, self.best_epoch = found, self.epoch
            self.best_items, self.best_tower = items, tower


class _Model:
    """The data as the learner needs it, and what it has learnt as the waist wants it."""

    def __init__(self, data: TrainingData, seed: int, device: torch.device, report: Report) -> None:
        self.data, self._seed, self._device, self._report = data, seed, device, report
        self._precision = pick_precision(device)
        self._has_events = np.bincount(data.events.items, minlength=data.events.item_count) > 0
        tokens = item_tokens(data.catalog.columns)
        features = token_matrix(tokens, shared_tokens(tokens, self._has_events))
        self._lesson = TrainingSet(data.events, features, np.asarray(data.kind_weights, np.float32))

    def learner(self, chosen: Settings) -> Trainer:
        """A learner at its spectral start."""
        settings = _settings(chosen)
        start = _directions(Spectral(self.data, self._seed, self._device).start(ALL_TIME_DAYS, settings.dim)[1])
        fixed = chosen["temperature"], self._device, self._seed, self._precision
        return Trainer(self._lesson, start, settings, *fixed)

    def passes(self, learner: Trainer, chosen: Settings, epochs: int) -> Generator[int]:
        """Train for so many epochs, and yield after each: 1, 2, …; closing it ends the training."""
        if self.data.workers is None:
            for epoch in range(1, epochs + 1):
                self.train_epoch(learner, epoch, chosen)
                yield epoch
            return
        facts = {"chosen": chosen, "seed": self._seed, "precision": str(self._precision)}
        work = Work("recsys.models.sequence.model:pupil", facts, self._lesson.arrays)
        told = partial(self._told, chosen)
        with closing(train_together(self.data.workers, work, learner.progress, epochs, self._device, told)) as ended:
            yield from ended

    def train_epoch(self, learner: Trainer, epoch: int, chosen: Settings) -> None:
        """One epoch here."""
        learner.train_epoch(epoch, self._told(chosen, f"epoch {epoch}"))

    def _told(self, chosen: Settings, what: str) -> Callable[[float], None]:
        step = f"sequence: {what}, temperature {chosen['temperature']:g}"
        return lambda done: self._report(step, done)

    def demand_values(self, settings: SequenceSettings) -> Mapping[str, tuple[float, ...]]:
        """What is tried for demand: one half-life where all events have the same time."""
        days = (ALL_TIME_DAYS,) if self.data.timeless else settings.recency_half_life_days
        return {"demand": settings.trend_weights, "recency_half_life_days": days}

    def vectors(self, items: Float32, encoder: UserEncoder, chosen: Settings) -> Vectors:
        """The waist: items of length 1 [I, D], searched for by cosine / temperature plus demand."""
        item = np.concatenate([items / np.float32(chosen["temperature"]), demand_column(self.data, chosen)], axis=1)
        parts = (Part(items, encoder), demand_part(len(items)))
        return Vectors("sequence", item, parts, None, dict(chosen))

    def finished(self, items: Float32, tower: SequenceTower, chosen: Settings) -> Vectors:
        """The vectors, with an item encoder for what has no events or comes later, and the tower exported."""
        vectors = self.vectors(items, OnnxEncoder(tower.shape.length, export(tower)), chosen)
        item, history = vectors.item_vectors, items.copy()
        encoder = fill_in(self.data.catalog, item, history, self._has_events, device=self._device)
        parts = (replace(vectors.parts[0], history_vectors=history), vectors.parts[1])
        return replace(vectors, parts=parts, item_encoder=beside_demand(encoder))


def _settings(chosen: Mapping[str, Any]) -> SequenceSettings:
    return SequenceSettings(**{key: chosen[key] for key in SequenceSettings.model_fields if key not in _CHOSEN})


def pupil(facts: Mapping[str, Any], arrays: Mapping[str, Array], device: torch.device) -> WorkerTask:
    """The learner as a worker of a group trains it; facts and arrays are those of `_Model.passes`."""
    chosen, lesson = facts["chosen"], TrainingSet.from_arrays(arrays)
    fixed = chosen["temperature"], device, facts["seed"], precision_named(facts["precision"])
    learner = Trainer(lesson, None, _settings(chosen), *fixed)
    return WorkerTask(learner.progress, learner.train_epoch)


def _directions(start: Float32) -> Float32:
    """The start's rows at length 1; rows that say nothing get a direction by chance, the same every time."""
    lengths = np.linalg.norm(start, axis=1, keepdims=True)
    chance = np.random.default_rng(0).standard_normal(start.shape).astype(np.float32)
    chance /= np.linalg.norm(chance, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, start / np.maximum(lengths, np.float32(1e-6)), chance).astype(np.float32)
