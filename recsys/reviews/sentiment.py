"""Whether the text of a review complains: logistic regression on its words, learned from the shop's rated reviews.

A review of at most two stars of five complains, and one of three does by half: what is between both says something of
either. Words are those of `recsys.content.words`. Probabilities are corrected (Platt, Probabilistic outputs for support
vector machines, 1999) on reviews that the regression has not seen.

Shapes: n reviews, F features.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from recsys.content.item_text import fold
from recsys.content.words import Words, fit_words
from recsys.data.arrays import Bool, Float32, Float64, Int64
from recsys.errors import RefusedError
from recsys.propensity.metrics import calibration, log_losses, of_buying

NEGATIVE, NEUTRAL = 2.0, 3.0  # stars of five, at most
FEWEST, FEWEST_NEGATIVE = 100, 20  # rated reviews
_STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # of the data beside the penalty on the weights
_FOLDS = 5
_MOST_TO_CHOOSE = 20_000  # reviews on which the strength is chosen and the probabilities are corrected
_PIECE_WEIGHT = 0.7  # reviews have more typing mistakes than catalogs
_COLUMN = "title"  # of which words count by their pieces, too
_STEPS, _PRECISION = 50, 1e-2
_CERTAIN = 1e-6


class Judge(Protocol):
    """What tells how likely texts complain."""

    def probabilities(self, texts: list[str]) -> Float64:
        """How likely each text [n] complains: [n]."""


@dataclass(frozen=True)
class Sentiment:
    """Tells how likely the text of a review complains, in plain arrays."""

    words: Words
    weights: Float32  # [F]
    intercept: float
    slope: float  # of the correction
    offset: float
    threshold: float  # the probability from which a review is called negative

    def probabilities(self, texts: list[str]) -> Float64:
        """How likely each text [n] complains: [n]. A text without a known word is as likely as any."""
        return _probabilities(self.scores(texts), self.slope, self.offset)

    def scores(self, texts: list[str]) -> Float64:
        """The same before the correction, from minus to plus infinity: [n]."""
        return np.asarray(self.words.encode(_table(texts)) @ self.weights + self.intercept, np.float64)


@dataclass(frozen=True)
class Learned:
    """What was learned, and how well it tells reviews that it has not seen."""

    sentiment: Sentiment
    figures: dict[str, Any]


def learn(texts: list[str], stars: npt.ArrayLike, *, seed: int) -> Learned:
    """Learn from rated reviews. stars [n]: 1 to 5.

    Equal texts lie in the same fold. Raises RefusedError when there are too few reviews, or too few that complain.
    """
    given = np.asarray(stars, np.float64)
    negative = given <= NEGATIVE
    if len(texts) < FEWEST or negative.sum() < FEWEST_NEGATIVE:
        raise RefusedError(
            f"{len(texts):,} rated reviews, {int(negative.sum()):,} of them with at most {NEGATIVE:g} stars, are too "
            f"few to learn from: {FEWEST} and {FEWEST_NEGATIVE} are needed"
        )
    some = np.sort(np.random.default_rng(seed).permutation(len(texts))[:_MOST_TO_CHOOSE])
    unseen, strength = _choose([texts[row] for row in some], given[some], seed)
    slope, offset = _correct(unseen, negative[some])
    probabilities = _probabilities(unseen, slope, offset)
    threshold = _best_threshold(negative[some], probabilities)
    words, vectors = _fit_words(texts)
    weights, intercept = _regress(vectors, _labels(given), strength)
    sentiment = Sentiment(words, weights, intercept, slope, offset, threshold)
    return Learned(sentiment, figures_of(negative[some], probabilities, threshold))


def figures_of(negative: Bool, probabilities: Float64, threshold: float) -> dict[str, Any]:
    """Accuracy, F1, AUC, calibration and confusion of probabilities [n] beside what is true [n].

    threshold: from which probability a review is called negative.
    """
    called = probabilities >= threshold
    found = of_buying(negative, probabilities, threshold=threshold)
    found["negative"], found["reviews"] = found.pop("buyers"), found.pop("customers")
    found["expected_over_actual_negative"] = found.pop("expected_over_actual_buyers")
    confusion = {
        "negative, found": int((called & negative).sum()),
        "negative, missed": int((~called & negative).sum()),
        "other, called negative": int((called & ~negative).sum()),
        "other, right": int((~called & ~negative).sum()),
    }
    return {**found, "confusion": confusion, "calibration": calibration(negative, probabilities)}


def group_texts(texts: list[str]) -> Int64:
    """The number of each text [n]: texts that differ in case, accents and blanks alone have the same one."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(" ".join(fold(t).split()), len(numbers)) for t in texts), np.int64)


def folds_of(texts: list[str], count: int, *, seed: int) -> Int64:
    """The fold of each text [n], 0 to count - 1; equal texts lie in the same one."""
    groups = group_texts(texts)
    return (np.random.default_rng(seed).permutation(int(groups.max(initial=-1)) + 1) % count)[groups]


def _choose(texts: list[str], stars: Float64, seed: int) -> tuple[Float64, float]:
    """The strength of the lowest log loss, and each review's score [n] by a regression that has not seen it."""
    fold_of = folds_of(texts, _FOLDS, seed=seed)
    unseen = {strength: np.zeros(len(texts)) for strength in _STRENGTHS}
    for number in range(_FOLDS):
        inside, outside = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)
        words, vectors = _fit_words([texts[row] for row in inside])
        others = words.encode(_table([texts[row] for row in outside]))
        for strength in _STRENGTHS:
            weights, intercept = _regress(vectors, _labels(stars[inside]), strength)
            unseen[strength][outside] = others @ weights + intercept
    negative = stars <= NEGATIVE

    def loss(strength: float) -> float:
        corrected = _probabilities(unseen[strength], *_correct(unseen[strength], negative))
        return float(log_losses(negative, corrected).mean())

    best = min(_STRENGTHS, key=loss)
    return unseen[best], best


def _labels(stars: Float64) -> Float64:
    return np.where(stars <= NEGATIVE, 1.0, np.where(stars <= NEUTRAL, 0.5, 0.0))


def _fit_words(texts: list[str]) -> tuple[Words, sparse.csr_array]:
    return fit_words(_table(texts), piece_weight=_PIECE_WEIGHT)


def _table(texts: list[str]) -> pa.Table:
    return pa.table({_COLUMN: pa.array(texts, pa.string())})


def _regress(vectors: sparse.csr_array, labels: Float64, strength: float) -> tuple[Float32, float]:
    """Logistic regression with a penalty on the squares of the weights: the weights [F] and the intercept."""
    inputs = vectors.astype(np.float64)
    turned = inputs.T.tocsr()

    def value(found: Float64) -> tuple[float, Float64]:
        weights, scores = found[:-1], inputs @ found[:-1] + found[-1]
        slopes = expit(scores) - labels
        loss = strength * float((np.logaddexp(0, scores) - labels * scores).sum()) + float(weights @ weights) / 2
        return loss, np.append(strength * (turned @ slopes) + weights, strength * slopes.sum())

    def curvature(found: Float64, along: Float64) -> Float64:
        chance = expit(inputs @ found[:-1] + found[-1])
        moved = chance * (1 - chance) * (inputs @ along[:-1] + along[-1])
        return np.append(strength * (turned @ moved) + along[:-1], strength * moved.sum())

    start = np.zeros(inputs.shape[1] + 1)
    options = {"maxiter": _STEPS, "gtol": _PRECISION}
    found = minimize(value, start, jac=True, hessp=curvature, method="trust-ncg", options=options).x
    return found[:-1].astype(np.float32), float(found[-1])


def _correct(scores: Float64, negative: Bool) -> tuple[float, float]:
    """Slope and offset that make scores [n] of unseen reviews into probabilities."""

    def loss(found: Float64) -> tuple[float, Float64]:
        moved = found[0] * scores + found[1]
        slopes = expit(moved) - negative
        return float((np.logaddexp(0, moved) - negative * moved).sum()), np.array([slopes @ scores, slopes.sum()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(slope), float(offset)


def _probabilities(scores: Float64, slope: float, offset: float) -> Float64:
    return np.asarray(np.clip(expit(slope * scores + offset), _CERTAIN, 1 - _CERTAIN), np.float64)


def _best_threshold(negative: Bool, probabilities: Float64) -> float:
    """The probability from which calling a review negative gives the highest F1, on the reviews themselves."""
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum(negative[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(1, int(negative.sum())))
    return float(probabilities[order[int(np.argmax(f1))]])
