"""Logistic regression with an L2 penalty, fitted by Newton's method."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_RIDGE = 1.0  # L2 penalty on coefficients of standardized columns
_INTERCEPT_RIDGE = 1e-3  # keeps the intercept finite when all answers are the same
_STEPS = 50
_PRECISION = 1e-8
_BLOCK_ROWS = 2**16


@dataclass(frozen=True)
class Logistic:
    """probability = 1 / (1 + exp(-(intercept + rows @ coefficients)))."""

    intercept: float
    coefficients: Float64  # [F]

    def predict(self, rows: Float64) -> Float64:
        """float64 [..., F] -> probabilities [...]."""
        return _sigmoid(self.intercept + rows @ self.coefficients)


def fit(rows: Float64, answers: npt.NDArray[np.bool_]) -> Logistic:
    """Fit coefficients to rows [n, F] and their binary answers [n]. A constant column gets 0.

    Source: T. Hastie, R. Tibshirani, J. Friedman, "The Elements of Statistical Learning", 2nd edition, section 4.4.
    Raises ValueError when there is no row.
    """
    if len(rows) == 0:
        raise ValueError("there is no row to fit a logistic regression to")
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    varies = spread > 1e-9 * np.maximum(np.abs(mean), 1.0)
    scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    scaled = np.column_stack([np.ones(len(rows)), (rows - mean) * scale])
    ridge = np.array([_INTERCEPT_RIDGE, *np.full(rows.shape[1], _RIDGE)])
    found = _newton(scaled, answers.astype(np.float64), ridge)
    coefficients = found[1:] * scale
    return Logistic(float(found[0] - coefficients @ mean), coefficients)


def _newton(rows: Float64, answers: Float64, ridge: Float64) -> Float64:
    now = np.zeros(rows.shape[1])
    loss = _loss(rows, answers, ridge, now)
    for _ in range(_STEPS):
        probability = _sigmoid(rows @ now)
        slope = rows.T @ (answers - probability) - ridge * now
        curvature = _weighted_squares(rows, probability * (1 - probability)) + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        better = _loss(rows, answers, ridge, now + step)
        while better > loss and np.abs(step).max() > _PRECISION:  # the step overshot: halve it
            step = step / 2
            better = _loss(rows, answers, ridge, now + step)
        now, loss = now + step, better
        if np.abs(step).max() <= _PRECISION:
            break
    return now


def _weighted_squares(rows: Float64, weights: Float64) -> Float64:
    """Sum weight * row * row^T [F, F], in blocks, so that no second array as large as the rows is needed."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        total += (block * weights[start : start + _BLOCK_ROWS, None]).T @ block
    return total


def _loss(rows: Float64, answers: Float64, ridge: Float64, at: Float64) -> float:
    score = rows @ at
    return float(np.logaddexp(0.0, score).sum() - answers @ score + 0.5 * ridge @ at**2)


def _sigmoid(score: Float64) -> Float64:
    return 1 / (1 + np.exp(-np.clip(score, -500, 500)))
