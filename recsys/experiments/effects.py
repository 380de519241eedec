"""The effect of a mailing: conversion and spend of the mailed beside those held back, with 95 % intervals.

Both are compared within strata of people who were about equally likely to buy anyway, and the strata are weighted by
their size (post-stratification: Miratrix, Sekhon and Yu 2013). Shapes: N people, S strata.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from recsys.data.arrays import Bool, Float64, Int64

Z = float(stats.norm.ppf(0.975))  # of a 95 % interval
MAX_STRATA = 5
_PER_STRATUM = 50  # people of the smaller arm


@dataclass(frozen=True)
class Effect:
    """A mean of the mailed and of those held back, and their difference with its 95 % interval."""

    mailed: float
    held_back: float
    difference: float
    low: float
    high: float

    @property
    def standard_error(self) -> float:
        """What the width of the interval amounts to."""
        return (self.high - self.low) / (2 * Z)


@dataclass(frozen=True)
class _Arm:
    """One of both groups, by stratum: arrays [S]."""

    people: Float64
    mean: Float64
    variance: Float64  # 0 where there are fewer than two people


def stratify(probability: Float64, mailed: Bool) -> Int64:
    """Cut people [N] into strata 0..S-1 of one size by the probability that they had before the mailing.

    There are as many as leave each arm enough people in each, at most MAX_STRATA.
    """
    smaller = min(int(mailed.sum()), int((~mailed).sum()))
    count = int(np.clip(smaller // _PER_STRATUM, 1, MAX_STRATA))
    places = np.empty(len(probability), np.int64)
    places[np.argsort(probability, kind="stable")] = np.arange(len(probability))
    return places * count // max(1, len(probability))


def conversion_effect(converted: Bool, mailed: Bool, strata: Int64) -> Effect:
    """Compare shares of people [N] who converted.

    The interval is Newcombe's hybrid of two Wilson intervals (1998, method 10), with effective numbers of people: those
    of a simple random sample with the variance of the stratified share. It holds for rare conversions too, where the
    normal interval is too narrow. Variances within strata are those of both arms together.
    """
    weights, arms = _split(converted.astype(np.float64), mailed, strata)
    shares = [float(weights @ arm.mean) for arm in arms]
    within = _pooled(arms)
    both = float(weights @ (sum(arm.people * arm.mean for arm in arms) / sum(arm.people for arm in arms)))
    ends = []
    for share, arm in zip(shares, arms, strict=True):
        variance = float((weights**2 * within / arm.people).sum())
        people = both * (1 - both) / variance if variance > 0 else float(arm.people.sum())
        ends.append(wilson(share, people))
    return newcombe(shares[0], ends[0], shares[1], ends[1])


def spend_effect(spend: Float64, mailed: Bool, strata: Int64) -> Effect:
    """Compare the mean spend of people [N], those who bought nothing included, by a t interval.

    Variances within strata are those of both arms together: a small arm underestimates the variance of amounts, which
    a few large orders make.
    """
    weights, arms = _split(spend, mailed, strata)
    means = [float(weights @ arm.mean) for arm in arms]
    variance = float((weights**2 * _pooled(arms) * sum(1 / arm.people for arm in arms)).sum())
    freedom = max(1.0, float(arms[1].people.sum()) - len(weights))
    half = float(stats.t.ppf(0.975, freedom)) * variance**0.5
    difference = means[0] - means[1]
    return Effect(means[0], means[1], difference, difference - half, difference + half)


def wilson(share: float, people: float) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson (1927)."""
    center = (share + Z * Z / 2 / people) / (1 + Z * Z / people)
    half = Z / (1 + Z * Z / people) * max(0.0, share * (1 - share) / people + Z * Z / 4 / people**2) ** 0.5
    return center - half, center + half


def newcombe(one: float, ends: tuple[float, float], other: float, other_ends: tuple[float, float]) -> Effect:
    """The difference of two shares, from their intervals."""
    difference = one - other
    low = difference - ((one - ends[0]) ** 2 + (other_ends[1] - other) ** 2) ** 0.5
    high = difference + ((ends[1] - one) ** 2 + (other - other_ends[0]) ** 2) ** 0.5
    return Effect(one, other, difference, low, high)


def _split(values: Float64, mailed: Bool, strata: Int64) -> tuple[Float64, tuple[_Arm, _Arm]]:
    """The weights of the strata [S] that have people of both arms, and both arms."""
    arms = tuple(_arm(values[chosen], strata[chosen], int(strata.max(initial=0)) + 1) for chosen in (mailed, ~mailed))
    kept = (arms[0].people > 0) & (arms[1].people > 0)
    people = np.bincount(strata, minlength=len(kept))[kept]
    one, other = (_Arm(arm.people[kept], arm.mean[kept], arm.variance[kept]) for arm in arms)
    return people / people.sum(), (one, other)


def _arm(values: Float64, strata: Int64, count: int) -> _Arm:
    people = np.bincount(strata, minlength=count).astype(np.float64)
    mean = np.bincount(strata, values, count) / np.maximum(people, 1)
    squares = np.bincount(strata, (values - mean[strata]) ** 2, count)
    return _Arm(people, mean, squares / np.maximum(people - 1, 1))


def _pooled(arms: tuple[_Arm, _Arm]) -> Float64:
    """The variance within each stratum [S], of both arms together."""
    freedom = sum(arm.people - 1 for arm in arms)
    return sum((arm.people - 1) * arm.variance for arm in arms) / np.maximum(freedom, 1)
