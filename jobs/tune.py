"""A wider search for a model's settings, by Optuna, as long as the operator asks; the nights never search like this.

Every trial is a training on the fit events with one value for each setting, scored on validation; the holdout stays
unseen. Studies lie in one SQLite file in `[storage] path`. Each trial is stored before the next one begins, so a killed
search goes on with what it had. Source of the method: J. Bergstra et al., "Algorithms for hyper-parameter
optimization", NIPS 2011, for the sampler (TPE).
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from jobs import ledger
from jobs.commands import open_configured
from jobs.output import Output, Report, Table
from jobs.train import read
from recsys.config.settings import Config
from recsys.data.arrays import Array
from recsys.data.features import item_tokens
from recsys.data.folder import check_folder, failpoint
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.imports import resolve
from recsys.models.vectors import Vectors
from recsys.training import candidates
from recsys.training.candidates import TrainingRun, fit
from recsys.training.evaluation import ValidationScore
from recsys.training.gate import METRIC
from recsys.training.search_space import (
    HALF_LIFE,
    SPACES,
    Space,
    as_toml,
    params_of,
    placed,
    space_of,
    with_values,
    written,
)

LEASE = "tune"
FILE = "tune.db"

# Attributes of trials.
_CONFIGURED = "configured"  # of the configuration's own choice: the digest of what it was chosen from
_CHOSEN = "chosen"  # of the same: its settings, which may lie outside the space
_REASON = "reason"  # why it failed
_SHOWN = 5
_STARTUP, _WARMUP = 5, 2  # trials before one is ended early, and epochs that each has
_FAILURES = 3  # so many trials in a row that fail are no accident of their settings


class _OutOfTimeError(Exception):
    """The minutes are over."""


class _FailedError(Exception):
    """A trial ended by an error, whose class and first line this says."""


def tune(config: Config, *, model: str, trials: int, minutes: float | None, report: Report) -> Output:
    """Go on with the search for the model's settings until its study has so many trials; a row in the ledger.

    The first trial is what a night would choose from the configuration, however long that takes. minutes: of searching
    after it; None: as long as it takes. Nothing is published, and no file of the operator's is changed.
    Raises ConfigError for a model without a space, RefusedError when the source's check or another search says no,
    RecsysError when the folder or the studies' file cannot be used, or when trials fail one after the other.
    """
    if model not in SPACES:
        raise ConfigError(f"there is nothing to tune in {model!r}; allowed are {', '.join(SPACES)}")
    with closing(open_configured(config)) as store, ledger.run(store, LEASE, config) as run:
        candidates.check_settings(config)
        check_folder(config.storage.path, writable=True)
        night = TrainingRun(config, read(config, store, run, now=None, report=report), run, report)
        with _studies(config.storage.path) as storage:
            search = _Search(night, model, storage)
            found = search.finished
            report(f"study {search.name}: {found} trials were there", 1.0)
            configured = search.configured()
            with run.step("trials") as counts:
                try:
                    ended_by = search.go_on(trials, math.inf if minutes is None else time.monotonic() + minutes * 60)
                finally:
                    counts.update(found=found, **search.counts(), failures=search.failures())
            output = _output(search, configured, found=found, asked=trials, ended_by=ended_by)
        run.metrics = {name: output.data[name] for name in _IN_LEDGER}
    return output


_IN_LEDGER = ("model", "study", "trials", "failures", "configured", "best", "improvement", "toml")


@contextmanager
def _studies(folder: Path) -> Iterator[optuna.storages.RDBStorage]:
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
class _Search:
    """A model's study on tonight's data. Whoever makes one holds the lease: trials left running are of the dead."""

    night: TrainingRun
    model: str
    storage: optuna.storages.RDBStorage

    @cached_property
    def space(self) -> Space:
        """What may be varied."""
        return space_of(self.night.config, self.model, len(np.unique(self.night.splits.fit.items)))

    @cached_property
    def score(self) -> Callable[[Vectors], float]:
        """NDCG@20 on validation."""
        return ValidationScore(self.night.loaded.catalog, self.night.splits, self.night.config)

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
        self.night.run.keep_lease()  # reading took its time, and what runs now may be another's
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
        config = self.night.config
        choice = _hexdigest([config.events.half_life_days, getattr(config.models, self.model).model_dump()])
        for trial in self.study.get_trials(states=(TrialState.COMPLETE,)):
            if trial.user_attrs.get(_CONFIGURED) == choice:
                return trial
        with self.night.run.step("configured settings") as counts:
            vectors = self._trained(self.night, self.score)
            counts[METRIC] = value = self.score(vectors)
        params = params_of(vectors.settings, self.space)
        self.night.run.keep_lease()
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
        """Until there are so many trials, or the monotonic clock says so; which of the two it was."""
        # A sampler that went on with the same seed would propose once more what it has proposed before.
        seed = self.night.config.training.seed + len(self.study.get_trials(deepcopy=False))
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)
        failures = 0
        while self.finished < trials:
            if time.monotonic() >= deadline:
                return "minutes"
            self.night.report("trials", self.finished / trials)
            self.night.run.keep_lease()
            trial = self.study.ask(self.space)
            try:
                self._try(trial, deadline)
                failures = 0
            except _OutOfTimeError:
                return "minutes"
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
        self.night.report("trials", 1.0)
        return "trials"

    def _try(self, trial: optuna.Trial, deadline: float) -> None:
        """Train, and tell the study how it ended.

        Raises _FailedError when it failed by itself, _OutOfTimeError at the deadline, and Optuna's
        UpdateFinishedTrialError when another search has taken the trial for one of the dead.
        """
        state, value = TrialState.FAIL, None
        try:
            value = self._value(trial, deadline)
            state = TrialState.COMPLETE
        except optuna.TrialPruned:
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

    def _value(self, trial: optuna.Trial, deadline: float) -> float:
        attempt = _Attempt(trial, self.score, deadline)
        config = with_values(self.night.config, self.model, trial.params)
        vectors = self._trained(replace(self.night, config=config, report=attempt.report), attempt.score)
        failpoint(f"in trial {trial.number}")
        return self.score(vectors)

    def _trained(self, night: TrainingRun, score: Callable[[Vectors], float]) -> Vectors:
        splits = self.night.splits
        return fit(night, self.model, splits.fit, splits.validation_start, score=score)

    def _digest(self) -> str:
        """Of everything that a trial's score depends on beside what is varied."""
        config, splits, catalog = self.night.config, self.night.splits, self.night.loaded.catalog
        settings = {
            "space": {key: optuna.distributions.distribution_to_json(found) for key, found in self.space.items()},
            "fixed": getattr(config.models, self.model).model_dump(exclude=set(self.space)),
            "events": config.events.model_dump(exclude={HALF_LIFE}),
            "evaluation": config.evaluation.model_dump(),
            "recommendations": config.recommendations.model_dump(include={"allow_repurchase"}),
            "seed": config.training.seed,
            "device": str(resolve(candidates.PICK_DEVICE)(config.training.device)),
            "version": metadata.version("recsys"),
            "validation_start": splits.validation_start,
        }
        tokens = item_tokens(catalog.columns)
        arrays: list[Array] = [catalog.ids.blob, catalog.ids.ends, tokens.offsets, tokens.hashes]
        for events in (splits.fit, splits.validation):
            arrays += [events.offsets, events.items, events.kinds, events.times]
        return _hexdigest(settings, *arrays)


@dataclass
class _Attempt:
    """One training: keeps the score of each epoch, and ends it when others were better by then or the time is up."""

    trial: optuna.Trial
    of: Callable[[Vectors], float]
    deadline: float
    epoch: int = 0

    def score(self, vectors: Vectors) -> float:
        """The score. Raises TrialPruned when it is below the median of the other trials after as many epochs."""
        value = self.of(vectors)
        self.trial.report(value, self.epoch)
        self.epoch += 1
        if self.trial.should_prune():
            raise optuna.TrialPruned
        return value

    def report(self, _step: str, share: float) -> None:
        """What a training tells often: a chance to end it, unless it is about to end."""
        if share < 1 and time.monotonic() >= self.deadline:
            raise _OutOfTimeError


def _hexdigest(values: Any, *arrays: Array) -> str:
    digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=6)
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _output(search: _Search, configured: FrozenTrial, *, found: int, asked: int, ended_by: str) -> Output:
    config, model = search.night.config, search.model
    scored = search.study.get_trials(states=(TrialState.COMPLETE,))
    # The configured settings win a tie: without a reason nothing is to be changed.
    best = max((configured, *scored), key=_value_of)
    is_better = best.number != configured.number
    data = {
        "run": search.night.run.run_id,
        "model": model,
        "study": search.name,
        "file": str(config.storage.path / FILE),
        "is_new": found == 0,
        "other_studies": search.others,
        "ended_by": ended_by,
        "trials": {"asked": asked, "found": found, **search.counts()},
        "failures": search.failures(),
        "configured": _described(search, configured),
        "best": _described(search, best),
        "improvement": _value_of(best) - _value_of(configured),
        "toml": as_toml(config, model, best.params) if is_better else None,
    }
    first = sorted(scored, key=_value_of, reverse=True)[:_SHOWN]
    return Output(data, [*_story(data), _comparison(search, configured, first), *_advice(data)])


def _value_of(trial: FrozenTrial) -> float:
    assert trial.value is not None, f"trial {trial.number} has no score"
    return trial.value


def _described(search: _Search, trial: FrozenTrial) -> dict[str, Any]:
    settings = written(search.night.config, search.model, trial.user_attrs.get(_CHOSEN, trial.params))
    return {"trial": trial.number, METRIC: _value_of(trial), "settings": settings}


def _comparison(search: _Search, configured: FrozenTrial, first: list[FrozenTrial]) -> Table:
    """Settings downwards, trials across: what is configured, then the best."""
    across = [configured, *(trial for trial in first if trial.number != configured.number)]
    described = [_described(search, trial) for trial in across]
    rows = [[METRIC, *(found[METRIC] for found in described)]]
    for key in search.space:
        values = [found["settings"][key] for found in described]
        rows.append([key, *(value[0] if isinstance(value, tuple) else value for value in values)])
    titles = ["configured", *(f"trial {trial.number}" for trial in across[1:])]
    return Table(f"Validation, the best trials of {search.name}", ["", *titles], rows)


def _story(data: dict[str, Any]) -> Iterator[str]:
    counts = data["trials"]
    if not data["is_new"]:
        yield f"study {data['study']} went on: {counts['found']} trials were there"
    elif data["other_studies"]:
        yield (
            f"study {data['study']} was begun, as the {data['other_studies']} before it are of other data or settings, "
            "with which scores cannot be compared"
        )
    else:
        yield f"study {data['study']} was begun"
    ends = f"{counts['scored']} with a score, {counts['ended_early']} ended early for a low one"
    yield f"trials now: {ends}, {counts['failed']} failed or cut off; kept in {data['file']}"
    yield from (f"  failed: {failure}" for failure in data["failures"][-_SHOWN:])
    if data["ended_by"] == "minutes":
        yield f"the minutes were over before there were {counts['asked']} trials; the same command goes on"


def _advice(data: dict[str, Any]) -> Iterator[str]:
    best, configured = data["best"][METRIC], data["configured"][METRIC]
    if data["toml"] is None:
        yield f"nothing is better on validation than what is configured ({configured:.4f}); leave it as it is"
        return
    share = f", {best / configured - 1:+.1%}" if configured else ""
    yield f"{METRIC} on validation: {best:.4f}, configured {configured:.4f}{share}; these lines configure it:"
    yield data["toml"]
