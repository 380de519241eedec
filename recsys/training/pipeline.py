"""The steps of a training run: choose settings on validation, fit, evaluate on the holdout, gate, fit again."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config
from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.demand import Demand, count_events
from recsys.data.interactions import Histories, Interactions, codes_in, stack
from recsys.data.prices import next_changes, no_changes
from recsys.data.splits import Splits, split_by_time
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import ConfigError
from recsys.imports import resolve
from recsys.index.choice import AUTO
from recsys.index.registry import find_kind
from recsys.models import contract
from recsys.models.budget import Budget
from recsys.models.contract import MODELS, Score, TrainingData, Workers, find_model, settings_of
from recsys.models.vectors import Vectors
from recsys.progress import Progress, no_progress
from recsys.related import training as related
from recsys.related.tables import Related
from recsys.related.training import RelatedData
from recsys.serving.popular import CHOSEN
from recsys.source.dataset import Dataset
from recsys.training import gate
from recsys.training.box_choice import choose_ways
from recsys.training.evaluation import EvaluationResult, ValidationScore, evaluate, rank
from recsys.training.gate import METRIC, GateResult
from recsys.training.libraries import check_installed

BASELINE = "popularity"
PICK_DEVICE = "recsys.models.device:pick_device"
HOLDOUT_START = "holdout_start"  # of a manifest: the evaluation vectors have seen nothing from then on (microseconds)
_RECALL_USERS = 1000  # whose vectors measure the index

Record = Callable[[str], AbstractContextManager[dict[str, Any]]]
"""Opens a step by its name; what is put into the dict that it yields is kept with it."""


@contextmanager
def unrecorded(_step: str) -> Iterator[dict[str, Any]]:
    """A step that is not recorded."""
    yield {}


@dataclass(frozen=True)
class TrainingRun:
    """What the steps of one run share. Kinds that were posted without a weight get theirs in the configuration."""

    config: Config
    dataset: Dataset
    record: Record = unrecorded
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        """Add the dataset's new kinds to the configuration."""
        new = {
            kind: weight for kind, weight in self.dataset.new_kinds.items() if kind not in self.config.events.weights
        }
        object.__setattr__(self, "config", self.config.with_kinds(new))

    @cached_property
    def splits(self) -> Splits:
        """Fit, validation and holdout, as configured."""
        settings = self.config.evaluation
        return split_by_time(
            self.dataset.events, validation_days=settings.validation_days, holdout_days=settings.holdout_days
        )

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Record a step and show its begin and its end as progress."""
        self.progress(name, 0.0)
        with self.record(name) as counts:
            yield counts
        self.progress(name, 1.0)

    @property
    def as_of(self) -> int:
        """Just after the newest event, in microseconds: the moment of the refit."""
        return max(int(part.times.max(initial=-1)) for part in (self.dataset.events, self.dataset.visits)) + 1

    @property
    def names(self) -> list[str]:
        """The models to train: the baseline first, then those of the configuration."""
        return list(dict.fromkeys((BASELINE, *self.config.training.models)))


@dataclass(frozen=True)
class Candidate:
    """A model before its refit."""

    vectors: Vectors
    result: EvaluationResult

    @property
    def name(self) -> str:
        """The model's name in MODELS."""
        return self.vectors.model

    @property
    def quality(self) -> float:
        """The primary metric on the holdout's users that have a history."""
        return float(self.result.rows["all"][METRIC])


def check_settings(config: Config) -> None:
    """Check that the libraries, models, index and device are there, before hours of reading and training.

    Raises ConfigError that names what was asked for, what was found and what is allowed. Raises RecsysError when the
    libraries are not installed, or not in versions that belong together.
    """
    check_installed()
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
        if config.index.kind != AUTO:
            find_kind(config.index.kind)


def _check(key: str, names: tuple[str, ...], known: Mapping[str, str]) -> None:
    for name in names:
        with _naming(key):
            find_model(name, known)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the key of the configuration before a ConfigError."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def training_data(run: TrainingRun, events: Interactions, now: int) -> TrainingData:
    """What a model may learn from `events`, and from what visitors did before `now` (microseconds).

    Visitors are users without a name here: their rows follow those of the users. Nobody judges by them.
    """
    config, count = run.config, run.config.training.processes
    visits = run.dataset.visits.before(now)
    events = stack(events, visits) if len(visits) else events
    workers = Workers(count, config.storage.path / "training") if count > 1 else None
    return replace(data_for(config, run.dataset.catalog, events, now), workers=workers)


def data_for(config: Config, catalog: Catalog, events: Interactions, now: int) -> TrainingData:
    """What a model of one process may learn from `events` as of `now` (microseconds)."""
    return TrainingData(
        events=events,
        catalog=catalog,
        now=now,
        kind_weights=tuple(config.events.weights.values()),
        target_codes=tuple(config.target_codes),
        half_life_days=config.events.half_life_days,
        seed=config.training.seed,
        device=config.training.device,
    )


def tune(run: TrainingRun, name: str, data: TrainingData, score: Score, budget: Budget) -> Vectors | None:
    """Train a model on `data` with the settings that serve best by `score`; None when the budget ended it."""
    vectors = find_model(name).tune(data, settings_of(run.config.models, name), score, budget)
    return vectors and _named(vectors, name)


def tune_to_the_end(run: TrainingRun, name: str, data: TrainingData, score: Score) -> Vectors:
    """As tune, with the time that the configuration gives; only `auto` has a limit, and it always finds something.

    Raises ConfigError when the model returns nothing although its budget goes on.
    """
    seconds = run.config.training.choice_seconds if name == "auto" else math.inf
    vectors = tune(run, name, data, score, Budget(seconds, progress=run.progress))
    if vectors is None:
        raise ConfigError(f"the model {name!r} returned no vectors from tune, though its budget had not ended")
    return vectors


def fit(run: TrainingRun, name: str, data: TrainingData, settings: Mapping[str, Any]) -> Vectors:
    """Train a model on `data` with settings chosen before."""
    return _named(contract.fit(name, data, settings, Budget(progress=run.progress)), name)


def _named(vectors: Vectors, name: str) -> Vectors:
    return vectors if vectors.model == name else replace(vectors, model=name)


def choose(run: TrainingRun, name: str, splits: Splits) -> dict[str, Any]:
    """Choose the settings of a model that serve best on validation, learned from what is before it."""
    score = ValidationScore(run.dataset.catalog, splits, run.config)
    data = training_data(run, splits.fit, splits.validation_start)
    with run.record(f"choose {name}") as counts:
        counts["settings"] = settings = tune_to_the_end(run, name, data, score).settings
    return settings


def evaluate_all(run: TrainingRun) -> list[Candidate]:
    """Train every model on all but the holdout, with settings chosen on validation, and evaluate it on the holdout."""
    splits, candidates = run.splits, list[Candidate]()
    data = training_data(run, splits.known, splits.holdout_start)
    for name in run.names:
        settings = choose(run, name, splits)
        with run.record(f"fit {name}"):
            vectors = fit(run, name, data, settings)
        with run.step(f"evaluate {name}") as counts:
            baseline = candidates[0].vectors if candidates else vectors
            result = evaluate(with_popularity(run, vectors, baseline), splits, run.config)
            counts.update(result.rows["all"])
        candidates.append(Candidate(vectors, result))
    return candidates


def best(candidates: list[Candidate], config: Config) -> Candidate:
    """The best of the configured models; the baseline only when it is configured as one."""
    return max((c for c in candidates if c.name in config.training.models), key=lambda c: c.quality)


def compare(
    run: TrainingRun, winner: Candidate, baseline: Candidate, live: Bundle | None, skipped: str | None
) -> GateResult:
    """Decide whether the winner may be published: beside the baseline, and beside the live bundle.

    skipped: why the live bundle could not be opened. This, or what else makes it incomparable, is "live_skipped" among
    the result's metrics.
    """
    if live is not None and skipped is None:
        skipped = _incomparable(run, live)
    with run.record("gate") as counts:
        result = gate.decide(
            winner.result.ndcg_per_user,
            None if winner.name == BASELINE else baseline.result.ndcg_per_user,
            None if live is None or skipped else _beside_live(run, winner, baseline, live),
            settings=run.config.gate,
            seed=run.config.training.seed,
        )
        if skipped:
            result = replace(result, metrics={**result.metrics, "live_skipped": skipped})
        counts.update(result.metrics, reasons=list(result.reasons), warnings=list(result.warnings))
    return result


def _incomparable(run: TrainingRun, live: Bundle) -> str | None:
    """Why the winner cannot be compared with the live bundle; None when it can."""
    if live.evaluation is None:
        return f"{live.version} has no vectors from before its refit"
    ours, theirs = set(run.config.events.weights), set(live.kinds)
    if not (ours <= theirs or theirs <= ours):
        return f"{live.version} was trained on other kinds of events: {', '.join(live.kinds)}"
    return None


def _beside_live(run: TrainingRun, winner: Candidate, baseline: Candidate, live: Bundle) -> tuple[Float32, Float32]:
    """NDCG@20 per user [B] of the winner and of the live bundle's pre-refit vectors, with tonight's histories.

    Only days of tonight's holdout that neither has learned from count: the live bundle may have held back fewer, or
    others.
    """
    assert live.evaluation is not None  # `_incomparable` says so
    splits = run.splits.shortened(live.manifest.get(HOLDOUT_START, run.splits.holdout_start))

    def ndcg_of(vectors: Vectors) -> Float32:
        return evaluate(with_popularity(run, vectors, baseline.vectors), splits, run.config).ndcg_per_user

    ours = winner.result.ndcg_per_user if splits is run.splits else ndcg_of(winner.vectors)
    codes = codes_in(tuple(run.config.events.weights), live.kinds)
    return ours, ndcg_of(gate.align(live.evaluation, live.catalog.ids, run.dataset.catalog.ids, codes))


def best_items(run: TrainingRun, bundle: Bundle, users: Int64, k: int) -> Int32:
    """The k best items of a bundle in tonight's rows, for users [B] with their histories of tonight: int32 [B, k]."""
    events, config = run.dataset.events, run.config
    histories = events.histories(users, run.as_of, config.events.history_length, always=config.bought_codes)
    return rank(bundle, histories, config)[:, :k]


def aligned(run: TrainingRun, live: Bundle) -> Bundle:
    """The live bundle in tonight's rows of items, with an exact index."""
    codes = codes_in(tuple(run.config.events.weights), live.kinds)
    vectors = gate.align(live.vectors, live.catalog.ids, run.dataset.catalog.ids, codes)
    rows = live.catalog.ids.rows_of(list(run.dataset.catalog.ids))
    popularity = np.where(rows >= 0, live.popularity[np.maximum(rows, 0)], 0).astype(np.float32)
    return assemble(
        vectors,
        run.dataset.catalog,
        popularity,
        kinds=tuple(run.config.events.weights),
        index_settings=run.config.index,
    )


def refit(run: TrainingRun, winner: Candidate, baseline: Candidate, live: Bundle | None = None) -> Bundle:
    """Train the winner and the baseline again on all events, index the result, and record what happened before.

    live: the bundle that it replaces, whose record of prices goes on.
    """
    data = training_data(run, run.dataset.events, run.as_of)
    with run.record("refit"):
        final = {c.name: fit(run, c.name, data, c.vectors.settings) for c in (baseline, winner)}
    with run.step("index"):
        bundle = with_popularity(run, final[winner.name], final[BASELINE], queries=_some_histories(run))
    demand = count_events(
        data.events, kind_count=len(bundle.kinds), half_life_days=final[BASELINE].settings["half_life_days"]
    )
    prices = no_changes()
    if live is not None:
        prices = next_changes(live.prices, live.catalog, bundle.catalog, run.dataset.watermark)
    chosen = {CHOSEN: _choose_ways(run, demand)}
    return replace(
        bundle,
        evaluation=winner.vectors,
        demand=demand,
        prices=prices,
        related=relate(run),
        manifest=bundle.manifest | chosen,
    )


def _choose_ways(run: TrainingRun, demand: Demand | None) -> dict[str, Any]:
    """How trending and bestsellers rank, chosen by the weeks before the holdout."""
    with run.step("boxes") as counts:
        if demand is not None:
            kinds, end = tuple(run.config.events.weights), run.splits.holdout_start // MICROSECONDS_PER_DAY
            counts.update(choose_ways(run.config, kinds, demand, len(run.dataset.catalog), end))
        return dict(counts)


def relate(run: TrainingRun) -> Related:
    """Choose on validation how to tell which items belong together, and learn it from all events."""
    with run.step("related items") as counts:
        choices = _choose_related(run)
        counts.update({name: facts["method"] for name, facts in choices.facts.items()})
        return related.fit(related_data(run, run.dataset.events, run.as_of), choices, now=run.as_of)


def relate_before_holdout(run: TrainingRun) -> Related:
    """As relate, learned from what is before the holdout."""
    with run.step("related items"):
        now = run.splits.holdout_start
        return related.fit(related_data(run, run.splits.known, now), _choose_related(run), now=now)


def _choose_related(run: TrainingRun) -> related.Choices:
    splits = run.splits
    known = related_data(run, splits.known, splits.holdout_start)
    return related.choose(known, start=splits.validation_start, end=splits.holdout_start)


def related_data(run: TrainingRun, events: Interactions, now: int) -> RelatedData:
    """What tells which items belong together: `events`, and what visitors did before `now` (microseconds)."""
    config, visits = run.config, run.dataset.visits.before(now)
    events = stack(events, visits) if len(visits) else events
    return RelatedData(events, run.dataset.catalog, config.bought_codes, config.training.seed)


def with_popularity(
    run: TrainingRun, vectors: Vectors, baseline: Vectors, *, queries: Histories | None = None
) -> Bundle:
    """A bundle in memory that is filled up with the baseline's popular items.

    queries: with the configured index, whose recall is measured for these histories; else with the exact one.
    """
    return assemble(
        vectors,
        run.dataset.catalog,
        baseline.item_vectors[:, 0],
        kinds=tuple(run.config.events.weights),
        index_settings=run.config.index,
        queries=None if queries is None else vectors.encode(queries),
    )


def _some_histories(run: TrainingRun) -> Histories:
    events = run.dataset.events
    active = np.flatnonzero(np.diff(events.offsets))
    random = np.random.default_rng(run.config.training.seed)
    users = random.choice(active, min(_RECALL_USERS, len(active)), replace=False)
    return events.histories(users, run.as_of, run.config.events.history_length, always=run.config.bought_codes)
