"""The default: trains every candidate within a time budget and blends those that serve better together than alone.

A blend is its candidates' parts side by side. Each candidate's scores are brought to one scale (the median over users
of their standard deviation over the items), multiplied by a weight chosen on validation, and both are folded into the
item vectors, so that one inner product ranks the blend. A blend of one is that candidate.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from recsys.config.settings import ModelSettings
from recsys.data.arrays import Float32, mean_or_zero
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.imports import resolve
from recsys.models.contract import MODELS, TrainingData, settings_of
from recsys.models.coordinate_search import Settings
from recsys.models.vectors import Constant, ItemEncoder, Vectors

_WEIGHTS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # tried for a candidate beside the best one, whose own is 1
_CERTAIN = 3  # standard errors of a difference: a weight that far behind a smaller one ends the search for more,
_ENOUGH = 30  # where so many users tell what a standard error is
_ROUNDS = 2
_SCALE_USERS = 200
_BLEND_SHARE = 0.15  # of the time, kept for choosing the weights
_PROJECTED_FROM = 0.02  # of a pass: from then on its speed tells when it will end
_HOPELESS = 0.5  # of the best candidate's score: who has not reached it after a pass over the events is given up
_IN_ORDER = {MODELS["sequence"]}  # the models that learn from the order of events alone

_log = logging.getLogger(__name__)

Report = Callable[[str, float], None]
Score = Callable[[Vectors], float]


@runtime_checkable
class _OfUsers(Protocol):
    """A score that also tells how each user fares, maybe of more users: recsys.training.evaluation.ValidationScore."""

    def per_user(self, vectors: Vectors) -> Float32:
        """Of the same users every time: [B]."""
        ...


class _EndedError(Exception):
    """A candidate's time is up, or will be before its present pass over the events has ended, or it is no use."""


@dataclass(frozen=True)
class _Found:
    """A candidate after its training, and how each user fares with it alone."""

    name: str
    vectors: Vectors
    by_user: Float32

    @property
    def score(self) -> float:
        """The mean over the users who choose the weights."""
        return mean_or_zero(self.by_user)


def train(
    data: TrainingData,
    settings: ModelSettings | Settings,
    *,
    score: Score | None,
    seed: int,
    device: str,
    report: Report,
) -> Vectors:
    """See recsys.models.contract.Train; the settings are those of all models.

    The settings of the vectors hold "parts" (model, weight and settings of each), "comparison" (the score on validation
    of each candidate and of the blend) and "skipped" (why a candidate is missing or stopped early). Candidates take
    data.budget_seconds together; when these are over, each counts as the best that it had reached.
    Raises ValueError when there is no score to choose by, and RecsysError when every candidate failed.
    """
    if isinstance(settings, dict):
        return _again(data, settings, seed, device, report)
    if score is None:
        raise ValueError("auto has candidates to choose from and no validation score to choose by")
    started = time.monotonic()
    found, skipped = _candidates(data, settings, score, seed, device, report)
    weights, blended = _choose_weights(data, found, score, seed, started + data.budget_seconds, report)
    comparison = {f.name: f.score for f in found} | {"blend": mean_or_zero(blended)}
    by_name = {f.name: f.vectors for f in found}
    return _blend(data, {n: by_name[n] for n in weights}, weights, seed, comparison=comparison, skipped=skipped)


def _candidates(
    data: TrainingData, models: ModelSettings, score: Score, seed: int, device: str, report: Report
) -> tuple[list[_Found], dict[str, str]]:
    """What became of each candidate, in the order of the configuration, and why one is missing or unfinished.

    Each may take half of the time that is left, the last all of it: what the cheap ones leave is for the dear ones. The
    first, which should be the cheapest, goes on until it has something to publish, however slow the machine; and where
    it failed, the next.
    """
    end = time.monotonic() + data.budget_seconds * (1 - _BLEND_SHARE)
    names = _worth_trying(models.auto.candidates, data)
    pointless = set(models.auto.candidates) - set(names)
    failure: RecsysError | None = None
    found, skipped = list[_Found](), dict.fromkeys(pointless, "all events have the same time, and so no order")
    for name in names:
        now = time.monotonic()
        share = 1.0 if name == names[-1] else 0.5
        deadline = now + share * max(0.0, end - now)
        trial = _Trial(score, deadline, max((f.score for f in found), default=0.0), report, needed=not found)
        try:
            vectors = resolve(name, MODELS)(
                data,
                settings_of(models, name),
                score=trial.score,
                seed=seed,
                device=device,
                report=trial.report,
            )
            trial.best = vectors  # its own choice, also where a trial had more luck
        except _EndedError as reason:
            skipped[name] = str(reason) if trial.best is None else f"stopped early: {reason}"
        except (ConfigError, RefusedError):  # nothing would mend these but another configuration, or another night
            raise
        except RecsysError as error:  # such as workers that died too often: what it came to could not be trained again
            _log.warning("%s failed: %s", name, error.in_full)
            failure, skipped[name] = error, f"failed: {error}"
            continue
        if trial.best is not None:
            found.append(_Found(name, trial.best, _by_user(score, trial.best)))
    if failure and not found:
        raise failure
    return found, skipped


def _worth_trying(names: tuple[str, ...], data: TrainingData) -> list[str]:
    """The candidates that can learn something from the events; all of them where none would be left."""
    able = [name for name in names if not data.timeless or MODELS.get(name, name) not in _IN_ORDER]
    return able or list(names)


class _Trial:
    """One candidate's training: keeps the best vectors that were scored, and ends it when its time is up.

    Or when it is far behind the best of the others after a pass over the events: its time is for those to come.
    needed: not before there are any vectors.
    """

    def __init__(self, score: Score, deadline: float, others_best: float, report: Report, *, needed: bool) -> None:
        self.best: Vectors | None = None
        self.best_score = -math.inf
        self._score, self._others_best, self._report = score, others_best, report
        self._until, self._needed = deadline, needed
        self._started = time.monotonic()
        self._step, self._first, self._done = "", (self._started, 0.0), 0.0

    @property
    def _deadline(self) -> float:
        return math.inf if self._needed and self.best is None else self._until

    def keep(self, vectors: Vectors, value: float) -> None:
        """Take the vectors for the best when they are."""
        if self.best is None or value >= self.best_score:
            self.best, self.best_score = vectors, value

    def score(self, vectors: Vectors) -> float:
        """The score, and a chance to end."""
        self._end_in_time(time.monotonic())
        value = self._score(vectors)
        self.keep(vectors, value)
        passes = vectors.settings.get("epochs", 0)
        whole = isinstance(passes, int) and passes >= 1 and "most" not in vectors.settings
        if whole and self.best_score < _HOPELESS * self._others_best:
            raise _EndedError(f"it reached {self.best_score:.4f}, the best before it {self._others_best:.4f}")
        return value

    def report(self, step: str, done: float) -> None:
        """Pass it on, and end when the time is up, or the pass over the events that has begun cannot end in time."""
        now = time.monotonic()
        self._end_in_time(now)
        if step != self._step or done < self._done:
            self._step, self._first = step, (now, done)  # what is slow about a beginning does not count
        elif " epoch " in step and done - self._first[1] >= _PROJECTED_FROM:
            to_come = (now - self._first[0]) / (done - self._first[1]) * (1 - done)
            if now + to_come > self._deadline:
                left = self._deadline - now
                raise _EndedError(f"{step} takes {to_come:.0f} s more, {left:.0f} s were left for it")
        self._done = done
        self._report(step, done)

    def _end_in_time(self, now: float) -> None:
        if now > self._deadline:
            raise _EndedError(f"its {self._deadline - self._started:.0f} s were over")


def _choose_weights(
    data: TrainingData, found: list[_Found], score: Score, seed: int, deadline: float, report: Report
) -> tuple[dict[str, float], Float32]:
    """The weights of the candidates that are in, and how each user fares: the best has 1, others join if that helps.

    Until the time is up. Each weight in its turn is the smallest of those that serve as well as the best of them.
    """
    best, *others = sorted(found, key=lambda f: -f.score)
    weights, by_user = {best.name: 1.0}, best.by_user
    if len(by_user) == 0:  # nobody to judge by
        return weights, by_user
    scaled = {f.name: _scaled(data, f.vectors, seed) for f in found}

    def by_user_of(other: str, weight: float) -> Float32:
        tried = _with(weights, other, weight)
        return _by_user(score, _side_by_side({name: scaled[name] for name in tried}, tried))

    steps = len(others) * (_ROUNDS if len(others) > 1 else 1)  # a single one has nothing to wait for
    changed_at = 0  # a round without a change is the last
    for step in range(steps):
        if step - changed_at >= len(others):
            break
        other = others[step % len(others)].name
        held = weights.get(other, 0.0)
        tried = _try_weights({held: by_user}, partial(by_user_of, other), deadline)
        if tried is None:
            break
        if (weight := _smallest_among_the_best(tried)) != held:
            weights, by_user, changed_at = _with(weights, other, weight), tried[weight], step
        report("auto: choose weights", (step + 1) / steps)
    return weights, by_user


def _try_weights(
    tried: dict[float, Float32], by_user_of: Callable[[float], Float32], deadline: float
) -> dict[float, Float32] | None:
    """How each user fares with each weight, beside those tried before; None when the time is up.

    Some of them alone would mislead. A blend gets better with the weight up to some point and then worse, so the search
    ends with a weight that is certainly beyond it.
    """
    found = dict(tried)
    for weight in sorted({0.0, *_WEIGHTS} - set(tried)):
        if time.monotonic() > deadline:
            return None
        found[weight] = by_user_of(weight)
        if weight > _best(found) and len(found[weight]) >= _ENOUGH and _behind(found, weight) > _CERTAIN:
            break
    return found


def _by_user(score: Score, vectors: Vectors) -> Float32:
    """How each user fares: [B]; a score that tells of none counts as a single user's."""
    return score.per_user(vectors) if isinstance(score, _OfUsers) else np.array([score(vectors)], np.float32)


def _with(weights: dict[str, float], name: str, weight: float) -> dict[str, float]:
    """The weights with another for one candidate, which is out at 0."""
    return {n: w for n, w in {**weights, name: weight}.items() if w > 0}


def _smallest_among_the_best(tried: dict[float, Float32]) -> float:
    """The smallest weight whose score is behind the best by no more than the standard error of the difference.

    So that less of the noise gets into the blend: a part that helps nobody still joins in one case of six or more, and
    would in most if the best were taken. tried: weight -> score of each user [B]. After the rule of one standard error,
    L. Breiman et al., "Classification and regression trees", 1984, which takes that of the best itself.
    """
    return min(weight for weight in tried if _behind(tried, weight) <= 1)


def _best(tried: dict[float, Float32]) -> float:
    return max(tried, key=lambda weight: mean_or_zero(tried[weight]))


def _behind(tried: dict[float, Float32], weight: float) -> float:
    """By how many standard errors of the difference a weight is behind the best."""
    lost = tried[_best(tried)] - tried[weight]
    error = float(lost.std()) / math.sqrt(len(lost))
    if error == 0:
        return math.inf if lost.any() else 0.0
    return float(lost.mean()) / error


def _again(data: TrainingData, settings: Settings, seed: int, device: str, report: Report) -> Vectors:
    """The same blend, each candidate trained with the settings chosen before."""
    parts = {
        part["model"]: resolve(part["model"], MODELS)(
            data, part["settings"], score=None, seed=seed, device=device, report=report
        )
        for part in settings["parts"]
    }
    weights = {part["model"]: part["weight"] for part in settings["parts"]}
    return _blend(data, parts, weights, seed, comparison=settings["comparison"], skipped=settings["skipped"])


def _blend(
    data: TrainingData,
    parts: dict[str, Vectors],
    weights: dict[str, float],
    seed: int,
    *,
    comparison: dict[str, float],
    skipped: dict[str, str],
) -> Vectors:
    """The parts side by side; a single one as it is."""
    if len(parts) == 1:
        blended = next(iter(parts.values()))
    else:
        blended = _side_by_side({name: _scaled(data, vectors, seed) for name, vectors in parts.items()}, weights)
    described = [{"model": n, "weight": weights[n], "settings": parts[n].settings} for n in parts]
    return replace(
        blended,
        model="auto",
        settings={"parts": described, "comparison": comparison, "skipped": skipped},
    )


def _scaled(data: TrainingData, vectors: Vectors, seed: int) -> Vectors:
    """The same ranking with scores that deviate by about 1; those that are the same for everybody by their logarithm.

    Counts are long-tailed: without the logarithm a few items would be above every taste, and the rest not noticed.
    """
    if all(isinstance(part.encoder, Constant) for part in vectors.parts):
        logarithms = np.log1p(np.maximum(vectors.item_vectors, 0))
        asked_for = logarithms > 0
        if asked_for.any():  # 0 is the median, so that what has no events yet stands among ordinary items
            logarithms = np.where(asked_for, logarithms - np.median(logarithms[asked_for]), np.float32(0))
        vectors = replace(vectors, item_vectors=logarithms)
    return _times(vectors, 1 / _deviation(data, vectors, seed))


def _deviation(data: TrainingData, vectors: Vectors, seed: int) -> float:
    """The median over users of the standard deviation of their scores over the items; 1 when that is 0."""
    events = data.events
    active = np.flatnonzero(np.diff(events.offsets))
    users = np.random.default_rng(seed).permutation(active)[:_SCALE_USERS]
    if len(users) == 0:
        return 1.0
    queries = vectors.encode(events.histories(users, data.now, max(1, len(events))))
    deviations = [float(np.std(vectors.item_vectors @ query)) for query in queries]
    return float(np.median(deviations)) or 1.0


def _times(vectors: Vectors, factor: float) -> Vectors:
    encoder = vectors.item_encoder
    return replace(
        vectors,
        item_vectors=np.asarray(vectors.item_vectors * np.float32(factor), np.float32),
        item_encoder=encoder
        and replace(encoder, item_weights=np.asarray(encoder.item_weights * np.float32(factor), np.float32)),
    )


def _side_by_side(parts: dict[str, Vectors], weights: dict[str, float]) -> Vectors:
    """One blend of scaled candidates."""
    weighted = [_times(vectors, weights[name]) for name, vectors in parts.items()]
    return Vectors(
        model="auto",
        item_vectors=np.concatenate([v.item_vectors for v in weighted], axis=1),
        parts=tuple(part for v in weighted for part in v.parts),
        item_encoder=_join_encoders(weighted),
        settings={},
    )


def _join_encoders(blended: list[Vectors]) -> ItemEncoder | None:
    """The item encoders side by side, over the tokens that any of them knows; a candidate without one adds zeros."""
    encoders = [v.item_encoder for v in blended if v.item_encoder is not None]
    if not encoders:
        return None
    tokens = np.unique(np.concatenate([encoder.token_hashes for encoder in encoders]))
    item, history = list[Float32](), list[Float32]()
    for vectors in blended:
        encoder = vectors.item_encoder
        known = np.zeros(0, np.int64) if encoder is None else np.searchsorted(tokens, encoder.token_hashes)
        item.append(_placed(len(tokens), vectors.dim, known, None if encoder is None else encoder.item_weights))
        for number, part in enumerate(vectors.parts):
            own = None if encoder is None else encoder.history_weights[number]
            history.append(_placed(len(tokens), part.history_vectors.shape[1], known, own))
    return ItemEncoder(tokens, np.concatenate(item, axis=1), tuple(history))


def _placed(rows: int, dim: int, at: np.ndarray, values: Float32 | None) -> Float32:
    """`values` in the rows `at` of a matrix of zeros [rows, dim]."""
    placed = np.zeros((rows, dim), np.float32)
    if values is not None:
        placed[at] = values
    return placed
