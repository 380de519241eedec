"""A wider search for a model's settings, by Optuna, as long as the operator asks; the nights never search like this.

Every trial is a training on the fit events with one value for each setting, scored on validation; the holdout stays
unseen. Studies lie in one SQLite file. Each trial is stored before the next one begins, so a killed search goes on with
what it had. Source of the method: J. Bergstra et al., "Algorithms for hyper-parameter optimization", NIPS 2011, for the
sampler (TPE).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from recsys.config.settings import Config
from recsys.data.arrays import Array
from recsys.data.features import item_tokens
from recsys.data.folder import failpoint
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.imports import resolve
from recsys.models.budget import Budget
from recsys.models.contract import Score, TrainingData
from recsys.models.vectors import Vectors
from recsys.training.evaluation import ValidationScore
from recsys.training.gate import METRIC
from recsys.training.pipeline import PICK_DEVICE, TrainingRun, training_data, tune, tune_to_the_end
from recsys.training.search_space import HALF_LIFE, Space, params_of, placed, space_of, with_values, written

FILE = "tune.db"

# Attributes of trials.
_CONFIGURED = "configured"  # of the configuration's own choice: the digest of what it was chosen from
_CHOSEN = "chosen"  # of the same: its settings, which may lie outside the space
_REASON = "reason"  # why it failed
_STARTUP, _WARMUP = 5, 2  # trials before one is ended early, and epochs that each has
_FAILURES = 3  # so many trials in a row that fail are no accident of their settings
_PRUNED = "it is below the median of the other trials"


class _FailedError(Exception):
    """A trial ended by an error, whose class and first line this says."""


@contextmanager
def open_studies(folder: Path) -> Iterator[optuna.storages.RDBStorage]:
    """The file of all studies. Raises RecsysError when it is none, or of another version of Optuna."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    except Exception as error:  # SQLite's, SQLAlchemy's or Optuna's own, by what is wrong
        # RuntimeError: Optuna's, of another version's tables. A file that is only locked is not to be deleted.
        is_foreign = isinstance(error, RuntimeError) or "not a database" in str(error)
        allowed = f"; allowed is what Optuna {optuna.__version__} writes, and without the file the search begins anew"
        reason = str(error).partition("\n")[0]
        raise RecsysError(f"{path} cannot be opened: {reason}{allowed if is_foreign else ''}") from None
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@dataclass(frozen=True)
class Search:
    """A model's study on tonight's data. Whoever makes one holds the lease: trials left running are of the dead."""

    run: TrainingRun
    model: str
    storage: optuna.storages.RDBStorage
    keep_lease: Callable[[], None]  # raises RefusedError when the lease is lost

    @cached_property
    def space(self) -> Space:
        """What may be varied."""
        return space_of(self.run.config, self.model, len(np.unique(self.run.splits.fit.items)))

    @cached_property
    def score(self) -> Score:
        """NDCG@20 on validation."""
        return ValidationScore(self.run.dataset.catalog, self.run.splits, self.run.config)

    @cached_property
    def name(self) -> str:
        """The study's: the same only where trials can be compared."""
        return f"{self.model}-{self._digest()}"

    @cached_property
    def others(self) -> int:
        """The model's studies on other data or of other settings."""
        names = optuna.get_all_study_names(self.storage)
        return sum(name.startswith(f"{self.model}-") and name != self.name for name in names)

    @cached_property
    def study(self) -> optuna.Study:
        """Begun, or found; what a killed process left half done has failed."""
        study = optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=_WARMUP),
        )
        self.keep_lease()  # reading took its time, and what runs now may be another's
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return study

    @property
    def finished(self) -> int:
        """The trials that came to an end of their own: with a score, or ended early for a low one."""
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def counts(self) -> dict[str, int]:
        """How many trials came to what end."""
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        ends = {"scored": TrialState.COMPLETE, "ended_early": TrialState.PRUNED, "failed": TrialState.FAIL}
        return {name: states.count(state) for name, state in ends.items()}

    def failures(self) -> list[str]:
        """The trials that failed by themselves and why, in their order."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return [f"trial {trial.number}: {trial.user_attrs[_REASON]}" for trial in trials if _REASON in trial.user_attrs]

    def configured(self) -> FrozenTrial:
        """The trial of what a night chooses from the configured values; it is not done twice."""
        config = self.run.config
        choice = _hexdigest([config.events.half_life_days, getattr(config.models, self.model).model_dump()])
        for trial in self.study.get_trials(states=(TrialState.COMPLETE,)):
            if trial.user_attrs.get(_CONFIGURED) == choice:
                return trial
        with self.run.record("configured settings") as counts:
            vectors = tune_to_the_end(self.run, self.model, self._data(config), self.score)
            counts[METRIC] = value = self.score(vectors)
        params = params_of(vectors.settings, self.space)
        self.keep_lease()
        self.study.add_trial(
            optuna.trial.create_trial(
                value=value,
                params=placed(params, self.space),
                distributions=self.space,
                user_attrs={_CONFIGURED: choice, _CHOSEN: params},
            )
        )
        return self.study.trials[-1]

    def go_on(self, trials: int, deadline: float) -> str:
        """Go on until there are so many trials, or until time.monotonic() is at the deadline.

        Returns "trials" or "minutes", for which of the two it was.
        """
        # A sampler that went on with the same seed would propose once more what it has proposed before.
        seed = self.run.config.training.seed + len(self.study.get_trials(deepcopy=False))
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)
        failures = 0
        while self.finished < trials:
            if time.monotonic() >= deadline:
                return "minutes"
            self.run.progress("trials", self.finished / trials)
            self.keep_lease()
            trial = self.study.ask(self.space)
            try:
                if not self._try(trial, deadline):
                    return "minutes"
                failures = 0
            except _FailedError as failure:
                failures += 1
                if failures == _FAILURES:
                    raise RecsysError(
                        f"{failures} trials in a row failed, the last by {failure}; what was found is kept: "
                        f"`recsys tune {self.model} --trials {self.finished}` shows it, "
                        "and the same command as before goes on with other values"
                    ) from None
            except optuna.exceptions.UpdateFinishedTrialError:
                raise RefusedError(
                    f"trial {trial.number} was ended by another search that has begun on the same {FILE}; "
                    "a folder takes one search at a time, whatever the [store]"
                ) from None
        self.run.progress("trials", 1.0)
        return "trials"

    def _try(self, trial: optuna.Trial, deadline: float) -> bool:
        """Train, and tell the study how it ended; False when the time was over before that.

        Raises _FailedError when it failed by itself, and Optuna's UpdateFinishedTrialError when another search has
        taken the trial for one of the dead.
        """
        state, value = TrialState.FAIL, None
        budget = Budget(deadline - time.monotonic())
        try:
            value = self._value(trial, budget)
            if value is not None:
                state = TrialState.COMPLETE
            elif budget.reason == _PRUNED:
                state = TrialState.PRUNED
        except (ConfigError, RefusedError):
            raise
        # Too large for this machine, which torch says by a RuntimeError, or its workers died.
        except (MemoryError, RuntimeError, RecsysError) as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            trial.set_user_attr(_REASON, reason)  # an UpdateFinishedTrialError comes here too, and is raised again
            raise _FailedError(reason) from error
        finally:
            self.study.tell(trial, value, state=state, skip_if_finished=True)
        return state != TrialState.FAIL

    def _value(self, trial: optuna.Trial, budget: Budget) -> float | None:
        """The trial's score; None when the budget ended it."""
        config = with_values(self.run.config, self.model, trial.params)
        vectors = self._tuned(config, pruning_score(trial, self.score, budget), budget)
        failpoint(f"in trial {trial.number}")
        return None if vectors is None else self.score(vectors)

    def _tuned(self, config: Config, score: Score, budget: Budget) -> Vectors | None:
        return tune(replace(self.run, config=config), self.model, self._data(config), score, budget)

    def _data(self, config: Config) -> TrainingData:
        splits = self.run.splits
        return training_data(replace(self.run, config=config), splits.fit, splits.validation_start)

    def described(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial that was scored: its number, its score, and its settings as the configuration wants them."""
        settings = written(self.run.config, self.model, trial.user_attrs.get(_CHOSEN, trial.params))
        return {"trial": trial.number, METRIC: value_of(trial), "settings": settings}

    def _digest(self) -> str:
        """Of everything that a trial's score depends on beside what is varied."""
        config, splits, catalog = self.run.config, self.run.splits, self.run.dataset.catalog
        settings = {
            "space": {key: optuna.distributions.distribution_to_json(found) for key, found in self.space.items()},
            "fixed": getattr(config.models, self.model).model_dump(exclude=set(self.space)),
            "events": config.events.model_dump(exclude={HALF_LIFE}),
            "evaluation": config.evaluation.model_dump(),
            "recommendations": config.recommendations.model_dump(include={"allow_repurchase"}),
            "seed": config.training.seed,
            "device": str(resolve(PICK_DEVICE)(config.training.device)),
            "version": metadata.version("recsys"),
            "validation_start": splits.validation_start,
        }
        tokens = item_tokens(catalog.columns)
        arrays: list[Array] = [catalog.ids.blob, catalog.ids.ends, tokens.offsets, tokens.hashes]
        for events in (splits.fit, splits.validation):
            arrays += [events.offsets, events.items, events.kinds, events.times]
        return _hexdigest(settings, *arrays)


def value_of(trial: FrozenTrial) -> float:
    """The score of a trial that has one."""
    assert trial.value is not None, f"trial {trial.number} has no score"
    return trial.value


def pruning_score(trial: optuna.Trial, score: Score, budget: Budget) -> Score:
    """The score, which ends the budget when it is below the median of the other trials after as many epochs."""
    epoch = 0

    def scored(vectors: Vectors) -> float:
        nonlocal epoch
        value = score(vectors)
        trial.report(value, epoch)
        epoch += 1
        if trial.should_prune():
            budget.stop(_PRUNED)
        return value

    return scored


def _hexdigest(values: Any, *arrays: Array) -> str:
    digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=6)
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
