"""Simulate campaigns whose effect is known, and count how often the measured one is right: `python -m benchmarks.lift`.

For shops of three sizes and for no effect, a small and a large one, 2,000 campaigns each. The large effect is the
smallest that `recsys.experiments.planning` promises to find with so many people; the small one is a quarter of it.
People buy with probabilities from a beta distribution, of which the audience knows a noisy guess; amounts are
lognormal. Stated are the share of the 95 % intervals that hold the true effect, and of the campaigns that are said to
have worked. --ways compares further ways to make an interval.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Bool, Float64
from recsys.experiments.effects import Effect, Z, conversion_effect, newcombe, spend_effect, stratify, wilson
from recsys.experiments.lift import measure
from recsys.experiments.planning import smallest_effect

CAMPAIGNS = 2_000
_SPREAD = 1.5  # of the beta distribution: its first parameter
_NOISE = 0.5  # of the guess of the probability: standard deviation of its logarithm
_LOG_SPEND, _LOG_SPREAD = 3.5, 0.9  # of an amount


@dataclass(frozen=True)
class Shop:
    """How many people a campaign has, how many of them buy without it, and the share held back."""

    name: str
    people: int
    rate: float
    share: float


SHOPS = (Shop("small", 600, 0.08, 0.3), Shop("middle", 2_000, 0.05, 0.2), Shop("large", 20_000, 0.03, 0.1))
EFFECTS = {"none": 0.0, "small": 0.25, "large": 1.0}  # of the effect that is planned for


@dataclass(frozen=True)
class Drawn:
    """A simulated campaign of N people; the truth is the mean over them."""

    converted: Bool
    spend: Float64
    mailed: Bool
    guess: Float64
    conversion: float  # true effect
    amount: float  # true effect on the mean spend


def draw(shop: Shop, rise: float, random: np.random.Generator) -> Drawn:
    """Simulate one campaign. rise: of each person's probability, relative."""
    before = random.beta(_SPREAD, _SPREAD * (1 - shop.rate) / shop.rate, shop.people)
    after = np.minimum(before * (1 + rise), 1)
    mailed = random.random(shop.people) >= shop.share
    converted = random.random(shop.people) < np.where(mailed, after, before)
    amounts = np.exp(random.normal(_LOG_SPEND, _LOG_SPREAD, shop.people))
    guess = np.clip(before * np.exp(random.normal(0, _NOISE, shop.people)), 0, 1)
    true = float((after - before).mean())
    mean_amount = float(np.exp(_LOG_SPEND + _LOG_SPREAD**2 / 2))
    return Drawn(converted, np.where(converted, amounts, 0.0), mailed, guess, true, true * mean_amount)


def normal(converted: Float64, mailed: Bool) -> Effect:
    """The plain difference of means with its normal interval."""
    one, other = converted[mailed], converted[~mailed]
    half = Z * float(np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other)))
    difference = float(one.mean() - other.mean())
    return Effect(float(one.mean()), float(other.mean()), difference, difference - half, difference + half)


def unstratified(converted: Bool, mailed: Bool) -> Effect:
    """Newcombe's interval without strata."""
    one, other = converted[mailed], converted[~mailed]
    shares = float(one.mean()), float(other.mean())
    return newcombe(shares[0], wilson(shares[0], len(one)), shares[1], wilson(shares[1], len(other)))


def simulate(shop: Shop, effect: str, seed: int, campaigns: int) -> dict[str, float]:
    """Simulate the campaigns of one shop and effect; return shares of them."""
    rise = EFFECTS[effect] * smallest_effect(shop.rate, shop.people, shop.share) / shop.rate
    random = np.random.default_rng([seed, SHOPS.index(shop), list(EFFECTS).index(effect)])
    counted: dict[str, float] = {}

    def count(name: str, *, holds: bool) -> None:
        counted[name] = counted.get(name, 0.0) + holds / campaigns

    for _ in range(campaigns):
        one = draw(shop, rise, random)
        found = measure(
            one.converted, one.spend, one.mailed, one.guess, share=shop.share, worth=0.1, days=28.0, days_left=0.0
        )
        assert found.spend is not None
        strata = stratify(one.guess, one.mailed)
        ways = {
            "conversion": (found.conversion, one.conversion),
            "spend": (found.spend, one.amount),
            "conversion, normal": (normal(one.converted.astype(np.float64), one.mailed), one.conversion),
            "conversion, without strata": (unstratified(one.converted, one.mailed), one.conversion),
            "conversion, without propensity": (
                conversion_effect(one.converted, one.mailed, np.zeros_like(strata)),
                one.conversion,
            ),
            "spend, normal": (normal(one.spend, one.mailed), one.amount),
            "spend, without propensity": (spend_effect(one.spend, one.mailed, np.zeros_like(strata)), one.amount),
        }
        for name, (interval, truth) in ways.items():
            count(f"{name}: held the truth", holds=interval.low <= truth <= interval.high)
            count(f"{name}: above 0", holds=interval.low > 0)
        count("worked", holds=found.verdict == "worked")
        count("not comparable", holds=found.verdict == "not_comparable")
    return counted


def main() -> None:
    """Print a row for each shop and effect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", action="store_true", help="Further ways to make an interval, too.")
    asked = parser.parse_args()
    cells = [(shop, effect) for shop in SHOPS for effect in EFFECTS]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        shops, effects = zip(*cells, strict=True)
        size = len(cells)
        found = list(pool.map(simulate, shops, effects, [asked.seed] * size, [asked.campaigns] * size))
    print(
        "| shop | people | buy anyway | held back | effect | holds: conversion | holds: spend | said to have worked |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (shop, effect), counted in zip(cells, found, strict=True):
        rise = EFFECTS[effect] * smallest_effect(shop.rate, shop.people, shop.share)
        shares = [counted[f"{name}: held the truth"] for name in ("conversion", "spend")] + [counted["worked"]]
        cell = f"{shop.name} | {shop.people:,} | {shop.rate:.0%} | {shop.share:.0%} | {effect}, +{rise:.2%}"
        print(f"| {cell} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    if asked.ways:
        for (shop, effect), counted in zip(cells, found, strict=True):
            for name, share in counted.items():
                print(f"{shop.name} {effect} {name} {share:.3f}")


if __name__ == "__main__":
    main()
