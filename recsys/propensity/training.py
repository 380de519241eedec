"""Train and judge the scorer of one window: refuse thin data, judge candidates on past cuts, learn the chosen one."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.data.arrays import Int64
from recsys.models.device import pick_device
from recsys.progress import Progress, no_progress
from recsys.propensity.correction import choose_correction
from recsys.propensity.cuts import PAST_CUTS, Past, sample
from recsys.propensity.days import BuyingDays
from recsys.propensity.features import FEATURES, LOGARITHMS
from recsys.propensity.networks import train_linear, train_network
from recsys.propensity.past_cuts import (
    CANDIDATES,
    Foretold,
    PastCut,
    Totals,
    choose_candidate,
    compare_with_rules,
    foretell,
    report,
)
from recsys.propensity.rules import learn_rules
from recsys.propensity.scorer import Member, Scorer

FEWEST_CUSTOMERS, FEWEST_LOYAL, LOYAL_ORDERS = 500, 50, 3
_LEAST_WINDOWS = 2.5  # of history: one to judge on, one to learn from, a half before
_LEAST_PRICED = 0.5  # share of purchases with a value, from which values are expected
_RIDGE, _RIDGE_A_CUT = 1.0, 8.0  # of the logistic regressions on the logarithms, and on all features


@dataclass(frozen=True)
class Learned:
    """A scorer, and what past cuts say of it."""

    scorer: Scorer | None  # None: refused
    reasons: tuple[str, ...]  # why it is refused
    facts: dict[str, Any]  # plain values for the ledger and the manifest


@dataclass(frozen=True)
class _Trainer:
    """Trains members from what was known at a cut."""

    past: Past
    device: str

    def train(self, number: int) -> dict[str, Member]:
        """Every member, by name."""
        examples, device = self.past.examples_at(number), pick_device(self.device)
        ridge = _RIDGE_A_CUT * len(self.past.learned_at(number))
        return {
            "logarithms": train_linear(examples, _places(LOGARITHMS), ridge=_RIDGE, device=device),
            "all features": train_linear(examples, _places(FEATURES), ridge=ridge, device=device),
            "network": train_network(examples, _places(FEATURES), seed=self.past.seed, device=device),
        }

    def judge(self, number: int) -> PastCut:
        """What the candidates told at a past cut, and what came."""
        cut, members = self.past.cut(number), self.train(number)
        features = cut.examples.features
        rules = learn_rules(self.past.examples_at(number))
        told = {name: foretell([members[one] for one in parts], features) for name, parts in CANDIDATES.items()}
        return PastCut(
            number=number,
            day=cut.day,
            users=cut.users,
            bought=cut.examples.bought,
            amounts=cut.examples.amounts,
            foretold=told | {"rules": Foretold(*rules.predict(features))},
        )


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
    progress: Progress = no_progress,
) -> Learned:
    """Learn the scorer of a window from all purchases before day 0. Every choice is made on past cuts.

    The same purchases, seed and device give the same scorer. Raises ConfigError when there is no such device.
    """
    if missing := missing_for(days, window):
        return Learned(None, missing, {"window_days": window, "refused": list(missing)})
    past = Past(sample(days, seed), window, item_count, category_count, seed)
    trainer, numbers = _Trainer(past, device), past.past()
    cuts = []
    for done, number in enumerate(numbers):
        cuts.append(trainer.judge(number))
        progress(f"buyers of {window} days", (done + 1) / (len(numbers) + 1))
    judged = cuts[:PAST_CUTS]
    name, losses = choose_candidate(judged)
    reasons, beside = compare_with_rules(judged, name)
    correction, tried = choose_correction([cut.told(name) for cut in cuts], PAST_CUTS, past.steps)
    with_values = days.priced >= _LEAST_PRICED
    facts = {
        "window_days": window,
        "model": name,
        "log_losses": losses,
        "gate": beside,
        "correction": tried,
        # Before the correction, which has seen these cuts.
        "past": report(judged, name, with_values),
        "totals": _totals(judged, name, with_values, window),
        "refused": reasons,
    }
    if reasons:
        return Learned(None, tuple(reasons), facts)
    members = trainer.train(0)
    progress(f"buyers of {window} days", 1.0)
    chosen = tuple(members[one] for one in CANDIDATES[name])
    return Learned(Scorer(window, chosen, with_values, correction, past.usual_at(0)), (), facts)


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
