"""Train and judge the scorer of one window: refuse thin data, judge candidates on past cuts, learn the chosen one."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from recsys.data.arrays import Int64
from recsys.models.budget import Budget
from recsys.models.device import pick_device
from recsys.progress import Progress, no_progress
from recsys.propensity.correction import choose_correction
from recsys.propensity.cuts import PAST_CUTS, Past, sample
from recsys.propensity.days import BuyingDays
from recsys.propensity.features import FEATURES, LOGARITHMS
from recsys.propensity.networks import Examples, train_linear, train_network
from recsys.propensity.past_cuts import (
    CANDIDATES,
    SIMPLEST,
    Foretold,
    PastCut,
    Totals,
    choose_candidate,
    compare_with_rules,
    foretell,
    is_behind,
    report,
)
from recsys.propensity.rules import learn_rules
from recsys.propensity.scorer import Member, Scorer

FEWEST_CUSTOMERS, FEWEST_LOYAL, LOYAL_ORDERS = 500, 50, 3
_LEAST_WINDOWS = 2.5  # of history: one to judge on, one to learn from, a half before
_LEAST_PRICED = 0.5  # share of purchases with a value, from which values are expected
_TELLING_CUTS = 3  # after which a candidate that is no better than the simplest one is given up
_RIDGE, _RIDGE_A_CUT = 1.0, 8.0  # of the logistic regressions on the logarithms, and on all features


@dataclass(frozen=True)
class Learned:
    """A scorer, and what past cuts say of it."""

    scorer: Scorer | None  # None: refused
    reasons: tuple[str, ...]  # why it is refused
    facts: dict[str, Any]  # plain values for the ledger and the manifest


@dataclass(frozen=True)
class _Trainer:
    """Trains members from what was known at a cut, each once."""

    past: Past
    device: torch.device
    trained: dict[tuple[int, str], Member] = field(default_factory=dict)  # by the number of the cut, and name

    def members(self, number: int, candidate: str) -> list[Member]:
        """The members of a candidate, as learned at a cut."""
        names = CANDIDATES[candidate]
        missing = [name for name in names if (number, name) not in self.trained]
        if missing:
            examples = self.past.examples_at(number)
            for name in missing:
                self.trained[number, name] = self._train(examples, number, name)
        return [self.trained[number, name] for name in names]

    def _train(self, examples: Examples, number: int, name: str) -> Member:
        if name == "network":
            return train_network(examples, _places(FEATURES), seed=self.past.seed, device=self.device)
        if name == "logarithms":
            return train_linear(examples, _places(LOGARITHMS), ridge=_RIDGE, device=self.device)
        ridge = _RIDGE_A_CUT * len(self.past.learned_at(number))
        return train_linear(examples, _places(FEATURES), ridge=ridge, device=self.device)

    def open(self, number: int) -> PastCut:
        """What came at a past cut, beside what the rules and the simplest candidate told."""
        cut, rules = self.past.cut(number), learn_rules(self.past.examples_at(number))
        told = {"rules": Foretold(*rules.predict(cut.examples.features))}
        opened = PastCut(number, cut.day, cut.users, cut.examples.bought, cut.examples.amounts, told)
        self.judge(opened, SIMPLEST)
        return opened

    def judge(self, cut: PastCut, candidate: str) -> None:
        """Note what a candidate told at a past cut."""
        features = self.past.cut(cut.number).examples.features
        cut.foretold[candidate] = foretell(self.members(cut.number, candidate), features)


def _places(names: tuple[str, ...]) -> Int64:
    return np.array([FEATURES.index(name) for name in names], np.int64)


def missing_for(days: BuyingDays, window: int) -> tuple[str, ...]:
    """What is missing to learn a window, with what there is; empty when nothing is. It takes milliseconds."""
    orders = np.bincount(days.users, minlength=1)
    customers, loyal = int((orders > 0).sum()), int((orders >= LOYAL_ORDERS).sum())
    history, least = -days.first_day, int(np.ceil(_LEAST_WINDOWS * window)) + PAST_CUTS - 1
    wanted = (
        (customers, FEWEST_CUSTOMERS, "customers with a purchase"),
        (loyal, FEWEST_LOYAL, f"customers who bought on {LOYAL_ORDERS} days or more"),
        (history, least, f"days from the first purchase on, for a window of {window} days"),
    )
    return tuple(f"{found} {what}; {fewest} are needed" for found, fewest, what in wanted if found < fewest)


def learn(
    days: BuyingDays,
    window: int,
    *,
    item_count: int,
    category_count: int,
    seed: int,
    device: str = "auto",
    budget: Budget | None = None,
    progress: Progress = no_progress,
) -> Learned:
    """Learn the scorer of a window from all purchases before day 0. Every choice is made on past cuts.

    budget: when it ends, the simplest candidate is still judged on PAST_CUTS and learned; what else was to be judged is
    dropped, and the facts say so. None: everything is judged.
    The same purchases, seed and device give the same scorer, unless a budget ended. Raises ConfigError when there is no
    such device.
    """
    budget = budget or Budget()
    if missing := missing_for(days, window):
        return Learned(None, missing, {"window_days": window, "refused": list(missing)})
    trainer = _Trainer(Past(sample(days, seed), window, item_count, category_count, seed), pick_device(device))
    numbers, step = trainer.past.past(), f"buyers of {window} days"
    judged = []
    for done, number in enumerate(numbers[:PAST_CUTS]):
        judged.append(trainer.open(number))
        progress(step, (done + 1) / (2 * PAST_CUTS))
    dropped = _judge_others(trainer, judged, budget)
    name, losses = choose_candidate(judged)
    reasons, beside = compare_with_rules(judged, name)
    older = _judge_older(trainer, numbers[PAST_CUTS:], name, budget)
    if len(older) < len(numbers[PAST_CUTS:]):
        dropped["older cuts"] = f"{len(numbers) - PAST_CUTS - len(older)} not judged: {budget.reason}"
    told = [cut.told(name) for cut in judged + older]
    correction, tried = choose_correction(told, PAST_CUTS, trainer.past.steps)
    with_values = days.priced >= _LEAST_PRICED
    facts = {
        "window_days": window,
        "model": name,
        "log_losses": losses,
        "gate": beside,
        "correction": tried,
        # Before the correction, which has seen these cuts.
        "past": report(judged, name, with_values),
        "dropped": dropped,
        "totals": _totals(judged, name, with_values, window),
        "refused": reasons,
    }
    if reasons:
        return Learned(None, tuple(reasons), facts)
    chosen = tuple(trainer.members(0, name))
    progress(step, 1.0)
    return Learned(Scorer(window, chosen, with_values, correction, trainer.past.usual_at(0)), (), facts)


def _judge_others(trainer: _Trainer, cuts: list[PastCut], budget: Budget) -> dict[str, str]:
    """Let the other candidates foretell the cuts, the newest first; say which of them were dropped, and why."""
    dropped: dict[str, str] = {}
    for name in CANDIDATES:
        for done, cut in enumerate(cuts):
            if name == SIMPLEST or name in dropped:
                break
            if budget.expired():
                dropped[name] = f"judged on {done} of {len(cuts)} cuts: {budget.reason}"
            elif done == _TELLING_CUTS and is_behind(cuts[:done], name):
                dropped[name] = f"judged on {done} of {len(cuts)} cuts: no better there than {SIMPLEST}"
            else:
                trainer.judge(cut, name)
    return dropped


def _judge_older(trainer: _Trainer, numbers: list[int], name: str, budget: Budget) -> list[PastCut]:
    """Further cuts with what the chosen candidate told, as many as the budget allows."""
    cuts: list[PastCut] = []
    for number in numbers:
        if budget.expired():
            break
        cuts.append(trainer.open(number))
        trainer.judge(cuts[-1], name)
    return cuts


def _totals(cuts: list[PastCut], name: str, with_values: bool, window: int) -> dict[str, Any]:
    """How far the totals of past cuts were off, for the intervals of tonight's."""
    found = [cut.foretold[name] for cut in cuts]
    windows = 1 + (cuts[0].day - cuts[-1].day) / window
    buyers = Totals.of([float(f.probability.sum()) for f in found], [float(c.bought.sum()) for c in cuts], windows)
    totals = {"buyers": vars(buyers)}
    if with_values:
        value = Totals.of([float(f.value.sum()) for f in found], [float(c.amounts.sum()) for c in cuts], windows)
        totals["value"] = vars(value)
    return totals
