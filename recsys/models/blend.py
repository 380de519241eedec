"""The default: tunes every candidate within a time budget and blends those that serve better together than alone.

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
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recsys.config.settings import ModelSettings, Section
from recsys.data.arrays import Float32, mean_or_zero
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.models import contract
from recsys.models.budget import Budget
from recsys.models.contract import MODELS, Model, Score, TrainingData, find_model, settings_of
from recsys.models.vectors import Constant, ItemEncoder, Vectors
from recsys.progress import Progress

_WEIGHTS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # tried for a candidate beside the best one, whose own is 1
_CERTAIN = 3  # standard errors of a difference: a weight that far behind a smaller one ends the search for more,
_ENOUGH = 30  # where so many users tell what a standard error is
_ROUNDS = 2
_SCALE_USERS = 200
_BLEND_SHARE = 0.15  # of the time, kept for choosing the weights
_HOPELESS = 0.5  # of the best score so far: a candidate that stays below it after an epoch is dropped
_IN_ORDER = {MODELS["sequence"]}  # the models that learn from the order of events alone

_log = logging.getLogger(__name__)


@runtime_checkable
class _PerUser(Protocol):
    """A score that is also known for each user, maybe of more users: recsys.training.evaluation.ValidationScore."""

    def per_user(self, vectors: Vectors) -> Float32:
        """The score of each of the same users every time: [B]."""
        ...


class BlendPart(Section):
    """One candidate of a blend."""

    model: str  # its name in MODELS, or a dotted one
    weight: float
    settings: dict[str, Any]  # of its vectors


class BlendParams(Section):
    """A blend, and how it was found."""

    parts: tuple[BlendPart, ...]
    comparison: dict[str, float]  # the score on validation of each candidate and of the blend
    skipped: dict[str, str]  # why a candidate is missing or was stopped early


@dataclass(frozen=True)
class _Candidate:
    """A model after it was tuned, and the score of each user with it alone."""

    name: str
    vectors: Vectors
    per_user: Float32

    @property
    def score(self) -> float:
        """The mean over the users who choose the weights."""
        return mean_or_zero(self.per_user)


def tune(data: TrainingData, space: ModelSettings, score: Score, budget: Budget) -> Vectors:
    """See recsys.models.contract.Tune; the space is that of all models.

    The candidates share the time of the budget; when it is over, each counts as the best that it has reached.
    Raises RecsysError when every candidate failed.
    """
    seconds, started = budget.deadline - time.monotonic(), time.monotonic()
    found, skipped = _candidates(data, space, score, started + seconds * (1 - _BLEND_SHARE), budget.progress)
    weights, blended = _choose_weights(data, found, score, budget)
    comparison = {c.name: c.score for c in found} | {"blend": mean_or_zero(blended)}
    by_name = {c.name: c.vectors for c in found}
    return _blend(data, {n: by_name[n] for n in weights}, weights, comparison=comparison, skipped=skipped)


def fit(data: TrainingData, params: BlendParams, budget: Budget) -> Vectors:
    """See recsys.models.contract.Fit: the same blend of candidates with the same params."""
    parts = {part.model: contract.fit(part.model, data, part.settings, budget) for part in params.parts}
    weights = {part.model: part.weight for part in params.parts}
    return _blend(data, parts, weights, comparison=params.comparison, skipped=params.skipped)


MODEL = Model(tune, fit, BlendParams)


def _candidates(
    data: TrainingData, models: ModelSettings, score: Score, end: float, progress: Progress
) -> tuple[list[_Candidate], dict[str, str]]:
    """The tuned candidates in the order of the configuration, and why one is missing or unfinished.

    Each may take half of the time that is left until `end`, the last all of it: what the cheap ones leave is for the
    expensive ones. The first, which should be the cheapest, goes on until it has something to publish, however slow the
    machine; if it fails, the next does.
    """
    names = _worth_trying(models.auto.candidates, data)
    pointless = set(models.auto.candidates) - set(names)
    failure: RecsysError | None = None
    found, skipped = list[_Candidate](), dict.fromkeys(pointless, "all events have the same time, and so no order")
    for name in names:
        share = 1.0 if name == names[-1] else 0.5
        seconds = share * max(0.0, end - time.monotonic())
        trial = _Trial(score, seconds, max((c.score for c in found), default=0.0), progress, is_needed=not found)
        try:
            tuned = find_model(name).tune(data, settings_of(models, name), trial.score, trial.budget)
        except (ConfigError, RefusedError):  # only another configuration, or another night, would mend these
            raise
        except RecsysError as error:  # such as workers that died too often: its vectors could not be fitted again
            _log.warning("%s failed: %s", name, error.in_full)
            failure, skipped[name] = error, f"failed: {error}"
            continue
        if tuned is None:
            reason = trial.budget.reason or "it found nothing"
            skipped[name] = reason if trial.best is None else f"stopped early: {reason}"
        vectors = tuned or trial.best  # its own choice comes first, even if a trial had more luck
        if vectors is not None:
            found.append(_Candidate(name, vectors, _per_user(score, vectors)))
    if failure and not found:
        raise failure
    return found, skipped


def _worth_trying(names: tuple[str, ...], data: TrainingData) -> list[str]:
    """The candidates that can learn something from the events; all of them where none would be left."""
    able = [name for name in names if not data.timeless or MODELS.get(name, name) not in _IN_ORDER]
    return able or list(names)


class _Trial:
    """The tuning of one candidate: its budget, and the best vectors that were scored.

    The candidate ends when its seconds are over, or when it is far behind the best of the others after an epoch over
    all events. is_needed: its seconds count only once it has any vectors.
    """

    def __init__(
        self, score: Score, seconds: float, others_best: float, progress: Progress, *, is_needed: bool
    ) -> None:
        self.best: Vectors | None = None
        self.best_score = -math.inf
        self.budget = Budget(seconds, progress=progress)
        self._score, self._others_best, self._deadline = score, others_best, self.budget.deadline
        if is_needed:
            self.budget.deadline = math.inf

    def score(self, vectors: Vectors) -> float:
        """Score the vectors and keep them when they are the best."""
        value = self._score(vectors)
        if self.best is None or value >= self.best_score:
            self.best, self.best_score = vectors, value
        self.budget.deadline = self._deadline
        if self.budget.has_seen_all_events and self.best_score < _HOPELESS * self._others_best:
            self.budget.stop(f"it reached {self.best_score:.4f}, the best before it {self._others_best:.4f}")
        return value


def _choose_weights(
    data: TrainingData, found: list[_Candidate], score: Score, budget: Budget
) -> tuple[dict[str, float], Float32]:
    """The weights of the candidates that are in, and the score of each user: the best has 1, others join if that helps.

    Ends when the budget does. Each weight in its turn is the smallest of those that serve as well as the best of them.
    """
    best, *others = sorted(found, key=lambda c: -c.score)
    weights, per_user = {best.name: 1.0}, best.per_user
    if len(per_user) == 0:  # no user to choose by
        return weights, per_user
    scaled = {c.name: _scaled(data, c.vectors) for c in found}

    def per_user_of(other: str, weight: float) -> Float32:
        tried = _with(weights, other, weight)
        return _per_user(score, _side_by_side({name: scaled[name] for name in tried}, tried))

    steps = len(others) * (_ROUNDS if len(others) > 1 else 1)  # a single one has nothing to wait for
    changed_at = 0  # a round without a change is the last
    for step in range(steps):
        if step - changed_at >= len(others):
            break
        other = others[step % len(others)].name
        held = weights.get(other, 0.0)
        tried = _try_weights({held: per_user}, partial(per_user_of, other), budget.expired)
        if tried is None:
            break
        if (weight := _smallest_among_the_best(tried)) != held:
            weights, per_user, changed_at = _with(weights, other, weight), tried[weight], step
        budget.progress("auto: choose weights", (step + 1) / steps)
    return weights, per_user


def _try_weights(
    tried: dict[float, Float32], per_user_of: Callable[[float], Float32], expired: Callable[[], bool]
) -> dict[float, Float32] | None:
    """The score of each user with each weight, beside those tried before; None when the time is over.

    Part of the weights alone would mislead. A blend gets better with the weight up to some point and then worse, so the
    search ends with a weight that is certainly beyond that point.
    """
    found = dict(tried)
    for weight in sorted({0.0, *_WEIGHTS} - set(tried)):
        if expired():
            return None
        found[weight] = per_user_of(weight)
        if weight > _best(found) and len(found[weight]) >= _ENOUGH and _behind(found, weight) > _CERTAIN:
            break
    return found


def _per_user(score: Score, vectors: Vectors) -> Float32:
    """The score of each user: [B]; a score that is not known per user counts as that of a single user."""
    return score.per_user(vectors) if isinstance(score, _PerUser) else np.array([score(vectors)], np.float32)


def _with(weights: dict[str, float], name: str, weight: float) -> dict[str, float]:
    """The weights with another for one candidate, which is out at 0."""
    return {n: w for n, w in {**weights, name: weight}.items() if w > 0}


def _smallest_among_the_best(tried: dict[float, Float32]) -> float:
    """Choose the smallest weight within one standard error of the difference to the best.

    This keeps noise out of the blend: a part that does not help joins in about one case of six, and in most cases if
    the best weight were taken. tried: weight -> score of each user [B]. After the rule of one standard error of L.
    Breiman et al., "Classification and regression trees", 1984, which takes the standard error of the best itself.
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


def _blend(
    data: TrainingData,
    parts: dict[str, Vectors],
    weights: dict[str, float],
    *,
    comparison: dict[str, float],
    skipped: dict[str, str],
) -> Vectors:
    """The parts side by side; a single one as it is."""
    if len(parts) == 1:
        blended = next(iter(parts.values()))
    else:
        blended = _side_by_side({name: _scaled(data, vectors) for name, vectors in parts.items()}, weights)
    described = tuple(BlendPart(model=n, weight=weights[n], settings=parts[n].settings) for n in parts)
    params = BlendParams(parts=described, comparison=comparison, skipped=skipped)
    return replace(blended, model="auto", settings=params.model_dump())


def _scaled(data: TrainingData, vectors: Vectors) -> Vectors:
    """Scale scores to a standard deviation of about 1; scores that are the same for everybody by their logarithm.

    Counts are long-tailed: without the logarithm a few items would outweigh every taste, and the rest would not count.
    """
    if all(isinstance(part.encoder, Constant) for part in vectors.parts):
        logarithms = np.log1p(np.maximum(vectors.item_vectors, 0))
        asked_for = logarithms > 0
        if asked_for.any():  # 0 is the median, so that items without events rank among ordinary items
            logarithms = np.where(asked_for, logarithms - np.median(logarithms[asked_for]), np.float32(0))
        vectors = replace(vectors, item_vectors=logarithms)
    return _times(vectors, 1 / _deviation(data, vectors))


def _deviation(data: TrainingData, vectors: Vectors) -> float:
    """The median over users of the standard deviation of their scores over the items; 1 when that is 0."""
    events = data.events
    active = np.flatnonzero(np.diff(events.offsets))
    users = np.random.default_rng(data.seed).permutation(active)[:_SCALE_USERS]
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
