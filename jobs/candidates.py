"""The models of one night: settings chosen on validation, trained again up to the holdout, judged on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.gate import METRIC
from jobs.ledger import Run
from jobs.show import Report, Table
from recsys.bundle import Bundle, assemble
from recsys.config import Config
from recsys.data import Catalog, Interactions, Splits
from recsys.evaluation import Judgement, judge, validation_score
from recsys.models import MODELS, TrainingData
from recsys.names import resolve
from recsys.vectors import Vectors

BASELINE = "popularity"


@dataclass(frozen=True)
class Candidate:
    """A model before its refit."""

    vectors: Vectors
    judged: Judgement

    @property
    def name(self) -> str:
        """The model's name in MODELS."""
        return self.vectors.model

    @property
    def quality(self) -> float:
        """The primary metric on the holdout's users that have a history."""
        return float(self.judged.rows["all"][METRIC])


def fit(
    name: str,
    events: Interactions,
    catalog: Catalog,
    config: Config,
    *,
    now: int,
    score: Callable[[Vectors], float] | None = None,
    chosen: dict[str, Any] | None = None,
    report: Report,
) -> Vectors:
    """Train one model on `events` as of `now` (microseconds): choose by `score`, or take the settings `chosen` before."""
    data = TrainingData(
        events=events,
        catalog=catalog,
        now=now,
        kind_weights=tuple(config.events.weights.values()),
        target_codes=tuple(config.target_codes),
        half_life_days=config.events.half_life_days,
    )
    settings = chosen if chosen is not None else getattr(config.models, name, None)
    vectors: Vectors = resolve(name, MODELS)(
        data, settings, score=score, seed=config.training.seed, device=config.training.device, report=report
    )
    return vectors


def fit_candidates(catalog: Catalog, splits: Splits, config: Config, *, run: Run, report: Report) -> list[Candidate]:
    """Every model of the configuration and, first, the baseline."""
    score = validation_score(catalog, splits, config)
    found: list[Candidate] = []
    for name in dict.fromkeys((BASELINE, *config.training.models)):
        with run.step(f"choose {name}"):
            chosen = fit(name, splits.fit, catalog, config, now=splits.validation_start, score=score, report=report)
        with run.step(f"fit {name}"):
            vectors = fit(
                name, splits.known, catalog, config, now=splits.holdout_start, chosen=chosen.settings, report=report
            )
        with run.step(f"judge {name}") as counts:
            baseline = found[0].vectors if found else vectors
            judged = judge(assemble_with(vectors, baseline, catalog, config), splits, config)
            counts.update(judged.rows["all"])
        found.append(Candidate(vectors, judged))
    return found


def best(candidates: list[Candidate], config: Config) -> Candidate:
    """The best of the configured models; the baseline only when it is configured as one."""
    return max((c for c in candidates if c.name in config.training.models), key=lambda c: c.quality)


def assemble_with(vectors: Vectors, baseline: Vectors, catalog: Catalog, config: Config) -> Bundle:
    """A bundle in memory, filled up with the baseline's popular items."""
    popularity = baseline.item_vectors[:, 0]
    return assemble(vectors, catalog, popularity, kinds=tuple(config.events.weights), index_settings=config.index)


def table(candidates: list[Candidate], row: str = "all") -> Table:
    """The candidates side by side, the figures of one row of the judgement."""
    names = list(candidates[0].judged.rows[row])
    return Table(
        f"Holdout, {row.replace('_', ' ')}",
        ["metric", *(c.name for c in candidates)],
        [[name, *(c.judged.rows[row].get(name) for c in candidates)] for name in names],
    )
