"""Corrections of probabilities: of their level, by Platt or by isotonic regression; applied only where they help.

Whether one helps is judged on past cuts, and each is learned there from cuts whose windows had ended by then. Shapes: B
customers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, isotonic_regression, minimize
from scipy.special import expit, logit

from recsys.data.arrays import Bool, Float64
from recsys.propensity.metrics import log_losses
from recsys.propensity.scorer import NO_CORRECTION, Correction

_LEAST = 1e-4
_FAR = 15.0  # log-odds, beyond which nobody lies
_FEWEST = 3  # cuts that tell whether a correction helps


@dataclass(frozen=True)
class Told:
    """What was told at one past cut, and what came."""

    number: int  # of the cut on its grid, counted back from now
    probability: Float64  # [B]
    bought: Bool  # [B]


def correct_level(probability: Float64, bought: Bool) -> Correction:
    """One shift of all log-odds, so that the total is right."""
    odds = _odds(probability)
    shift = brentq(lambda by: expit(odds + by).sum() - np.clip(bought.sum(), 0.5, len(bought) - 0.5), -_FAR, _FAR)
    return Correction("level", np.zeros(1), np.array([shift]))


def correct_by_platt(probability: Float64, bought: Bool) -> Correction:
    """A line over the log-odds. Source: Platt, 1999, "Probabilistic outputs for support vector machines"."""
    odds = _odds(probability)

    def loss(line: Float64) -> float:
        scores = line[0] + line[1] * odds
        return float(np.logaddexp(0.0, scores).sum() - scores[bought].sum() + 0.5 * (line[1] - 1) ** 2)

    intercept, slope = minimize(loss, np.array([0.0, 1.0]), method="BFGS").x
    ends = np.array([-_FAR, _FAR])
    return Correction("platt", ends, intercept + max(slope, 0.0) * ends)


def correct_by_isotonic(probability: Float64, bought: Bool) -> Correction:
    """Steps, as isotonic regression finds them, with lines between their middles."""
    order = np.argsort(probability, kind="stable")
    found = isotonic_regression(bought[order].astype(np.float64))
    odds = _odds(probability[order])
    middles = np.array([odds[low:high].mean() for low, high in zip(found.blocks[:-1], found.blocks[1:], strict=True)])
    rates = np.clip(found.x[found.blocks[:-1]], 1 / len(order), 1 - 1 / len(order))
    inputs, at = np.unique(middles, return_index=True)
    return Correction("isotonic", inputs, logit(rates[at]))


_METHODS: dict[str, Callable[[Float64, Bool], Correction]] = {
    "level": correct_level,
    "platt": correct_by_platt,
    "isotonic": correct_by_isotonic,
}


def choose_correction(told: Sequence[Told], judged: int, steps: int) -> tuple[Correction, dict[str, object]]:
    """Choose a correction, and say what each method reached.

    told: all past cuts, the newest first. judged: so many of them tell whether a method helps. steps: a cut is known
    where another one lies so many numbers further back. A method counts as a help where it lowers the log loss by more
    than one standard error over the cuts, and the error of the totals too.
    """
    known = {one.number: [old for old in told if old.number >= one.number + steps] for one in told[:judged]}
    tried = [one for one in told[:judged] if known[one.number]]
    if len(tried) < _FEWEST:
        return NO_CORRECTION, {"method": "none", "cuts": len(tried), "why": f"fewer than {_FEWEST} cuts can tell"}
    plain = [_errors(one, NO_CORRECTION) for one in tried]
    figures: dict[str, object] = {"none": _means(plain)}
    best, gain = "none", 0.0
    for name, learn in _METHODS.items():
        corrected = [_errors(one, learn(*_pool(known[one.number]))) for one in tried]
        figures[name] = _means(corrected)
        gains = np.array(plain)[:, 0] - np.array(corrected)[:, 0]
        helps = gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains))
        if helps and _means(corrected)["error_of_total"] < _means(plain)["error_of_total"] and gains.mean() > gain:
            best, gain = name, float(gains.mean())
    correction = NO_CORRECTION if best == "none" else _METHODS[best](*_pool(told))
    return correction, {"method": best, "cuts": len(tried), "tried": figures}


def _errors(one: Told, correction: Correction) -> tuple[float, float]:
    found = correction.apply(one.probability)
    total = abs(float(found.sum()) / max(1, int(one.bought.sum())) - 1)
    return float(log_losses(one.bought, found).mean()), total


def _means(errors: Sequence[tuple[float, float]]) -> dict[str, float]:
    loss, total = np.array(errors).mean(axis=0).tolist()
    return {"log_loss": loss, "error_of_total": total}


def _pool(told: Sequence[Told]) -> tuple[Float64, Bool]:
    return np.concatenate([one.probability for one in told]), np.concatenate([one.bought for one in told])


def _odds(probability: Float64) -> Float64:
    return np.asarray(logit(np.clip(probability, _LEAST, 1 - _LEAST)), np.float64)
