"""The models of one night: settings chosen on validation, trained again up to the holdout, judged on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from jobs.ledger import ActiveRun
from jobs.output import Report, Table
from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config
from recsys.data.interactions import Interactions
from recsys.data.splits import Splits, split_by_time
from recsys.errors import ConfigError
from recsys.imports import resolve
from recsys.index.registry import find_kind
from recsys.models.contract import MODELS, TrainingData, Workers, settings_of
from recsys.models.vectors import Vectors
from recsys.source.dataset import Dataset
from recsys.training.evaluation import EvaluationResult, ValidationScore, evaluate
from recsys.training.gate import METRIC

BASELINE = "popularity"
PICK_DEVICE = "recsys.models.device:pick_device"
_NO_HELP = "beside the others it helps no more than chance would, as far as there was time to try"
_UNTRAINED = "its start, than which no pass over the events was better"
_RECALL_USERS = 1000  # whose vectors measure the index


@dataclass(frozen=True)
class TrainingRun:
    """What the steps of one run share."""

    config: Config
    loaded: Dataset
    run: ActiveRun
    report: Report

    @cached_property
    def splits(self) -> Splits:
        """Fit, validation and holdout, as configured."""
        settings = self.config.evaluation
        return split_by_time(
            self.loaded.events, validation_days=settings.validation_days, holdout_days=settings.holdout_days
        )

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """A step of the run that reports its begin and its end: for what has no progress of its own to tell."""
        self.report(name, 0.0)
        with self.run.step(name) as counts:
            yield counts
        self.report(name, 1.0)

    @property
    def as_of(self) -> int:
        """Just after the newest event, in microseconds: the moment of the refit."""
        return int(self.loaded.events.times.max()) + 1

    @property
    def names(self) -> list[str]:
        """The models to train: the baseline first, then those of the configuration."""
        return list(dict.fromkeys((BASELINE, *self.config.training.models)))


@dataclass(frozen=True)
class Candidate:
    """A model before its refit."""

    vectors: Vectors
    judged: EvaluationResult

    @property
    def name(self) -> str:
        """The model's name in MODELS."""
        return self.vectors.model

    @property
    def quality(self) -> float:
        """The primary metric on the holdout's users that have a history."""
        return float(self.judged.rows["all"][METRIC])


def check_settings(config: Config) -> None:
    """Whether the configured models, index and device are there: told before hours of reading and training.

    Raises ConfigError that names what was asked for, what was found and what is allowed.
    """
    check_names(config)
    resolve(PICK_DEVICE)(config.training.device)


def check_names(config: Config) -> None:
    """As check_settings, of the models and the index."""
    names = config.training.models
    _check("[training] models", names, MODELS)
    if "auto" in names:
        others = {name: found for name, found in MODELS.items() if name != "auto"}
        _check("[models.auto] candidates", config.models.auto.candidates, others)
    with _naming("[index] kind"):
        find_kind(config.index.kind)


def _check(key: str, names: tuple[str, ...], known: dict[str, str]) -> None:
    for name in names:
        with _naming(key):
            resolve(name, known)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the key of the configuration before a ConfigError."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def fit(
    night: TrainingRun,
    name: str,
    events: Interactions,
    now: int,
    *,
    score: Callable[[Vectors], float] | None = None,
    chosen: dict[str, Any] | None = None,
) -> Vectors:
    """Train a model on `events` as of `now` (microseconds): choose by `score`, or take settings `chosen` before."""
    config = night.config
    data = TrainingData(
        events=events,
        catalog=night.loaded.catalog,
        now=now,
        kind_weights=tuple(config.events.weights.values()),
        target_codes=tuple(config.target_codes),
        half_life_days=config.events.half_life_days,
        budget_seconds=config.training.choice_seconds,
        workers=_workers(config),
    )
    settings = chosen if chosen is not None else settings_of(config.models, name)
    vectors: Vectors = resolve(name, MODELS)(
        data, settings, score=score, seed=config.training.seed, device=config.training.device, report=night.report
    )
    return vectors if vectors.model == name else replace(vectors, model=name)


def _workers(config: Config) -> Workers | None:
    count = config.training.processes
    return Workers(count, config.storage.path / "training") if count > 1 else None


def choose(night: TrainingRun, name: str, splits: Splits) -> dict[str, Any]:
    """The settings of a model that serve best on validation, learnt from what is before it."""
    score = ValidationScore(night.loaded.catalog, splits, night.config)
    with night.run.step(f"choose {name}") as counts:
        counts["settings"] = fit(night, name, splits.fit, splits.validation_start, score=score).settings
    settings: dict[str, Any] = counts["settings"]
    return settings


def evaluate_all(night: TrainingRun) -> list[Candidate]:
    """Every model, trained on all but the holdout with the settings chosen on validation, and judged on the holdout."""
    splits = night.splits
    known, found = splits.known, list[Candidate]()
    for name in night.names:
        chosen = choose(night, name, splits)
        with night.run.step(f"fit {name}"):
            vectors = fit(night, name, known, splits.holdout_start, chosen=chosen)
        with night.step(f"judge {name}") as counts:
            baseline = found[0].vectors if found else vectors
            judged = evaluate(with_popularity(night, vectors, baseline), splits, night.config)
            counts.update(judged.rows["all"])
        found.append(Candidate(vectors, judged))
    return found


def best(candidates: list[Candidate], config: Config) -> Candidate:
    """The best of the configured models; the baseline only when it is configured as one."""
    return max((c for c in candidates if c.name in config.training.models), key=lambda c: c.quality)


def with_popularity(night: TrainingRun, vectors: Vectors, baseline: Vectors, *, measured: bool = False) -> Bundle:
    """A bundle in memory that is filled up with the baseline's popular items.

    measured: with the configured index, whose recall is measured with user vectors; else with the exact one.
    """
    return assemble(
        vectors,
        night.loaded.catalog,
        baseline.item_vectors[:, 0],
        kinds=tuple(night.config.events.weights),
        index_settings=night.config.index,
        queries=vectors.encode(_some_histories(night)) if measured else None,
    )


def _some_histories(night: TrainingRun) -> Any:
    events = night.loaded.events
    active = np.flatnonzero(np.diff(events.offsets))
    random = np.random.default_rng(night.config.training.seed)
    users = random.choice(active, min(_RECALL_USERS, len(active)), replace=False)
    length, codes = night.config.events.history_length, night.config.target_codes
    return events.histories(users, night.as_of, length, always=codes)


def table(candidates: list[Candidate], row: str) -> Table:
    """The candidates side by side, the figures of one row of the judgement."""
    return side_by_side(f"Holdout, {row.replace('_', ' ')}", {c.name: c.judged.rows[row] for c in candidates})


def side_by_side(title: str, figures: dict[str, dict[str, float]]) -> Table:
    """Metrics downwards, models across."""
    metrics = list(next(iter(figures.values())))
    return Table(title, ["metric", *figures], [[metric, *(f[metric] for f in figures.values())] for metric in metrics])


def comparisons(candidates: list[Candidate]) -> list[Table]:
    """What a model that chose among others found on validation, where it says so in its settings."""
    return [_comparison(c.name, c.vectors.settings) for c in candidates if "comparison" in c.vectors.settings]


def _comparison(name: str, settings: dict[str, Any]) -> Table:
    weights = {part["model"]: part["weight"] for part in settings["parts"]}
    told = dict(settings["skipped"])
    for part in settings["parts"]:
        if part["settings"].get("epochs") == 0:
            told.setdefault(part["model"], _UNTRAINED)
    for model in set(settings["comparison"]) - set(weights) - {"blend"}:
        told.setdefault(model, _NO_HELP)
    rows = [
        [model, settings["comparison"].get(model, ""), weights.get(model, ""), told.get(model, "")]
        for model in dict.fromkeys([*settings["comparison"], *settings["skipped"]])
    ]
    columns = ["candidate", METRIC, "weight in the blend", "why none, or not in full"]
    return Table(f"Validation, what {name} chose from", columns, rows)
